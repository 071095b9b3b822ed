//! An inode of 256 bytes (Linux, Documentation/filesystems/ext4, "Index Nodes").

use super::checksum::Checksum;
use super::extents::I_BLOCK;
use super::geometry::INODE;
use crate::layer::{Device, Timestamp};

/// Bytes of the fields; attributes may follow.
pub(super) const INODE_FIELDS: usize = 160;
/// Bytes of them behind the 128 that older versions knew.
pub(super) const EXTRA: u16 = 32;
pub(super) const ROOT_DIRECTORY: u32 = 2;
/// What is reserved for growth.
pub(super) const RESIZE: u32 = 7;
pub(super) const JOURNAL: u32 = 8;
pub(super) const LOST_AND_FOUND: u32 = 11;
/// Names that an inode can have (`EXT4_LINK_MAX`). A directory with more, by those in it, says 1 (`dir_nlink`).
pub(in crate::disk) const MOST_LINKS: u32 = 65_000;
/// `i_block` is a tree of extents.
pub(super) const EXTENTS: u32 = 0x8_0000;
/// A directory is sorted by hashes.
pub(super) const INDEXED: u32 = 0x1000;
const SECTORS_IN_BLOCK: u64 = 8;

/// What an inode says.
pub(super) struct Ext4Inode<'a> {
    pub(super) number: u32,
    /// With the bits of its type.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Timestamp,
    pub(super) links: u32,
    pub(super) size: u64,
    /// Of content, of its tree and of attributes.
    pub(super) blocks: u64,
    pub(super) flags: u32,
    /// Extents, a short target or a device's number.
    pub(super) content: [u8; I_BLOCK],
    pub(super) xattr_block: u64,
    /// Attributes behind it.
    pub(super) xattrs: &'a [u8],
}

impl Ext4Inode<'_> {
    /// One that nobody has.
    pub(super) fn unused(number: u32) -> Ext4Inode<'static> {
        Ext4Inode {
            number,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            links: 0,
            size: 0,
            blocks: 0,
            flags: 0,
            content: [0; I_BLOCK],
            xattr_block: 0,
            xattrs: &[],
        }
    }

    pub(super) fn to_bytes(&self, seed: Checksum) -> [u8; INODE] {
        let mut bytes = [0; INODE];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        let halves = |id: u32| ((id as u16).to_le_bytes(), ((id >> 16) as u16).to_le_bytes());
        let (uid, gid) = (halves(self.uid), halves(self.gid));
        let sectors = self.blocks * SECTORS_IN_BLOCK;
        let (seconds, extra) = time(self.mtime);
        put(0x00, &self.mode.to_le_bytes());
        put(0x02, &uid.0);
        put(0x04, &(self.size as u32).to_le_bytes());
        // Of access, of change, of modification; further down of creation.
        for (at, extra_at) in [(0x08, 0x8c), (0x0c, 0x84), (0x10, 0x88), (0x90, 0x94)] {
            put(at, &seconds);
            put(extra_at, &extra);
        }
        put(0x18, &gid.0);
        put(0x1a, &(self.links as u16).to_le_bytes());
        put(0x1c, &(sectors as u32).to_le_bytes());
        put(0x20, &self.flags.to_le_bytes());
        put(0x28, &self.content);
        put(0x68, &(self.xattr_block as u32).to_le_bytes());
        put(0x6c, &((self.size >> 32) as u32).to_le_bytes());
        put(0x74, &((sectors >> 32) as u16).to_le_bytes());
        put(0x76, &((self.xattr_block >> 32) as u16).to_le_bytes());
        put(0x78, &uid.1);
        put(0x7a, &gid.1);
        put(0x80, &EXTRA.to_le_bytes());
        put(INODE_FIELDS, self.xattrs);
        let sum = seed.of_inode(self.number).update(&bytes).value();
        bytes[0x7c..0x7e].copy_from_slice(&(sum as u16).to_le_bytes());
        bytes[0x82..0x84].copy_from_slice(&((sum >> 16) as u16).to_le_bytes());
        bytes
    }
}

/// The earliest and the latest time that an inode can say, in seconds since 1970: 1901 and 2446.
const TIMES: std::ops::RangeInclusive<i64> = -(1 << 31)..=(1 << 34) - (1 << 31) - 1;

/// The low 32 bits of the seconds, and what stands for the rest: two more bits, and nanoseconds above them.
fn time(time: Timestamp) -> ([u8; 4], [u8; 4]) {
    let seconds = time.seconds.clamp(*TIMES.start(), *TIMES.end());
    let nanoseconds = if seconds == time.seconds { time.nanoseconds } else { 0 };
    let epoch = (seconds - i64::from(seconds as i32)) >> 32 & 3;
    ((seconds as i32).to_le_bytes(), (nanoseconds << 2 | epoch as u32).to_le_bytes())
}

/// A device's number: in the old form where that can say it (Linux, `old_encode_dev`, `new_encode_dev`).
pub(super) fn device_content(Device { major, minor }: Device) -> [u8; I_BLOCK] {
    let mut content = [0; I_BLOCK];
    if major < 256 && minor < 256 {
        content[0..4].copy_from_slice(&(major << 8 | minor).to_le_bytes());
    } else {
        content[4..8].copy_from_slice(&(minor & 0xff | major << 8 | (minor & !0xff) << 12).to_le_bytes());
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_34_bits_of_seconds() {
        // As the kernel reads them (`ext4_decode_extra_time`).
        let read = |(seconds, extra): ([u8; 4], [u8; 4])| {
            let (seconds, extra) = (i32::from_le_bytes(seconds), u32::from_le_bytes(extra));
            (i64::from(seconds) + (i64::from(extra & 3) << 32), extra >> 2)
        };
        for seconds in [0, 1, -1, -(1 << 31), (1 << 31) - 1, 1 << 31, (1 << 32) + 5, 3 << 32, *TIMES.end()] {
            assert_eq!(read(time(Timestamp { seconds, nanoseconds: 999_999_999 })), (seconds, 999_999_999));
        }
        assert_eq!(read(time(Timestamp { seconds: i64::MAX, nanoseconds: 5 })), (*TIMES.end(), 0));
        assert_eq!(read(time(Timestamp { seconds: i64::MIN, nanoseconds: 5 })), (*TIMES.start(), 0));
    }
}
