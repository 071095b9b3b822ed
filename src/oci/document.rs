//! Manifests and indexes (OCI image-spec, manifest.md and image-index.md; Docker manifest v2 schema 2 and list).
//!
//! Parsing is where a document becomes one thing or an error. What is refused here was an attack or a confusion
//! elsewhere: a document that is a manifest to one reader and an index to another (CVE-2021-41190), a key given twice
//! of which two readers take different ones, nesting that exhausts a stack. Unknown keys are ignored, as the
//! specification asks; known ones must have their specified type.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::json;
use super::platform::Platform;
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result, Status, quoted};
use crate::limits;

/// What points at a blob: its media type, digest and size (OCI image-spec, descriptor.md).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The media type as written; empty where the document gives none.
    pub media_type: String,
    /// The digest that the blob must have.
    pub digest: Digest,
    /// The blob's size in bytes.
    pub size: u64,
}

impl Descriptor {
    /// That bytes are what the descriptor says: `SIZE_MISMATCH`, `DIGEST_MISMATCH`.
    pub(crate) fn verify(&self, bytes: &[u8]) -> Result<()> {
        if bytes.len() as u64 != self.size {
            let why = format!("{}: declared as {} bytes, got {}", self.digest, self.size, bytes.len());
            return Err(Error::new(Status::SizeMismatch, why));
        }
        verify_digest(&self.digest, bytes)
    }
}

/// That a document hashes to its digest.
pub(crate) fn verify_digest(digest: &Digest, bytes: &[u8]) -> Result<()> {
    let mut hasher = Hasher::new(digest.algorithm());
    hasher.update(bytes);
    let actual = hasher.finish();
    if actual == *digest { Ok(()) } else { Err(Error::digest_mismatch("document", digest, &actual)) }
}

/// The manifest of one image for one platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageManifest {
    /// The image's configuration.
    pub config: Descriptor,
    /// The layers, bottom first.
    pub layers: Vec<Descriptor>,
}

/// An image index, or Docker manifest list: manifests of one image for several platforms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageIndex {
    /// The manifests (or nested indexes), in the order of preference.
    pub manifests: Vec<IndexEntry>,
}

/// One of an index's images, or another index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The manifest.
    pub descriptor: Descriptor,
    /// What the image is for; `None` where the index does not say.
    pub platform: Option<Platform>,
    /// What its maker wanted to say of it; names of images, in layouts.
    pub annotations: BTreeMap<String, String>,
}

impl ImageIndex {
    /// The entry for a platform.
    pub(crate) fn choose(&self, platform: &Platform, strict: bool) -> Option<&Descriptor> {
        let choices = self.manifests.iter().filter_map(|entry| Some((entry.platform.as_ref()?, &entry.descriptor)));
        platform.choose(strict, choices).or_else(|| {
            // An index without platforms leads on to another one, or to its only image.
            let has_platforms = self.manifests.iter().any(|entry| entry.platform.is_some());
            self.manifests.first().filter(|_| !has_platforms).map(|entry| &entry.descriptor)
        })
    }
}

/// A parsed manifest or index.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Document {
    /// An image manifest.
    Manifest(ImageManifest),
    /// An image index.
    Index(ImageIndex),
}

impl Document {
    /// Parses a manifest or index of at most 4 MiB. `MALFORMED` for what is not exactly one of the two, `UNSUPPORTED`
    /// for schema 1 and for digests of another algorithm, `LIMIT` for size and nesting.
    pub fn parse(bytes: &[u8]) -> Result<Document> {
        json::check_size_and_depth(bytes, "manifest")?;
        // The JSON library would also read a struct from an array, field by field.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(malformed("not a JSON object"));
        }
        let raw: RawDocument =
            serde_json::from_slice(bytes).map_err(|cause| malformed(format!("not a manifest or index: {cause}")))?;
        match raw.schema_version {
            Some(2) => {}
            Some(1) => return Err(Error::new(Status::Unsupported, "manifest: schema 1 is not supported")),
            _ => return Err(malformed("schemaVersion is not 2")),
        }
        let media_type = raw.media_type.unwrap_or_default();
        let is_index_type = matches!(
            media_type.as_str(),
            "application/vnd.oci.image.index.v1+json" | "application/vnd.docker.distribution.manifest.list.v2+json"
        );
        let is_manifest_type = matches!(
            media_type.as_str(),
            "application/vnd.oci.image.manifest.v1+json" | "application/vnd.docker.distribution.manifest.v2+json"
        );
        match (raw.manifests, raw.config, raw.layers) {
            (Some(manifests), None, None) if !is_manifest_type => {
                let entry = |mut raw: RawDescriptor| {
                    let platform = raw.platform.as_ref().map(RawPlatform::normalised);
                    let annotations = raw.annotations.take().unwrap_or_default();
                    Ok(IndexEntry { platform, annotations, descriptor: raw.check()? })
                };
                Ok(Document::Index(ImageIndex { manifests: manifests.into_iter().map(entry).collect::<Result<_>>()? }))
            }
            (None, Some(config), layers) if !is_index_type => {
                let (config, layers) = (config.check()?, layers.unwrap_or_default());
                if layers.len() as u64 > limits::LAYERS.default {
                    return Err(Error::limit(limits::LAYERS.name, limits::LAYERS.default, layers.len(), "manifest"));
                }
                Ok(Document::Manifest(ImageManifest { config, layers: descriptors(layers)? }))
            }
            (Some(_), _, _) if raw.fs_layers.is_none() && !is_manifest_type => {
                Err(malformed("a document with both manifests and config or layers"))
            }
            (None, None, _) => Err(malformed("neither a config nor manifests")),
            _ => Err(malformed(format!("mediaType {} contradicts the content", quoted(media_type.as_bytes())))),
        }
    }
}

