//! Making files: creating them, their data, their metadata, and closing them.
//!
//! A layer is mostly small files, and for those creating takes longer than anything else in the
//! whole pipeline. So a small file is one job, from its creation on, that a thread of ours does
//! while the caller's thread reads on. There are two such threads, because kernels create files in
//! different directories side by side. A large file is created by the caller's thread and written
//! in parts; whoever does the last of them finishes it. Jobs are handed over some together, because
//! waking a thread costs as much as a small file. On one core there is one such thread. What it
//! gains is that it can do without the host's umask, and so without a call that sets the mode
//! ([`BirthModes`]).
//!
//! Jobs are done in any order. That changes nothing as long as no name in them was used before,
//! which the tree knows, and nobody looks for one too early ([`WritePool::finish`]).

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::copy::Original;
use super::metadata::{Applier, Metadata};
use super::root_dir::{Dir, fail};
use crate::error::{Error, Result, Status, quoted};
use crate::fault;
use crate::interrupt::Interrupt;
use crate::layer::{Anomalies, Entry, SharedBytes, split_parent};
use crate::queue::Queue;
use crate::sys;

const WRITERS: usize = 2;
/// Jobs that may wait: each may have a file or a directory open, and segments of the stream that cannot go round.
const MOST_JOBS: usize = 64;
/// Jobs handed over together, at most, and how much data they may have. What waits here keeps its
/// segments from going round, so it must be less than there is.
const BATCH_JOBS: usize = 16;
const BATCH_BYTES: usize = 256 << 10;
/// The mode of a file that nobody is to open before it is finished.
pub(super) const PRIVATE: u32 = 0o600;
const INTERRUPT_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// What a file is to be, besides its data.
#[derive(Clone)]
pub(crate) struct Plan {
    /// As the layer has it; the last component is the name.
    pub(super) path: Vec<u8>,
    pub(super) metadata: Metadata<'static>,
    /// Where the data may end before the file does.
    pub(super) size: Option<u64>,
}

impl Plan {
    pub(super) fn of(entry: &Entry) -> Plan {
        Plan { path: entry.path.clone(), metadata: Metadata::of(entry).into_owned(), size: None }
    }
}

/// A file in the making. Whoever drops the last reference to it finishes it first.
pub(crate) struct OpenFile {
    file: OwnedFd,
    plan: Plan,
    has_mode: bool,
}

/// Where in a file data belongs, and the data.
pub(crate) type Part = (u64, SharedBytes);

/// What goes into a file.
pub(crate) enum Filling<O = Original> {
    Data(Option<Part>),
    /// What another file has.
    Copy(O),
}

pub(super) enum Job {
    /// A file that nothing has the name of, with all that it has.
    Whole {
        parent: Arc<Dir>,
        plan: Plan,
        filling: Filling,
    },
    Part {
        file: Arc<OpenFile>,
        filling: Filling,
    },
}

impl Job {
    fn bytes(&self) -> usize {
        let (Job::Whole { filling, .. } | Job::Part { filling, .. }) = self;
        match filling {
            Filling::Data(data) => data.as_ref().map_or(0, |(_, data)| data.len()),
            Filling::Copy(original) => usize::try_from(original.size).unwrap_or(usize::MAX),
        }
    }

    fn run(self, maker: &mut FileMaker) -> Result<()> {
        match self {
            Job::Whole { parent, plan, filling } => {
                let name = split_parent(&plan.path).1;
                if let Filling::Copy(original) = &filling
                    && let Some(file) = original.clone_as(&parent, name, &plan.path)?
                {
                    return OpenFile::new(file, plan).finish(maker);
                }
                let file = maker.create(&parent, plan)?;
                file.fill(filling, maker)?;
                file.finish(maker)
            }
            Job::Part { file, filling } => {
                file.fill(filling, maker)?;
                Arc::into_inner(file).map_or(Ok(()), |file| file.finish(maker))
            }
        }
    }
}

/// What does jobs, on one thread.
pub(super) struct FileMaker {
    applier: Applier,
    modes: BirthModes,
    anomalies: Anomalies,
    interrupt: Interrupt,
}

/// Whether a file gets the mode that it is created with, so that it need not be set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BirthModes {
    /// A umask may take some of it.
    Masked,
    /// The thread has no umask. An ACL or a server may still take some: files tell which of these bits they got.
    Proven(u32),
}

impl FileMaker {
    fn new(applier: Applier, modes: BirthModes, interrupt: Interrupt) -> FileMaker {
        FileMaker { applier, modes, anomalies: Anomalies::default(), interrupt }
    }

    fn create(&mut self, parent: &Dir, plan: Plan) -> Result<OpenFile> {
        let name = split_parent(&plan.path).1;
        // Set-id bits come after the owner and attributes (an ACL) may be more than a mode says.
        let mode = self.applier.file_mode(plan.metadata.mode);
        let is_plain = mode & !0o777 == 0 && plan.metadata.xattrs.is_empty() && !self.applier.has_attributes();
        let proven = match self.modes {
            BirthModes::Proven(bits) if is_plain => Some(bits),
            _ => None,
        };
        let file =
            create(parent.as_fd(), name, if proven.is_some() { mode } else { PRIVATE }).map_err(
                |errno| match errno {
                    // Families 26 and 27: a file system that takes two names for one.
                    Errno::EXIST => same_name(&plan.path),
                    errno => fail(errno, "create", &plan.path),
                },
            )?;
        let mut has_mode = proven.is_some();
        if let Some(bits) = proven.filter(|bits| mode & !bits != 0) {
            let stat = rustix::fs::fstat(&file).map_err(|errno| fail(errno, "look at", &plan.path))?;
            has_mode = sys::mode_of(&stat) & 0o7777 == mode;
            self.modes = if has_mode { BirthModes::Proven(bits | mode) } else { BirthModes::Masked };
        }
        Ok(OpenFile { file, plan, has_mode })
    }
}

