//! The Tokio runtime of the process: for the network alone, started by the first pull, shared by all stores. Everything
//! that touches a disk runs on plain threads, which wait for what the runtime does in small steps, so that a cancelled
//! call ends soon.

#![forbid(unsafe_code)]

use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;
use crate::sys;

/// How long a waiting call goes without a look at its interrupt.
const LOOK: Duration = Duration::from_millis(25);

struct Started {
    runtime: Runtime,
    /// The count of forks then: a child has none of its threads.
    forks: u64,
}

static STARTED: Mutex<Option<Started>> = Mutex::new(None);

/// The runtime, started where it is not.
pub(crate) fn handle() -> Result<Handle> {
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    match &*started {
        Some(Started { runtime, forks }) if *forks == sys::fork_count() => return Ok(runtime.handle().clone()),
        // Whatever is left of the parent's is not to be torn down here.
        Some(_) => std::mem::forget(started.take()),
        None => {}
    }
    let runtime = sys::spawn("bl-start", || {
        // On a thread of ours: the workers inherit that it blocks all signals.
        Builder::new_multi_thread().worker_threads(1).max_blocking_threads(8).thread_name("bl-net").enable_all().build()
    });
    let fail = |cause: std::io::Error| Error::io(&cause, "start the network threads");
    let runtime = match runtime.map_err(fail)?.join() {
        Ok(runtime) => runtime.map_err(fail)?,
        Err(_) => return Err(Error::new(Status::Internal, "the network threads could not be started")),
    };
    let handle = runtime.handle().clone();
    *started = Some(Started { runtime, forks: sys::fork_count() });
    Ok(handle)
}

/// Waits for something on the network; `None` when that took longer than it may.
pub(crate) fn wait<F: Future>(
    handle: &Handle,
    interrupt: &Interrupt,
    longest: Duration,
    future: F,
) -> Result<Option<F::Output>> {
    let started = Instant::now();
    handle.block_on(async {
        let mut future = pin!(future);
        loop {
            if let Ok(output) = tokio::time::timeout(LOOK, &mut future).await {
                return Ok(Some(output));
            }
            interrupt.check()?;
            if started.elapsed() >= longest {
                return Ok(None);
            }
        }
    })
}
