//! Data that the caller owns.

use std::ffi::c_char;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use super::args;

/// Bytes of the longest digest as a string, with its NUL: "sha512:" and 128 hex digits.
pub const BL_DIGEST_MAX: usize = 136;

/// A digest as the structs have it, with its NUL.
pub(super) fn digest_chars(digest: &str) -> [c_char; BL_DIGEST_MAX] {
    let mut chars = [0; BL_DIGEST_MAX];
    for (to, from) in chars[..BL_DIGEST_MAX - 1].iter_mut().zip(digest.bytes()) {
        *to = from as c_char;
    }
    chars
}

/// Bytes owned by the caller: a path, a digest, a document. One NUL byte follows them, so that text can be used as a C
/// string; a document or a path may contain others. Release it with bl_bytes_free().
pub struct bl_bytes {
    /// With the NUL.
    data: Box<[u8]>,
}

impl bl_bytes {
    pub(super) fn new(mut bytes: Vec<u8>) -> bl_bytes {
        bytes.reserve_exact(1);
        bytes.push(0);
        bl_bytes { data: bytes.into_boxed_slice() }
    }

    pub(super) fn of_path(path: PathBuf) -> bl_bytes {
        bl_bytes::new(path.into_os_string().into_vec())
    }
}

/// The bytes. Valid until bl_bytes_free().
///
/// @return never NULL; "" for NULL.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_bytes_data(bytes: *const bl_bytes) -> *const u8 {
    // SAFETY: the caller passes NULL or a live bl_bytes.
    unsafe { args::borrow_handle(bytes) }.map_or(c"".as_ptr().cast(), |bytes| bytes.data.as_ptr())
}

/// The same bytes as a C string, for text and paths.
///
/// @return never NULL; "" for NULL.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_bytes_str(bytes: *const bl_bytes) -> *const c_char {
    // SAFETY: the caller passes NULL or a live bl_bytes.
    unsafe { bl_bytes_data(bytes) }.cast()
}

/// How many bytes there are, without the NUL that follows; 0 for NULL.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_bytes_len(bytes: *const bl_bytes) -> usize {
    // SAFETY: the caller passes NULL or a live bl_bytes.
    unsafe { args::borrow_handle(bytes) }.map_or(0, |bytes| bytes.data.len() - 1)
}

/// Frees the bytes. NULL is a no-op.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_bytes_free(bytes: *mut bl_bytes) {
    // SAFETY: the caller passes NULL or a bl_bytes that it has not freed.
    unsafe { args::free(bytes) }
}
