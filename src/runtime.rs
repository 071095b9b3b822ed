//! The Tokio runtime of the process: for the network alone, started by the first pull, shared by
//! all stores. Everything that touches a disk runs on plain threads. They wait for what the runtime
//! does in small steps, so that a cancelled call ends soon. Whatever writes to a connection runs on
//! the runtime's threads, where a peer that is gone is no signal.

#![forbid(unsafe_code)]

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use crate::error::{Error, Result, Status};
use crate::interrupt::{Cancel, Interrupt};
use crate::sys;

/// How long a waiting call goes without a look at its interrupt.
const INTERRUPT_CHECK_INTERVAL: Duration = Duration::from_millis(10);

struct Started {
    runtime: Runtime,
    /// The count of forks then: a child has none of its threads.
    forks: u64,
    /// Ends whatever uses it.
    stop: Cancel,
    users: Arc<Users>,
}

/// Who uses the runtime.
#[derive(Default)]
struct Users {
    count: Mutex<usize>,
    changed: Condvar,
    /// The runtime, where it is for them alone any more.
    left: Mutex<Option<Runtime>>,
}

impl Users {
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a runtime that was left to the users, with the last of them.
    fn end_if(&self, is_last: bool) {
        if is_last && let Some(runtime) = self.left.lock().unwrap_or_else(PoisonError::into_inner).take() {
            runtime.shutdown_background();
        }
    }
}

static STARTED: Mutex<Option<Started>> = Mutex::new(None);

fn started() -> MutexGuard<'static, Option<Started>> {
    STARTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The use of the runtime, for the time of a call.
pub(crate) struct Network {
    handle: Handle,
    stop: Cancel,
    users: Arc<Users>,
}

impl Network {
    /// Starts the runtime where it is not.
    pub(crate) fn enter() -> Result<Network> {
        let mut started = started();
        if started.as_ref().is_some_and(|started| started.forks != sys::fork_count()) {
            // Whatever is left of the parent's is not to be torn down here.
            std::mem::forget(started.take());
        }
        // One that is to end takes no more users: it ends with those it has.
        if let Some(Started { runtime, users, .. }) = started.take_if(|started| started.stop.is_triggered()) {
            let count = users.lock();
            *users.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(runtime);
            users.end_if(*count == 0);
        }
        if started.is_none() {
            let (stop, users) = (Cancel::new(), Arc::default());
            *started = Some(Started { runtime: start()?, forks: sys::fork_count(), stop, users });
        }
        let Some(started) = &*started else { return Err(Error::new(Status::Internal, "the network did not start")) };
        *started.users.lock() += 1;
        let (handle, stop) = (started.runtime.handle().clone(), started.stop.clone());
        Ok(Network { handle, stop, users: started.users.clone() })
    }

    /// Triggered when the runtime is to end.
    pub(crate) fn stop(&self) -> &Cancel {
        &self.stop
    }

    /// Runs something on the runtime and waits for it; `None` when that took longer than it may.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        interrupt: &Interrupt,
        longest: Duration,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<Option<T>> {
        let mut task = Task(self.handle.spawn(future));
        match self.wait(interrupt, longest, &mut task.0)? {
            Some(Ok(output)) => Ok(Some(output)),
            Some(Err(_)) => {
                interrupt.check()?;
                Err(Error::new(Status::Internal, "a task on the network died"))
            }
            None => Ok(None),
        }
    }

    /// Waits for something that only reads what the runtime has for it; `None` when that took longer than it may.
    pub(crate) fn wait<F: Future>(
        &self,
        interrupt: &Interrupt,
        longest: Duration,
        future: F,
    ) -> Result<Option<F::Output>> {
        // Here too: what is always ready in time would never be interrupted.
        interrupt.check()?;
        let started = Instant::now();
        self.handle.block_on(async {
            let mut future = pin!(future);
            loop {
                if let Ok(output) = tokio::time::timeout(INTERRUPT_CHECK_INTERVAL, &mut future).await {
                    return Ok(Some(output));
                }
                interrupt.check()?;
                if started.elapsed() >= longest {
                    return Ok(None);
                }
            }
        })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let mut count = self.users.lock();
        *count -= 1;
        self.users.end_if(*count == 0);
        self.users.changed.notify_all();
    }
}

/// A task that ends with whoever waits for it.
struct Task<T>(JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn start() -> Result<Runtime> {
    let runtime = sys::spawn("bl-start", || {
        // On a thread of ours: the workers inherit that it blocks all signals.
        Builder::new_multi_thread().worker_threads(1).max_blocking_threads(8).thread_name("bl-net").enable_all().build()
    });
    let fail = |cause: std::io::Error| Error::io(&cause, "start the network threads");
    match runtime.map_err(fail)?.join() {
        Ok(runtime) => runtime.map_err(fail),
        Err(_) => Err(Error::new(Status::Internal, "the network threads could not be started")),
    }
}

/// Ends what the library does on the network, in this process: pulls that run end with `CANCELLED`, then the network
/// threads end. The next pull starts them again. `TIMEOUT` when that took longer than `timeout`: what is left ends by
/// itself, and another call waits for it.
pub fn shutdown(timeout: Duration) -> Result<()> {
    let began = Instant::now();
    let (stop, users) = {
        let mut started = started();
        match &*started {
            None => return Ok(()),
            Some(started_in) if started_in.forks != sys::fork_count() => {
                std::mem::forget(started.take());
                return Ok(());
            }
            Some(started) => (started.stop.clone(), started.users.clone()),
        }
    };
    stop.trigger();
    let mut count = users.lock();
    while *count > 0 {
        let left = timeout.saturating_sub(began.elapsed());
        if left.is_zero() {
            return Err(Error::new(Status::Timeout, format!("{} pulls have not ended in {timeout:?}", *count)));
        }
        count = users.changed.wait_timeout(count, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    drop(count);
    // Unless somebody else did it, or has begun anew.
    let ended = started().take_if(|started| Arc::ptr_eq(&started.users, &users) && *started.users.lock() == 0);
    if let Some(Started { runtime, .. }) = ended {
        runtime.shutdown_timeout(timeout.saturating_sub(began.elapsed()));
    }
    Ok(())
}
