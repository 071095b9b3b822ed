//! The extraction cache: each layer is unpacked once, into `extracted/<digest>`, by one owner at a time.
//!
//! One pass over the layer's file computes both digests and makes the tree; the tree gets its name only when both hold
//! (store invariant I2). Threads and processes that want the same layer wait for the first one, and find its tree.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
#[cfg(feature = "pull")]
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::digest::{Algorithm, Digest};
use crate::disk::{LayerDisk, complete_layer, layer_area, layer_writer};
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;
#[cfg(feature = "pull")]
use crate::layer::GrowingBlob;
use crate::layer::{Anomalies, Decompressor, Entry, LayerFile, Progress, Reader, Stream, Totals};
use crate::options::options;
use crate::record::{
    DISK_RECIPE, LayerEntries, RecordFile, RecordHead, RecordWriter, TreeOwner, Validity, hashes_name, record_name,
};
use crate::store::{EXTRACTION_LOCK, Folder, Lock, Partial, Storage};
use crate::sys::is_regular;
use crate::unpack::{Aside, AsideDir, DiskNodes, Nodes, ProgressCallback, TreeForm, TreeOptions, TreeWriter};

mod entry_tree;

pub(crate) use entry_tree::EntryTree;

options! {
    /// How to extract a layer. The default extracts the stored blob and keeps whiteout markers.
    #[derive(Clone, Debug, Default)]
    pub struct ExtractOptions {
        /// The layer's file, where it is not in the store. It must hash to the layer's digest.
        pub tarball_path: Option<PathBuf>,
        /// What the uncompressed layer must hash to (OCI image-spec, config.md, `rootfs.diff_ids`).
        pub diff_id: Option<Digest>,
        /// What the tree looks like, and what it may cost. Each form is a tree of its own.
        pub tree: TreeOptions,
        /// Is told how far the extraction came, about every MiB or 256 entries, and once at the end.
        pub progress: Option<ProgressCallback>,
        /// What may end the extraction early.
        pub interrupt: Interrupt,
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

/// A layer that is about to be unpacked.
struct Unpacking<'a> {
    digest: &'a Digest,
    reader: Reader,
    record: RecordWriter,
    options: &'a ExtractOptions,
}

/// What came of it.
struct Unpacked {
    record: RecordWriter,
    totals: Totals,
    progress: Progress,
    anomalies: Anomalies,
}

/// A tree and its record, which are complete and not visible.
struct NewTree {
    tree: Partial,
    record: Partial,
    /// They are to be flushed before they are visible.
    is_durable: bool,
}

/// A layer's disk and its record, which nobody else sees, and which go with this.
pub(crate) struct TemporaryDisk {
    disk: Partial,
    record: Partial,
}

impl TemporaryDisk {
    /// The disk, and its record.
    pub(crate) fn open(&self) -> Result<(LayerDisk, OwnedFd)> {
        let name = self.disk.path().display().to_string();
        Ok((LayerDisk { file: handle_of(&self.disk)?, name, hashes: None }, handle_of(&self.record)?))
    }

    /// Gives the disk a name in a folder.
    pub(crate) fn link_to(&self, folder: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
        self.disk.link_to(folder, name)
    }
}

impl Unpacking<'_> {
    /// Unpacks it, and checks both digests; gives back the nodes, too.
    fn run<N: Nodes>(mut self, make: impl FnOnce(RecordWriter) -> Result<TreeWriter<N>>) -> Result<(Unpacked, N)> {
        let mut writer = make(self.record)?;
        writer.tell(self.options.progress.clone());
        writer.write(&mut self.reader)?;
        let (totals, progress, mut anomalies) = self.reader.finish()?;
        check(self.digest, self.options.diff_id.as_ref(), &totals.digest, &totals.diff_id)?;
        let (record, odd, nodes) = writer.finish()?;
        anomalies.insert(odd);
        Ok((Unpacked { record, totals, progress, anomalies }, nodes))
    }
}

impl Storage {
    /// Where a layer's tree of this form is, or would be.
    pub fn extracted_path(&self, digest: &Digest, form: TreeForm) -> PathBuf {
        self.directory.object_path(Folder::Extracted, &form.tree_name(digest))
    }

