//! The lines of a record: how names are written in them, and how they are read.

use std::io::Write as _;
use std::os::fd::BorrowedFd;

use memchr::memchr;
use rustix::io::Errno;

use super::head::RECORD_HEAD_LEN;
use crate::error::{Error, Result, Status};

/// A line as it stands in the record.
pub(crate) struct RecordLine<'a> {
    /// `.` or `./<path>`, escaped.
    pub(super) name: &'a [u8],
    /// What follows, with the space before it.
    pub(super) rest: &'a [u8],
}

impl RecordLine<'_> {
    pub(crate) fn path(&self) -> Result<Vec<u8>> {
        relative(self.name).ok_or_else(broken)
    }

    /// Keywords and their values, as they stand; a keyword without a value has an empty one.
    pub(super) fn keywords(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = self.rest;
        std::iter::from_fn(move || {
            while !rest.is_empty() {
                let end = memchr(b' ', rest).unwrap_or(rest.len());
                let word = &rest[..end];
                rest = rest.get(end + 1..).unwrap_or_default();
                if !word.is_empty() {
                    let equals = memchr(b'=', word);
                    return Some(equals.map_or((word, &b""[..]), |at| (&word[..at], &word[at + 1..])));
                }
            }
            None
        })
    }

    fn keyword(&self, wanted: &[u8]) -> Option<&[u8]> {
        self.keywords().find_map(|(keyword, value)| (keyword == wanted).then_some(value))
    }

    /// Whether lower layers may lose something by it.
    pub(crate) fn may_hide(&self) -> bool {
        self.keyword(b"type") == Some(b"dir") || self.keyword(b"whiteout").is_some()
    }

    /// Bytes of a file.
    pub(super) fn size(&self) -> Result<Option<u64>> {
        self.keyword(b"size").map(|size| number(size, 10)).transpose()
    }

    pub(super) fn hardlink(&self) -> Result<Option<Vec<u8>>> {
        self.keyword(b"hardlink").map(|target| relative(target).ok_or_else(broken)).transpose()
    }
}

/// The path behind `.` or `./<escaped>`.
pub(super) fn relative(name: &[u8]) -> Option<Vec<u8>> {
    match name {
        b"." => Some(Vec::new()),
        _ => unescape(name.strip_prefix(b"./")?),
    }
}

/// Digits alone, as few as one.
pub(super) fn number<T: TryFrom<u64>>(text: &[u8], radix: u32) -> Result<T> {
    let add = |number: u64, &byte: &u8| {
        let digit = char::from(byte).to_digit(radix)?;
        number.checked_mul(radix.into())?.checked_add(digit.into())
    };
    let number = if text.is_empty() { None } else { text.iter().try_fold(0, add) };
    number.and_then(|number| T::try_from(number).ok()).ok_or_else(broken)
}

pub(super) fn broken() -> Error {
    Error::new(Status::Malformed, "a metadata record is damaged")
}

/// Reads a record's lines in turn, comments and empty ones left out.
pub(crate) struct RecordLines {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    offset: u64,
}

impl Default for RecordLines {
    fn default() -> RecordLines {
        RecordLines { buffer: vec![0; 64 << 10], start: 0, end: 0, offset: RECORD_HEAD_LEN as u64 }
    }
}

impl RecordLines {
    /// The next line; `None` at the end.
    pub(crate) fn next(&mut self, record: BorrowedFd<'_>) -> Result<Option<RecordLine<'_>>> {
        let (mut start, mut end);
        loop {
            (start, end) = match self.find_newline(record)? {
                Some(range) => range,
                None => return Ok(None),
            };
            self.start = end + 1;
            if start < end && self.buffer[start] != b'#' {
                break;
            }
        }
        let line = &self.buffer[start..end];
        let space = memchr(b' ', line).ok_or_else(broken)?;
        Ok(Some(RecordLine { name: &line[..space], rest: &line[space..] }))
    }

    fn find_newline(&mut self, record: BorrowedFd<'_>) -> Result<Option<(usize, usize)>> {
        let mut searched = self.start;
        loop {
            if let Some(at) = memchr(b'\n', &self.buffer[searched..self.end]) {
                return Ok(Some((self.start, searched + at)));
            }
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            searched = self.end;
            if self.end == self.buffer.len() {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
            match rustix::io::pread(record, &mut self.buffer[self.end..], self.offset) {
                Ok(0) if self.end == 0 => return Ok(None),
                Ok(0) => return Err(broken()),
                Ok(n) => {
                    self.end += n;
                    self.offset += n as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::os(errno, "read a metadata record")),
            }
        }
    }
}

/// vis(3) with octal escapes, as mtree(5) has it: everything but plain graphic characters.
pub(super) fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        if byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'#' | b'=' | b'*' | b'?' | b'[') {
            out.push(byte);
        } else {
            let _ = write!(out, "\\{byte:03o}");
        }
    }
}

/// The bytes that [`escape`] was given.
pub(super) fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        out.push(number(rest.get(at + 1..at + 4)?, 8).ok()?);
        rest = &rest[at + 4..];
    }
    out.extend_from_slice(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_as_text() {
        let name = b"a b\n#=\xff\\x";
        let mut out = Vec::new();
        escape(name, &mut out);
        assert_eq!(out, br"a\040b\012\043\075\377\134x");
        assert_eq!(unescape(&out).unwrap(), name);
        for broken in [&br"a\04"[..], br"a\9zz", br"\400", br"a\"] {
            assert_eq!(unescape(broken), None);
        }
    }

    #[test]
    fn numbers_have_digits_alone_and_fit() {
        let numbers = |text: &str, radix| number::<u32>(text.as_bytes(), radix).ok();
        assert_eq!(
            (numbers("0755", 8), numbers("4294967295", 10), numbers("fF", 16)),
            (Some(0o755), Some(u32::MAX), Some(255))
        );
        for (text, radix) in
            [("", 10), ("+1", 10), ("-1", 10), ("8", 8), ("1 ", 10), ("4294967296", 10), ("1fffffffffffffffff", 16)]
        {
            assert_eq!(numbers(text, radix), None, "{text}");
        }
    }

    #[test]
    fn keywords_are_found_between_spaces() {
        let line = RecordLine { name: b"./a", rest: b" type=dir  implied size=5=6 " };
        let keywords: Vec<_> = line.keywords().collect();
        assert_eq!(keywords, [(&b"type"[..], &b"dir"[..]), (b"implied", b""), (b"size", b"5=6")]);
        assert!(line.may_hide() && line.size().is_err());
        assert!(!RecordLine { name: b"./a", rest: b" type=file" }.may_hide());
    }
}
