//! The handles that most calls have: what they are made of, apart from what can be done with them.

use std::ffi::{CString, c_int};

use crate::error::Error;
use crate::interrupt::Cancel;
use crate::store::Storage;

/// The type of every status. The values are generated from the table in `status.rs`.
pub type bl_status = i32;

/// Success.
pub const BL_OK: bl_status = 0;

/// Why a call failed. Owned by the caller, immutable, free of any handle; release it with bl_error_free().
pub struct bl_error {
    pub(super) status: bl_status,
    pub(super) message: CString,
    pub(super) os_errno: c_int,
    pub(super) http_status: c_int,
    pub(super) registry_code: CString,
    pub(super) expected_digest: CString,
    pub(super) actual_digest: CString,
    pub(super) is_retryable: bool,
}

impl bl_error {
    pub(super) fn new(error: &Error) -> bl_error {
        bl_error {
            status: error.status() as bl_status,
            message: c_string(error.message()),
            os_errno: error.os_errno().unwrap_or(0),
            http_status: error.http_status().map_or(0, c_int::from),
            registry_code: c_string(error.registry_code().unwrap_or_default()),
            expected_digest: c_string(error.expected_digest().unwrap_or_default()),
            actual_digest: c_string(error.actual_digest().unwrap_or_default()),
            is_retryable: error.is_retryable(),
        }
    }
}

fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "\\0")).unwrap_or_default()
}

/// A token that ends long calls early. Any number of calls may share one; free it when they have returned. It cannot be
/// reset: take a new one.
pub struct bl_cancel(pub(super) Cancel);

/// An open image store. Any number of threads may use one at a time, and any number of processes the same directory.
pub struct bl_storage(pub(super) Storage);
