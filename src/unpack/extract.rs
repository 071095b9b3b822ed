//! The extraction cache: each layer is unpacked once, into `extracted/<digest>`, by one owner at a time.
//!
//! One pass over the layer's file computes both digests and makes the tree; the tree gets its name only when both hold
//! (store invariant I2). Threads and processes that want the same layer wait for the first one, and find its tree.

use std::fmt;
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::form::TreeForm;
use super::metadata::born_in;
use super::record::{RecordFile, RecordWriter};
use super::trash::{Bin, Trash};
use super::tree::TreeWriter;
use crate::digest::{Algorithm, Digest};
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;
#[cfg(feature = "pull")]
use crate::layer::Growing;
use crate::layer::{Anomalies, Entry, LayerFile, Progress, Reader, Source, Stream};
use crate::limits::LayerLimits;
use crate::store::{Area, EXTRACTION_LOCK, Head, Lock, Maker, Mark, Partial, Storage, record_name};
use crate::sys::is_regular;

/// How to extract a layer. The default extracts the stored blob and keeps whiteout markers.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ExtractOptions {
    /// The layer's file, where it is not in the store. It must hash to the layer's digest.
    pub tarball_path: Option<PathBuf>,
    /// What the uncompressed layer must hash to (OCI image-spec, config.md, `rootfs.diff_ids`).
    pub diff_id: Option<Digest>,
    /// What the tree looks like. Each form is a tree of its own.
    pub form: TreeForm,
    /// Refuse a layer with any [`Anomalies`].
    pub strict: bool,
    /// What the layer may cost.
    pub limits: LayerLimits,
    /// Is told how far the extraction came, about every MiB or 256 entries, and once at the end.
    pub progress: Option<ProgressCallback>,
    /// What may end the extraction early.
    pub interrupt: Interrupt,
}

/// A function that is told of progress, on the thread that called, and that may end the call with `CALLBACK`.
#[derive(Clone)]
pub struct ProgressCallback(Arc<ProgressFn>);

type ProgressFn = dyn Fn(&Progress) -> ControlFlow<()> + Send + Sync;

impl ProgressCallback {
    /// Wraps the function.
    pub fn new(callback: impl Fn(&Progress) -> ControlFlow<()> + Send + Sync + 'static) -> ProgressCallback {
        ProgressCallback(Arc::new(callback))
    }

    pub(crate) fn call(&self, progress: &Progress) -> ControlFlow<()> {
        (self.0)(progress)
    }

    /// The same; a callback that wants an end is an error.
    pub(crate) fn tell(&self, progress: &Progress) -> Result<()> {
        match self.call(progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::new(Status::Callback, "the progress callback ended the call")),
        }
    }
}

