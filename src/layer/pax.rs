//! PAX extended headers (POSIX.1-2017, pax, "pax Extended Header"; families 84 to 89, 92, 96 and 105).
//!
//! The records are cut by their lengths here and not by the `tar` crate, whose iterator splits at
//! newlines. Values of extended attributes are binary and contain any byte. A record that two
//! readers could take differently is an error.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::entry::Timestamp;
use super::number::{decimal, malformed};
use super::sparse::PaxSparse;
use crate::error::{Result, quoted};
use crate::limits::{self, LayerLimits};

/// libarchive leaves the padding out.
const LIBARCHIVE_BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What the extended header before an entry says of it. A value that is given twice counts as given last.
#[derive(Debug, Default)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) linkpath: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Timestamp>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    xattrs_given: u64,
    xattrs_bytes: u64,
    /// Attributes in the form of libarchive, which writes both forms.
    libarchive_xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The entry is a GNU sparse file in one of the PAX forms.
    pub(super) sparse: Option<PaxSparse>,
    /// ACLs, file flags or labels in forms of their own, which are not applied.
    pub(super) has_skipped: bool,
}

/// Reads the records of a local header (type `x`).
pub(super) fn read_local(data: &[u8], limits: &LayerLimits) -> Result<Extended> {
    let mut extended = Extended::default();
    for_each_record(data, |key, value| extended.set(key, value, limits))?;
    Ok(extended)
}

/// Checks a global header (type `g`): one that would change the name or extent of every later entry is refused (D7),
/// everything else is ignored.
pub(super) fn check_global(data: &[u8]) -> Result<()> {
    for_each_record(data, |key, _| match key {
        b"path" | b"linkpath" | b"size" => Err(malformed(format!("a global header sets {}", quoted(key)))),
        _ if key.starts_with(b"GNU.sparse.") => Err(malformed("a global header describes a sparse file")),
        _ => Ok(()),
    })
}

impl Extended {
    /// Extended attributes, with those that only libarchive's form has, if what it says of them can be read.
    pub(super) fn take_xattrs(&mut self, limits: &LayerLimits) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        for (name, value) in std::mem::take(&mut self.libarchive_xattrs) {
            let given = self.xattrs.iter().any(|(other, _)| *other == name);
            if !given {
                self.set_xattr(&name, &value, limits)?;
            }
        }
        Ok(std::mem::take(&mut self.xattrs))
    }

    fn set(&mut self, key: &[u8], value: &[u8], limits: &LayerLimits) -> Result<()> {
        match key {
            b"path" => self.path = Some(text(key, value)?),
            b"linkpath" => self.linkpath = Some(text(key, value)?),
            b"size" => self.size = Some(decimal(key, value)?),
            b"uid" => self.uid = Some(decimal(key, value)?),
            b"gid" => self.gid = Some(decimal(key, value)?),
            b"mtime" => self.mtime = Some(timestamp(value)?),
            // Holes in a form that nobody writes any more: without them the data would be taken for another file's
            // (family 93).
            b"SUN.holesdata" => return Err(malformed("a sparse file of Solaris")),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.set_xattr(name, value, limits)?;
                } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    self.set_libarchive_xattr(name, value, limits)?;
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.get_or_insert_default().set(key, value, limits)?;
                } else {
                    let skipped: [&[u8]; 3] = [b"SCHILY.acl.", b"SCHILY.fflags", b"RHT.security.selinux"];
                    self.has_skipped |= skipped.iter().any(|prefix| key.starts_with(prefix));
                }
            }
        }
        Ok(())
    }

    fn set_xattr(&mut self, name: &[u8], value: &[u8], limits: &LayerLimits) -> Result<()> {
        if name.is_empty() || name.contains(&0) {
            return Err(malformed(format!("extended attribute name {}", quoted(name))));
        }
        limits::XATTR_VALUE.check(limits, value.len() as u64, || quoted(name))?;
        match self.xattrs.iter_mut().find(|(other, _)| other == name) {
            Some((_, other)) => *other = value.to_vec(),
            None => self.xattrs.push((name.to_vec(), value.to_vec())),
        }
        // One that is given again counts again, since it is looked for again.
        self.xattrs_given += 1;
        limits::XATTRS.check(limits, self.xattrs_given, || quoted(name))?;
        self.xattrs_bytes += (name.len() + value.len()) as u64;
        limits::XATTRS_SIZE.check(limits, self.xattrs_bytes, || quoted(name))
    }

    /// libarchive has the name percent-encoded and the value in base 64 (family 80).
    fn set_libarchive_xattr(&mut self, name: &[u8], value: &[u8], limits: &LayerLimits) -> Result<()> {
        match LIBARCHIVE_BASE64.decode(value) {
            Ok(value) => self.libarchive_xattrs.push((percent_encoding::percent_decode(name).collect(), value)),
            Err(_) => self.has_skipped = true,
        }
        limits::XATTRS.check(limits, self.libarchive_xattrs.len() as u64, || quoted(name))
    }
}

/// Calls `each` with key and value of every record `"<length> <key>=<value>\n"`, the length counting itself.
fn for_each_record(mut data: &[u8], mut each: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
    while !data.is_empty() {
        let space =
            data.iter().take(20).position(|&b| b == b' ').ok_or_else(|| malformed("record without a length"))?;
        let length = decimal(b"record length", &data[..space])?;
        let length = usize::try_from(length).ok().filter(|&n| n > space + 1 && n <= data.len());
        let Some(length) = length else { return Err(malformed("record length does not fit the header")) };
        let (record, rest) = data.split_at(length);
        let Some((b'\n', body)) = record[space + 1..].split_last() else {
            return Err(malformed("record does not end with a newline"));
        };
        let equals = body.iter().position(|&b| b == b'=').ok_or_else(|| malformed("record without ="))?;
        if equals == 0 {
            return Err(malformed("record with an empty key"));
        }
        each(&body[..equals], &body[equals + 1..])?;
        data = rest;
    }
    Ok(())
}

