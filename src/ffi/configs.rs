//! Image configs.

use std::ffi::c_char;

use super::args::{call, into_handle};
use super::bytes::bl_bytes;
use super::handles::{bl_error, bl_status, bl_storage};
use super::helpers::{answer, give_bytes, give_path};
use super::staged::bl_staged;
use crate::store::Storage;

/// Starts to store an image config, of at most 4 MiB. As bl_stage_layer() otherwise.
///
/// @retval BL_OK
/// @retval BL_E_PERMISSION for a read-only store
/// @retval BL_E_NO_SPACE the disk is full
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// Ownership: release *out with bl_staged_free().
/// Cost: creates a file.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_stage_config(
    storage: *mut bl_storage,
    digest: *const c_char,
    out: *mut *mut bl_staged,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let out = c.out(out, "out")?;
            let storage = c.handle(storage, "storage")?;
            let staged = storage.0.stage_config(&c.digest(digest, "digest")?)?;
            out.set(into_handle(bl_staged::new(staged)));
            Ok(())
        })
    }
}

/// The exact bytes of a stored config.
///
/// @retval BL_OK
/// @retval BL_E_NOT_FOUND when it is absent, or its file does not hash to its name
/// @retval BL_E_PERMISSION the system, or a read-only store, refuses
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// Ownership: release *out with bl_bytes_free().
/// Cost: reads and hashes the file.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_load_config(
    storage: *const bl_storage,
    digest: *const c_char,
    out: *mut *mut bl_bytes,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { give_bytes(storage, digest, out, err, Storage::load_config) }
}

/// Whether bl_load_config() would find it.
///
/// @retval BL_OK *out is set
/// @retval BL_E_PERMISSION the system, or a read-only store, refuses
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// Cost: reads and hashes the file.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_has_config(
    storage: *const bl_storage,
    digest: *const c_char,
    out: *mut bool,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { answer(storage, digest, out, err, Storage::has_config) }
}

/// Where a config is, or would be.
///
/// @retval BL_OK
/// @retval BL_E_INVALID_ARGUMENT an argument that cannot be
///
/// Ownership: release *out with bl_bytes_free().
/// Cost: none.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_config_path(
    storage: *const bl_storage,
    digest: *const c_char,
    out: *mut *mut bl_bytes,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { give_path(storage, digest, out, err, Storage::config_path) }
}
