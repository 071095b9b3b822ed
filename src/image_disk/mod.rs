//! An image as a disk that a guest mounts: made out of the layers' own disks ([`create`]), as one file or as several
//! ([`output`]). It is for the host, or for the store to keep ([`kept`]).

#![forbid(unsafe_code)]

mod create;
mod kept;
mod layers;
mod options;
mod output;
mod process;
mod verify;

pub use kept::KeptDisk;
pub use options::{Disk, DiskLayout, DiskOptions, DiskPart};
pub(crate) use verify::KeptDiskVerdict;
