//! Making trees durable, late and together. A thread waits a moment for more of them, has the file
//! system flushed once, and then says so in their records. No call waits for it, and closing the
//! store only for a flush that is under way. A tree that was not synced is made durable by the next
//! process that uses it. If the power goes before, it is unpacked again. An error of a flush is
//! final, since the kernel may have dropped what it could not write: the trees count no more.

use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::Result;
use crate::record::{EROFS_SUFFIX, RecordHead, Validity, record_name};
use crate::sys;

/// How long the first tree waits for others.
const GATHER_TIME: Duration = Duration::from_secs(2);
/// Records that are open at a time.
const MAX_OPEN_RECORDS: usize = 64;

/// What waits to be synced, by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Waiting {
    /// An extracted tree.
    Tree(String),
    /// A disk that the store keeps.
    Disk(String),
}

/// Trees and disks that wait to be synced, and the thread that does it.
#[derive(Debug)]
pub(super) struct Writeback {
    shared: Arc<WritebackShared>,
}

#[derive(Debug)]
struct WritebackShared {
    /// The folder of the trees.
    folder: OwnedFd,
    /// The folder of the disks.
    disks: OwnedFd,
    validity: Validity,
    state: Mutex<WritebackState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct WritebackState {
    waiting: BTreeSet<Waiting>,
    thread: Option<JoinHandle<()>>,
    is_closing: bool,
}

impl Writeback {
    /// `validity` is that of this boot's trees.
    pub(super) fn new(folder: OwnedFd, disks: OwnedFd, validity: Validity) -> Writeback {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Writeback { shared: Arc::new(WritebackShared { folder, disks, validity, state, changed }) }
    }

    /// Has something synced, some time.
    pub(super) fn add(&self, what: Waiting) {
        let mut state = self.shared.lock();
        if !state.waiting.insert(what) {
            return;
        }
        if state.thread.is_none() {
            let shared = self.shared.clone();
            match sys::spawn("bl-sync", move || shared.run()) {
                Ok(thread) => state.thread = Some(thread),
                Err(cause) => {
                    state.waiting.clear();
                    // Without the lock: the host's own log may be what waits for us.
                    drop(state);
                    tracing::warn!("cannot sync trees now: {cause}");
                    return;
                }
            }
        }
        self.shared.changed.notify_all();
    }

    /// Ends the thread, in a process that has it.
    pub(super) fn close(&self, is_forked: bool) {
        let thread = {
            let mut state = if is_forked {
                // Whatever the parent's threads were at is not ours.
                match self.shared.state.try_lock() {
                    Ok(state) => state,
                    Err(_) => return,
                }
            } else {
                self.shared.lock()
            };
            state.is_closing = true;
            state.thread.take()
        };
        if is_forked {
            return std::mem::forget(thread);
        }
        self.shared.changed.notify_all();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl WritebackShared {
    fn lock(&self) -> MutexGuard<'_, WritebackState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        loop {
            let mut state = self.lock();
            while state.waiting.is_empty() && !state.is_closing {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let due = Instant::now() + GATHER_TIME;
            while !state.is_closing
                && let Some(time) = due.checked_duration_since(Instant::now())
            {
                state = self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0;
            }
            if state.is_closing {
                return;
            }
            let batch: Vec<Waiting> = state.waiting.iter().take(MAX_OPEN_RECORDS).cloned().collect();
            // What comes under a name of these from now on is another one.
            batch.iter().for_each(|taken| _ = state.waiting.remove(taken));
            drop(state);
            if let Err(errno) = self.sync(&batch) {
                tracing::warn!("cannot sync trees or disks: {errno}; they are made again when they are needed");
            }
        }
    }

    /// The records are opened first: whatever they speak of was complete before, so that the flush covers it. A record
    /// that is replaced meanwhile is not the one that is marked.
    fn sync(&self, batch: &[Waiting]) -> Result<(), Errno> {
        let (mut files, mut directories, mut disks) = (Vec::new(), Vec::new(), Vec::new());
        for waiting in batch {
            match waiting {
                Waiting::Tree(tree) if tree.ends_with(EROFS_SUFFIX) => files.push(tree),
                Waiting::Tree(tree) => directories.push(tree),
                Waiting::Disk(disk) => disks.push(disk),
            }
        }
        // One file is flushed by itself, and the lines of its record with it. However it ends, the others have their turn.
        let flushed = files.into_iter().map(|tree| {
            let Some((record, head)) = self.open(tree) else { return Ok(()) };
            let Some(file) = self.open_named(tree, OFlags::RDONLY) else { return Ok(()) };
            let synced = sys::sync_data(file.as_fd()).and_then(|()| sys::sync_data(record.as_fd()));
            if synced.is_err() {
                super::disk_files::drop_disks_of(self.folder.as_fd(), self.disks.as_fd(), tree)?;
            }
            mark(vec![(record, head)], synced)
        });
        let flushed = flushed.fold(Ok(()), Result::and);
        // Behind the layers' disks, of which these have further names.
        let kept =
            disks.into_iter().map(|disk| super::disk_files::flush(self.folder.as_fd(), self.disks.as_fd(), disk));
        let flushed = kept.fold(flushed, Result::and);
        let records: Vec<(OwnedFd, RecordHead)> = directories.into_iter().filter_map(|tree| self.open(tree)).collect();
        if records.is_empty() {
            return flushed;
        }
        mark(records, sys::sync_file_system(self.folder.as_fd())).and(flushed)
    }

    fn open(&self, tree: &str) -> Option<(OwnedFd, RecordHead)> {
        let record = self.open_named(&record_name(tree), OFlags::RDWR)?;
        let head = head_of(record.as_fd())?;
        (head.validity == self.validity).then_some((record, head))
    }

    fn open_named(&self, name: &str, access: OFlags) -> Option<OwnedFd> {
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::openat(&self.folder, name, flags, Mode::empty()).ok()
    }
}

/// Says in records what a flush of everything that they speak of came to.
fn mark(records: Vec<(OwnedFd, RecordHead)>, synced: Result<(), Errno>) -> Result<(), Errno> {
    for (record, head) in records {
        let validity = if synced.is_ok() { Validity::Durable } else { Validity::never() };
        let head = RecordHead { validity, ..head };
        head.write(record.as_fd())?;
        sys::sync_data(record.as_fd())?;
    }
    synced
}

fn head_of(record: BorrowedFd<'_>) -> Option<RecordHead> {
    RecordHead::read(record).ok().flatten()
}
