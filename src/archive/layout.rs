//! OCI layouts (OCI image-spec, image-layout.md): which images `index.json` names, and what each needs.

use super::{Blobs, Found, ImportOptions, resolve};
use crate::error::{Error, Result, Status};
use crate::oci::{Document, IndexEntry};
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
) -> Result<Vec<Found>> {
    let bytes = blobs.file(INDEX)?;
    let Document::Index(index) = Document::parse(&bytes).map_err(|error| error.context(INDEX))? else {
        return Err(Error::new(Status::Malformed, format!("{INDEX} is a manifest")));
    };
    let mut found: Vec<Found> = Vec::new();
    let wanted = index.manifests.iter().filter(|entry| is_wanted(entry, options.select.as_deref()));
    for entry in wanted {
        options.interrupt.check()?;
        lease.extend_in_time(std::time::Instant::now())?;
        let Some((digest, manifest, index)) = resolve(storage, blobs, &entry.descriptor, options, lease)? else {
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
        let config = blobs.document(&manifest.config)?;
        storage.keep_config(&manifest.config.digest, &config, options, lease)?;
        for layer in &manifest.layers {
            options.interrupt.check()?;
            lease.lease().hold_unless(&layer.digest, &options.interrupt)?;
            blobs.layer(layer)?;
        }
        found.push(Found { digest, manifest, index, names: names.into_iter().collect() });
    }
    Ok(found)
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
