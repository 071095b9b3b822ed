//! Assembling a root file system: an image's layers on top of each other, in a directory of the host's.
//!
//! What is made is beside its destination until it is whole, and then renamed
//! ([`crate::destination`]). Layers come out of the extraction cache, or straight from their blobs.
//! They go through the same writer as an extraction, so nothing gets out of the tree here that does
//! not get out there ([`crate::unpack`]).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::destination::{Destination, PendingOutput};
use crate::digest::Digest;
use crate::error::{Error, Result, Status};
use crate::extraction::ExtractOptions;
use crate::image::Image;
use crate::interrupt::Interrupt;
use crate::layer::Anomalies;
use crate::options::options;
use crate::record::{RECORD_SUFFIX, RecordFile, image_head};
use crate::store::{CallLease, Storage};
use crate::unpack::{Assembler, CopyMode, DiskNodes, ProgressCallback, TreeForm, TreeOptions};

/// How files come into a root file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RootfsMode {
    /// As copies of those in the extracted layers, which are made where they are missing.
    #[default]
    Copy,
    /// The same with shared blocks, where the file system has that (Btrfs, XFS); as copies elsewhere.
    Reflink,
    /// As further names of the files in the extracted layers, on the same file system. Only to be read: who writes to one
    /// writes to the store's.
    Hardlink,
    /// Straight from the stored blobs. Nothing is kept for the next time.
    Direct,
}

options! {
    /// How to assemble a root file system.
    #[derive(Clone, Debug, Default)]
    pub struct RootfsOptions {
        /// How files come into it.
        pub mode: RootfsMode,
        /// A destination that is a directory and not empty is replaced, in one step where the file system can do that.
        pub replace: bool,
        /// A destination that is a directory is filled where it is, as one is that something is mounted on.
        pub into_existing: bool,
        /// Where the metadata record of the whole tree goes (mtree(5)), in place of a file that is there; `EXISTS` for what is no
        /// file. `None`: for an ordinary user beside the destination, with the suffix `.mtree`; for root, who can set everything,
        /// nowhere.
        pub record_path: Option<PathBuf>,
        /// How devices and owners are said in it, and what each layer may cost. There are no whiteouts in a root file system;
        /// `whiteouts` says which extracted layers are used, and made where they are missing.
        pub tree: TreeOptions,
        /// Is told how far it came.
        pub progress: Option<ProgressCallback>,
        /// What may end it early.
        pub interrupt: Interrupt,
    }
}

/// What an assembly did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rootfs {
    /// Layers of the image.
    pub layers: u64,
    /// Entries of all layers.
    pub entries: u64,
    /// What was odd.
    pub anomalies: Anomalies,
}

/// Where a layer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LowerSource {
    Tree(CopyMode),
    Blob,
}

/// What came of an attempt.
enum Attempt {
    Done(Rootfs),
    /// That layer has to come from elsewhere.
    Again(usize, LowerSource, Error),
}

impl Storage {
    /// Makes an image's root file system: all layers in turn, what later ones hide left out. It appears at `destination`
    /// when it is whole; its folder must be there, and so may an empty directory of its name.
    ///
    /// A mount point, or with `into_existing` any directory, is filled in place instead. It may
    /// have a `lost+found` and nothing else. The tree is made inside it and its entries are moved
    /// up one after the other. A reader may see some of them before the others, and after a kill
    /// some may be there.
    ///
    /// `NOT_FOUND` where the store lacks a layer, `EXISTS` where the destination is taken,
    /// `UNSUPPORTED` where nothing can be linked to it. `MALFORMED`, `LIMIT`, `DIGEST_MISMATCH` and
    /// so on as from [`Storage::extract_layer`]. Whatever the error, nothing is left behind.
    pub fn assemble_rootfs(&self, image: &Image, destination: &Path, options: &RootfsOptions) -> Result<Rootfs> {
        self.directory.check_not_forked()?;
        options.interrupt.check()?;
        options.tree.form.check_directory()?;
        let context = |error: Error| {
            error.context(format_args!("assemble {} in {}", image.manifest_digest, destination.display()))
        };
        if let Some(digest) = image.missing.first() {
            let why = format!("{digest} is not in the store");
            return Err(context(Error::new(Status::NotFound, why)));
        }
        self.assemble(image, destination, options).map_err(context)
    }

