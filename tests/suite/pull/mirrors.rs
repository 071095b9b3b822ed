//! Mirrors: who is asked, in which order, with which secrets, and what becomes of one that lies.

use std::path::Path;
use std::sync::Arc;

use boxlite_images::{Credentials, CredentialsCallback, PullOptions, Status, Storage};

use super::super::support::{quick_store, temp_dir};
use super::content::Content;
use super::server::{Answer, Asked, Ending, Server};
use super::{Change, impatient, options_for};

/// An origin and a mirror of it, which may misbehave.
struct Pair {
    origin: Server,
    mirror: Server,
    dir: tempfile::TempDir,
    storage: Storage,
}

impl Pair {
    fn new(origin: Change, mirror: Change) -> Pair {
        let content = Arc::new(Content::new());
        let serve = |change: Change| {
            let content = content.clone();
            Server::new(move |asked: &Asked, before| change(asked, before, content.answer(asked)))
        };
        let dir = temp_dir();
        let storage = quick_store(&dir.path().join("store"));
        Pair { origin: serve(origin), mirror: serve(mirror), dir, storage }
    }

    fn options(&self) -> PullOptions {
        let mut options = options_for(&self.origin);
        options.registries[0].mirrors = vec![format!("http://{}", self.mirror.host())];
        options.registries.push(super::plain(self.mirror.host()));
        options
    }

    fn pull(&self, options: &PullOptions) -> boxlite_images::Result<boxlite_images::Image> {
        self.storage.pull(&format!("{}/library/app", self.origin.host()), options)
    }
}

const HONEST: Change = |_, _, answer| answer;

/// What a mirror does, and how often the registry itself is asked then: of 6 requests.
#[test]
fn mirrors_go_first_and_may_fail() {
    let cases: [(&str, usize, Change); 12] = [
        ("is good", 0, HONEST),
        ("has nothing", 6, |_, _, _| Answer::new(404, "")),
        ("is broken", 6, |_, _, _| Answer::new(500, "")),
        ("is busy", 6, |_, _, _| Answer::new(429, "").header("retry-after", "60")),
        ("asks who we are", 6, |_, _, _| Answer::new(401, "").header("www-authenticate", "Basic realm=\"x\"")),
        ("denies", 6, |_, _, _| Answer::new(403, "")),
        ("talks nonsense", 6, |_, _, answer| answer.ending(Ending::Garbage)),
        ("is silent", 6, |_, _, answer| answer.ending(Ending::SilentAt(0))),
        (
            "has no blobs",
            4,
            |asked, _, answer| {
                if asked.path.contains("/blobs/") { Answer::new(404, "") } else { answer }
            },
        ),
        ("breaks off", 3, |asked, _, answer| {
            if asked.path.contains("/blobs/") && answer.body.len() > 10_000 {
                answer.ending(Ending::CutAt(5000))
            } else {
                answer
            }
        }),
        ("redirects in circles", 6, |asked, _, _| Answer::new(302, "").header("location", asked.path.clone())),
        ("sends documents without an end", 6, |_, _, _| Answer::new(200, vec![b' '; 65536]).ending(Ending::Endless)),
    ];
    for (what, asked, change) in cases {
        let pair = Pair::new(HONEST, change);
        let options = if what == "is silent" { impatient(pair.options()) } else { pair.options() };
        let image = pair.pull(&options).unwrap_or_else(|error| panic!("a mirror that {what}: {error}"));
        assert_eq!(image.missing, []);
        assert_eq!(pair.origin.asked().len(), asked, "a mirror that {what}");
        assert!(!pair.mirror.asked().is_empty());
    }
}

/// One that gives wrong bytes is not asked again in this pull.
#[test]
fn a_mirror_that_lies_is_dropped() {
    let cases: [(&str, Change); 5] = [
        ("the tag", |asked, _, mut answer| {
            if asked.path.contains("/latest") {
                answer.body.push(b' ');
            }
            answer
        }),
        ("a manifest", |asked, _, mut answer| {
            if asked.path.contains("/manifests/sha256") {
                let last = answer.body.len() - 1;
                answer.body.insert(last, b' ');
            }
            answer
        }),
        ("the config", |asked, _, mut answer| {
            if asked.path.contains("/blobs/") && answer.body.len() < 1000 {
                answer.body[1] ^= 1;
            }
            answer
        }),
        ("layers", |asked, _, mut answer| {
            if asked.path.contains("/blobs/") && answer.body.len() > 1000 {
                let middle = answer.body.len() / 2;
                answer.body[middle] ^= 1;
            }
            answer
        }),
        ("layers, and too much", |asked, _, mut answer| {
            if asked.path.contains("/blobs/") && answer.body.len() > 1000 {
                answer.body.push(0);
            }
            answer
        }),
    ];
    for (what, change) in cases {
        let pair = Pair::new(HONEST, change);
        let mut options = pair.options();
        options.parallel = Some(1);
        let image = pair.pull(&options).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(image.missing, []);
        assert_eq!(pair.storage.check(&Default::default()).unwrap().findings, []);
        // The registry gave what was wrong and everything after it.
        let asked = pair.origin.asked().len();
        let expected = match what {
            "the tag" => 6,
            "a manifest" => 5,
            "the config" => 4,
            _ => 3,
        };
        assert_eq!((asked, pair.mirror.asked().len()), (expected, 7 - expected), "{what}");
    }
}

