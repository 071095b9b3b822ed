//! Disks of images that the store keeps: `disks/<digest>`, a directory each, with the disk's files and a description beside them.
//!
//! The description says which layers a disk is of. It stays as long as all of them are reached, or a lease holds the digest. Like a
//! tree a disk becomes visible before it is flushed, and counts until the machine starts again. When its files were flushed, an
//! empty file says so, and then it counts for good. All of it appears by one rename, so nothing can be half there.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Mode, Timespec, Timestamps, UTIME_NOW};

use super::disk_description::{DESCRIPTION, Described, DiskDescription};
use super::disk_files::{file_names, is_durable, mark_durable};
use super::lock::{DISK_LOCK, Lock};
use super::partial::{Partial, Removal, is_tree_name};
use super::storage::Storage;
use super::store_dir::{Folder, StoreDir};
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::sys::is_regular;

/// Of a machine that does not tell one boot from another.
const UNKNOWN_BOOT: &str = "unknown";

impl Storage {
    /// What the description of a kept disk says, in its directory.
    pub(crate) fn describe_kept_disk(&self, folder: BorrowedFd<'_>) -> Result<Described> {
        described(&self.directory, folder)
    }

    /// A kept disk that counts, for whoever is about to use it: it is made durable where it is not. All its files must be there.
    pub(crate) fn kept_disk_for_use(&self, name: &str) -> Result<Option<DiskDescription>> {
        let Some(folder) = self.directory.open_directory(Folder::Disks, name)? else { return Ok(None) };
        let Described::Good(description) = described(&self.directory, folder.as_fd())? else { return Ok(None) };
        if !description.files().all(|file| has_size(folder.as_fd(), &file.name, file.bytes)) {
            return Ok(None);
        }
        // How long nobody asked for it a collection may want to know.
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        let _ = rustix::fs::utimensat(&folder, DESCRIPTION, &times, AtFlags::SYMLINK_NOFOLLOW);
        if !is_durable(folder.as_fd()) {
            // The trees first: whoever made them may have ended before.
            description.parts.iter().flat_map(|part| &part.tree).for_each(|tree| self.directory.make_durable(tree));
            self.directory.make_disk_durable(name);
        }
        Ok(Some(*description))
    }

    /// When a disk was asked for last; `None` where that is not known.
    pub(super) fn disk_used_at(&self, name: &str) -> Result<Option<SystemTime>> {
        let Some(folder) = self.directory.open_directory(Folder::Disks, name)? else { return Ok(None) };
        let stat = rustix::fs::statat(&folder, DESCRIPTION, AtFlags::SYMLINK_NOFOLLOW).ok();
        let seconds = stat.and_then(|stat| u64::try_from(stat.st_mtime).ok());
        Ok(seconds.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)))
    }

    /// Completes a disk that is to be kept, and gives it its name in place of what has it.
    pub(crate) fn publish_kept_disk(
        &self,
        disk: Partial,
        name: &str,
        mut description: DiskDescription,
        interrupt: &Interrupt,
    ) -> Result<()> {
        description.boot = self.directory.boot_id().unwrap_or(UNKNOWN_BOOT).to_owned();
        description.write(disk.handle()).map_err(|error| error.context(disk.path().display()))?;
        let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
        rustix::fs::fchmod(disk.handle(), mode)
            .map_err(|errno| Error::os(errno, format_args!("set mode of {}", disk.path().display())))?;
        // Nobody could tell later whether the machine was started again.
        let is_durable = self.directory.boot_id().is_none() && self.directory.is_durable();
        if is_durable {
            self.directory.sync_everything()?;
            mark_durable(disk.handle())
                .map_err(|errno| Error::os(errno, format_args!("flush {}", disk.path().display())))?;
        }
        disk.publish(name, interrupt, |_| Ok(false))?;
        match is_durable {
            true => self.directory.sync_area(Folder::Disks),
            false => {
                self.directory.make_disk_durable(name);
                Ok(())
            }
        }
    }

    /// Bytes of the files that only this disk has: those of layers are counted with their trees.
    pub(super) fn disk_bytes(&self, name: &str) -> Result<u64> {
        let Some(folder) = self.directory.open_directory(Folder::Disks, name)? else { return Ok(0) };
        let mut bytes = 0;
        for name in file_names(folder.as_fd()).unwrap_or_default() {
            if let Ok(stat) = rustix::fs::statat(&folder, name.as_str(), AtFlags::SYMLINK_NOFOLLOW)
                && is_regular(&stat)
                && stat.st_nlink == 1
            {
                bytes += stat.st_size as u64;
            }
        }
        Ok(bytes)
    }
}

