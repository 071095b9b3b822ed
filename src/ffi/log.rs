//! The log callback: the library's `tracing` events, for hosts that do not speak Rust.

use std::cell::Cell;
use std::ffi::{CString, c_char, c_void};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, Subscriber};
use tracing::{Event, Level, Metadata};

use super::args::{Call, call, invalid};
use super::handles::{bl_error, bl_status};
use crate::error::{Error, Result, Status};

/// Nothing is logged.
pub const BL_LOG_OFF: i32 = 0;
/// Something failed that no call could report.
pub const BL_LOG_ERROR: i32 = 1;
/// Something is odd, and the library went on.
pub const BL_LOG_WARN: i32 = 2;
/// A blob was committed, or a layer extracted.
pub const BL_LOG_INFO: i32 = 3;
/// Details for those who look for a mistake.
pub const BL_LOG_DEBUG: i32 = 4;
/// Everything.
pub const BL_LOG_TRACE: i32 = 5;

/// Receives one log line: its level (BL_LOG_ERROR to BL_LOG_TRACE), the text without a newline, valid during the call
/// only, and the pointer given to bl_set_log_callback(). It may come from any thread, also one of the library's, must
/// return soon, and must not call bl_set_log_callback().
pub type bl_log_callback = Option<unsafe extern "C" fn(level: i32, message: *const c_char, user_data: *mut c_void)>;

/// Sets where log lines go, for the whole process; without a callback, which is how the library begins, or with
/// BL_LOG_OFF they go nowhere. Once this returns, the callback set before is not running and will not be called again.
///
/// @param level the least important level that is wanted, BL_LOG_ERROR to BL_LOG_TRACE.
/// @param callback_data handed to every call of the callback.
///
/// @retval BL_OK
/// @retval BL_E_INVALID_ARGUMENT for an unknown level
/// @retval BL_E_STATE in a Rust program that has set up `tracing` itself, whose subscriber has the lines then
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_set_log_callback(
    level: i32,
    callback: bl_log_callback,
    callback_data: *mut c_void,
    err: *mut *mut bl_error,
) -> bl_status {
    let target = callback.map(|function| Target { function, user_data: callback_data });
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { call(err, move |_: &Call<'_>| set_target(level, target)) }
}

struct Target {
    function: unsafe extern "C" fn(i32, *const c_char, *mut c_void),
    user_data: *mut c_void,
}

// SAFETY: the header asks of the host that its callback, with its pointer, can be called from any thread.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

static LEVEL: AtomicI32 = AtomicI32::new(BL_LOG_OFF);
static TARGET: RwLock<Option<Target>> = RwLock::new(None);

thread_local! {
    /// The callback is running on this thread; what it causes to be logged is dropped.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

fn set_target(level: i32, target: Option<Target>) -> Result<()> {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    if !(BL_LOG_OFF..=BL_LOG_TRACE).contains(&level) {
        return Err(invalid("level", "is not one of BL_LOG_*"));
    }
    if target.is_some() && !*INSTALLED.get_or_init(|| tracing::subscriber::set_global_default(ToCallback).is_ok()) {
        return Err(Error::new(Status::State, "this process has a tracing subscriber of its own"));
    }
    LEVEL.store(if target.is_some() { level } else { BL_LOG_OFF }, Ordering::Release);
    *TARGET.write().unwrap_or_else(PoisonError::into_inner) = target;
    Ok(())
}

struct ToCallback;

impl Subscriber for ToCallback {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        // The level changes while the program runs.
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && level_of(metadata.level()) <= LEVEL.load(Ordering::Acquire)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = LogLine(String::new());
        event.record(&mut line);
        let Ok(text) = CString::new(line.0.replace(['\0', '\n'], " ")) else { return };
        if INSIDE.replace(true) {
            return;
        }
        if let Some(target) = &*TARGET.read().unwrap_or_else(PoisonError::into_inner) {
            // SAFETY: the host vouches for its callback; the text lives until it returns.
            unsafe { (target.function)(level_of(event.metadata().level()), text.as_ptr(), target.user_data) };
        }
        INSIDE.set(false);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn level_of(level: &Level) -> i32 {
    match *level {
        Level::ERROR => BL_LOG_ERROR,
        Level::WARN => BL_LOG_WARN,
        Level::INFO => BL_LOG_INFO,
        Level::DEBUG => BL_LOG_DEBUG,
        Level::TRACE => BL_LOG_TRACE,
    }
}

/// The message, then the other fields as `name=value`.
struct LogLine(String);

impl Visit for LogLine {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
