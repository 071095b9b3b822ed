//! An inode, always in the long form of 64 bytes, since the short one has neither 32-bit owners nor
//! a time of its own. (Linux, fs/erofs/erofs_fs.h, `erofs_inode_extended`.)

use crate::layer::{Device, Timestamp};

/// Bytes of an inode.
pub(super) const INODE: usize = 64;
/// Inodes begin at multiples of this.
pub(super) const SLOT: usize = 32;
/// Data in blocks of its own (`EROFS_INODE_FLAT_PLAIN`).
const FLAT_PLAIN: u16 = 0;
/// The last part of the data behind the inode (`EROFS_INODE_FLAT_INLINE`).
const FLAT_INLINE: u16 = 2;
/// No block.
pub(super) const NO_BLOCK: u32 = u32::MAX;

/// What an inode says.
pub(super) struct DiskInode {
    /// With the bits of its type.
    pub(super) mode: u16,
    pub(super) is_inline: bool,
    pub(super) xattrs_count: u16,
    pub(super) size: u64,
    /// The first block, or a device's number.
    pub(super) u: u32,
    pub(super) nid: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Timestamp,
    pub(super) links: u32,
}

impl DiskInode {
    pub(super) fn to_bytes(&self) -> [u8; INODE] {
        let mut bytes = [0; INODE];
        let layout = if self.is_inline { FLAT_INLINE } else { FLAT_PLAIN };
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &(layout << 1 | 1).to_le_bytes());
        put(2, &self.xattrs_count.to_le_bytes());
        put(4, &self.mode.to_le_bytes());
        put(8, &self.size.to_le_bytes());
        put(16, &self.u.to_le_bytes());
        put(20, &self.nid.to_le_bytes());
        put(24, &self.uid.to_le_bytes());
        put(28, &self.gid.to_le_bytes());
        put(32, &self.mtime.seconds.to_le_bytes());
        put(40, &self.mtime.nanoseconds.to_le_bytes());
        put(44, &self.links.to_le_bytes());
        bytes
    }
}

/// A device's number as Linux keeps it (`new_encode_dev`).
pub(super) fn device_number(Device { major, minor }: Device) -> u32 {
    minor & 0xff | major << 8 | (minor & !0xff) << 12
}
