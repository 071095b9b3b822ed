//! Images in files: OCI layouts, as folders and as tar archives, and what `docker save` writes. In and out.
//!
//! What comes in is told by its content. An archive is read once, from its beginning to its end, so
//! that it may be a pipe. Every blob is hashed while it is written to the store, before anybody
//! knows what it is for. Documents, which are small, wait in a file of their own until the last
//! entry is read ([`tar_spool`]). Then the images are put together: by the index of an OCI layout
//! ([`layout`]), or by the `manifest.json` of a `docker save` ([`docker_archive`]). Names come
//! last, so that an import that fails leaves no name and no half image. A layout folder can also be
//! used where it is ([`bundle`]).

#![forbid(unsafe_code)]

mod blobs;
mod bundle;
mod docker_archive;
mod export;
mod import;
mod layout;
mod layout_blobs;
mod options;
mod tar_spool;

pub use export::{ExportOptions, ExportTarget};
pub use options::{ImportOptions, ImportSource, Imported};
