//! One tar header block (POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format").
//!
//! What a field may hold, and which dialect a block is in, is decided here and as Go's archive/tar
//! decides it. A number that two readers take differently moves the next header. Then one of them
//! sees entries that the other does not (families 84 to 101). containerd, Docker and podman read
//! layers with it.

use std::borrow::Cow;
use std::ops::Range;

use super::entry::{Device, Timestamp};
use crate::error::{Error, Result, Status, quoted};

pub(super) const BLOCK: usize = 512;

const NAME_FIELD: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const TYPEFLAG: usize = 156;
const LINK_NAME: Range<usize> = 157..257;
const MAGIC_FIELD: Range<usize> = 257..263;
const MAGIC_AND_VERSION: Range<usize> = 257..265;
const MAJOR: Range<usize> = 329..337;
const MINOR: Range<usize> = 337..345;
const PREFIX_FIELD: Range<usize> = 345..500;
/// star's is shorter, and at its end a header says whose it is.
const STAR_PREFIX: Range<usize> = 345..476;
const STAR_TRAILER: Range<usize> = 508..512;
/// GNU's access and change time, where others have the prefix.
const GNU_TIMES: [Range<usize>; 2] = [345..357, 357..369];

/// The dialect, which decides where a name begins and whether there are device numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Before there was a magic, or one that nobody knows.
    V7,
    Ustar,
    Star,
    Gnu,
}

/// A header whose checksum holds.
pub(super) struct Header<'a> {
    block: &'a [u8; BLOCK],
    pub(super) dialect: Dialect,
}

impl<'a> Header<'a> {
    /// Checks a block that is not all zeros.
    pub(super) fn parse(block: &'a [u8; BLOCK]) -> Result<Header<'a>> {
        if !checksum_holds(block) {
            return Err(malformed("checksum of a header does not hold"));
        }
        let dialect = match &block[MAGIC_FIELD] {
            b"ustar\0" if &block[STAR_TRAILER] == b"tar\0" => Dialect::Star,
            b"ustar\0" => Dialect::Ustar,
            _ if &block[MAGIC_AND_VERSION] == b"ustar  \0" => Dialect::Gnu,
            _ => Dialect::V7,
        };
        Ok(Header { block, dialect })
    }

    pub(super) fn block(&self) -> &'a [u8; BLOCK] {
        self.block
    }

    pub(super) fn typeflag(&self) -> u8 {
        self.block[TYPEFLAG]
    }

