//! The files of a disk that the store keeps ([`super::kept_disks`]), and the mark that they were flushed.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::disk_description::{DESCRIPTION, Described, DescribedPart, DiskDescription};
use crate::record::{RecordHead, Validity, record_name};
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

/// Flushes a kept disk, and says so beside it. A flush that fails is final, as of trees: the disk counts no more.
///
/// Files that are layers' disks, too, are flushed with these, and have to be by then. A flush that failed there is told once,
/// and not to us.
pub(super) fn flush(trees: BorrowedFd<'_>, disks: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    let folder = match rustix::fs::openat(disks, name, READ | OFlags::DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        folder => folder?,
    };
    let Ok(Described::Good(description)) = DiskDescription::read(folder.as_fd()) else { return Ok(()) };
    if is_durable(folder.as_fd()) {
        return Ok(());
    }
    let shared: Vec<Sharing> = description.parts.iter().map(|part| part_of(trees, folder.as_fd(), part)).collect();
    if shared.contains(&Sharing::Lost) {
        return drop_description(folder.as_fd());
    }
    if shared.contains(&Sharing::Unknown) {
        return Ok(());
    }
    let files = file_names(folder.as_fd())?;
    let is_own = |name: &&String| !description.parts.iter().any(|part| part.tree.is_some() && part.name == **name);
    let opened =
        files.iter().filter(is_own).map(|name| rustix::fs::openat(&folder, name.as_str(), READ, Mode::empty()));
    let opened: Vec<OwnedFd> = opened.collect::<Result<_, Errno>>()?;
    let synced = opened.iter().try_for_each(|file| sys::sync_data(file.as_fd()));
    if let Err(errno) = synced.and_then(|()| sys::sync_directory(folder.as_fd())) {
        drop_description(folder.as_fd())?;
        return Err(errno);
    }
    mark_durable(folder.as_fd())
}

/// Says that everything beside this was flushed.
pub(super) fn mark_durable(folder: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(folder, DURABLE, flags, Mode::from_raw_mode(0o644)) {
        Ok(_) | Err(Errno::EXIST) => sys::sync_directory(folder),
        Err(errno) => Err(errno),
    }
}

/// Has the disks count no more that have the file of a tree whose flush failed.
pub(super) fn drop_disks_of(trees: BorrowedFd<'_>, disks: BorrowedFd<'_>, tree: &str) -> Result<(), Errno> {
    let lost = rustix::fs::statat(trees, tree, AtFlags::SYMLINK_NOFOLLOW).map(|stat| sys::file_id(&stat))?;
    for name in file_names(disks)? {
        let Ok(folder) = rustix::fs::openat(disks, name.as_str(), READ | OFlags::DIRECTORY, Mode::empty()) else {
            continue;
        };
        let Ok(Described::Good(description)) = DiskDescription::read(folder.as_fd()) else { continue };
        if description.has_file(folder.as_fd(), lost)? {
            drop_description(folder.as_fd())?;
        }
    }
    Ok(())
}

/// A disk without its description does not count.
fn drop_description(folder: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::fs::unlinkat(folder, DESCRIPTION, AtFlags::empty())
}

/// What is known of the flush of a file that a tree of the store has, too.
#[derive(PartialEq)]
enum Sharing {
    /// It is nobody else's.
    Own,
    /// It was flushed.
    Flushed,
    /// It was not, yet, or nobody can tell.
    Unknown,
    /// That failed.
    Lost,
}

fn part_of(trees: BorrowedFd<'_>, folder: BorrowedFd<'_>, part: &DescribedPart) -> Sharing {
    let Some(tree) = &part.tree else { return Sharing::Own };
    let id = |folder, name: &str| {
        rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| sys::file_id(&stat)).ok()
    };
    let is_the_same = id(folder, &part.name).is_some_and(|found| Some(found) == id(trees, tree));
    let record = rustix::fs::openat(trees, record_name(tree).as_str(), READ, Mode::empty()).ok();
    match record.and_then(|record| RecordHead::read(record.as_fd()).ok().flatten()).map(|head| head.validity) {
        Some(Validity::Durable) if is_the_same => Sharing::Flushed,
        Some(validity) if is_the_same && validity == Validity::never() => Sharing::Lost,
        _ => Sharing::Unknown,
    }
}
