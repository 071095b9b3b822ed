//! A host's own folder of what it says of registries, as containerd and Docker read it.
//!
//! `<folder>/<registry>/hosts.toml` is containerd's (docs/hosts.md there). Without that file, the
//! certificates in the folder count, as Docker, podman and containerd read them (docker.com,
//! "Verify repository client with certificates"). `*.crt` are authorities, `*.cert` with `*.key`
//! says who we are.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::{Table, Value};

use super::host::{Capabilities, Host, Settings, add_header};
use crate::error::{Error, Result, Status};
use crate::oci::Reference;

const HOSTS_TOML: &str = "hosts.toml";
/// The folder of registries that have none of their own.
const DEFAULT: &str = "_default";
const MAX_HOSTS_TOML_BYTES: u64 = 1 << 20;

/// What is said of one registry.
#[derive(Debug, Default)]
pub(super) struct RegistryHosts {
    /// Who is asked before it, in the order of the file.
    pub(super) hosts: Vec<Host>,
    /// Where the registry is, where the file says that.
    pub(super) server: Option<Host>,
    /// Of the registry where it always is.
    pub(super) settings: Settings,
}

impl RegistryHosts {
    /// `MALFORMED` for a file that cannot be understood, `LIMIT` for one that is too long.
    pub(super) fn read(folder: &Path, reference: &Reference) -> Result<RegistryHosts> {
        let registry = &reference.registry;
        // A colon is no good in a file name everywhere: containerd takes `host_port_` too.
        let underscored = registry.rsplit_once(':').map(|(host, port)| format!("{host}_{port}_"));
        let names = [Some(registry.clone()), underscored, Some(DEFAULT.to_owned())];
        for name in names.into_iter().flatten() {
            let folder = folder.join(name);
            let path = folder.join(HOSTS_TOML);
            if let Some(text) = read(&path)? {
                let malformed = |why: String| Error::new(Status::Malformed, format!("{}: {why}", path.display()));
                // In the order of the file.
                let table: Table =
                    text.parse().map_err(|cause: toml::de::Error| malformed(cause.message().to_owned()))?;
                return RegistryHosts::parse(&table, &folder).map_err(malformed);
            }
            if let Some(settings) = certificates_in(&folder)? {
                return Ok(RegistryHosts { settings, ..RegistryHosts::default() });
            }
        }
        Ok(RegistryHosts::default())
    }

    fn parse(table: &Table, folder: &Path) -> Result<RegistryHosts, String> {
        let mut hosts = Vec::new();
        if let Some(said) = table.get("host") {
            for (address, table) in said.as_table().ok_or("host is no table")? {
                let table = table.as_table().ok_or_else(|| format!("host {address:?} is no table"))?;
                let in_host = |why| format!("host {address:?}: {why}");
                let settings = settings_in(table, folder).map_err(in_host)?;
                hosts.push(Host::new(address, flag(table, "override_path").map_err(in_host)?, settings)?);
            }
        }
        let mut settings = settings_in(table, folder)?;
        // The registry is there for everything that the others are not.
        settings.capabilities = None;
        let server = match table.get("server") {
            None => None,
            Some(server) => {
                let server = server.as_str().ok_or("server is no text")?;
                Some(Host::new(server, flag(table, "override_path")?, settings.clone())?)
            }
        };
        Ok(RegistryHosts { hosts, server, settings })
    }
}

/// A text file of bounded size; `None` where there is none.
fn read(path: &Path) -> Result<Option<String>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(cause) if is_absent(&cause) => return Ok(None),
        Err(cause) => return Err(Error::io(&cause, format_args!("read {}", path.display()))),
    };
    let mut text = String::new();
    file.take(MAX_HOSTS_TOML_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|cause| Error::io(&cause, format_args!("read {}", path.display())))?;
    if text.len() as u64 > MAX_HOSTS_TOML_BYTES {
        return Err(Error::limit("hosts.toml size", MAX_HOSTS_TOML_BYTES, "more", path.display()));
    }
    Ok(Some(text))
}

fn is_absent(cause: &std::io::Error) -> bool {
    matches!(cause.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

/// What certificates that lie in a folder come to; `None` where there are none. A certificate of ours without its key is an
/// error, as in Docker: it would be asked for in vain.
fn certificates_in(folder: &Path) -> Result<Option<Settings>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(cause) if is_absent(&cause) => return Ok(None),
        Err(cause) => return Err(Error::io(&cause, format_args!("list {}", folder.display()))),
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    paths.sort();
    let mut settings = Settings::default();
    for path in paths {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => settings.trust.authorities.push(path),
            Some("cert") => {
                let key = path.with_extension("key");
                if !key.is_file() {
                    let why = format!("{} is a client certificate, and {} is missing", path.display(), key.display());
                    return Err(Error::new(Status::Malformed, format!("{why}; an authority is called *.crt")));
                }
                settings.trust.client.get_or_insert((path, key));
            }
            _ => {}
        }
    }
    let is_any = !settings.trust.authorities.is_empty() || settings.trust.client.is_some();
    Ok(is_any.then_some(settings))
}

