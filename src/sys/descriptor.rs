//! Descriptors, and what the system says of files and errors, in types that are the same on each system.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::DAMAGE;

/// A descriptor of ours for what a descriptor of the host's is open on; `EBADF` for what is none.
pub(crate) fn duplicate(fd: i32) -> Result<OwnedFd, Errno> {
    if fd < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: it is not -1, and used for one call, which says so where it is not open.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    rustix::io::fcntl_dupfd_cloexec(fd, 0)
}

/// What tells a file from every other one, as long as it is there. That is the file system and the
/// inode, in types that are the same on each system.
#[allow(clippy::unnecessary_cast)]
pub(crate) fn file_id(stat: &rustix::fs::Stat) -> (u64, u64) {
    (stat.st_dev as u64, stat.st_ino as u64)
}

/// Type and permission bits of a file, in a type that is the same on each system.
#[allow(clippy::useless_conversion)]
pub(crate) fn mode_of(stat: &rustix::fs::Stat) -> u32 {
    stat.st_mode.into()
}

/// How many names a file has, in a type that is the same on each system.
#[allow(clippy::useless_conversion)]
pub(crate) fn link_count(stat: &rustix::fs::Stat) -> u64 {
    stat.st_nlink.into()
}

/// Whether an error number says that the disk does not have what was written to it.
pub(crate) fn is_damage(os_errno: i32) -> bool {
    DAMAGE.iter().any(|errno| errno.raw_os_error() == os_errno)
}
