//! An image as an ext4: what every guest mounts, also those whose kernels have no EROFS.
//!
//! Everything is planned before a byte is written ([`plan`]), since the records of the layers say all sizes. So the file system
//! is exactly as large as it must be, and the content of files is copied once, in few pieces. Where the file system can, the
//! copy shares its blocks with the layers' disks.

#![forbid(unsafe_code)]

mod checksum;
mod directory;
mod extents;
mod geometry;
mod hash;
mod inode;
mod journal;
mod plan;
mod resize;
mod room;
mod superblock;
mod write;
mod xattr;

pub(super) use inode::MOST_LINKS;
pub(super) use plan::has_skipped_xattrs;
pub(crate) use room::Ext4Room;
pub(super) use write::write_ext4;
