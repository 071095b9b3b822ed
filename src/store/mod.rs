//! The store: one directory, many processes, content named by digest.
//!
//! Every object is made as a partial that no reader looks for and becomes visible by one rename, in [`partial`]; that
//! rename is the only way in. What a name means, and what may be read under it, is in one file a kind: [`documents`]
//! (manifests and configs), [`layers`], [`names`], [`trees`].

#![forbid(unsafe_code)]

mod budget;
mod bundle;
mod directory;
mod documents;
mod flock;
mod format;
mod gc;
mod layers;
mod lease;
mod links;
mod lock;
mod names;
mod objects;
mod partial;
mod remove;
mod staged;
mod sweep;
mod syncer;
mod taken;
mod trees;
mod unnamed;
mod usage;

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::digest::Digest;
use crate::error::{Error, Result, Status};
use crate::limits;
use crate::sys;

pub(crate) use bundle::{BundleFolder, path_of};
pub use directory::Durability;
pub(crate) use directory::{Area, Directory};
pub use gc::{GcOptions, GcReport};
pub use lease::Lease;
pub(crate) use lease::{CallLease, check_lease};
pub(crate) use lock::{CollectionLock, Lock};
pub use names::{ImageName, TaggedImage};
pub(crate) use partial::{Partial, create_plain_directory};
pub(crate) use remove::{remove_tree, remove_tree_until};
pub use staged::Staged;
pub(crate) use trees::{record_name, was_opened_in_this_boot};
pub use usage::{DiskUsage, Usage};

/// What precedes the layer in the name of the lock on its extraction.
pub(crate) const EXTRACTION_LOCK: &str = "extract-";

/// What precedes the blob in the name of the lock on its download.
const DOWNLOAD_LOCK: &str = "download-";

/// The name of the lock on a blob's download.
pub(crate) fn download_lock(digest: &Digest) -> String {
    format!("{DOWNLOAD_LOCK}{}", digest.file_stem())
}

/// How to open a store. The default is a durable one, for reading and writing.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct StorageOptions {
    /// What a commit guarantees.
    pub durability: Durability,
    /// Nothing is created, removed or changed; works on a read-only file system and without write permission.
    pub read_only: bool,
    /// No other process opens the store as long as this one has it open. Only for file systems where file locks
    /// (`flock`) do not work, in which a store is not opened otherwise.
    pub single_process: bool,
    /// Bytes of the file system that are left free: a blob or an extraction that would take of them is refused with
    /// `NO_SPACE` before it begins.
    pub min_free_bytes: u64,
    /// When a layer that is to be stored would bring the store above so many bytes, or there is no room for it, the store
    /// is collected first, as [`Storage::collect`] does by default.
    pub gc_above_bytes: Option<u64>,
    /// The age below which that collection leaves things alone; an hour.
    pub gc_min_age: Option<Duration>,
    /// Largest layer blob in bytes; `None` is 50 GiB.
    pub max_blob_size: Option<u64>,
}

/// An open image store. Clones share it; all methods may be called from any thread.
#[derive(Clone, Debug)]
pub struct Storage {
    pub(crate) directory: Arc<Directory>,
    max_blob_size: u64,
    pub(crate) min_free: u64,
    pub(crate) high_water: Option<u64>,
    pub(crate) gc_min_age: Option<Duration>,
    /// Where layers are found that this store does not have itself.
    bundle: Option<Arc<BundleFolder>>,
}

impl Storage {
    /// Opens the store in `images_dir`, creating the directory and its folders where they are missing, and sweeps away
    /// what dead processes left. `UNSUPPORTED` for a store of a newer format, and in a file system where file locks do
    /// not work.
    pub fn open(images_dir: impl AsRef<Path>, options: &StorageOptions) -> Result<Storage> {
        let directory = Directory::open(images_dir.as_ref(), options)?;
        if !options.read_only {
            if let Err(error) = trees::drop_unsynced(&directory) {
                tracing::warn!("cannot remove trees of an earlier boot: {error}");
            }
            sweep::sweep(&directory);
        }
        Ok(Storage {
            directory,
            max_blob_size: options.max_blob_size.unwrap_or(limits::BLOB_SIZE.default),
            min_free: options.min_free_bytes,
            high_water: options.gc_above_bytes,
            gc_min_age: options.gc_min_age,
            bundle: None,
        })
    }

    /// The store's directory, absolute.
    pub fn images_dir(&self) -> &Path {
        self.directory.path()
    }

    /// The folder of the layers' blobs.
    pub fn layers_dir(&self) -> std::path::PathBuf {
        self.directory.path().join(Area::Layers.name())
    }
}

/// The file name of a blob: the digest with `-` for `:`, and the seed's suffix.
pub(crate) fn blob_name(area: Area, digest: &Digest) -> String {
    let suffix = if area == Area::Layers { ".tar.gz" } else { ".json" };
    digest.file_stem() + suffix
}

/// By which the store's own small files are known to be what was written: XXH3 of the parts, line by line.
fn checksum(parts: &[&str]) -> String {
    format!("{:016x}", twox_hash::XxHash3_64::oneshot(parts.join("\n").as_bytes()))
}

/// All of a file that is small; `MALFORMED` for one of more than `most` bytes.
fn read_small(file: BorrowedFd<'_>, most: usize) -> Result<Vec<u8>> {
    let bytes = sys::read_start(file, most + 1).map_err(|errno| Error::os(errno, "read it"))?;
    if bytes.len() > most {
        return Err(Error::new(Status::Malformed, format!("has more than {most} bytes")));
    }
    Ok(bytes)
}
