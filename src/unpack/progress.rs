//! Telling a host how far a call came.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::error::{Error, Result, Status};
use crate::layer::Progress;

/// A function that is told of progress, on the thread that called, and that may end the call with `CALLBACK`.
#[derive(Clone)]
pub struct ProgressCallback(Arc<ProgressFn>);

type ProgressFn = dyn Fn(&Progress) -> ControlFlow<()> + Send + Sync;

impl ProgressCallback {
    /// Wraps the function.
    pub fn new(callback: impl Fn(&Progress) -> ControlFlow<()> + Send + Sync + 'static) -> ProgressCallback {
        ProgressCallback(Arc::new(callback))
    }

    /// One that is told of a part, and tells of the whole: so many entries came before.
    pub(crate) fn behind(&self, entries: u64) -> ProgressCallback {
        let callback = self.clone();
        ProgressCallback::new(move |progress| {
            callback.call(&Progress { entries: entries + progress.entries, ..*progress })
        })
    }

    pub(crate) fn call(&self, progress: &Progress) -> ControlFlow<()> {
        (self.0)(progress)
    }

    /// The same; a callback that wants an end is an error.
    pub(crate) fn tell(&self, progress: &Progress) -> Result<()> {
        match self.call(progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::new(Status::Callback, "the progress callback ended the call")),
        }
    }
}

impl fmt::Debug for ProgressCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProgressCallback")
    }
}
