//! Root file systems: an image's layers on top of each other, in a directory of the host's.
//!
//! What is made is beside its destination until it is whole, and then renamed ([`crate::place`]). Layers come out of the
//! extraction cache, or straight from their blobs, and go through the same writer as an extraction, so that nothing gets
//! out of the tree here that does not get out there ([`crate::unpack`]).

#![forbid(unsafe_code)]

mod overlay;
mod process;
mod users;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::digest::Digest;
use crate::error::{Error, Result, Status};
use crate::image::Image;
use crate::interrupt::Interrupt;
use crate::layer::{Anomalies, Progress};
use crate::limits::LayerLimits;
use crate::place::{Place, Work};
use crate::store::{Area, CallLease, HEAD_LEN, Storage, padded};
use crate::unpack::{Assembler, ExtractOptions, ProgressCallback, RecordFile, Taking, TreeForm, WhiteoutForm};

pub use overlay::{Overlay, OverlayOptions};
pub use process::Process;
pub use users::RootfsUser;

/// What follows a root file system's name in the name of its metadata record.
const RECORD_SUFFIX: &str = ".mtree";

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

/// How to assemble a root file system.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RootfsOptions {
    /// How files come into it.
    pub mode: RootfsMode,
    /// As root, make device nodes; otherwise, and by default, a device becomes an empty file.
    pub device_nodes: bool,
    /// Write owners, modes and types to `user.containers.override_stat`; see [`TreeForm::override_stat`].
    pub override_stat: bool,
    /// A destination that is a directory and not empty is replaced, in one step where the file system can do that.
    pub replace: bool,
    /// A destination that is a directory is filled where it is, as one is that something is mounted on.
    pub into_existing: bool,
    /// Where the metadata record of the whole tree goes (mtree(5)). `None`: for an ordinary user beside the destination,
    /// with the suffix `.mtree`; for root, who can set everything, nowhere.
    pub record_path: Option<PathBuf>,
    /// What each layer may cost.
    pub limits: LayerLimits,
    /// Is told how far it came.
    pub progress: Option<ProgressCallback>,
    /// What may end it early.
    pub interrupt: Interrupt,
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
enum Source {
    Tree(Taking),
    Blob,
}

/// What came of an attempt.
enum Attempt {
    Done(Rootfs),
    /// That layer has to come from elsewhere.
    Again(usize, Source, Error),
}

