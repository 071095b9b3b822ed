//! OCI layouts (OCI image-spec, image-layout.md): which images `index.json` names, and what each needs.
//!
//! An entry is an image, or an index of one for several platforms. Entries of one name, or of none,
//! that differ in their platforms are such an index too, which some builders do not write (apko).
//! Which of them is taken, and what is passed over because it is no image, is decided as in a pull
//! ([`crate::oci::select`]).

use super::blobs::{Blobs, FoundImage};
use super::options::ImportOptions;
use crate::digest::Digest;
use crate::error::{Error, Result, Status};
use crate::oci::select::{self, Documents, INDEX_DEPTH, WantedPlatform};
use crate::oci::{Descriptor, Document, ImageConfig, ImageIndex, ImageManifest, IndexEntry};
use crate::store::{CallLease, ImageName, Storage};

pub(super) const INDEX: &str = "index.json";

/// What containerd and Docker call an image, in full.
const FULL_NAME: &str = "io.containerd.image.name";
/// A tag, or what a tool took for one.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The images that were asked for, with everything that they need in the store.
pub(super) fn images(
    storage: &Storage,
    blobs: &impl Blobs,
    options: &ImportOptions,
    lease: &mut CallLease,
) -> Result<Vec<FoundImage>> {
    let found = find(blobs, options)?;
    keep(storage, blobs, &found, options, lease)?;
    Ok(found)
}

/// Whether a layout says that it has nothing; then what else is in the archive counts.
pub(super) fn is_empty(blobs: &impl Blobs) -> Result<bool> {
    Ok(index_of(blobs)?.manifests.is_empty())
}

fn index_of(blobs: &impl Blobs) -> Result<ImageIndex> {
    match Document::parse(&blobs.file(INDEX)?).map_err(|error| error.context(INDEX))? {
        Document::Index(index) => Ok(index),
        Document::Manifest(_) => Err(Error::new(Status::Malformed, format!("{INDEX} is a manifest"))),
    }
}

/// The images that were asked for. Nothing is stored.
pub(super) fn find(blobs: &impl Blobs, options: &ImportOptions) -> Result<Vec<FoundImage>> {
    let index = index_of(blobs)?;
    if let Some(digest) = options.select.as_deref().and_then(|select| Digest::parse(select).ok()) {
        return by_digest(blobs, &index, &digest, options);
    }
    let mut found: Vec<FoundImage> = Vec::new();
    let mut why_not = None;
    for group in groups(index, options.select.as_deref()) {
        options.interrupt.check()?;
        match group.resolve(blobs, options)? {
            // One image may be listed under several names.
            Ok(image) => match found.iter_mut().find(|other| other.digest == image.digest) {
                Some(same) => {
                    for name in image.names {
                        if !same.names.contains(&name) {
                            same.names.push(name);
                        }
                    }
                }
                None => found.push(image),
            },
            // For other machines, or no image. One that was asked for by name is to be said to be missing.
            Err(why) if options.select.is_some() => return Err(why),
            Err(why) => {
                tracing::info!("passed over: {why}");
                why_not.get_or_insert(why);
            }
        }
    }
    match why_not {
        Some(why) if found.is_empty() => Err(why),
        _ => Ok(found),
    }
}

/// Entries that are one image.
struct PlatformGroup {
    entries: Vec<IndexEntry>,
    name: Option<ImageName>,
}

impl PlatformGroup {
    fn resolve(self, blobs: &impl Blobs, options: &ImportOptions) -> Result<Result<FoundImage, Error>> {
        let PlatformGroup { mut entries, name } = self;
        let wanted = WantedPlatform::new(options.platform.as_ref(), options.strict_platform);
        let object = match (&name, entries.first()) {
            (Some(name), _) => name.to_string(),
            (None, Some(entry)) => entry.descriptor.digest.to_string(),
            (None, None) => INDEX.to_owned(),
        };
        // What is alone is taken for what it says it is, as a registry's manifest would be.
        if let [entry] = &entries[..]
            && entry.why_no_image().is_none()
            && let Document::Manifest(manifest) = Documents::document(blobs, &entry.descriptor)?
        {
            let context = |error: Error| error.context(&object);
            if let Err(why) = select::check_image(&manifest).map_err(context) {
                return Ok(Err(why));
            }
            if let Err(why) = wanted.check(&blobs.config(&manifest)?, &object) {
                return Ok(Err(why));
            }
            let way = vec![entries.remove(0).descriptor];
            return Ok(Ok(FoundImage::at(way, manifest, name)));
        }
        let choice = select::choose(&ImageIndex { manifests: entries }, &object, &wanted, blobs)?;
        Ok(choice.map(|chosen| FoundImage::at(chosen.way, chosen.manifest, name)))
    }
}

impl FoundImage {
    /// By the descriptors that lead to it.
    fn at(way: Vec<Descriptor>, manifest: ImageManifest, name: Option<ImageName>) -> FoundImage {
        let digest = way.last().map_or_else(|| manifest.config.digest.clone(), |last| last.digest.clone());
        let index = way.first().map(|first| first.digest.clone()).filter(|first| *first != digest);
        FoundImage { digest, manifest, index, names: name.into_iter().collect(), documents: way }
    }
}

