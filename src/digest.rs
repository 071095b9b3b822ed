//! Content digests: the names that everything in the store goes by (OCI image-spec, descriptor.md, "Digests").
//!
//! A [`Digest`] exists only in its valid form, so whatever holds one may build a file name from it without another
//! check. The grammar here is narrower than the specification's on purpose: exactly the two registered algorithms with
//! lower-case hex of exactly the right length. Everything else, a path traversal above all, ends in [`Digest::parse`].

#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use sha2::Digest as _;

use crate::error::{Error, Result, Status, quoted};

/// A hash function that content may be named by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Algorithm {
    /// SHA-256, what practically every image uses.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// `"sha256"` or `"sha512"`.
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    const fn hex_len(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }
}

/// A valid digest, `sha256:<64 lower-case hex>` or `sha512:<128 lower-case hex>`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    text: String,
}

impl Digest {
    /// Parses the canonical form; anything else is `INVALID_ARGUMENT`, or `UNSUPPORTED` for another algorithm in a
    /// well-formed digest.
    pub fn parse(text: &str) -> Result<Digest> {
        let refuse = |status, why: &str| Err(Error::new(status, format!("digest {}: {why}", quoted(text.as_bytes()))));
        let Some((name, hex)) = text.split_once(':') else {
            return refuse(Status::InvalidArgument, "expected algorithm:hex");
        };
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ if is_other_digest(name, hex) => {
                return refuse(Status::Unsupported, "only sha256 and sha512 are supported");
            }
            _ => return refuse(Status::InvalidArgument, "expected sha256:<64 hex> or sha512:<128 hex>"),
        };
        if hex.len() != algorithm.hex_len() {
            return refuse(Status::InvalidArgument, "wrong number of hex digits for its algorithm");
        }
        if !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return refuse(Status::InvalidArgument, "only lower-case hex digits are allowed");
        }
        Ok(Digest { algorithm, text: text.to_owned() })
    }

    /// The SHA-256 digest of these bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The hash function.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// `algorithm:hex`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The hex part alone.
    pub fn hex(&self) -> &str {
        &self.text[self.algorithm.name().len() + 1..]
    }

    /// `algorithm-hex`: the digest as the store's file names carry it.
    pub(crate) fn file_stem(&self) -> String {
        format!("{}-{}", self.algorithm.name(), self.hex())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Digest {
    type Err = Error;
    fn from_str(text: &str) -> Result<Digest> {
        Digest::parse(text)
    }
}

/// Grammatical by the specification, though of an algorithm that we do not know.
fn is_other_digest(name: &str, hex: &str) -> bool {
    let name_ok = name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'.' | b'_' | b'-'));
    let hex_ok = hex.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'=' | b'_' | b'-'));
    !name.is_empty() && !hex.is_empty() && hex.len() <= 512 && name_ok && hex_ok
}

/// A running hash in either algorithm; the instructions of the CPU (SHA-NI, AVX2) are chosen at run time by `sha2`.
#[derive(Clone, Debug)]
pub(crate) enum Hasher {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Hasher {
        match algorithm {
            Algorithm::Sha256 => Hasher::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => Hasher::Sha512(sha2::Sha512::new()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        match self {
            Hasher::Sha256(hasher) => from_raw(Algorithm::Sha256, &hasher.finalize()),
            Hasher::Sha512(hasher) => from_raw(Algorithm::Sha512, &hasher.finalize()),
        }
    }
}

fn from_raw(algorithm: Algorithm, raw: &[u8]) -> Digest {
    use fmt::Write as _;
    let mut text = String::with_capacity(algorithm.name().len() + 1 + algorithm.hex_len());
    text.push_str(algorithm.name());
    text.push(':');
    for byte in raw {
        let _ = write!(text, "{byte:02x}");
    }
    Digest { algorithm, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_116_117_only_the_canonical_form_is_a_digest() {
        let a64 = "a".repeat(64);
        let accepted = [format!("sha256:{a64}"), format!("sha512:{}", "0".repeat(128))];
        for text in &accepted {
            assert_eq!(Digest::parse(text).unwrap().as_str(), text);
        }
        let refused = [
            String::new(),
            ":".into(),
            "sha256".into(),
            "sha256:".into(),
            a64.clone(),
            format!("sha256:{}", "a".repeat(63)),
            format!("sha256:{}", "a".repeat(65)),
            format!("sha512:{a64}"),
            format!("sha256:{}", "A".repeat(64)),
            format!("SHA256:{a64}"),
            format!("sha256:{}g", "a".repeat(63)),
            format!("sha256:{}\0", "a".repeat(63)),
            format!("sha256:{}ä", "a".repeat(62)),
            format!(" sha256:{a64}"),
            format!("sha256:{a64} "),
            "sha256:../../../etc/passwd".into(),
            format!("sha256:../{}", "a".repeat(61)),
            format!("sha256:{}%2e", "a".repeat(61)),
            format!("sha256/{a64}"),
            format!("sha256:{}", "a".repeat(5000)),
            format!("../x:{a64}"),
        ];
        for text in &refused {
            let error = Digest::parse(text).unwrap_err();
            assert_eq!(error.status(), Status::InvalidArgument, "{text:?}");
            assert!(error.message().len() < 700, "{text:?}");
        }
        for text in [format!("sha384:{}", "a".repeat(96)), format!("blake3:{a64}"), "x+y.z:QQ==".into()] {
            assert_eq!(Digest::parse(&text).unwrap_err().status(), Status::Unsupported, "{text:?}");
        }
    }

    #[test]
    fn known_vectors() {
        assert_eq!(Digest::of(b"").as_str(), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let mut sha512 = Hasher::new(Algorithm::Sha512);
        sha512.update(b"a");
        sha512.update(b"bc");
        let digest = sha512.finish();
        assert!(digest.hex().starts_with("ddaf35a193617abacc417349ae204131") && digest.hex().len() == 128);
        assert_eq!(digest.file_stem(), format!("sha512-{}", digest.hex()));
        assert_eq!(Digest::parse(digest.as_str()).unwrap(), digest);
    }
}
