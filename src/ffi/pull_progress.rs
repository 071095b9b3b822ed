//! How far a pull came.

use std::ffi::{c_char, c_void};
use std::ops::ControlFlow;

use super::args::{SizedStruct, call};
use super::bytes::{BL_DIGEST_MAX, digest_chars};
use super::callback::HostFunction;
use super::handles::{bl_error, bl_status};
use crate::error::{Error, Status};
use crate::pull::{PullPhase, PullProgressCallback, PullTracker};

/// bl_pull_progress.phase: it finds out what the image is.
pub const BL_PULL_PHASE_RESOLVING: u32 = 0;
/// bl_pull_progress.phase: it fetches and unpacks layers.
pub const BL_PULL_PHASE_FETCHING: u32 = 1;
/// bl_pull_progress.phase: all is there.
pub const BL_PULL_PHASE_DONE: u32 = 2;

/// The layers of a pull, for bl_pull_layers_get(). Valid as long as the bl_pull_progress that has it: during a callback, or
/// until bl_op_free().
pub struct bl_pull_layers(PullTracker);

/// How far a pull came. Initialise with BL_PULL_PROGRESS_INIT for bl_op_progress().
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_pull_progress {
    /// sizeof(bl_pull_progress); in a callback that of the library.
    pub struct_size: usize,
    /// BL_PULL_PHASE_RESOLVING, BL_PULL_PHASE_FETCHING or BL_PULL_PHASE_DONE.
    pub phase: u32,
    /// 0.
    pub reserved: u32,
    /// Layers of the image, each counted once; 0 before they are known, and where nothing was to be fetched.
    pub layers: u64,
    /// Layers that are stored, and unpacked where that was asked for.
    pub layers_done: u64,
    /// Bytes of the layers that were not in the store.
    pub bytes_to_fetch: u64,
    /// Bytes of them that arrived.
    pub bytes_fetched: u64,
    /// Bytes of the layers that were in the store before.
    pub bytes_present: u64,
    /// Uncompressed bytes that were unpacked.
    pub bytes_unpacked: u64,
    /// Entries that were unpacked.
    pub entries_unpacked: u64,
    /// Each layer by itself, in the image's order.
    pub each_layer: *const bl_pull_layers,
}

// SAFETY: integers and a pointer.
unsafe impl SizedStruct for bl_pull_progress {}

/// How far one layer came. Initialise with BL_LAYER_PROGRESS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_layer_progress {
    /// sizeof(bl_layer_progress).
    pub struct_size: usize,
    /// 1 when it is stored, and unpacked where that was asked for; else 0.
    pub is_done: u32,
    /// 0.
    pub reserved: u32,
    /// Its size, compressed.
    pub bytes: u64,
    /// Bytes of it that are in the store, those that arrived just now too.
    pub bytes_stored: u64,
    /// Uncompressed bytes that were unpacked.
    pub bytes_unpacked: u64,
    /// Its digest, as a string.
    pub digest: [c_char; BL_DIGEST_MAX],
}

// SAFETY: integers and an array of them.
unsafe impl SizedStruct for bl_layer_progress {}

/// Is told how far a pull came, on the thread that called. It is called when the pull begins to ask
/// the registry, then every bl_pull_options.progress_interval_ms, and when it is done. The struct
/// is valid until it returns. Anything but 0 ends the pull with BL_E_CALLBACK.
pub type bl_pull_progress_callback =
    Option<unsafe extern "C" fn(progress: *const bl_pull_progress, user_data: *mut c_void) -> i32>;

/// How far one layer of a pull came.
///
/// @param index below bl_pull_progress.layers.
///
/// @retval BL_OK
/// @retval BL_E_INVALID_ARGUMENT an argument that cannot be
/// @retval BL_E_NOT_FOUND for an index that is none
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_pull_layers_get(
    list: *const bl_pull_layers,
    index: usize,
    out: *mut bl_layer_progress,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let out = c.required_result(out, "out")?;
            let list = c.handle(list, "list")?;
            let missing = || Error::new(Status::NotFound, format!("the pull has no layer {index}"));
            let layer = list.0.layer(index).ok_or_else(missing)?;
            out.set(&bl_layer_progress {
                is_done: u32::from(layer.is_done),
                bytes: layer.bytes,
                bytes_stored: layer.bytes_stored,
                bytes_unpacked: layer.bytes_unpacked,
                digest: digest_chars(layer.digest.as_str()),
                ..bl_layer_progress::ZERO
            });
            Ok(())
        })
    }
}

impl bl_pull_layers {
    pub(super) fn new(tracker: PullTracker) -> bl_pull_layers {
        bl_pull_layers(tracker)
    }

    pub(super) fn progress(&self) -> bl_pull_progress {
        let progress = self.0.progress();
        bl_pull_progress {
            struct_size: size_of::<bl_pull_progress>(),
            phase: match progress.phase {
                PullPhase::Resolving => BL_PULL_PHASE_RESOLVING,
                PullPhase::Fetching => BL_PULL_PHASE_FETCHING,
                PullPhase::Done => BL_PULL_PHASE_DONE,
            },
            reserved: 0,
            layers: progress.layers,
            layers_done: progress.layers_done,
            bytes_to_fetch: progress.bytes_to_fetch,
            bytes_fetched: progress.bytes_fetched,
            bytes_present: progress.bytes_present,
            bytes_unpacked: progress.bytes_unpacked,
            entries_unpacked: progress.entries_unpacked,
            each_layer: self,
        }
    }
}

pub(super) fn progress_callback(
    function: unsafe extern "C" fn(*const bl_pull_progress, *mut c_void) -> i32,
    user_data: *mut c_void,
) -> PullProgressCallback {
    let callback = HostFunction { function, user_data };
    PullProgressCallback::new(move |tracker| {
        let HostFunction { function, user_data } = &callback;
        let list = bl_pull_layers::new(tracker.clone());
        let progress = list.progress();
        // SAFETY: the host vouches for its callback; the struct and the list live until it returns.
        match unsafe { function(&raw const progress, *user_data) } {
            0 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    })
}
