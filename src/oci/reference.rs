//! References: where an image is (distribution's grammar of references, with Docker's short forms).
//!
//! By hand, and checked against another parser in the tests. That one compiles a regular
//! expression, which takes 60 ms of every process that looks at one name. It knows neither IPv6
//! hosts nor that a tag is in ASCII.

use std::fmt;
use std::net::Ipv6Addr;

use crate::digest::Digest;
use crate::error::{Error, Result, Status, quoted};

const HUB: &str = "docker.io";
const HUB_LEGACY: &str = "index.docker.io";
/// Where Docker Hub has images that are called by one word.
const HUB_OFFICIAL: &str = "library";
const LONGEST_REPOSITORY: usize = 255;

/// The longest reference that is looked at.
const LONGEST: usize = 4096;

/// An image on a registry: `alpine` is tag `latest` of `library/alpine` on `docker.io`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reference {
    /// The registry as in the name, with its port: `docker.io`, `localhost:5000`.
    pub(crate) registry: String,
    /// The repository: `library/alpine`.
    pub(crate) repository: String,
    /// The tag; `latest` where the reference has neither a tag nor a digest, empty where it has only a digest.
    pub(crate) tag: String,
    /// What the manifest must hash to. It decides, whatever the tag.
    pub(crate) digest: Option<Digest>,
}

impl Reference {
    /// The registry as in the name, with its port: `docker.io`, `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository: `library/alpine`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `latest` where the reference has neither a tag nor a digest, empty where it has only a digest.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// What the manifest must hash to. It decides, whatever the tag.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

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
        let (rest, digest) = text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)));
        let digest = digest.map(Digest::parse).transpose().map_err(|error| invalid(error.message()))?;
        // Before the last slash a colon is that of a port.
        let tag_at = rest.rfind(':').filter(|&colon| rest.rfind('/').is_none_or(|slash| slash < colon));
        let (name, tag) = tag_at.map_or((rest, None), |at| (&rest[..at], Some(&rest[at + 1..])));
        if !tag.is_none_or(is_tag) {
            return Err(invalid("the tag is not one"));
        }
        let (host, path) = match name.split_once('/') {
            Some((first, path)) if is_host(first) => (first, path),
            _ => (HUB, name),
        };
        check_host(host).map_err(invalid)?;
        let registry = if host == HUB_LEGACY { HUB } else { host };
        let is_official = registry == HUB && !path.contains('/');
        let repository = if is_official { format!("{HUB_OFFICIAL}/{path}") } else { path.to_owned() };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(invalid("a repository is in lower case"));
        }
        if !path.split('/').all(is_component) {
            return Err(invalid("the repository is not one"));
        }
        if repository.len() > LONGEST_REPOSITORY {
            return Err(invalid("the repository is longer than 255 bytes"));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => tag,
            (None, Some(_)) => "",
            (None, None) => "latest",
        };
        Ok(Reference { registry: registry.to_owned(), repository, tag: tag.to_owned(), digest })
    }

    /// The host that answers for the registry.
    #[cfg(feature = "pull")]
    pub(crate) fn host(&self) -> &str {
        if self.registry == HUB { "registry-1.docker.io" } else { &self.registry }
    }

    /// By what the registry is asked for the manifest: a digest, or a tag.
    pub fn target(&self) -> String {
        self.digest.as_ref().map_or_else(|| self.tag.clone(), Digest::to_string)
    }
}

