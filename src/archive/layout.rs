//! OCI layouts (OCI image-spec, image-layout.md): which images `index.json` names, and what each needs.

use super::{Blobs, Found, ImportOptions};
use crate::digest::Digest;
use crate::error::{Error, Result, Status};
use crate::oci::{Descriptor, Document, ImageManifest, IndexEntry, Platform};
use crate::store::{CallLease, ImageName, Storage};

pub(super) const INDEX: &str = "index.json";

/// What containerd and Docker call an image, in full.
const FULL_NAME: &str = "io.containerd.image.name";
/// A tag, or what a tool took for one.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// How many indexes may lead to a manifest.
const DEPTH: usize = 4;

/// The images that were asked for, with everything that they need in the store.
pub(super) fn images(
    storage: &Storage,
    blobs: &impl Blobs,
    options: &ImportOptions,
    lease: &mut CallLease,
) -> Result<Vec<Found>> {
    let found = find(blobs, options)?;
    keep(storage, blobs, &found, options, lease)?;
    Ok(found)
}

/// The images that were asked for. Nothing is stored.
pub(super) fn find(blobs: &impl Blobs, options: &ImportOptions) -> Result<Vec<Found>> {
    let bytes = blobs.file(INDEX)?;
    let Document::Index(index) = Document::parse(&bytes).map_err(|error| error.context(INDEX))? else {
        return Err(Error::new(Status::Malformed, format!("{INDEX} is a manifest")));
    };
    let mut found: Vec<Found> = Vec::new();
    let wanted = index.manifests.iter().filter(|entry| is_wanted(entry, options.select.as_deref()));
    for entry in wanted {
        options.interrupt.check()?;
        let Some((documents, digest, manifest)) = resolve(blobs, &entry.descriptor, options)? else {
            // For other machines. One that was asked for by name is to be said to be missing.
            if options.select.is_some() {
                let why = format!("{} has no image for the platform", entry.descriptor.digest);
                return Err(Error::new(Status::NotFound, why));
            }
            continue;
        };
        let names = name_of(entry);
        // One image may be listed under several names.
        if let Some(same) = found.iter_mut().find(|image| image.digest == digest) {
            same.names.extend(names.filter(|name| !same.names.contains(name)));
            continue;
        }
        let index = Some(entry.descriptor.digest.clone()).filter(|index| *index != digest);
        found.push(Found { digest, manifest, index, names: names.into_iter().collect(), documents });
    }
    Ok(found)
}

/// Puts what images need into the store.
pub(super) fn keep(
    storage: &Storage,
    blobs: &impl Blobs,
    found: &[Found],
    options: &ImportOptions,
    lease: &mut CallLease,
) -> Result<()> {
    for image in found {
        for descriptor in &image.documents {
            storage.keep_document(&descriptor.digest, &blobs.document(descriptor)?, options, lease)?;
        }
        let config = &image.manifest.config;
        storage.keep_config(&config.digest, &blobs.document(config)?, options, lease)?;
        for layer in &image.manifest.layers {
            options.interrupt.check()?;
            lease.extend_in_time(std::time::Instant::now())?;
            lease.lease().hold_unless(&layer.digest, &options.interrupt)?;
            blobs.layer(storage, layer)?;
        }
    }
    Ok(())
}

/// The manifest that a descriptor leads to on the wanted platform, and the documents on the way there.
fn resolve(
    blobs: &impl Blobs,
    descriptor: &Descriptor,
    options: &ImportOptions,
) -> Result<Option<(Vec<Descriptor>, Digest, ImageManifest)>> {
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    let mut documents = vec![descriptor.clone()];
    let mut at = descriptor.clone();
    loop {
        match Document::parse(&blobs.document(&at)?).map_err(|error| error.context(&at.digest))? {
            Document::Manifest(manifest) => return Ok(Some((documents, at.digest, manifest))),
            Document::Index(_) if documents.len() > DEPTH => {
                return Err(Error::limit("index depth", DEPTH as u64, "more", &descriptor.digest));
            }
            Document::Index(index) => match index.choose(&platform, options.strict_platform) {
                Some(chosen) => at = chosen.clone(),
                None => return Ok(None),
            },
        }
        documents.push(at.clone());
    }
}

fn is_wanted(entry: &IndexEntry, select: Option<&str>) -> bool {
    let Some(select) = select else {
        // Attestations are no images.
        return entry.platform.as_ref().is_none_or(|platform| platform.os != "unknown");
    };
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
