//! Root file systems.

use std::ffi::{c_char, c_void};

use super::args::{Call, SizedStruct, call, check_flags};
use super::extract::{bl_progress_callback, progress_callback};
use super::handles::{bl_cancel, bl_error, bl_status, bl_storage};
use super::images::bl_image;
use super::tree::{bl_tree_options, tree_options};
use crate::error::{Error, Result, Status};
use crate::rootfs::{Rootfs, RootfsMode, RootfsOptions};

/// bl_rootfs_options.mode: copies of the files in the extracted layers, which are made where they are missing. The default.
pub const BL_ROOTFS_MODE_COPY: u32 = 0;
/// bl_rootfs_options.mode: the same with shared blocks, where the file system has that (Btrfs, XFS); copies elsewhere.
pub const BL_ROOTFS_MODE_REFLINK: u32 = 1;
/// bl_rootfs_options.mode: further names of the files in the extracted layers, on the same file system. Only to be read:
/// who writes to one of them writes to the store's.
pub const BL_ROOTFS_MODE_HARDLINK: u32 = 2;
/// bl_rootfs_options.mode: straight from the stored blobs; nothing is kept for the next time.
pub const BL_ROOTFS_MODE_DIRECT: u32 = 3;

/// bl_rootfs_options.flags: replace a destination that is a directory and not empty, in one step where the file system can
/// do that.
pub const BL_ROOTFS_REPLACE: u64 = 1;
/// bl_rootfs_options.flags: fill a destination that is a directory, as is done with a mount point, instead of renaming a new
/// one to it. It must be empty, but for lost+found. Its entries appear one after the other.
pub const BL_ROOTFS_INTO_EXISTING: u64 = 2;

/// How to assemble a root file system. Zero in a field is its default; initialise with BL_ROOTFS_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_rootfs_options {
    /// sizeof(bl_rootfs_options).
    pub struct_size: usize,
    /// BL_ROOTFS_REPLACE, BL_ROOTFS_INTO_EXISTING, or 0.
    pub flags: u64,
    /// BL_ROOTFS_MODE_COPY and so on: how files come into it.
    pub mode: u32,
    /// Zero.
    pub reserved: u32,
    /// How devices and owners are said in it, and what each layer may cost. Its whiteouts say which extracted layers are used,
    /// and made where they are missing: what comes out has none. NULL is the defaults.
    pub tree: *const bl_tree_options,
    /// Where the metadata record of the whole tree goes (mtree(5)), replacing a file that is there; what is no file is
    /// BL_E_EXISTS. NULL: for an ordinary user beside the destination, with the suffix ".mtree"; for root, who can set
    /// everything, nowhere.
    pub record_path: *const c_char,
    /// Ends the call early; may be NULL.
    pub cancel: *mut bl_cancel,
    /// Milliseconds after which the call ends with BL_E_TIMEOUT; 0 is never.
    pub timeout_ms: u64,
    /// Is told of progress: entries of all layers so far, and bytes_out of the present one. Of a
    /// layer that is extracted already, bytes_in is 0. May be NULL.
    pub progress: bl_progress_callback,
    /// Handed to every call of progress.
    pub progress_data: *mut c_void,
}

// SAFETY: integers, pointers, and a function pointer for which zero is none. The caller vouches that
// one which is not zero is a function.
unsafe impl SizedStruct for bl_rootfs_options {}

/// What an assembly did. Initialise with BL_ROOTFS_RESULT_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_rootfs_result {
    /// sizeof(bl_rootfs_result); set by the caller.
    pub struct_size: usize,
    /// Layers of the image.
    pub layers: u64,
    /// Entries of all layers.
    pub entries: u64,
    /// BL_ANOMALY_* bits: what was odd and yet accepted.
    pub anomalies: u64,
}

// SAFETY: integers only.
unsafe impl SizedStruct for bl_rootfs_result {}