impl fmt::Debug for ProgressCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProgressCallback")
    }
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
    /// Where a layer's tree of this form is, or would be.
    pub fn extracted_path(&self, digest: &Digest, form: TreeForm) -> PathBuf {
        self.directory.object_path(Area::Extracted, &form.tree_name(digest))
    }

    /// Unpacks a layer into [`Storage::extracted_path`], unless it is there; whiteouts are kept, in the form that was
    /// asked for.
    ///
    /// `DIGEST_MISMATCH` where the file does not hash to `digest` or its content to `options.diff_id`, `NOT_FOUND`
    /// without a file, `MALFORMED`, `UNSAFE_PATH`, `UNSUPPORTED` or `LIMIT` for what the layer holds, `CANCELLED`,
    /// `TIMEOUT` or `CALLBACK` where the caller ended it; in all of these cases nothing is left behind.
    pub fn extract_layer(&self, digest: &Digest, options: &ExtractOptions) -> Result<Extraction> {
        self.directory.check_alive()?;
        options.interrupt.check()?;
        let name = options.form.tree_name(digest);
        if let Some(cached) = self.cached_tree(&name, digest, options)? {
            return Ok(cached);
        }
        self.directory.check_writable()?;
        self.extract_under_lock(name, digest, options, || self.open_layer_file(digest, options))
    }

    /// The same of a blob that is being written, of which the writer says how far it came. What it ends with is the blob's
    /// own digest, so that the tree is visible after the blob.
    #[cfg(feature = "pull")]
    pub(crate) fn extract_following(
        &self,
        digest: &Digest,
        file: OwnedFd,
        growing: Arc<Growing>,
        options: &ExtractOptions,
    ) -> Result<Extraction> {
        let name = options.form.tree_name(digest);
        let follow = || Ok(LayerFile::following(file, growing, options.interrupt.clone()));
        self.extract_under_lock(name, digest, options, follow)
    }

    fn extract_under_lock(
        &self,
        name: String,
        digest: &Digest,
        options: &ExtractOptions,
        open: impl FnOnce() -> Result<LayerFile>,
    ) -> Result<Extraction> {
        options.form.check_possible()?;
        let _lock = Lock::acquire(&self.directory, format!("{EXTRACTION_LOCK}{name}"), &options.interrupt)?;
        // Whoever had the lock before may have done the work.
        if let Some(cached) = self.cached_tree(&name, digest, options)? {
            return Ok(cached);
        }
        let extracted = open().and_then(|file| self.extract_new(&name, digest, file, options));
        extracted.map_err(|error| error.context(format_args!("extract {digest}")))
    }

    fn extract_new(
        &self,
        name: &str,
        digest: &Digest,
        file: LayerFile,
        options: &ExtractOptions,
    ) -> Result<Extraction> {
        let mut reader = open_reader(digest, file, options)?;
        let record_name = record_name(name);
        self.take_old_tree_away(name)?;
        self.make_room(0, name, &options.interrupt)?;
        let tree = Partial::create_tree(&self.directory, Area::Extracted, name)?;
        let new_record = || Partial::create_record(&self.directory, Area::Extracted, &record_name);
        let mut record_file = new_record()?;
        let record = RecordWriter::new(Some(RecordFile::of(&record_file)?), options.limits.clone());
        let root = tree.handle().try_clone_to_owned().map_err(|cause| Error::io(&cause, "open a new tree"))?;
        let trash = Trash::new(|| {
            let partial = Partial::create_tree(&self.directory, Area::Extracted, name)?;
            let handle = partial.handle().try_clone_to_owned().map_err(|cause| Error::io(&cause, "open a new tree"))?;
            Ok(Bin { handle, _owner: Box::new(partial) })
        });
        let maker = Maker::new(born_in(root.as_fd())?);
        let mut writer = TreeWriter::new(root, trash, record, options, self.min_free)?;
        writer.write(&mut reader)?;
        let (totals, progress, mut anomalies) = reader.finish()?;
        check(digest, options.diff_id.as_ref(), &totals.digest, &totals.diff_id)?;
        let (record, odd) = writer.finish()?;
        anomalies.insert(odd);
        check_strict(options, anomalies)?;
        let mark = match self.directory.boot_id() {
            // Nobody could tell later whether the machine was started again.
            None if self.directory.is_durable() => Mark::Durable,
            boot_id => Mark::volatile(boot_id),
        };
        let is_durable = mark == Mark::Durable;
        // The record first: a record without its tree is not looked at and is replaced by the next extraction.
        let head = |content, lines| {
            let head = Head {
                layer: digest.to_string(),
                diff_id: Some(totals.diff_id.clone()),
                anomalies: Some(anomalies.bits()),
                content: Some(content),
                lines: Some(lines),
                maker: Some(maker),
                mark,
            };
            head.to_bytes()
        };
        let successor = || {
            record_file = new_record()?;
            RecordFile::of(&record_file)
        };
        record.finish(head, successor, &options.interrupt)?;
        if is_durable {
            self.directory.sync_everything()?;
        }
        record_file.publish(&record_name, &options.interrupt, |_| Ok(false))?;
        tree.publish(name, &options.interrupt, |_| Ok(true))?;
        if !is_durable {
            self.directory.make_durable(name);
        }
        tracing::info!(
            "extracted {digest} ({} entries) to {}",
            progress.entries,
            self.directory.object_path(Area::Extracted, name).display()
        );
        Ok(Extraction {
            cached: false,
            entries: progress.entries,
            bytes_in: totals.bytes_in,
            bytes_out: progress.bytes_out,
            anomalies,
            diff_id: Some(totals.diff_id),
        })
    }

    /// Removes what is left of a tree that does not count, and of one without its record. A record that says "durable" must
    /// be gone from the disk before another tree has its name.
    fn take_old_tree_away(&self, name: &str) -> Result<()> {
        let tree = Partial::take_to_trash(&self.directory, Area::Extracted, name)?;
        let record = Partial::take_to_trash(&self.directory, Area::Extracted, &record_name(name))?;
        if tree.is_some() || record.is_some() { self.directory.sync_area(Area::Extracted) } else { Ok(()) }
    }

    /// The tree that is there, if there is one that counts, and what was asked of it holds.
    fn cached_tree(&self, name: &str, digest: &Digest, options: &ExtractOptions) -> Result<Option<Extraction>> {
        let Some(head) = self.tree_for_use(name)? else { return Ok(None) };
        let known = head.anomalies.map(Anomalies::from_bits);
        let expected = options.diff_id.as_ref();
        let (diff_id, anomalies) = match (head.diff_id, known) {
            (Some(actual), Some(anomalies)) if expected.is_none_or(|e| e.algorithm() == actual.algorithm()) => {
                check(digest, expected, digest, &actual)?;
                (Some(actual), anomalies)
            }
            // A tree of the seed's, or a digest of the other kind: the layer's file tells.
            _ if expected.is_some() || options.strict => {
                let (diff_id, mut anomalies) = self.measure_layer(digest, options)?;
                // What was odd about unpacking is known from then.
                anomalies.insert(known.unwrap_or_default());
                (diff_id, anomalies)
            }
            (diff_id, anomalies) => (diff_id, anomalies.unwrap_or_default()),
        };
        check_strict(options, anomalies)?;
        Ok(Some(Extraction { cached: true, entries: 0, bytes_in: 0, bytes_out: 0, anomalies, diff_id }))
    }

    /// Reads the whole layer without unpacking it, and checks both digests.
    pub(crate) fn measure_layer(
        &self,
        digest: &Digest,
        options: &ExtractOptions,
    ) -> Result<(Option<Digest>, Anomalies)> {
        let mut entry = Entry::default();
        let read = self.read_layer(digest, options, |reader| {
            while reader.next(&mut entry)? {
                options.interrupt.check()?;
            }
            Ok(())
        })?;
        Ok((read.diff_id, read.anomalies))
    }

    /// Has a layer's file read by `read`, and checks both digests of it.
    pub(super) fn read_layer(
        &self,
        digest: &Digest,
        options: &ExtractOptions,
        read: impl FnOnce(&mut Reader) -> Result<()>,
    ) -> Result<Extraction> {
        let mut reader = open_reader(digest, self.open_layer_file(digest, options)?, options)?;
        read(&mut reader)?;
        let (totals, progress, anomalies) = reader.finish()?;
        check(digest, options.diff_id.as_ref(), &totals.digest, &totals.diff_id)?;
        Ok(Extraction {
            cached: false,
            entries: progress.entries,
            bytes_in: totals.bytes_in,
            bytes_out: progress.bytes_out,
            anomalies,
            diff_id: Some(totals.diff_id),
        })
    }

    fn open_layer_file(&self, digest: &Digest, options: &ExtractOptions) -> Result<LayerFile> {
        let file = match &options.tarball_path {
            Some(path) => open_tarball(path)?,
            None => self.open_layer(digest)?,
        };
        Ok(LayerFile::new(file, digest.algorithm()))
    }
}

fn open_reader(digest: &Digest, file: LayerFile, options: &ExtractOptions) -> Result<Reader> {
    let source = Source::open(file, digest.algorithm(), options.interrupt.clone(), &options.limits)?;
    let diff_id = options.diff_id.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
    let stream = Stream::new(source, diff_id, options.interrupt.clone())?;
    Ok(Reader::new(stream, options.limits.clone()))
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
