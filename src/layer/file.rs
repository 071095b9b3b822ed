//! A layer's file: read once, piece by piece, and hashed as it is read.

use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;

use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Error, Result, Status};

const PIECE: usize = 128 << 10;

/// What comes of a file.
pub(super) enum Piece {
    Bytes(Vec<u8>),
    /// The digest of the whole file.
    End(Digest),
}

pub(super) struct LayerFile {
    file: OwnedFd,
    hasher: Option<Hasher>,
}

impl LayerFile {
    pub(super) fn new(file: OwnedFd, algorithm: Algorithm) -> LayerFile {
        // A hint; where it is not taken nothing is lost.
        #[cfg(target_os = "linux")]
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential);
        LayerFile { file, hasher: Some(Hasher::new(algorithm)) }
    }

    /// The next piece, in `buffer`, which is emptied first.
    pub(super) fn read(&mut self, mut buffer: Vec<u8>) -> Result<Piece> {
        buffer.clear();
        buffer.reserve_exact(PIECE);
        rustix::io::retry_on_intr(|| rustix::io::read(&self.file, spare_capacity(&mut buffer)))
            .map_err(|errno| Error::os(errno, "read layer"))?;
        match &mut self.hasher {
            Some(hasher) if !buffer.is_empty() => {
                hasher.update(&buffer);
                Ok(Piece::Bytes(buffer))
            }
            hasher => match hasher.take() {
                Some(hasher) => Ok(Piece::End(hasher.finish())),
                None => Err(Error::new(Status::Internal, "layer file read past its end")),
            },
        }
    }
}
