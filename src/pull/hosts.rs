//! Who answers for a registry: its mirrors in their order, then the registry itself. From the call's options and from
//! containerd's `certs.d` folder (`<folder>/<registry>/hosts.toml`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use toml::{Table, Value};

use super::{PullOptions, RegistryOptions};
use crate::error::{Error, Result, Status, quoted};
use crate::oci::Reference;

const FILE: &str = "hosts.toml";
/// The folder of registries that have none of their own.
const DEFAULT: &str = "_default";
const FILE_SIZE: u64 = 1 << 20;
/// Docker Hub, as it is asked.
const HUB_HOST: &str = "registry-1.docker.io";

/// One host that may be asked, and how.
#[derive(Clone, Debug)]
pub(super) struct Host {
    /// Ends in `/v2/`, or in what stands for that.
    pub(super) base: Url,
    pub(super) is_origin: bool,
    /// May say what a tag is.
    pub(super) can_resolve: bool,
    /// May give blobs and manifests by digest.
    pub(super) can_pull: bool,
    pub(super) trust: Trust,
    pub(super) headers: HeaderMap,
    pub(super) connect_timeout: Option<Duration>,
    /// The registry that a mirror is asked for (`ns` in the query), where the mirror goes by another name.
    pub(super) namespace: Option<String>,
}

impl Host {
    /// Whether it is the registry that a reference names, and not somebody in its place.
    pub(super) fn is_own(&self, reference: &Reference) -> bool {
        let default = if self.base.scheme() == "http" { ":80" } else { ":443" };
        self.is_origin && self.name() == reference.host().strip_suffix(default).unwrap_or(reference.host())
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

/// The hosts for a reference, the registry itself last, unless the options leave it out.
pub(super) fn of(reference: &Reference, options: &PullOptions) -> Result<Vec<Host>> {
    let known = |name: &str| options.registries.iter().find(|registry| registry.host == name);
    let own = known(&reference.registry).or_else(|| known(reference.host()));
    let mut hosts = Vec::new();
    for mirror in own.iter().flat_map(|own| &own.mirrors) {
        let base = base_of(mirror, false).map_err(|why| invalid(mirror, why))?;
        let mut host = Host::mirror(base, reference);
        let name = host.name();
        // Plain HTTP is what its address says.
        if let Some(known) = known(&name) {
            host.apply(known)?;
        }
        hosts.push(host);
    }
    let mut origin = None;
    if let Some(folder) = &options.hosts_dir {
        let (mirrors, server) = from_folder(folder, reference)?;
        hosts.extend(mirrors);
        origin = server;
    }
    if !options.mirrors_only {
        let scheme = if own.is_some_and(|own| own.plain_http) { "http" } else { "https" };
        let address = format!("{scheme}://{}", reference.host());
        let base = base_of(&address, false).map_err(|why| invalid(reference.host(), why))?;
        let own_host = || Host { is_origin: true, namespace: None, ..Host::mirror(base, reference) };
        let mut host = origin.unwrap_or_else(own_host);
        // What is said of the registry is not said of somebody in its place.
        let name = host.name();
        let said = if host.is_own(reference) { own } else { known(&name) };
        if let Some(said) = said {
            host.apply(said)?;
        }
        hosts.push(host);
    }
    if hosts.is_empty() {
        let why = format!("{} has no mirrors, and is not to be asked itself", reference.registry);
        return Err(Error::new(Status::InvalidArgument, why));
    }
    // Each once: what is a mirror and the registry too is the registry.
    let origin = hosts.last().filter(|host| host.is_origin).map(|host| host.base.clone());
    hosts.retain(|host| host.is_origin || Some(&host.base) != origin.as_ref());
    Ok(hosts)
}

impl Host {
    fn mirror(base: Url, reference: &Reference) -> Host {
        Host {
            base,
            is_origin: false,
            can_resolve: true,
            can_pull: true,
            trust: Trust::default(),
            headers: HeaderMap::new(),
            connect_timeout: None,
            namespace: Some(reference.registry.clone()),
        }
    }

    fn apply(&mut self, options: &RegistryOptions) -> Result<()> {
        self.trust.skip_verify |= options.skip_verify;
        self.trust.authorities.extend(options.authorities.iter().cloned());
        if let Some(client) = &options.client_certificate {
            self.trust.client = Some(client.clone());
        }
        for (name, value) in &options.headers {
            add_header(&mut self.headers, name, value)
                .map_err(|why| Error::new(Status::InvalidArgument, format!("registry {}: {why}", options.host)))?;
        }
        Ok(())
    }
}

fn add_header(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), String> {
    let bad = |what: &str| format!("{} is no header {what}", quoted(name.as_bytes()));
    let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("name"))?;
    // Its value may be a secret.
    let mut value = HeaderValue::from_str(value).map_err(|_| bad("with such a value"))?;
    value.set_sensitive(true);
    headers.append(parsed, value);
    Ok(())
}

fn invalid(text: &str, why: &str) -> Error {
    Error::new(Status::InvalidArgument, format!("{} {why}", quoted(text.as_bytes())))
}

/// `https://host[:port][/path]` as the base of requests.
fn base_of(text: &str, is_whole_path: bool) -> Result<Url, &'static str> {
    let text = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let mut url = Url::parse(&text).map_err(|_| "is no address of a host")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("is reached neither by http nor by https");
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err("has more in it than a host and a path");
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&match path.strip_suffix("/v2") {
        _ if is_whole_path => format!("{path}/"),
        Some(_) => format!("{path}/"),
        None => format!("{path}/v2/"),
    });
    Ok(url)
}

