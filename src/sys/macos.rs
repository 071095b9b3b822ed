//! macOS. Compiles the same interface as `linux.rs`; not yet run there (README.md says what has been).

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

/// `fsync` alone leaves the bytes in the drive's cache there; `F_FULLFSYNC` does not.
pub(crate) fn sync_data(file: BorrowedFd<'_>) -> Result<(), Errno> {
    match rustix::fs::fcntl_fullfsync(file) {
        Err(Errno::NOTSUP | Errno::INVAL) => rustix::fs::fsync(file),
        other => other,
    }
}

/// The names in the directory are on the disk when this returns.
pub(crate) fn sync_directory(dir: BorrowedFd<'_>) -> Result<(), Errno> {
    sync_data(dir)
}

/// Everything that was written before is on the disk when this returns: there is no call for one file system.
pub(crate) fn sync_file_system(any: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::fs::sync();
    sync_data(any)
}

/// Calls `each` with every name in a directory, also `.` and `..`.
pub(crate) fn for_each_name(dir: BorrowedFd<'_>, mut each: impl FnMut(&CStr)) -> Result<(), Errno> {
    for entry in rustix::fs::Dir::read_from(dir)? {
        each(entry?.file_name());
    }
    Ok(())
}

/// Not worth its three ways to fail there: writing will tell.
pub(crate) fn reserve_space(_: BorrowedFd<'_>, _: u64) -> Result<(), Errno> {
    Err(Errno::NOTSUP)
}

/// `clonefile` makes the file itself, so it has no place here: files are copied.
pub(crate) fn reflink(_: BorrowedFd<'_>, _: BorrowedFd<'_>) -> Result<(), Errno> {
    Err(Errno::NOTSUP)
}

/// There is no such call.
pub(crate) fn copy_range(_: BorrowedFd<'_>, _: BorrowedFd<'_>, _: usize) -> Result<usize, Errno> {
    Err(Errno::NOSYS)
}

/// What a file system answers when the disk does not have what was written to it.
pub(crate) const DAMAGE: &[Errno] = &[Errno::IO, Errno::ILSEQ, Errno::BADMSG];

/// Attributes of symlinks cannot be set below a directory handle here; the metadata record keeps them.
pub(crate) fn set_link_xattr(_: BorrowedFd<'_>, _: &[u8], _: &[u8], _: &[u8]) -> Result<(), Errno> {
    Err(Errno::NOTSUP)
}

/// Not asked for yet: trees are synced before they are visible.
pub(crate) fn boot_id() -> Option<String> {
    None
}
