//! Questions about several blobs, and the cache of local bundles.

use std::ffi::c_char;

use super::args::call;
use super::bytes::bl_bytes;
use super::handles::{bl_error, bl_status, bl_storage};
use super::helpers::give_path_of;

/// Whether the blobs of all of these layers are in the store; true for none.
///
/// @param digests, count an array of strings.
///
/// @retval BL_OK *out is set
/// @retval BL_E_PERMISSION the system, or a read-only store, refuses
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// Cost: a look at the directory for each.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_verify_blobs_exist(
    storage: *const bl_storage,
    digests: *const *const c_char,
    count: usize,
    out: *mut bool,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let out = c.out(out, "out")?;
            let storage = c.handle(storage, "storage")?;
            out.set(storage.0.verify_blobs_exist(&c.digests(digests, count, "digests")?)?);
            Ok(())
        })
    }
}

/// The cache folder in the store for an OCI bundle that the host uses in place. There is one for each bundle, by its
/// real path, and state, by its manifest's digest: no bundle can serve for another. The folder is not created.
///
/// @param bundle_path an existing file or directory.
///
/// @retval BL_OK
/// @retval BL_E_NOT_FOUND when the bundle does not exist
/// @retval BL_E_PERMISSION the system, or a read-only store, refuses
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// Ownership: release *out with bl_bytes_free().
/// Cost: resolves the path.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_local_bundle_cache_dir(
    storage: *const bl_storage,
    bundle_path: *const c_char,
    manifest_digest: *const c_char,
    out: *mut *mut bl_bytes,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        give_path_of(out, err, |c| {
            let storage = c.handle(storage, "storage")?;
            let bundle_path = c.path(bundle_path, "bundle_path")?;
            storage.0.local_bundle_cache_dir(bundle_path, &c.digest(manifest_digest, "manifest_digest")?)
        })
    }
}
