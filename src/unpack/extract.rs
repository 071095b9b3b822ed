//! The extraction cache: each layer is unpacked once, into `extracted/<digest>`, by one owner at a time.
//!
//! One pass over the layer's file computes both digests and makes the tree; the tree gets its name only when both hold
//! (store invariant I2). Threads and processes that want the same layer wait for the first one, and find its tree.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::record::{RecordWriter, read_diff_id};
use super::tree::TreeWriter;
use crate::digest::{Algorithm, Digest};
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;
use crate::layer::{Anomalies, Entry, Reader, Source, Stream};
use crate::store::{Area, Lock, Partial, RECORD_SUFFIX, Storage, is_directory, is_regular};

/// How to extract a layer. The default extracts the stored blob and keeps whiteout markers.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ExtractOptions {
    /// The layer's file, where it is not in the store. It must hash to the layer's digest.
    pub tarball_path: Option<PathBuf>,
    /// What the uncompressed layer must hash to (OCI image-spec, config.md, `rootfs.diff_ids`).
    pub diff_id: Option<Digest>,
    /// As root, make device nodes. Otherwise, and by default, a device becomes an empty file, and the metadata record
    /// says which device it stands for.
    pub device_nodes: bool,
    /// Refuse a layer with any [`Anomalies`].
    pub strict: bool,
    /// What may end the extraction early.
    pub interrupt: Interrupt,
}

/// What an extraction did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Extraction {
    /// The tree was there already; then the counts are zero.
    pub cached: bool,
    /// Entries in the layer.
    pub entries: u64,
    /// Bytes of the layer's file.
    pub bytes_in: u64,
    /// Bytes of the uncompressed tar stream.
    pub bytes_out: u64,
    /// What was odd.
    pub anomalies: Anomalies,
    /// Digest of the uncompressed stream; `None` for a cached tree that an older program made.
    pub diff_id: Option<Digest>,
}

impl Storage {
    /// Unpacks a layer into [`Storage::layer_extracted_path`], unless it is there. Whiteout markers stay as files.
    ///
    /// `DIGEST_MISMATCH` where the file does not hash to `digest` or its content to `options.diff_id`, `NOT_FOUND`
    /// without a file, `MALFORMED`, `UNSAFE_PATH`, `UNSUPPORTED` or `LIMIT` for what the layer holds, `CANCELLED` or
    /// `TIMEOUT` by `options.interrupt`; in all of these cases nothing is left behind.
    pub fn extract_layer(&self, digest: &Digest, options: &ExtractOptions) -> Result<Extraction> {
        self.directory.check_alive()?;
        if let Some(cached) = self.cached_tree(digest, options)? {
            return Ok(cached);
        }
        self.directory.check_writable()?;
        let stem = digest.file_stem();
        let _lock = Lock::acquire(&self.directory, format!("extract-{stem}"), &options.interrupt)?;
        // Whoever had the lock before may have done the work.
        if let Some(cached) = self.cached_tree(digest, options)? {
            return Ok(cached);
        }
        self.extract_new(digest, options).map_err(|error| error.context(format_args!("extract {digest}")))
    }