fn text(key: &[u8], value: &[u8]) -> Result<Vec<u8>> {
    if value.is_empty() || value.contains(&0) {
        let key = String::from_utf8_lossy(key);
        return Err(malformed(format!("{key} is {}", quoted(value))));
    }
    Ok(value.to_vec())
}

/// `[-]<seconds>[.<fraction>]`; times beyond what fits are clamped, digits beyond nanoseconds are cut (family 81).
fn timestamp(value: &[u8]) -> Result<Timestamp> {
    let bad = || malformed(format!("mtime is {}", quoted(value)));
    let (negative, digits) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let mut parts = digits.splitn(2, |&b| b == b'.');
    let (whole, fraction) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if whole.is_empty() || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        return Err(bad());
    }
    let seconds = std::str::from_utf8(whole).ok().and_then(|text| text.parse::<i64>().ok()).unwrap_or(i64::MAX);
    let mut nanoseconds = 0u32;
    for i in 0..9 {
        nanoseconds = nanoseconds * 10 + fraction.get(i).map_or(0, |digit| u32::from(digit - b'0'));
    }
    Ok(match (negative, nanoseconds) {
        (false, _) => Timestamp { seconds, nanoseconds },
        (true, 0) => Timestamp { seconds: -seconds, nanoseconds: 0 },
        (true, _) => Timestamp { seconds: (-seconds).saturating_sub(1), nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Status;

    fn read(data: &[u8]) -> Result<Extended> {
        read_local(data, &LayerLimits::default())
    }

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let body = key.len() + value.len() + 3;
        let mut length = body + 1;
        while length != body + length.to_string().len() {
            length = body + length.to_string().len();
        }
        [length.to_string().as_bytes(), b" ", key.as_bytes(), b"=", value, b"\n"].concat()
    }

    #[test]
    fn values_keep_every_byte_and_the_last_one_counts() {
        let data = [
            record("path", b"12345"),
            record("SCHILY.xattr.user.bin", b"a\nb=c\0"),
            record("path", b"a\nb"),
            record("comment", &[b'x'; 65536]),
            record("charset", b"BINARY"),
        ]
        .concat();
        let extended = read(&data).unwrap();
        assert_eq!(extended.path.unwrap(), b"a\nb");
        assert_eq!(extended.xattrs, [(b"user.bin".to_vec(), b"a\nb=c\0".to_vec())]);
    }

    #[test]
    fn families_87_and_89_malformed_records_are_errors() {
        for data in [
            &b"9 path=x\n5"[..],
            b"path=x\n",
            b"0 path=x\n",
            b"1 path=x\n",
            b"8 path=x\n",
            b"11 path=x\n",
            b"999999999999999999999999 path=x\n",
            b"+9 path=x\n",
            b" 9 path=x\n",
            b"0x9 path=x\n",
            b"7 path\n",
            b"5 =x\n",
            b"9 path=xy",
        ] {
            assert_eq!(read(data).unwrap_err().status(), Status::Malformed, "{}", quoted(data));
        }
        for (key, value) in [
            ("path", &b""[..]),
            ("path", b"a\0b"),
            ("linkpath", b""),
            ("size", b""),
            ("size", b"+5"),
            ("size", b" 5"),
            ("size", b"0x5"),
            ("size", b"-1"),
            ("size", b"18446744073709551616"),
            ("uid", b"1.5"),
            ("mtime", b"NaN"),
            ("mtime", b""),
            ("mtime", b"-"),
            ("mtime", b"1.-5"),
        ] {
            assert_eq!(read(&record(key, value)).unwrap_err().status(), Status::Malformed, "{key}={}", quoted(value));
        }
    }

    #[test]
    fn family_81_times() {
        for (text, seconds, nanoseconds) in [
            ("0", 0, 0),
            ("1700000000.123456789", 1_700_000_000, 123_456_789),
            ("1.5", 1, 500_000_000),
            ("1.1234567899", 1, 123_456_789),
            ("1.", 1, 0),
            ("-1", -1, 0),
            ("-0.5", -1, 500_000_000),
            ("-1.25", -2, 750_000_000),
            ("99999999999999999999", i64::MAX, 0),
        ] {
            assert_eq!(timestamp(text.as_bytes()).unwrap(), Timestamp { seconds, nanoseconds }, "{text}");
        }
    }

    #[test]
    fn families_79_and_96_limits_and_global_headers() {
        let big = record("SCHILY.xattr.user.x", &vec![0; (64 << 10) + 1]);
        assert_eq!(read(&big).unwrap_err().status(), Status::Limit);
        let many: Vec<u8> =
            (0..20).flat_map(|i| record(&format!("SCHILY.xattr.user.{i}"), &vec![0; 60 << 10])).collect();
        assert_eq!(read(&many).unwrap_err().status(), Status::Limit);
        assert!(check_global(&record("comment", b"x")).is_ok());
        for key in ["path", "size", "linkpath", "GNU.sparse.major"] {
            assert_eq!(check_global(&record(key, b"1")).unwrap_err().status(), Status::Malformed, "{key}");
        }
    }
}