fn settings_in(table: &Table, folder: &Path) -> Result<Settings, String> {
    let mut settings = Settings::default();
    if let Some(capabilities) = table.get("capabilities") {
        let capabilities = texts(capabilities, "capabilities")?;
        let has = |wanted: &str| capabilities.iter().any(|capability| capability == wanted);
        settings.capabilities = Some(Capabilities { resolve: has("resolve"), pull: has("pull") });
    }
    settings.trust.skip_verify = flag(table, "skip_verify")?;
    if let Some(authorities) = table.get("ca") {
        settings.trust.authorities = texts(authorities, "ca")?.iter().map(|path| folder.join(path)).collect();
    }
    settings.trust.client = match table.get("client") {
        None => None,
        // `"both.pem"`, `["both.pem", …]`, `[["cert", "key"], …]`: of several the first.
        Some(Value::Array(several)) => match several.first() {
            None => None,
            Some(Value::Array(pair)) => pair_in(&texts(&Value::Array(pair.clone()), "client")?, folder),
            Some(one) => pair_in(&texts(one, "client")?, folder),
        },
        Some(one) => pair_in(&texts(one, "client")?, folder),
    };
    if let Some(headers) = table.get("header") {
        for (name, values) in headers.as_table().ok_or("header is no table")? {
            for value in texts(values, "header")? {
                add_header(&mut settings.headers, name, &value)?;
            }
        }
    }
    if let Some(timeout) = table.get("dial_timeout") {
        let text = timeout.as_str().ok_or("dial_timeout is no text, such as \"10s\"")?;
        let wrong = || format!("dial_timeout {text:?} is no time, such as \"1m30s\" or \"500ms\"");
        // None of its own, as in Go.
        settings.connect_timeout = Some(duration(text).ok_or_else(wrong)?).filter(|time| !time.is_zero());
    }
    Ok(settings)
}

fn pair_in(paths: &[String], folder: &Path) -> Option<(PathBuf, PathBuf)> {
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

/// A time as Go writes it (`time.ParseDuration`): `1m30s`, `1.5s`, `500ms`, `0`. What is before now is none.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let (number, unit_and_rest) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        // One digit at least, on either side of the point.
        let number: f64 = number.parse().ok().filter(|_| number.bytes().any(|b| b.is_ascii_digit()))?;
        let end = unit_and_rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(unit_and_rest.len());
        let (unit, after) = unit_and_rest.split_at(end);
        total += number
            * match unit {
                "ns" => 1e-9,
                "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = after;
    }
    // Go counts in nanoseconds, of which 292 years are the most.
    Duration::try_from_secs_f64(total).ok().filter(|time| time.as_nanos() <= i64::MAX as u128)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RegistryHosts, String> {
        let table: Table = text.parse().map_err(|cause: toml::de::Error| cause.message().to_owned())?;
        RegistryHosts::parse(&table, Path::new("/certs"))
    }

    #[test]
    fn a_hosts_file_is_read_as_containerd_reads_it() {
        let folder = parse(
            r#"
            server = "https://registry-1.docker.io"
            [host."https://z.example:5000"]
              capabilities = ["pull"]
              ca = "z.pem"
              dial_timeout = "1m500ms"
            [host."http://a.example/path"]
              override_path = true
              skip_verify = true
              client = [["/abs/cert", "key"], ["other", ""]]
              [host."http://a.example/path".header]
                x-one = "1"
                x-two = ["2", "3"]
            [host."https://m.example/v2"]
              client = ["both.pem", "another.pem"]
            "#,
        )
        .unwrap();
        let hosts = &folder.hosts;
        let bases: Vec<&str> = hosts.iter().map(|host| host.base.as_str()).collect();
        assert_eq!(bases, ["https://z.example:5000/v2/", "http://a.example/path/", "https://m.example/v2/"]);
        assert_eq!((hosts[0].can_pull(), hosts[0].can_resolve()), (true, false));
        assert_eq!(hosts[0].settings.trust.authorities, [Path::new("/certs/z.pem")]);
        assert_eq!(hosts[0].settings.connect_timeout, Some(Duration::from_millis(60_500)));
        assert_eq!(hosts[0].name(), "z.example:5000");
        assert!(hosts[1].settings.trust.skip_verify && hosts[1].can_resolve());
        assert_eq!(hosts[1].settings.trust.client, Some(("/abs/cert".into(), "/certs/key".into())));
        assert_eq!(hosts[1].settings.headers.get_all("x-two").iter().count(), 2);
        assert_eq!(hosts[2].settings.trust.client, Some(("/certs/both.pem".into(), "/certs/both.pem".into())));
        assert_eq!(folder.server.unwrap().base.as_str(), "https://registry-1.docker.io/v2/");
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
            "skip_verify = 1",
            "not toml",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    /// Report 2: what Go takes for a time, and what it does not.
    #[test]
    fn times_are_those_of_go() {
        for (text, nanoseconds) in [
            ("1.5s", 1_500_000_000),
            ("500ms", 500_000_000),
            ("1m30s", 90_000_000_000),
            ("100us", 100_000),
            ("100\u{b5}s", 100_000),
            ("100\u{3bc}s", 100_000),
            ("7ns", 7),
            ("2h", 7_200_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("+3s", 3_000_000_000),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Some(Duration::from_nanos(nanoseconds)), "{text}");
        }
        for text in ["", "5", "s", ".s", "-1s", "1d", "1 s", "1s ", "1.2.3s", "3000000h", "1e3s", "+", "x"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
