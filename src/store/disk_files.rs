//! The files of a disk that the store keeps ([`super::kept_disks`]), and the mark that they were flushed.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::disk_description::{DESCRIPTION, DiskDescription};
use crate::record::{EROFS_SUFFIX, RecordHead, Validity, record_name};
use crate::sys::{self, is_regular};

/// Says that everything beside it was flushed.
const DURABLE: &str = "durable";

const READ: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// Whether the disk in this directory was flushed.
pub(super) fn is_durable(folder: BorrowedFd<'_>) -> bool {
    rustix::fs::statat(folder, DURABLE, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| is_regular(&stat))
}

/// What is in the directory.
pub(super) fn file_names(folder: BorrowedFd<'_>) -> Result<Vec<String>, Errno> {
    let mut names = Vec::new();
    sys::for_each_name(folder, |name| {
        let name = name.to_str().ok().filter(|name| !matches!(*name, "." | ".."));
        names.extend(name.map(str::to_owned));
    })?;
    Ok(names)
}

/// Flushes a kept disk, and says so beside it. An error is final, as of trees: the disk counts no more.
///
/// Files that are layers' disks, too, are flushed with these, and have to be by then. A flush that failed there is told once,
/// and not to us.
pub(super) fn flush(trees: BorrowedFd<'_>, disks: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    let folder = match rustix::fs::openat(disks, name, READ | OFlags::DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        folder => folder?,
    };
    let Ok(Some(description)) = DiskDescription::read(folder.as_fd()) else { return Ok(()) };
    if is_durable(folder.as_fd()) {
        return Ok(());
    }
    match flush_files(trees, folder.as_fd(), &description) {
        Ok(true) => {}
        Ok(false) => return Ok(()),
        Err(errno) => {
            let _ = rustix::fs::unlinkat(&folder, DESCRIPTION, AtFlags::empty());
            return Err(errno);
        }
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(&folder, DURABLE, flags, Mode::from_raw_mode(0o644)) {
        Ok(_) | Err(Errno::EXIST) => sys::sync_directory(folder.as_fd()),
        Err(errno) => Err(errno),
    }
}

/// False where a layer's disk was not flushed.
fn flush_files(trees: BorrowedFd<'_>, folder: BorrowedFd<'_>, description: &DiskDescription) -> Result<bool, Errno> {
    for name in file_names(folder)? {
        let file = rustix::fs::openat(folder, name.as_str(), READ, Mode::empty())?;
        let stat = rustix::fs::fstat(&file)?;
        if stat.st_nlink == 1 {
            sys::sync_data(file.as_fd())?;
            continue;
        }
        let layers = description.layer_digests().unwrap_or_default();
        let mut trees_of = layers.iter().map(|layer| layer.file_stem() + EROFS_SUFFIX);
        let is_it = |tree: &String| {
            let found = rustix::fs::statat(trees, tree.as_str(), AtFlags::SYMLINK_NOFOLLOW);
            found.is_ok_and(|found| (found.st_dev, found.st_ino) == (stat.st_dev, stat.st_ino))
        };
        let record = trees_of.find(is_it).map(|tree| record_name(&tree));
        let record = record.and_then(|record| rustix::fs::openat(trees, record.as_str(), READ, Mode::empty()).ok());
        let head = record.and_then(|record: OwnedFd| RecordHead::read(record.as_fd()).ok().flatten());
        if head.is_none_or(|head| head.validity != Validity::Durable) {
            return Ok(false);
        }
    }
    sys::sync_directory(folder)?;
    Ok(true)
}
