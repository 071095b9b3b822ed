//! Credentials in the files of other tools (containers-auth.json(5), Docker's config.json) and from the helper programs
//! that those files name. Read only when the host asks for it.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::credentials::Credentials;
use crate::error::{Error, Result, Status, quoted};
use crate::interrupt::Interrupt;

/// The largest file that is read, and the longest answer of a helper.
const FILE_SIZE: u64 = 1 << 20;
const HELPER_ANSWER: u64 = 64 << 10;
const HELPER_TIME: Duration = Duration::from_secs(10);
/// What Docker's tools call Docker Hub.
const HUB_ADDRESS: &str = "https://index.docker.io/v1/";

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<Zeroizing<String>>,
    #[serde(rename = "identitytoken")]
    identity_token: Option<Zeroizing<String>>,
    username: Option<String>,
    password: Option<Zeroizing<String>>,
}

#[derive(Deserialize)]
struct HelperAnswer {
    #[serde(rename = "Username")]
    user: String,
    #[serde(rename = "Secret")]
    secret: Zeroizing<String>,
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

/// What a file has for a repository; `None` also where there is no such file. `MALFORMED` for a file that is not one.
pub(super) fn find(
    path: &Path,
    host: &str,
    repository: &str,
    with_helpers: bool,
    interrupt: &Interrupt,
) -> Result<Option<Credentials>> {
    let Some(file) = read(path)? else { return Ok(None) };
    let fail = |why: &str| Error::new(Status::Malformed, format!("{}: {why}", path.display()));
    for key in keys(host, repository) {
        let has = |name: &str| canonical(name) == key;
        let helper = file.helpers.iter().find(|(name, _)| has(name)).map(|(_, helper)| helper);
        if let Some(helper) = helper.filter(|_| with_helpers)
            && let Some(found) = ask(helper, host, interrupt)?
        {
            return Ok(Some(found));
        }
        for (_, entry) in file.auths.iter().filter(|(name, _)| has(name)) {
            if let Some(found) = entry.credentials().map_err(|()| fail("an entry is not base64 of user:password"))? {
                return Ok(Some(found));
            }
        }
    }
    match &file.store {
        Some(helper) if with_helpers => ask(helper, host, interrupt),
        _ => Ok(None),
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
    file.take(FILE_SIZE + 1).read_to_end(&mut bytes).map_err(|cause| fail(&cause))?;
    if bytes.len() as u64 > FILE_SIZE {
        return Err(Error::limit("credential file size", FILE_SIZE, bytes.len(), path.display()));
    }
    // What is wrong with it is not said in the parser's words: they may hold a secret.
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|_| Error::new(Status::Malformed, format!("{} is no credential file", path.display())))
}

impl Entry {
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

/// Asks a helper program, on a thread of ours: one that closes its input early is not to end the host by a SIGPIPE.
fn ask(helper: &str, host: &str, interrupt: &Interrupt) -> Result<Option<Credentials>> {
    let (helper, host, interrupt) = (helper.to_owned(), host.to_owned(), interrupt.clone());
    let thread = crate::sys::spawn("bl-helper", move || run(&helper, &host, &interrupt));
    match thread.map_err(|cause| Error::io(&cause, "start a thread"))?.join() {
        Ok(result) => result,
        Err(_) => Err(Error::new(Status::Internal, "the thread of a credential helper died")),
    }
}

/// The docker-credential-helpers protocol. `None` where it has nothing for the host.
fn run(helper: &str, host: &str, interrupt: &Interrupt) -> Result<Option<Credentials>> {
    let is_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if helper.is_empty() || !helper.bytes().all(is_name) {
        let why = format!("credential helper {} is not a name", quoted(helper.as_bytes()));
        return Err(Error::new(Status::Malformed, why));
    }
    let program = format!("docker-credential-{helper}");
    let fail = |cause: &std::io::Error| Error::io(cause, format_args!("run {program}"));
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|cause| match cause.kind() {
            std::io::ErrorKind::NotFound => Error::new(Status::Unauthorized, format!("{program} is not installed")),
            _ => fail(&cause),
        })?;
    let address = if canonical(host) == "docker.io" { HUB_ADDRESS } else { host };
    if let Some(mut input) = child.stdin.take() {
        // One that does not want to know has its reasons; its answer tells.
        let _ = input.write_all(address.as_bytes());
    }
    let output = child.stdout.take();
    let reader = crate::sys::spawn("bl-helper", move || {
        let mut answer = Zeroizing::new(Vec::new());
        let read = output.map(|output| output.take(HELPER_ANSWER + 1).read_to_end(&mut answer));
        read.transpose().map(|_| answer)
    });
    let reader = reader.map_err(|cause| fail(&cause))?;
    let deadline = Instant::now() + HELPER_TIME;
    // A host that ignores its children's ends never hears of this one's; a grandchild may hold the pipe for longer.
    let (mut status, mut is_over) = (None, false);
    while !is_over || !reader.is_finished() {
        match child.try_wait() {
            Ok(Some(end)) => (status, is_over) = (Some(end), true),
            Err(_) => is_over = true,
            Ok(None) => {}
        }
        let late = || Error::new(Status::Timeout, format!("{program}: no answer in {HELPER_TIME:?}"));
        let ended = interrupt.check().and_then(|()| if Instant::now() < deadline { Ok(()) } else { Err(late()) });
        if let Err(error) = ended {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let answer = match reader.join() {
        Ok(answer) => answer.map_err(|cause| fail(&cause))?,
        Err(_) => return Err(Error::new(Status::Internal, format!("{program}: its reader died"))),
    };
    if answer.len() as u64 > HELPER_ANSWER {
        return Err(Error::limit("credential helper answer", HELPER_ANSWER, answer.len(), program));
    }
    if status.is_some_and(|status| !status.success()) {
        let text = String::from_utf8_lossy(&answer).to_lowercase();
        return if text.contains("credentials not found") {
            Ok(None)
        } else {
            Err(Error::new(Status::Unauthorized, format!("{program}: failed")))
        };
    }
    let answer: HelperAnswer = serde_json::from_slice(&answer)
        .map_err(|_| Error::new(Status::Malformed, format!("{program}: its answer is none")))?;
    Ok(Some(Credentials::new(answer.user, answer.secret.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let found = find(&dir, host, repository, true, &Interrupt::default()).unwrap();
            let basic = found.map(|found| found.basic().unwrap().to_string());
            assert_eq!(basic, expected.map(|pair| format!("Basic {}", auth(pair))), "{host}/{repository}");
        }
        assert_eq!(
            find(&dir, "id.io", "x", true, &Interrupt::default()).unwrap().unwrap().as_identity_token(),
            Some("T")
        );
        for text in ["", "[]", r#"{"auths":1}"#, r#"{"auths":{"r.io":{"auth":"***"}}}"#] {
            std::fs::write(&dir, text).unwrap();
            let error = find(&dir, "r.io", "x", true, &Interrupt::default()).expect_err(text);
            assert_eq!(error.status(), Status::Malformed, "{text}");
        }
        std::fs::remove_file(&dir).unwrap();
        assert!(find(&dir, "r.io", "x", true, &Interrupt::default()).unwrap().is_none());
    }

    #[test]
    fn a_helper_is_a_name_and_nothing_else() {
        for name in ["", "../x", "a b", "A", "a/b", "$(x)", "a;b"] {
            assert_eq!(ask(name, "r.io", &Interrupt::default()).expect_err(name).status(), Status::Malformed, "{name}");
        }
        let missing = ask("no-such-helper-here", "r.io", &Interrupt::default()).unwrap_err();
        assert_eq!(missing.status(), Status::Unauthorized);
    }
}
