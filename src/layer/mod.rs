//! A layer's bytes, as a stream of validated entries.
//!
//! ```text
//! LayerFile: read, hash ─> Decompressor: inflate ─> Pipeline: 512 KiB segments, hash (diff_id) ─> Stream ─> Reader: tar ─> Entry
//! ```
//!
//! All hardening that does not need a file system lives here: compression, limits, tar and PAX parsing, names, the
//! meaning of whiteouts. A sink gets entries whose names are normalised and stay inside the root, and never parses a
//! name or looks for a whiteout prefix again. The rules are numbered in the tests as "families".

#![forbid(unsafe_code)]

mod blob_file;
mod buffers;
mod compression;
mod decompress;
mod entry;
mod entry_path;
mod follow;
mod header;
mod inflate;
mod number;
mod path;
mod pax;
mod pipeline;
mod sparse;
mod tar_reader;
mod tar_stream;
mod tar_writer;
mod whiteout;

pub(crate) use blob_file::LayerFile;
pub(crate) use buffers::SharedBytes;
pub(crate) use decompress::Decompressor;
pub use entry::Anomalies;
pub use entry::{Device, Timestamp};
pub(crate) use entry::{Entry, Kind};
#[cfg(feature = "pull")]
pub(crate) use follow::GrowingBlob;
pub(crate) use path::split_parent;
pub(crate) use pipeline::Totals;
pub use tar_reader::Progress;
pub(crate) use tar_reader::{Data, Reader};
pub(crate) use tar_stream::Stream;
pub(crate) use tar_writer::{DataParts, TarWriter};
pub(crate) use whiteout::{OPAQUE_MARKER, WHITEOUT_PREFIX};
