//! The lines of a record: how names are written in them, and how they are read.

use std::io::Write as _;
use std::os::fd::BorrowedFd;

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
        self.rest.split(|&b| b == b' ').filter(|word| !word.is_empty()).map(|word| {
            let equals = word.iter().position(|&b| b == b'=');
            equals.map_or((word, &b""[..]), |at| (&word[..at], &word[at + 1..]))
        })
    }

    /// Bytes of a file.
    pub(super) fn size(&self) -> Result<Option<u64>> {
        let size = self.keywords().find(|(keyword, _)| *keyword == b"size");
        let parse = |size: &[u8]| std::str::from_utf8(size).ok()?.parse().ok();
        size.map(|(_, size)| parse(size).ok_or_else(broken)).transpose()
    }

    /// XXH3 of a file's content, where it was computed.
    pub(crate) fn sum(&self) -> Result<Option<u64>> {
        let sum = self.keywords().find(|(keyword, _)| *keyword == b"xxh3");
        let parse = |sum: &[u8]| u64::from_str_radix(std::str::from_utf8(sum).ok()?, 16).ok();
        sum.map(|(_, sum)| parse(sum).ok_or_else(broken)).transpose()
    }

    /// The block of a disk at which a file's content begins.
    pub(crate) fn block(&self) -> Result<Option<u32>> {
        let block = self.keywords().find(|(keyword, _)| *keyword == b"block");
        let parse = |block: &[u8]| std::str::from_utf8(block).ok()?.parse().ok();
        block.map(|(_, block)| parse(block).ok_or_else(broken)).transpose()
    }

    pub(super) fn hardlink(&self) -> Result<Option<Vec<u8>>> {
        let target = self.keywords().find(|(keyword, _)| *keyword == b"hardlink");
        target.map(|(_, target)| relative(target).ok_or_else(broken)).transpose()
    }
}

/// The path behind `.` or `./<escaped>`.
pub(super) fn relative(name: &[u8]) -> Option<Vec<u8>> {
    match name {
        b"." => Some(Vec::new()),
        _ => unescape(name.strip_prefix(b"./")?),
    }
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
        let space = line.iter().position(|&b| b == b' ').ok_or_else(broken)?;
        Ok(Some(RecordLine { name: &line[..space], rest: &line[space..] }))
    }

    fn find_newline(&mut self, record: BorrowedFd<'_>) -> Result<Option<(usize, usize)>> {
        let mut searched = self.start;
        loop {
            if let Some(at) = self.buffer[searched..self.end].iter().position(|&b| b == b'\n') {
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
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..3)?).ok()?;
        out.push(u8::from_str_radix(digits, 8).ok()?);
        rest = &rest[3..];
    }
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
        for broken in [&br"a\04"[..], br"a\9zz", br"\400"] {
            assert_eq!(unescape(broken), None);
        }
    }
}
