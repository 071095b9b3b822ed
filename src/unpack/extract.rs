//! The extraction cache: each layer is unpacked once, into `extracted/<digest>`, by one owner at a time.
//!
//! One pass over the layer's file computes both digests and makes the tree; the tree gets its name only when both hold
//! (store invariant I2). Threads and processes that want the same layer wait for the first one, and find its tree.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::record::{Head, RecordWriter, read_head};
use super::tree::TreeWriter;
use crate::digest::{Algorithm, Digest};
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;
use crate::layer::{Anomalies, Entry, Reader, Source, Stream};
use crate::store::{Area, EXTRACTION_LOCK, Lock, Partial, RECORD_SUFFIX, Storage, is_directory, is_regular};

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
    /// The tree was there already, as an earlier call made it; then the counts are zero.
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
        options.interrupt.check()?;
        if let Some(cached) = self.cached_tree(digest, options)? {
            return Ok(cached);
        }
        self.directory.check_writable()?;
        let stem = digest.file_stem();
        let _lock = Lock::acquire(&self.directory, format!("{EXTRACTION_LOCK}{stem}"), &options.interrupt)?;
        // Whoever had the lock before may have done the work.
        if let Some(cached) = self.cached_tree(digest, options)? {
            return Ok(cached);
        }
        self.extract_new(digest, options).map_err(|error| error.context(format_args!("extract {digest}")))
    }

    fn extract_new(&self, digest: &Digest, options: &ExtractOptions) -> Result<Extraction> {
        let mut reader = self.open_reader(digest, options)?;
        let stem = digest.file_stem();
        // One of an earlier boot. It goes before the new record says that it is of this one.
        Partial::take_away(&self.directory, Area::Extracted, &stem)?;
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
        check_strict(options, anomalies)?;
        // The record first: a record without its tree is not looked at and is replaced by the next extraction.
        let record = record.finish(digest, &summary.diff_id, anomalies, self.directory.boot_id())?;
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

    /// The tree that is there, if there is one of this boot, and what was asked of it holds.
    fn cached_tree(&self, digest: &Digest, options: &ExtractOptions) -> Result<Option<Extraction>> {
        let stem = digest.file_stem();
        if !self.directory.stat(Area::Extracted, &stem)?.is_some_and(|stat| is_directory(&stat)) {
            return Ok(None);
        }
        let record = self.directory.open_file(Area::Extracted, &format!("{stem}{RECORD_SUFFIX}"))?;
        let head = record.map_or_else(|| Ok(Head::default()), |record| read_head(record.as_fd()))?;
        if !head.is_of_this_boot(self.directory.boot_id()) {
            return Ok(None);
        }
        let expected = options.diff_id.as_ref();
        let (diff_id, anomalies) = match (head.diff_id, head.anomalies) {
            (Some(actual), Some(anomalies)) if expected.is_none_or(|e| e.algorithm() == actual.algorithm()) => {
                check(digest, expected, digest, &actual)?;
                (Some(actual), anomalies)
            }
            // A tree of the seed's, or a digest of the other kind: the layer's file tells.
            _ if expected.is_some() || options.strict => {
                let (diff_id, anomalies) = self.measure(digest, options)?;
                (Some(diff_id), anomalies)
            }
            (diff_id, anomalies) => (diff_id, anomalies.unwrap_or_default()),
        };
        check_strict(options, anomalies)?;
        Ok(Some(Extraction { cached: true, entries: 0, bytes_in: 0, bytes_out: 0, anomalies, diff_id }))
    }

    /// Reads the whole layer without unpacking it, and checks both digests.
    fn measure(&self, digest: &Digest, options: &ExtractOptions) -> Result<(Digest, Anomalies)> {
        let mut reader = self.open_reader(digest, options)?;
        let mut entry = Entry::default();
        while reader.next(&mut entry)? {
            options.interrupt.check()?;
        }
        let (summary, anomalies) = reader.finish()?;
        check(digest, options.diff_id.as_ref(), &summary.source.digest, &summary.diff_id)?;
        Ok((summary.diff_id, anomalies))
    }

    fn open_reader(&self, digest: &Digest, options: &ExtractOptions) -> Result<Reader> {
        let file = match &options.tarball_path {
            Some(path) => open_tarball(path)?,
            None => self.open_layer(digest)?,
        };
        let source = Source::open(file, digest.algorithm(), options.interrupt.clone())?;
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

fn check_strict(options: &ExtractOptions, anomalies: Anomalies) -> Result<()> {
    if options.strict && !anomalies.is_empty() {
        return Err(Error::new(Status::Malformed, format!("strict: {}", anomalies.names())));
    }
    Ok(())
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
