//! Where Rust ends: panics become `INTERNAL`, errors become a status and a `bl_error`.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use super::handles::bl_status;
use crate::error::{Error, Result, Status};

thread_local! {
    /// How many of our calls this thread is inside of.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// Where the last panic on this thread was, for its message.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs the body of a fallible function.
pub(super) fn run(body: impl FnOnce() -> Result<()>) -> Result<()> {
    match contain(body) {
        Ok(result) => result,
        Err(payload) => Err(Error::new(Status::Internal, describe(&*payload))),
    }
}

/// Runs the body of a function that cannot report anything. A panic in it is logged, and gives the default.
pub(super) fn run_infallible<T: Default>(body: impl FnOnce() -> T) -> T {
    contain(body).unwrap_or_else(|payload| {
        tracing::error!("{}", describe(&*payload));
        T::default()
    })
}

pub(super) fn status_of(result: &Result<()>) -> bl_status {
    match result {
        Ok(()) => super::handles::BL_OK,
        Err(error) => error.status() as bl_status,
    }
}

fn contain<T>(body: impl FnOnce() -> T) -> std::thread::Result<T> {
    keep_panics_quiet();
    DEPTH.set(DEPTH.get() + 1);
    // What a panic leaves half changed is inside our handles: they report STATE or are dropped.
    let result = catch_unwind(AssertUnwindSafe(|| {
        crate::fault::at("call");
        body()
    }));
    DEPTH.set(DEPTH.get() - 1);
    result
}

/// A library prints nothing. Panics outside our calls (a Rust host has its own) go where they went before.
fn keep_panics_quiet() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let ours = std::thread::current().name().is_some_and(|name| name.starts_with("bl-"));
            if DEPTH.get() == 0 && !ours {
                return before(info);
            }
            let place = info.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
            PLACE.with(|cell| *cell.borrow_mut() = place);
        }));
    });
}

fn describe(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message");
    format!("internal error: {}{}", crate::error::quoted(text.as_bytes()), PLACE.with(RefCell::take))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_internal_and_says_where() {
        let error = run(|| panic!("broken\n{}", 1)).unwrap_err();
        assert_eq!(error.status(), Status::Internal);
        assert!(error.message().contains(r#""broken\n1" at src/ffi/boundary.rs:"#), "{error}");
        assert_eq!(run_infallible(|| -> u32 { panic!("again") }), 0);
        assert!(run(|| Ok(())).is_ok());
    }
}
