//! Media types (OCI image-spec, media-types.md; Docker's image manifest v2, schema 2): which documents and layers are those of
//! an image. What is not listed here is something else, which the specification says is to be ignored.

use crate::error::{Error, Result, Status, quoted};

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Of layers, without their compression.
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// Of an index, or Docker's manifest list.
pub(crate) fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_LIST)
}

/// Of the manifest of one image.
pub(crate) fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
}

/// Of a config that says how an image is to be run.
pub(crate) fn is_image_config(media_type: &str) -> bool {
    matches!(media_type, OCI_CONFIG | DOCKER_CONFIG)
}

/// Whether the documents of an image are Docker's.
pub(crate) fn is_docker_config(media_type: &str) -> bool {
    media_type == DOCKER_CONFIG
}

/// Refuses, as `UNSUPPORTED`, a layer that is none of an image's. That is one that is encrypted, of
/// a tool of its own, or foreign, which is fetched from nowhere (CVE-2020-15157). One that says
/// nothing is told by its bytes.
pub(crate) fn check_layer(media_type: &str) -> Result<()> {
    let rest = media_type.strip_prefix("application/vnd.oci.image.layer.");
    let docker = media_type.strip_prefix("application/vnd.docker.image.rootfs.");
    let what = match (rest, docker) {
        _ if media_type.is_empty() => return Ok(()),
        (Some("v1.tar" | "v1.tar+gzip" | "v1.tar+zstd"), _) => return Ok(()),
        (_, Some("diff.tar" | "diff.tar.gzip" | "diff.tar.zstd")) => return Ok(()),
        _ if media_type.ends_with("+encrypted") => "is encrypted",
        (Some(rest), _) if rest.starts_with("nondistributable.") => "is foreign, and nobody may give it away",
        (_, Some(rest)) if rest.starts_with("foreign.") => "is foreign, and nobody may give it away",
        _ => "is no layer of an image",
    };
    Err(Error::new(Status::Unsupported, format!("layer of type {} {what}", quoted(media_type.as_bytes()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_known_or_refused() {
        for good in ["", "application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar.gzip"]
        {
            assert!(check_layer(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "encrypted"),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "foreign"),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "foreign"),
            ("application/vnd.oci.image.layer.v1.tar+xz", "no layer"),
            ("application/vnd.dev.cosign.simplesigning.v1+json", "no layer"),
            ("text/plain", "no layer"),
        ] {
            let error = check_layer(bad).expect_err(bad);
            assert_eq!(error.status(), Status::Unsupported);
            assert!(error.message().contains(why), "{error}");
        }
    }
}
