//! Staged downloads.

use std::ffi::c_void;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError};

use super::args::{borrow_handle, call, free};
use super::bytes::bl_bytes;
use super::handles::{bl_error, bl_status};
use super::helpers::give_path_of;
use crate::digest::Digest;
use crate::error::{Error, Result, Status};
use crate::store::{Staged, StoreDir};

/// A blob that is being written. Nothing of it is visible before bl_commit().
pub struct bl_staged {
    stage: Mutex<Stage>,
    // Beside the lock, so that other threads can watch a writer.
    written: Arc<AtomicU64>,
    digest: Digest,
    staged_path: PathBuf,
    final_path: PathBuf,
    directory: Arc<StoreDir>,
}

/// Committing and aborting take the Rust object; the handle stays, and says what became of it.
enum Stage {
    Open(Staged),
    Committed,
    Aborted,
    Failed(Error),
}

impl Stage {
    /// The download, for a call that ends it.
    fn take(&mut self, digest: &Digest) -> Result<Staged> {
        match std::mem::replace(self, Stage::Aborted) {
            Stage::Open(staged) => Ok(staged),
            ended => {
                *self = ended;
                Err(self.over(digest))
            }
        }
    }

    /// `STATE`: the download is over.
    fn over(&self, digest: &Digest) -> Error {
        let why = match self {
            // A commit after a write that failed says it already.
            Stage::Failed(error) if error.status() == Status::State => return error.clone(),
            Stage::Open(_) => "is open".into(),
            Stage::Committed => "was committed".into(),
            Stage::Aborted => "was aborted".into(),
            Stage::Failed(error) => format!("failed earlier: {}", error.message()),
        };
        Error::new(Status::State, format!("staged download of {digest} {why}"))
    }
}

impl bl_staged {
    pub(super) fn new(staged: Staged) -> bl_staged {
        bl_staged {
            written: staged.progress(),
            digest: staged.digest().clone(),
            staged_path: staged.staged_path().to_owned(),
            final_path: staged.final_path().to_owned(),
            directory: staged.directory().clone(),
            stage: Mutex::new(Stage::Open(staged)),
        }
    }

    /// One thread at a time: bytes of two writers would mix.
    fn with<T>(&self, work: impl FnOnce(&mut Stage) -> Result<T>) -> Result<T> {
        // Before the lock, which another thread may have held at the fork.
        self.directory.check_not_forked()?;
        match self.stage.try_lock() {
            Ok(mut stage) => work(&mut stage),
            Err(TryLockError::WouldBlock) => {
                let why = format!("staged download {}: in use by another thread", self.staged_path.display());
                Err(Error::new(Status::Busy, why))
            }
            Err(TryLockError::Poisoned(_)) => {
                Err(Error::new(Status::State, "staged download: an earlier call ended in an internal error"))
            }
        }
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        self.with(|stage| match stage {
            Stage::Open(staged) => staged.write(data),
            over => Err(over.over(&self.digest)),
        })
    }

    fn commit(&self) -> Result<()> {
        self.with(|stage| {
            let result = stage.take(&self.digest)?.commit();
            *stage = match &result {
                Ok(()) => Stage::Committed,
                Err(error) => Stage::Failed(error.clone()),
            };
            result
        })
    }

    fn abort(&self) -> Result<()> {
        self.with(|stage| match stage {
            Stage::Committed => Err(stage.over(&self.digest)),
            _ => {
                *stage = Stage::Aborted;
                Ok(())
            }
        })
    }
}

/// Appends bytes. They are hashed and written before this returns and are not kept.
///
/// @param data, len the bytes; NULL is allowed for none. To stop early, call bl_abort() or bl_staged_free().
///
/// @retval BL_OK
/// @retval BL_E_SIZE_MISMATCH at the first byte over the declared size
/// @retval BL_E_LIMIT over the store's limit where no size was declared, or over RLIMIT_FSIZE
/// @retval BL_E_NO_SPACE the disk is full
/// @retval BL_E_IO the system failed; bl_error_os_errno()
/// @retval BL_E_STATE after commit, abort or a failure
/// @retval BL_E_BUSY while another thread is in a call with it
///
/// @note A mismatch, a limit, a full disk and a failing one end the download and free its disk space.
///
/// Cost: hashing and one write.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_write(
    staged: *mut bl_staged,
    data: *const c_void,
    len: usize,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let staged = c.handle(staged, "staged")?;
            let data = c.bytes(data.cast(), len, "data")?;
            staged.write(data)
        })
    }
}

/// Verifies size and digest and makes the blob visible, durably unless the store was opened otherwise. That the store
/// has the blob already is success. Does not free the handle.
///
/// @retval BL_OK
/// @retval BL_E_SIZE_MISMATCH fewer bytes than were declared
/// @retval BL_E_DIGEST_MISMATCH other bytes
/// @retval BL_E_NO_SPACE the disk is full
/// @retval BL_E_PERMISSION the system, or a read-only store, refuses
/// @retval BL_E_IO the system failed; bl_error_os_errno()
/// @retval BL_E_STATE after commit, abort or a failure
/// @retval BL_E_BUSY another thread is in a call with the handle
///
/// @note After an error nothing is left, except that the verified blob may be visible where only the last sync, of the
///   folder, failed.
///
/// Cost: syncs file and folder.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_commit(staged: *mut bl_staged, err: *mut *mut bl_error) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { call(err, |c| c.handle(staged, "staged")?.commit()) }
}

/// Ends the download and removes what was written. Does not free the handle. After a failure, or twice, it is a no-op.
///
/// @retval BL_OK
/// @retval BL_E_STATE after a commit
/// @retval BL_E_BUSY another thread is in a call with the handle
///
/// Cost: removes a file.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_abort(staged: *mut bl_staged, err: *mut *mut bl_error) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { call(err, |c| c.handle(staged, "staged")?.abort()) }
}

/// How many bytes were written so far; 0 for NULL. May be asked from any thread at any time.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_staged_bytes_written(staged: *const bl_staged) -> u64 {
    // SAFETY: the caller passes NULL or a live bl_staged.
    unsafe { borrow_handle(staged) }.map_or(0, |staged| staged.written.load(Ordering::Relaxed))
}

/// The partial file, which belongs to the library and is gone after commit, abort and failure.
///
/// @retval BL_OK
/// @retval BL_E_INVALID_ARGUMENT an argument that cannot be
///
/// Ownership: release *out with bl_bytes_free().
/// Cost: none.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_staged_path(
    staged: *const bl_staged,
    out: *mut *mut bl_bytes,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { give_path_of(out, err, |c| Ok(c.handle(staged, "staged")?.staged_path.clone())) }
}

/// Where the blob is after the commit.
///
/// @retval BL_OK
/// @retval BL_E_INVALID_ARGUMENT an argument that cannot be
///
/// Ownership: release *out with bl_bytes_free().
/// Cost: none.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_final_path(
    staged: *const bl_staged,
    out: *mut *mut bl_bytes,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { give_path_of(out, err, |c| Ok(c.handle(staged, "staged")?.final_path.clone())) }
}

/// Frees the handle, and aborts a download that was not committed. NULL is a no-op.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_staged_free(staged: *mut bl_staged) {
    // SAFETY: the caller passes NULL or a bl_staged that it has not freed.
    unsafe { free(staged) }
}
