//! An image as a registry has it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use boxlite_images::Digest;

use super::super::archive::{Archive, gzip};
use super::server::{Answer, Asked};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What a registry has: blobs and manifests by digest, and what `latest` is.
#[derive(Clone, Default)]
pub struct Content {
    pub blobs: BTreeMap<String, Vec<u8>>,
    pub manifests: BTreeMap<String, (&'static str, Vec<u8>)>,
    pub latest: String,
    pub layers: Vec<Digest>,
    pub manifest: Option<Digest>,
}

impl Content {
    /// An index for two platforms, of which this host's has three layers. It is packed once: servers ask at each request.
    pub fn new() -> Content {
        static MADE: LazyLock<Content> = LazyLock::new(Content::make);
        MADE.clone()
    }

    fn make() -> Content {
        let mut content = Content::default();
        let noise = |seed: u32| {
            (0..100_000u32).flat_map(|i| (i ^ seed).wrapping_mul(0x9e37_79b9).to_le_bytes()).collect::<Vec<u8>>()
        };
        let tars: Vec<Vec<u8>> = (0..3u32)
            .map(|i| {
                let archive = Archive::new().dir(b"d").file(b"d/noise", &noise(i));
                archive.file(format!("d/f{i}").as_bytes(), i.to_string().as_bytes()).finish()
            })
            .collect();
        let ours = content.image(&tars);
        let other = content.image(&[Archive::new().file(b"other", b"x").finish()]);
        let entry = |digest: &Digest, size: usize, os: &str, architecture: &str| {
            let platform = format!(r#"{{"os":"{os}","architecture":"{architecture}"}}"#);
            format!(r#"{{"mediaType":"{MANIFEST}","digest":"{digest}","size":{size},"platform":{platform}}}"#)
        };
        let size = |content: &Content, digest: &Digest| content.manifests[&digest.to_string()].1.len();
        let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
        let entries = [
            entry(&other, size(&content, &other), "unknown", "unknown"),
            entry(&other, size(&content, &other), "linux", "s390x"),
            entry(&ours, size(&content, &ours), "linux", architecture),
        ];
        let index = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, entries.join(","));
        content.latest = Digest::of(index.as_bytes()).to_string();
        content.manifests.insert(content.latest.clone(), (INDEX, index.into_bytes()));
        content.layers = tars.iter().map(|tar| Digest::of(&gzip(tar))).collect();
        content.manifest = Some(ours);
        content
    }

    pub fn image(&mut self, tars: &[Vec<u8>]) -> Digest {
        let layers: Vec<Vec<u8>> = tars.iter().map(|tar| gzip(tar)).collect();
        let diff_ids: Vec<String> = tars.iter().map(|tar| format!("\"{}\"", Digest::of(tar))).collect();
        let config = format!(r#"{{"os":"linux","rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#, diff_ids.join(","));
        let descriptor = |kind: &str, bytes: &[u8]| {
            let digest = Digest::of(bytes);
            format!(r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{}}}"#, bytes.len())
        };
        let list: Vec<String> = layers.iter().map(|layer| descriptor("layer.v1.tar+gzip", layer)).collect();
        let config_descriptor = descriptor("config.v1+json", config.as_bytes());
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config_descriptor},"layers":[{}]}}"#,
            list.join(",")
        );
        for blob in layers.into_iter().chain([config.into_bytes()]) {
            self.blobs.insert(Digest::of(&blob).to_string(), blob);
        }
        let digest = Digest::of(manifest.as_bytes());
        self.manifests.insert(digest.to_string(), (MANIFEST, manifest.into_bytes()));
        digest
    }

    /// What an honest registry answers.
    pub fn answer(&self, asked: &Asked) -> Answer {
        let path = asked.path.split('?').next().unwrap_or_default();
        let Some((kind, target)) = path.strip_prefix("/v2/library/app/").and_then(|rest| rest.split_once('/')) else {
            return Answer::new(404, "");
        };
        match kind {
            "manifests" => {
                let digest = if target == "latest" { &self.latest } else { target };
                match self.manifests.get(digest) {
                    Some((media_type, bytes)) => Answer::new(200, bytes.clone())
                        .header("content-type", *media_type)
                        .header("docker-content-digest", digest),
                    None => Answer::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such thing"}]}"#),
                }
            }
            _ => match self.blobs.get(target) {
                Some(blob) => {
                    let (start, end) = asked.range();
                    let (start, end) = (start.min(blob.len()), end.unwrap_or(blob.len()).min(blob.len()));
                    let range = format!("bytes {start}-{}/{}", end - 1, blob.len());
                    match asked.header("range") {
                        None => Answer::new(200, blob.clone()).header("accept-ranges", "bytes"),
                        Some(_) => Answer::new(206, &blob[start..end]).header("content-range", range),
                    }
                }
                None => Answer::new(404, r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"no such blob"}]}"#),
            },
        }
    }
}
