//! Locks between threads and processes: `flock` on small files of their own in `locks/`, and on partial objects.
//!
//! `flock` because the kernel releases it when its owner dies, however it dies: that, and never a pid or an age, tells a
//! live owner from a dead one. A lock belongs to an open file description, so it also separates threads of one process.
//! A lock file may be removed while others wait for it; whoever gets a lock therefore looks whether the file still has
//! its name, and starts again where it has not.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::directory::{Area, Directory};
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;

const OPEN: OFlags = OFlags::RDWR.union(OFlags::CREATE).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The file of [`CollectionLock`].
const COLLECTION: &str = "collection";

/// Takes the lock on an open file if nobody has it.
pub(super) fn try_lock(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Whether the open file still has a name. One that has none was removed by its last owner or by a sweep.
pub(super) fn has_name(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(rustix::fs::fstat(file)?.st_nlink > 0)
}

/// A held lock of a given name. Dropping it removes the file and releases the lock.
pub(crate) struct Lock {
    directory: Arc<Directory>,
    name: String,
    _file: OwnedFd,
}

impl Lock {
    /// Waits until the lock is free, the call is cancelled or its deadline passes.
    pub(crate) fn acquire(directory: &Arc<Directory>, name: String, interrupt: &Interrupt) -> Result<Lock> {
        let folder = directory.area(Area::Locks)?;
        let path = directory.object_path(Area::Locks, &name);
        let fail = |errno| Error::os(errno, format_args!("lock {}", path.display()));
        loop {
            let file = rustix::fs::openat(folder, name.as_str(), OPEN, Mode::from_raw_mode(0o644)).map_err(fail)?;
            // There is no flock with a time limit. The owner is at work for milliseconds to minutes, so waiting
            // between two looks grows to 20 ms, well within the promised 100 ms for a cancelled call.
            let mut pause = Duration::from_millis(1);
            while !try_lock(file.as_fd()).map_err(fail)? {
                interrupt.check().map_err(|error| error.context(format_args!("waiting for {}", path.display())))?;
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            if has_name(file.as_fd()).map_err(fail)? {
                return Ok(Lock { directory: directory.clone(), name, _file: file });
            }
        }
    }
}

impl Lock {
    /// Takes the lock if it is free at this moment.
    pub(crate) fn try_acquire(directory: &Arc<Directory>, name: String) -> Result<Option<Lock>, Errno> {
        let Ok(folder) = directory.area(Area::Locks) else { return Ok(None) };
        let file = rustix::fs::openat(folder, name.as_str(), OPEN, Mode::from_raw_mode(0o644))?;
        let is_ours = try_lock(file.as_fd())? && has_name(file.as_fd())?;
        Ok(is_ours.then(|| Lock { directory: directory.clone(), name, _file: file }))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.directory.is_forked() {
            return;
        }
        // While we hold it nobody else believes to hold a file of this name. Left behind it would do no harm.
        if let Ok(folder) = self.directory.area(Area::Locks) {
            let _ = rustix::fs::unlinkat(folder, self.name.as_str(), AtFlags::empty());
        }
    }
}

/// The lock between collections, which have it alone, and whatever relies on an object's being there, which share it.
/// Its file stays, since it is never without somebody who might want it.
pub(crate) struct CollectionLock {
    directory: Arc<Directory>,
    file: OwnedFd,
}

impl CollectionLock {
    /// Held while something is found in the store and made to be reached; for moments.
    pub(crate) fn shared(directory: &Arc<Directory>, interrupt: &Interrupt) -> Result<CollectionLock> {
        CollectionLock::acquire(directory, FlockOperation::NonBlockingLockShared, interrupt)
    }

    /// Held while what nothing reaches loses its name.
    pub(crate) fn exclusive(directory: &Arc<Directory>, interrupt: &Interrupt) -> Result<CollectionLock> {
        CollectionLock::acquire(directory, FlockOperation::NonBlockingLockExclusive, interrupt)
    }

    fn acquire(directory: &Arc<Directory>, how: FlockOperation, interrupt: &Interrupt) -> Result<CollectionLock> {
        let path = directory.object_path(Area::Locks, COLLECTION);
        let fail = |errno| Error::os(errno, format_args!("lock {}", path.display()));
        let folder = directory.area(Area::Locks)?;
        let file = rustix::fs::openat(folder, COLLECTION, OPEN, Mode::from_raw_mode(0o644)).map_err(fail)?;
        let mut pause = Duration::from_millis(1);
        loop {
            match rustix::fs::flock(&file, how) {
                Ok(()) => return Ok(CollectionLock { directory: directory.clone(), file }),
                Err(Errno::WOULDBLOCK) => {
                    interrupt.check().map_err(|error| error.context(format_args!("waiting for {}", path.display())))?;
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(20));
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(fail(errno)),
            }
        }
    }
}

impl Drop for CollectionLock {
    /// Closing would leave the lock with a child that was forked meanwhile and has a copy of the file.
    fn drop(&mut self) {
        if !self.directory.is_forked() {
            let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Status;
    use crate::store::Durability;

    #[test]
    fn one_owner_at_a_time_and_nothing_left() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path(), false, Durability::None).unwrap();
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
        assert_eq!(std::fs::read_dir(dir.path().join("locks")).unwrap().count(), 0);
    }

    #[test]
    fn waiting_ends_with_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path(), false, Durability::None).unwrap();
        let _held = Lock::acquire(&directory, "x".into(), &Interrupt::default()).unwrap();
        let interrupt = Interrupt::new(None, Some(Duration::from_millis(30)));
        let error = Lock::acquire(&directory, "x".into(), &interrupt).err().unwrap();
        assert_eq!(error.status(), Status::Timeout);
    }
}
