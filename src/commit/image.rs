//! Committing: the layer first, then its config and manifest, and the name last. At every moment what is visible is whole.

use std::time::{Instant, SystemTime};

use super::documents::{NewLayer, grow_config, grow_manifest, rfc3339};
use super::options::{CommitOptions, CommitSource};
use super::pack::LayerPacker;
use super::tree::TreeReader;
use super::upper::UpperReader;
use crate::digest::Digest;
use crate::error::{Error, Result, Status};
use crate::image::Image;
use crate::limits;
use crate::oci::media_type;
use crate::store::{CallLease, Storage};

/// What a commit came to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CommittedImage {
    /// The new image.
    pub image: Image,
    /// The digest of its new layer, as it is stored.
    pub layer: Digest,
    /// Entries of that.
    pub entries: u64,
    /// Sockets that were left out.
    pub sockets: u64,
    /// Directories on which another file system is mounted; they are empty in the layer.
    pub other_file_systems: u64,
}

impl Storage {
    /// Makes an image of what was changed: the base's layers, or none, and one layer more. The same changes are the same layer, on any
    /// file system; with [`CommitOptions::epoch`] they are the same image.
    ///
    /// `NOT_FOUND` for a source that is not there, a base without its config, and, with a name, a base that lacks layers.
    /// `INVALID_ARGUMENT` for a source that is no directory. `STATE` for one that is changed while it is read. `UNSUPPORTED` for
    /// what a layer cannot say, or what is only in the layers below. `PERMISSION` for what cannot be read. `LIMIT` for more than
    /// [`CommitOptions::limits`], and more layers than an image may have. Whatever the error, no name is left without its blobs.
    pub fn commit_image(
        &self,
        base: Option<&Image>,
        source: &CommitSource,
        options: &CommitOptions,
    ) -> Result<CommittedImage> {
        self.directory.check_not_forked()?;
        self.directory.check_writable()?;
        options.interrupt.check()?;
        let committed = self.commit(base, source, options);
        committed.map_err(|error| match source {
            CommitSource::Upper(path) | CommitSource::Tree(path) => {
                error.context(format_args!("commit of {}", path.display()))
            }
        })
    }

    fn commit(&self, base: Option<&Image>, source: &CommitSource, options: &CommitOptions) -> Result<CommittedImage> {
        let interrupt = &options.interrupt;
        let base = base.map(|image| self.check_base(image)).transpose()?;
        let mut lease = CallLease::new(self)?;
        if let Some((image, _)) = &base {
            lease.lease().hold_unless(&image.manifest_digest, interrupt)?;
        }
        let mut packer = LayerPacker::new(self, (options.compression, options.level), interrupt)?;
        let counts = match source {
            CommitSource::Upper(path) => UpperReader::new(path, options)?.write(&mut packer)?,
            CommitSource::Tree(path) => {
                let tree = self.base_tree(base.as_ref().map(|(image, _)| *image), options)?;
                TreeReader::new(path, &tree, options)?.write(&mut packer)?
            }
        };
        let packed = packer.finish()?;
        lease.extend_in_time(Instant::now())?;
        let (size, diff_id) = (packed.size, packed.diff_id.clone());
        let layer = packed.commit(interrupt, |digest| lease.lease().hold_unless(digest, interrupt))?;
        let new = NewLayer { digest: &layer, size, diff_id: &diff_id };
        let created = rfc3339(options.epoch.unwrap_or_else(now));
        let config = grow_config(base.as_ref().map(|(image, _)| *image), &new, &created, options)?;
        let config_digest = Digest::of(&config);
        lease.lease().hold_unless(&config_digest, interrupt)?;
        let mut staged = self.stage_config(&config_digest)?;
        staged.write(&config)?;
        staged.commit_within(interrupt)?;
        let of_base = base.as_ref().map(|(image, bytes)| (*image, &bytes[..]));
        let manifest = grow_manifest(of_base, &new, (&config_digest, config.len()), options.compression)?;
        let digest = Digest::of(&manifest);
        lease.lease().hold_unless(&digest, interrupt)?;
        self.save_manifest_within(&digest, &manifest, interrupt)?;
        let image = match &options.name {
            Some(name) => {
                self.tag_image_of(name, &digest, None, interrupt)?;
                self.open_image(name)?
            }
            None => self.open_image_by_digest(&digest)?,
        };
        let (entries, sockets, other_file_systems) = (counts.entries, counts.sockets, counts.other_file_systems);
        Ok(CommittedImage { image, layer, entries, sockets, other_file_systems })
    }

    /// A base, with the bytes of its manifest.
    fn check_base<'b>(&self, image: &'b Image) -> Result<(&'b Image, Vec<u8>)> {
        let config = &image.manifest.config;
        if image.missing.contains(&config.digest) {
            return Err(Error::new(Status::NotFound, format!("{} is not in the store", config.digest)));
        }
        if !media_type::is_image_config(&config.media_type) {
            let why = format!("{}: an artifact is no image, and cannot have another layer", image.manifest_digest);
            return Err(Error::new(Status::Unsupported, why));
        }
        let layers = image.manifest.layers.len() as u64 + 1;
        if layers > limits::LAYERS.default {
            return Err(Error::limit(limits::LAYERS.name, limits::LAYERS.default, layers, &image.manifest_digest));
        }
        Ok((image, self.load_manifest(&image.manifest_digest)?))
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}
