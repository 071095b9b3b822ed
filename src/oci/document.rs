//! Manifests and indexes (OCI image-spec, manifest.md and image-index.md; Docker manifest v2 schema 2 and list).
//!
//! Parsing is where a document becomes one thing or an error. What is refused here was an attack or
//! a confusion elsewhere. A document was a manifest to one reader and an index to another
//! (CVE-2021-41190). A key was given twice, and two readers took different ones. Nesting exhausted
//! a stack. Unknown keys are ignored, as the specification asks; known ones must have their
//! specified type.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::platform::Platform;
use super::{json, media_type};
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
    /// What an artifact says it is; empty for an image.
    pub artifact_type: String,
    /// Whether it speaks of another manifest, as a signature does.
    pub has_subject: bool,
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
    /// What the image needs of its operating system beside that.
    pub os_features: Vec<String>,
    /// What an artifact says it is; empty for an image.
    pub artifact_type: String,
    /// What its maker wanted to say of it; names of images, in layouts.
    pub annotations: BTreeMap<String, String>,
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
        let (is_index_type, is_manifest_type) =
            (media_type::is_index(&media_type), media_type::is_manifest(&media_type));
        match (raw.manifests, raw.config, raw.layers) {
            (Some(manifests), None, None) if !is_manifest_type => {
                let manifests = manifests.into_iter().map(RawDescriptor::into_entry).collect::<Result<_>>()?;
                Ok(Document::Index(ImageIndex { manifests }))
            }
            // A list of nothing, as Go writes it.
            (None, None, None) if is_index_type => Ok(Document::Index(ImageIndex { manifests: Vec::new() })),
            (None, Some(config), layers) if !is_index_type => {
                let (config, layers) = (config.check()?, layers.unwrap_or_default());
                if layers.len() as u64 > limits::LAYERS.default {
                    return Err(Error::limit(limits::LAYERS.name, limits::LAYERS.default, layers.len(), "manifest"));
                }
                let artifact_type = raw.artifact_type.unwrap_or_default();
                let has_subject = raw.subject.is_some();
                Ok(Document::Manifest(ImageManifest {
                    config,
                    layers: descriptors(layers)?,
                    artifact_type,
                    has_subject,
                }))
            }
            (Some(_), _, _) if raw.fs_layers.is_none() && !is_manifest_type => {
                Err(malformed("a document with both manifests and config or layers"))
            }
            (None, None, _) => Err(malformed("neither a config nor manifests")),
            _ => Err(malformed(format!("mediaType {} contradicts the content", quoted(media_type.as_bytes())))),
        }
    }
}

/// What is empty may be `null`: Go programs write it for a list, a map and a pointer.
#[derive(Deserialize)]
struct RawDocument {
    #[serde(rename = "schemaVersion")]
    schema_version: Option<u64>,
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    #[serde(rename = "artifactType")]
    artifact_type: Option<String>,
    manifests: Option<Vec<RawDescriptor>>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    subject: Option<IgnoredAny>,
    #[serde(rename = "fsLayers")]
    fs_layers: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct RawDescriptor {
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    digest: String,
    size: u64,
    platform: Option<RawPlatform>,
    annotations: Option<BTreeMap<String, Option<String>>>,
    #[serde(rename = "artifactType")]
    artifact_type: Option<String>,
}

#[derive(Deserialize)]
struct RawPlatform {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
    #[serde(rename = "os.features")]
    os_features: Option<Vec<Option<String>>>,
}

impl RawPlatform {
    /// `None` where nothing is said.
    fn normalised(&self) -> Option<Platform> {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let (os, architecture) = (text(&self.os), text(&self.architecture));
        let is_said = !os.is_empty() || !architecture.is_empty();
        is_said.then(|| Platform::new(&os, &architecture, &text(&self.variant)))
    }
}

impl RawDescriptor {
    fn check(self) -> Result<Descriptor> {
        let digest = json::digest(&self.digest, "manifest")?;
        Ok(Descriptor { media_type: self.media_type.unwrap_or_default(), digest, size: self.size })
    }

    fn into_entry(mut self) -> Result<IndexEntry> {
        let raw = self.platform.take();
        let platform = raw.as_ref().and_then(RawPlatform::normalised);
        let os_features = raw.and_then(|raw| raw.os_features).unwrap_or_default();
        let os_features = os_features.into_iter().flatten().filter(|feature| !feature.is_empty()).collect();
        let annotations = self.annotations.take().unwrap_or_default();
        let annotations = annotations.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect();
        let artifact_type = self.artifact_type.take().unwrap_or_default();
        Ok(IndexEntry { platform, os_features, artifact_type, annotations, descriptor: self.check()? })
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
