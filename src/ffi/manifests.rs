//! Manifests.

use std::ffi::{c_char, c_void};

use super::args::call;
use super::bytes::bl_bytes;
use super::handles::{bl_error, bl_status, bl_storage};
use super::helpers::{answer, give_bytes, give_path};
use crate::store::Storage;

/// Stores a manifest or index exactly as given. Saving one that is there is success.
///
/// @param data, len the document, at most 4 MiB.
///
/// @retval BL_OK
/// @retval BL_E_DIGEST_MISMATCH when the bytes do not hash to the digest
/// @retval BL_E_MALFORMED the bytes are no OCI or Docker (schema 2) manifest or index
/// @retval BL_E_UNSUPPORTED another schema or media type
/// @retval BL_E_LIMIT more than 4 MiB, or too deep
/// @retval BL_E_NO_SPACE the disk is full
/// @retval BL_E_PERMISSION the system, or a read-only store, refuses
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// Cost: one small file, synced.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_save_manifest(
    storage: *mut bl_storage,
    digest: *const c_char,
    data: *const c_void,
    len: usize,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let storage = c.handle(storage, "storage")?;
            let digest = c.digest(digest, "digest")?;
            storage.0.save_manifest(&digest, c.bytes(data.cast(), len, "data")?)
        })
    }
}

/// The exact bytes of a stored manifest or index.
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
pub unsafe extern "C" fn bl_load_manifest(
    storage: *const bl_storage,
    digest: *const c_char,
    out: *mut *mut bl_bytes,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { give_bytes(storage, digest, out, err, Storage::load_manifest) }
}

/// Whether bl_load_manifest() would find it.
///
/// @retval BL_OK *out is set
/// @retval BL_E_PERMISSION the system, or a read-only store, refuses
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// Cost: reads and hashes the file.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_has_manifest(
    storage: *const bl_storage,
    digest: *const c_char,
    out: *mut bool,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { answer(storage, digest, out, err, Storage::has_manifest) }
}

/// Where a manifest is, or would be.
///
/// @retval BL_OK
/// @retval BL_E_INVALID_ARGUMENT an argument that cannot be
///
/// Ownership: release *out with bl_bytes_free().
/// Cost: none.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_manifest_path(
    storage: *const bl_storage,
    digest: *const c_char,
    out: *mut *mut bl_bytes,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { give_path(storage, digest, out, err, Storage::manifest_path) }
}
