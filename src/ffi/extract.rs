//! Extracting layers.

use std::ffi::{c_char, c_void};
use std::ops::ControlFlow;

use super::args::{Call, SizedStruct, call};
use super::bytes::{BL_DIGEST_MAX, bl_bytes, digest_chars};
use super::callback::HostFunction;
use super::handles::{bl_cancel, bl_error, bl_status, bl_storage};
use super::helpers::give_path_of;
use super::tree::{bl_tree_options, tree_options};
use crate::error::Result;
use crate::extraction::{ExtractOptions, Extraction};
use crate::layer::Progress;
use crate::unpack::ProgressCallback;

/// How far an extraction came.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_progress {
    /// sizeof(bl_progress) of the library; a newer one may have more fields.
    pub struct_size: usize,
    /// Bytes of the layer's file.
    pub bytes_in: u64,
    /// Bytes of the uncompressed tar stream.
    pub bytes_out: u64,
    /// Entries.
    pub entries: u64,
}

/// Is told of progress, on the thread that made the call, with the pointer that came with it. Anything but 0 ends the
/// call with BL_E_CALLBACK.
pub type bl_progress_callback =
    Option<unsafe extern "C" fn(progress: *const bl_progress, user_data: *mut c_void) -> i32>;

/// How to extract a layer. Zero in a field is its default; initialise with BL_EXTRACT_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_extract_options {
    /// sizeof(bl_extract_options).
    pub struct_size: usize,
    /// What the tree looks like and may cost; NULL is the defaults.
    pub tree: *const bl_tree_options,
    /// The layer's file, which must hash to the digest; NULL is the stored layer.
    pub tarball_path: *const c_char,
    /// What the uncompressed layer must hash to (rootfs.diff_ids in the image's config); NULL is not to check.
    pub diff_id: *const c_char,
    /// Ends the call early; may be NULL.
    pub cancel: *mut bl_cancel,
    /// Milliseconds after which the call ends with BL_E_TIMEOUT; 0 is never.
    pub timeout_ms: u64,
    /// Is told of progress about every MiB or 256 entries, and at the end; may be NULL.
    pub progress: bl_progress_callback,
    /// Handed to every call of progress.
    pub progress_data: *mut c_void,
}

// SAFETY: integers, pointers, and a function pointer for which zero is none. The caller vouches that
// one which is not zero is a function.
unsafe impl SizedStruct for bl_extract_options {}

/// What an extraction did. Initialise with BL_EXTRACT_RESULT_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_extract_result {
    /// sizeof(bl_extract_result); set by the caller.
    pub struct_size: usize,
    /// Entries in the layer; 0 when cached.
    pub entries: u64,
    /// Bytes of the layer's file; 0 when cached.
    pub bytes_in: u64,
    /// Bytes of the uncompressed tar stream; 0 when cached.
    pub bytes_out: u64,
    /// BL_ANOMALY_* bits: what was odd and yet accepted.
    pub anomalies: u64,
    /// 1 when the tree was there already.
    pub cached: u32,
    /// Zero.
    pub reserved: u32,
    /// Digest of the uncompressed stream as a string; "" when an older program made the cached tree.
    pub diff_id: [c_char; BL_DIGEST_MAX],
}

// SAFETY: integers only.
unsafe impl SizedStruct for bl_extract_result {
    /// A digest is there as a whole or not at all.
    fn cut_to(mut self, size: usize) -> Self {
        if size < size_of::<Self>() {
            self.diff_id = [0; BL_DIGEST_MAX];
        }
        self
    }
}

impl bl_extract_result {
    fn new(extraction: &Extraction) -> bl_extract_result {
        bl_extract_result {
            entries: extraction.entries,
            bytes_in: extraction.bytes_in,
            bytes_out: extraction.bytes_out,
            anomalies: extraction.anomalies.bits(),
            cached: extraction.cached.into(),
            diff_id: digest_chars(extraction.diff_id.as_ref().map_or("", |digest| digest.as_str())),
            ..bl_extract_result::ZERO
        }
    }
}

