//! macOS 13 or newer. The same interface as `linux.rs`; each function says what macOS has instead. README.md says what of it
//! has been built and what has been run.
//!
//! What has no function here:
//! - A rename that never replaces is `renameatx_np(RENAME_EXCL)`, and one that exchanges is `RENAME_SWAP`; rustix calls both.
//! - There is no `O_TMPFILE`: [`unnamed_file`] is `ENOTSUP`, and whoever asks for one goes on without.
//! - There is no overlayfs: trees in its forms, and options for its mounts, are `UNSUPPORTED`.
//! - Most volumes fold case. Two names of a layer that such a volume takes for one are found when the second is made, and are
//!   `UNSUPPORTED`.
//! - A thread has no umask of its own, so every file gets its mode by a call.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use rustix::fs::{AtFlags, CloneFlags, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

/// `fsync` alone leaves the bytes in the drive's cache there; `F_FULLFSYNC` does not. Servers may not have it.
pub(crate) fn sync_data(file: BorrowedFd<'_>) -> Result<(), Errno> {
    match rustix::fs::fcntl_fullfsync(file) {
        Err(Errno::NOTSUP | Errno::INVAL | Errno::NOTTY) => rustix::fs::fsync(file),
        other => other,
    }
}

/// The names in the directory are on the disk when this returns.
pub(crate) fn sync_directory(dir: BorrowedFd<'_>) -> Result<(), Errno> {
    sync_data(dir)
}

