//! What a walk needs of what it walks through ([`super::root_dir`]).

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::aside::Aside;
use crate::error::Result;

/// What a walk does.
pub(crate) trait Walk {
    /// An open directory.
    type Handle;

    /// Opens what is a directory itself, and not a symlink to one.
    fn open_directory(&self, at: &Self::Handle, name: &[u8]) -> Result<Self::Handle, Errno>;

    /// The target of a symlink; `None` for what is none.
    fn read_symlink(&self, at: &Self::Handle, name: &[u8]) -> Result<Option<Vec<u8>>, Errno>;

    /// Makes an empty directory, for us alone until it gets its metadata.
    fn make_directory(&self, at: &Self::Handle, name: &[u8]) -> Result<(), Errno>;

    /// Takes whatever has the name out of the tree, with all that is below it.
    fn take_away(&mut self, at: &Self::Handle, name: &[u8]) -> Result<Result<(), Errno>>;
}

/// What a walk on the disk takes. Replaced things go to `trash`.
pub(crate) struct DiskWalk<'a> {
    trash: Aside<'a>,
}

impl<'a> DiskWalk<'a> {
    pub(super) fn new(trash: Aside<'a>) -> DiskWalk<'a> {
        DiskWalk { trash }
    }
}

impl Walk for DiskWalk<'_> {
    type Handle = OwnedFd;

    fn open_directory(&self, at: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(at, name, flags, Mode::empty())
    }

    fn read_symlink(&self, at: &OwnedFd, name: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
        match rustix::fs::readlinkat(at, name, Vec::new()) {
            Ok(target) => Ok(Some(target.into_bytes())),
            Err(Errno::INVAL) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// One that we can enter whatever the umask says.
    fn make_directory(&self, at: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
        rustix::fs::mkdirat(at, name, Mode::RWXU)?;
        rustix::fs::chmodat(at, name, Mode::RWXU, AtFlags::empty())
    }

    fn take_away(&mut self, at: &OwnedFd, name: &[u8]) -> Result<Result<(), Errno>> {
        self.trash.take(at.as_fd(), name)
    }
}
