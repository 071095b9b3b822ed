//! Who answers for a registry: its mirrors in their order, then the registry itself, unless it is among them. From the call's
//! options and from a folder of the host's ([`super::hosts_dir`]); what both say of one host is merged here and nowhere else.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::hosts_dir::Folder;
use super::{PullOptions, RegistryOptions};
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

    fn is_called(&self, reference: &Reference) -> bool {
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

    fn is_same(&self, other: &Host) -> bool {
        self.address == other.address
    }
}

impl Settings {
    /// What is said later is added; of two client certificates and timeouts the first counts.
    fn merge(&mut self, later: Settings) {
        self.capabilities = self.capabilities.or(later.capabilities);
        self.trust.skip_verify |= later.trust.skip_verify;
        self.trust.authorities.extend(later.trust.authorities);
        self.trust.client = self.trust.client.take().or(later.trust.client);
        self.headers.extend(later.headers);
        self.connect_timeout = self.connect_timeout.or(later.connect_timeout);
    }

    fn of(options: &RegistryOptions) -> Result<Settings> {
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

/// The hosts for a reference in the order in which they are asked. Without the registry itself where the options leave it
/// out.
pub(super) fn of(reference: &Reference, options: &PullOptions) -> Result<Vec<Host>> {
    let known = |name: &str| options.registries.iter().find(|registry| registry.host == name);
    let own = known(&reference.registry).or_else(|| known(reference.host()));
    let folder = match &options.hosts_dir {
        Some(folder) => Folder::read(folder, reference)?,
        None => Folder::default(),
    };
    let invalid = |why| Error::new(Status::InvalidArgument, why);
    let mut hosts: Vec<Host> = Vec::new();
    let mut add = |host: Host| match hosts.iter_mut().find(|known| known.is_same(&host)) {
        Some(known) => known.settings.merge(host.settings),
        None => hosts.push(host),
    };
    for mirror in own.iter().flat_map(|own| &own.mirrors) {
        add(Host::new(mirror, false, Settings::default()).map_err(invalid)?);
    }
    folder.hosts.into_iter().for_each(&mut add);
    // What the folder says at its top is of the registry itself, which is there or where it always is. If it is among the
    // others, it has its place and its settings there (containerd's rule).
    let scheme = if own.is_some_and(|own| own.plain_http) { "http" } else { "https" };
    let usual = Host::new(&format!("{scheme}://{}", reference.host()), false, Settings::default()).map_err(invalid)?;
    let server = folder.server.unwrap_or_else(|| Host { settings: folder.settings, ..usual.clone() });
    if !hosts.iter().any(|host| host.is_same(&server)) {
        hosts.push(server.clone());
    }
    for host in &mut hosts {
        host.is_origin = host.is_same(&server) || host.is_same(&usual);
        if !host.is_called(reference) {
            host.namespace = Some(reference.registry.clone());
        }
        // What is said of the registry is not said of somebody in its place.
        let name = host.name();
        if let Some(said) = if host.is_own(reference) { own } else { known(&name) } {
            let mut settings = Settings::of(said)?;
            settings.merge(std::mem::take(&mut host.settings));
            host.settings = settings;
        }
    }
    hosts.retain(|host| !(options.mirrors_only && host.is_origin));
    if hosts.is_empty() {
        let why = format!("{} has no mirrors, and is not to be asked itself", reference.registry);
        return Err(invalid(why));
    }
    Ok(hosts)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The hosts that options come to, as text: address, settings, whether it is the registry.
    fn hosts(reference: &str, change: impl Fn(&mut PullOptions)) -> Vec<String> {
        let mut options = PullOptions::default();
        change(&mut options);
        let hosts = of(&Reference::parse(reference).unwrap(), &options).unwrap();
        let shown = |host: &Host| {
            let origin = if host.is_origin { " origin" } else { "" };
            let namespace = host.namespace.as_ref().map_or_else(String::new, |namespace| format!(" ns={namespace}"));
            format!("{}{origin}{namespace}", host.base)
        };
        hosts.iter().map(shown).collect()
    }

    #[test]
    fn mirrors_of_the_call_come_before_the_registry_and_each_host_once() {
        let mut registry = RegistryOptions::new("docker.io");
        registry.mirrors = ["https://m", "http://n:1/cache/", "https://m/v2", "https://registry-1.docker.io"]
            .map(str::to_owned)
            .into();
        assert_eq!(
            hosts("alpine", |options| options.registries = vec![registry.clone()]),
            [
                "https://m/v2/ ns=docker.io",
                "http://n:1/cache/v2/ ns=docker.io",
                "https://registry-1.docker.io/v2/ origin"
            ]
        );
        assert_eq!(hosts("r.example:443/x", |_| {}), ["https://r.example/v2/ origin"]);
        let alone = hosts("alpine", |options| {
            options.registries = vec![registry.clone()];
            options.mirrors_only = true;
        });
        assert_eq!(alone.len(), 2);
    }
}
