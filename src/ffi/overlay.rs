//! Lower directories for overlay mounts.

use std::ffi::c_void;
use std::time::Duration;

use super::args::{Call, SizedStruct, call, check_flags, into_handle};
use super::bytes::bl_bytes;
use super::cancel::bl_cancel;
use super::error::{bl_error, bl_status};
use super::extract::{bl_progress_callback, progress_callback};
use super::images::bl_image;
use super::leases::bl_lease;
use super::limits::bl_layer_limits;
use super::storage::bl_storage;
use crate::error::Result;
use crate::rootfs::OverlayOptions;

/// bl_overlay_settings.flags: for a mount with userxattr, as in a user namespace. By default only root can make the
/// directories, and mount them.
pub const BL_OVERLAY_USER_XATTR: u64 = 1;
/// bl_overlay_settings.flags: as root, make device nodes. By default a device becomes an empty file.
pub const BL_OVERLAY_DEVICE_NODES: u64 = 2;
/// bl_overlay_settings.flags: as BL_EXTRACT_OVERRIDE_STAT.
pub const BL_OVERLAY_OVERRIDE_STAT: u64 = 4;

/// What kind of overlay mount it is to be. Zero in a field is its default; initialise with BL_OVERLAY_SETTINGS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_overlay_settings {
    /// sizeof(bl_overlay_settings).
    pub struct_size: usize,
    /// BL_OVERLAY_*, or 0.
    pub flags: u64,
    /// Seconds for which the layers are held; 0 is a day.
    pub lease_seconds: u64,
    /// Ends the call early; may be NULL.
    pub cancel: *mut bl_cancel,
    /// Milliseconds after which the call ends with BL_E_TIMEOUT; 0 is never.
    pub timeout_ms: u64,
    /// What each layer may cost; NULL is the defaults.
    pub limits: *const bl_layer_limits,
    /// Is told of progress, layer by layer; may be NULL.
    pub progress: bl_progress_callback,
    /// Handed to every call of progress.
    pub progress_data: *mut c_void,
}

// SAFETY: integers, pointers, and a function pointer for which zero is none; that one which is not zero is a function
// is what the caller vouches for.
unsafe impl SizedStruct for bl_overlay_settings {
    const ZERO: Self = Self {
        struct_size: 0,
        flags: 0,
        lease_seconds: 0,
        cancel: std::ptr::null_mut(),
        timeout_ms: 0,
        limits: std::ptr::null(),
        progress: None,
        progress_data: std::ptr::null_mut(),
    };
}

/// Options for an overlay mount of an image, which the host makes: "lowerdir=..." with the extracted layers, the
/// uppermost first, and "userxattr" where it is that kind; the host adds upperdir and workdir, or another lower
/// directory, without which overlayfs refuses a single one. Layers are extracted where they are missing. Data for
/// mount(2) may be a page at most; the host mounts longer options with fsconfig(2), or from within the store's directory.
///
/// settings: NULL for the defaults.
/// lease: keeps a collection from taking the layers. It is the host's to extend (bl_lease_extend) as long as it mounts
/// them, and to end (bl_lease_release) after that.
///
/// Returns: BL_OK; BL_E_UNSUPPORTED for an image of which overlayfs would show something else (hard links to lower
/// layers, directories without an entry over symlinks or over directories of another owner or mode): assemble a root file
/// system of it; BL_E_NOT_FOUND where the store lacks a layer; otherwise as bl_extract_layer(). Ownership: release *out
/// with bl_bytes_free() and *lease with bl_lease_free(), which does not end it. Cost: reads the layers' records. Since:
/// 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_overlay_options(
    storage: *mut bl_storage,
    image: *mut bl_image,
    settings: *const bl_overlay_settings,
    out: *mut *mut bl_bytes,
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
            let options = overlay_options(c, c.options(settings, "settings")?)?;
            let overlay = storage.0.overlay(image.image(), &options)?;
            let mount_options = bl_bytes::new(overlay.mount_options());
            lease.set(into_handle(bl_lease::new(overlay.lease)?));
            out.set(into_handle(mount_options));
            Ok(())
        })
    }
}

fn overlay_options(c: &Call<'_>, settings: bl_overlay_settings) -> Result<OverlayOptions> {
    let known = BL_OVERLAY_USER_XATTR | BL_OVERLAY_DEVICE_NODES | BL_OVERLAY_OVERRIDE_STAT;
    check_flags(settings.flags, known, "settings.flags")?;
    Ok(OverlayOptions {
        user_xattr: settings.flags & BL_OVERLAY_USER_XATTR != 0,
        device_nodes: settings.flags & BL_OVERLAY_DEVICE_NODES != 0,
        override_stat: settings.flags & BL_OVERLAY_OVERRIDE_STAT != 0,
        lease_time: (settings.lease_seconds > 0).then(|| Duration::from_secs(settings.lease_seconds)),
        limits: c.options::<bl_layer_limits>(settings.limits, "settings.limits")?.to_limits(),
        progress: settings.progress.map(|function| progress_callback(function, settings.progress_data)),
        interrupt: c.interrupt(settings.cancel, settings.timeout_ms),
    })
}
