//! Filling files: their data, their metadata, and closing them.
//!
//! In a stretch of small files creating them is what takes long, and half of it can be done beside the other half: the
//! thread that walks the tree creates a name and goes on to the next, while a thread of ours writes the file, sets its
//! metadata and closes it. Jobs are done in order. There are few of them at a time, because each is an open file, and
//! they are handed over some together, because waking a thread costs as much as a small file. On one core each job is
//! done at once.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::io::Errno;

use super::metadata::{Applier, Metadata};
use super::root::fail;
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;
use crate::layer::{Anomalies, SharedBytes};
use crate::queue::Queue;
use crate::sys;

/// Open files at a time.
const MOST_JOBS: usize = 32;
/// Jobs handed over together, at most, and how much data they may have: what waits here keeps its segments from going
/// round, so it must be less than there is.
const BATCH: usize = 16;
const BATCH_BYTES: usize = 256 << 10;
const PATIENCE: Duration = Duration::from_millis(50);

/// Some of the work on a file.
pub(super) struct Job {
    pub(super) file: Arc<OwnedFd>,
    /// For messages.
    pub(super) path: Arc<[u8]>,
    /// Where in the file the data belongs, and the data.
    pub(super) data: Option<(u64, SharedBytes)>,
    /// With the last data: what the file is to be.
    pub(super) end: Option<End>,
}

pub(super) struct End {
    pub(super) metadata: Metadata<'static>,
    /// Where the data ends before the file does.
    pub(super) size: Option<u64>,
}

/// Where jobs are done.
pub(super) enum Files {
    Inline { applier: Applier, anomalies: Anomalies },
    Threaded(Threaded),
}

impl Files {
    pub(super) fn new(applier: Applier, interrupt: Interrupt) -> Result<Files> {
        if sys::has_cores() {
            return Ok(Files::Threaded(Threaded::start(applier, interrupt)?));
        }
        Ok(Files::Inline { applier, anomalies: Anomalies::default() })
    }

    /// Does a job, now or soon. An error may be that of an earlier job.
    pub(super) fn submit(&mut self, job: Job) -> Result<()> {
        match self {
            Files::Inline { applier, anomalies } => run(&job, *applier, anomalies),
            Files::Threaded(threaded) => threaded.submit(job),
        }
    }

    /// Waits until every job is done; gives what was odd.
    pub(super) fn finish(&mut self) -> Result<Anomalies> {
        match self {
            Files::Inline { anomalies, .. } => Ok(*anomalies),
            Files::Threaded(threaded) => threaded.finish(),
        }
    }
}

fn run(job: &Job, applier: Applier, anomalies: &mut Anomalies) -> Result<()> {
    let file = job.file.as_fd();
    if let Some((offset, data)) = &job.data {
        write_at(file, *offset, data).map_err(|errno| fail(errno, "write", &job.path))?;
    }
    let Some(End { metadata, size }) = &job.end else { return Ok(()) };
    if let Some(size) = size {
        rustix::fs::ftruncate(file, *size).map_err(|errno| fail(errno, "write", &job.path))?;
    }
    applier.apply(file, metadata, &job.path, anomalies)
}

fn write_at(file: BorrowedFd<'_>, mut offset: u64, mut data: &[u8]) -> Result<(), Errno> {
    while !data.is_empty() {
        match rustix::io::pwrite(file, data, offset) {
            Ok(n) => {
                data = &data[n..];
                offset += n as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// A thread that does the jobs. Dropping it drops those that are left.
pub(super) struct Threaded {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    batch: Vec<Job>,
    batch_bytes: usize,
    interrupt: Interrupt,
}

struct Shared {
    jobs: Queue<Vec<Job>>,
    state: Mutex<State>,
    progress: Condvar,
}

#[derive(Default)]
struct State {
    /// Jobs that were handed over and are not done.
    pending: usize,
    /// The first one; no job is done after it.
    error: Option<Error>,
    anomalies: Anomalies,
    is_dead: bool,
}

impl Threaded {
    fn start(applier: Applier, interrupt: Interrupt) -> Result<Threaded> {
        let shared =
            Arc::new(Shared { jobs: Queue::new([]), state: Mutex::new(State::default()), progress: Condvar::new() });
        let worker = Worker(shared.clone());
        let thread =
            sys::spawn("bl-write", move || worker.run(applier)).map_err(|e| Error::io(&e, "start a thread"))?;
        Ok(Threaded { shared, thread: Some(thread), batch: Vec::with_capacity(BATCH), batch_bytes: 0, interrupt })
    }

    fn submit(&mut self, job: Job) -> Result<()> {
        self.batch_bytes += job.data.as_ref().map_or(0, |(_, data)| data.len());
        self.batch.push(job);
        if self.batch.len() < BATCH && self.batch_bytes < BATCH_BYTES {
            return Ok(());
        }
        self.hand_over(MOST_JOBS - BATCH)
    }

    fn finish(&mut self) -> Result<Anomalies> {
        self.hand_over(0)?;
        Ok(self.shared.lock().anomalies)
    }

    /// Hands over what there is, once no more than `most` jobs are pending; with 0 waits until all are done.
    fn hand_over(&mut self, most: usize) -> Result<()> {
        if !self.batch.is_empty() {
            self.shared.lock().pending += self.batch.len();
            self.batch_bytes = 0;
            self.shared.jobs.push(std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH)));
        }
        let mut state = self.shared.lock();
        loop {
            if let Some(error) = state.error.take() {
                return Err(error);
            }
            if state.is_dead {
                return Err(Error::new(Status::Internal, "a thread of the library died"));
            }
            if state.pending <= most {
                return Ok(());
            }
            state = self.shared.progress.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner).0;
            self.interrupt.check()?;
        }
    }
}

impl Drop for Threaded {
    fn drop(&mut self) {
        self.shared.jobs.abandon();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Worker(Arc<Shared>);

impl Worker {
    fn run(&self, applier: Applier) {
        let mut has_failed = false;
        while let Some(batch) = self.0.jobs.pop() {
            let count = batch.len();
            let mut anomalies = Anomalies::default();
            let mut error = None;
            for job in batch {
                if !has_failed && let Err(cause) = run(&job, applier, &mut anomalies) {
                    error = Some(cause);
                    has_failed = true;
                }
            }
            let mut state = self.0.lock();
            state.pending -= count;
            state.anomalies.insert(anomalies);
            state.error = state.error.take().or(error);
            drop(state);
            self.0.progress.notify_one();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.lock().is_dead = true;
        self.0.progress.notify_one();
    }
}
