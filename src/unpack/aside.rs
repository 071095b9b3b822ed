//! Where replaced things go until the extraction is over.
//!
//! Deleting between creating is slow. The file system ext4 does not give an inode out again that
//! was freed a moment ago. It searches past all of those for each new file. So what a later entry
//! replaces is moved aside, a whole directory in one step. It is deleted with everything else at
//! the end.

use std::any::Any;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::error::Result;

/// A directory on the same file system, and what keeps it until the end.
pub(crate) struct AsideDir {
    pub(crate) handle: OwnedFd,
    pub(crate) _owner: Box<dyn Any>,
}

/// Made when it is first needed, which for most layers is never.
pub(crate) struct Aside<'a> {
    make: Box<dyn Fn() -> Result<AsideDir> + 'a>,
    bin: Option<AsideDir>,
    count: u64,
}

impl<'a> Aside<'a> {
    pub(crate) fn new(make: impl Fn() -> Result<AsideDir> + 'a) -> Aside<'a> {
        Aside { make: Box::new(make), bin: None, count: 0 }
    }

    /// Takes whatever `name` in `dir` is.
    pub(super) fn take(&mut self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<Result<(), Errno>> {
        let bin = match &mut self.bin {
            Some(bin) => bin,
            none => none.insert((self.make)()?),
        };
        self.count += 1;
        Ok(rustix::fs::renameat(dir, name, bin.handle.as_fd(), self.count.to_string()))
    }
}
