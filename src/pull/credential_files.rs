//! Credentials in the files of other tools (containers-auth.json(5), Docker's config.json). Read only when the host asks for it.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::credential_helper;
use super::credentials::Credentials;
use crate::error::{Error, Result, Status, quoted};
use crate::interrupt::Interrupt;

/// The largest file that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What Docker's tools call Docker Hub.
const HUB_ADDRESS: &str = "https://index.docker.io/v1/";

/// What a Go program writes: what is empty may be `null`.
#[derive(Deserialize, Default)]
struct File {
    auths: Option<BTreeMap<String, Option<AuthEntry>>>,
    #[serde(rename = "credHelpers")]
    helpers: Option<BTreeMap<String, Option<String>>>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

#[derive(Deserialize)]
struct AuthEntry {
    auth: Option<Zeroizing<String>>,
    #[serde(rename = "identitytoken")]
    identity_token: Option<Zeroizing<String>>,
    username: Option<String>,
    password: Option<Zeroizing<String>>,
}

/// The files that other tools keep, in their order. Reads the environment.
pub(super) fn well_known() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = variable("HOME");
    let config = variable("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
    let docker = variable("DOCKER_CONFIG").or_else(|| home.map(|home| home.join(".docker")));
    [
        variable("REGISTRY_AUTH_FILE"),
        variable("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json")),
        config.map(|folder| folder.join("containers/auth.json")),
        docker.map(|folder| folder.join("config.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The search for what is kept for one repository on one host.
pub(super) struct Search<'a> {
    pub(super) host: &'a str,
    pub(super) repository: &'a str,
    pub(super) with_helpers: bool,
    pub(super) interrupt: &'a Interrupt,
    /// What did not work and ended nothing: whoever gets no credentials is told.
    pub(super) remarks: Vec<String>,
}

impl Search<'_> {
    /// What a file has; `None` also where there is no such file. A file that the call names
    /// (`is_named`) must be one, or `MALFORMED`. One that lies where other tools keep theirs has
    /// nothing if it is broken, as a helper has that fails: many pulls need no credentials.
    pub(super) fn look_in(&mut self, path: &Path, is_named: bool) -> Result<Option<Credentials>> {
        match self.find(path) {
            Err(error) if !is_named => {
                self.interrupt.check()?;
                self.remark(error.message().to_owned());
                Ok(None)
            }
            found => found,
        }
    }

    fn find(&mut self, path: &Path) -> Result<Option<Credentials>> {
        let Some(file) = read(path)? else { return Ok(None) };
        let (auths, helpers) = (file.auths.unwrap_or_default(), file.helpers.unwrap_or_default());
        // A host with a helper of its own has no other, and with an empty one it has none (docker/cli, configfile).
        let mut store = file.store;
        for key in keys(self.host, self.repository) {
            let has = |name: &str| canonical(name) == key;
            if let Some((_, helper)) = helpers.iter().find(|(name, _)| has(name)) {
                store = None;
                if let Some(found) = self.ask_helper(helper.as_deref().unwrap_or_default(), path)? {
                    return Ok(Some(found));
                }
            }
            for entry in auths.iter().filter(|(name, _)| has(name)).filter_map(|(_, entry)| entry.as_ref()) {
                let malformed = |()| {
                    let why = format!("{}: the entry of {key} is not base64 of user:password", path.display());
                    Error::new(Status::Malformed, why)
                };
                if let Some(found) = entry.credentials().map_err(malformed)? {
                    return Ok(Some(found));
                }
            }
        }
        self.ask_helper(&store.unwrap_or_default(), path)
    }

    fn ask_helper(&mut self, helper: &str, path: &Path) -> Result<Option<Credentials>> {
        if helper.is_empty() {
            return Ok(None);
        }
        if !self.with_helpers {
            self.remark(format!(
                "{}: the credential helper {} was not asked, since helpers are switched off",
                path.display(),
                quoted(helper.as_bytes())
            ));
            return Ok(None);
        }
        let is_hub = canonical(self.host) == "docker.io";
        let address = if is_hub { HUB_ADDRESS } else { self.host };
        match credential_helper::ask(helper, address, self.interrupt) {
            Err(error) => {
                self.interrupt.check()?;
                self.remark(format!("{}: {}", path.display(), error.message()));
                Ok(None)
            }
            answer => answer,
        }
    }

    fn remark(&mut self, what: String) {
        tracing::warn!("{}: {what}", self.host);
        self.remarks.push(what);
    }
}

fn read(path: &Path) -> Result<Option<File>> {
    let fail = |cause: &std::io::Error| Error::io(cause, format_args!("read {}", path.display()));
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(fail(&cause)),
    };
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|cause| fail(&cause))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::limit("credential file size", MAX_FILE_BYTES, bytes.len(), path.display()));
    }
    // What is wrong with it is not said in the parser's words: they may hold a secret.
    let what = if bytes.trim_ascii().is_empty() { "is empty" } else { "is no credential file" };
    let parsed: Result<Option<File>, _> = serde_json::from_slice(&bytes);
    let parsed = parsed.map_err(|_| Error::new(Status::Malformed, format!("{} {what}", path.display())))?;
    Ok(Some(parsed.unwrap_or_default()))
}