/// Makes the root file system of an image: all layers in turn, with what later ones hide left out.
/// It appears at destination when it is whole. The folder that it goes into must be there, and so
/// may be an empty directory of its name. While it is made it lies beside the destination, as
/// `.<name>.<random>.assembling`. As root, files have the image's owners; as an ordinary user they
/// are the user's, and the record has the rest. It is not flushed to the disk. A mount point cannot
/// be renamed to: it is filled in place, as any directory is with BL_ROOTFS_INTO_EXISTING. It may
/// have a lost+found and nothing else; entries appear one after the other, and after a kill some of
/// them may be there.
///
/// @param options NULL for the defaults.
/// @param result may be NULL.
///
/// @retval BL_OK
/// @retval BL_E_NOT_FOUND where the store lacks a layer, or there is no folder
/// @retval BL_E_EXISTS where the destination is taken
/// @retval BL_E_UNSUPPORTED for BL_ROOTFS_MODE_HARDLINK to another file system
/// @retval BL_E_MALFORMED for what is in a layer
/// @retval BL_E_UNSAFE_PATH for what is in a layer
/// @retval BL_E_LIMIT for what is in a layer
/// @retval BL_E_DIGEST_MISMATCH for what is in a layer
/// @retval BL_E_CANCELLED the token was triggered
/// @retval BL_E_TIMEOUT the time was over
/// @retval BL_E_CALLBACK the callback ended it
/// @retval BL_E_NO_SPACE the disk is full
/// @retval BL_E_PERMISSION the system, or a read-only store, refuses
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// @note After an error the destination is as it was.
///
/// Cost: that of writing all files, or a link each; threads as in bl_extract_layer().
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_assemble_rootfs(
    storage: *mut bl_storage,
    image: *const bl_image,
    destination: *const c_char,
    options: *const bl_rootfs_options,
    result: *mut bl_rootfs_result,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let result = c.result(result, "result")?;
            let storage = c.handle(storage, "storage")?;
            let image = c.handle(image, "image")?;
            let destination = c.path(destination, "destination")?;
            let options = rootfs_options(c, c.options(options, "options")?)?;
            let Rootfs { layers, entries, anomalies, .. } =
                storage.0.assemble_rootfs(image.image(), destination, &options)?;
            if let Some(result) = result {
                let anomalies = anomalies.bits();
                result.set(&bl_rootfs_result { layers, entries, anomalies, ..bl_rootfs_result::ZERO });
            }
            Ok(())
        })
    }
}

fn rootfs_options(c: &Call<'_>, options: bl_rootfs_options) -> Result<RootfsOptions> {
    let known = BL_ROOTFS_REPLACE | BL_ROOTFS_INTO_EXISTING;
    check_flags(options.flags, known, "options.flags")?;
    check_flags(options.reserved.into(), 0, "options.reserved")?;
    let record_path = (!options.record_path.is_null()).then_some(options.record_path);
    Ok(RootfsOptions {
        mode: match options.mode {
            BL_ROOTFS_MODE_COPY => RootfsMode::Copy,
            BL_ROOTFS_MODE_REFLINK => RootfsMode::Reflink,
            BL_ROOTFS_MODE_HARDLINK => RootfsMode::Hardlink,
            BL_ROOTFS_MODE_DIRECT => RootfsMode::Direct,
            other => {
                let why = format!("options.mode is {other}, not one of BL_ROOTFS_MODE_COPY and so on");
                return Err(Error::new(Status::Unsupported, why));
            }
        },
        replace: options.flags & BL_ROOTFS_REPLACE != 0,
        into_existing: options.flags & BL_ROOTFS_INTO_EXISTING != 0,
        record_path: record_path.map(|path| c.path(path, "options.record_path")).transpose()?.map(Into::into),
        tree: tree_options(c, options.tree, "options.tree")?,
        progress: options.progress.map(|function| progress_callback(function, options.progress_data)),
        interrupt: c.interrupt(options.cancel, options.timeout_ms),
    })
}
