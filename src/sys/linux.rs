//! Linux.

use std::ffi::CStr;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;
use rustix::path::Arg as _;

/// The file's bytes, and the metadata needed to read them back, are on the disk when this returns.
pub(crate) fn sync_data(file: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::fs::fdatasync(file)
}

/// The names in the directory are on the disk when this returns.
pub(crate) fn sync_directory(dir: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::fs::fsync(dir)
}

/// Everything of the file system that was written before is on the disk when this returns.
pub(crate) fn sync_file_system(any: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::fs::syncfs(any)
}

/// Calls `each` with every name in a directory, also `.` and `..`, without a copy of it: a store's folder may have
/// thousands.
pub(crate) fn for_each_name(dir: BorrowedFd<'_>, mut each: impl FnMut(&CStr)) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // A handle of its own: where listing is in a directory belongs to the handle.
    let dir = rustix::fs::openat(dir, c".", flags, Mode::empty())?;
    let mut buffer = Vec::with_capacity(64 << 10);
    let mut names = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = names.next() {
        each(entry?.file_name());
    }
    Ok(())
}

/// Reserves disk space for a file without changing its size.
pub(crate) fn reserve_space(file: BorrowedFd<'_>, bytes: u64) -> Result<(), Errno> {
    rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, bytes)
}

/// The permission bits of a mode, in the system's own type.
pub(crate) fn mode(bits: u32) -> Mode {
    Mode::from_raw_mode(bits)
}

/// Whether a directory is where something is mounted, also a part of the same file system. Kernels before 5.8 do not say it, and
/// then it is told by the file system that the directory is of.
pub(crate) fn is_mount_point(folder: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Errno> {
    use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    match rustix::fs::statx(folder, name, flags, StatxFlags::empty()) {
        Ok(stat) if stat.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) => {
            Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
        }
        _ => Ok(rustix::fs::statat(folder, name, flags)?.st_dev != rustix::fs::fstat(folder)?.st_dev),
    }
}

/// The paths below a directory, from it on, on which something is mounted; none where the system does not say.
pub(crate) fn mounts_below(folder: BorrowedFd<'_>) -> Vec<Vec<u8>> {
    let at = std::fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd())).unwrap_or_default();
    let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mut prefix = at.into_os_string().into_vec();
    if prefix.last() != Some(&b'/') {
        prefix.push(b'/');
    }
    // proc_pid_mountinfo(5): the fifth field, in which spaces and the like are three octal digits.
    let points = table.split(|&byte| byte == b'\n').filter_map(|line| line.split(|&byte| byte == b' ').nth(4));
    points.filter_map(|point| unescaped(point).strip_prefix(&prefix[..]).map(<[u8]>::to_vec)).collect()
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let (mut plain, mut rest) = (Vec::with_capacity(text.len()), text);
    while let [first, more @ ..] = rest {
        rest = more;
        plain.push(match more {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] if *first == b'\\' => {
                rest = after;
                (a - b'0') << 6 | (b - b'0') << 3 | (c - b'0')
            }
            _ => *first,
        });
    }
    plain
}

/// Makes a device node, a FIFO or a socket.
pub(crate) fn make_node(
    dir: BorrowedFd<'_>,
    name: &[u8],
    file_type: FileType,
    mode: Mode,
    device: rustix::fs::Dev,
) -> Result<(), Errno> {
    rustix::fs::mknodat(dir, name, file_type, mode, device)
}

/// Makes a FIFO.
pub(crate) fn make_fifo(dir: BorrowedFd<'_>, name: &[u8], mode: Mode) -> Result<(), Errno> {
    rustix::fs::mkfifoat(dir, name, mode)
}

/// The two ends of a pipe, to read from and to write to. Neither blocks, and no program that is started inherits them.
#[cfg(feature = "pull")]
pub(crate) fn pipe() -> Result<(std::os::fd::OwnedFd, std::os::fd::OwnedFd), Errno> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK)
}

/// A file in a folder's file system that has no name, to write and to read (`O_TMPFILE`).
pub(crate) fn unnamed_file(folder: BorrowedFd<'_>) -> Result<std::os::fd::OwnedFd, Errno> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::openat(folder, c".", flags, Mode::RUSR | Mode::WUSR)
}

/// Whether blocks can be shared with a new name only ([`clone_file`]), or with a file that is there ([`reflink`]).
pub(crate) const CLONES_BY_NAME: bool = false;

/// Makes a file of a new name that shares all blocks of another one. Linux shares with a file that is there: [`reflink`].
pub(crate) fn clone_file(_: BorrowedFd<'_>, _: BorrowedFd<'_>, _: &[u8]) -> Result<(), Errno> {
    Err(Errno::NOTSUP)
}

/// Makes a new file share all blocks of another one (`FICLONE`).
pub(crate) fn reflink(to: BorrowedFd<'_>, from: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::fs::ioctl_ficlone(to, from)
}

/// Copies at most so many bytes from where one file stands to where the other does, inside the kernel.
pub(crate) fn copy_range(from: BorrowedFd<'_>, to: BorrowedFd<'_>, bytes: usize) -> Result<usize, Errno> {
    rustix::fs::copy_file_range(from, None, to, None, bytes)
}