impl OpenFile {
    /// One that was made for nobody but us.
    pub(super) fn new(file: OwnedFd, plan: Plan) -> OpenFile {
        OpenFile { file, plan, has_mode: false }
    }

    fn fill(&self, filling: Filling, maker: &FileMaker) -> Result<()> {
        match filling {
            Filling::Data(None) => Ok(()),
            Filling::Data(Some((offset, data))) => {
                write_at(self.file.as_fd(), offset, &data).map_err(|errno| fail(errno, "write", &self.plan.path))
            }
            Filling::Copy(original) => original.copy_into(self.file.as_fd(), &self.plan.path, &maker.interrupt),
        }
    }

    fn finish(self, maker: &mut FileMaker) -> Result<()> {
        let OpenFile { file, plan: Plan { path, metadata, size }, has_mode } = self;
        if let Some(size) = size {
            rustix::fs::ftruncate(&file, size).map_err(|errno| fail(errno, "write", &path))?;
        }
        maker.applier.apply(file.as_fd(), &metadata, has_mode, &path, &mut maker.anomalies)
    }
}

/// Creates a file, and never opens one that is there.
pub(super) fn create(parent: BorrowedFd<'_>, name: &[u8], mode: u32) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, sys::mode(mode))
}

/// Nothing of this layer has the name, and yet it is taken.
pub(super) fn same_name(path: &[u8]) -> Error {
    let why = format!("{}: the file system takes this name for another one in the layer", quoted(path));
    Error::new(Status::Unsupported, why)
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

/// Threads that do the jobs. Dropping it drops those that are left.
pub(super) struct WritePool {
    shared: Arc<PoolShared>,
    threads: Vec<JoinHandle<()>>,
    are_pending: bool,
    batch: Vec<Job>,
    batch_bytes: usize,
    interrupt: Interrupt,
}

struct PoolShared {
    jobs: Queue<Vec<Job>>,
    state: Mutex<PoolState>,
    progress: Condvar,
}

#[derive(Default)]
struct PoolState {
    /// Jobs that were handed over and are not done.
    pending: usize,
    /// The first one; jobs that are not begun by then are dropped.
    error: Option<Error>,
    anomalies: Anomalies,
    is_dead: bool,
}

impl WritePool {
    pub(super) fn new(applier: Applier, interrupt: Interrupt) -> Result<WritePool> {
        let shared = Arc::new(PoolShared {
            jobs: Queue::default(),
            state: Mutex::new(PoolState::default()),
            progress: Condvar::new(),
        });
        let mut files = WritePool {
            shared,
            threads: Vec::new(),
            are_pending: false,
            batch: Vec::with_capacity(BATCH_JOBS),
            batch_bytes: 0,
            interrupt,
        };
        for _ in 0..if sys::has_cores() { WRITERS } else { 1 } {
            let (worker, interrupt) = (Worker(files.shared.clone()), files.interrupt.clone());
            let thread = sys::spawn("bl-write", move || worker.run(applier, interrupt));
            files.threads.push(thread.map_err(|e| Error::io(&e, "start a thread"))?);
        }
        Ok(files)
    }

    /// Does a job, soon. An error may be that of an earlier job.
    pub(super) fn submit(&mut self, job: Job) -> Result<()> {
        self.are_pending = true;
        self.batch_bytes = self.batch_bytes.saturating_add(job.bytes());
        self.batch.push(job);
        if self.batch.len() < BATCH_JOBS && self.batch_bytes < BATCH_BYTES {
            return Ok(());
        }
        self.hand_over(MOST_JOBS - BATCH_JOBS)
    }

    /// Waits until every job is done.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.hand_over(0)
    }

    /// Whether there may be jobs that are not done.
    pub(super) fn are_pending(&self) -> bool {
        self.are_pending
    }

    /// What was odd about the jobs that are done.
    pub(super) fn anomalies(&self) -> Anomalies {
        self.shared.lock().anomalies
    }

    /// Hands over what there is, once no more than `most` jobs are pending; with 0 waits until all are done.
    fn hand_over(&mut self, most: usize) -> Result<()> {
        if !self.batch.is_empty() {
            self.shared.lock().pending += self.batch.len();
            self.batch_bytes = 0;
            self.shared.jobs.push(std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH_JOBS)));
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
                self.are_pending = state.pending > 0;
                return Ok(());
            }
            state = self
                .shared
                .progress
                .wait_timeout(state, INTERRUPT_CHECK_INTERVAL)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            self.interrupt.check()?;
        }
    }
}

impl Drop for WritePool {
    fn drop(&mut self) {
        self.shared.jobs.abandon();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl PoolShared {
    fn lock(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Worker(Arc<PoolShared>);

impl Worker {
    fn run(&self, applier: Applier, interrupt: Interrupt) {
        let modes = if sys::leave_umask() { BirthModes::Proven(0) } else { BirthModes::Masked };
        let mut maker = FileMaker::new(applier, modes, interrupt);
        while let Some(batch) = self.0.jobs.pop() {
            let count = batch.len();
            fault::at("bl-write");
            let done = batch.into_iter().try_for_each(|job| match self.0.jobs.is_closed() {
                true => Ok(()),
                false => job.run(&mut maker),
            });
            let mut state = self.0.lock();
            state.pending -= count;
            state.anomalies.insert(maker.anomalies);
            let has_failed = done.is_err();
            state.error = state.error.take().or(done.err());
            drop(state);
            if has_failed {
                // Nobody wants what is left.
                self.0.jobs.abandon();
            }
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
