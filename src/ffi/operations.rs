//! Pulls that run by themselves, for hosts with an event loop; and the end of all of them.

use std::ffi::{c_char, c_int};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Duration;

use super::args::{borrow_handle, call, free, into_handle};
use super::handles::{bl_error, bl_status, bl_storage};
use super::images::bl_image;
use super::pull::{bl_pull_options, pull_options};
use super::pull_progress::{bl_pull_layers, bl_pull_progress};
use crate::pull::PullOperation;

/// A pull that runs by itself. Any thread may use it, several at once too, except for bl_op_free().
pub struct bl_op {
    operation: PullOperation,
    layers: bl_pull_layers,
}

/// Starts bl_pull() on a thread of the library's. bl_op_fd() tells when it is over, bl_op_finish() how it ended.
///
/// @param options as for bl_pull(), but for a progress callback, for which there is no thread; options.credentials is
///   called before this function returns. Nothing of them is used after that but options.cancel, which counts as given.
///
/// @retval BL_OK
/// @retval BL_E_INVALID_ARGUMENT for arguments and options
/// @retval BL_E_UNSUPPORTED for arguments and options
/// @retval BL_E_NOT_FOUND with BL_PULL_POLICY_NEVER
/// @retval BL_E_CALLBACK the callback ended it
/// @retval BL_E_MALFORMED for a hosts.toml
/// @retval BL_E_IO for a hosts.toml
/// @retval BL_E_PERMISSION for a store that is open for reading only
///
/// @note What happens later is for bl_op_finish().
///
/// Ownership: release *out with bl_op_free().
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_pull_start(
    storage: *mut bl_storage,
    reference: *const c_char,
    options: *const bl_pull_options,
    out: *mut *mut bl_op,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let out = c.out(out, "out")?;
            let storage = c.handle(storage, "storage")?;
            let reference = c.text(reference, "reference")?;
            let options = pull_options(c, c.options(options, "options")?)?;
            let operation = storage.0.start_pull(reference, &options)?;
            let layers = bl_pull_layers::new(operation.tracker()?.clone());
            out.set(into_handle(bl_op { operation, layers }));
            Ok(())
        })
    }
}

/// A descriptor that becomes readable when the operation is over, and stays so: for poll, epoll, kqueue and everything
/// on top of them. Do not read from it, do not close it; it is valid until bl_op_free(). -1 for NULL.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_op_fd(op: *const bl_op) -> c_int {
    // SAFETY: the caller passes NULL or a live bl_op.
    unsafe { borrow_handle(op) }.map_or(-1, |op| op.operation.as_fd().as_raw_fd())
}

/// Waits until the operation is over.
///
/// @param timeout_ms how long at most; 0 only looks, less than 0 is without an end.
/// @param finished whether it is over.
///
/// @retval BL_OK also when it is not over
/// @retval BL_E_INVALID_ARGUMENT an argument that cannot be
/// @retval BL_E_FORKED the process was forked since
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_op_wait(
    op: *const bl_op,
    timeout_ms: i64,
    finished: *mut bool,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let finished = c.out(finished, "finished")?;
            let op = c.handle(op, "op")?;
            finished.set(op.operation.wait(u64::try_from(timeout_ms).ok().map(Duration::from_millis))?);
            Ok(())
        })
    }
}

/// How far the operation came, at this moment.
///
/// @param progress its each_layer is valid until bl_op_free().
///
/// @retval BL_OK
/// @retval BL_E_INVALID_ARGUMENT an argument that cannot be
/// @retval BL_E_FORKED the process was forked since
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_op_progress(
    op: *const bl_op,
    progress: *mut bl_pull_progress,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let progress = c.required_result(progress, "progress")?;
            let op = c.handle(op, "op")?;
            op.operation.tracker()?;
            progress.set(&op.layers.progress());
            Ok(())
        })
    }
}

/// Ends the pull within 100 ms, with BL_E_CANCELLED, unless it is over before. NULL is a no-op.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_op_cancel(op: *mut bl_op) {
    // SAFETY: the caller passes NULL or a live bl_op.
    if let Some(op) = unsafe { borrow_handle(op) } {
        op.operation.cancel();
    }
}

/// How the operation ended: its image, or its error. Once: who comes second gets BL_E_STATE.
///
/// @retval BL_OK
/// @retval BL_E_BUSY when it is not over
/// @retval BL_E_STATE when it was asked before
/// @retval BL_E_INVALID_ARGUMENT an argument that cannot be
/// @retval BL_E_FORKED the process was forked since
/// @return everything that bl_pull() returns
///
/// Ownership: release *out with bl_image_free().
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_op_finish(op: *mut bl_op, out: *mut *mut bl_image, err: *mut *mut bl_error) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let out = c.out(out, "out")?;
            let image = c.handle(op, "op")?.operation.finish()?;
            out.set(into_handle(bl_image::new(image)?));
            Ok(())
        })
    }
}

/// Frees an operation. One that still runs is cancelled, and waited for. NULL is a no-op.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_op_free(op: *mut bl_op) {
    // SAFETY: the caller passes NULL or a bl_op that it has not freed.
    unsafe { free(op) }
}

/// Ends what the library does on the network in this process: pulls that run end with BL_E_CANCELLED, then its network
/// threads end. With this, and its stores closed, a host has no thread of ours left, before it forks, say. The next
/// pull starts them again. Not from a callback of a pull, which would wait for itself.
///
/// @param timeout_ms how long to wait for them; 0 only tells them.
///
/// @retval BL_OK
/// @retval BL_E_TIMEOUT when pulls have not ended by then: call again
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_shutdown(timeout_ms: u64, err: *mut *mut bl_error) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { call(err, |_| crate::runtime::shutdown(Duration::from_millis(timeout_ms))) }
}
