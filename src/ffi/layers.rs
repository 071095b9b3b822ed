//! Layers.

use std::ffi::c_char;

use super::args::{Call, SizedStruct, call, check_flags, into_handle};
use super::bytes::bl_bytes;
use super::cancel::bl_cancel;
use super::error::{bl_error, bl_status};
use super::shapes::{answer, give_path};
use super::staged::bl_staged;
use super::storage::bl_storage;
use crate::error::Result;
use crate::store::Storage;
use crate::unpack::{ExtractOptions, Extraction};

/// How to verify a layer. Zero in a field is its default; initialise with BL_VERIFY_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_verify_options {
    /// sizeof(bl_verify_options).
    pub struct_size: usize,
    /// Ends the call early; may be NULL.
    pub cancel: *mut bl_cancel,
    /// Milliseconds after which the call ends with BL_E_TIMEOUT; 0 is never.
    pub timeout_ms: u64,
}

// SAFETY: integers and pointers only.
unsafe impl SizedStruct for bl_verify_options {
    const ZERO: Self = Self { struct_size: 0, cancel: std::ptr::null_mut(), timeout_ms: 0 };
}

/// bl_extract_options.flags: as root, make device nodes. By default a device becomes an empty file, and the metadata
/// record beside the tree says which device it stands for.
pub const BL_EXTRACT_DEVICE_NODES: u64 = 1;
/// bl_extract_options.flags: refuse a layer with any anomaly.
pub const BL_EXTRACT_STRICT: u64 = 2;

/// How to extract a layer. Zero in a field is its default; initialise with BL_EXTRACT_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_extract_options {
    /// sizeof(bl_extract_options).
    pub struct_size: usize,
    /// BL_EXTRACT_*, or 0.
    pub flags: u64,
    /// The layer's file, which must hash to the digest; NULL is the stored layer.
    pub tarball_path: *const c_char,
    /// What the uncompressed layer must hash to (rootfs.diff_ids in the image's config); NULL is not to check.
    pub diff_id: *const c_char,
    /// Ends the call early; may be NULL.
    pub cancel: *mut bl_cancel,
    /// Milliseconds after which the call ends with BL_E_TIMEOUT; 0 is never.
    pub timeout_ms: u64,
}

// SAFETY: integers and pointers only.
unsafe impl SizedStruct for bl_extract_options {
    const ZERO: Self = Self {
        struct_size: 0,
        flags: 0,
        tarball_path: std::ptr::null(),
        diff_id: std::ptr::null(),
        cancel: std::ptr::null_mut(),
        timeout_ms: 0,
    };
}

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
    pub diff_id: [c_char; 136],
}

// SAFETY: integers only.
unsafe impl SizedStruct for bl_extract_result {
    const ZERO: Self = Self {
        struct_size: 0,
        entries: 0,
        bytes_in: 0,
        bytes_out: 0,
        anomalies: 0,
        cached: 0,
        reserved: 0,
        diff_id: [0; 136],
    };

    /// A digest is there as a whole or not at all.
    fn cut_to(mut self, size: usize) -> Self {
        if size < size_of::<Self>() {
            self.diff_id = [0; 136];
        }
        self
    }
}

impl bl_extract_result {
    fn new(extraction: &Extraction) -> bl_extract_result {
        let mut result = bl_extract_result {
            entries: extraction.entries,
            bytes_in: extraction.bytes_in,
            bytes_out: extraction.bytes_out,
            anomalies: extraction.anomalies.bits(),
            cached: extraction.cached.into(),
            ..bl_extract_result::ZERO
        };
        let text = extraction.diff_id.as_ref().map_or("", |digest| digest.as_str());
        // The longest digest, sha512, leaves room for the NUL.
        for (to, from) in result.diff_id.iter_mut().zip(text.bytes()) {
            *to = from as c_char;
        }
        result
    }
}

/// Whether a layer's blob is in the store.
///
/// Returns: BL_OK with *out set; BL_E_PERMISSION, BL_E_IO. Cost: one look at the directory. Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_has_layer(
    storage: *mut bl_storage,
    digest: *const c_char,
    out: *mut bool,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { answer(storage, digest, out, err, Storage::has_layer) }
}

