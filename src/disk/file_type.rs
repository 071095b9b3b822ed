//! The numbers that both file systems have for what an inode is.

use crate::unpack::InodeKind;

/// The type in a mode (POSIX, sys/stat.h).
pub(super) fn type_bits(kind: &InodeKind) -> u16 {
    match kind {
        InodeKind::File { .. } => 0o100_000,
        InodeKind::Directory { .. } => 0o040_000,
        InodeKind::Symlink { .. } => 0o120_000,
        InodeKind::Fifo => 0o010_000,
        InodeKind::CharDevice(_) => 0o020_000,
        InodeKind::BlockDevice(_) => 0o060_000,
    }
}

/// What a directory's entry says of a directory.
pub(super) const DIRECTORY: u8 = 2;

/// The type in an entry of a directory.
pub(super) fn file_type(kind: &InodeKind) -> u8 {
    match kind {
        InodeKind::File { .. } => 1,
        InodeKind::Directory { .. } => DIRECTORY,
        InodeKind::CharDevice(_) => 3,
        InodeKind::BlockDevice(_) => 4,
        InodeKind::Fifo => 5,
        InodeKind::Symlink { .. } => 7,
    }
}