/// The mirrors that a folder names, and the registry where it is changed there.
fn from_folder(folder: &Path, reference: &Reference) -> Result<(Vec<Host>, Option<Host>)> {
    let registry = &reference.registry;
    // A colon is no good in a file name everywhere: containerd takes `host_port_` too.
    let underscored = registry.rsplit_once(':').map(|(host, port)| format!("{host}_{port}_"));
    let names = [Some(registry.clone()), underscored, Some(DEFAULT.to_owned())];
    for name in names.into_iter().flatten() {
        let folder = folder.join(name);
        let path = folder.join(FILE);
        let text = match std::fs::File::open(&path) {
            Ok(file) => {
                let mut text = String::new();
                std::io::Read::read_to_string(&mut std::io::Read::take(file, FILE_SIZE), &mut text)
                    .map_err(|cause| Error::io(&cause, format_args!("read {}", path.display())))?;
                text
            }
            Err(cause) if matches!(cause.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                continue;
            }
            Err(cause) => return Err(Error::io(&cause, format_args!("read {}", path.display()))),
        };
        let malformed = |why: String| Error::new(Status::Malformed, format!("{}: {why}", path.display()));
        // In the order of the file.
        let table: Table = text.parse().map_err(|cause: toml::de::Error| malformed(cause.message().to_owned()))?;
        return hosts_in(&table, &folder, reference).map_err(malformed);
    }
    Ok((Vec::new(), None))
}

fn hosts_in(table: &Table, folder: &Path, reference: &Reference) -> Result<(Vec<Host>, Option<Host>), String> {
    let mut mirrors = Vec::new();
    if let Some(hosts) = table.get("host") {
        for (address, table) in hosts.as_table().ok_or("host is no table")? {
            let table = table.as_table().ok_or_else(|| format!("host {address} is no table"))?;
            mirrors.push(host_in(address, table, folder, reference)?);
        }
    }
    // What stands at the top is of the registry itself.
    let server = match table.get("server") {
        None => None,
        Some(server) => {
            let server = server.as_str().ok_or("server is no text")?;
            let host = host_in(server, table, folder, reference)?;
            let is_same = host.name() == reference.host();
            let namespace = host.namespace.filter(|_| !is_same);
            Some(Host { is_origin: true, can_resolve: true, can_pull: true, namespace, ..host })
        }
    };
    Ok((mirrors, server))
}

fn host_in(address: &str, table: &Table, folder: &Path, reference: &Reference) -> Result<Host, String> {
    let is_whole_path = flag(table, "override_path")?;
    let base = base_of(address, is_whole_path).map_err(|why| format!("{} {why}", quoted(address.as_bytes())))?;
    let mut host = Host::mirror(base, reference);
    if let Some(capabilities) = table.get("capabilities") {
        let capabilities = texts(capabilities, "capabilities")?;
        host.can_pull = capabilities.iter().any(|c| c == "pull");
        host.can_resolve = capabilities.iter().any(|c| c == "resolve");
    }
    host.trust.skip_verify = flag(table, "skip_verify")?;
    if let Some(authorities) = table.get("ca") {
        host.trust.authorities = texts(authorities, "ca")?.iter().map(|path| folder.join(path)).collect();
    }
    host.trust.client = match table.get("client") {
        None => None,
        // `"both.pem"`, `["both.pem"]`, `["cert", "key"]`, `[["cert", "key"]]`: of several pairs the first.
        Some(Value::Array(pairs)) => {
            let first = match pairs.first() {
                Some(Value::Array(pair)) => texts(&Value::Array(pair.clone()), "client")?,
                _ => texts(&Value::Array(pairs.clone()), "client")?,
            };
            pair(&first, folder)
        }
        Some(one) => pair(&texts(one, "client")?, folder),
    };
    if let Some(headers) = table.get("header") {
        for (name, values) in headers.as_table().ok_or("header is no table")? {
            for value in texts(values, "header")? {
                add_header(&mut host.headers, name, &value)?;
            }
        }
    }
    if let Some(timeout) = table.get("dial_timeout") {
        let text = timeout.as_str().ok_or("dial_timeout is no text")?;
        host.connect_timeout = Some(duration(text).ok_or_else(|| format!("dial_timeout {text:?} is no time"))?);
    }
    Ok(host)
}

