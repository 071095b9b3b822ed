//! The way back: what a host or a guest changed becomes one layer on top of an image, and with it another image.
//!
//! [`walk`] goes through a directory in the order of its names, and comes to a [`node`] each time. [`walk_ahead`] does so on a
//! thread of its own. [`upper`] reads it as the upper directory of an overlay. [`tree`] compares it with what the [`base`] had.
//! [`entries`] puts what is there into the archive of a layer. [`content`] reads files, and finds the holes in them. [`pack`] hashes
//! and compresses ([`compress`]) the archive that comes of it ([`crate::layer`]) on its way into the store. [`documents`] has config
//! and manifest grow by the layer. [`image`] puts that together.

#![forbid(unsafe_code)]

mod base;
mod compress;
mod content;
mod documents;
mod entries;
mod image;
mod indexed;
mod node;
mod options;
mod pack;
mod squash;
mod tree;
mod upper;
mod walk;
mod walk_ahead;

pub use image::CommittedImage;
pub use options::{CommitOptions, CommitSource, ConfigChanges, LayerCompression, OverlayXattrs};