/// The entries that are wanted, those of one image together, in the order of the first of each.
fn groups(index: ImageIndex, select: Option<&str>) -> Vec<PlatformGroup> {
    let mut named: Vec<(Option<String>, PlatformGroup)> = Vec::new();
    for entry in index.manifests {
        if !is_wanted(&entry, select) {
            continue;
        }
        let name = name_of(&entry);
        let annotated = entry.annotations.get(REF_NAME).cloned();
        let label = name.as_ref().map(ToString::to_string).or(annotated);
        let platform = entry.platform.clone();
        // Of a name those that are for different platforms; what has neither name nor platform is by itself.
        let same = named.iter_mut().find(|(other, group)| {
            *other == label
                && platform.is_some()
                && group.entries.iter().all(|entry| entry.platform.is_some() && entry.platform != platform)
        });
        match same {
            Some((_, group)) => group.entries.push(entry),
            None => named.push((label, PlatformGroup { entries: vec![entry], name })),
        }
    }
    named.into_iter().map(|(_, group)| group).collect()
}

/// The image of a digest: a manifest of the layout or of one of its indexes, or the image of such an index.
fn by_digest(
    blobs: &impl Blobs,
    index: &ImageIndex,
    digest: &Digest,
    options: &ImportOptions,
) -> Result<Vec<FoundImage>> {
    let Some((way, entry)) = way_to(blobs, index, digest, INDEX_DEPTH)? else { return Ok(Vec::new()) };
    let group = PlatformGroup { entries: vec![entry.clone()], name: name_of(&entry) };
    let mut found = group.resolve(blobs, options)??;
    if let Some(first) = way.first() {
        found.index = Some(first.digest.clone());
    }
    found.documents.splice(0..0, way);
    Ok(vec![found])
}

/// The entry of a digest, and the indexes on the way there.
fn way_to(
    blobs: &impl Blobs,
    index: &ImageIndex,
    digest: &Digest,
    depth: usize,
) -> Result<Option<(Vec<Descriptor>, IndexEntry)>> {
    if let Some(entry) = index.manifests.iter().find(|entry| entry.descriptor.digest == *digest) {
        return Ok(Some((Vec::new(), entry.clone())));
    }
    let is_index = |entry: &&IndexEntry| crate::oci::media_type::is_index(&entry.descriptor.media_type);
    for entry in index.manifests.iter().filter(is_index).filter(|entry| depth > 0 && blobs.has(&entry.descriptor)) {
        let Document::Index(inner) = Documents::document(blobs, &entry.descriptor)? else { continue };
        if let Some((mut way, found)) = way_to(blobs, &inner, digest, depth - 1)? {
            way.insert(0, entry.descriptor.clone());
            return Ok(Some((way, found)));
        }
    }
    Ok(None)
}

impl<B: Blobs> Documents for B {
    fn document(&self, descriptor: &Descriptor) -> Result<Document> {
        let bytes = Blobs::document(self, descriptor)?;
        Document::parse(&bytes).map_err(|error| error.context(&descriptor.digest))
    }

    fn config(&self, manifest: &ImageManifest) -> Result<ImageConfig> {
        let bytes = Blobs::document(self, &manifest.config)?;
        ImageConfig::parse(&bytes).map_err(|error| error.context(&manifest.config.digest))
    }

    fn has(&self, descriptor: &Descriptor) -> bool {
        self.has_blob(&descriptor.digest)
    }
}

/// Puts what images need into the store.
pub(super) fn keep(
    storage: &Storage,
    blobs: &impl Blobs,
    found: &[FoundImage],
    options: &ImportOptions,
    lease: &mut CallLease,
) -> Result<()> {
    for image in found {
        for descriptor in &image.documents {
            storage.save_document(&descriptor.digest, &Blobs::document(blobs, descriptor)?, options, lease)?;
        }
        let config = &image.manifest.config;
        storage.save_config(&config.digest, &Blobs::document(blobs, config)?, options, lease)?;
        for layer in &image.manifest.layers {
            options.interrupt.check()?;
            lease.extend_in_time(std::time::Instant::now())?;
            lease.lease().hold_unless(&layer.digest, &options.interrupt)?;
            blobs.layer(storage, layer)?;
        }
    }
    Ok(())
}

fn is_wanted(entry: &IndexEntry, select: Option<&str>) -> bool {
    let Some(select) = select else { return true };
    let annotation = |key: &str| entry.annotations.get(key).map(String::as_str);
    if annotation(REF_NAME) == Some(select) || annotation(FULL_NAME) == Some(select) {
        return true;
    }
    let wanted = ImageName::parse(select).ok();
    wanted.is_some() && wanted == name_of(entry)
}

/// The name that an entry gives its image; a tag alone is none.
fn name_of(entry: &IndexEntry) -> Option<ImageName> {
    let full = entry.annotations.get(FULL_NAME);
    let full = full.or_else(|| entry.annotations.get(REF_NAME).filter(|name| name.contains(['/', ':'])));
    full.and_then(|name| ImageName::parse(name).ok())
}
