//! Copies: of what can have no more names (decision D4; `EMLINK`), and of a file's content out of another tree.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::root_dir::{Dir, fail};
use crate::error::{Error, Result, Status, quoted};
use crate::interrupt::Interrupt;
use crate::sys::{self, is_regular};

/// What tells whether a name still is the inode that it was.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(super) fn of(stat: &Stat) -> Identity {
        let (device, inode) = sys::file_id(stat);
        Identity { device, inode }
    }
}

/// How much is read at a time; no more is in memory, and after so much a call can end.
const COPY_BUFFER_BYTES: usize = 64 << 10;
/// From this size on it pays to leave the copying to the kernel.
const LARGE: u64 = 128 << 10;
/// What the kernel copies between two looks at whether the call is to end.
const STRETCH: usize = 8 << 20;

const READ: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// Where a file is.
pub(super) enum Place {
    /// In another tree.
    Named(Arc<Dir>, Vec<u8>),
    /// Nobody else writes to it.
    Open(OwnedFd),
}

/// A file that is read.
enum Readable<'f> {
    Opened(OwnedFd),
    Held(&'f OwnedFd),
}

impl AsFd for Readable<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Readable::Opened(file) => file.as_fd(),
            Readable::Held(file) => file.as_fd(),
        }
    }
}

/// A file of which another one gets the content.
pub(crate) struct Original {
    pub(super) place: Place,
    /// What it must have.
    pub(super) size: u64,
    /// Share its blocks where the file system can.
    pub(super) reflink: bool,
}

impl Original {
    /// Fills a new file. `path` is what it is called in an error.
    pub(super) fn copy_into(&self, to: BorrowedFd<'_>, path: &[u8], interrupt: &Interrupt) -> Result<()> {
        let failed = |errno| fail(errno, "copy", path);
        if self.size == 0 {
            return Ok(());
        }
        let (opened, stat) = self.open(path)?;
        let file = opened.as_fd();
        let damaged = || Err(damaged(path));
        if self.reflink && sys::reflink(to, file).is_ok() {
            return Ok(());
        }
        let is_sparse = (stat.st_blocks as u64) * 512 < self.size;
        if self.size >= LARGE && !is_sparse && self.let_kernel_copy(file, to, interrupt).map_err(failed)? {
            return interrupt.check();
        }
        let mut buffer = vec![0; COPY_BUFFER_BYTES.min(self.size as usize)];
        // A layer can say in a few bytes that a file has a hole of gigabytes.
        let mut at = if is_sparse { sys::next_data(file, 0).map_err(failed)? } else { Some(0) };
        while let Some(data) = at {
            let end = if is_sparse { sys::next_hole(file, data).map_err(failed)? } else { self.size };
            rustix::fs::seek(file, SeekFrom::Start(data)).map_err(failed)?;
            rustix::fs::seek(to, SeekFrom::Start(data)).map_err(failed)?;
            let mut done = data;
            while done < end {
                interrupt.check()?;
                let most = buffer.len().min(usize::try_from(end - done).unwrap_or(buffer.len()));
                match copy_some(file, to, &mut buffer[..most], Zeros::Written).map_err(failed)? {
                    0 => return damaged(),
                    n => done += n as u64,
                }
            }
            at = if done < self.size { sys::next_data(file, done).map_err(failed)? } else { None };
        }
        // A hole may be at the end.
        if is_sparse { rustix::fs::ftruncate(to, self.size).map_err(failed) } else { Ok(()) }
    }

    /// Makes the new file itself, where the system shares blocks only with a file that it makes; `None` where it did not.
    pub(super) fn clone_as(&self, parent: &Dir, name: &[u8], path: &[u8]) -> Result<Option<OwnedFd>> {
        if !sys::CLONES_BY_NAME || !self.reflink || self.size == 0 {
            return Ok(None);
        }
        let (file, _) = self.open(path)?;
        if sys::clone_file(file.as_fd(), parent.as_fd(), name).is_err() {
            return Ok(None);
        }
        match rustix::fs::openat(parent, name, READ, Mode::empty()) {
            Ok(clone) => Ok(Some(clone)),
            // It has the other's mode, which may not let its owner read.
            Err(_) => match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
                Ok(()) => Ok(None),
                Err(errno) => Err(fail(errno, "copy", path)),
            },
        }
    }

    /// What has to be what it was when it was named.
    fn open(&self, path: &[u8]) -> Result<(Readable<'_>, Stat)> {
        let failed = |errno| fail(errno, "copy", path);
        let file = match &self.place {
            Place::Named(parent, name) => {
                Readable::Opened(rustix::fs::openat(&**parent, &name[..], READ, Mode::empty()).map_err(failed)?)
            }
            Place::Open(file) => Readable::Held(file),
        };
        let stat = rustix::fs::fstat(&file).map_err(failed)?;
        match is_regular(&stat) && stat.st_size as u64 == self.size {
            true => Ok((file, stat)),
            false => Err(damaged(path)),
        }
    }

    /// False where it cannot, and has not begun.
    fn let_kernel_copy(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, interrupt: &Interrupt) -> Result<bool, Errno> {
        let mut done = 0;
        while done < self.size && interrupt.check().is_ok() {
            let length = STRETCH.min(usize::try_from(self.size - done).unwrap_or(STRETCH));
            match sys::copy_range(from, to, length) {
                Ok(0) if done == 0 => return Ok(false),
                // It became shorter.
                Ok(0) => return Err(Errno::IO),
                Ok(n) => done += n as u64,
                Err(Errno::INTR) => {}
                Err(Errno::XDEV | Errno::NOSYS | Errno::NOTSUP | Errno::INVAL | Errno::PERM) if done == 0 => {
                    return Ok(false);
                }
                Err(errno) => return Err(errno),
            }
        }
        Ok(true)
    }
}

