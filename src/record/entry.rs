//! The record as a host reads it: one entry after the other, without a look at the tree.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use memchr::memchr;

use super::holes::Holes;
use super::line::{RecordLine, RecordLines, broken, number, relative, unescape};
use crate::error::Result;
use crate::layer::{Device, Timestamp, split_parent};

/// What a layer has at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayerEntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Another name of a file that the record has an entry for.
    Hardlink,
    /// A hard link to a path that the layer does not have; a lower one may. It is not in the tree.
    LowerLink,
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// The path, in lower layers, is gone.
    Whiteout,
    /// Everything in the directory, in lower layers, is gone.
    Opaque,
}

/// One path of a layer and everything that the layer says of it, however much of that the file system could be told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerEntry {
    /// What it is.
    pub kind: LayerEntryKind,
    /// Relative to the root, without a leading slash and without symlinks in it; empty for the root. For whiteouts the
    /// path that is gone, for opaque markers the directory.
    pub path: Vec<u8>,
    /// Target of a symlink as written, of a hard link as a path like `path`; empty for the rest.
    pub link: Vec<u8>,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Of the last modification.
    pub mtime: Timestamp,
    /// Bytes of a file.
    pub size: u64,
    /// The number of a device; zeros for the rest.
    pub device: Device,
    /// A directory that the layer uses without an entry for it.
    pub is_implied: bool,
    /// Extended attributes, by their full names.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl LayerEntry {
    /// The path, as the host's system has paths.
    pub fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }

    /// What a directory without an entry of its own may have done with it (family 83).
    pub(crate) const IMPLIED_MODE: u32 = 0o755;

    /// A directory that the layer uses without an entry for it.
    pub(crate) fn implied_directory(path: Vec<u8>) -> LayerEntry {
        LayerEntry {
            kind: LayerEntryKind::Directory,
            mode: LayerEntry::IMPLIED_MODE,
            is_implied: true,
            ..LayerEntry::new(path)
        }
    }

    fn new(path: Vec<u8>) -> LayerEntry {
        LayerEntry {
            kind: LayerEntryKind::File,
            path,
            link: Vec::new(),
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            size: 0,
            device: Device::default(),
            is_implied: false,
            xattrs: Vec::new(),
        }
    }
}

/// The entries of a layer, in the order of the archive.
pub struct LayerEntries {
    record: OwnedFd,
    lines: RecordLines,
    failed: bool,
}

impl LayerEntries {
    pub(crate) fn new(record: OwnedFd) -> LayerEntries {
        LayerEntries { record, lines: RecordLines::default(), failed: false }
    }
}

impl Iterator for LayerEntries {
    type Item = Result<LayerEntry>;

    fn next(&mut self) -> Option<Result<LayerEntry>> {
        if self.failed {
            return None;
        }
        let entry = match self.lines.next(self.record.as_fd()) {
            Ok(Some(line)) => RecordedEntry::parse(&line).map(|recorded| recorded.entry),
            Ok(None) => return None,
            Err(error) => Err(error),
        };
        self.failed = entry.is_err();
        Some(entry)
    }
}

/// What a line says.
pub(crate) struct RecordedEntry {
    pub(crate) entry: LayerEntry,
    /// XXH3 of a file's content, where it was computed.
    pub(crate) sum: Option<u64>,
    /// The block of a disk at which a file's content begins.
    pub(crate) block: Option<u32>,
    /// Blocks of the content that are zeros alone, where a disk has it.
    pub(crate) holes: Holes,
}

impl RecordedEntry {
    pub(crate) fn parse(line: &RecordLine<'_>) -> Result<RecordedEntry> {
        let (mut sum, mut block, mut holes) = (None, None, Holes::default());
        let mut entry = LayerEntry::new(line.path()?);
        for (keyword, value) in line.keywords() {
            match keyword {
                b"xxh3" => sum = Some(number(value, 16)?),
                b"block" => block = Some(number(value, 10)?),
                b"holes" => holes = Holes::parse(value, entry.size)?,
                _ => entry.set_keyword(keyword, value)?,
            }
        }
        Ok(RecordedEntry { entry, sum, block, holes })
    }
}

impl LayerEntry {
    /// What a keyword says.
    fn set_keyword(&mut self, keyword: &[u8], value: &[u8]) -> Result<()> {
        match keyword {
            b"type" => {
                self.kind = match value {
                    b"file" => LayerEntryKind::File,
                    b"dir" => LayerEntryKind::Directory,
                    b"link" => LayerEntryKind::Symlink,
                    b"fifo" => LayerEntryKind::Fifo,
                    b"char" => LayerEntryKind::CharDevice,
                    b"block" => LayerEntryKind::BlockDevice,
                    _ => return Err(broken()),
                }
            }
            b"mode" => self.mode = number(value, 8)?,
            b"uid" => self.uid = number(value, 10)?,
            b"gid" => self.gid = number(value, 10)?,
            b"size" => self.size = number(value, 10)?,
            b"time" => self.mtime = time(value)?,
            b"link" => self.link = unescape(value).ok_or_else(broken)?,
            b"hardlink" | b"lowerlink" => {
                let is_lower = keyword == b"lowerlink";
                self.kind = if is_lower { LayerEntryKind::LowerLink } else { LayerEntryKind::Hardlink };
                self.link = relative(value).ok_or_else(broken)?;
            }
            b"device" => {
                let mut numbers = value.split(|&byte| byte == b',').skip(1);
                let mut next = || numbers.next().ok_or_else(broken).and_then(|digits| number(digits, 10));
                self.device = Device { major: next()?, minor: next()? };
            }
            b"implied" => self.is_implied = true,
            b"whiteout" if value == b"opaque" => {
                self.kind = LayerEntryKind::Opaque;
                self.path = split_parent(&self.path).0.to_vec();
            }
            b"whiteout" => {
                self.kind = LayerEntryKind::Whiteout;
                self.path = without_prefix(&self.path).ok_or_else(broken)?;
            }
            _ => {
                if let Some(name) = keyword.strip_prefix(b"xattr.") {
                    let name = unescape(name).ok_or_else(broken)?;
                    self.xattrs.push((name, BASE64.decode(value).map_err(|_| broken())?));
                }
            }
        }
        Ok(())
    }
}

/// `a/x` for `a/.wh.x`.
fn without_prefix(marker: &[u8]) -> Option<Vec<u8>> {
    let (parent, name) = split_parent(marker);
    let name = name.strip_prefix(crate::layer::WHITEOUT_PREFIX)?;
    Some(if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() })
}

/// Seconds since 1970, which may be before, and nanoseconds above them.
fn time(value: &[u8]) -> Result<Timestamp> {
    let (seconds, nanoseconds) = memchr(b'.', value).map(|at| (&value[..at], &value[at + 1..])).ok_or_else(broken)?;
    let seconds = match seconds.strip_prefix(b"-") {
        Some(before) => 0i64.checked_sub_unsigned(number(before, 10)?).ok_or_else(broken)?,
        None => number(seconds, 10)?,
    };
    Ok(Timestamp { seconds, nanoseconds: number(nanoseconds, 10)? })
}
