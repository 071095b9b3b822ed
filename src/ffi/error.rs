//! Statuses and errors.

use std::ffi::{CString, c_char, c_int};

use super::args;
use super::handles::{BL_OK, bl_error, bl_status};
use crate::error::Status;

fn text_of(error: *const bl_error, field: impl Fn(&bl_error) -> &CString) -> *const c_char {
    // SAFETY: the caller passes NULL or a live bl_error.
    unsafe { args::borrow_handle(error) }.map_or(c"".as_ptr(), |error| field(error).as_ptr())
}

/// The name of a status: "OK", "DIGEST_MISMATCH"; "UNKNOWN" for a number that this version does not define.
///
/// @return a static string, never NULL.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub extern "C" fn bl_status_name(status: bl_status) -> *const c_char {
    match Status::from_code(status) {
        Some(status) => status.c_name().as_ptr(),
        None if status == BL_OK => c"OK".as_ptr(),
        None => c"UNKNOWN".as_ptr(),
    }
}

/// The error's status, the same that the failed call returned; BL_OK for NULL.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_error_status(error: *const bl_error) -> bl_status {
    // SAFETY: the caller passes NULL or a live bl_error.
    unsafe { args::borrow_handle(error) }.map_or(BL_OK, |error| error.status)
}

/// One line that names the object, says what went wrong and gives the whole cause. For people; not to be parsed.
///
/// @return a string that lives as long as the error; "" for NULL.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_error_message(error: *const bl_error) -> *const c_char {
    text_of(error, |error| &error.message)
}

/// The operating system's error number (errno) where one was the cause, else 0; also 0 for failures of the network.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_error_os_errno(error: *const bl_error) -> c_int {
    // SAFETY: the caller passes NULL or a live bl_error.
    unsafe { args::borrow_handle(error) }.map_or(0, |error| error.os_errno)
}

/// The HTTP status where a registry's answer was the cause, else 0.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_error_http_status(error: *const bl_error) -> c_int {
    // SAFETY: the caller passes NULL or a live bl_error.
    unsafe { args::borrow_handle(error) }.map_or(0, |error| error.http_status)
}

/// The registry's own error code ("MANIFEST_UNKNOWN") where it gave one, else "".
///
/// @return a string that lives as long as the error.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_error_registry_code(error: *const bl_error) -> *const c_char {
    text_of(error, |error| &error.registry_code)
}

/// The digest that the bytes were to have, for BL_E_DIGEST_MISMATCH, else "".
///
/// @return a string that lives as long as the error.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_error_expected_digest(error: *const bl_error) -> *const c_char {
    text_of(error, |error| &error.expected_digest)
}

/// The digest that the bytes have, for BL_E_DIGEST_MISMATCH, else "".
///
/// @return a string that lives as long as the error.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_error_actual_digest(error: *const bl_error) -> *const c_char {
    text_of(error, |error| &error.actual_digest)
}

/// Whether the same call may succeed later, without a change to its arguments.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_error_retryable(error: *const bl_error) -> bool {
    // SAFETY: the caller passes NULL or a live bl_error.
    unsafe { args::borrow_handle(error) }.is_some_and(|error| error.is_retryable)
}

/// Frees an error. NULL is a no-op.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_error_free(error: *mut bl_error) {
    // SAFETY: the caller passes NULL or a bl_error that it has not freed.
    unsafe { args::free(error) }
}
