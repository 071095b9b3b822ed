//! The shapes that most functions have: one store, one digest, one answer; or a path.

use std::ffi::c_char;
use std::path::PathBuf;

use super::args::{Call, call, into_handle};
use super::bytes::bl_bytes;
use super::handles::{bl_error, bl_status, bl_storage};
use crate::digest::Digest;
use crate::error::Result;
use crate::store::Storage;

/// A question about a digest.
///
/// # Safety
/// As for [`call`].
pub(super) unsafe fn answer(
    storage: *const bl_storage,
    digest: *const c_char,
    out: *mut bool,
    err: *mut *mut bl_error,
    ask: impl FnOnce(&Storage, &Digest) -> Result<bool>,
) -> bl_status {
    // SAFETY: by this function's own contract.
    unsafe {
        call(err, |c| {
            let out = c.out(out, "out")?;
            let storage = c.handle(storage, "storage")?;
            out.set(ask(&storage.0, &c.digest(digest, "digest")?)?);
            Ok(())
        })
    }
}

/// Bytes by digest.
///
/// # Safety
/// As for [`call`].
pub(super) unsafe fn give_bytes(
    storage: *const bl_storage,
    digest: *const c_char,
    out: *mut *mut bl_bytes,
    err: *mut *mut bl_error,
    load: impl FnOnce(&Storage, &Digest) -> Result<Vec<u8>>,
) -> bl_status {
    // SAFETY: by this function's own contract.
    unsafe {
        call(err, |c| {
            let out = c.out(out, "out")?;
            let storage = c.handle(storage, "storage")?;
            let bytes = load(&storage.0, &c.digest(digest, "digest")?)?;
            out.set(into_handle(bl_bytes::new(bytes)));
            Ok(())
        })
    }
}

/// A path by digest.
///
/// # Safety
/// As for [`call`].
pub(super) unsafe fn give_path(
    storage: *const bl_storage,
    digest: *const c_char,
    out: *mut *mut bl_bytes,
    err: *mut *mut bl_error,
    path: impl FnOnce(&Storage, &Digest) -> PathBuf,
) -> bl_status {
    let path = |c: &Call<'_>| {
        let storage = c.handle(storage, "storage")?;
        Ok(path(&storage.0, &c.digest(digest, "digest")?))
    };
    // SAFETY: by this function's own contract.
    unsafe { give_path_of(out, err, path) }
}

/// A path of anything else.
///
/// # Safety
/// As for [`call`].
pub(super) unsafe fn give_path_of<'a>(
    out: *mut *mut bl_bytes,
    err: *mut *mut bl_error,
    path: impl FnOnce(&Call<'a>) -> Result<PathBuf>,
) -> bl_status {
    // SAFETY: by this function's own contract.
    unsafe {
        call(err, |c| {
            let out = c.out(out, "out")?;
            out.set(into_handle(bl_bytes::of_path(path(c)?)));
            Ok(())
        })
    }
}
