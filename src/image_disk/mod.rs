//! An image as a disk that a guest mounts: made out of the layers' own disks ([`create`]), as one file or as several
//! ([`output`]). It is for the host, or for the store to keep ([`kept`]). Files of the host's come on top as a layer ([`inject`]). An empty
//! disk is for guests that write ([`format`]).

#![forbid(unsafe_code)]

mod create;
mod format;
mod hashes;
mod inject;
mod kept;
mod layers;
mod options;
mod output;
mod process;
mod verify;

pub(crate) use inject::TopLayer;
pub use inject::{DiskFile, DiskFileContent};
pub use kept::KeptDisk;
pub(crate) use layers::Layers;
pub(crate) use options::GUEST_DEVICE;
pub use options::{Disk, DiskLayout, DiskOptions, DiskPart};
pub(crate) use verify::KeptDiskVerdict;
