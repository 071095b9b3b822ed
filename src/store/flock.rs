//! What a lock is made of: `flock`, whose locks the kernel releases when their owner dies, however
//! it dies. For file systems without `flock` it is a table in the process, where the host promises
//! to open the store in one process only.
//!
//! Either kind belongs to an open file, so that it also keeps threads of one process apart.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result, Status};
use crate::sys;

/// The file of [`super::lock::CollectionLock`], by which it is also tried whether locks work.
pub(super) const COLLECTION: &str = "collection";

/// Who is kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Locking {
    /// All processes of this machine, and of others where the file system does that.
    Processes,
    /// The threads of this process.
    Threads,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    Alone,
    Together,
}

/// A lock on a file. `flock` holds it as long as the file is open; the table as long as this lives.
#[derive(Debug)]
pub(super) struct Held {
    in_table: Option<Key>,
}

/// The file's device and number, and the count of forks: a child does not hold what its parent holds.
type Key = (u64, u64, u64);

/// How many hold a file together; 0 is one alone.
static TABLE: Mutex<BTreeMap<Key, u32>> = Mutex::new(BTreeMap::new());

fn table() -> MutexGuard<'static, BTreeMap<Key, u32>> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Locking {
    /// Takes the lock on an open file, if that can be had at this moment.
    pub(super) fn try_lock(self, file: BorrowedFd<'_>, share: Share) -> Result<Option<Held>, Errno> {
        if self == Locking::Threads {
            return try_table(file, share);
        }
        let how = match share {
            Share::Alone => FlockOperation::NonBlockingLockExclusive,
            Share::Together => FlockOperation::NonBlockingLockShared,
        };
        loop {
            match rustix::fs::flock(file, how) {
                Ok(()) => return Ok(Some(Held { in_table: None })),
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

fn try_table(file: BorrowedFd<'_>, share: Share) -> Result<Option<Held>, Errno> {
    let stat = rustix::fs::fstat(file)?;
    let (device, inode) = sys::file_id(&stat);
    let key = (device, inode, sys::fork_count());
    let mut table = table();
    match (table.get_mut(&key), share) {
        (None, Share::Alone) => _ = table.insert(key, 0),
        (None, Share::Together) => _ = table.insert(key, 1),
        (Some(0), _) | (Some(_), Share::Alone) => return Ok(None),
        (Some(holders), Share::Together) => *holders += 1,
    }
    Ok(Some(Held { in_table: Some(key) }))
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(key) = self.in_table else { return };
        // A child does not wait for a table that a thread of its parent may have been at.
        if key.2 != sys::fork_count() {
            return;
        }
        let mut table = table();
        match table.get_mut(&key) {
            Some(holders @ 2..) => *holders -= 1,
            _ => _ = table.remove(&key),
        }
    }
}

/// Finds out whether `flock` keeps two openers of a file apart. `UNSUPPORTED` where it does not: nothing in such a store
/// would be safe.
pub(super) fn probe(folder: BorrowedFd<'_>, name: &str, path: &Path) -> Result<()> {
    let open = || {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o644))
    };
    let refuse = |why: &str| {
        let path = path.display();
        let way_out = "use another file system, or open the store for a single process";
        Err(Error::new(Status::Unsupported, format!("file locks (flock) do not work in {path} ({why}): {way_out}")))
    };
    let (first, second) = match open().and_then(|first| Ok((first, open()?))) {
        Ok(files) => files,
        // Where nothing can be written there is nothing to keep apart.
        Err(Errno::ROFS | Errno::ACCESS | Errno::PERM | Errno::NOSPC | Errno::DQUOT) => return Ok(()),
        Err(errno) => return Err(Error::os(errno, format_args!("open {}", path.join("locks").join(name).display()))),
    };
    let both = Locking::Processes.try_lock(first.as_fd(), Share::Together).and_then(|first| match first {
        Some(_) => Locking::Processes.try_lock(second.as_fd(), Share::Alone),
        // Somebody has it alone, and we have not.
        None => Ok(None),
    });
    match both {
        Ok(None) => Ok(()),
        Ok(Some(_)) => refuse("two have the same lock"),
        // These say nothing of locks.
        Err(errno @ (Errno::IO | Errno::NOMEM | Errno::STALE)) => {
            Err(Error::os(errno, format_args!("lock {}", path.join("locks").join(name).display())))
        }
        Err(errno) => refuse(&errno.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_keep_two_openers_apart() {
        let dir = tempfile::tempdir().unwrap();
        let folder = std::fs::File::open(dir.path()).unwrap();
        probe(folder.as_fd(), "probe", dir.path()).unwrap();
        let open = || std::fs::File::options().write(true).open(dir.path().join("probe")).unwrap();
        for locking in [Locking::Processes, Locking::Threads] {
            let (a, b, c) = (open(), open(), open());
            let alone = locking.try_lock(a.as_fd(), Share::Alone).unwrap().unwrap();
            assert!(locking.try_lock(b.as_fd(), Share::Alone).unwrap().is_none());
            assert!(locking.try_lock(b.as_fd(), Share::Together).unwrap().is_none());
            drop((alone, a));
            let first = locking.try_lock(b.as_fd(), Share::Together).unwrap().unwrap();
            let second = locking.try_lock(c.as_fd(), Share::Together).unwrap().unwrap();
            drop((first, b));
            let d = open();
            assert!(locking.try_lock(d.as_fd(), Share::Alone).unwrap().is_none());
            drop((second, c));
            assert!(locking.try_lock(d.as_fd(), Share::Alone).unwrap().is_some());
        }
    }
}
