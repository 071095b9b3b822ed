//! What `docker save` writes (image-spec of Moby, v1.2): a `manifest.json` that names a config and layer files for each
//! image. It has no manifest in our sense, so one is made, the same one each time.

use serde::Deserialize;

use super::blobs::FoundImage;
use super::options::ImportOptions;
use super::tar_spool::{Packing, TarSpool};
use crate::digest::Digest;
use crate::error::{Error, Result, Status, quoted};
use crate::limits;
use crate::oci::select::WantedPlatform;
use crate::oci::{Document, ImageConfig, check_json};
use crate::store::{CallLease, ImageName, Storage};

pub(super) const MANIFEST: &str = "manifest.json";

/// Go's readers take keys in either case, which older Jib needed, and `null` for what is empty.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    #[serde(alias = "config")]
    config: Option<String>,
    #[serde(alias = "repoTags", alias = "repotags")]
    repo_tags: Option<Vec<Option<String>>>,
    #[serde(alias = "layers")]
    layers: Option<Vec<Option<String>>>,
}

/// The images that were asked for, with everything that they need in the store.
pub(super) fn images(
    storage: &Storage,
    contents: &TarSpool<'_>,
    options: &ImportOptions,
    lease: &mut CallLease,
) -> Result<Vec<FoundImage>> {
    let bytes = contents.named_document(MANIFEST)?;
    check_json(&bytes, MANIFEST)?;
    let malformed = |why: String| Error::new(Status::Malformed, why);
    let saved: Option<Vec<SavedImage>> =
        serde_json::from_slice(&bytes).map_err(|cause| malformed(format!("{MANIFEST}: {cause}")))?;
    let wanted = WantedPlatform::new(options.platform.as_ref(), options.strict_platform);
    let (mut found, mut why_not) = (Vec::new(), None);
    for image in saved.unwrap_or_default() {
        options.interrupt.check()?;
        let texts = |list: Option<Vec<Option<String>>>| -> Vec<String> {
            list.unwrap_or_default().into_iter().map(Option::unwrap_or_default).collect()
        };
        let (tags, file_names) = (texts(image.repo_tags), texts(image.layers));
        let config_name = image.config.unwrap_or_default();
        let names: Vec<ImageName> = tags.iter().filter_map(|tag| ImageName::parse(tag).ok()).collect();
        let config = contents.named_document(&config_name)?;
        let parsed = ImageConfig::parse(&config).map_err(|error| error.context(quoted(config_name.as_bytes())))?;
        if let Err(why) = wanted.check(&parsed, &config_name) {
            why_not.get_or_insert(why);
            continue;
        }
        if file_names.len() as u64 > limits::LAYERS.default {
            return Err(Error::limit(limits::LAYERS.name, limits::LAYERS.default, file_names.len(), MANIFEST));
        }
        if file_names.len() != parsed.diff_ids.len() {
            let (layers, diff_ids) = (file_names.len(), parsed.diff_ids.len());
            return Err(malformed(format!(
                "{}: {diff_ids} diff_ids for {layers} layers",
                quoted(config_name.as_bytes())
            )));
        }
        let mut layers = Vec::new();
        for name in &file_names {
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
        if !is_wanted(options.select.as_deref(), &tags, &names, [&digest, &config_digest]) {
            continue;
        }
        let Document::Manifest(parsed) = Document::parse(manifest.as_bytes())? else {
            return Err(Error::new(Status::Internal, "a manifest became something else"));
        };
        storage.save_config(&config_digest, &config, options, lease)?;
        storage.save_document(&digest, manifest.as_bytes(), options, lease)?;
        found.push(FoundImage { digest, manifest: parsed, index: None, names, documents: Vec::new() });
    }
    match why_not {
        Some(why) if found.is_empty() => Err(why),
        _ => Ok(found),
    }
}

/// By a tag, as the archive has it or in full. Or by the digest of the manifest that is made, or of
/// the config (which is what Docker calls an image's id).
fn is_wanted(select: Option<&str>, tags: &[String], names: &[ImageName], digests: [&Digest; 2]) -> bool {
    let Some(select) = select else { return true };
    if let Ok(digest) = Digest::parse(select) {
        return digests.contains(&&digest);
    }
    let wanted = ImageName::parse(select).ok();
    tags.iter().any(|tag| tag == select) || names.iter().any(|name| Some(name) == wanted.as_ref())
}

fn descriptor(kind: &str, digest: &Digest, size: u64) -> String {
    format!(r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{size}}}"#)
}