#[derive(Deserialize)]
struct RawDocument {
    #[serde(rename = "schemaVersion")]
    schema_version: Option<u64>,
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    manifests: Option<Vec<RawDescriptor>>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    #[serde(rename = "fsLayers")]
    fs_layers: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct RawDescriptor {
    #[serde(rename = "mediaType", default)]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<RawPlatform>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
}

impl RawPlatform {
    fn normalised(&self) -> Platform {
        Platform::new(&self.os, &self.architecture, &self.variant)
    }
}

impl RawDescriptor {
    fn check(self) -> Result<Descriptor> {
        let digest = json::digest(&self.digest, "manifest")?;
        Ok(Descriptor { media_type: self.media_type, digest, size: self.size })
    }
}

fn descriptors(raw: Vec<RawDescriptor>) -> Result<Vec<Descriptor>> {
    raw.into_iter().map(RawDescriptor::check).collect()
}

fn malformed(why: impl std::fmt::Display) -> Error {
    Error::new(Status::Malformed, format!("manifest: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(n: u8) -> String {
        format!(r#"{{"mediaType":"x","digest":"{}","size":{n}}}"#, Digest::of(&[n]))
    }

    #[test]
    fn manifests_and_indexes_are_told_apart() {
        let manifest =
            format!(r#"{{"schemaVersion":2,"config":{},"layers":[{},{}],"extra":[{{}}]}}"#, blob(1), blob(2), blob(2));
        let Document::Manifest(parsed) = Document::parse(manifest.as_bytes()).unwrap() else {
            panic!("not a manifest")
        };
        assert_eq!(
            (parsed.config.size, parsed.layers.len(), parsed.layers[0].digest.clone()),
            (1, 2, Digest::of(&[2]))
        );
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, blob(3));
        let Document::Index(parsed) = Document::parse(index.as_bytes()).unwrap() else { panic!("not an index") };
        assert_eq!((parsed.manifests[0].descriptor.size, &parsed.manifests[0].platform), (3, &None));
    }

    #[test]
    fn families_122_123_124_confusing_documents_are_refused() {
        use Status::*;
        let b = blob(1);
        let bad_digest = b.replace("sha256:", "sha256:../");
        let cases = [
            (format!(r#"{{"schemaVersion":2,"manifests":[],"config":{b},"layers":[]}}"#), Malformed),
            (format!(r#"{{"schemaVersion":2,"manifests":[],"layers":[{b}]}}"#), Malformed),
            (format!(r#"{{"schemaVersion":2,"config":{b},"config":{b},"layers":[]}}"#), Malformed),
            (format!(r#"{{"schemaVersion":2,"config":{b},"layers":[],"layers":[{b}]}}"#), Malformed),
            (
                format!(r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","config":{b}}}"#),
                Malformed,
            ),
            (
                r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","manifests":[]}"#.into(),
                Malformed,
            ),
            (format!(r#"{{"schemaVersion":"2","config":{b}}}"#), Malformed),
            (format!(r#"{{"config":{b}}}"#), Malformed),
            (r#"{"schemaVersion":1,"fsLayers":[],"history":[]}"#.into(), Unsupported),
            (r#"{"schemaVersion":2}"#.into(), Malformed),
            (format!(r#"{{"schemaVersion":2,"config":{bad_digest}}}"#), Malformed),
            (format!(r#"{{"schemaVersion":2,"config":{b}}} x"#), Malformed),
            (format!("\u{feff}{{\"schemaVersion\":2,\"config\":{b}}}"), Malformed),
            ("[]".into(), Malformed),
            (format!(r#"[2,null,null,{b},[],null]"#), Malformed),
            ("".into(), Malformed),
            (format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)), Limit),
            (" ".repeat((4 << 20) + 1), Limit),
            (format!(r#"{{"schemaVersion":2,"config":{b},"layers":[{}]}}"#, vec![&b[..]; 1025].join(",")), Limit),
        ];
        let most = format!(r#"{{"schemaVersion":2,"config":{b},"layers":[{}]}}"#, vec![&b[..]; 1024].join(","));
        assert!(Document::parse(most.as_bytes()).is_ok());
        for (text, status) in &cases {
            let error = Document::parse(text.as_bytes()).expect_err(&text[..text.len().min(90)]);
            assert_eq!(error.status(), *status, "{error}: {}", &text[..text.len().min(90)]);
        }
    }
}
