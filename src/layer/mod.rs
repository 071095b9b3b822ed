//! A layer's bytes, as a stream of validated entries.
//!
//! ```text
//! LayerFile: read, hash ─> Source: inflate ─> Pipeline: 512 KiB segments, hash (diff_id) ─> Stream ─> Reader: tar ─> Entry
//! ```
//!
//! All hardening that does not need a file system lives here: compression, limits, tar and PAX parsing, names, the
//! meaning of whiteouts. A sink gets entries whose names are normalised and stay inside the root, and never parses a
//! name or looks for a whiteout prefix again. The rules are numbered in the tests as "families".

#![forbid(unsafe_code)]

mod compression;
mod entry;
mod file;
mod growing;
mod header;
mod inflate;
mod name;
mod number;
mod path;
mod pax;
mod pipeline;
mod reader;
mod segment;
mod source;
mod sparse;
mod stream;
mod whiteout;

pub use entry::Anomalies;
pub(crate) use entry::{Device, Entry, Kind, Timestamp};
pub(crate) use file::LayerFile;
#[cfg(feature = "pull")]
pub(crate) use growing::Growing;
pub(crate) use path::split_parent;
pub use reader::Progress;
pub(crate) use reader::{Data, Reader};
pub(crate) use segment::SharedBytes;
pub(crate) use source::Source;
pub(crate) use stream::Stream;
pub(crate) use whiteout::PREFIX as WHITEOUT_PREFIX;
