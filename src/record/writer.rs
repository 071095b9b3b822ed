//! Writes the record of a tree while the tree is made.

use std::hash::Hasher as _;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use twox_hash::XxHash3_64;

use super::entry::LayerEntry;
use super::head::RECORD_HEAD_LEN;
use super::holes::Holes;
use super::line::{RecordLine, escape};
use super::voided::Voided;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::layer::{Entry, Kind, Timestamp};
use crate::limits::{self, LayerLimits};
use crate::sys::write_all;

const FLUSH_FROM_BYTES: usize = 64 << 10;

/// A file that becomes a record, and its path for messages. Who made it publishes it.
pub(crate) struct RecordFile {
    handle: OwnedFd,
    path: PathBuf,
}

impl RecordFile {
    pub(crate) fn new(handle: OwnedFd, path: PathBuf) -> RecordFile {
        RecordFile { handle, path }
    }

    fn fail(&self, errno: Errno) -> Error {
        Error::os(errno, format_args!("write {}", self.path.display()))
    }

    fn write_all(&self, bytes: &[u8]) -> Result<()> {
        write_all(self.handle.as_fd(), bytes).map_err(|errno| self.fail(errno))
    }
}

/// Where a disk has the content of a file.
pub(crate) struct BlockPlace {
    /// The first one.
    pub(crate) block: u32,
    /// Blocks that are zeros alone.
    pub(crate) holes: Holes,
}

/// Writes the record of a tree while the tree is made.
pub(crate) struct RecordWriter {
    /// `None` where nobody wants a record.
    file: Option<RecordFile>,
    buffer: Vec<u8>,
    flushed: u64,
    lines: u64,
    /// Bytes of all files that the lines speak of.
    content: u64,
    /// Of the lines that were written.
    sum: XxHash3_64,
    voided: Voided,
    limits: LayerLimits,
}

impl RecordWriter {
    pub(crate) fn new(file: Option<RecordFile>, limits: LayerLimits) -> RecordWriter {
        RecordWriter {
            file,
            buffer: Vec::new(),
            flushed: 0,
            lines: 0,
            content: 0,
            sum: XxHash3_64::new(),
            voided: Voided::default(),
            limits,
        }
    }

    /// A file of the layer, with the XXH3 of its content, and where a disk has that.
    pub(crate) fn file(
        &mut self,
        real_path: &[u8],
        entry: &Entry,
        (sum, place): (Option<u64>, Option<BlockPlace>),
    ) -> Result<()> {
        self.content = self.content.saturating_add(entry.size);
        let metadata = (entry.mode, entry.uid, entry.gid, entry.mtime);
        self.line(real_path, entry.kind, metadata, &entry.xattrs, |out| {
            let _ = write!(out, " size={}", entry.size);
            if let Some(sum) = sum.filter(|_| entry.size > 0) {
                let _ = write!(out, " xxh3={sum:016x}");
            }
            if let Some(BlockPlace { block, holes }) = place.filter(|_| entry.size > 0) {
                let _ = write!(out, " block={block}");
                if !holes.is_empty() {
                    out.extend_from_slice(b" holes=");
                    holes.write(out);
                }
            }
        })
    }

    /// One entry of the layer, which is neither a file nor a hard link, by the real path that it came to be at.
    pub(crate) fn entry(&mut self, real_path: &[u8], entry: &Entry) -> Result<()> {
        let metadata = (entry.mode, entry.uid, entry.gid, entry.mtime);
        self.line(real_path, entry.kind, metadata, &entry.xattrs, |out| match entry.kind {
            Kind::Symlink => {
                out.extend_from_slice(b" link=");
                escape(&entry.link, out);
            }
            Kind::CharDevice(device) | Kind::BlockDevice(device) => {
                let _ = write!(out, " device=native,{},{}", device.major, device.minor);
            }
            Kind::Whiteout => out.extend_from_slice(b" whiteout=file"),
            Kind::Opaque => out.extend_from_slice(b" whiteout=opaque"),
            Kind::File | Kind::Directory | Kind::Fifo | Kind::Hardlink => {}
        })
    }

    /// A hard link that was made, both by their real paths. Its metadata are its target's.
    pub(crate) fn hardlink(&mut self, real_path: &[u8], real_target: &[u8]) -> Result<()> {
        self.link(real_path, b"hardlink", real_target)
    }

    /// A hard link to a path that only a lower layer can have, as the layer names it.
    pub(crate) fn lower_link(&mut self, real_path: &[u8], target: &[u8]) -> Result<()> {
        self.link(real_path, b"lowerlink", target)
    }

