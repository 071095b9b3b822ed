//! The C ABI: `include/boxlite_images.h` is generated from this folder, whose doc comments are its manual pages.
//!
//! Each function converts its arguments, makes one call into the safe API, and converts the result.
//! Pointers are read and written in `args.rs` and nowhere else. Panics end in `boundary.rs`. What a
//! C caller has promised is said once, at the top of the header, and is what every `unsafe` here
//! relies on.

// The header's contract is the safety section of all of them.
#![allow(clippy::missing_safety_doc)]
// The names are C's.
#![allow(non_camel_case_types)]
// So are the comments, which become the header's: what stands in brackets there is no HTML, and no address is a link.
#![allow(rustdoc::bare_urls, rustdoc::invalid_html_tags)]

mod archive;
mod args;
mod blobs;
mod boundary;
mod bytes;
mod callback;
mod cancel;
mod check;
mod commit;
mod configs;
mod disk_files;
mod disks;
mod entries;
mod error;
mod extract;
mod gc;
mod handles;
mod helpers;
mod images;
mod layers;
mod leases;
mod limits;
mod log;
mod manifests;
#[cfg(feature = "pull")]
mod operations;
mod overlay;
mod process;
#[cfg(feature = "pull")]
mod pull;
#[cfg(feature = "pull")]
mod pull_progress;
mod rootfs;
mod staged;
mod storage;
#[cfg(test)]
mod tests;
mod tree;
mod version;

pub use archive::*;
pub use blobs::*;
pub use bytes::*;
pub use cancel::*;
pub use check::*;
pub use commit::*;
pub use configs::*;
pub use disk_files::*;
pub use disks::*;
pub use entries::*;
pub use error::*;
pub use extract::*;
pub use gc::*;
pub use handles::*;
pub use images::*;
pub use layers::*;
pub use leases::*;
pub use limits::*;
pub use log::*;
pub use manifests::*;
#[cfg(feature = "pull")]
pub use operations::*;
pub use overlay::*;
pub use process::*;
#[cfg(feature = "pull")]
pub use pull::*;
#[cfg(feature = "pull")]
pub use pull_progress::*;
pub use rootfs::*;
pub use staged::*;
pub use storage::*;
pub use tree::*;
pub use version::*;
