//! What a disk that the store keeps says of itself: a small file beside its files. Its first line is a checksum of the rest, as it
//! is stored; the rest is JSON.

use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::small_files::{checksum, read_small};
use crate::digest::Digest;
use crate::error::{Error, Result, Status};
use crate::record::DISK_RECIPE;
use crate::sys::{self, is_regular};

/// The file's name.
pub(super) const DESCRIPTION: &str = "description";
/// Of what the JSON has.
const VERSION: u32 = 2;
/// Of a description: some five thousand layers.
const MAX_DESCRIPTION_BYTES: usize = 1 << 20;

/// What a kept disk is, and what it came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiskDescription {
    /// Of the description; it is set when this is written.
    pub(crate) version: u32,
    /// The version of how disks are made.
    pub(crate) recipe: u32,
    /// What its bytes depend on.
    pub(crate) key: String,
    /// The layers, the lowest first.
    pub(crate) layers: Vec<DescribedLayer>,
    pub(crate) format: String,
    pub(crate) layout: String,
    pub(crate) size_bytes: u64,
    pub(crate) free_bytes: u64,
    pub(crate) free_inodes: u64,
    pub(crate) journal_bytes: Option<u64>,
    pub(crate) is_growable: bool,
    pub(crate) verity: Option<DescribedVerity>,
    pub(crate) label: String,
    /// Where the caller wanted one of its own.
    pub(crate) uuid: Option<String>,
    pub(crate) max_mtime_seconds: Option<i64>,
    pub(crate) allocated_bytes: u64,
    pub(crate) entries: u64,
    pub(crate) anomalies: u64,
    /// Its files, in the order of the device.
    pub(crate) parts: Vec<DescribedPart>,
    /// What puts them one behind the other.
    pub(crate) descriptor: Option<DescribedPart>,
    /// In which boot of the machine it was made; the store says that.
    pub(crate) boot: String,
}

/// A layer of a kept disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DescribedLayer {
    pub(crate) digest: String,
    pub(crate) diff_id: String,
    /// The image's config says the diff_id.
    pub(crate) is_claimed: bool,
    /// It is none of the image's, but on top of them.
    pub(crate) is_injected: bool,
}

/// The hashes of a kept disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DescribedVerity {
    /// Hexadecimal digits.
    pub(crate) root_hash: String,
    pub(crate) data_blocks: u64,
}

/// A file of a kept disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DescribedPart {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// The name of the tree whose file it is, too.
    pub(crate) tree: Option<String>,
}

/// What is found in the place of a description.
pub(crate) enum Described {
    /// One that counts.
    Good(Box<DiskDescription>),
    /// One by another recipe, or of another boot.
    Stale,
    /// None, or one that is not what was written.
    Damaged,
}

/// What every version of a description has.
#[derive(Deserialize)]
struct AnyDescription {
    version: u32,
    recipe: u32,
}

impl DiskDescription {
    /// The one in a disk's directory.
    pub(super) fn read(folder: BorrowedFd<'_>) -> Result<Described> {
        let fail = |errno| Error::os(errno, "read the description of a disk");
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(folder, DESCRIPTION, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(Described::Damaged),
            file => file.map_err(fail)?,
        };
        if !is_regular(&rustix::fs::fstat(&file).map_err(fail)?) {
            return Ok(Described::Damaged);
        }
        let bytes = match read_small(file.as_fd(), MAX_DESCRIPTION_BYTES) {
            Err(error) if error.status() == Status::Malformed || error.os_errno().is_some_and(sys::is_damage) => {
                return Ok(Described::Damaged);
            }
            bytes => bytes?,
        };
        let text = std::str::from_utf8(&bytes).unwrap_or_default();
        let Some((_, json)) = text.split_once('\n').filter(|(sum, json)| *sum == checksum(&[json])) else {
            return Ok(Described::Damaged);
        };
        match serde_json::from_str::<AnyDescription>(json) {
            Ok(any) if (any.version, any.recipe) == (VERSION, DISK_RECIPE) => {}
            Ok(_) => return Ok(Described::Stale),
            Err(_) => return Ok(Described::Damaged),
        }
        let found = serde_json::from_str(json);
        Ok(found.map_or(Described::Damaged, |found| Described::Good(Box::new(found))))
    }

    /// Writes it into a disk's directory that has none.
    pub(super) fn write(&mut self, folder: BorrowedFd<'_>) -> Result<()> {
        self.version = VERSION;
        let json = serde_json::to_string(self).map_err(|cause| Error::new(Status::Internal, cause.to_string()))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(folder, DESCRIPTION, flags, Mode::from_raw_mode(0o644));
        let text = format!("{}\n{json}", checksum(&[&json]));
        file.and_then(|file| sys::write_all(file.as_fd(), text.as_bytes()))
            .map_err(|errno| Error::os(errno, "write the description of a disk"))
    }

    /// The files that have a length, all of which must be there.
    pub(crate) fn files(&self) -> impl Iterator<Item = &DescribedPart> {
        self.parts.iter().chain(&self.descriptor)
    }

    /// Whether a file, by [`sys::file_id`], is one of its parts.
    pub(crate) fn has_file(&self, folder: BorrowedFd<'_>, id: (u64, u64)) -> Result<bool, Errno> {
        for part in &self.parts {
            match rustix::fs::statat(folder, part.name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if sys::file_id(&stat) == id => return Ok(true),
                Ok(_) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(false)
    }

    /// The digests of the image's layers, and of those on top of them, where all of them are some.
    pub(super) fn layer_digests(&self) -> Option<(Vec<Digest>, Vec<Digest>)> {
        let digests = |is_injected: bool| {
            let layers = self.layers.iter().filter(move |layer| layer.is_injected == is_injected);
            layers.map(|layer| Digest::parse(&layer.digest).ok()).collect::<Option<Vec<Digest>>>()
        };
        digests(false).zip(digests(true))
    }
}
