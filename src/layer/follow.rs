//! A layer's file while somebody else writes it: how far that came, and how it ended.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::digest::Digest;
use crate::error::Result;
use crate::interrupt::Interrupt;

/// How long a reader waits before it looks at its interrupt again.
const INTERRUPT_CHECK_INTERVAL: Duration = Duration::from_millis(25);

/// How far a file came. The writer tells it, a reader waits for it.
#[derive(Debug, Default)]
pub(crate) struct GrowingBlob {
    state: Mutex<GrowthState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GrowthState {
    bytes: u64,
    /// The digest that the whole file was found to have, or why there is none.
    end: Option<Result<Digest>>,
}

/// What a reader may do.
#[derive(Debug)]
pub(super) enum Growth {
    /// Read on.
    More,
    /// There are no more; this is what they hash to.
    End(Digest),
}

impl GrowingBlob {
    /// So many bytes more are in the file.
    #[cfg(feature = "pull")]
    pub(crate) fn grow(&self, bytes: u64) {
        self.lock().bytes += bytes;
        self.changed.notify_all();
    }

    /// Nothing more comes. What was said first holds.
    #[cfg(feature = "pull")]
    pub(crate) fn finish(&self, end: Result<Digest>) {
        self.lock().end.get_or_insert(end);
        self.changed.notify_all();
    }

    /// Waits until there is more than was read.
    pub(super) fn wait(&self, read: u64, interrupt: &Interrupt) -> Result<Growth> {
        let mut state = self.lock();
        loop {
            if state.bytes > read {
                return Ok(Growth::More);
            }
            match &state.end {
                Some(Ok(digest)) => return Ok(Growth::End(digest.clone())),
                Some(Err(error)) => return Err(error.clone()),
                None => {}
            }
            interrupt.check()?;
            state =
                self.changed.wait_timeout(state, INTERRUPT_CHECK_INTERVAL).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, GrowthState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
