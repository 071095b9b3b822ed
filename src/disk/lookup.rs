//! Reading a file of what layers come to, without unpacking it: for somebody who has a use for what is in it.

use std::collections::VecDeque;

use rustix::io::Errno;

use super::block::BLOCK;
use super::merge::MergedTree;
use super::parts::OpenPart;
use crate::error::{Error, Result, Status, quoted};
use crate::limits::{self, LayerLimits};
use crate::unpack::{Extent, InodeId, InodeKind, ROOT};

impl MergedTree {
    /// A file of at most so many bytes, with symlinks resolved as in a chroot; `None` where there is none. `MALFORMED` for what
    /// is no regular file.
    pub(crate) fn read_file(&self, path: &str, most: usize, open: &OpenPart<'_>) -> Result<Option<Vec<u8>>> {
        let Some((size, Extent { part, block })) = self.find_file(path)? else { return Ok(None) };
        if size > most as u64 {
            return Err(Error::limit("file of users or groups", most as u64, size, path));
        }
        let (disk, mut bytes, mut done) = (open(part)?, vec![0; size as usize], 0);
        while done < bytes.len() {
            let at = u64::from(block) * BLOCK as u64 + done as u64;
            match rustix::io::pread(&disk.file, &mut bytes[done..], at) {
                Ok(0) => return Err(disk.damaged()),
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::os(errno, format_args!("read {}", disk.name))),
            }
        }
        Ok(Some(bytes))
    }

    fn find_file(&self, path: &str) -> Result<Option<(u64, Extent)>> {
        let not_a_file = || Error::new(Status::Malformed, format!("{} is not a regular file", quoted(path.as_bytes())));
        let (mut directories, mut hops) = (vec![ROOT], 0);
        let mut names: VecDeque<Vec<u8>> = path.split('/').map(|name| name.as_bytes().to_vec()).collect();
        while let Some(name) = names.pop_front() {
            let inside = directories.last().copied().unwrap_or(ROOT);
            match &name[..] {
                b"" | b"." => continue,
                // At the root it leads to the root.
                b".." => {
                    if directories.len() > 1 {
                        directories.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let Some(found) = self.child(inside, &name) else { return Ok(None) };
            match self.tree.inode(found).kind {
                InodeKind::Directory { .. } => directories.push(found),
                InodeKind::Symlink { .. } => {
                    hops += 1;
                    limits::SYMLINK_HOPS.check(&LayerLimits::default(), hops, || quoted(path.as_bytes()))?;
                    let target = self.tree.target(found);
                    if target.starts_with(b"/") {
                        directories.truncate(1);
                    }
                    target.rsplit(|&byte| byte == b'/').for_each(|name| names.push_front(name.to_vec()));
                }
                InodeKind::File { size, part, block } if names.is_empty() => {
                    return Ok(Some((size, Extent { part, block })));
                }
                // Something is below it, which is not there.
                InodeKind::File { .. } => return Ok(None),
                _ => return Err(not_a_file()),
            }
        }
        Err(not_a_file())
    }

    fn child(&self, directory: InodeId, name: &[u8]) -> Option<InodeId> {
        self.tree.child(directory, name)
    }
}