/// The registry's own refusals are final, and say who was asked before.
#[test]
fn the_registry_has_the_last_word() {
    for (status, expected) in [(401, Status::Unauthorized), (403, Status::Denied), (404, Status::NotFound)] {
        let change: Change = match status {
            401 => |_, _, _| Answer::new(401, "").header("www-authenticate", "Basic realm=\"x\""),
            403 => |_, _, _| Answer::new(403, ""),
            _ => |_, _, _| Answer::new(404, ""),
        };
        let pair = Pair::new(change, |_, _, _| Answer::new(404, ""));
        let error = pair.pull(&pair.options()).unwrap_err();
        assert_eq!(error.status(), expected);
        let tried = format!("mirrors tried: {} (HTTP 404)", pair.mirror.host());
        assert!(error.message().contains(&tried), "{error}");
    }
}

#[test]
fn the_registry_may_be_left_out() {
    let pair = Pair::new(HONEST, |_, _, _| Answer::new(404, ""));
    let mut options = pair.options();
    options.mirrors_only = true;
    assert_eq!(pair.pull(&options).unwrap_err().status(), Status::NotFound);
    options.registries.clear();
    assert_eq!(pair.pull(&options).unwrap_err().status(), Status::InvalidArgument);
    assert_eq!(pair.origin.asked().len(), 0);
    let pair = Pair::new(|_, _, _| Answer::new(500, ""), HONEST);
    let mut options = pair.options();
    options.mirrors_only = true;
    pair.pull(&options).unwrap();
    assert_eq!(pair.origin.asked().len(), 0);
}

/// What opens the registry does not go to a mirror, and what opens a mirror does not go to the registry.
#[test]
fn each_host_has_its_own_secrets() {
    let wants: Change = |asked, _, answer| match asked.header("authorization") {
        Some(_) => answer,
        None => Answer::new(401, "").header("www-authenticate", "Basic realm=\"x\""),
    };
    let pair = Pair::new(wants, wants);
    let mut options = pair.options();
    options.credentials = Some(Credentials::new("origin", "o"));
    pair.pull(&options).unwrap();
    assert!(pair.mirror.asked().iter().all(|asked| asked.header("authorization").is_none()));

    let pair = Pair::new(wants, wants);
    let mut options = pair.options();
    let mirror = pair.mirror.host();
    options.credentials = Some(Credentials::new("origin", "o"));
    options.ask_credentials = Some(CredentialsCallback::new(move |host, _| {
        assert_eq!(host, mirror, "the call has those of the registry");
        Ok(Some(Credentials::new("mirror", "m")))
    }));
    options.registries[1].headers = vec![("X-Mirror".into(), "1".into())];
    pair.pull(&options).unwrap();
    assert_eq!(pair.origin.asked().len(), 0);
    let asked = pair.mirror.asked();
    assert!(asked.iter().all(|asked| asked.header("x-mirror") == Some("1")));
    // mirror:m
    assert!(asked.iter().skip(1).all(|asked| asked.header("authorization") == Some("Basic bWlycm9yOm0=")));
}

fn hosts_file(dir: &Path, registry: &str, text: &str) {
    let folder = dir.join("certs.d").join(registry);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("hosts.toml"), text).unwrap();
}

/// containerd's folder, found by each of its names, and what each of its settings does.
#[test]
fn hosts_files_are_honoured() {
    let pair = Pair::new(HONEST, |asked, _, answer| {
        assert_eq!(asked.header("x-a"), Some("1"));
        assert!(asked.path.contains("?ns=127.0.0.1%3A"), "{asked:?}");
        answer
    });
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\"]\n[host.\"http://{}\".header]\nx-a = \"1\"",
        pair.origin.host(),
        pair.mirror.host(),
        pair.mirror.host()
    );
    for name in [pair.origin.host(), pair.origin.host().replace(':', "_") + "_", "_default".into()] {
        let _ = std::fs::remove_dir_all(pair.dir.path().join("certs.d"));
        hosts_file(pair.dir.path(), &name, &text);
        let mut options = PullOptions::default();
        options.hosts_dir = Some(pair.dir.path().join("certs.d"));
        options.policy = boxlite_images::PullPolicy::Always;
        let before = pair.origin.asked().len();
        pair.pull(&options).unwrap();
        // May not say what a tag is.
        assert_eq!(pair.origin.asked().len() - before, 1, "{name}");
    }
    assert_eq!(pair.mirror.asked().len(), 5);
    hosts_file(pair.dir.path(), "_default", "server = [");
    let mut options = PullOptions::default();
    options.hosts_dir = Some(pair.dir.path().join("certs.d"));
    let error = pair.storage.pull("example.invalid/x", &options).unwrap_err();
    assert_eq!(error.status(), Status::Malformed);
    assert!(error.message().contains("hosts.toml"), "{error}");
}

/// A mirror's path is where its image lies.
#[test]
fn a_mirror_may_have_a_path() {
    let content = Content::new();
    let mirror = Server::new(move |asked, _| {
        let path = asked.path.split('?').next().unwrap().replace("/cache/v2/", "/v2/");
        content.answer(&Asked { path, ..asked.clone() })
    });
    let dir = temp_dir();
    let mut options = PullOptions::default();
    options.mirrors_only = true;
    let mut registry = boxlite_images::RegistryOptions::new("docker.io");
    registry.mirrors = vec![format!("http://{}/cache", mirror.host())];
    options.registries = vec![registry];
    quick_store(dir.path()).pull("app", &options).unwrap();
    assert!(mirror.asked().iter().all(|asked| asked.path.ends_with("?ns=docker.io")), "{:?}", mirror.asked());
    for wrong in ["ftp://x", "http://user:pw@x", "http://x/?a", "http://", "::"] {
        options.registries[0].mirrors = vec![wrong.to_owned()];
        let error = quick_store(dir.path()).pull("other", &options).expect_err(wrong);
        assert_eq!(error.status(), Status::InvalidArgument, "{wrong}: {error}");
    }
}