/// The description of a disk in this directory, and whether it counts.
fn described(directory: &StoreDir, folder: BorrowedFd<'_>) -> Result<Described> {
    let found = match DiskDescription::read(folder)? {
        Described::Good(found) => found,
        other => return Ok(other),
    };
    let is_of_this_boot = match directory.boot_id() {
        Some(boot) => found.boot == boot,
        // In a store that need not survive one, nothing has to be told from before it.
        None => found.boot == UNKNOWN_BOOT && !directory.is_durable(),
    };
    Ok(if is_of_this_boot || is_durable(folder) { Described::Good(found) } else { Described::Stale })
}

/// Whether there is a file of this name and size.
pub(crate) fn has_size(folder: BorrowedFd<'_>, name: &str, bytes: u64) -> bool {
    rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| is_regular(&stat) && stat.st_size as u64 == bytes)
}

/// Removes the disks that do not count, where this is the first time in this boot that the store is opened.
pub(super) fn drop_unsynced(directory: &Arc<StoreDir>) -> Result<()> {
    let fail = |errno| Error::os(errno, format_args!("list {}/disks", directory.path().display()));
    for name in file_names(directory.area(Folder::Disks)?).map_err(fail)? {
        if !is_tree_name(&name) {
            continue;
        }
        let lock = Lock::try_acquire(directory, format!("{DISK_LOCK}{name}"))
            .map_err(|errno| Error::os(errno, format_args!("lock the disk {name}")))?;
        let Some(folder) = directory.open_directory(Folder::Disks, &name)? else { continue };
        let counts = matches!(described(directory, folder.as_fd())?, Described::Good(_));
        if lock.is_some() && !counts {
            tracing::info!("disk {name} was not synced before the machine started anew, and is removed");
            Partial::take_to_trash(directory, Folder::Disks, &name)?.into_iter().for_each(Removal::leave);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::record::DISK_RECIPE;
    use crate::store::StorageOptions;
    use crate::store::disk_description::DESCRIPTION;
    use crate::store::disk_files::flush;

    fn kept(storage: &Storage) -> String {
        let key = Digest::of(b"disk");
        let name = key.file_stem();
        let disk = Partial::create_tree(&storage.directory, Folder::Disks, &name).unwrap();
        let description = DiskDescription { recipe: DISK_RECIPE, key: key.to_string(), ..DiskDescription::default() };
        storage.publish_kept_disk(disk, &name, description, &Interrupt::default()).unwrap();
        name
    }

    #[test]
    fn a_disk_counts_in_its_boot_and_for_good_when_it_was_flushed() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::open(dir.path(), &StorageOptions::default()).unwrap();
        let name = kept(&storage);
        let file = dir.path().join("disks").join(&name).join(DESCRIPTION);
        let counts = || storage.kept_disk_for_use(&name).unwrap();
        // In another boot.
        let mut description = counts().unwrap();
        description.boot = "another".into();
        std::fs::remove_file(&file).unwrap();
        description.write(std::fs::File::open(file.parent().unwrap()).unwrap().as_fd()).unwrap();
        assert_eq!(counts(), None);
        let area = |area| storage.directory.area(area).unwrap();
        flush(area(Folder::Extracted), area(Folder::Disks), &name).unwrap();
        assert!(counts().is_some());
        // Damaged.
        let mut bytes = std::fs::read(&file).unwrap();
        let at = bytes.iter().position(|&byte| byte == b'0').unwrap();
        bytes[at] = b'1';
        std::fs::write(&file, bytes).unwrap();
        assert_eq!(counts(), None);
    }

    #[test]
    fn a_disk_that_was_not_flushed_goes_with_the_next_boot() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::open(dir.path(), &StorageOptions::default()).unwrap();
        let name = kept(&storage);
        let path = dir.path().join("disks").join(&name);
        drop_unsynced(&storage.directory).unwrap();
        assert!(path.exists());
        std::fs::write(path.join(DESCRIPTION), b"").unwrap();
        drop_unsynced(&storage.directory).unwrap();
        assert!(!path.exists());
    }
}