/// Unpacks a layer into the directory that bl_extracted_path() names for the same kind of tree, unless it is there
/// already. By default whiteout markers (`.wh.*`) stay as files: they say what to remove from lower layers. Gzip, zstd
/// and plain tar are told by their bytes. Both digests are checked in the same pass, before the tree appears. Threads
/// and processes that extract one layer at a time wait for the first of them. Trees that differ in
/// BL_TREE_DEVICE_NODES, BL_TREE_OVERRIDE_STAT or whiteouts are different trees.
///
/// @param options NULL for the defaults.
/// @param result may be NULL.
///
/// @retval BL_OK
/// @retval BL_E_NOT_FOUND without a file
/// @retval BL_E_DIGEST_MISMATCH when the file does not hash to the digest or its content to options.diff_id
/// @retval BL_E_MALFORMED for what is in it
/// @retval BL_E_UNSAFE_PATH for what is in it
/// @retval BL_E_UNSUPPORTED for what is in it
/// @retval BL_E_LIMIT for what is in it
/// @retval BL_E_CANCELLED the token was triggered
/// @retval BL_E_TIMEOUT the time was over
/// @retval BL_E_CALLBACK the callback ended it
/// @retval BL_E_NO_SPACE the disk is full
/// @retval BL_E_PERMISSION the system, or a read-only store, refuses
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// @note After an error nothing is left.
///
/// Cost: reads the layer once and writes its files; not synced. One thread of the library's, five where there are two
/// cores. A layer that is there costs a look at the directory.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_extract_layer(
    storage: *mut bl_storage,
    digest: *const c_char,
    options: *const bl_extract_options,
    result: *mut bl_extract_result,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let result = c.result(result, "result")?;
            let storage = c.handle(storage, "storage")?;
            let digest = c.digest(digest, "digest")?;
            let options = extract_options(c, c.options(options, "options")?)?;
            let extraction = storage.0.extract_layer(&digest, &options)?;
            if let Some(result) = result {
                result.set(&bl_extract_result::new(&extraction));
            }
            Ok(())
        })
    }
}

/// Where bl_extract_layer() puts a layer's tree of this kind, whether it is there or not.
///
/// @param tree as in bl_extract_options; NULL for the defaults.
///
/// @retval BL_OK
/// @retval BL_E_INVALID_ARGUMENT an argument that cannot be
/// @retval BL_E_UNSUPPORTED an unknown value
///
/// Ownership: release *out with bl_bytes_free().
/// Cost: none.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_extracted_path(
    storage: *const bl_storage,
    digest: *const c_char,
    tree: *const bl_tree_options,
    out: *mut *mut bl_bytes,
    err: *mut *mut bl_error,
) -> bl_status {
    let path = |c: &Call<'_>| {
        let storage = c.handle(storage, "storage")?;
        let digest = c.digest(digest, "digest")?;
        Ok(storage.0.extracted_path(&digest, tree_options(c, tree, "tree")?.form))
    };
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { give_path_of(out, err, path) }
}

fn extract_options(c: &Call<'_>, options: bl_extract_options) -> Result<ExtractOptions> {
    let given = |text: *const c_char| (!text.is_null()).then_some(text);
    Ok(ExtractOptions {
        tarball_path: given(options.tarball_path)
            .map(|path| c.path(path, "options.tarball_path"))
            .transpose()?
            .map(Into::into),
        diff_id: given(options.diff_id).map(|text| c.digest(text, "options.diff_id")).transpose()?,
        tree: tree_options(c, options.tree, "options.tree")?,
        progress: options.progress.map(|function| progress_callback(function, options.progress_data)),
        interrupt: c.interrupt(options.cancel, options.timeout_ms),
    })
}

pub(super) fn progress_callback(
    function: unsafe extern "C" fn(*const bl_progress, *mut c_void) -> i32,
    user_data: *mut c_void,
) -> ProgressCallback {
    let callback = HostFunction { function, user_data };
    ProgressCallback::new(move |progress| {
        let HostFunction { function, user_data } = &callback;
        let Progress { bytes_in, bytes_out, entries } = *progress;
        let progress = bl_progress { struct_size: size_of::<bl_progress>(), bytes_in, bytes_out, entries };
        // SAFETY: the host vouches for its callback; the struct lives until it returns.
        match unsafe { function(&raw const progress, *user_data) } {
            0 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    })
}
