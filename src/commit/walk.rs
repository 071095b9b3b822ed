//! A directory and everything below it, in the order of names, whatever the file system's order is.
//!
//! One directory is open at a time, so that neither depth nor the number of open files matters. The way up is `..`, and what is found
//! there must be the directory that the way down came from.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::node::{Node, changed};
use crate::error::{Error, Result, Status, quoted};
use crate::sys;

/// A directory on the way from the root to where the walk is.
struct Level {
    /// Those that are left, the next one last.
    names: Vec<Vec<u8>>,
    id: (u64, u64),
    /// Of the path to it.
    path_len: usize,
}

/// A walk. It is at a name after [`Walk::next`] has found one.
pub(super) struct Walk {
    folder: OwnedFd,
    levels: Vec<Level>,
    /// From the root on, without a slash in front.
    path: Vec<u8>,
    root: Stat,
}

impl Walk {
    /// Symlinks on the way to the root are the host's business.
    pub(super) fn new(root: &Path) -> Result<Walk> {
        let failed = |errno| match errno {
            Errno::NOTDIR => Error::new(Status::InvalidArgument, format!("{} is no directory", root.display())),
            errno => Error::os(errno, format_args!("open {}", root.display())),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(root, flags, Mode::empty()).map_err(failed)?;
        let stat = rustix::fs::fstat(&folder).map_err(failed)?;
        let names = names_in(&folder).map_err(|errno| Error::os(errno, format_args!("list {}", root.display())))?;
        let levels = vec![Level { names, id: sys::file_id(&stat), path_len: 0 }];
        Ok(Walk { folder, levels, path: Vec::new(), root: stat })
    }

    /// The root itself.
    pub(super) fn root(&self) -> (BorrowedFd<'_>, &Stat) {
        (self.folder.as_fd(), &self.root)
    }

    /// Goes on to the next name; what it is. `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Stat>> {
        loop {
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            let Some(name) = level.names.pop() else {
                self.go_up()?;
                continue;
            };
            self.path.truncate(level.path_len);
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&name);
            let stat = rustix::fs::statat(&self.folder, &name[..], AtFlags::SYMLINK_NOFOLLOW);
            return match stat {
                Ok(stat) => Ok(Some(stat)),
                Err(Errno::NOENT) => Err(self.changed()),
                Err(errno) => Err(self.failed("look at", errno)),
            };
        }
    }

    /// What was found last, with what it is.
    pub(super) fn node<'w>(&'w self, stat: &'w Stat) -> Node<'w> {
        Node { folder: self.folder.as_fd(), path: &self.path, stat }
    }

    /// How many directories are on the way to it, the root among them.
    pub(super) fn depth(&self) -> usize {
        self.levels.len()
    }

    /// Goes into the directory that was found last, which is open.
    pub(super) fn go_into(&mut self, folder: OwnedFd, stat: &Stat) -> Result<()> {
        let names = names_in(&folder).map_err(|errno| self.failed("list", errno))?;
        self.levels.push(Level { names, id: sys::file_id(stat), path_len: self.path.len() });
        self.folder = folder;
        Ok(())
    }

    fn go_up(&mut self) -> Result<()> {
        self.levels.pop();
        let Some(above) = self.levels.last() else { return Ok(()) };
        self.path.truncate(above.path_len);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(&self.folder, "..", flags, Mode::empty());
        let folder = folder.map_err(|errno| self.failed("open", errno))?;
        let stat = rustix::fs::fstat(&folder).map_err(|errno| self.failed("look at", errno))?;
        if sys::file_id(&stat) != above.id {
            return Err(self.changed());
        }
        self.folder = folder;
        Ok(())
    }

    fn failed(&self, action: &str, errno: Errno) -> Error {
        Error::os(errno, format_args!("{action} {}", quoted(&self.path)))
    }

    fn changed(&self) -> Error {
        changed(&self.path)
    }
}

/// In falling order, so that the last one is the next.
fn names_in(folder: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    sys::for_each_name(folder.as_fd(), |name| match name.to_bytes() {
        b"." | b".." => {}
        name => names.push(name.to_vec()),
    })?;
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}
