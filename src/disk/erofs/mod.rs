//! EROFS: a read-only file system, as a superblock in front and metadata behind the data (Linux,
//! Documentation/filesystems/erofs.rst).
//!
//! Nothing here is newer than Linux 5.4: blocks of 4,096 bytes, long inodes, no feature that a kernel must know. Data comes
//! first, so that it is written while its sizes are still to come; the metadata follows it, and the first block comes last.

mod dirent;
mod inode;
mod layout;
mod metadata;
mod superblock;
mod xattr;

pub(super) use metadata::DiskMetadata;
pub(super) use superblock::metadata_block;
