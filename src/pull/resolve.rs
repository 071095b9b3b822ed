//! What has to be fetched: the manifest, by way of indexes, the config, and the layers.

use std::collections::BTreeSet;

use reqwest::header::{CONTENT_TYPE, HeaderMap};

use super::options::PullOptions;
use super::registry::{Capability, Registry};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Error, Result, Status, quoted};
use crate::limits;
use crate::oci::select::{self, Chosen, Documents, WantedPlatform};
use crate::oci::{Descriptor, Document, ImageConfig, ImageManifest, Reference, media_type, verify_digest};
use crate::store::{Lease, Storage};

const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
const CONTENT_DIGEST: &str = "docker-content-digest";

/// What a reference leads to on a platform.
pub(super) struct Resolved {
    pub(super) digest: Digest,
    pub(super) manifest: ImageManifest,
    pub(super) config: ImageConfig,
    /// By way of which index; the outermost.
    pub(super) index: Option<Digest>,
}

/// The manifest that a reference leads to on this platform, and its config, stored and held. An artifact is `UNSUPPORTED`.
pub(super) fn resolve(
    storage: &Storage,
    registry: &Registry,
    reference: &Reference,
    options: &PullOptions,
    lease: &Lease,
) -> Result<Resolved> {
    let (first, document) = match &reference.digest {
        Some(digest) => (digest.clone(), by_digest(storage, registry, digest, None, lease)?),
        None => by_tag(storage, registry, &reference.tag, lease)?,
    };
    let wanted = WantedPlatform::new(options.platform.as_ref(), options.strict_platform);
    match document {
        Document::Manifest(manifest) => {
            select::check_image(&manifest).map_err(|error| error.context(&first))?;
            let config = config(storage, registry, &manifest)?;
            wanted.check(&config, &first)?;
            Ok(Resolved { digest: first, manifest, config, index: None })
        }
        Document::Index(index) => {
            let from = FromRegistry { storage, registry, lease };
            let Chosen { way, manifest } = select::choose(&index, &first.to_string(), &wanted, &from)??;
            let digest = way.last().map_or_else(|| first.clone(), |last| last.digest.clone());
            let config = config(storage, registry, &manifest)?;
            Ok(Resolved { digest, manifest, config, index: Some(first) })
        }
    }
}

/// The documents of an index, fetched when they are looked at.
struct FromRegistry<'a> {
    storage: &'a Storage,
    registry: &'a Registry,
    lease: &'a Lease,
}

impl Documents for FromRegistry<'_> {
    fn document(&self, descriptor: &Descriptor) -> Result<Document> {
        by_digest(self.storage, self.registry, &descriptor.digest, Some(descriptor), self.lease)
    }

    fn config(&self, manifest: &ImageManifest) -> Result<ImageConfig> {
        config(self.storage, self.registry, manifest)
    }
}

fn by_tag(storage: &Storage, registry: &Registry, tag: &str, lease: &Lease) -> Result<(Digest, Document)> {
    let path = format!("manifests/{tag}");
    let (digest, document, bytes) = registry.document(&path, ACCEPTED, Capability::Resolve, |headers, bytes| {
        let digest = promised_digest(headers, bytes, tag)?;
        Ok((digest, checked(headers, bytes)?, bytes.to_vec()))
    })?;
    lease.hold_unless(&digest, registry.interrupt())?;
    storage.save_manifest_within(&digest, &bytes, registry.interrupt())?;
    Ok((digest, document))
}

/// What a tag's document hashes to, which must be what the registry says.
fn promised_digest(headers: &HeaderMap, bytes: &[u8], tag: &str) -> Result<Digest> {
    let malformed = || {
        let tag = quoted(tag.as_bytes());
        Error::new(Status::Malformed, format!("manifest of tag {tag}: Docker-Content-Digest is no digest"))
    };
    let promised = headers
        .get(CONTENT_DIGEST)
        .map(|value| value.to_str().ok().and_then(|text| Digest::parse(text).ok()).ok_or_else(malformed));
    let promised = promised.transpose()?;
    let algorithm = promised.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
    let digest = digest_of(bytes, algorithm);
    if let Some(promised) = promised.filter(|promised| *promised != digest) {
        return Err(Error::digest_mismatch(
            format_args!("manifest of tag {}", quoted(tag.as_bytes())),
            &promised,
            &digest,
        ));
    }
    Ok(digest)
}

fn digest_of(bytes: &[u8], algorithm: Algorithm) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

