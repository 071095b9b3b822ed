//! Locks between threads and processes, on small files of their own in `locks/`. That a lock is held, and never a pid or an
//! age, tells a live owner from a dead one ([`super::flock`]).
//!
//! A lock file may be removed while others wait for it. Whoever gets a lock therefore looks whether
//! the file still has its name, and starts again where it has not.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::flock::{COLLECTION, Held, Locking, Share};
use super::store_dir::{Folder, StoreDir};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;

const OPEN: OFlags = OFlags::RDWR.union(OFlags::CREATE).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What precedes the layer in the name of the lock on its extraction.
pub(crate) const EXTRACTION_LOCK: &str = "extract-";

/// What precedes the key in the name of the lock on the making of a disk.
pub(crate) const DISK_LOCK: &str = "disk-";

/// What precedes the blob in the name of the lock on its download.
pub(super) const DOWNLOAD_LOCK: &str = "download-";

/// The name of the lock on a blob's download.
pub(crate) fn download_lock(digest: &Digest) -> String {
    format!("{DOWNLOAD_LOCK}{}", digest.file_stem())
}

/// Whether the open file still has a name. One that has none was removed by its last owner or by a sweep.
pub(super) fn has_name(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(rustix::fs::fstat(file)?.st_nlink > 0)
}

/// A held lock of a given name. Dropping it removes the file and releases the lock.
pub(crate) struct Lock {
    directory: Arc<StoreDir>,
    name: String,
    _held: Held,
    _file: OwnedFd,
}

impl Lock {
    /// Waits until the lock is free, the call is cancelled or its deadline passes.
    pub(crate) fn acquire(directory: &Arc<StoreDir>, name: String, interrupt: &Interrupt) -> Result<Lock> {
        let folder = directory.area(Folder::Locks)?;
        let path = directory.object_path(Folder::Locks, &name);
        let fail = |errno| Error::os(errno, format_args!("lock {}", path.display()));
        loop {
            let file = rustix::fs::openat(folder, name.as_str(), OPEN, Mode::from_raw_mode(0o644)).map_err(fail)?;
            let held = wait(directory, file.as_fd(), Share::Alone, &path, interrupt)?;
            if has_name(file.as_fd()).map_err(fail)? {
                return Ok(Lock { directory: directory.clone(), name, _held: held, _file: file });
            }
        }
    }

    /// Takes the lock if it is free at this moment.
    pub(crate) fn try_acquire(directory: &Arc<StoreDir>, name: String) -> Result<Option<Lock>, Errno> {
        let Ok(folder) = directory.area(Folder::Locks) else { return Ok(None) };
        let file = rustix::fs::openat(folder, name.as_str(), OPEN, Mode::from_raw_mode(0o644))?;
        match directory.locking().try_lock(file.as_fd(), Share::Alone)? {
            Some(held) if has_name(file.as_fd())? => {
                Ok(Some(Lock { directory: directory.clone(), name, _held: held, _file: file }))
            }
            _ => Ok(None),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.directory.is_forked() {
            return;
        }
        // While we hold it nobody else believes to hold a file of this name. Left behind it would do no harm.
        if let Ok(folder) = self.directory.area(Folder::Locks) {
            let _ = rustix::fs::unlinkat(folder, self.name.as_str(), AtFlags::empty());
        }
    }
}

/// The lock between collections, which have it alone, and whatever relies on an object's being there, which share it.
/// Its file stays, since it is never without somebody who might want it.
pub(crate) struct CollectionLock {
    directory: Arc<StoreDir>,
    _held: Held,
    file: OwnedFd,
}

impl CollectionLock {
    /// Held while something is found in the store and made to be reached; for moments.
    pub(crate) fn shared(directory: &Arc<StoreDir>, interrupt: &Interrupt) -> Result<CollectionLock> {
        CollectionLock::acquire(directory, Share::Together, interrupt)
    }

    /// Held while what nothing reaches loses its name.
    pub(crate) fn exclusive(directory: &Arc<StoreDir>, interrupt: &Interrupt) -> Result<CollectionLock> {
        CollectionLock::acquire(directory, Share::Alone, interrupt)
    }

    fn acquire(directory: &Arc<StoreDir>, share: Share, interrupt: &Interrupt) -> Result<CollectionLock> {
        let path = directory.object_path(Folder::Locks, COLLECTION);
        let fail = |errno| Error::os(errno, format_args!("lock {}", path.display()));
        let folder = directory.area(Folder::Locks)?;
        let file = rustix::fs::openat(folder, COLLECTION, OPEN, Mode::from_raw_mode(0o644)).map_err(fail)?;
        let held = wait(directory, file.as_fd(), share, &path, interrupt)?;
        Ok(CollectionLock { directory: directory.clone(), _held: held, file })
    }
}

/// There is no `flock` with a time limit. Owners are at work for milliseconds to minutes, so
/// waiting between two looks grows to 20 ms. That is well within the promised 100 ms for a
/// cancelled call.
fn wait(directory: &StoreDir, file: BorrowedFd<'_>, share: Share, path: &Path, interrupt: &Interrupt) -> Result<Held> {
    let mut pause = Duration::from_millis(1);
    loop {
        let held = directory.locking().try_lock(file, share);
        if let Some(held) = held.map_err(|errno| Error::os(errno, format_args!("lock {}", path.display())))? {
            return Ok(held);
        }
        interrupt.check().map_err(|error| error.context(format_args!("waiting for {}", path.display())))?;
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

impl Drop for CollectionLock {
    /// Closing would leave the lock with a child that was forked meanwhile and has a copy of the file.
    fn drop(&mut self) {
        if !self.directory.is_forked() && self.directory.locking() == Locking::Processes {
            let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Status;
    use crate::store::{Durability, StorageOptions};

    fn quick() -> StorageOptions {
        StorageOptions { durability: Durability::None, ..StorageOptions::default() }
    }

    #[test]
    fn one_owner_at_a_time_and_nothing_left() {
        let dir = tempfile::tempdir().unwrap();
        let directory = StoreDir::open(dir.path(), &quick()).unwrap();
        let inside = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let _lock = Lock::acquire(&directory, "x".into(), &Interrupt::default()).unwrap();
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    }
                });
            }
        });
        let left: Vec<_> =
            std::fs::read_dir(dir.path().join("locks")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, [COLLECTION]);
    }

    #[test]
    fn waiting_ends_with_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let directory = StoreDir::open(dir.path(), &quick()).unwrap();
        let _held = Lock::acquire(&directory, "x".into(), &Interrupt::default()).unwrap();
        let interrupt = Interrupt::new(None, Some(Duration::from_millis(30)));
        let error = Lock::acquire(&directory, "x".into(), &interrupt).err().unwrap();
        assert_eq!(error.status(), Status::Timeout);
    }
}
