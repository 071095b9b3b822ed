//! A layer's file: read once, piece by piece, and hashed as it is read, unless its reader's caller does that.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use super::follow::{GrowingBlob, Growth};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;

const READ_BYTES: usize = 128 << 10;
/// Nanoseconds between two looks at whether a wait is to end.
const STEP: i64 = 50_000_000;

/// What comes of a file.
pub(super) enum Piece {
    Bytes(Vec<u8>),
    /// The digest of the whole file; `None` where somebody else hashes it.
    End(Option<Digest>),
}

pub(crate) struct LayerFile {
    file: OwnedFd,
    read: u64,
    kind: Backing,
    /// It may be a pipe, in which there is nothing for as long as its writer likes; what ends the wait.
    wait: Option<Interrupt>,
}

enum Backing {
    /// It is all here; hashed until its end.
    Whole(Option<Hasher>),
    /// It is all here, and whoever gets its pieces hashes them.
    Unhashed,
    /// Somebody writes it, and hashes what is written.
    #[cfg_attr(not(feature = "pull"), expect(dead_code, reason = "only a pull follows a file"))]
    Growing(Arc<GrowingBlob>, Interrupt),
}

impl LayerFile {
    pub(crate) fn new(file: OwnedFd, algorithm: Algorithm) -> LayerFile {
        // A hint; where it is not taken nothing is lost.
        #[cfg(target_os = "linux")]
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential);
        LayerFile { file, read: 0, kind: Backing::Whole(Some(Hasher::new(algorithm))), wait: None }
    }

    /// A file or a pipe of the host's.
    pub(crate) fn of_host(file: OwnedFd, algorithm: Algorithm, interrupt: Interrupt) -> LayerFile {
        LayerFile { wait: Some(interrupt), ..LayerFile::new(file, algorithm) }
    }

    /// A file that somebody is writing.
    #[cfg(feature = "pull")]
    pub(crate) fn following(file: OwnedFd, growing: Arc<GrowingBlob>, interrupt: Interrupt) -> LayerFile {
        LayerFile { file, read: 0, kind: Backing::Growing(growing, interrupt), wait: None }
    }

    /// Leaves hashing to somebody else; false where the writer of the file does it, and nobody need.
    pub(super) fn leave_hashing(&mut self) -> bool {
        let is_ours = matches!(self.kind, Backing::Whole(_));
        if is_ours {
            self.kind = Backing::Unhashed;
        }
        is_ours
    }

    /// The next piece, in `buffer`, which is emptied first.
    pub(super) fn read(&mut self, mut buffer: Vec<u8>) -> Result<Piece> {
        buffer.clear();
        buffer.reserve_exact(READ_BYTES);
        self.wait_for_data()?;
        let read = match &self.kind {
            Backing::Whole(_) | Backing::Unhashed => {
                rustix::io::retry_on_intr(|| rustix::io::read(&self.file, spare_capacity(&mut buffer)))
            }
            // Its position is the writer's.
            Backing::Growing(growing, interrupt) => {
                if let Growth::End(digest) = growing.wait(self.read, interrupt)? {
                    return Ok(Piece::End(Some(digest)));
                }
                let at = self.read;
                rustix::io::retry_on_intr(|| rustix::io::pread(&self.file, spare_capacity(&mut buffer), at))
            }
        };
        self.read += read.map_err(|errno| Error::os(errno, "read layer"))? as u64;
        match &mut self.kind {
            Backing::Growing(..) if buffer.is_empty() => {
                Err(Error::new(Status::Internal, "layer file is shorter than written"))
            }
            Backing::Unhashed if buffer.is_empty() => Ok(Piece::End(None)),
            Backing::Growing(..) | Backing::Unhashed => Ok(Piece::Bytes(buffer)),
            Backing::Whole(Some(hasher)) if !buffer.is_empty() => {
                hasher.update(&buffer);
                Ok(Piece::Bytes(buffer))
            }
            Backing::Whole(hasher) => match hasher.take() {
                Some(hasher) => Ok(Piece::End(Some(hasher.finish()))),
                None => Err(Error::new(Status::Internal, "layer file read past its end")),
            },
        }
    }

    /// Everything, piece by piece; the digest of it.
    pub(crate) fn copy_to(mut self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<Digest> {
        let mut buffer = Vec::new();
        loop {
            match self.read(buffer)? {
                Piece::Bytes(bytes) => {
                    each(&bytes)?;
                    buffer = bytes;
                }
                Piece::End(digest) => {
                    return digest.ok_or_else(|| Error::new(Status::Internal, "a layer file that nobody hashed"));
                }
            }
        }
    }

    /// Nobody can end a read that waits, so that we do not begin one before there is something to read.
    fn wait_for_data(&self) -> Result<()> {
        let Some(interrupt) = &self.wait else { return Ok(()) };
        loop {
            interrupt.check()?;
            let mut ready = [PollFd::new(&self.file, PollFlags::IN)];
            let step = Timespec { tv_sec: 0, tv_nsec: STEP };
            match rustix::event::poll(&mut ready, Some(&step)) {
                Ok(0) | Err(Errno::INTR | Errno::AGAIN) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(Error::os(errno, "wait for an archive")),
            }
        }
    }
}
