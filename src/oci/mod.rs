//! The OCI documents, as pure parsing: bytes in, valid values out, no file and no network.

#![forbid(unsafe_code)]

mod config;
mod document;
mod json;
pub(crate) mod media_type;
mod platform;
mod reference;
pub(crate) mod select;

pub use config::ImageConfig;
#[cfg(feature = "pull")]
pub(crate) use document::verify_digest;
pub use document::{Descriptor, Document, ImageIndex, ImageManifest, IndexEntry};
pub(crate) use json::check_size_and_depth as check_json;
pub use platform::Platform;
pub use reference::Reference;
