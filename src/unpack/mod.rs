//! From a layer's entries to a directory tree, whole or not at all, and never outside its root.

#![forbid(unsafe_code)]

mod extract;
mod metadata;
mod record;
mod root;
mod tree;

pub use crate::layer::Anomalies;
pub use extract::{ExtractOptions, Extraction};