    /// Unpacks a layer into [`Storage::extracted_path`], unless it is there; whiteouts are kept, in the form that was
    /// asked for.
    ///
    /// `DIGEST_MISMATCH` where the file does not hash to `digest` or its content to
    /// `options.diff_id`. `NOT_FOUND` without a file. `MALFORMED`, `UNSAFE_PATH`, `UNSUPPORTED` or
    /// `LIMIT` for what the layer holds. `CANCELLED`, `TIMEOUT` or `CALLBACK` where the caller
    /// ended it. In all of these cases nothing is left behind.
    pub fn extract_layer(&self, digest: &Digest, options: &ExtractOptions) -> Result<Extraction> {
        self.directory.check_not_forked()?;
        options.interrupt.check()?;
        options.tree.form.check_possible()?;
        let name = options.tree.form.tree_name(digest);
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
        growing: Arc<GrowingBlob>,
        options: &ExtractOptions,
    ) -> Result<Extraction> {
        let name = options.tree.form.tree_name(digest);
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
        options.tree.form.check_possible()?;
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
        // Before anything is taken away: a file that cannot be read is no reason to.
        let reader = open_reader(digest, file, options)?;
        self.take_old_tree_away(name)?;
        let (new, extraction) = self.make_tree(name, digest, reader, options)?;
        self.publish(name, new, &options.interrupt)?;
        let path = self.directory.object_path(Folder::Extracted, name);
        tracing::info!("extracted {digest} ({} entries) to {}", extraction.entries, path.display());
        Ok(extraction)
    }

    /// A tree and its record, complete, under names that nobody looks for.
    fn make_tree(
        &self,
        name: &str,
        digest: &Digest,
        reader: Reader,
        options: &ExtractOptions,
    ) -> Result<(NewTree, Extraction)> {
        self.make_room(0, name, &options.interrupt)?;
        let record_file = self.new_record(name)?;
        let record = RecordWriter::new(Some(record_file_of(&record_file)?), options.tree.limits.clone());
        let job = Unpacking { digest, reader, record, options };
        let (tree, maker, unpacked) =
            if options.tree.form.erofs { self.make_disk(name, job)? } else { self.make_directory(name, job)? };
        let Unpacked { record, totals, progress, anomalies } = unpacked;
        options.tree.check_strict(anomalies, format_args!("layer {digest}"))?;
        let head = RecordHead {
            layer: digest.to_string(),
            diff_id: Some(totals.diff_id.clone()),
            anomalies: Some(anomalies.bits()),
            content: None,
            lines: None,
            maker,
            recipe: options.tree.form.erofs.then_some(DISK_RECIPE),
            validity: self.validity_of_new_trees(),
        };
        let new = self.complete_record(name, tree, (record_file, record), head, &options.interrupt)?;
        let extraction = Extraction {
            cached: false,
            entries: progress.entries,
            bytes_in: totals.bytes_in,
            bytes_out: progress.bytes_out,
            anomalies,
            diff_id: Some(totals.diff_id),
        };
        Ok((new, extraction))
    }

    /// A layer's disk that goes when it is dropped; `None` where the store has it anyway.
    pub(crate) fn temporary_disk(
        &self,
        digest: &Digest,
        options: &ExtractOptions,
    ) -> Result<(Option<TemporaryDisk>, Extraction)> {
        let name = options.tree.form.tree_name(digest);
        if let Some(cached) = self.cached_tree(&name, digest, options)? {
            return Ok((None, cached));
        }
        self.directory.check_writable()?;
        let made = self
            .open_layer_file(digest, options)
            .and_then(|file| open_reader(digest, file, options))
            .and_then(|reader| self.make_tree(&name, digest, reader, options));
        let (new, extraction) = made.map_err(|error| error.context(format_args!("extract {digest}")))?;
        Ok((Some(TemporaryDisk { disk: new.tree, record: new.record }), extraction))
    }

    fn make_directory(&self, name: &str, job: Unpacking<'_>) -> Result<(Partial, Option<TreeOwner>, Unpacked)> {
        let tree = Partial::create_tree(&self.directory, Folder::Extracted, name)?;
        let ExtractOptions { tree: how, interrupt, .. } = job.options;
        let mut maker = None;
        let (unpacked, _) = job.run(|record| {
            let writer = self.tree_writer(&tree, name.to_owned(), record, how, interrupt)?;
            maker = Some(TreeOwner::new(writer.born()));
            Ok(writer)
        })?;
        Ok((tree, maker, unpacked))
    }

