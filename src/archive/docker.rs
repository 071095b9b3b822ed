//! What `docker save` writes (image-spec of Moby, v1.2): a `manifest.json` that names a config and layer files for each
//! image. It has no manifest in our sense, so one is made, the same one each time.

use serde::Deserialize;

use super::contents::{Contents, Packing};
use super::{Found, ImportOptions};
use crate::digest::Digest;
use crate::error::{Error, Result, Status, quoted};
use crate::limits;
use crate::oci::{Document, ImageConfig, check_json};
use crate::store::{CallLease, ImageName, Storage};

pub(super) const MANIFEST: &str = "manifest.json";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The images that were asked for, with everything that they need in the store.
pub(super) fn images(
    storage: &Storage,
    contents: &Contents<'_>,
    options: &ImportOptions,
    lease: &mut CallLease,
) -> Result<Vec<Found>> {
    let bytes = contents.named_document(MANIFEST)?;
    check_json(&bytes, MANIFEST)?;
    let malformed = |why: String| Error::new(Status::Malformed, why);
    let saved: Vec<Saved> =
        serde_json::from_slice(&bytes).map_err(|cause| malformed(format!("{MANIFEST}: {cause}")))?;
    let mut found = Vec::new();
    for image in saved {
        options.interrupt.check()?;
        let tags = image.repo_tags.unwrap_or_default();
        let names: Vec<ImageName> = tags.iter().filter_map(|tag| ImageName::parse(tag).ok()).collect();
        if let Some(select) = &options.select {
            let wanted = ImageName::parse(select).ok();
            if !tags.contains(select) && !names.iter().any(|name| Some(name) == wanted.as_ref()) {
                continue;
            }
        }
        let config = contents.named_document(&image.config)?;
        let parsed = ImageConfig::parse(&config).map_err(|error| error.context(quoted(image.config.as_bytes())))?;
        if image.layers.len() as u64 > limits::LAYERS.default {
            return Err(Error::limit(limits::LAYERS.name, limits::LAYERS.default, image.layers.len(), MANIFEST));
        }
        if image.layers.len() != parsed.diff_ids.len() {
            let (layers, diff_ids) = (image.layers.len(), parsed.diff_ids.len());
            return Err(malformed(format!(
                "{}: {diff_ids} diff_ids for {layers} layers",
                quoted(image.config.as_bytes())
            )));
        }
        let mut layers = Vec::new();
        for name in &image.layers {
            let stored = contents.named_blob(name)?;
            let kind = match stored.packing {
                Packing::Plain => "",
                Packing::Gzip => "+gzip",
                Packing::Zstd => "+zstd",
            };
            layers.push(descriptor(&format!("layer.v1.tar{kind}"), &stored.digest, stored.size));
        }
        let config_digest = Digest::of(&config);
        let config_descriptor = descriptor("config.v1+json", &config_digest, config.len() as u64);
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{config_descriptor},"layers":[{}]}}"#,
            layers.join(",")
        );
        let digest = Digest::of(manifest.as_bytes());
        let Document::Manifest(parsed) = Document::parse(manifest.as_bytes())? else {
            return Err(Error::new(Status::Internal, "a manifest became something else"));
        };
        storage.keep_config(&config_digest, &config, options, lease)?;
        storage.keep_document(&digest, manifest.as_bytes(), options, lease)?;
        found.push(Found { digest, manifest: parsed, index: None, names, documents: Vec::new() });
    }
    Ok(found)
}

fn descriptor(kind: &str, digest: &Digest, size: u64) -> String {
    format!(r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{size}}}"#)
}