fn by_digest(
    storage: &Storage,
    registry: &Registry,
    digest: &Digest,
    descriptor: Option<&Descriptor>,
    lease: &Lease,
) -> Result<Document> {
    lease.hold_unless(digest, registry.interrupt())?;
    if let Ok(bytes) = storage.load_manifest(digest) {
        let document = Document::parse(&bytes)?;
        if let Some(descriptor) = descriptor {
            descriptor.verify(&bytes)?;
            contradiction(&document, &descriptor.media_type, "its descriptor's media type")?;
        }
        return Ok(document);
    }
    if let Some(size) =
        descriptor.map(|descriptor| descriptor.size).filter(|&size| size > limits::DOCUMENT_SIZE.default)
    {
        return Err(Error::limit(limits::DOCUMENT_SIZE.name, limits::DOCUMENT_SIZE.default, size, digest));
    }
    let path = format!("manifests/{digest}");
    let (document, bytes) = registry.document(&path, ACCEPTED, Capability::Pull, |headers, bytes| {
        descriptor.map_or_else(|| verify_digest(digest, bytes), |descriptor| descriptor.verify(bytes))?;
        Ok((checked(headers, bytes)?, bytes.to_vec()))
    })?;
    if let Some(descriptor) = descriptor {
        contradiction(&document, &descriptor.media_type, "its descriptor's media type")?;
    }
    storage.save_manifest_within(digest, &bytes, registry.interrupt())?;
    Ok(document)
}

/// A document that is what the registry calls it (CVE-2021-41190).
fn checked(headers: &HeaderMap, bytes: &[u8]) -> Result<Document> {
    let document = Document::parse(bytes)?;
    let said = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let said = said.split(';').next().unwrap_or_default().trim();
    contradiction(&document, said, "Content-Type")?;
    Ok(document)
}

/// Refuses a document of another kind than somebody says it is. Who says something else altogether says nothing.
fn contradiction(document: &Document, said: &str, by: &str) -> Result<()> {
    let contradicts = match document {
        Document::Manifest(_) => media_type::is_index(said),
        Document::Index(_) => media_type::is_manifest(said),
    };
    if contradicts {
        let why = format!("manifest: {by} {} contradicts the content", quoted(said.as_bytes()));
        return Err(Error::new(Status::Malformed, why));
    }
    Ok(())
}

/// The config, stored.
fn config(storage: &Storage, registry: &Registry, manifest: &ImageManifest) -> Result<ImageConfig> {
    let descriptor = &manifest.config;
    let bytes = match storage.load_config(&descriptor.digest) {
        Ok(bytes) => bytes,
        Err(_) => {
            if descriptor.size > limits::DOCUMENT_SIZE.default {
                let limit = limits::DOCUMENT_SIZE;
                return Err(Error::limit(limit.name, limit.default, descriptor.size, &descriptor.digest));
            }
            let path = format!("blobs/{}", descriptor.digest);
            let bytes = registry.document(&path, "*/*", Capability::Pull, |_, bytes| {
                descriptor.verify(bytes)?;
                Ok(bytes.to_vec())
            })?;
            let mut staged = storage.stage_config(&descriptor.digest)?;
            staged.write(&bytes)?;
            staged.commit_within(registry.interrupt())?;
            bytes
        }
    };
    ImageConfig::parse(&bytes).map_err(|error| error.context(format_args!("config {}", descriptor.digest)))
}

/// A layer, and what it must be uncompressed.
#[derive(Clone, Debug)]
pub(super) struct WantedLayer {
    pub(super) descriptor: Descriptor,
    pub(super) diff_id: Option<Digest>,
}

/// The layers, each once.
pub(super) fn layers(manifest: &ImageManifest, config: &ImageConfig, most: Option<u64>) -> Result<Vec<WantedLayer>> {
    if config.diff_ids.len() != manifest.layers.len() {
        let (layers, diff_ids) = (manifest.layers.len(), config.diff_ids.len());
        return Err(Error::new(Status::Malformed, format!("{layers} layers, and a config with {diff_ids} diff_ids")));
    }
    let (mut wanted, mut seen) = (Vec::new(), BTreeSet::new());
    for (at, descriptor) in manifest.layers.iter().enumerate() {
        if seen.insert(&descriptor.digest) {
            wanted.push(WantedLayer { descriptor: descriptor.clone(), diff_id: config.diff_ids.get(at).cloned() });
        }
    }
    let total = wanted.iter().fold(0u64, |total, wanted: &WantedLayer| total.saturating_add(wanted.descriptor.size));
    if let Some(most) = most.filter(|&most| total > most) {
        return Err(Error::limit("image size", most, total, "layers"));
    }
    Ok(wanted)
}
