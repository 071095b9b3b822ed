//! Committing: the layer first, then its config and manifest, and the name last. At every moment what is visible is whole.

use std::time::{Instant, SystemTime};

use super::documents::{Base, NewLayer, compression_on, grow_config, grow_manifest, rfc3339};
use super::entries::{EntryWriter, SourceCounts, WrittenLayer};
use super::options::{CommitOptions, CommitSource};
use super::pack::LayerPacker;
use super::squash::SquashedLayers;
use super::tree::{TreeReader, TreeWalk};
use super::upper::UpperReader;
use crate::digest::Digest;
use crate::error::{Error, Result, Status};
use crate::extraction::{EntryTree, ExtractOptions};
use crate::image::Image;
use crate::image_disk::TopLayer;
use crate::limits;
use crate::oci::media_type;
use crate::store::{CallLease, Storage};
use crate::unpack::TreeOptions;

/// What a commit came to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CommittedImage {
    /// The new image.
    pub image: Image,
    /// The digest of its new layer, as it is stored; `None` where only the config is another.
    pub layer: Option<Digest>,
    /// Entries of that.
    pub entries: u64,
    /// Sockets that were left out.
    pub sockets: u64,
    /// Directories on which another file system is mounted; what is there is left out.
    pub other_file_systems: u64,
}

impl Storage {
    /// Makes an image of what was changed: the base's layers, or none, and one layer more. The same changes are the same layer, on any
    /// file system; with [`CommitOptions::epoch`] they are the same image.
    ///
    /// `NOT_FOUND` for a source that is not there, a base without its config, and, with a name, a base that lacks layers.
    /// `INVALID_ARGUMENT` for a directory that is none, or an archive that is one. `STATE` for one that is changed while it is read. `UNSUPPORTED` for
    /// what a layer cannot say, or what is only in the layers below. `PERMISSION` for what cannot be read. `LIMIT` for more than
    /// [`CommitOptions::limits`], and more layers than an image may have. Whatever the error, no name is left without its blobs.
    pub fn commit_image(
        &self,
        base: Option<&Image>,
        source: &CommitSource,
        options: &CommitOptions,
    ) -> Result<CommittedImage> {
        self.check_commit(options)?;
        let committed =
            base.map(|image| self.check_base(image, image.manifest.layers.len())).transpose().and_then(|base| {
                let base = base.as_ref().map(KeptBase::as_base);
                self.commit(base, options, &mut |packer, lease| {
                    let image = base.map(|base| base.image);
                    let tree = match source {
                        CommitSource::Upper(_) | CommitSource::Tree(_) => self.begin_tree_beside(options)?,
                        CommitSource::Archive(_) => None,
                    };
                    let mut out = EntryWriter::new(packer, tree, lease, options);
                    match source {
                        CommitSource::Upper(path) => {
                            let base_tree = |lease: &mut CallLease| self.base_tree(image, options, lease);
                            UpperReader::new(path, options)?.write(&mut out, base_tree)?;
                        }
                        CommitSource::Tree(path) => {
                            let walk = TreeWalk::new(path, options)?;
                            let tree = self.base_tree(image, options, out.lease)?;
                            TreeReader::new(walk, &tree, options).write(&mut out)?;
                        }
                        CommitSource::Archive(path) => {
                            let mut waits = || out.lease.extend_in_time(Instant::now());
                            let top = TopLayer::archive_or_pipe(
                                path,
                                self,
                                (&options.limits, &options.interrupt),
                                &mut waits,
                            )?;
                            out.lease.lease().hold_unless(&top.digest, &options.interrupt)?;
                            let from = base.map_or(0, |base| base.layers);
                            let layers = SquashedLayers::of(self, (image, &[top]), from, options, out.lease)?;
                            layers.write(&mut out, options)?;
                        }
                    }
                    out.finish()
                })
            });
        committed.map_err(|error| match source {
            CommitSource::Upper(path) | CommitSource::Tree(path) | CommitSource::Archive(path) => {
                error.context(format_args!("commit of {}", path.display()))
            }
        })
    }

    /// Makes one layer of all from one on, counted from 0 at the bottom. What they come to stays: with 0 it is all that the image has.
    ///
    /// `INVALID_ARGUMENT` where there is no such layer. `NOT_FOUND` for a layer that the store lacks. Otherwise as
    /// [`Storage::commit_image`].
    pub fn squash_image(&self, image: &Image, from: usize, options: &CommitOptions) -> Result<CommittedImage> {
        self.check_commit(options)?;
        if from >= image.manifest.layers.len() {
            let why = format!("layer {from}: the image has {}", image.manifest.layers.len());
            return Err(Error::new(Status::InvalidArgument, why));
        }
        let base = self.check_base(image, from)?;
        let squashed = self.commit(Some(base.as_base()), options, &mut |packer, lease| {
            let layers = SquashedLayers::of(self, (Some(image), &[]), from, options, lease)?;
            let mut out = EntryWriter::new(packer, None, lease, options);
            layers.write(&mut out, options)?;
            out.finish()
        });
        squashed.map_err(|error| error.context(format_args!("squash of {}", image.manifest_digest)))
    }

    /// Makes an image with the same layers and another config.
    ///
    /// Errors are those of [`Storage::commit_image`], but for those of a source.
    pub fn edit_image(&self, image: &Image, options: &CommitOptions) -> Result<CommittedImage> {
        self.check_commit(options)?;
        let base = self.check_base(image, image.manifest.layers.len())?;
        let lease = CallLease::new(self)?;
        lease.lease().hold_unless(&image.manifest_digest, &options.interrupt)?;
        let edited = self.store_image(Some(base.as_base()), None, options, &lease)?;
        Ok(CommittedImage { image: edited, layer: None, entries: 0, sockets: 0, other_file_systems: 0 })
    }