impl fmt::Display for Reference {
    /// The reference in full: `docker.io/library/alpine:latest`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if !self.tag.is_empty() {
            write!(f, ":{}", self.tag)?;
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

/// Whether the first component of a name is a host.
fn is_host(component: &str) -> bool {
    component == "localhost" || component.bytes().any(|b| matches!(b, b'.' | b':') || b.is_ascii_uppercase())
}

/// `host[:port]`: a name, an address, or an IPv6 address in brackets.
fn check_host(text: &str) -> Result<(), &'static str> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && matches!(port.parse::<u16>(), Ok(1..));
    if !port.is_none_or(is_port) {
        return Err("the port is not one");
    }
    if let Some(address) = host.strip_prefix('[') {
        let is_address = address.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
        return if is_address { Ok(()) } else { Err("the host is not one") };
    }
    let is_label = |label: &str| {
        let is_inside = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !label.is_empty() && label.bytes().all(is_inside) && !label.starts_with('-') && !label.ends_with('-')
    };
    if host.split('.').all(is_label) { Ok(()) } else { Err("the host is not one") }
}

/// `[a-z0-9]+`, again and again, with `.`, `_`, `__` or any number of `-` between.
fn is_component(text: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !text.starts_with(is_letter) || !text.ends_with(is_letter) {
        return false;
    }
    let separators = text.split(is_letter).filter(|separator| !separator.is_empty());
    separators
        .into_iter()
        .all(|separator| matches!(separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-'))
}

/// `[\w][\w.-]{0,127}`
fn is_tag(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|b| is_word(b) || matches!(b, b'.' | b'-'))
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
            ("[::1]:5000/x", "[::1]:5000", "x", "latest"),
            ("[fe80::1]/x/y:z", "[fe80::1]", "x/y", "z"),
            ("Host/x", "Host", "x", "latest"),
            ("localhost:5000", "docker.io", "library/localhost", "5000"),
            ("a__b---c.d_e", "docker.io", "library/a__b---c.d_e", "latest"),
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
        #[cfg(feature = "pull")]
        assert_eq!(Reference::parse("alpine").unwrap().host(), "registry-1.docker.io");
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let long = "a/".repeat(3000) + "x";
        let id = "0123456789abcdef".repeat(4);
        for text in [
            "",
            " ",
            "Upper",
            "[::1/x",
            "[x]:5000/y",
            "[::1]x/y",
            "-host.x/y",
            "host-.x/y",
            "host..x/y",
            "a_-b",
            "a..b",
            "a___b",
            "a-",
            "/a",
            "a/",
            "x:.tag",
            "x:\u{e9}",
            "host:/x",
            "host:+1/x",
            "x@@y",
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

    /// Another parser of the same grammar, on texts made of the grammar's own pieces.
    #[cfg(feature = "pull")]
    #[test]
    fn another_parser_says_the_same() {
        let pieces = [
            "a",
            "B",
            "0",
            ".",
            "_",
            "-",
            "/",
            ":",
            "@",
            "localhost",
            "docker.io",
            "index.docker.io",
            "host.x:5000",
            "library",
            "sha256:",
            &"a".repeat(64),
            "latest",
            "v1",
            "__",
            "--",
            "/x",
            ":t",
        ];
        let mut state = 1u64;
        let mut next = |below: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % below
        };
        let (mut good, mut bad) = (0, 0);
        for _ in 0..200_000 {
            let text: String = (0..1 + next(7)).map(|_| pieces[next(pieces.len())]).collect();
            let ours = Reference::parse(&text);
            let theirs = text.parse::<oci_client::Reference>();
            // What we refuse on purpose, and what the other does not know to be a host.
            let is_id = text.len() == 64;
            let first = text.split('/').next().unwrap();
            let is_other_host = text.contains('/')
                && is_host(first)
                && (check_host(first).is_err() || first.bytes().any(|b| b.is_ascii_uppercase()));
            if is_id || is_other_host {
                continue;
            }
            match (ours, theirs) {
                (Ok(ours), Ok(theirs)) => {
                    assert_eq!(ours.to_string(), theirs.whole(), "{text}");
                    assert_eq!(Reference::parse(&ours.to_string()).unwrap(), ours);
                    good += 1;
                }
                (Err(_), Err(_)) => bad += 1,
                (ours, theirs) => panic!("{text}: {ours:?}, {theirs:?}"),
            }
        }
        assert!(good > 5_000 && bad > 50_000, "{good} {bad}");
    }
}