impl Storage {
    /// Makes an image's root file system: all layers in turn, what later ones hide left out. It appears at `destination`
    /// when it is whole; its folder must be there, and so may an empty directory of its name.
    ///
    /// A mount point, or with `into_existing` any directory, is filled in place instead. It may have a `lost+found` and nothing
    /// else. The tree is made inside it and its entries are moved up one after the other: a reader may see some of them
    /// before the others, and after a kill some may be there.
    ///
    /// `NOT_FOUND` where the store lacks a layer, `EXISTS` where the destination is taken, `UNSUPPORTED` where nothing can
    /// be linked to it, `MALFORMED`, `LIMIT`, `DIGEST_MISMATCH` and so on as from [`Storage::extract_layer`]; whatever
    /// the error, nothing is left behind.
    pub fn assemble_rootfs(&self, image: &Image, destination: &Path, options: &RootfsOptions) -> Result<Rootfs> {
        self.directory.check_alive()?;
        options.interrupt.check()?;
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
        let place = Place::new(destination, &self.directory)?;
        let inside = place.inside(options.into_existing)?;
        if inside.is_none() {
            place.check_free(options.replace)?;
        }
        place.sweep();
        let record_place = match record_path(destination, options) {
            Some(path) => Some(Place::new(&path, &self.directory)?),
            None => None,
        };
        if let Some(record) = &record_place {
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
            RootfsMode::Copy => Source::Tree(Taking::Copy),
            RootfsMode::Reflink => Source::Tree(Taking::Reflink),
            RootfsMode::Hardlink => Source::Tree(Taking::Link),
            RootfsMode::Direct => Source::Blob,
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
        (place, inside): (&Arc<Place>, Option<&Arc<Place>>),
        record_place: Option<&Arc<Place>>,
        sources: &[Source],
        options: &RootfsOptions,
        lease: &mut Option<CallLease>,
    ) -> Result<Attempt> {
        let place = inside.unwrap_or(place);
        let tree = Work::directory(place)?;
        let mut record = record_place.map(Work::file).transpose()?;
        let record_file = record.as_ref().map(record_file_of).transpose()?;
        let form = TreeForm {
            whiteouts: WhiteoutForm::Markers,
            device_nodes: options.device_nodes,
            override_stat: options.override_stat,
        };
        let into = ExtractOptions {
            form,
            limits: options.limits.clone(),
            interrupt: options.interrupt.clone(),
            ..ExtractOptions::default()
        };
        // Emptied with the rest when this is over.
        let bins = std::cell::RefCell::new(Vec::new());
        let bin = || {
            let bin = Work::directory(place)?;
            let handle = bin.open()?;
            bins.borrow_mut().push(bin);
            Ok(handle)
        };
        let mut assembler = Assembler::new(tree.open()?, bin, record_file, &into)?;
        let mut anomalies = Anomalies::default();
        for (number, ((layer, diff_id), source)) in image.layers().zip(sources).enumerate() {
            options.interrupt.check()?;
            if let Some(lease) = lease {
                lease.extend_in_time(std::time::Instant::now())?;
            }
            let from = ExtractOptions {
                diff_id: diff_id.cloned(),
                form: if *source == Source::Tree(Taking::Link) { form } else { TreeForm::default() },
                ..into.clone()
            };
            let done = assembler.entries();
            assembler.tell(options.progress.as_ref().map(|callback| following(callback, done)));
            let taken = match source {
                Source::Tree(taking) => self.take_tree(&mut assembler, &layer.digest, &from, *taking),
                Source::Blob => assembler.archive(self, &layer.digest, &from),
            };
            match taken {
                Ok(odd) => anomalies.insert(odd),
                // What the layer is by itself decides, also where it cannot be put on top of the others as it comes.
                Err(error) if assembler.is_out_of_order() || is_for_the_tree(&error, *source) => {
                    return Ok(Attempt::Again(number, Source::Tree(Taking::Copy), error));
                }
                Err(error) if is_for_the_blob(&error, *source) => {
                    return Ok(Attempt::Again(number, Source::Blob, error));
                }
                Err(error) => return Err(error.context(format_args!("layer {}", layer.digest))),
            }
        }
        let entries = assembler.entries();
        let image_digest = &image.manifest_digest;
        let successor = || {
            let place = record_place.ok_or_else(|| Error::new(Status::Internal, "a record without a place"))?;
            record_file_of(record.insert(Work::file(place)?))
        };
        anomalies.insert(assembler.finish(|content, lines| head(image_digest, content, lines), successor)?);
        if let Some(record) = record {
            record.publish_file()?;
        }
        if inside.is_some() {
            // The bins lie beside what is moved up.
            bins.take().into_iter().try_for_each(Work::discard)?;
            tree.publish_inside()?;
        } else {
            tree.publish_directory(options.replace)?;
        }
        Ok(Attempt::Done(Rootfs { layers: sources.len() as u64, entries, anomalies }))
    }

    fn take_tree(
        &self,
        assembler: &mut Assembler<'_>,
        digest: &Digest,
        options: &ExtractOptions,
        taking: Taking,
    ) -> Result<Anomalies> {
        let extraction = self.extract_layer(digest, options)?;
        let (tree, record) = self.open_tree(digest, options.form)?;
        assembler.tree(tree, &record, taking)?;
        // Hard links to lower layers were odd by themselves only, and what becomes of devices is decided where files are made.
        let odd = extraction.anomalies.without(Anomalies::LOWER_LINK);
        Ok(if taking == Taking::Link { odd } else { odd.without(Anomalies::DEVICE_PLACEHOLDER) })
    }

    /// The tree of a layer, and its record.
    fn open_tree(&self, digest: &Digest, form: TreeForm) -> Result<(OwnedFd, OwnedFd)> {
        let name = form.tree_name(digest);
        let absent = || Error::new(Status::NotFound, format!("layer {digest} has no metadata record"));
        let tree = self.directory.open_directory(Area::Extracted, &name)?.ok_or_else(absent)?;
        Ok((tree, self.tree_record(&name)?.ok_or_else(absent)?))
    }
}

/// Symlinks of lower layers may lead in circles before the layer's own entries replace them.
fn is_for_the_tree(error: &Error, source: Source) -> bool {
    source == Source::Blob && matches!(error.status(), Status::Limit | Status::Malformed | Status::UnsafePath)
}

/// A tree of boxlite 0.9 has no record, and an ordinary user cannot read every file of a tree.
fn is_for_the_blob(error: &Error, source: Source) -> bool {
    matches!(source, Source::Tree(Taking::Copy | Taking::Reflink))
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

fn record_file_of(work: &Work) -> Result<RecordFile> {
    Ok(RecordFile::new(work.open()?, work.path().to_path_buf()))
}

fn head(image: &Digest, content: u64, lines: u64) -> [u8; HEAD_LEN] {
    padded(&format!("#mtree v2.0\n# image {image}\n# content {content}\n# lines {lines:016x}\n"))
}

/// Tells of all layers, by what is said of one.
fn following(callback: &ProgressCallback, done: u64) -> ProgressCallback {
    let callback = callback.clone();
    ProgressCallback::new(move |progress| callback.call(&Progress { entries: done + progress.entries, ..*progress }))
}