    fn check_commit(&self, options: &CommitOptions) -> Result<()> {
        self.directory.check_not_forked()?;
        self.directory.check_writable()?;
        options.extract.as_ref().map_or(Ok(()), |how| how.form.check_possible())?;
        options.interrupt.check()
    }

    /// The new layer's tree, which comes to be while the layer is packed. A disk is made of the packed layer.
    fn begin_tree_beside(&self, options: &CommitOptions) -> Result<Option<EntryTree<'_>>> {
        let how = extracting(options).filter(|how| !how.form.erofs);
        how.map(|how| self.begin_tree(&how, &options.interrupt)).transpose()
    }

    fn commit<'s>(
        &'s self,
        base: Option<Base<'_>>,
        options: &CommitOptions,
        write: &mut dyn FnMut(&mut LayerPacker, &mut CallLease) -> Result<WrittenLayer<'s>>,
    ) -> Result<CommittedImage> {
        let interrupt = &options.interrupt;
        let mut lease = CallLease::new(self)?;
        if let Some(base) = &base {
            lease.lease().hold_unless(&base.image.manifest_digest, interrupt)?;
        }
        let mut packer = LayerPacker::new(self, compression_on(base, options), options)?;
        let WrittenLayer { counts, tree } = write(&mut packer, &mut lease)?;
        let packed = packer.finish()?;
        lease.extend_in_time(Instant::now())?;
        let (size, diff_id) = (packed.size, packed.diff_id.clone());
        let layer = packed.commit(interrupt, |digest| lease.lease().hold_unless(digest, interrupt))?;
        self.keep_extracted(&layer, &diff_id, tree, options)?;
        lease.extend_in_time(Instant::now())?;
        let new = NewLayer { digest: &layer, size, diff_id: &diff_id };
        let image = self.store_image(base, Some(&new), options, &lease)?;
        let SourceCounts { entries, sockets, other_file_systems, .. } = counts;
        Ok(CommittedImage { image, layer: Some(layer), entries, sockets, other_file_systems })
    }

    /// What was asked for of a new layer's extracted form: the tree that came to be with it, or else one of the packed layer.
    fn keep_extracted(
        &self,
        layer: &Digest,
        diff_id: &Digest,
        tree: Option<EntryTree<'_>>,
        options: &CommitOptions,
    ) -> Result<()> {
        let Some(tree_options) = extracting(options) else { return Ok(()) };
        let extract = ExtractOptions {
            diff_id: Some(diff_id.clone()),
            tree: tree_options,
            progress: options.progress.clone(),
            interrupt: options.interrupt.clone(),
            ..ExtractOptions::default()
        };
        match tree {
            Some(tree) => tree.publish(layer, diff_id, &extract),
            None => self.extract_layer(layer, &extract).map(drop),
        }
    }

    /// Config, manifest, and name, in this order.
    fn store_image(
        &self,
        base: Option<Base<'_>>,
        layer: Option<&NewLayer<'_>>,
        options: &CommitOptions,
        lease: &CallLease,
    ) -> Result<Image> {
        let interrupt = &options.interrupt;
        let created = rfc3339(options.epoch.unwrap_or_else(now));
        let config = grow_config(base, layer, &created, options)?;
        let config_digest = Digest::of(&config);
        lease.lease().hold_unless(&config_digest, interrupt)?;
        let mut staged = self.stage_config(&config_digest)?;
        staged.write(&config)?;
        staged.commit_within(interrupt)?;
        let manifest = grow_manifest(base, layer, (&config_digest, config.len()), options)?;
        let digest = Digest::of(&manifest);
        lease.lease().hold_unless(&digest, interrupt)?;
        self.save_manifest_within(&digest, &manifest, interrupt)?;
        // What cannot be opened gets no name, and somebody else may give the name to another one at any time.
        let mut image = self.open_image_by_digest(&digest)?;
        if let Some(name) = &options.name {
            self.tag_image_of(name, &digest, None, interrupt)?;
            image.name = self.image(name).ok().filter(|tagged| tagged.manifest == digest);
        }
        Ok(image)
    }

    /// A base of which so many layers stay.
    fn check_base<'b>(&self, image: &'b Image, layers: usize) -> Result<KeptBase<'b>> {
        let config = &image.manifest.config;
        if image.missing.contains(&config.digest) {
            return Err(Error::new(Status::NotFound, format!("{} is not in the store", config.digest)));
        }
        if !media_type::is_image_config(&config.media_type) {
            let why = format!("{}: an artifact is no image, and cannot have another layer", image.manifest_digest);
            return Err(Error::new(Status::Unsupported, why));
        }
        let most = layers as u64 + 1;
        if most > limits::LAYERS.default {
            return Err(Error::limit(limits::LAYERS.name, limits::LAYERS.default, most, &image.manifest_digest));
        }
        Ok(KeptBase { image, manifest: self.load_manifest(&image.manifest_digest)?, layers })
    }
}

/// How the new layer is to be extracted. It may cost what it may when it is packed.
fn extracting(options: &CommitOptions) -> Option<TreeOptions> {
    options.extract.as_ref().map(|how| TreeOptions { limits: options.limits.clone(), ..how.clone() })
}

struct KeptBase<'b> {
    image: &'b Image,
    manifest: Vec<u8>,
    layers: usize,
}

impl KeptBase<'_> {
    fn as_base(&self) -> Base<'_> {
        Base { image: self.image, manifest: &self.manifest, layers: self.layers }
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}