    /// What writes into an empty tree.
    fn tree_writer<'a>(
        &'a self,
        tree: &Partial,
        name: String,
        record: RecordWriter,
        how: &TreeOptions,
        interrupt: &Interrupt,
    ) -> Result<TreeWriter<DiskNodes<'a>>> {
        let trash = Aside::new(move || {
            let partial = Partial::create_tree(&self.directory, Folder::Extracted, &name)?;
            Ok(AsideDir { handle: handle_of(&partial)?, _owner: Box::new(partial) })
        });
        TreeWriter::on_disk(handle_of(tree)?, trash, record, how, interrupt, self.min_free)
    }

    /// The layer as a file system in a file, which nobody is to write to. Who makes it leaves no trace in it.
    fn make_disk(&self, name: &str, job: Unpacking<'_>) -> Result<(Partial, Option<TreeOwner>, Unpacked)> {
        let disk = Partial::create_tree_file(&self.directory, Folder::Extracted, name)?;
        let path = disk.path().display().to_string();
        let ExtractOptions { tree: how, interrupt, .. } = job.options;
        let mut area = layer_area(handle_of(&disk)?, path.clone(), self.min_free);
        let (mut unpacked, nodes) = job.run(|record| Ok(layer_writer(&mut area, record, how, interrupt)))?;
        let tree = nodes.into_tree()?;
        unpacked.anomalies.insert(complete_layer(&tree, area, &unpacked.totals.diff_id, interrupt)?);
        rustix::fs::fchmod(disk.handle(), Mode::RUSR | Mode::RGRP | Mode::ROTH)
            .map_err(|errno| Error::os(errno, format_args!("set mode of {path}")))?;
        Ok((disk, None, unpacked))
    }

    /// Completes the record of a tree.
    fn complete_record(
        &self,
        name: &str,
        tree: Partial,
        (mut record_file, record): (Partial, RecordWriter),
        head: RecordHead,
        interrupt: &Interrupt,
    ) -> Result<NewTree> {
        let is_durable = head.validity == Validity::Durable;
        let successor = || {
            record_file = self.new_record(name)?;
            record_file_of(&record_file)
        };
        let head = |content, lines| RecordHead { content: Some(content), lines: Some(lines), ..head }.to_bytes();
        record.finish(head, successor, interrupt)?;
        Ok(NewTree { tree, record: record_file, is_durable })
    }

    /// Gives a tree and its record their names. The record comes first: a record without its tree is not looked at and is
    /// replaced by the next extraction.
    fn publish(&self, name: &str, new: NewTree, interrupt: &Interrupt) -> Result<()> {
        let NewTree { tree, record, is_durable } = new;
        if is_durable {
            self.directory.sync_everything()?;
        }
        record.publish(&record_name(name), interrupt, |_| Ok(false))?;
        tree.publish(name, interrupt, |_| Ok(true))?;
        if !is_durable {
            self.directory.make_durable(name);
        }
        Ok(())
    }

    fn new_record(&self, tree: &str) -> Result<Partial> {
        Partial::create_tree_file(&self.directory, Folder::Extracted, &record_name(tree))
    }

    fn validity_of_new_trees(&self) -> Validity {
        match self.directory.boot_id() {
            // Nobody could tell later whether the machine was started again.
            None if self.directory.is_durable() => Validity::Durable,
            boot_id => Validity::this_boot(boot_id),
        }
    }

    /// Removes what is left of a tree that does not count, and of one without its record, with hashes that may be of damage. A
    /// record that says "durable" must be gone from the disk before another tree has its name.
    fn take_old_tree_away(&self, name: &str) -> Result<()> {
        let tree = Partial::take_to_trash(&self.directory, Folder::Extracted, name)?;
        let record = Partial::take_to_trash(&self.directory, Folder::Extracted, &record_name(name))?;
        Partial::take_to_trash(&self.directory, Folder::Extracted, &hashes_name(name))?;
        if tree.is_some() || record.is_some() { self.directory.sync_area(Folder::Extracted) } else { Ok(()) }
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
            _ if expected.is_some() || options.tree.strict => {
                let (diff_id, mut anomalies) = self.measure_layer(digest, options)?;
                // What was odd about unpacking is known from then.
                anomalies.insert(known.unwrap_or_default());
                (diff_id, anomalies)
            }
            (diff_id, anomalies) => (diff_id, anomalies.unwrap_or_default()),
        };
        options.tree.check_strict(anomalies, format_args!("layer {digest}"))?;
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
    pub(crate) fn read_layer(
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

    /// What an extracted layer holds, from the metadata record beside its tree. `NOT_FOUND` where
    /// there is none (the layer was not extracted in this form, or by boxlite 0.9). In the default
    /// form, that of the layer's disk will do.
    pub fn layer_entries(&self, digest: &Digest, form: TreeForm) -> Result<LayerEntries> {
        self.directory.check_not_forked()?;
        let record = match self.tree_record(&form.tree_name(digest))? {
            // What a layer says is the same in each form.
            None if form == TreeForm::default() => self.tree_record(&TreeForm::EROFS.tree_name(digest))?,
            record => record,
        };
        let absent =
            || Error::new(Status::NotFound, format!("layer {digest} has no metadata record; extract it first"));
        Ok(LayerEntries::new(record.ok_or_else(absent)?))
    }

    /// The metadata record of a layer that is extracted in any form: what a layer says is the same in each.
    pub(crate) fn layer_record(&self, digest: &Digest) -> Result<Option<OwnedFd>> {
        for (name, object) in self.objects(Folder::Extracted)? {
            if object.digest == *digest
                && !object.is_beside_tree
                && let Some(record) = self.tree_record(&name)?
            {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// The tree of a layer, and its record.
    pub(crate) fn open_tree(&self, digest: &Digest, form: TreeForm) -> Result<(OwnedFd, OwnedFd)> {
        let name = form.tree_name(digest);
        let absent = || Error::new(Status::NotFound, format!("layer {digest} has no metadata record"));
        let tree = self.directory.open_directory(Folder::Extracted, &name)?.ok_or_else(absent)?;
        Ok((tree, self.tree_record(&name)?.ok_or_else(absent)?))
    }

    /// The disk of a layer, and its record.
    pub(crate) fn open_layer_disk(&self, digest: &Digest) -> Result<(LayerDisk, OwnedFd)> {
        let name = TreeForm::EROFS.tree_name(digest);
        let absent = || Error::new(Status::NotFound, format!("layer {digest} has no disk"));
        let file = self.directory.open_file(Folder::Extracted, &name)?.ok_or_else(absent)?;
        let record = self.tree_record(&name)?.ok_or_else(absent)?;
        let name = self.directory.object_path(Folder::Extracted, &name).display().to_string();
        Ok((LayerDisk { file, name, hashes: None }, record))
    }

    fn open_layer_file(&self, digest: &Digest, options: &ExtractOptions) -> Result<LayerFile> {
        let file = match &options.tarball_path {
            Some(path) => open_host_file(path)?,
            None => self.open_layer(digest)?,
        };
        Ok(LayerFile::new(file, digest.algorithm()))
    }
}

fn handle_of(partial: &Partial) -> Result<OwnedFd> {
    let path = partial.path();
    partial.handle().try_clone_to_owned().map_err(|cause| Error::io(&cause, format_args!("open {}", path.display())))
}

fn record_file_of(partial: &Partial) -> Result<RecordFile> {
    Ok(RecordFile::new(handle_of(partial)?, partial.path()))
}

fn open_reader(digest: &Digest, file: LayerFile, options: &ExtractOptions) -> Result<Reader> {
    let source = Decompressor::open(file, digest.algorithm(), options.interrupt.clone(), &options.tree.limits)?;
    let diff_id = options.diff_id.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
    let stream = Stream::new(source, diff_id, options.interrupt.clone())?;
    Ok(Reader::new(stream, options.tree.limits.clone()))
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
pub(crate) fn open_host_file(path: &Path) -> Result<OwnedFd> {
    let fail = |errno| Error::os(errno, format_args!("open {}", path.display()));
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(fail)?;
    if !is_regular(&rustix::fs::fstat(file.as_fd()).map_err(fail)?) {
        return Err(Error::new(Status::InvalidArgument, format!("{} is not a regular file", path.display())));
    }
    Ok(file)
}
