//! An image as a disk that a guest mounts: made out of the layers' own disks ([`create`]), as one file or as several
//! ([`output`]).

#![forbid(unsafe_code)]

mod create;
mod options;
mod output;

pub use options::{Disk, DiskLayout, DiskOptions, DiskPart};
