//! The library's version.

use std::ffi::c_char;

/// The version of the library that is loaded, "0.1.0"; BL_VERSION_STRING is the one that was compiled against.
///
/// @return a static string.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub extern "C" fn bl_version_string() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The version of the library that is loaded as a number that grows: major * 1000000 + minor * 1000 + patch, as in
/// BL_VERSION_NUMBER.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub extern "C" fn bl_version_number() -> u32 {
    const fn number(text: &str) -> u32 {
        let (bytes, mut i, mut n) = (text.as_bytes(), 0, 0);
        while i < bytes.len() {
            n = n * 10 + (bytes[i] - b'0') as u32;
            i += 1;
        }
        n
    }
    number(env!("CARGO_PKG_VERSION_MAJOR")) * 1_000_000
        + number(env!("CARGO_PKG_VERSION_MINOR")) * 1_000
        + number(env!("CARGO_PKG_VERSION_PATCH"))
}

/// bl_has_feature(): pulls from registries, bl_pull() and all that is called after it. Without it a program that uses them
/// does not link.
pub const BL_FEATURE_PULL: u32 = 1;
/// bl_has_feature(): layers are inflated by ISA-L.
pub const BL_FEATURE_ISAL: u32 = 2;

/// Whether the library that is loaded was built with a feature.
///
/// @param feature BL_FEATURE_PULL and so on.
///
/// @return false also for a feature that this version does not know.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub extern "C" fn bl_has_feature(feature: u32) -> bool {
    let features = [(BL_FEATURE_PULL, cfg!(feature = "pull")), (BL_FEATURE_ISAL, cfg!(feature = "isal"))];
    features.contains(&(feature, true))
}
