//! Names that a changed file has in the layers below alone.
//!
//! An overlay with the mount option `index=on` keeps hard links: what is written by one name is seen by all of them. The upper directory
//! has those alone that were changed. overlayfs notes in `overlay.nlink` how many names it shows (Linux, fs/overlayfs/inode.c,
//! `ovl_set_nlink_common`). The others are looked for in the base.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::base::BaseTree;
use crate::error::{Error, Result, Status, quoted};
use crate::interrupt::Interrupt;
use crate::layer::{Entry, Kind};
use crate::sys;
use crate::unpack::InodeId;

/// Files of an upper directory that overlayfs keeps the names of, by their ids.
#[derive(Default)]
pub(super) struct IndexedFiles(BTreeMap<(u64, u64), IndexedFile>);

struct IndexedFile {
    /// A hard link to the name that was found first, without a name of its own.
    link: Entry,
    /// Its names in the upper directory.
    paths: Vec<Vec<u8>>,
    shown: ShownNames,
}

/// How many names overlayfs shows.
#[derive(Clone, Copy)]
enum ShownNames {
    Exactly(u64),
    /// As many as the lower file has, and so many more.
    MoreThanBelow(i64),
}

impl IndexedFiles {
    /// `nlink` is the attribute, and `links` what the file system says.
    pub(super) fn add(&mut self, id: (u64, u64), entry: &Entry, nlink: &[u8], links: u64) -> Result<()> {
        let shown =
            shown_names(nlink, links).ok_or_else(|| refused(&entry.path, "has an overlay.nlink that is none"))?;
        let new = || IndexedFile { link: link_to(entry, Vec::new()), paths: Vec::new(), shown };
        self.0.entry(id).or_insert_with(new).paths.push(entry.path.clone());
        Ok(())
    }

    /// Hard links for the names that are not in the upper directory, which `root` is. `opaque` is the attribute of directories that
    /// hide what is below them. `UNSUPPORTED` where only the overlay's index, in its work directory, has the content of a name.
    pub(super) fn missing_links(
        self,
        base: &BaseTree<'_>,
        root: &OwnedFd,
        opaque: &[u8],
        interrupt: &Interrupt,
    ) -> Result<Vec<Entry>> {
        let (mut names, mut links) = (base.linked_names(), Vec::new());
        for file in self.0.values() {
            let mut candidates: Vec<InodeId> = file.paths.iter().filter_map(|path| base.tree.at(path)).collect();
            candidates.retain(|inode| names.contains_key(inode));
            candidates.dedup();
            let mut found = None;
            for inode in candidates {
                let mut missing: Vec<&Vec<u8>> =
                    names[&inode].iter().filter(|name| !file.paths.contains(name)).collect();
                let mut is_visible = Vec::with_capacity(missing.len());
                for name in &missing {
                    is_visible.push(shows_what_is_below(root.as_fd(), name, opaque)?);
                }
                let mut visible = is_visible.iter();
                missing.retain(|_| visible.next() == Some(&true));
                let shown = match file.shown {
                    ShownNames::Exactly(count) => count,
                    ShownNames::MoreThanBelow(more) => base.names(inode).saturating_add_signed(more),
                };
                if shown == (file.paths.len() + missing.len()) as u64 {
                    found = Some((inode, missing.into_iter().cloned().collect::<Vec<_>>()));
                    break;
                }
            }
            let is_whole = matches!(file.shown, ShownNames::Exactly(count) if count == file.paths.len() as u64);
            match found {
                Some((inode, missing)) => {
                    names.remove(&inode);
                    links.extend(
                        missing
                            .into_iter()
                            .map(|path| Entry { link: file.link.link.clone(), ..link_to(&file.link, path) }),
                    );
                }
                None if is_whole => {}
                None => return Err(refused(&file.link.link, "has further names that only the overlay's index knows")),
            }
        }
        for names in names.values() {
            interrupt.check()?;
            let mut is_hidden = Vec::with_capacity(names.len());
            for name in names {
                is_hidden.push(!shows_what_is_below(root.as_fd(), name, opaque)?);
            }
            if let Some(hidden) = is_hidden.iter().position(|is_hidden| *is_hidden)
                && is_hidden.contains(&false)
            {
                let why = "is gone, and what its other names have by now only the overlay's index (index=on) knows";
                return Err(refused(&names[hidden], why));
            }
        }
        links.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(links)
    }
}

fn link_to(file: &Entry, path: Vec<u8>) -> Entry {
    let Entry { mode, uid, gid, mtime, .. } = *file;
    Entry { path, kind: Kind::Hardlink, link: file.path.clone(), mode, uid, gid, mtime, ..Entry::default() }
}

/// `U` or `L`, and a number with its sign: how many more names there are than links of the upper, or of the lower file.
fn shown_names(nlink: &[u8], links: u64) -> Option<ShownNames> {
    let text = std::str::from_utf8(nlink).ok()?;
    let (whose, more) = text.split_at_checked(1)?;
    let more: i64 = more.parse().ok()?;
    match whose {
        "U" => Some(ShownNames::Exactly(links.checked_add_signed(more)?)),
        "L" => Some(ShownNames::MoreThanBelow(more)),
        _ => None,
    }
}

/// Whether what the base has at a path can be seen through the upper directory.
fn shows_what_is_below(root: BorrowedFd<'_>, path: &[u8], opaque: &[u8]) -> Result<bool> {
    let failed = |errno| Error::os(errno, format_args!("look at {}", quoted(path)));
    let mut folder: Option<OwnedFd> = None;
    for name in path.split(|&byte| byte == b'/') {
        let at = folder.as_ref().map_or(root, |folder| folder.as_fd());
        match rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(true),
            Err(errno) => return Err(failed(errno)),
            Ok(stat) if !sys::is_directory(&stat) => return Ok(false),
            Ok(_) => {}
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let next = rustix::fs::openat(at, name, flags, Mode::empty()).map_err(failed)?;
        if sys::xattr(next.as_fd(), opaque).is_ok_and(|value| value == b"y") {
            return Ok(false);
        }
        folder = Some(next);
    }
    Ok(false)
}

fn refused(path: &[u8], why: &str) -> Error {
    Error::new(Status::Unsupported, format!("{}: {why}", quoted(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_of_names_is_what_overlayfs_writes() {
        let count = |text: &str| match shown_names(text.as_bytes(), 3)? {
            ShownNames::Exactly(count) => Some(count as i64),
            ShownNames::MoreThanBelow(more) => Some(1000 + more),
        };
        for (text, shown) in [
            ("U+0", Some(3)),
            ("U-1", Some(2)),
            ("L+2", Some(1002)),
            ("L-1", Some(999)),
            ("U-4", None),
            ("U", None),
            ("", None),
            ("X+1", None),
            ("Ü+1", None),
        ] {
            assert_eq!(count(text), shown, "{text}");
        }
    }
}