impl AuthEntry {
    /// `None` for an entry that only says that somebody else has them.
    fn credentials(&self) -> Result<Option<Credentials>, ()> {
        if let Some(token) = self.identity_token.as_ref().filter(|token| !token.is_empty()) {
            return Ok(Some(Credentials::identity_token(token.to_string())));
        }
        if let (Some(user), Some(password)) = (&self.username, &self.password) {
            return Ok(Some(Credentials::new(user.clone(), password.to_string())));
        }
        let Some(auth) = self.auth.as_ref().filter(|auth| !auth.is_empty()) else { return Ok(None) };
        let bytes = base64::engine::general_purpose::STANDARD.decode(auth.trim_end().as_bytes()).map_err(|_| ())?;
        let pair = Zeroizing::new(String::from_utf8(bytes).map_err(|_| ())?);
        let (user, password) = pair.split_once(':').ok_or(())?;
        // Docker pads with zeros.
        Ok(Some(Credentials::new(user, password.trim_end_matches('\0'))))
    }
}

/// `host/ns/repo`, `host/ns`, `host`: the most specific first.
fn keys(host: &str, repository: &str) -> Vec<String> {
    let mut key = format!("{}/{repository}", canonical(host));
    let mut keys = vec![key.clone()];
    while let Some((shorter, _)) = key.rsplit_once('/') {
        keys.push(shorter.to_owned());
        key = shorter.to_owned();
    }
    keys
}

/// A key as we write it: without scheme and version, Docker Hub by one name.
fn canonical(name: &str) -> String {
    let name = name.strip_prefix("https://").or_else(|| name.strip_prefix("http://")).unwrap_or(name);
    let name = name.trim_end_matches('/');
    let name = name.strip_suffix("/v1").or_else(|| name.strip_suffix("/v2")).unwrap_or(name);
    let (host, rest) = name.split_once('/').map_or((name, None), |(host, rest)| (host, Some(rest)));
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    };
    rest.map_or_else(|| host.to_owned(), |rest| format!("{host}/{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a file that the call names.
    fn find(path: &Path, host: &str, repository: &str) -> Result<Option<Credentials>> {
        let interrupt = Interrupt::default();
        let mut search = Search { host, repository, with_helpers: true, interrupt: &interrupt, remarks: Vec::new() };
        search.look_in(path, true)
    }

    #[test]
    fn the_most_specific_key_is_taken() {
        let dir = std::env::temp_dir().join(format!("bl-auth-{}", uuid::Uuid::new_v4()));
        let auth = |pair: &str| base64::engine::general_purpose::STANDARD.encode(pair);
        let text = format!(
            r#"{{"auths":{{"r.io":{{"auth":"{}"}},"https://r.io/a/b":{{"auth":"{}"}},"r.io/a":{{"auth":"{}"}},
                "https://index.docker.io/v1/":{{"auth":"{}"}},"id.io":{{"identitytoken":"T"}},"empty.io":{{}}}}}}"#,
            auth("host:1"),
            auth("repo:2"),
            auth("space:3"),
            auth("hub:4")
        );
        std::fs::write(&dir, text).unwrap();
        for (host, repository, expected) in [
            ("r.io", "a/b", Some("repo:2")),
            ("r.io", "a/c", Some("space:3")),
            ("r.io", "x", Some("host:1")),
            ("r.io:5000", "a/b", None),
            ("docker.io", "library/alpine", Some("hub:4")),
            ("registry-1.docker.io", "library/alpine", Some("hub:4")),
            ("empty.io", "x", None),
        ] {
            let found = find(&dir, host, repository).unwrap();
            let basic = found.map(|found| found.basic().unwrap().to_string());
            assert_eq!(basic, expected.map(|pair| format!("Basic {}", auth(pair))), "{host}/{repository}");
        }
        assert_eq!(find(&dir, "id.io", "x").unwrap().unwrap().as_identity_token(), Some("T"));
        for text in ["", "[]", r#"{"auths":1}"#, r#"{"auths":{"r.io":{"auth":"***"}}}"#] {
            std::fs::write(&dir, text).unwrap();
            let error = find(&dir, "r.io", "x").expect_err(text);
            assert_eq!(error.status(), Status::Malformed, "{text}");
        }
        std::fs::remove_file(&dir).unwrap();
        assert!(find(&dir, "r.io", "x").unwrap().is_none());
    }
}
