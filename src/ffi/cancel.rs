//! Cancel tokens.

use super::args::{borrow_handle, call, free, into_handle};
use super::handles::{bl_cancel, bl_error, bl_status};
use crate::interrupt::Cancel;

/// Makes a token that has not been triggered.
///
/// @retval BL_OK
/// @retval BL_E_INVALID_ARGUMENT an argument that cannot be
///
/// Ownership: release *out with bl_cancel_free().
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_cancel_new(out: *mut *mut bl_cancel, err: *mut *mut bl_error) -> bl_status {
    let body = |c: &super::args::Call<'_>| {
        c.out(out, "out")?.set(into_handle(bl_cancel(Cancel::new())));
        Ok(())
    };
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { call(err, body) }
}

/// Ends every call that has this token, running or to come, with BL_E_CANCELLED within 100 ms. Safe in a signal handler
/// and from any thread. NULL is a no-op.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_cancel_trigger(cancel: *mut bl_cancel) {
    // SAFETY: the caller passes NULL or a live bl_cancel.
    if let Some(cancel) = unsafe { borrow_handle(cancel) } {
        cancel.0.trigger();
    }
}

/// Whether the token was triggered; false for NULL.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_cancel_is_triggered(cancel: *const bl_cancel) -> bool {
    // SAFETY: the caller passes NULL or a live bl_cancel.
    unsafe { borrow_handle(cancel) }.is_some_and(|cancel| cancel.0.is_triggered())
}

/// Frees a token. NULL is a no-op.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_cancel_free(cancel: *mut bl_cancel) {
    // SAFETY: the caller passes NULL or a bl_cancel that it has not freed.
    unsafe { free(cancel) }
}
