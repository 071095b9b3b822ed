//! Layers.

use std::ffi::c_char;

use super::args::{SizedStruct, call, into_handle};
use super::bytes::bl_bytes;
use super::handles::{bl_cancel, bl_error, bl_status, bl_storage};
use super::helpers::{answer, give_path};
use super::staged::bl_staged;
use crate::store::Storage;
use crate::store::VerifyOptions;

/// How to verify a layer. Zero in a field is its default; initialise with BL_VERIFY_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_verify_options {
    /// sizeof(bl_verify_options).
    pub struct_size: usize,
    /// Ends the call early; may be NULL.
    pub cancel: *mut bl_cancel,
    /// Milliseconds after which the call ends with BL_E_TIMEOUT; 0 is never.
    pub timeout_ms: u64,
}

// SAFETY: integers and pointers only.
unsafe impl SizedStruct for bl_verify_options {}

/// Whether a layer's blob is in the store.
///
/// @retval BL_OK *out is set
/// @retval BL_E_PERMISSION the system, or a read-only store, refuses
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// Cost: one look at the directory.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_has_layer(
    storage: *const bl_storage,
    digest: *const c_char,
    out: *mut bool,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { answer(storage, digest, out, err, Storage::has_layer) }
}

/// Reads a layer's blob and checks that it hashes to its digest.
///
/// @param options NULL for the defaults.
///
/// @retval BL_OK when it does
/// @retval BL_E_DIGEST_MISMATCH when it does not
/// @retval BL_E_NOT_FOUND it is not there
/// @retval BL_E_CANCELLED the token was triggered
/// @retval BL_E_TIMEOUT the time was over
/// @retval BL_E_PERMISSION the system, or a read-only store, refuses
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// Cost: reads the whole blob; 256 KiB of memory.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_verify_layer(
    storage: *const bl_storage,
    digest: *const c_char,
    options: *const bl_verify_options,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let storage = c.handle(storage, "storage")?;
            let digest = c.digest(digest, "digest")?;
            let options = c.options(options, "options")?;
            let interrupt = c.interrupt(options.cancel, options.timeout_ms);
            storage.0.verify_layer(&digest, &VerifyOptions::default().interrupt(interrupt))
        })
    }
}

/// Where a layer's blob is, or would be.
///
/// @retval BL_OK
/// @retval BL_E_INVALID_ARGUMENT an argument that cannot be
///
/// Ownership: release *out with bl_bytes_free().
/// Cost: none.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_layer_tarball_path(
    storage: *const bl_storage,
    digest: *const c_char,
    out: *mut *mut bl_bytes,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { give_path(storage, digest, out, err, Storage::layer_tarball_path) }
}

/// Where bl_extract_layer() with default options puts a layer, whether it is there or not. bl_extracted_path() says it
/// for other options.
///
/// @retval BL_OK
/// @retval BL_E_INVALID_ARGUMENT an argument that cannot be
///
/// Ownership: release *out with bl_bytes_free().
/// Cost: none.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_layer_extracted_path(
    storage: *const bl_storage,
    digest: *const c_char,
    out: *mut *mut bl_bytes,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { give_path(storage, digest, out, err, Storage::layer_extracted_path) }
}

/// Starts to store a layer. Write its bytes with bl_write() and make it visible with bl_commit().
///
/// @param expected_size the size that the manifest declares; 0 or less is unknown, then
///   bl_storage_options.max_blob_bytes holds.
///
/// @retval BL_OK
/// @retval BL_E_LIMIT for a declared size over max_blob_bytes
/// @retval BL_E_PERMISSION for a read-only store
/// @retval BL_E_NO_SPACE the disk is full
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// Ownership: release *out with bl_staged_free().
/// Cost: creates a file.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_stage_layer(
    storage: *mut bl_storage,
    digest: *const c_char,
    expected_size: i64,
    out: *mut *mut bl_staged,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let out = c.out(out, "out")?;
            let storage = c.handle(storage, "storage")?;
            let digest = c.digest(digest, "digest")?;
            let size = u64::try_from(expected_size).ok().filter(|&size| size > 0);
            out.set(into_handle(bl_staged::new(storage.0.stage_layer(&digest, size)?)));
            Ok(())
        })
    }
}
