//! References: where an image is (distribution spec; Docker's short forms).

use crate::digest::Digest;
use crate::error::{Error, Result, Status, quoted};

/// The longest reference that is looked at.
const LONGEST: usize = 4096;

/// An image on a registry: `alpine` is tag `latest` of `library/alpine` on `docker.io`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reference {
    /// The registry as in the name, with its port: `docker.io`, `localhost:5000`.
    pub registry: String,
    /// The repository: `library/alpine`.
    pub repository: String,
    /// The tag; `latest` where the reference has neither a tag nor a digest, empty where it has only a digest.
    pub tag: String,
    /// What the manifest must hash to. It decides, whatever the tag.
    pub digest: Option<Digest>,
}

impl Reference {
    /// `INVALID_ARGUMENT` for what is no reference, and for what looks like one and is an attack or an image id.
    pub fn parse(text: &str) -> Result<Reference> {
        let invalid =
            |why: &str| Error::new(Status::InvalidArgument, format!("image name {}: {why}", quoted(text.as_bytes())));
        if text.len() > LONGEST {
            return Err(invalid("longer than 4096 bytes"));
        }
        if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(invalid("that is an id and not a name"));
        }
        let parsed = oci_spec::distribution::Reference::try_from(text).map_err(|cause| invalid(&cause.to_string()))?;
        if parsed.repository().bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(invalid("a repository is in lower case"));
        }
        if parsed.registry().rsplit_once(':').is_some_and(|(_, port)| !matches!(port.parse::<u16>(), Ok(1..))) {
            return Err(invalid("the port is not one"));
        }
        let registry = if parsed.registry() == "index.docker.io" { "docker.io" } else { parsed.registry() };
        let digest = parsed.digest().map(Digest::parse).transpose().map_err(|error| invalid(error.message()))?;
        let tag = match (parsed.tag(), &digest) {
            (Some(tag), _) => tag,
            (None, Some(_)) => "",
            (None, None) => "latest",
        };
        Ok(Reference {
            registry: registry.to_owned(),
            repository: parsed.repository().to_owned(),
            tag: tag.to_owned(),
            digest,
        })
    }

    /// The host that answers for the registry.
    pub fn host(&self) -> &str {
        if self.registry == "docker.io" { "registry-1.docker.io" } else { &self.registry }
    }

    /// By what the registry is asked for the manifest: a digest, or a tag.
    pub fn target(&self) -> String {
        self.digest.as_ref().map_or_else(|| self.tag.clone(), Digest::to_string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_forms() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, registry, repository, target) in [
            ("alpine", "docker.io", "library/alpine", "latest"),
            ("alpine:3.20", "docker.io", "library/alpine", "3.20"),
            ("user/tool", "docker.io", "user/tool", "latest"),
            ("docker.io/alpine", "docker.io", "library/alpine", "latest"),
            ("index.docker.io/library/alpine", "docker.io", "library/alpine", "latest"),
            ("ghcr.io/a/b/c:v1", "ghcr.io", "a/b/c", "v1"),
            ("localhost/x", "localhost", "x", "latest"),
            ("localhost:5000/x:y", "localhost:5000", "x", "y"),
            ("127.0.0.1:5000/x/y", "127.0.0.1:5000", "x/y", "latest"),
            (&format!("alpine:3.20@{digest}"), "docker.io", "library/alpine", &digest),
            (&format!("ghcr.io/x@{digest}"), "ghcr.io", "x", &digest),
        ] {
            let found = Reference::parse(text).unwrap();
            assert_eq!(
                (&*found.registry, &*found.repository, &*found.target()),
                (registry, repository, target),
                "{text}"
            );
        }
        assert_eq!(Reference::parse("alpine").unwrap().host(), "registry-1.docker.io");
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let long = "a/".repeat(3000) + "x";
        let id = "0123456789abcdef".repeat(4);
        for text in [
            "",
            " ",
            "Upper/x",
            "x/UPPER",
            "a b",
            "a:b:c",
            "-x",
            "../../etc",
            "a//b",
            "a/../b",
            "x@sha256:12",
            "user:pw@host/x",
            "host:0/x",
            "host:99999/x",
            "a%2fb",
            "x:",
            "x@",
            "\u{e9}",
            "x\n",
            &long,
            &id,
        ] {
            let error = Reference::parse(text).expect_err(text);
            assert_eq!(error.status(), Status::InvalidArgument, "{text}: {error}");
        }
    }
}
