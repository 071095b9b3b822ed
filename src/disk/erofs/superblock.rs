//! The superblock: 128 bytes at 1,024, in a block of which nothing else is used (Linux, fs/erofs/erofs_fs.h,
//! `erofs_super_block`).

use crate::disk::block::BLOCK;

const MAGIC: u32 = 0xe0f5_e1e2;
const OFFSET: usize = 1024;
/// The checksum holds (Linux 5.5).
const COMPAT_SB_CHKSUM: u32 = 1;
/// Counts of inodes whose lower half libblkid takes for the magic number of minix, at the same place (util-linux#4530).
const LOOKS_LIKE_MINIX: [u16; 5] = [0x137f, 0x138f, 0x2468, 0x2478, 0x4d5a];

/// What a superblock says.
pub(super) struct Superblock {
    pub(super) root_nid: u16,
    pub(super) inodes: u64,
    /// Of the whole disk.
    pub(super) blocks: u32,
    /// Where inodes begin.
    pub(super) meta_block: u32,
    pub(super) uuid: [u8; 16],
    /// At most 15 bytes.
    pub(super) label: Vec<u8>,
}

impl Superblock {
    /// The first block of the disk.
    pub(super) fn to_block(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let inodes = match LOOKS_LIKE_MINIX.contains(&(self.inodes as u16)) {
            true => self.inodes + 1,
            false => self.inodes,
        };
        let mut put = |at: usize, bytes: &[u8]| block[OFFSET + at..][..bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC.to_le_bytes());
        put(8, &COMPAT_SB_CHKSUM.to_le_bytes());
        put(12, &[BLOCK.trailing_zeros() as u8]);
        put(14, &self.root_nid.to_le_bytes());
        put(16, &inodes.to_le_bytes());
        // Build time (24, 32): none, so that the same layers are the same bytes.
        put(36, &self.blocks.to_le_bytes());
        put(40, &self.meta_block.to_le_bytes());
        put(48, &self.uuid);
        put(64, &self.label[..self.label.len().min(15)]);
        // With a seed of ones and nothing turned round at the end, unlike the crate's.
        let checksum = !crc32c::crc32c(&block[OFFSET..]);
        block[OFFSET + 4..OFFSET + 8].copy_from_slice(&checksum.to_le_bytes());
        block
    }
}

/// Where a first block says that inodes begin.
pub(in crate::disk) fn metadata_block(first: &[u8; BLOCK]) -> u32 {
    let mut block = [0; 4];
    block.copy_from_slice(&first[OFFSET + 40..OFFSET + 44]);
    u32::from_le_bytes(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_the_kernel_wants() {
        let block = Superblock {
            root_nid: 1,
            inodes: 0x1_0000_137f,
            blocks: 9,
            meta_block: 4,
            uuid: *b"0123456789abcdef",
            label: b"a label that is too long".to_vec(),
        }
        .to_block();
        assert!(block[..OFFSET].iter().all(|&b| b == 0));
        let sb = &block[OFFSET..];
        assert_eq!(sb[..4], [0xe2, 0xe1, 0xf5, 0xe0]);
        assert_eq!((sb[12], sb[14], u32::from_le_bytes(sb[36..40].try_into().unwrap())), (12, 1, 9));
        assert_eq!(u64::from_le_bytes(sb[16..24].try_into().unwrap()), 0x1_0000_1380);
        assert_eq!((&sb[48..64], &sb[64..80]), (&b"0123456789abcdef"[..], &b"a label that is\0"[..]));
        let mut unsummed = sb.to_vec();
        unsummed[4..8].fill(0);
        // Bit by bit, as the polynomial says (RFC 3720, reversed).
        let mut crc = !0u32;
        for byte in unsummed {
            crc ^= u32::from(byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            }
        }
        assert_eq!(u32::from_le_bytes(sb[4..8].try_into().unwrap()), crc);
    }
}