    fn link(&mut self, real_path: &[u8], keyword: &[u8], target: &[u8]) -> Result<()> {
        if self.file.is_none() {
            return Ok(());
        }
        let out = &mut self.buffer;
        out.extend_from_slice(b"./");
        escape(real_path, out);
        out.extend_from_slice(b" type=file ");
        out.extend_from_slice(keyword);
        out.extend_from_slice(b"=./");
        escape(target, out);
        out.push(b'\n');
        self.end_line()
    }

    /// A directory without an entry of its own.
    pub(crate) fn implied_directory(&mut self, path: &[u8]) -> Result<()> {
        let metadata = (LayerEntry::IMPLIED_MODE, 0, 0, Timestamp::default());
        self.line(path, Kind::Directory, metadata, &[], |out| out.extend_from_slice(b" implied"))
    }

    /// What was at a path, and everything below it, is gone.
    pub(crate) fn removed(&mut self, path: &[u8]) {
        if self.file.is_some() {
            self.voided.tree(path, self.lines);
        }
    }

    /// A directory's line will be followed by a better one; what is below it stays.
    pub(crate) fn superseded(&mut self, path: &[u8]) {
        if self.file.is_some() {
            self.voided.line(path, self.lines);
        }
    }

    /// Completes the record. `head` is given the bytes of all files and the sum of the lines.
    /// `successor` makes an empty file, should the lines have to be written once more; then that is
    /// the record.
    pub(crate) fn finish(
        mut self,
        head: impl FnOnce(u64, u64) -> [u8; RECORD_HEAD_LEN],
        successor: impl FnOnce() -> Result<RecordFile>,
        interrupt: &Interrupt,
    ) -> Result<()> {
        self.flush()?;
        let voided = std::mem::take(&mut self.voided);
        if let Some(file) = self.file.as_ref().filter(|_| !voided.is_empty()) {
            let mut out = RecordWriter::new(Some(successor()?), self.limits.clone());
            voided.compact(file.handle.as_fd(), &self.limits, interrupt, |line| out.copied_line(line))?;
            self = out;
            self.flush()?;
        }
        let Some(file) = &self.file else { return Ok(()) };
        rustix::fs::seek(&file.handle, SeekFrom::Start(0)).map_err(|errno| file.fail(errno))?;
        file.write_all(&head(self.content, self.sum.finish()))
    }

    /// A line out of another record.
    fn copied_line(&mut self, line: &RecordLine<'_>) -> Result<()> {
        self.content = self.content.saturating_add(line.size()?.unwrap_or(0));
        self.buffer.extend_from_slice(line.name);
        self.buffer.extend_from_slice(line.rest);
        self.buffer.push(b'\n');
        self.end_line()
    }

    fn line(
        &mut self,
        path: &[u8],
        kind: Kind,
        (mode, uid, gid, mtime): (u32, u32, u32, Timestamp),
        xattrs: &[(Vec<u8>, Vec<u8>)],
        rest: impl FnOnce(&mut Vec<u8>),
    ) -> Result<()> {
        if self.file.is_none() {
            return Ok(());
        }
        let out = &mut self.buffer;
        out.push(b'.');
        if !path.is_empty() {
            out.push(b'/');
            escape(path, out);
        }
        let name = match kind {
            Kind::Directory => "dir",
            Kind::Symlink => "link",
            Kind::Fifo => "fifo",
            Kind::CharDevice(_) => "char",
            Kind::BlockDevice(_) => "block",
            Kind::File | Kind::Hardlink | Kind::Whiteout | Kind::Opaque => "file",
        };
        let Timestamp { seconds, nanoseconds } = mtime;
        // Writing to a vector cannot fail.
        let _ = write!(out, " type={name} mode={mode:04o} uid={uid} gid={gid} time={seconds}.{nanoseconds:09}");
        rest(out);
        for (key, value) in xattrs {
            out.extend_from_slice(b" xattr.");
            escape(key, out);
            out.push(b'=');
            out.extend_from_slice(BASE64.encode(value).as_bytes());
        }
        out.push(b'\n');
        self.end_line()
    }

    fn end_line(&mut self) -> Result<()> {
        self.lines += 1;
        if self.buffer.len() >= FLUSH_FROM_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        if self.flushed == 0 {
            // The head's length is fixed because the digests are known last: it is written over this.
            file.write_all(&[b'\n'; RECORD_HEAD_LEN])?;
            self.flushed = RECORD_HEAD_LEN as u64;
        }
        self.flushed += self.buffer.len() as u64;
        limits::RECORD_SIZE.check(&self.limits, self.flushed, || file.path.display().to_string())?;
        self.sum.write(&self.buffer);
        file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}