/// Copies at most so many bytes from one place in a file to one in another, inside the kernel. Where the file system can, and
/// both begin at a block, the blocks are shared.
pub(crate) fn copy_range_at(
    (from, mut from_at): (BorrowedFd<'_>, u64),
    (to, mut to_at): (BorrowedFd<'_>, u64),
    bytes: u64,
) -> Result<u64, Errno> {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    rustix::fs::copy_file_range(from, Some(&mut from_at), to, Some(&mut to_at), bytes).map(|copied| copied as u64)
}

/// What a file system answers when the disk does not have what was written to it.
pub(crate) const DAMAGE: &[Errno] =
    &[Errno::IO, Errno::ILSEQ, Errno::BADMSG, Errno::UCLEAN, Errno::NXIO, Errno::NODATA];

/// Sets an extended attribute of `dir`/`name` without following it if it is a symlink. There is no
/// call for that below a directory handle before Linux 6.13, so the handle's entry in /proc names
/// it. Where /proc is not mounted that is `ENOENT`, never a path looked up anew.
pub(crate) fn set_link_xattr(dir: BorrowedFd<'_>, name: &[u8], key: &[u8], value: &[u8]) -> Result<(), Errno> {
    rustix::fs::lsetxattr(&path_in_proc(dir, name)[..], key, value, rustix::fs::XattrFlags::empty())
}

/// The names of a file's extended attributes.
pub(crate) fn xattr_names(file: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    grown(|buffer| rustix::fs::flistxattr(file, buffer)).map(|names| split_names(&names))
}

/// The value of a file's extended attribute.
pub(crate) fn xattr(file: BorrowedFd<'_>, key: &[u8]) -> Result<Vec<u8>, Errno> {
    grown(|buffer| rustix::fs::fgetxattr(file, key, buffer))
}

/// The same of `dir`/`name`, which is not followed: by the call for that, or as [`set_link_xattr`].
pub(crate) fn link_xattr_names(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
    static HAS_CALL: AtomicBool = AtomicBool::new(true);
    let has_call = HAS_CALL.load(Ordering::Relaxed);
    if has_call {
        match name.into_with_c_str(|name| grown(|buffer| listxattrat(dir, name, buffer))) {
            // An older kernel, or a sandbox that does not know it.
            Err(Errno::NOSYS | Errno::PERM) => {}
            names => return names.map(|names| split_names(&names)),
        }
    }
    let path = path_in_proc(dir, name);
    let names = grown(|buffer| rustix::fs::llistxattr(&path[..], buffer));
    // Some file systems have that error of their own.
    if has_call && names != Err(Errno::PERM) {
        HAS_CALL.store(false, Ordering::Relaxed);
    }
    names.map(|names| split_names(&names))
}

/// Half as long as the way through /proc. rustix and libc do not have it (Linux 6.13).
fn listxattrat(dir: BorrowedFd<'_>, name: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
    // The same number on all architectures that this is built for.
    const LISTXATTRAT: libc::c_long = 465;
    // SAFETY: the name ends in NUL, and the buffer is ours and as long as is said.
    let listed = unsafe {
        libc::syscall(
            LISTXATTRAT,
            dir.as_raw_fd(),
            name.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    };
    usize::try_from(listed).map_err(|_| Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

/// The same of `dir`/`name`, which is not followed; as [`set_link_xattr`].
pub(crate) fn link_xattr(dir: BorrowedFd<'_>, name: &[u8], key: &[u8]) -> Result<Vec<u8>, Errno> {
    let path = path_in_proc(dir, name);
    grown(|buffer| rustix::fs::lgetxattr(&path[..], key, buffer))
}

fn path_in_proc(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

/// What a call writes into a buffer that is large enough.
fn grown(mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    // Most are asked for nothing.
    let mut small = [0; 256];
    match call(&mut small) {
        Err(Errno::RANGE) => {}
        written => return written.map(|length| small[..length].to_vec()),
    }
    // The kernel's own limit, XATTR_SIZE_MAX.
    let mut buffer = vec![0; 64 << 10];
    let length = call(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

fn split_names(names: &[u8]) -> Vec<Vec<u8>> {
    names.split(|&byte| byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
}

/// What tells a user namespace from others: the numbers that it gives users and groups. The same one twice has the same.
pub(crate) fn user_namespace() -> u32 {
    let maps = ["/proc/self/uid_map", "/proc/self/gid_map"].map(|map| std::fs::read(map).unwrap_or_default());
    twox_hash::XxHash3_64::oneshot(&maps.concat()) as u32
}

/// Whether `trusted.*` attributes are there for this process: for CAP_SYS_ADMIN in the first user namespace, which has all owners as
/// they are (Linux, fs/xattr.c, `xattr_permission`).
pub(crate) fn reads_trusted_xattrs() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let has_all_owners = map.split_whitespace().eq(["0", "0", "4294967295"]);
    let held = rustix::thread::capabilities(None).map(|sets| sets.effective);
    has_all_owners && held.is_ok_and(|held| held.contains(rustix::thread::CapabilitySet::SYS_ADMIN))
}

/// The kernel's name for this boot.
pub(crate) fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let id = text.trim();
    (id.len() == 36 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')).then(|| id.to_owned())
}
