//! Opening and closing a store.

use std::ffi::c_char;
use std::time::Duration;

use super::args::{Call, SizedStruct, call, check_flags, free, into_handle};
use super::bytes::bl_bytes;
use super::handles::{bl_error, bl_status, bl_storage};
use super::helpers::give_path_of;
use crate::error::{Error, Status};
use crate::store::{Durability, Storage, StorageOptions};

/// bl_storage_options.flags: nothing in the directory is created, changed or removed.
pub const BL_STORAGE_READ_ONLY: u64 = 1;

/// bl_storage_options.flags: no other process opens the store as long as this one has it open. Only for file systems where
/// file locks (flock) do not work, in which a store is not opened otherwise.
pub const BL_STORAGE_SINGLE_PROCESS: u64 = 2;

/// bl_storage_options.durability: what was committed survives power loss. The default.
pub const BL_DURABILITY_FULL: u32 = 0;
/// bl_storage_options.durability: nothing is flushed; for stores that can be thrown away. What is visible is whole
/// after any crash of a process, but not after power loss.
pub const BL_DURABILITY_NONE: u32 = 1;

/// How to open a store. Zero in a field is its default; initialise with BL_STORAGE_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_storage_options {
    /// sizeof(bl_storage_options).
    pub struct_size: usize,
    /// BL_STORAGE_*, or 0.
    pub flags: u64,
    /// Largest layer blob in bytes that bl_stage_layer() takes; 0 is 50 GiB.
    pub max_blob_bytes: u64,
    /// BL_DURABILITY_*.
    pub durability: u32,
    /// Zero.
    pub reserved: u32,
    /// Bytes of the file system that are to stay free: a blob or an extraction that would take of them is refused with
    /// BL_E_NO_SPACE.
    pub min_free_bytes: u64,
    /// The store is collected, as by bl_gc(), before a layer that would bring it above so many
    /// bytes, or has no room. 0 is never.
    pub gc_above_bytes: u64,
    /// Seconds: what is younger stays in such a collection; 0 is an hour.
    pub gc_min_age_seconds: u64,
}

// SAFETY: integers only.
unsafe impl SizedStruct for bl_storage_options {}

/// Opens the store in a directory. The directory and its folders are created where they are
/// missing. What processes left there that died in the middle of something is removed.
///
/// @param images_dir any path; it is resolved once, here.
/// @param options NULL for the defaults.
///
/// @retval BL_OK
/// @retval BL_E_UNSUPPORTED for a store of a newer format, an unknown option, or a file system where file locks do not
///   work
/// @retval BL_E_NOT_FOUND for a missing directory when read-only
/// @retval BL_E_PERMISSION the system, or a read-only store, refuses
/// @retval BL_E_NO_SPACE the disk is full
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// Ownership: release *out with bl_storage_close().
/// Cost: a few directory reads; syncs when it creates something.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_storage_open(
    images_dir: *const c_char,
    options: *const bl_storage_options,
    out: *mut *mut bl_storage,
    err: *mut *mut bl_error,
) -> bl_status {
    let body = |c: &Call<'_>| {
        let out = c.out(out, "out")?;
        let images_dir = c.path(images_dir, "images_dir")?;
        let options = c.options(options, "options")?;
        check_flags(options.flags, BL_STORAGE_READ_ONLY | BL_STORAGE_SINGLE_PROCESS, "options.flags")?;
        check_flags(options.reserved.into(), 0, "options.reserved")?;
        let durability = match options.durability {
            BL_DURABILITY_FULL => Durability::Full,
            BL_DURABILITY_NONE => Durability::None,
            other => {
                let why = format!("options.durability is {other}, not one of BL_DURABILITY_*");
                return Err(Error::new(Status::Unsupported, why));
            }
        };
        let options = StorageOptions {
            durability,
            single_process: options.flags & BL_STORAGE_SINGLE_PROCESS != 0,
            read_only: options.flags & BL_STORAGE_READ_ONLY != 0,
            min_free_bytes: options.min_free_bytes,
            gc_above_bytes: (options.gc_above_bytes > 0).then_some(options.gc_above_bytes),
            gc_min_age: (options.gc_min_age_seconds > 0).then_some(Duration::from_secs(options.gc_min_age_seconds)),
            max_blob_bytes: (options.max_blob_bytes > 0).then_some(options.max_blob_bytes),
        };
        out.set(into_handle(bl_storage(Storage::open(images_dir, &options)?)));
        Ok(())
    };
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { call(err, body) }
}

/// Frees the handle. Staged downloads made with it stay valid. If cancelled or failed calls had
/// made much, it waits until that is removed. It also waits for a flush of trees that is under way.
/// NULL is a no-op.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_storage_close(storage: *mut bl_storage) {
    // SAFETY: the caller passes NULL or a bl_storage that it has not closed.
    unsafe { free(storage) }
}

/// The store's directory as an absolute path.
///
/// @retval BL_OK
/// @retval BL_E_INVALID_ARGUMENT an argument that cannot be
///
/// Ownership: release *out with bl_bytes_free().
/// Cost: none.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_images_dir(
    storage: *const bl_storage,
    out: *mut *mut bl_bytes,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { give_path_of(out, err, |c| Ok(c.handle(storage, "storage")?.0.images_dir().to_owned())) }
}

/// The folder of the layers' blobs as an absolute path.
///
/// @retval BL_OK
/// @retval BL_E_INVALID_ARGUMENT an argument that cannot be
///
/// Ownership: release *out with bl_bytes_free().
/// Cost: none.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_layers_dir(
    storage: *const bl_storage,
    out: *mut *mut bl_bytes,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { give_path_of(out, err, |c| Ok(c.handle(storage, "storage")?.0.layers_dir())) }
}
