//! One tar header block (POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format").
//!
//! Where the fields lie is the `tar` crate's knowledge. What their contents may be is decided here, because a number
//! that two readers take differently moves the next header, and then one of them sees entries that the other does not
//! (families 84 to 101).

use std::borrow::Cow;

use super::entry::{Device, Timestamp};
use crate::error::{Error, Result, Status, quoted};

pub(super) const BLOCK: usize = 512;

/// The dialect, which decides what the type flags mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    V7,
    Ustar,
    Gnu,
}

/// A header whose checksum and magic hold.
pub(super) struct Header<'a> {
    fields: &'a tar::Header,
    pub(super) dialect: Dialect,
}

impl<'a> Header<'a> {
    /// Checks a block that is not all zeros.
    pub(super) fn parse(block: &'a [u8; BLOCK]) -> Result<Header<'a>> {
        if !checksum_holds(block) {
            return Err(malformed("checksum of a header does not hold"));
        }
        let dialect = match &block[257..265] {
            b"ustar\x0000" => Dialect::Ustar,
            b"ustar  \0" => Dialect::Gnu,
            [0, 0, 0, 0, 0, ..] => Dialect::V7,
            magic => return Err(malformed(format!("unknown header magic {}", quoted(magic)))),
        };
        Ok(Header { fields: tar::Header::from_byte_slice(block), dialect })
    }

    pub(super) fn block(&self) -> &'a [u8; BLOCK] {
        self.fields.as_bytes()
    }

    pub(super) fn typeflag(&self) -> u8 {
        self.fields.as_old().linkflag[0]
    }

    /// The name, with the prefix where the dialect has one.
    pub(super) fn name(&self) -> Cow<'a, [u8]> {
        self.fields.path_bytes()
    }

    pub(super) fn link_name(&self) -> Cow<'a, [u8]> {
        self.fields.link_name_bytes().unwrap_or(Cow::Borrowed(b""))
    }

    /// Bytes of data after the header.
    pub(super) fn size(&self) -> Result<u64> {
        unsigned("size", &self.fields.as_old().size)
    }

    /// Permission bits; whatever else writers put there is dropped (family 71).
    pub(super) fn mode(&self) -> u32 {
        number(&self.fields.as_old().mode).map_or(0, |mode| (mode & 0o7777) as u32)
    }

    pub(super) fn uid(&self) -> Result<u64> {
        unsigned("uid", &self.fields.as_old().uid)
    }

    pub(super) fn gid(&self) -> Result<u64> {
        unsigned("gid", &self.fields.as_old().gid)
    }

    /// Clamped to what fits; no number at all is the epoch (D8).
    pub(super) fn mtime(&self) -> Timestamp {
        let seconds = number(&self.fields.as_old().mtime).unwrap_or(0);
        let clamped = seconds.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
        Timestamp { seconds: clamped, nanoseconds: 0 }
    }

    /// Numbers of a device node, within the kernel's 12 and 20 bits (family 67).
    pub(super) fn device(&self) -> Result<Device> {
        let (major, minor) = match (self.fields.as_ustar(), self.fields.as_gnu()) {
            (Some(ustar), _) => (unsigned("major", &ustar.dev_major)?, unsigned("minor", &ustar.dev_minor)?),
            (_, Some(gnu)) => (unsigned("major", &gnu.dev_major)?, unsigned("minor", &gnu.dev_minor)?),
            _ => return Err(malformed("device node in a dialect without device numbers")),
        };
        if major >= 1 << 12 || minor >= 1 << 20 {
            return Err(malformed(format!("device number {major}:{minor} does not exist")));
        }
        Ok(Device { major: major as u32, minor: minor as u32 })
    }
}

/// The sum of all bytes with the checksum field taken as spaces; some old writers added signed bytes (family 98).
pub(super) fn checksum_holds(block: &[u8; BLOCK]) -> bool {
    let (mut unsigned_sum, mut signed_sum) = (8 * i128::from(b' '), 8 * i128::from(b' '));
    for &byte in block[..148].iter().chain(&block[156..]) {
        unsigned_sum += i128::from(byte);
        signed_sum += i128::from(byte as i8);
    }
    number(&block[148..156]).is_some_and(|sum| sum == unsigned_sum || sum == signed_sum)
}

fn unsigned(field: &str, bytes: &[u8]) -> Result<u64> {
    number(bytes)
        .and_then(|n| u64::try_from(n).ok())
        .filter(|&n| i64::try_from(n).is_ok())
        .ok_or_else(|| malformed(format!("{field} field {} is not a number in range", quoted(bytes))))
}

/// A numeric field: octal digits among spaces, ended by a space, a NUL or the field; or, with the top bit set, a big-
/// endian number in two's complement. An empty field is zero. `None` for everything else.
pub(super) fn number(field: &[u8]) -> Option<i128> {
    if field.first().is_some_and(|&b| b & 0x80 != 0) {
        // The marker bit is not part of the number, the bit below is its sign.
        let first = i128::from(((field[0] << 1) as i8) >> 1);
        return Some(field[1..].iter().fold(first, |n, &b| (n << 8) | i128::from(b)));
    }
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    let digits = field[..end].trim_ascii();
    digits.iter().try_fold(0i128, |n, &b| matches!(b, b'0'..=b'7').then(|| n * 8 + i128::from(b - b'0')))
}

pub(super) fn malformed(why: impl std::fmt::Display) -> Error {
    Error::new(Status::Malformed, format!("tar: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn family_97_numbers() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"644     ", Some(0o644)),
            (b"00000000777", Some(0o777)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Some((1 << 94) - 1)),
            (b"+644\0\0\0\0", None),
            (b"-644\0\0\0\0", None),
            (b"0x644\0\0\0", None),
            (b"6 44\0\0\0\0", None),
            (b"888\0\0\0\0\0", None),
        ] {
            assert_eq!(number(field), value, "{}", quoted(field));
        }
        assert!(unsigned("size", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe").is_err());
        assert!(unsigned("size", b"\x80\0\0\0\x80\0\0\0\0\0\0\0").is_err());
    }

    #[test]
    fn family_98_checksums() {
        let mut header = tar::Header::new_ustar();
        header.set_path("caf\u{e9}").unwrap();
        header.set_size(0);
        header.set_cksum();
        let mut block = *header.as_bytes();
        assert!(Header::parse(&block).is_ok());
        let signed: i32 =
            block.iter().enumerate().map(|(i, &b)| if (148..156).contains(&i) { 32 } else { i32::from(b as i8) }).sum();
        block[148..156].copy_from_slice(format!("{signed:06o}\0 ").as_bytes());
        assert!(Header::parse(&block).is_ok());
        block[0] ^= 1;
        assert!(Header::parse(&block).is_err());
    }
}