/// Reads a layer's blob and checks that it hashes to its digest.
///
/// options: NULL for the defaults.
///
/// Returns: BL_OK when it does; BL_E_DIGEST_MISMATCH when it does not; BL_E_NOT_FOUND; BL_E_CANCELLED, BL_E_TIMEOUT;
/// BL_E_PERMISSION, BL_E_IO. Cost: reads the whole blob; 256 KiB of memory. Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_verify_layer(
    storage: *mut bl_storage,
    digest: *const c_char,
    options: *const bl_verify_options,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let storage = c.handle(storage, "storage")?;
            let digest = c.digest(digest, "digest")?;
            let options = c.options(options, "options")?;
            storage.0.verify_layer(&digest, &c.interrupt(options.cancel, options.timeout_ms))
        })
    }
}

/// Where a layer's blob is, or would be.
///
/// Returns: BL_OK, BL_E_INVALID_ARGUMENT. Ownership: release *out with bl_bytes_free(). Cost: none. Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_layer_tarball_path(
    storage: *mut bl_storage,
    digest: *const c_char,
    out: *mut *mut bl_bytes,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { give_path(storage, digest, out, err, Storage::layer_tarball_path) }
}

/// Where a layer's extracted tree is, or would be.
///
/// Returns: BL_OK, BL_E_INVALID_ARGUMENT. Ownership: release *out with bl_bytes_free(). Cost: none. Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_layer_extracted_path(
    storage: *mut bl_storage,
    digest: *const c_char,
    out: *mut *mut bl_bytes,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { give_path(storage, digest, out, err, Storage::layer_extracted_path) }
}

/// Starts to store a layer. Write its bytes with bl_write() and make it visible with bl_commit().
///
/// expected_size: the size that the manifest declares; 0 or less is unknown, then bl_storage_options.max_blob_size
/// holds.
///
/// Returns: BL_OK; BL_E_LIMIT for a declared size over max_blob_size; BL_E_PERMISSION for a read-only store;
/// BL_E_NO_SPACE, BL_E_IO. Ownership: release *out with bl_staged_free(). Cost: creates a file. Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_stage_layer(
    storage: *mut bl_storage,
    digest: *const c_char,
    expected_size: i64,
    out: *mut *mut bl_staged,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let out = c.out(out, "out")?;
            let storage = c.handle(storage, "storage")?;
            let digest = c.digest(digest, "digest")?;
            let size = u64::try_from(expected_size).ok().filter(|&size| size > 0);
            out.set(into_handle(bl_staged::new(storage.0.stage_layer(&digest, size)?)));
            Ok(())
        })
    }
}

/// Unpacks a layer into the directory that bl_layer_extracted_path() names, unless it is there already. Whiteout markers
/// (`.wh.*`) stay as files: they say what to remove from lower layers. Gzip, zstd and plain tar are told by their bytes.
/// Both digests are checked in the same pass, before the tree appears. Threads and processes that extract one layer at
/// a time wait for the first of them. A tree that is there is given as it was made; BL_EXTRACT_DEVICE_NODES does not
/// change it.
///
/// options: NULL for the defaults.
/// result: may be NULL.
///
/// Returns: BL_OK; BL_E_NOT_FOUND without a file; BL_E_DIGEST_MISMATCH when the file does not hash to the digest or its
/// content to options.diff_id; BL_E_MALFORMED, BL_E_UNSAFE_PATH, BL_E_UNSUPPORTED, BL_E_LIMIT for what is in it;
/// BL_E_CANCELLED, BL_E_TIMEOUT; BL_E_NO_SPACE, BL_E_PERMISSION, BL_E_IO: after each of these nothing is left.
/// Cost: reads the layer once and writes its files; not synced. A thread of the library's where there are two cores.
/// Since: 0.1.0
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

fn extract_options(c: &Call<'_>, options: bl_extract_options) -> Result<ExtractOptions> {
    check_flags(options.flags, BL_EXTRACT_DEVICE_NODES | BL_EXTRACT_STRICT, "options.flags")?;
    let given = |text: *const c_char| (!text.is_null()).then_some(text);
    Ok(ExtractOptions {
        tarball_path: given(options.tarball_path)
            .map(|path| c.path(path, "options.tarball_path"))
            .transpose()?
            .map(Into::into),
        diff_id: given(options.diff_id).map(|text| c.digest(text, "options.diff_id")).transpose()?,
        device_nodes: options.flags & BL_EXTRACT_DEVICE_NODES != 0,
        strict: options.flags & BL_EXTRACT_STRICT != 0,
        interrupt: c.interrupt(options.cancel, options.timeout_ms),
    })
}