fn pair(paths: &[String], folder: &Path) -> Option<(PathBuf, PathBuf)> {
    let certificate = paths.first()?;
    let key = paths.get(1).filter(|key| !key.is_empty()).unwrap_or(certificate);
    Some((folder.join(certificate), folder.join(key)))
}

fn flag(table: &Table, name: &str) -> Result<bool, String> {
    table
        .get(name)
        .map_or(Ok(false), |value| value.as_bool().ok_or_else(|| format!("{name} is neither true nor false")))
}

/// A text, or several.
fn texts(value: &Value, name: &str) -> Result<Vec<String>, String> {
    let one = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| format!("{name} is no text"));
    match value {
        Value::Array(values) => values.iter().map(one).collect(),
        value => Ok(vec![one(value)?]),
    }
}

/// `1m30s`, `500ms`: Go's way to write a time.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        total = total.checked_add(match &rest[..unit] {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            _ => return None,
        })?;
        rest = &rest[unit..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference() -> Reference {
        Reference::parse("docker.io/library/alpine").unwrap()
    }

    fn parse(text: &str) -> Result<(Vec<Host>, Option<Host>), String> {
        let table: Table = text.parse().map_err(|cause: toml::de::Error| cause.message().to_owned())?;
        hosts_in(&table, Path::new("/certs"), &reference())
    }

    #[test]
    fn a_hosts_file_is_read_as_containerd_reads_it() {
        let (mirrors, server) = parse(
            r#"
            server = "https://registry-1.docker.io"
            [host."https://z.example:5000"]
              capabilities = ["pull"]
              ca = "z.pem"
              dial_timeout = "1m500ms"
            [host."http://a.example/path"]
              override_path = true
              skip_verify = true
              client = [["/abs/cert", "key"]]
              [host."http://a.example/path".header]
                x-one = "1"
                x-two = ["2", "3"]
            [host."https://m.example/v2"]
              client = "both.pem"
            "#,
        )
        .unwrap();
        let bases: Vec<&str> = mirrors.iter().map(|host| host.base.as_str()).collect();
        assert_eq!(bases, ["https://z.example:5000/v2/", "http://a.example/path/", "https://m.example/v2/"]);
        assert_eq!((mirrors[0].can_pull, mirrors[0].can_resolve), (true, false));
        assert_eq!(mirrors[0].trust.authorities, [Path::new("/certs/z.pem")]);
        assert_eq!(mirrors[0].connect_timeout, Some(Duration::from_millis(60_500)));
        assert_eq!(mirrors[0].namespace.as_deref(), Some("docker.io"));
        assert_eq!(mirrors[0].name(), "z.example:5000");
        assert!(mirrors[1].trust.skip_verify && mirrors[1].can_resolve);
        assert_eq!(mirrors[1].trust.client, Some(("/abs/cert".into(), "/certs/key".into())));
        assert_eq!(mirrors[1].headers.get_all("x-two").iter().count(), 2);
        assert_eq!(mirrors[2].trust.client, Some(("/certs/both.pem".into(), "/certs/both.pem".into())));
        let server = server.unwrap();
        assert!(server.is_origin && server.namespace.is_none());
    }

    #[test]
    fn what_is_wrong_in_a_hosts_file_is_said() {
        for text in [
            "server = 1",
            "host = 1",
            "[host.\"ftp://x\"]",
            "[host.\"https://user:pw@x\"]",
            "[host.\"https://x?y\"]",
            "[host.\"https://x\"]\ncapabilities = 1",
            "[host.\"https://x\"]\nskip_verify = \"yes\"",
            "[host.\"https://x\"]\ndial_timeout = \"soon\"",
            "[host.\"https://x\"]\ndial_timeout = \"5\"",
            "[host.\"https://x\".header]\n\"a b\" = \"c\"",
            "not toml",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
