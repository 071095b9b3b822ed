//! Platforms: what an image runs on, and which image of an index runs here (OCI image-spec, image-index.md; the names and
//! fallbacks are containerd's).

use std::fmt;

use crate::error::{Error, Result, Status, quoted};

/// An operating system and a processor, as in `GOOS` and `GOARCH`, normalised. `linux/x86_64` is
/// `linux/amd64`, and the variants that go without saying (`arm64/v8`, `amd64/v1`) are empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Platform {
    /// Such as `linux`.
    pub(crate) os: String,
    /// Such as `amd64`.
    pub(crate) architecture: String,
    /// Such as `v7`; empty for none.
    pub(crate) variant: String,
}

impl Platform {
    /// Such as `linux`.
    pub fn os(&self) -> &str {
        &self.os
    }

    /// Such as `amd64`.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// Such as `v7`; empty for none.
    pub fn variant(&self) -> &str {
        &self.variant
    }

    /// Normalises what a manifest or a host says.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Platform {
        let (os, architecture) = (os.to_ascii_lowercase(), architecture.to_ascii_lowercase());
        let variant = variant.to_ascii_lowercase();
        let os = if os == "macos" { "darwin".to_owned() } else { os };
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386" | "i686", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "v1" | "") => ("amd64", ""),
            ("x86_64" | "x86-64", other) => ("amd64", other),
            ("aarch64" | "arm64", "8" | "v8" | "") => ("arm64", ""),
            ("aarch64", other) => ("arm64", other),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("arm", "" | "7") => ("arm", "v7"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "6") => ("arm", "v6"),
            ("arm", "8") => ("arm", "v8"),
            (architecture, variant) => (architecture, variant),
        };
        Platform { os, architecture: architecture.to_owned(), variant: variant.to_owned() }
    }

    /// `os/architecture` or `os/architecture/variant`, or an architecture alone, for Linux.
    pub fn parse(text: &str) -> Result<Platform> {
        let parts: Vec<&str> = text.split('/').collect();
        let is_word = |part: &&str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.len() <= 64
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        };
        if !parts.iter().all(is_word) {
            return Err(invalid(text));
        }
        match parts[..] {
            [architecture] => Ok(Platform::new("linux", architecture, "")),
            [os, architecture] => Ok(Platform::new(os, architecture, "")),
            [os, architecture, variant] => Ok(Platform::new(os, architecture, variant)),
            _ => Err(invalid(text)),
        }
    }

    /// What runs in a virtual machine on this host: Linux on its processor.
    pub fn host() -> Platform {
        Platform::new("linux", std::env::consts::ARCH, "")
    }

    /// What runs where this does, the best first: itself, then lower variants, then what the processor also does.
    pub fn fallbacks(&self) -> Vec<Platform> {
        let of = |architecture: &str, variant: &str| Platform {
            os: self.os.clone(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        };
        let number = |variant: &str| variant.strip_prefix('v').and_then(|n| n.parse::<u32>().ok());
        let arm = |from: u32| (5..=from.min(8)).rev().map(|n| of("arm", &format!("v{n}"))).collect::<Vec<_>>();
        let mut all = vec![self.clone()];
        match (self.architecture.as_str(), number(&self.variant)) {
            ("amd64", variant) => {
                all.extend((2..variant.unwrap_or(1).min(9)).rev().map(|n| of("amd64", &format!("v{n}"))));
                all.push(of("amd64", ""));
                all.push(of("386", ""));
            }
            ("arm", Some(variant)) => all.extend(arm(variant)),
            ("arm64", variant) => {
                all.extend((9..variant.unwrap_or(8).min(20)).rev().map(|n| of("arm64", &format!("v{n}"))));
                all.push(of("arm64", ""));
                all.extend(arm(8));
            }
            _ => {}
        }
        let mut unique: Vec<Platform> = Vec::new();
        all.into_iter().for_each(|platform| {
            if !unique.contains(&platform) {
                unique.push(platform);
            }
        });
        unique
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.variant.is_empty() { "" } else { "/" };
        write!(f, "{}/{}{separator}{}", self.os, self.architecture, self.variant)
    }
}

fn invalid(text: &str) -> Error {
    Error::new(
        Status::InvalidArgument,
        format!("{} is not a platform, such as linux/arm64/v8", quoted(text.as_bytes())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised() {
        for (text, normal) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64/v9", "linux/arm64/v9"),
            ("arm64", "linux/arm64"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
            ("Linux/AMD64", "linux/amd64"),
            ("macos/arm64", "darwin/arm64"),
        ] {
            assert_eq!(Platform::parse(text).unwrap().to_string(), normal, "{text}");
        }
        for text in ["", "/", "linux/", "linux/amd64/v1/x", "linux amd64", "linux/amd64\n", "a/../b"] {
            assert_eq!(Platform::parse(text).unwrap_err().status(), Status::InvalidArgument, "{text}");
        }
    }
}
