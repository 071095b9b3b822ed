//! Collection.

use std::ffi::{CString, c_char, c_void};
use std::time::Duration;

use super::args::{SizedStruct, call, check_flags};
use super::handles::{bl_cancel, bl_error, bl_status, bl_storage};
use crate::error::{Error, Result, Status};
use crate::store::GcOptions;

/// bl_gc_options.flags: only say what would be removed.
pub const BL_GC_DRY_RUN: u64 = 1;
/// bl_gc_options.flags: whatever its age.
pub const BL_GC_ANY_AGE: u64 = 2;

/// After the collection, is told of an object that was removed, or would be: `layers/sha256-<hex>.tar.gz`. Runs on the thread that called.
pub type bl_gc_callback = Option<unsafe extern "C" fn(object: *const c_char, user_data: *mut c_void)>;

/// What to collect. Zero in a field is its default; initialise with BL_GC_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_gc_options {
    /// sizeof(bl_gc_options).
    pub struct_size: usize,
    /// BL_GC_* flags.
    pub flags: u64,
    /// What was stored so many seconds ago, or less, stays, because it may get its name next; 0 is an hour.
    pub min_age_seconds: u64,
    /// Disks that bl_keep_disk() was not asked for in so many seconds go too, although their layers stay; 0 is to keep them. A
    /// lease holds a disk all the same.
    pub max_disk_idle_seconds: u64,
    /// Ends the call early; may be NULL.
    pub cancel: *mut bl_cancel,
    /// Milliseconds after which the call ends with BL_E_TIMEOUT; 0 is never.
    pub timeout_ms: u64,
    /// Is told of each object; may be NULL.
    pub on_removed: bl_gc_callback,
    /// Handed to every call of on_removed.
    pub on_removed_data: *mut c_void,
}

// SAFETY: integers and pointers, and a function pointer for which zero is none.
unsafe impl SizedStruct for bl_gc_options {}

/// What bl_gc() did. Initialise with BL_GC_RESULT_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_gc_result {
    /// sizeof(bl_gc_result); set by the caller.
    pub struct_size: usize,
    /// Objects that were removed, or would be.
    pub removed: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that nothing reaches and that stayed, because they are young or in use.
    pub kept: u64,
}

// SAFETY: integers only.
unsafe impl SizedStruct for bl_gc_result {}

/// Removes what no image name and no lease reaches: manifests, configs, layers, their trees and disks, and what bl_check()
/// moved away. Safe at any time and in any process. Running calls of the library are not disturbed. A tree that the
/// host goes on using needs a name or a lease. A store of boxlite 0.9 has no names: there everything needs one.
///
/// @param options NULL for the defaults.
/// @param result may be NULL.
///
/// @retval BL_OK
/// @retval BL_E_STATE the manifest of an image name cannot be read, so that it is not known what must stay
/// @retval BL_E_MALFORMED a name or a lease cannot be read, likewise
/// @retval BL_E_CANCELLED the token was triggered
/// @retval BL_E_TIMEOUT the time was over
/// @retval BL_E_PERMISSION the system, or a read-only store, refuses
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// Cost: reads the manifests of all images, lists all folders, deletes.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_gc(
    storage: *mut bl_storage,
    options: *const bl_gc_options,
    result: *mut bl_gc_result,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let result = c.result(result, "result")?;
            let storage = c.handle(storage, "storage")?;
            let options = c.options(options, "options")?;
            check_flags(options.flags, BL_GC_DRY_RUN | BL_GC_ANY_AGE, "options.flags")?;
            let default = GcOptions::default();
            let min_age = match options.min_age_seconds {
                _ if options.flags & BL_GC_ANY_AGE != 0 => Duration::ZERO,
                0 => default.min_age,
                seconds => Duration::from_secs(seconds),
            };
            let dry_run = options.flags & BL_GC_DRY_RUN != 0;
            let interrupt = c.interrupt(options.cancel, options.timeout_ms);
            let idle = options.max_disk_idle_seconds;
            let max_disk_idle = (idle > 0).then(|| Duration::from_secs(idle));
            let report = storage.0.collect(&GcOptions { dry_run, min_age, max_disk_idle, interrupt })?;
            if let Some(function) = options.on_removed {
                report.removed.iter().try_for_each(|object| tell(function, options.on_removed_data, object))?;
            }
            if let Some(result) = result {
                let (removed, bytes, kept) = (report.removed.len() as u64, report.bytes, report.kept);
                result.set(&bl_gc_result { struct_size: 0, removed, bytes, kept });
            }
            Ok(())
        })
    }
}

fn tell(
    function: unsafe extern "C" fn(*const c_char, *mut c_void),
    user_data: *mut c_void,
    object: &str,
) -> Result<()> {
    let object = CString::new(object).map_err(|_| Error::new(Status::Internal, "a name in the store with a NUL"))?;
    // SAFETY: the host vouches for its callback; the text lives until it returns.
    unsafe { function(object.as_ptr(), user_data) };
    Ok(())
}
