//! The layers of an image as disks, each made once: in the store, or, where the host keeps none there, for this call alone.

use std::collections::{HashMap, HashSet};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::inject::TopLayer;
use super::options::DiskOptions;
use crate::digest::Digest;
use crate::disk::{LayerDisk, LayerSize, Merge, MergedTree};
use crate::error::{Error, Result, Status};
use crate::extraction::{ExtractOptions, TemporaryDisk};
use crate::image::Image;
use crate::layer::Anomalies;
use crate::limits;
use crate::store::{CallLease, Folder, Storage};
use crate::unpack::{NoContent, TreeForm};

/// Disks have numbers of 16 bits.
const _: () = assert!(limits::LAYERS.default <= u16::MAX as u64);

/// The layers of an image. Of those in the store none is open; a lease holds them.
pub(crate) struct Layers<'a> {
    pub(super) storage: &'a Storage,
    /// Each layer once.
    disks: Vec<LayerDiskSource>,
    pub(super) sizes: Vec<LayerSize>,
    /// Of each layer of the image, in its order, which disk it is, and its digests.
    pub(super) stack: Vec<StackedLayer>,
    pub(super) anomalies: Anomalies,
}

/// A layer of the image.
pub(super) struct StackedLayer {
    disk: u16,
    pub(super) digest: Digest,
    pub(super) diff_id: Digest,
    /// It is none of the image's, but on top of them.
    pub(super) is_injected: bool,
}

#[derive(Clone)]
enum LayerDiskSource {
    Stored(Digest),
    Temporary(Arc<TemporaryDisk>),
}