    fn extract_new(&self, digest: &Digest, options: &ExtractOptions) -> Result<Extraction> {
        let mut reader = self.open_reader(digest, options)?;
        let stem = digest.file_stem();
        let tree = Partial::create_tree(&self.directory, Area::Extracted, &stem)?;
        let record = Partial::create_record(&self.directory, Area::Extracted, &format!("{stem}{RECORD_SUFFIX}"))?;
        let root = tree.handle().try_clone_to_owned().map_err(|cause| Error::io(&cause, "open a new tree"))?;
        let mut writer = TreeWriter::new(root, RecordWriter::new(record), options.device_nodes, &options.interrupt);
        writer.write(&mut reader)?;
        let entries = reader.entries();
        let (summary, mut anomalies) = reader.finish()?;
        check(digest, options.diff_id.as_ref(), &summary.source.digest, &summary.diff_id)?;
        let (record, odd) = writer.finish()?;
        anomalies.insert(odd);
        if options.strict && !anomalies.is_empty() {
            return Err(Error::new(Status::Malformed, format!("strict: {}", anomalies.names())));
        }
        // The record first: a record without its tree is not looked at and is replaced by the next extraction.
        let record = record.finish(digest, &summary.diff_id)?;
        record.publish(&format!("{stem}{RECORD_SUFFIX}"), |_| Ok(false))?;
        tree.publish(&stem, |_| Ok(true))?;
        tracing::info!("extracted {digest} ({entries} entries) to {}", self.layer_extracted_path(digest).display());
        Ok(Extraction {
            cached: false,
            entries,
            bytes_in: summary.source.bytes_in,
            bytes_out: summary.bytes_out,
            anomalies,
            diff_id: Some(summary.diff_id),
        })
    }

    /// The tree that is there, if there is one, and its diff_id holds.
    fn cached_tree(&self, digest: &Digest, options: &ExtractOptions) -> Result<Option<Extraction>> {
        let stem = digest.file_stem();
        if !self.directory.stat(Area::Extracted, &stem)?.is_some_and(|stat| is_directory(&stat)) {
            return Ok(None);
        }
        let record = self.directory.open_file(Area::Extracted, &format!("{stem}{RECORD_SUFFIX}"))?;
        let recorded = record.as_ref().map(read_diff_id).transpose()?.flatten();
        let diff_id = match (&options.diff_id, recorded) {
            (Some(expected), Some(actual)) if expected.algorithm() == actual.algorithm() => {
                check(digest, Some(expected), digest, &actual)?;
                Some(actual)
            }
            // A tree of the seed's, or a digest of the other kind: the layer's file tells.
            (Some(_), _) => Some(self.measure(digest, options)?),
            (None, recorded) => recorded,
        };
        Ok(Some(Extraction {
            cached: true,
            entries: 0,
            bytes_in: 0,
            bytes_out: 0,
            anomalies: Anomalies::default(),
            diff_id,
        }))
    }

    /// Reads the whole layer without unpacking it, and checks both digests.
    fn measure(&self, digest: &Digest, options: &ExtractOptions) -> Result<Digest> {
        let mut reader = self.open_reader(digest, options)?;
        let mut entry = Entry::default();
        while reader.next(&mut entry)? {
            options.interrupt.check()?;
        }
        let (summary, _) = reader.finish()?;
        check(digest, options.diff_id.as_ref(), &summary.source.digest, &summary.diff_id)?;
        Ok(summary.diff_id)
    }

    fn open_reader(&self, digest: &Digest, options: &ExtractOptions) -> Result<Reader> {
        let file = match &options.tarball_path {
            Some(path) => open_tarball(path)?,
            None => self.open_layer(digest)?,
        };
        let source = Source::open(file, digest.algorithm())?;
        let algorithm = options.diff_id.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        Ok(Reader::new(Stream::new(source, algorithm)?))
    }
}

fn check(digest: &Digest, diff_id: Option<&Digest>, actual: &Digest, actual_diff_id: &Digest) -> Result<()> {
    if actual != digest {
        return Err(Error::digest_mismatch("layer file", digest, actual));
    }
    match diff_id.filter(|&expected| expected != actual_diff_id) {
        Some(expected) => {
            Err(Error::digest_mismatch(format_args!("diff_id of layer {digest}"), expected, actual_diff_id))
        }
        None => Ok(()),
    }
}

/// A file that the host names; its path may have symlinks, but it must be a regular file.
fn open_tarball(path: &Path) -> Result<OwnedFd> {
    let fail = |errno| Error::os(errno, format_args!("open {}", path.display()));
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(fail)?;
    if !is_regular(&rustix::fs::fstat(file.as_fd()).map_err(fail)?) {
        return Err(Error::new(Status::InvalidArgument, format!("{} is not a regular file", path.display())));
    }
    Ok(file)
}
