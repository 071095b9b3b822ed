//! A pull that runs by itself, for hosts with an event loop. It has a descriptor that becomes
//! readable when it is over, and calls that do not wait.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::options::PullOptions;
use super::progress::PullTracker;
use crate::error::{Error, Result, Status};
use crate::fault;
use crate::image::Image;
use crate::interrupt::Cancel;
use crate::store::Storage;
use crate::sys;

/// A pull that runs by itself. Dropping it cancels it, and waits until it has ended.
#[derive(Debug)]
pub struct PullOperation {
    shared: Arc<OperationShared>,
    /// Readable when the pull is over.
    readable: OwnedFd,
    cancel: Cancel,
    tracker: PullTracker,
    thread: Option<std::thread::JoinHandle<()>>,
    forks: u64,
}

#[derive(Debug)]
struct OperationShared {
    state: Mutex<OperationState>,
    changed: Condvar,
    /// The other end of what is readable; open as long as that, since some take a closed one for an error.
    writable: OwnedFd,
}

#[derive(Debug, Default)]
enum OperationState {
    #[default]
    Running,
    Over(Box<Result<Image>>),
    Taken,
}

impl OperationShared {
    fn lock(&self) -> MutexGuard<'_, OperationState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage {
    /// Starts [`Storage::pull`] on a thread of its own. The credentials callback is called here,
    /// before this returns. A progress callback would have no thread of the caller's to be called
    /// on and is `INVALID_ARGUMENT`: [`PullOperation::tracker`] tells.
    pub fn start_pull(&self, reference: &str, options: &PullOptions) -> Result<PullOperation> {
        if options.progress.is_some() {
            let why = "a pull that runs by itself has no thread for a progress callback";
            return Err(Error::new(Status::InvalidArgument, why));
        }
        let (cancel, tracker) = (Cancel::new(), PullTracker::default());
        let mut options = options.clone();
        options.interrupt = options.interrupt.also(&cancel);
        let prepared = self.prepare_pull(reference, options, tracker.clone())?;
        let (readable, writable) = sys::pipe().map_err(|errno| Error::os(errno, "make a pipe"))?;
        let shared = Arc::new(OperationShared { state: Mutex::default(), changed: Condvar::new(), writable });
        let body = {
            let shared = shared.clone();
            move || {
                // Whatever happens, whoever waits is told.
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    fault::at("bl-op");
                    prepared.run()
                }));
                let died = || Error::new(Status::Internal, "the thread of a pull died");
                let result = result.unwrap_or_else(|_| Err(died()));
                *shared.lock() = OperationState::Over(Box::new(result));
                shared.changed.notify_all();
                let _ = rustix::io::write(&shared.writable, b"\n");
            }
        };
        let thread = sys::spawn("bl-op", body).map_err(|cause| Error::io(&cause, "start a thread"))?;
        Ok(PullOperation { shared, readable, cancel, tracker, thread: Some(thread), forks: sys::fork_count() })
    }
}

impl PullOperation {
    /// Waits until it is over, or so long; whether it is over.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        self.check_not_forked()?;
        let started = Instant::now();
        let mut state = self.shared.lock();
        while matches!(*state, OperationState::Running) {
            let left = timeout.map(|timeout| timeout.saturating_sub(started.elapsed()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(false);
            }
            // Not for ever, so that a clock that steps does no harm.
            let left = left.unwrap_or(Duration::from_secs(60)).min(Duration::from_secs(60));
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(true)
    }

    /// How far it came.
    pub fn tracker(&self) -> Result<&PullTracker> {
        self.check_not_forked().map(|()| &self.tracker)
    }

    /// Ends it soon, with `CANCELLED`, unless it is over before.
    pub fn cancel(&self) {
        self.cancel.trigger();
    }

    /// The image, or why there is none; once. `BUSY` as long as it runs, `STATE` when it was asked before.
    pub fn finish(&self) -> Result<Image> {
        self.check_not_forked()?;
        let mut state = self.shared.lock();
        match std::mem::replace(&mut *state, OperationState::Taken) {
            OperationState::Running => {
                *state = OperationState::Running;
                Err(Error::new(Status::Busy, "the pull is still running"))
            }
            OperationState::Over(result) => *result,
            OperationState::Taken => Err(Error::new(Status::State, "the pull was finished before")),
        }
    }

    fn check_not_forked(&self) -> Result<()> {
        if self.forks == sys::fork_count() {
            return Ok(());
        }
        Err(Error::new(Status::Forked, "the pull is the parent process's"))
    }
}

impl AsFd for PullOperation {
    /// Readable when the pull is over, and from then on. Wait for it; do not read from it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }
}

impl Drop for PullOperation {
    fn drop(&mut self) {
        // In a forked child the thread is not there.
        if self.forks != sys::fork_count() {
            return std::mem::forget(self.thread.take());
        }
        self.cancel.trigger();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
