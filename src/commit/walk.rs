//! A directory and everything below it, in the order of names, whatever the file system's order is.
//!
//! One directory is open at a time, so that neither depth nor the number of open files matters. The way up is `..`, and what is found
//! there must be the directory that the way down came from.

use std::collections::HashSet;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::node::{Node, OrdinaryUser, changed};
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

/// A walk. It is at a name after [`SourceWalk::next`] has found one.
pub(super) struct SourceWalk {
    folder: OwnedFd,
    levels: Vec<Level>,
    /// From the root on, without a slash in front.
    path: Vec<u8>,
    root: Stat,
    /// Where something is mounted below the root.
    mounts: HashSet<Vec<u8>>,
    user: Option<OrdinaryUser>,
}

impl SourceWalk {
    /// Symlinks on the way to the root are the host's business.
    pub(super) fn new(root: &Path) -> Result<SourceWalk> {
        let failed = |errno| match errno {
            Errno::NOTDIR => Error::new(Status::InvalidArgument, format!("{} is no directory", root.display())),
            errno => Error::os(errno, format_args!("open {}", root.display())),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(root, flags, Mode::empty()).map_err(failed)?;
        let stat = rustix::fs::fstat(&folder).map_err(failed)?;
        let names = names_in(&folder).map_err(|errno| Error::os(errno, format_args!("list {}", root.display())))?;
        if let Err(Errno::NOENT) = sys::link_xattr(folder.as_fd(), b".", b"user.any") {
            let why = "attributes of symlinks are read by way of /proc, which is not there";
            return Err(Error::new(Status::Unsupported, why));
        }
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid().as_raw());
        let user = (!uid.is_root()).then(|| OrdinaryUser { uid: uid.as_raw(), gids: [gid, stat.st_gid] });
        let mounts = sys::mounts_below(folder.as_fd()).into_iter().collect();
        let levels = vec![Level { names, id: sys::file_id(&stat), path_len: 0 }];
        Ok(SourceWalk { folder, levels, path: Vec::new(), root: stat, mounts, user })
    }

    /// Whose files are root's in the image.
    pub(super) fn user(&self) -> Option<OrdinaryUser> {
        self.user
    }

    /// Whether something else is mounted on what was found last: what is there is not of the source.
    pub(super) fn is_mount_point(&self, stat: &Stat) -> bool {
        let is_directory = sys::is_directory(stat);
        self.mounts.contains(&self.path) || is_directory && sys::file_id(stat).0 != sys::file_id(&self.root).0
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
                Err(errno) => Err(self.failed("look at", errno)),
            };
        }
    }

    /// What was found last, with what it is.
    pub(super) fn node<'w>(&'w self, stat: &'w Stat) -> Node<'w> {
        Node { user: self.user, folder: self.folder.as_fd(), path: &self.path, stat }
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
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => self.changed(),
            errno => Error::os(errno, format_args!("{action} {}", quoted(&self.path))),
        }
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