    fn assemble(&self, image: &Image, destination: &Path, options: &RootfsOptions) -> Result<Rootfs> {
        let place = Destination::new(destination, &self.directory)?;
        let inside = place.inside(options.into_existing)?;
        if inside.is_none() {
            place.check_free(options.replace)?;
        }
        place.sweep();
        let record_place = match record_path(destination, options) {
            Some(path) => Some(Destination::new(&path, &self.directory)?),
            None => None,
        };
        if let Some(record) = &record_place {
            record.check_free_for_file(true)?;
            record.sweep();
        }
        // In a store that cannot be written to nothing is collected either, by us.
        let mut lease = None;
        if self.directory.check_writable().is_ok() {
            let held = CallLease::new(self)?;
            held.lease().hold_unless(&image.manifest_digest, &options.interrupt)?;
            lease = Some(held);
        }
        let first = match options.mode {
            RootfsMode::Copy => LowerSource::Tree(CopyMode::Copy),
            RootfsMode::Reflink => LowerSource::Tree(CopyMode::Reflink),
            RootfsMode::Hardlink => LowerSource::Tree(CopyMode::Link),
            RootfsMode::Direct => LowerSource::Blob,
        };
        let mut sources = vec![first; image.manifest.layers.len()];
        let mut moved = vec![false; sources.len()];
        loop {
            let places = (&place, inside.as_ref());
            match self.attempt(image, places, record_place.as_ref(), &sources, options, &mut lease)? {
                Attempt::Done(rootfs) => return Ok(rootfs),
                Attempt::Again(layer, source, error) => {
                    if std::mem::replace(&mut moved[layer], true) {
                        return Err(error.context(format_args!("layer {}", image.manifest.layers[layer].digest)));
                    }
                    tracing::info!("layer {}: begun again, from {source:?}", image.manifest.layers[layer].digest);
                    sources[layer] = source;
                }
            }
        }
    }

    fn attempt(
        &self,
        image: &Image,
        (place, inside): (&Arc<Destination>, Option<&Arc<Destination>>),
        record_place: Option<&Arc<Destination>>,
        sources: &[LowerSource],
        options: &RootfsOptions,
        lease: &mut Option<CallLease>,
    ) -> Result<Attempt> {
        let place = inside.unwrap_or(place);
        let tree = PendingOutput::directory(place)?;
        let mut record = record_place.map(PendingOutput::file).transpose()?;
        let record_file = record.as_ref().map(record_file_of).transpose()?;
        let into = options.tree.without_whiteouts();
        // Emptied with the rest when this is over.
        let bins = std::cell::RefCell::new(Vec::new());
        let bin = || {
            let bin = PendingOutput::directory(place)?;
            let handle = bin.open()?;
            bins.borrow_mut().push(bin);
            Ok(handle)
        };
        let mut assembler = Assembler::new(tree.open()?, bin, record_file, &into, &options.interrupt)?;
        let mut anomalies = Anomalies::default();
        for (number, ((layer, diff_id), source)) in image.layers().zip(sources).enumerate() {
            options.interrupt.check()?;
            if let Some(lease) = lease {
                lease.extend_in_time(std::time::Instant::now())?;
            }
            let from = extract_options(options, diff_id, *source);
            let done = assembler.entries();
            assembler.tell(options.progress.as_ref().map(|callback| callback.behind(done)));
            match self.assemble_layer(&mut assembler, &layer.digest, &from, *source) {
                Ok(odd) => {
                    anomalies.insert(odd);
                    options.tree.check_strict(anomalies, format_args!("layer {}", layer.digest))?;
                }
                // What the layer is by itself decides, also where it cannot be put on top of the others as it comes.
                Err(error) if assembler.is_out_of_order() || is_for_the_tree(&error, *source) => {
                    return Ok(Attempt::Again(number, LowerSource::Tree(CopyMode::Copy), error));
                }
                Err(error) if is_for_the_blob(&error, *source) => {
                    return Ok(Attempt::Again(number, LowerSource::Blob, error));
                }
                Err(error) => return Err(error.context(format_args!("layer {}", layer.digest))),
            }
        }
        let entries = assembler.entries();
        let image_digest = &image.manifest_digest;
        let successor = || {
            let place = record_place.ok_or_else(|| Error::new(Status::Internal, "a record without a place"))?;
            record_file_of(record.insert(PendingOutput::file(place)?))
        };
        anomalies.insert(assembler.finish(|content, lines| image_head(image_digest, content, lines), successor)?.1);
        // What making the files came to.
        options.tree.check_strict(anomalies, image_digest)?;
        if let Some(record) = record {
            record.publish_file(true)?;
        }
        if inside.is_some() {
            // The bins lie beside what is moved up.
            bins.take().into_iter().try_for_each(PendingOutput::discard)?;
            tree.publish_inside()?;
        } else {
            tree.publish_directory(options.replace)?;
        }
        Ok(Attempt::Done(Rootfs { layers: sources.len() as u64, entries, anomalies }))
    }