    /// The name, with the prefix where the dialect has one.
    pub(super) fn name(&self) -> Cow<'a, [u8]> {
        let (name, prefix) = (self.text(NAME_FIELD), self.prefix());
        if prefix.is_empty() { Cow::Borrowed(name) } else { Cow::Owned([prefix, b"/", name].concat()) }
    }

    fn prefix(&self) -> &'a [u8] {
        match self.dialect {
            Dialect::V7 => b"",
            Dialect::Ustar => self.text(PREFIX_FIELD),
            Dialect::Star => self.text(STAR_PREFIX),
            Dialect::Gnu => {
                // Go before 1.8 put a prefix here for large ids with long names, where GNU has times.
                let is_time = |range: &Range<usize>| {
                    let field = &self.block[range.clone()];
                    field[0] == 0 || number(field).is_some()
                };
                let prefix = self.text(PREFIX_FIELD);
                if GNU_TIMES.iter().all(is_time) || !prefix.is_ascii() { b"" } else { prefix }
            }
        }
    }

    pub(super) fn link_name(&self) -> &'a [u8] {
        self.text(LINK_NAME)
    }

    /// Whether entries of the type have no data, whatever their size field says: the next header follows at once (D3).
    pub(super) fn is_without_data(&self) -> bool {
        matches!(self.typeflag(), b'1'..=b'6')
    }

    /// Bytes of data after the header.
    pub(super) fn size(&self) -> Result<u64> {
        self.unsigned("size", SIZE)
    }

    /// That the size of what has no data is a number at all.
    pub(super) fn check_size(&self) -> Result<()> {
        let field = &self.block[SIZE];
        number(field).map(drop).ok_or_else(|| malformed(format!("size field {} is no number", quoted(field))))
    }

    /// Permission bits; whatever else writers put there is dropped (family 71).
    pub(super) fn mode(&self) -> u32 {
        number(&self.block[MODE]).map_or(0, |mode| (mode & 0o7777) as u32)
    }

    pub(super) fn uid(&self) -> Result<u64> {
        self.unsigned("uid", UID)
    }

    pub(super) fn gid(&self) -> Result<u64> {
        self.unsigned("gid", GID)
    }

    /// Clamped to what fits; no number at all is the epoch (D8).
    pub(super) fn mtime(&self) -> Timestamp {
        let seconds = number(&self.block[MTIME]).unwrap_or(0);
        let clamped = seconds.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
        Timestamp { seconds: clamped, nanoseconds: 0 }
    }

    /// Numbers of a device node, within the kernel's 12 and 20 bits (family 67).
    pub(super) fn device(&self) -> Result<Device> {
        if self.dialect == Dialect::V7 {
            return Err(malformed("device node in a dialect without device numbers"));
        }
        let (major, minor) = (self.unsigned("major", MAJOR)?, self.unsigned("minor", MINOR)?);
        if major >= 1 << 12 || minor >= 1 << 20 {
            return Err(malformed(format!("device number {major}:{minor} does not exist")));
        }
        Ok(Device { major: major as u32, minor: minor as u32 })
    }

    /// A text, which ends at a NUL or with its field.
    fn text(&self, field: Range<usize>) -> &'a [u8] {
        let field = &self.block[field];
        &field[..field.iter().position(|&b| b == 0).unwrap_or(field.len())]
    }

    fn unsigned(&self, name: &str, field: Range<usize>) -> Result<u64> {
        unsigned(name, &self.block[field])
    }
}

/// The sum of all bytes with the checksum field taken as spaces; some old writers added signed bytes (family 98).
pub(super) fn checksum_holds(block: &[u8; BLOCK]) -> bool {
    let (mut unsigned_sum, mut signed_sum) = (8 * i128::from(b' '), 8 * i128::from(b' '));
    for &byte in block[..148].iter().chain(&block[156..]) {
        unsigned_sum += i128::from(byte);
        signed_sum += i128::from(byte as i8);
    }
    number(&block[CHECKSUM]).is_some_and(|sum| sum == unsigned_sum || sum == signed_sum)
}

fn unsigned(field: &str, bytes: &[u8]) -> Result<u64> {
    number(bytes)
        .and_then(|n| u64::try_from(n).ok())
        .filter(|&n| i64::try_from(n).is_ok())
        .ok_or_else(|| malformed(format!("{field} field {} is not a number in range", quoted(bytes))))
}

/// A numeric field. It has octal digits between spaces and NULs; what follows a NUL is nothing.
/// With the top bit set it is a big-endian number in two's complement. An empty field is zero.
/// `None` for everything else.
pub(super) fn number(field: &[u8]) -> Option<i128> {
    if field.first().is_some_and(|&b| b & 0x80 != 0) {
        // The marker bit is not part of the number, the bit below is its sign.
        let first = i128::from(((field[0] << 1) as i8) >> 1);
        return Some(field[1..].iter().fold(first, |n, &b| (n << 8) | i128::from(b)));
    }
    let is_padding = |b: &u8| matches!(b, b' ' | 0);
    let start = field.iter().position(|b| !is_padding(b)).unwrap_or(field.len());
    let end = field.iter().rposition(|b| !is_padding(b)).map_or(start, |last| last + 1);
    let digits = field[start..end].split(|&b| b == 0).next().unwrap_or_default();
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
            (b"\0\x00644\0\0\0", Some(0o644)),
            (b"\0 644 \0 ", Some(0o644)),
            (b"644\0garb", Some(0o644)),
            (b"644 \0 x\0", None),
            (b"\t644\0\0\0\0", None),
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
