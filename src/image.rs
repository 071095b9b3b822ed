//! An image: its manifest, its config and its layers, read from the store, and how much room they take.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use crate::digest::Digest;
use crate::error::{Error, Result, Status};
use crate::oci::{Descriptor, ImageConfig, ImageManifest, media_type};
use crate::store::{ImageName, Storage, TaggedImage};
use crate::unpack::TreeForm;

/// An image as it was when it was opened. It holds copies, and keeps nothing in the store alive.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Image {
    /// The name that it was opened by, and since when that has stood for it.
    pub name: Option<TaggedImage>,
    /// The digest of its manifest.
    pub manifest_digest: Digest,
    /// Its manifest.
    pub manifest: ImageManifest,
    /// The exact bytes of its config; empty where that is missing.
    pub config_bytes: Vec<u8>,
    /// What the config says; everything is empty where it is missing, or is not one of an image (an artifact).
    pub config: ImageConfig,
    /// Digests of its config and layers that are not in the store.
    pub missing: Vec<Digest>,
}

/// How much room an image takes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageSizes {
    /// Of its config and its layers as they are stored, each counted once.
    pub compressed: u64,
    /// Of the files in those of its layers that are extracted in the default form, and of the disks of others.
    pub extracted: u64,
    /// The part of `compressed` that other named images use too.
    pub shared: u64,
    /// The rest: what would be free without this image.
    pub unique: u64,
}

impl Image {
    /// The layers, bottom first, each with the digest of its uncompressed bytes where the config says it.
    pub fn layers(&self) -> impl Iterator<Item = (&Descriptor, Option<&Digest>)> {
        let diff_ids = self.config.diff_ids.iter().map(Some).chain(std::iter::repeat(None));
        self.manifest.layers.iter().zip(diff_ids)
    }

    fn blobs(&self) -> BTreeMap<&Digest, u64> {
        let all = std::iter::once(&self.manifest.config).chain(&self.manifest.layers);
        all.map(|descriptor| (&descriptor.digest, descriptor.size)).collect()
    }
}

impl Storage {
    /// Opens an image by name, and notes that it was used. `NOT_FOUND` where the name, or the manifest, is not there;
    /// other blobs may be missing, and are listed. `MALFORMED` for a config that is none or does not fit the manifest.
    pub fn open_image(&self, name: &ImageName) -> Result<Image> {
        let tagged = self.image(name)?;
        let mut image = self.open_image_by_digest(&tagged.manifest).map_err(|error| error.context(name))?;
        image.name = Some(tagged);
        self.mark_used(name);
        Ok(image)
    }

    /// Opens an image that need not have a name.
    pub fn open_image_by_digest(&self, manifest_digest: &Digest) -> Result<Image> {
        let manifest = self.load_image_manifest(manifest_digest)?;
        let missing = self.missing_blobs(&manifest)?;
        let config = &manifest.config;
        let config_bytes =
            if missing.contains(&config.digest) { Vec::new() } else { self.load_config(&config.digest)? };
        let mut parsed = ImageConfig::default();
        if !config_bytes.is_empty() && media_type::is_image_config(&config.media_type) {
            parsed = ImageConfig::parse(&config_bytes).map_err(|error| error.context(&config.digest))?;
            let (layers, diff_ids) = (manifest.layers.len(), parsed.diff_ids.len());
            if layers != diff_ids {
                let why = format!("{}: {diff_ids} diff_ids for {layers} layers", config.digest);
                return Err(Error::new(Status::Malformed, why));
            }
        }
        let manifest_digest = manifest_digest.clone();
        Ok(Image { name: None, manifest_digest, manifest, config_bytes, config: parsed, missing })
    }

    /// How much room an image takes, and how much of that others share.
    pub fn image_sizes(&self, image: &Image) -> Result<ImageSizes> {
        let mut others = BTreeSet::new();
        for tagged in self.images()?.into_iter().filter(|tagged| tagged.manifest != image.manifest_digest) {
            // One that was removed meanwhile, or is damaged, shares nothing.
            let Ok(manifest) = self.load_image_manifest(&tagged.manifest) else { continue };
            others.extend(manifest.layers.into_iter().map(|layer| layer.digest));
            others.insert(manifest.config.digest);
        }
        let mut sizes = ImageSizes::default();
        for (digest, size) in image.blobs() {
            sizes.compressed = sizes.compressed.saturating_add(size);
            let part = if others.contains(digest) { &mut sizes.shared } else { &mut sizes.unique };
            *part = part.saturating_add(size);
        }
        let layers: BTreeSet<&Digest> = image.manifest.layers.iter().map(|layer| &layer.digest).collect();
        for layer in layers {
            // A layer may be there as a disk alone.
            let mut bytes = 0;
            for form in [TreeForm::default(), TreeForm::EROFS] {
                bytes = if bytes > 0 { bytes } else { self.tree_content(&form.tree_name(layer))? };
            }
            sizes.extracted = sizes.extracted.saturating_add(bytes);
        }
        Ok(sizes)
    }
}

impl TaggedImage {
    /// Seconds since 1970, for the C ABI.
    pub(crate) fn unix_times(&self) -> (i64, i64) {
        let unix = |time: SystemTime| {
            time.duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
        };
        (unix(self.tagged), unix(self.used))
    }
}
