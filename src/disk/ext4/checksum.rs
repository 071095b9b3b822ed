//! The checksum of everything but content: CRC-32C without a last inversion, begun with the file system's UUID (Linux,
//! Documentation/filesystems/ext4, "Checksums").

/// A checksum so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checksum(u32);

impl Default for Checksum {
    fn default() -> Checksum {
        Checksum(!0)
    }
}

impl Checksum {
    pub(super) fn of_file_system(uuid: &[u8; 16]) -> Checksum {
        Checksum::default().update(uuid)
    }

    /// What belongs to an inode. Its generation is 0.
    pub(super) fn of_inode(self, number: u32) -> Checksum {
        self.update(&number.to_le_bytes()).update(&[0; 4])
    }

    pub(super) fn update(self, bytes: &[u8]) -> Checksum {
        // The crate inverts before and after.
        Checksum(!crc32c::crc32c_append(!self.0, bytes))
    }

    pub(super) fn value(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_checksum_of_the_standard_without_the_last_inversion() {
        // The check value of CRC-32C.
        assert_eq!(!Checksum::default().update(b"123456789").value(), 0xe306_9283);
        assert_eq!(Checksum::default().update(b"1234").update(b"56789"), Checksum::default().update(b"123456789"));
    }
}
