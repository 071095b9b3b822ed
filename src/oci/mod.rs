//! The OCI documents, as pure parsing: bytes in, valid values out, no file and no network.

#![forbid(unsafe_code)]

mod config;
mod document;
mod json;

pub use config::ImageConfig;
pub use document::{Descriptor, Document, ImageIndex, ImageManifest};
