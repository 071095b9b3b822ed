//! One host that may be asked, and how: its address, whom TLS believes there, and what it is sent.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::options::RegistryOptions;
use crate::error::{Error, Result, Status, quoted};
use crate::oci::Reference;

/// Docker Hub, as it is asked.
const HUB_HOST: &str = "registry-1.docker.io";

/// One host that may be asked, and how.
#[derive(Clone, Debug)]
pub(super) struct Host {
    /// Ends in `/v2/`, or in what stands for that.
    pub(super) base: Url,
    /// The registry itself, and nobody in its place as long as that one is not moved elsewhere.
    pub(super) is_origin: bool,
    pub(super) settings: Settings,
    /// The registry that a mirror is asked for (`ns` in the query), where the mirror goes by another name.
    pub(super) namespace: Option<String>,
    /// By which it is known to be the same as another.
    address: Url,
}

/// How a host is asked. Whatever nobody said is empty.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    /// What it is good for; without, for everything.
    pub(super) capabilities: Option<Capabilities>,
    pub(super) trust: Trust,
    pub(super) headers: HeaderMap,
    pub(super) connect_timeout: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// May say what a tag is.
    pub(super) resolve: bool,
    /// May give blobs and manifests by digest.
    pub(super) pull: bool,
}

/// Whom a TLS connection to a host believes, and who we are there.
#[derive(Clone, Debug, Default)]
pub(super) struct Trust {
    pub(super) skip_verify: bool,
    /// PEM files, beside the system's.
    pub(super) authorities: Vec<PathBuf>,
    /// Certificate and key, which may be in one file.
    pub(super) client: Option<(PathBuf, PathBuf)>,
}

impl Host {
    /// `https://host[:port][/path]`, where the API is under `/v2/`, or at the path itself (`is_whole_path`).
    pub(super) fn new(text: &str, is_whole_path: bool, settings: Settings) -> Result<Host, String> {
        let (base, address) =
            parse_address(text, is_whole_path).map_err(|why| format!("{} {why}", quoted(text.as_bytes())))?;
        Ok(Host { base, is_origin: false, settings, namespace: None, address })
    }

    /// The same host, asked in another way.
    pub(super) fn with(self, settings: Settings) -> Host {
        Host { settings, ..self }
    }

    pub(super) fn can_resolve(&self) -> bool {
        self.settings.capabilities.is_none_or(|can| can.resolve)
    }

    pub(super) fn can_pull(&self) -> bool {
        self.settings.capabilities.is_none_or(|can| can.pull)
    }

    /// Whether it is the registry that a reference names, and not somebody in its place.
    pub(super) fn is_own(&self, reference: &Reference) -> bool {
        self.is_origin && self.is_called(reference)
    }

    pub(super) fn is_called(&self, reference: &Reference) -> bool {
        let default = if self.base.scheme() == "http" { ":80" } else { ":443" };
        self.name() == reference.host().strip_suffix(default).unwrap_or(reference.host())
    }

    /// What it is called where credentials are kept.
    pub(super) fn credential_name(&self) -> String {
        let name = self.name();
        if name == HUB_HOST { "docker.io".to_owned() } else { name }
    }

    /// `host` or `host:port`, as in a reference.
    pub(super) fn name(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        self.base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    pub(super) fn is_same(&self, other: &Host) -> bool {
        self.address == other.address
    }
}

impl Settings {
    /// What is said later is added; of two client certificates and timeouts the first counts.
    pub(super) fn merge(&mut self, later: Settings) {
        self.capabilities = self.capabilities.or(later.capabilities);
        self.trust.skip_verify |= later.trust.skip_verify;
        self.trust.authorities.extend(later.trust.authorities);
        self.trust.client = self.trust.client.take().or(later.trust.client);
        self.headers.extend(later.headers);
        self.connect_timeout = self.connect_timeout.or(later.connect_timeout);
    }

    pub(super) fn of(options: &RegistryOptions) -> Result<Settings> {
        let mut settings = Settings::default();
        settings.trust.skip_verify = options.skip_verify;
        settings.trust.authorities.clone_from(&options.authorities);
        settings.trust.client.clone_from(&options.client_certificate);
        for (name, value) in &options.headers {
            add_header(&mut settings.headers, name, value)
                .map_err(|why| Error::new(Status::InvalidArgument, format!("registry {}: {why}", options.host)))?;
        }
        Ok(settings)
    }
}

/// Adds a header whose value may be a secret.
pub(super) fn add_header(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), String> {
    let bad = |what: &str| format!("{} is no header {what}", quoted(name.as_bytes()));
    let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("name"))?;
    let mut value = HeaderValue::from_str(value).map_err(|_| bad("with such a value"))?;
    value.set_sensitive(true);
    headers.append(parsed, value);
    Ok(())
}

/// The base of requests to `https://host[:port][/path]`, and the same without what the API's place adds to it.
fn parse_address(text: &str, is_whole_path: bool) -> Result<(Url, Url), &'static str> {
    let text = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let mut address = Url::parse(&text).map_err(|_| "is no address of a host")?;
    if !matches!(address.scheme(), "http" | "https") {
        return Err("is reached neither by http nor by https");
    }
    if !address.username().is_empty()
        || address.password().is_some()
        || address.query().is_some()
        || address.fragment().is_some()
    {
        return Err("has more in it than a host and a path");
    }
    let path = address.path().trim_end_matches('/').to_owned();
    let mut base = address.clone();
    base.set_path(&match path.strip_suffix("/v2") {
        None if !is_whole_path => format!("{path}/v2/"),
        _ => format!("{path}/"),
    });
    address.set_path(path.strip_suffix("/v2").unwrap_or(&path));
    Ok((base, address))
}
