//! Lower directories for overlay mounts.

use std::ffi::{CString, c_char, c_void};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::time::Duration;

use super::args::{Call, SizedStruct, borrow_handle, call, free, into_handle};
use super::extract::{bl_progress_callback, progress_callback};
use super::handles::{bl_cancel, bl_error, bl_status, bl_storage};
use super::images::bl_image;
use super::leases::bl_lease;
use super::tree::{bl_tree_options, tree_options};
use crate::error::{Error, Result, Status};
use crate::rootfs::OverlayOptions;

/// What kind of overlay mount it is to be. Zero in a field is its default; initialise with BL_OVERLAY_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_overlay_options {
    /// sizeof(bl_overlay_options).
    pub struct_size: usize,
    /// What the directories look like, and what each layer may cost. Its whiteouts are
    /// BL_WHITEOUTS_USER_OVERLAY for a mount with userxattr, as in a user namespace. Anything else
    /// is BL_WHITEOUTS_OVERLAY, whose directories only root can make and mount. NULL is the
    /// defaults.
    pub tree: *const bl_tree_options,
    /// Seconds for which the layers are held; 0 is a day.
    pub lease_seconds: u64,
    /// Ends the call early; may be NULL.
    pub cancel: *mut bl_cancel,
    /// Milliseconds after which the call ends with BL_E_TIMEOUT; 0 is never.
    pub timeout_ms: u64,
    /// Is told of progress, layer by layer; may be NULL.
    pub progress: bl_progress_callback,
    /// Handed to every call of progress.
    pub progress_data: *mut c_void,
}

// SAFETY: integers, pointers, and a function pointer for which zero is none. The caller vouches that
// one which is not zero is a function.
unsafe impl SizedStruct for bl_overlay_options {}

/// An image's layers as the lower directories of an overlay mount. It may be used by several threads at once.
pub struct bl_overlay {
    lower_dirs: Vec<CString>,
    mount_dir: Option<CString>,
    mount_options: CString,
}

impl bl_overlay {
    fn new(lower_dirs: Vec<PathBuf>, mount_dir: Option<PathBuf>, mount_options: Vec<u8>) -> Result<bl_overlay> {
        let path = |path: PathBuf| bytes(path.into_os_string().into_vec());
        Ok(bl_overlay {
            lower_dirs: lower_dirs.into_iter().map(path).collect::<Result<_>>()?,
            mount_dir: mount_dir.map(path).transpose()?,
            mount_options: bytes(mount_options)?,
        })
    }
}

fn bytes(value: Vec<u8>) -> Result<CString> {
    CString::new(value).map_err(|_| Error::new(Status::Internal, "overlay: a path with a NUL in it"))
}

/// Extracts an image's layers, where they are missing, in the form that overlayfs takes. The host makes the mount:
/// mount(2) with bl_overlay_mount_options(), upperdir and workdir, in the directory bl_overlay_mount_dir() where there
/// is one. docs/rootfs.md has the code.
///
/// @param options NULL for the defaults.
/// @param lease keeps a collection from taking the layers. It is the host's to extend (bl_lease_extend) as long as it
///   mounts them, and to end (bl_lease_release) after that.
///
/// @retval BL_OK
/// @retval BL_E_UNSUPPORTED for an image of which overlayfs would show something else: assemble a
///   root file system
/// @retval BL_E_NOT_FOUND where the store lacks a layer
/// @return otherwise as bl_extract_layer()
///
/// Ownership: release *out with bl_overlay_free() and *lease with bl_lease_free(), which does not end it.
/// Cost: reads the layers' records.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_prepare_overlay(
    storage: *mut bl_storage,
    image: *const bl_image,
    options: *const bl_overlay_options,
    out: *mut *mut bl_overlay,
    lease: *mut *mut bl_lease,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            // Both are reset, whichever is wrong.
            let (out, lease) = (c.out(out, "out"), c.out(lease, "lease"));
            let (out, lease) = (out?, lease?);
            let storage = c.handle(storage, "storage")?;
            let image = c.handle(image, "image")?;
            let options = overlay_options(c, c.options(options, "options")?)?;
            let made = storage.0.overlay(image.image(), &options)?;
            let overlay = bl_overlay::new(made.lower_dirs, made.mount_dir, made.mount_options)?;
            lease.set(into_handle(bl_lease::new(made.lease)?));
            out.set(into_handle(overlay));
            Ok(())
        })
    }
}

/// What goes into the options of mount(2): "lowerdir=..." with the extracted layers, the uppermost
/// first, and "userxattr" where it is that kind. It has at most 3 KiB for 127 layers. The host adds
/// upperdir and workdir, or another lower directory, without which overlayfs refuses a single one.
/// Names are relative to bl_overlay_mount_dir(), where there is one.
///
/// @return NULL for NULL. Valid until bl_overlay_free().
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_overlay_mount_options(overlay: *const bl_overlay) -> *const c_char {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { borrow_handle(overlay) }.map_or(std::ptr::null(), |overlay| overlay.mount_options.as_ptr())
}

/// The directory to mount from, since mount(2) takes a page of options, and absolute paths would be
/// longer. As chdir(2) changes the directory of all threads, a host with several forks for it, or
/// calls unshare(CLONE_FS) first. The paths of upperdir and workdir are absolute all the same.
///
/// @return NULL where the options have absolute paths. Valid until bl_overlay_free().
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_overlay_mount_dir(overlay: *const bl_overlay) -> *const c_char {
    // SAFETY: the caller keeps the header's contract on pointers.
    let dir = unsafe { borrow_handle(overlay) }.and_then(|overlay| overlay.mount_dir.as_ref());
    dir.map_or(std::ptr::null(), |dir| dir.as_ptr())
}

/// How many lower directories there are.
///
/// @return 0 for NULL.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_overlay_lower_dir_count(overlay: *const bl_overlay) -> usize {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { borrow_handle(overlay) }.map_or(0, |overlay| overlay.lower_dirs.len())
}

/// The absolute path of a lower directory, from 0, the uppermost. Not escaped. fsconfig(2) takes
/// each as a "lowerdir+" (Linux 6.8), of at most 255 bytes.
///
/// @return NULL from the count on. Valid until bl_overlay_free().
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_overlay_lower_dir(overlay: *const bl_overlay, index: usize) -> *const c_char {
    // SAFETY: the caller keeps the header's contract on pointers.
    let dir = unsafe { borrow_handle(overlay) }.and_then(|overlay| overlay.lower_dirs.get(index));
    dir.map_or(std::ptr::null(), |dir| dir.as_ptr())
}

/// Releases it; NULL is no error. A mount stays.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_overlay_free(overlay: *mut bl_overlay) {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { free(overlay) }
}

fn overlay_options(c: &Call<'_>, options: bl_overlay_options) -> Result<OverlayOptions> {
    Ok(OverlayOptions {
        tree: tree_options(c, options.tree, "options.tree")?,
        lease_time: (options.lease_seconds > 0).then(|| Duration::from_secs(options.lease_seconds)),
        progress: options.progress.map(|function| progress_callback(function, options.progress_data)),
        interrupt: c.interrupt(options.cancel, options.timeout_ms),
    })
}
