//! How a caller ends a call early: a cancel token that any thread may trigger, and a deadline. Long loops ask
//! [`Interrupt::check`] at every segment and entry, so that they end well within the promised 100 ms.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, Result, Status};

/// A token that ends calls early. Clones share one state; triggering is a single atomic store, so it is safe in a
/// signal handler.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    triggered: Arc<AtomicBool>,
}

impl Cancel {
    /// A token that has not been triggered.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Ends every call that was given this token, and those that will be, with `CANCELLED`.
    pub fn trigger(&self) {
        self.triggered.store(true, Ordering::Release);
    }

    /// Whether [`Cancel::trigger`] was called.
    pub fn is_triggered(&self) -> bool {
        self.triggered.load(Ordering::Acquire)
    }
}

/// What may end a call before its time. The default never does.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    /// Any of them.
    cancels: Vec<Cancel>,
    deadline: Option<Instant>,
}

impl Interrupt {
    /// Ends when `cancel` is triggered, if given, or `timeout` from now has passed, if given.
    pub fn new(cancel: Option<Cancel>, timeout: Option<Duration>) -> Interrupt {
        // A timeout too long for the clock is no timeout.
        Interrupt {
            cancels: cancel.into_iter().collect(),
            deadline: timeout.and_then(|t| Instant::now().checked_add(t)),
        }
    }

    /// One that ends by another token too.
    pub(crate) fn also(&self, cancel: &Cancel) -> Interrupt {
        let mut both = self.clone();
        both.cancels.push(cancel.clone());
        both
    }

    /// `CANCELLED` or `TIMEOUT` once the call is to end.
    pub(crate) fn check(&self) -> Result<()> {
        if self.cancels.iter().any(Cancel::is_triggered) {
            return Err(Error::new(Status::Cancelled, "cancelled by the caller"));
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Error::new(Status::Timeout, "the call's deadline passed"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_out_has_its_status() {
        assert!(Interrupt::default().check().is_ok());
        assert!(Interrupt::new(None, Some(Duration::MAX)).check().is_ok());
        let cancel = Cancel::new();
        let interrupt = Interrupt::new(Some(cancel.clone()), None);
        assert!(interrupt.check().is_ok());
        cancel.trigger();
        assert_eq!(interrupt.check().unwrap_err().status(), Status::Cancelled);
        let late = Interrupt::new(None, Some(Duration::ZERO));
        assert_eq!(late.check().unwrap_err().status(), Status::Timeout);
    }
}