/// Everything of the file system that was written before is on the disk when this returns, the drive's cache included.
pub(crate) fn sync_file_system(any: BorrowedFd<'_>) -> Result<(), Errno> {
    // <sys/unistd.h>, sync_volume_np(3); the crate libc does not have them.
    unsafe extern "C" {
        fn fsync_volume_np(fd: libc::c_int, flags: libc::c_int) -> libc::c_int;
    }
    const SYNC_VOLUME_FULLSYNC: libc::c_int = 1;
    const SYNC_VOLUME_WAIT: libc::c_int = 2;
    // SAFETY: the descriptor is open for the call, which has no pointers.
    match unsafe { fsync_volume_np(any.as_raw_fd(), SYNC_VOLUME_FULLSYNC | SYNC_VOLUME_WAIT) } {
        0 => Ok(()),
        // The page says that an error number is returned; a system call that fails gives -1.
        -1 => checked(-1),
        errno => Err(Errno::from_raw_os_error(errno)),
    }
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

/// The permission bits of a mode, in the system's own type, which has 16 bits.
pub(crate) fn mode(bits: u32) -> Mode {
    Mode::from_raw_mode((bits & 0o7777) as rustix::fs::RawMode)
}

/// Whether a directory is where something is mounted: a file system of its own.
pub(crate) fn is_mount_point(folder: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Errno> {
    let stat = rustix::fs::statat(folder, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(stat.st_dev != rustix::fs::fstat(folder)?.st_dev)
}

/// The system is not asked: another file system is known by its number.
pub(crate) fn mounts_below(_: BorrowedFd<'_>) -> Vec<Vec<u8>> {
    Vec::new()
}

/// Makes a device node, or a FIFO. `mknodat` came with macOS 13; rustix does not have it. It makes no sockets.
pub(crate) fn make_node(
    dir: BorrowedFd<'_>,
    name: &[u8],
    file_type: FileType,
    mode: Mode,
    device: rustix::fs::Dev,
) -> Result<(), Errno> {
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    let mode = file_type.as_raw_mode() | mode.as_raw_mode();
    // SAFETY: the descriptor is open and the name ends in NUL, both for the call.
    let result = unsafe { libc::mknodat(dir.as_raw_fd(), name.as_ptr(), mode, device) };
    checked(result)
}

/// Makes a FIFO. `mkfifoat` came with macOS 13; rustix does not have it.
pub(crate) fn make_fifo(dir: BorrowedFd<'_>, name: &[u8], mode: Mode) -> Result<(), Errno> {
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    // SAFETY: the descriptor is open and the name ends in NUL, both for the call.
    let result = unsafe { libc::mkfifoat(dir.as_raw_fd(), name.as_ptr(), mode.as_raw_mode()) };
    checked(result)
}

/// The two ends of a pipe, to read from and to write to. Neither blocks. There is no `pipe2`: a program that another thread
/// starts between two of these calls inherits the ends.
#[cfg(feature = "pull")]
pub(crate) fn pipe() -> Result<(std::os::fd::OwnedFd, std::os::fd::OwnedFd), Errno> {
    let (readable, writable) = rustix::pipe::pipe()?;
    for end in [&readable, &writable] {
        rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(end, rustix::fs::fcntl_getfl(end)? | OFlags::NONBLOCK)?;
    }
    Ok((readable, writable))
}

/// There is no such call.
pub(crate) fn unnamed_file(_: BorrowedFd<'_>) -> Result<std::os::fd::OwnedFd, Errno> {
    Err(Errno::NOTSUP)
}

/// Whether blocks can be shared with a new name only ([`clone_file`]), or with a file that is there ([`reflink`]).
pub(crate) const CLONES_BY_NAME: bool = true;

/// Makes a file of a new name that shares all blocks of another one (`fclonefileat`, APFS). It has the other's times and
/// attributes, the caller's owner, and a mode that lets its owner alone read and write it.
pub(crate) fn clone_file(from: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    rustix::fs::fclonefileat(from, dir, name, CloneFlags::NOOWNERCOPY)?;
    // It has the other's mode and flags: one that must not be changed could not even be removed.
    let unlocked = match rustix::fs::openat(dir, name, OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Ok(clone) => {
            // SAFETY: the descriptor is open for the call, which has no pointers.
            checked(unsafe { libc::fchflags(clone.as_raw_fd(), 0) })
                .and_then(|()| rustix::fs::fchmod(&clone, Mode::RUSR | Mode::WUSR))
        }
        Err(_) => rustix::fs::chmodat(dir, name, Mode::RUSR | Mode::WUSR, AtFlags::empty()),
    };
    unlocked.inspect_err(|_| _ = rustix::fs::unlinkat(dir, name, AtFlags::empty()))
}

/// Blocks can be shared with a new name only: [`clone_file`].
pub(crate) fn reflink(_: BorrowedFd<'_>, _: BorrowedFd<'_>) -> Result<(), Errno> {
    Err(Errno::NOTSUP)
}

/// There is no such call.
pub(crate) fn copy_range(_: BorrowedFd<'_>, _: BorrowedFd<'_>, _: usize) -> Result<usize, Errno> {
    Err(Errno::NOSYS)
}

/// There is no such call.
pub(crate) fn copy_range_at(_: (BorrowedFd<'_>, u64), _: (BorrowedFd<'_>, u64), _: u64) -> Result<u64, Errno> {
    Err(Errno::NOSYS)
}

/// What a file system answers when the disk does not have what was written to it.
pub(crate) const DAMAGE: &[Errno] = &[Errno::IO, Errno::ILSEQ, Errno::BADMSG, Errno::NXIO];

/// Sets an extended attribute of `dir`/`name` if it is a symlink, which `O_SYMLINK` opens as itself. Nothing else that this is
/// called for may be opened; the metadata record keeps its attributes.
pub(crate) fn set_link_xattr(dir: BorrowedFd<'_>, name: &[u8], key: &[u8], value: &[u8]) -> Result<(), Errno> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        return Err(Errno::NOTSUP);
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::from_bits_retain(libc::O_SYMLINK as u32);
    let link = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    rustix::fs::fsetxattr(link.as_fd(), key, value, XattrFlags::empty())
}

/// There is but one.
pub(crate) fn user_namespace() -> u32 {
    0
}

/// There are none.
pub(crate) fn reads_trusted_xattrs() -> bool {
    false
}

/// Attributes are not compared there: the system sets some of its own, and names are other ones.
pub(crate) fn xattr_names(_: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    Err(Errno::NOTSUP)
}

/// Attributes are not compared there.
pub(crate) fn xattr(_: BorrowedFd<'_>, _: &[u8]) -> Result<Vec<u8>, Errno> {
    Err(Errno::NOTSUP)
}

/// Attributes are not compared there.
pub(crate) fn link_xattr_names(_: BorrowedFd<'_>, _: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
    Err(Errno::NOTSUP)
}

/// Attributes are not compared there.
pub(crate) fn link_xattr(_: BorrowedFd<'_>, _: &[u8], _: &[u8]) -> Result<Vec<u8>, Errno> {
    Err(Errno::NOTSUP)
}

/// The kernel's name for this boot: `kern.bootsessionuuid`, a new UUID at each boot.
pub(crate) fn boot_id() -> Option<String> {
    let mut id = [0u8; 37];
    let mut length = id.len();
    let nothing = std::ptr::null_mut();
    // SAFETY: the name ends in NUL; the buffer and its length are ours, and nothing is set.
    let result = unsafe {
        libc::sysctlbyname(c"kern.bootsessionuuid".as_ptr(), id.as_mut_ptr().cast(), &raw mut length, nothing, 0)
    };
    checked(result).ok()?;
    let id = std::str::from_utf8(id.get(..36)?).ok()?;
    id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-').then(|| id.to_ascii_lowercase())
}

fn checked(result: libc::c_int) -> Result<(), Errno> {
    match result {
        -1 => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
        _ => Ok(()),
    }
}