fn damaged(path: &[u8]) -> Error {
    let why = format!("{}: its extracted layer is damaged; bl_check() mends it", quoted(path));
    Error::new(Status::State, why)
}

/// Makes `to_name` what `from_name` is: content, owner, mode, times and extended attributes. `to_name` must be free.
pub(super) fn copy(
    from: &Dir,
    from_name: &[u8],
    stat: &Stat,
    to: &Dir,
    to_name: &[u8],
    interrupt: &Interrupt,
) -> Result<()> {
    let failed = |errno| fail(errno, "copy to", &to.join(to_name));
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let source = open_to_read(from.as_fd(), from_name, stat).map_err(failed)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = rustix::fs::openat(to, to_name, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
            let mut buffer = vec![0; COPY_BUFFER_BYTES];
            while copy_some(source.as_fd(), made.as_fd(), &mut buffer, Zeros::Skipped).map_err(failed)? > 0 {
                interrupt.check()?;
            }
            complete_file(source.as_fd(), made.as_fd(), stat).map_err(failed)
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from, from_name, Vec::new()).map_err(failed)?;
            rustix::fs::symlinkat(&*target, to, to_name).map_err(failed)?;
            copy_special(stat, to.as_fd(), to_name).map_err(failed)
        }
        file_type => {
            let mode = Mode::from_raw_mode(stat.st_mode);
            sys::make_node(to.as_fd(), to_name, file_type, mode, stat.st_rdev as _).map_err(failed)?;
            rustix::fs::chmodat(to, to_name, mode, AtFlags::empty()).map_err(failed)?;
            copy_special(stat, to.as_fd(), to_name).map_err(failed)
        }
    }
}

/// What becomes of a piece that has nothing but zeros.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Zeros {
    Written,
    /// A hole; whoever copies sets the size at the end.
    Skipped,
}

/// Copies one buffer; gives how much, 0 at the end.
fn copy_some(from: BorrowedFd<'_>, to: BorrowedFd<'_>, buffer: &mut [u8], zeros: Zeros) -> Result<usize, Errno> {
    let n = rustix::io::retry_on_intr(|| rustix::io::read(from, &mut *buffer))?;
    let mut rest = &buffer[..n];
    if zeros == Zeros::Skipped && rest.iter().all(|&b| b == 0) {
        rustix::fs::seek(to, SeekFrom::Current(n as i64))?;
        return Ok(n);
    }
    while !rest.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(to, rest))?;
        rest = &rest[written..];
    }
    Ok(n)
}

fn complete_file(source: BorrowedFd<'_>, copy: BorrowedFd<'_>, stat: &Stat) -> Result<(), Errno> {
    rustix::fs::ftruncate(copy, stat.st_size as u64)?;
    let made = rustix::fs::fstat(copy)?;
    if (made.st_uid, made.st_gid) != (stat.st_uid, stat.st_gid) {
        let (uid, gid) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
        rustix::fs::fchown(copy, Some(uid), Some(gid))?;
    }
    copy_xattrs(source, copy)?;
    rustix::fs::fchmod(copy, Mode::from_raw_mode(stat.st_mode))?;
    rustix::fs::futimens(copy, &times(stat))
}

/// Its owner can read a file whose mode says otherwise, by changing it for a moment.
fn open_to_read(dir: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> Result<OwnedFd, Errno> {
    match rustix::fs::openat(dir, name, READ, Mode::empty()) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(dir, name, Mode::RUSR, AtFlags::empty())?;
            let file = rustix::fs::openat(dir, name, READ, Mode::empty())?;
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