    fn assemble_layer(
        &self,
        assembler: &mut Assembler<DiskNodes<'_>>,
        digest: &Digest,
        options: &ExtractOptions,
        source: LowerSource,
    ) -> Result<Anomalies> {
        match source {
            LowerSource::Tree(taking) => self.take_tree(assembler, digest, options, taking),
            LowerSource::Blob => Ok(self.read_layer(digest, options, |reader| assembler.archive(reader))?.anomalies),
        }
    }

    fn take_tree(
        &self,
        assembler: &mut Assembler<DiskNodes<'_>>,
        digest: &Digest,
        options: &ExtractOptions,
        taking: CopyMode,
    ) -> Result<Anomalies> {
        let extraction = self.extract_layer(digest, options)?;
        let (tree, record) = self.open_tree(digest, options.tree.form)?;
        assembler.tree(tree, &record, taking)?;
        // Hard links to lower layers were odd by themselves only, and what becomes of devices is decided where files are made.
        let odd = extraction.anomalies.without(Anomalies::LOWER_LINK);
        Ok(if taking == CopyMode::Link { odd } else { odd.without(Anomalies::DEVICE_PLACEHOLDER) })
    }
}

/// How a layer is read. What the destination looks like is decided where its files are made, but for hard links, which are the
/// files of the extracted layer.
fn extract_options(options: &RootfsOptions, diff_id: Option<&Digest>, source: LowerSource) -> ExtractOptions {
    let mut tree = TreeOptions { strict: false, ..options.tree.clone() };
    if source != LowerSource::Tree(CopyMode::Link) {
        tree.form = TreeForm { whiteouts: tree.form.whiteouts, ..TreeForm::default() };
    }
    let interrupt = options.interrupt.clone();
    ExtractOptions { diff_id: diff_id.cloned(), tree, interrupt, ..ExtractOptions::default() }
}

/// Symlinks of lower layers may lead in circles before the layer's own entries replace them.
fn is_for_the_tree(error: &Error, source: LowerSource) -> bool {
    source == LowerSource::Blob && matches!(error.status(), Status::Limit | Status::Malformed | Status::UnsafePath)
}

/// A tree of boxlite 0.9 has no record, and an ordinary user cannot read every file of a tree.
fn is_for_the_blob(error: &Error, source: LowerSource) -> bool {
    matches!(source, LowerSource::Tree(CopyMode::Copy | CopyMode::Reflink))
        && matches!(error.status(), Status::NotFound | Status::Permission)
}

fn record_path(destination: &Path, options: &RootfsOptions) -> Option<PathBuf> {
    options.record_path.clone().or_else(|| {
        let mut name = destination.file_name()?.to_owned();
        name.push(RECORD_SUFFIX);
        let is_needed = !rustix::process::geteuid().is_root();
        is_needed.then(|| destination.with_file_name(name))
    })
}

fn record_file_of(work: &PendingOutput) -> Result<RecordFile> {
    Ok(RecordFile::new(work.open()?, work.path().to_path_buf()))
}
