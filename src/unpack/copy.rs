//! A copy where a file can have no more names (decision D4; `EMLINK`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::root::{Dir, fail};
use crate::error::Result;

/// What tells whether a name still is the inode that it was.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(super) fn of(stat: &Stat) -> Identity {
        #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
        Identity { device: stat.st_dev as u64, inode: stat.st_ino as u64 }
    }
}

/// Makes `to_name` what `from_name` is: content, owner, mode, times and extended attributes. `to_name` must be free.
pub(super) fn copy(from: &Dir, from_name: &[u8], stat: &Stat, to: &Dir, to_name: &[u8]) -> Result<()> {
    let failed = |errno| fail(errno, "copy to", &to.join(to_name));
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => copy_file(from.as_fd(), from_name, stat, to.as_fd(), to_name).map_err(failed),
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from, from_name, Vec::new()).map_err(failed)?;
            rustix::fs::symlinkat(&*target, to, to_name).map_err(failed)?;
            copy_special(stat, to.as_fd(), to_name).map_err(failed)
        }
        file_type => {
            let mode = Mode::from_raw_mode(stat.st_mode);
            rustix::fs::mknodat(to, to_name, file_type, mode, stat.st_rdev as _).map_err(failed)?;
            rustix::fs::chmodat(to, to_name, mode, AtFlags::empty()).map_err(failed)?;
            copy_special(stat, to.as_fd(), to_name).map_err(failed)
        }
    }
}

fn copy_file(
    from: BorrowedFd<'_>,
    from_name: &[u8],
    stat: &Stat,
    to: BorrowedFd<'_>,
    to_name: &[u8],
) -> Result<(), Errno> {
    let source = open_to_read(from, from_name, stat)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy = rustix::fs::openat(to, to_name, flags, Mode::RUSR | Mode::WUSR)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let n = rustix::io::retry_on_intr(|| rustix::io::read(&source, &mut buffer[..]))?;
        if n == 0 {
            break;
        }
        let mut rest = &buffer[..n];
        while !rest.is_empty() {
            let written = rustix::io::retry_on_intr(|| rustix::io::write(&copy, rest))?;
            rest = &rest[written..];
        }
    }
    let made = rustix::fs::fstat(&copy)?;
    if (made.st_uid, made.st_gid) != (stat.st_uid, stat.st_gid) {
        let (uid, gid) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
        rustix::fs::fchown(&copy, Some(uid), Some(gid))?;
    }
    copy_xattrs(source.as_fd(), copy.as_fd())?;
    rustix::fs::fchmod(&copy, Mode::from_raw_mode(stat.st_mode))?;
    rustix::fs::futimens(&copy, &times(stat))
}

/// Its owner can read a file whose mode says otherwise, by changing it for a moment.
fn open_to_read(dir: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(dir, name, Mode::RUSR, AtFlags::empty())?;
            let file = rustix::fs::openat(dir, name, flags, Mode::empty())?;
            rustix::fs::fchmod(&file, Mode::from_raw_mode(stat.st_mode))?;
            Ok(file)
        }
        other => other,
    }
}

fn copy_xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut names = vec![0; 64 << 10];
    let names_len = match rustix::fs::flistxattr(from, &mut names[..]) {
        Err(Errno::NOTSUP) => 0,
        other => other?,
    };
    let mut value = vec![0; 64 << 10];
    for name in names[..names_len].split(|&b| b == 0).filter(|name| !name.is_empty()) {
        let n = rustix::fs::fgetxattr(from, name, &mut value[..])?;
        match rustix::fs::fsetxattr(to, name, &value[..n], rustix::fs::XattrFlags::empty()) {
            // Labels that the system gives by itself.
            Err(Errno::PERM | Errno::NOTSUP) => {}
            other => other?,
        }
    }
    Ok(())
}

fn copy_special(stat: &Stat, to: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    let made = rustix::fs::statat(to, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if (made.st_uid, made.st_gid) != (stat.st_uid, stat.st_gid) {
        let (uid, gid) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
        rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    rustix::fs::utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
}

#[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
fn times(stat: &Stat) -> Timestamps {
    let time = Timespec { tv_sec: stat.st_mtime as i64, tv_nsec: stat.st_mtime_nsec as _ };
    Timestamps { last_access: time, last_modification: time }
}