impl<'a> Layers<'a> {
    /// Makes those that are missing.
    pub(crate) fn of(
        storage: &'a Storage,
        (image, tops): (Option<&Image>, &[TopLayer]),
        options: &DiskOptions,
        mut lease: Option<&mut CallLease>,
    ) -> Result<Layers<'a>> {
        let mut layers = Layers::none(storage);
        let mut known: HashMap<Digest, (u16, Digest)> = HashMap::new();
        let mut proved: HashSet<(Digest, Digest)> = HashSet::new();
        for (layer, diff_id) in image.into_iter().flat_map(|image| image.layers()) {
            options.interrupt.check()?;
            if let Some(lease) = &mut lease {
                lease.extend_in_time(Instant::now())?;
            }
            let digest = layer.digest.clone();
            let (disk, diff_id) = match known.get(&digest) {
                // What the config says of it the second time is not believed either.
                Some((disk, actual)) => {
                    let expected = diff_id.unwrap_or(actual).clone();
                    if !proved.contains(&(digest.clone(), expected.clone())) {
                        layers.check_again(&digest, &expected, actual, options)?;
                    }
                    (layers.same_disk(*disk, actual == &expected, &expected), expected)
                }
                None => {
                    let found = layers.add(&digest, diff_id.cloned(), None, options)?;
                    known.insert(digest.clone(), found.clone());
                    found
                }
            };
            proved.insert((digest.clone(), diff_id.clone()));
            layers.stack.push(StackedLayer { disk, digest, diff_id, is_injected: false });
        }
        for TopLayer { digest, path, .. } in tops {
            if let Some(lease) = &mut lease {
                lease.extend_in_time(Instant::now())?;
            }
            let (disk, diff_id) = layers.add(digest, None, Some(path), options)?;
            layers.stack.push(StackedLayer { disk, digest: digest.clone(), diff_id, is_injected: true });
        }
        Ok(layers)
    }

    /// None.
    pub(super) fn none(storage: &'a Storage) -> Layers<'a> {
        let (disks, sizes, stack) = (Vec::new(), Vec::new(), Vec::new());
        Layers { storage, disks, sizes, stack, anomalies: Anomalies::default() }
    }

    /// The number of a disk that a layer has once more. Which layers share one follows from their diff_ids alone, as the key does. So a
    /// diff_id by another algorithm is another number.
    fn same_disk(&mut self, disk: u16, is_same_diff_id: bool, diff_id: &Digest) -> u16 {
        if is_same_diff_id {
            return disk;
        }
        if let Some(same) = self.stack.iter().find(|layer| &layer.diff_id == diff_id) {
            return same.disk;
        }
        self.disks.push(self.disks[disk as usize].clone());
        self.sizes.push(self.sizes[disk as usize]);
        self.disks.len() as u16 - 1
    }

    /// That a layer which an image has more than once is what the config says there.
    fn check_again(&self, digest: &Digest, expected: &Digest, actual: &Digest, options: &DiskOptions) -> Result<()> {
        if expected.algorithm() == actual.algorithm() {
            return Err(Error::digest_mismatch(format_args!("diff_id of layer {digest}"), expected, actual));
        }
        let (diff_id, interrupt) = (Some(expected.clone()), options.interrupt.clone());
        let reading = ExtractOptions { diff_id, tree: options.tree(), interrupt, ..ExtractOptions::default() };
        self.storage.measure_layer(digest, &reading).map(|_| ())
    }

    /// Those of which the store has the disks; `None` where it lacks one. What has the same second digest is the same disk.
    pub(super) fn stored(storage: &'a Storage, stack: Vec<(Digest, Digest)>) -> Result<Option<Layers<'a>>> {
        let mut layers = Layers::none(storage);
        let mut known: HashMap<Digest, u16> = HashMap::new();
        for (digest, diff_id) in stack {
            let disk = match known.get(&diff_id) {
                Some(&disk) => disk,
                None => {
                    let number = layers.disks.len() as u16;
                    layers.disks.push(LayerDiskSource::Stored(digest.clone()));
                    let opened = layers.open(number).and_then(|(disk, _)| disk.size());
                    match opened {
                        Err(error) if error.status() == Status::NotFound => return Ok(None),
                        size => layers.sizes.push(size?),
                    }
                    known.insert(diff_id.clone(), number);
                    number
                }
            };
            layers.stack.push(StackedLayer { disk, digest, diff_id, is_injected: false });
        }
        Ok(Some(layers))
    }

    /// `file` is the layer's, where the store does not have it.
    fn add(
        &mut self,
        digest: &Digest,
        diff_id: Option<Digest>,
        file: Option<&PathBuf>,
        options: &DiskOptions,
    ) -> Result<(u16, Digest)> {
        let (interrupt, progress) = (options.interrupt.clone(), options.progress.clone());
        let tarball_path = file.cloned();
        let extracting = ExtractOptions { diff_id, tarball_path, tree: options.tree(), progress, interrupt };
        let (temporary, extracted) = if options.direct {
            self.storage.temporary_disk(digest, &extracting)?
        } else {
            (None, self.storage.extract_layer(digest, &extracting)?)
        };
        // Hard links to lower layers are odd by themselves only, and a device that would be a whiteout in a layer is one here.
        let by_itself = Anomalies::LOWER_LINK | Anomalies::DEVICE_PLACEHOLDER;
        self.anomalies.insert(extracted.anomalies.without(by_itself));
        let diff_id = extracted.diff_id.ok_or_else(|| Error::new(Status::Internal, "a disk without a diff_id"))?;
        // The same content in another blob is the same disk.
        if let Some(same) = self.stack.iter().find(|layer| layer.diff_id == diff_id) {
            return Ok((same.disk, diff_id));
        }
        let temporary = temporary.map(|disk| LayerDiskSource::Temporary(Arc::new(disk)));
        self.disks.push(temporary.unwrap_or_else(|| LayerDiskSource::Stored(digest.clone())));
        let number = self.disks.len() as u16 - 1;
        self.sizes.push(self.open(number)?.0.size()?);
        Ok((number, diff_id))
    }

    /// A disk, and its record.
    pub(crate) fn open(&self, number: u16) -> Result<(LayerDisk, OwnedFd)> {
        match &self.disks[number as usize] {
            LayerDiskSource::Stored(digest) => self.storage.open_layer_disk(digest),
            LayerDiskSource::Temporary(disk) => disk.open(),
        }
    }

    /// The name of the tree whose file a disk is; `None` for one that nobody else has.
    pub(super) fn tree_name(&self, number: usize) -> Option<String> {
        match &self.disks[number] {
            LayerDiskSource::Stored(digest) => Some(TreeForm::EROFS.tree_name(digest)),
            LayerDiskSource::Temporary(_) => None,
        }
    }

    /// Gives a disk a further name.
    pub(super) fn link(&self, number: usize, folder: BorrowedFd<'_>, name: &str) -> Result<Result<(), Errno>> {
        match &self.disks[number] {
            LayerDiskSource::Stored(digest) => {
                let from = self.storage.directory.area(Folder::Extracted)?;
                let tree = TreeForm::EROFS.tree_name(digest);
                Ok(rustix::fs::linkat(from, tree.as_str(), folder, name, AtFlags::empty()))
            }
            LayerDiskSource::Temporary(disk) => Ok(disk.link_to(folder, name)),
        }
    }

    /// All of them on top of each other.
    pub(super) fn merge(&self, options: &DiskOptions) -> Result<MergedTree> {
        self.merge_first(self.stack.len(), options)
    }

    /// So many of them, from the lowest on.
    pub(crate) fn merge_first(&self, count: usize, options: &DiskOptions) -> Result<MergedTree> {
        let mut nothing = NoContent;
        let mut merge = Merge::new(
            &mut nothing,
            options.format.max_links(),
            &options.tree().without_whiteouts(),
            &options.interrupt,
        );
        for layer in self.stack.iter().take(count) {
            let (_, record) = self.open(layer.disk)?;
            let done = merge.entries();
            merge.layer(&record, layer.disk, options.progress.as_ref().map(|callback| callback.behind(done)))?;
            // All of it is in memory, also what later layers hide.
            limits::ENTRIES.check(&options.limits, merge.entries(), || "all layers")?;
        }
        merge.finish(options.max_mtime)
    }

    /// How many there are on top of each other.
    pub(crate) fn count(&self) -> usize {
        self.stack.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.disks.is_empty()
    }
}
