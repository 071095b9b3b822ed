//! Leases: what a host holds without a name.

use std::ffi::{CString, c_char};
use std::time::Duration;

use super::args::{borrow_handle, call, free, into_handle, invalid};
use super::handles::{bl_error, bl_status, bl_storage};
use crate::error::{Error, Result, Status};
use crate::store::Lease;

/// A hold on objects of a store, with a time after which it ends. It lives in the store, not in the process: freeing the
/// handle leaves it, and another process can open it by its id. It may be used by several threads at once.
pub struct bl_lease {
    lease: Lease,
    id: CString,
}

impl bl_lease {
    pub(super) fn new(lease: Lease) -> Result<bl_lease> {
        let id = CString::new(lease.id()).map_err(|_| Error::new(Status::Internal, "a lease's id with a NUL"))?;
        Ok(bl_lease { lease, id })
    }
}

fn time(seconds: u64) -> Result<Duration> {
    match seconds {
        0 => Err(invalid("seconds", "is 0")),
        seconds => Ok(Duration::from_secs(seconds)),
    }
}

/// Makes a lease, which holds nothing yet. bl_gc() leaves alone what it holds, until its time or bl_lease_release().
///
/// @param seconds from now; 1 or more.
///
/// @retval BL_OK
/// @retval BL_E_NO_SPACE the disk is full
/// @retval BL_E_PERMISSION the system, or a read-only store, refuses
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// Ownership: release *out with bl_lease_free(), which does not end the lease.
/// Cost: one small file, synced.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_lease_create(
    storage: *mut bl_storage,
    seconds: u64,
    out: *mut *mut bl_lease,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let out = c.out(out, "out")?;
            let storage = c.handle(storage, "storage")?;
            out.set(into_handle(bl_lease::new(storage.0.create_lease(time(seconds)?)?)?));
            Ok(())
        })
    }
}

/// Opens a lease that was made earlier, perhaps by another process.
///
/// @retval BL_OK
/// @retval BL_E_NOT_FOUND where it has ended
/// @retval BL_E_INVALID_ARGUMENT for what is no id
/// @retval BL_E_PERMISSION the system, or a read-only store, refuses
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// Ownership: release *out with bl_lease_free().
/// Cost: reads a small file.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_lease_open(
    storage: *mut bl_storage,
    id: *const c_char,
    out: *mut *mut bl_lease,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let out = c.out(out, "out")?;
            let storage = c.handle(storage, "storage")?;
            out.set(into_handle(bl_lease::new(storage.0.open_lease(c.text(id, "id")?)?)?));
            Ok(())
        })
    }
}

/// What bl_lease_open() takes. Valid until bl_lease_free().
///
/// @return NULL for NULL.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_lease_id(lease: *const bl_lease) -> *const c_char {
    // SAFETY: the caller passes NULL or a live handle.
    unsafe { borrow_handle(lease) }.map_or(std::ptr::null(), |lease| lease.id.as_ptr())
}

/// Holds an object, which need not be in the store yet. A manifest, once it is there, holds its config and layers, and
/// their trees. Hold first and look afterwards: what is there then stays.
///
/// @retval BL_OK
/// @retval BL_E_NOT_FOUND where the lease has ended
/// @retval BL_E_LIMIT after some ten thousand digests
/// @retval BL_E_NO_SPACE the disk is full
/// @retval BL_E_PERMISSION the system, or a read-only store, refuses
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// Cost: one small file, synced; waits for a collection in progress.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_lease_hold(
    lease: *mut bl_lease,
    digest: *const c_char,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { call(err, |c| c.handle(lease, "lease")?.lease.hold(&c.digest(digest, "digest")?)) }
}

/// Lets a lease end that many seconds from now, later or earlier than before.
///
/// @retval BL_OK
/// @retval BL_E_NOT_FOUND where it has ended
/// @retval BL_E_NO_SPACE the disk is full
/// @retval BL_E_PERMISSION the system, or a read-only store, refuses
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// Cost: as bl_lease_hold().
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_lease_extend(lease: *mut bl_lease, seconds: u64, err: *mut *mut bl_error) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { call(err, |c| c.handle(lease, "lease")?.lease.extend(time(seconds)?)) }
}

/// Ends a lease now. One that has ended is no error. The handle is still to be freed.
///
/// @retval BL_OK
/// @retval BL_E_PERMISSION the system, or a read-only store, refuses
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// Cost: one file, synced.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_lease_release(lease: *mut bl_lease, err: *mut *mut bl_error) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { call(err, |c| c.handle(lease, "lease")?.lease.release()) }
}

/// Frees the handle; the lease lives on. NULL is a no-op.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_lease_free(lease: *mut bl_lease) {
    // SAFETY: the caller passes NULL or a handle of its own.
    unsafe { free(lease) }
}
