//! Pulling, from a registry that does what a test says (`server`).

mod server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boxlite_images::{
    Cancel, CheckOptions, Credentials, Digest, Image, Interrupt, PullOptions, PullPolicy, Status, Storage,
};

use self::server::{Answer, Asked, Ending, Server};
use super::archive::{Archive, gzip};
use super::support::{leftovers, names_in, quick_store, temp_dir};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What a registry has: blobs and manifests by digest, and what `latest` is.
#[derive(Clone, Default)]
struct Content {
    blobs: BTreeMap<String, Vec<u8>>,
    manifests: BTreeMap<String, (&'static str, Vec<u8>)>,
    latest: String,
    layers: Vec<Digest>,
    manifest: Option<Digest>,
}

impl Content {
    /// An index for two platforms, of which this host's has three layers.
    fn new() -> Content {
        let mut content = Content::default();
        let noise = |seed: u32| {
            (0..100_000u32).flat_map(|i| (i ^ seed).wrapping_mul(0x9e37_79b9).to_le_bytes()).collect::<Vec<u8>>()
        };
        let tars: Vec<Vec<u8>> = (0..3u32)
            .map(|i| {
                let archive = Archive::new().dir(b"d").file(b"d/noise", &noise(i));
                archive.file(format!("d/f{i}").as_bytes(), i.to_string().as_bytes()).finish()
            })
            .collect();
        let ours = content.image(&tars);
        let other = content.image(&[Archive::new().file(b"other", b"x").finish()]);
        let entry = |digest: &Digest, size: usize, os: &str, architecture: &str| {
            let platform = format!(r#"{{"os":"{os}","architecture":"{architecture}"}}"#);
            format!(r#"{{"mediaType":"{MANIFEST}","digest":"{digest}","size":{size},"platform":{platform}}}"#)
        };
        let size = |content: &Content, digest: &Digest| content.manifests[&digest.to_string()].1.len();
        let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
        let entries = [
            entry(&other, size(&content, &other), "unknown", "unknown"),
            entry(&other, size(&content, &other), "linux", "s390x"),
            entry(&ours, size(&content, &ours), "linux", architecture),
        ];
        let index = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, entries.join(","));
        content.latest = Digest::of(index.as_bytes()).to_string();
        content.manifests.insert(content.latest.clone(), (INDEX, index.into_bytes()));
        content.layers = tars.iter().map(|tar| Digest::of(&gzip(tar))).collect();
        content.manifest = Some(ours);
        content
    }

    fn image(&mut self, tars: &[Vec<u8>]) -> Digest {
        let layers: Vec<Vec<u8>> = tars.iter().map(|tar| gzip(tar)).collect();
        let diff_ids: Vec<String> = tars.iter().map(|tar| format!("\"{}\"", Digest::of(tar))).collect();
        let config = format!(r#"{{"os":"linux","rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#, diff_ids.join(","));
        let descriptor = |kind: &str, bytes: &[u8]| {
            let digest = Digest::of(bytes);
            format!(r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{}}}"#, bytes.len())
        };
        let list: Vec<String> = layers.iter().map(|layer| descriptor("layer.v1.tar+gzip", layer)).collect();
        let config_descriptor = descriptor("config.v1+json", config.as_bytes());
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config_descriptor},"layers":[{}]}}"#,
            list.join(",")
        );
        for blob in layers.into_iter().chain([config.into_bytes()]) {
            self.blobs.insert(Digest::of(&blob).to_string(), blob);
        }
        let digest = Digest::of(manifest.as_bytes());
        self.manifests.insert(digest.to_string(), (MANIFEST, manifest.into_bytes()));
        digest
    }

    /// What an honest registry answers.
    fn answer(&self, asked: &Asked) -> Answer {
        let Some((kind, target)) = asked.path.strip_prefix("/v2/library/app/").and_then(|rest| rest.split_once('/'))
        else {
            return Answer::new(404, "");
        };
        match kind {
            "manifests" => {
                let digest = if target == "latest" { &self.latest } else { target };
                match self.manifests.get(digest) {
                    Some((media_type, bytes)) => Answer::new(200, bytes.clone())
                        .header("content-type", *media_type)
                        .header("docker-content-digest", digest),
                    None => Answer::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such thing"}]}"#),
                }
            }
            _ => match self.blobs.get(target) {
                Some(blob) => {
                    let start = asked.range_start().min(blob.len());
                    let range = format!("bytes {start}-{}/{}", blob.len() - 1, blob.len());
                    match start {
                        0 => Answer::new(200, blob.clone()),
                        _ => Answer::new(206, &blob[start..]).header("content-range", range),
                    }
                }
                None => Answer::new(404, r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"no such blob"}]}"#),
            },
        }
    }
}

/// A registry, a store, and how one is pulled into the other.
struct Bench {
    server: Server,
    content: Arc<Content>,
    dir: tempfile::TempDir,
    storage: Storage,
}

impl Bench {
    fn new(change: impl Fn(&Asked, usize, Answer) -> Answer + Send + Sync + 'static) -> Bench {
        let content = Arc::new(Content::new());
        let served = content.clone();
        let server = Server::new(move |asked, before| change(asked, before, served.answer(asked)));
        let dir = temp_dir();
        let storage = quick_store(dir.path());
        Bench { server, content, dir, storage }
    }

    fn honest() -> Bench {
        Bench::new(|_, _, answer| answer)
    }

    fn reference(&self) -> String {
        format!("{}/library/app", self.server.host())
    }

    fn options(&self) -> PullOptions {
        let mut options = PullOptions::default();
        options.plain_http = vec![self.server.host()];
        options.stall_timeout = Some(Duration::from_millis(400));
        options
    }

    fn pull(&self) -> boxlite_images::Result<Image> {
        self.storage.pull(&self.reference(), &self.options())
    }

    /// Everything is there and right.
    fn assert_pulled(&self, image: &Image) {
        assert_eq!(Some(&image.manifest_digest), self.content.manifest.as_ref());
        assert_eq!(image.missing, []);
        for (i, layer) in self.content.layers.iter().enumerate() {
            let tree = self.storage.layer_extracted_path(layer);
            assert_eq!(std::fs::read_to_string(tree.join(format!("d/f{i}"))).unwrap(), i.to_string());
        }
        assert_eq!(self.storage.check(&CheckOptions::default()).unwrap().findings, []);
        assert_eq!(leftovers(self.dir.path()), [""; 0]);
        assert_eq!(names_in(&self.dir.path().join("leases")), [""; 0]);
    }

    /// Nothing half-made stays, and there is no name.
    fn assert_nothing(&self) {
        assert_eq!(leftovers(self.dir.path()), [""; 0]);
        assert!(self.storage.images().unwrap().is_empty());
        assert_eq!(self.storage.check(&CheckOptions::default()).unwrap().findings, []);
    }
}

#[test]
fn an_image_is_pulled_unpacked_and_named() {
    let bench = Bench::honest();
    bench.assert_pulled(&bench.pull().unwrap());
    // Index, manifest, config, three layers.
    assert_eq!(bench.server.asked().len(), 6);
    // Nothing to do is no request.
    let started = Instant::now();
    bench.assert_pulled(&bench.pull().unwrap());
    assert_eq!(bench.server.asked().len(), 6, "{:?}", started.elapsed());
    let mut options = bench.options();
    options.policy = PullPolicy::Always;
    bench.storage.pull(&bench.reference(), &options).unwrap();
    assert_eq!(bench.server.asked().len(), 7);
}

#[test]
fn policies_decide_who_is_asked() {
    let bench = Bench::honest();
    let mut options = bench.options();
    options.policy = PullPolicy::Never;
    assert_eq!(bench.storage.pull(&bench.reference(), &options).unwrap_err().status(), Status::NotFound);
    assert_eq!(bench.server.asked().len(), 0);
    bench.pull().unwrap();
    bench.storage.pull(&bench.reference(), &options).unwrap();
    let asked = bench.server.asked().len();
    // A digest that is in the store is not asked for again.
    let by_digest = format!("{}@{}", bench.reference(), bench.content.manifest.as_ref().unwrap());
    bench.storage.pull(&by_digest, &bench.options()).unwrap();
    assert_eq!(bench.server.asked().len(), asked);
}

type Change = fn(&Asked, usize, Answer) -> Answer;

/// Servers that misbehave for a while, and with which a pull succeeds all the same.
#[test]
fn what_passes_is_waited_for() {
    let cases: [(&str, Change); 9] = [
        ("a blob that breaks off", |asked, before, answer| match before {
            0 if asked.path.contains("/blobs/") => answer.ending(Ending::CutAt(1000)),
            _ => answer,
        }),
        ("a blob that breaks off, and no ranges", |asked, before, answer| match before {
            0 if asked.path.contains("/blobs/") => answer.ending(Ending::CutAt(100_000)),
            _ if answer.status == 206 => {
                Answer::new(200, Content::new().blobs[asked.path.rsplit('/').next().unwrap()].clone())
            }
            _ => answer,
        }),
        ("a blob that stalls", |asked, before, answer| match before {
            0 if asked.path.contains("/blobs/") => answer.ending(Ending::SilentAt(50_000)),
            _ => answer,
        }),
        ("a server that is busy", |_, before, answer| match before {
            0 => Answer::new(503, ""),
            _ => answer,
        }),
        ("a server that says when", |_, before, answer| match before {
            0 => Answer::new(429, "").header("retry-after", "0"),
            _ => answer,
        }),
        ("a server that fails", |_, before, answer| match before {
            0 => Answer::new(500, "oops"),
            1 => Answer::new(502, "oops"),
            _ => answer,
        }),
        ("a connection that is cut", |_, before, answer| match before {
            0 => answer.ending(Ending::CutAt(0)),
            _ => answer,
        }),
        ("a manifest that stalls", |asked, before, answer| match before {
            0 if asked.path.contains("/manifests/") => answer.ending(Ending::SilentAt(10)),
            _ => answer,
        }),
        ("garbage", |_, before, answer| match before {
            0 => answer.ending(Ending::Garbage),
            _ => answer,
        }),
    ];
    for (what, change) in cases {
        let bench = Bench::new(change);
        let image = bench.pull().unwrap_or_else(|error| panic!("{what}: {error}"));
        bench.assert_pulled(&image);
    }
}

/// Servers that lie or refuse: the status, and nothing that is visible and wrong.
#[test]
fn what_is_wrong_is_refused() {
    let cases: [(&str, Status, Change); 17] = [
        ("no such tag", Status::NotFound, |_, _, _| {
            Answer::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no"}]}"#)
        }),
        ("denied", Status::Denied, |_, _, _| Answer::new(403, r#"{"errors":[{"code":"DENIED","message":"no"}]}"#)),
        ("asks for credentials and not how", Status::Unauthorized, |_, _, _| Answer::new(401, "")),
        ("asks for a password", Status::Unauthorized, |_, _, _| {
            Answer::new(401, "").header("www-authenticate", "Basic realm=\"x\"")
        }),
        ("a manifest that is none", Status::Malformed, |asked, _, answer| {
            if asked.path.contains("/manifests/") { Answer::new(200, "<html>") } else { answer }
        }),
        ("another manifest than its digest", Status::DigestMismatch, |asked, _, answer| {
            if asked.path.contains("/manifests/sha256") {
                let mut body = answer.body;
                let last = body.len() - 1;
                body[last] = b' ';
                body[last - 1] = b'}';
                Answer { body, ..Answer::new(200, "") }
            } else {
                answer
            }
        }),
        ("another digest than was promised", Status::DigestMismatch, |asked, _, answer| {
            if asked.path.ends_with("/latest") {
                let mut answer = answer;
                answer.headers = vec![("docker-content-digest", format!("sha256:{}", "0".repeat(64)))];
                answer
            } else {
                answer
            }
        }),
        ("a Content-Type that contradicts", Status::Malformed, |asked, _, mut answer| {
            if asked.path.ends_with("/latest") {
                answer.headers = vec![("content-type", MANIFEST.to_owned())];
            }
            answer
        }),
        ("a Content-Encoding", Status::Registry, |_, _, answer| answer.header("content-encoding", "gzip")),
        ("a manifest without an end", Status::Limit, |asked, _, answer| {
            if asked.path.contains("/manifests/") {
                Answer::new(200, vec![b' '; 65536]).ending(Ending::Endless)
            } else {
                answer
            }
        }),
        ("a layer of wrong bytes", Status::DigestMismatch, |asked, _, mut answer| {
            if asked.path.contains("/blobs/") && answer.body.len() > 10_000 {
                let middle = answer.body.len() / 2;
                answer.body[middle] ^= 1;
            }
            answer
        }),
        ("a layer without an end", Status::SizeMismatch, |asked, _, answer| {
            if asked.path.contains("/blobs/") && answer.body.len() > 10_000 {
                Answer::new(200, vec![b'x'; 65536]).ending(Ending::Endless)
            } else {
                answer
            }
        }),
        ("a layer that is too short", Status::Network, |asked, _, answer| {
            if asked.path.contains("/blobs/") && answer.body.len() > 10_000 {
                Answer::new(200, &answer.body[..5000])
            } else {
                answer
            }
        }),
        ("a config that is missing", Status::NotFound, |asked, _, answer| {
            if asked.path.contains("/blobs/") && answer.body.len() < 1000 { Answer::new(404, "") } else { answer }
        }),
        ("redirects without an end", Status::Registry, |asked, _, _| {
            Answer::new(302, "").header("location", asked.path.clone())
        }),
        ("a redirect to nowhere", Status::Registry, |_, _, _| Answer::new(302, "").header("location", "ftp://x/")),
        ("silence", Status::Timeout, |_, _, answer| answer.ending(Ending::SilentAt(0))),
    ];
    for (what, status, change) in cases {
        let bench = Bench::new(change);
        let error = bench.pull().expect_err(what);
        assert_eq!(error.status(), status, "{what}: {error}");
        assert!(error.message().contains("/library/app"), "{what}: {error} does not name the image");
        bench.assert_nothing();
    }
}

#[test]
fn the_registrys_own_words_are_kept() {
    let bench = Bench::new(|_, _, _| {
        Answer::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no \u001b[31msuch thing"}]}"#)
    });
    let error = bench.pull().unwrap_err();
    assert_eq!((error.http_status(), error.registry_code()), (Some(404), Some("MANIFEST_UNKNOWN")));
    assert!(!error.message().contains('\u{1b}'), "{error}");
}

/// What was fetched before a failure is not fetched again.
#[test]
fn a_pull_that_failed_goes_on_where_it_was() {
    let bench = Bench::new(|asked, before, answer| {
        let is_last = asked.path.contains(&Content::new().layers[2].to_string());
        if is_last && before < 5 { Answer::new(404, "") } else { answer }
    });
    let error = bench.storage.pull(&bench.reference(), &bench.options()).unwrap_err();
    assert_eq!(error.status(), Status::NotFound);
    let mut options = bench.options();
    options.parallel = Some(1);
    for _ in 0..6 {
        if let Ok(image) = bench.storage.pull(&bench.reference(), &options) {
            bench.assert_pulled(&image);
        }
    }
    for layer in &bench.content.layers[..2] {
        assert!(bench.server.count(&layer.to_string()) <= 2);
    }
    bench.storage.image(&boxlite_images::ImageName::parse(&bench.reference()).unwrap()).unwrap();
}

#[test]
fn a_pull_ends_when_it_is_told_to() {
    let bench = Bench::new(
        |asked, _, answer| {
            if asked.path.contains("/blobs/") { answer.ending(Ending::SilentAt(100)) } else { answer }
        },
    );
    let cancel = Cancel::new();
    let mut options = bench.options();
    options.stall_timeout = None;
    options.interrupt = Interrupt::new(Some(cancel.clone()), None);
    let canceller = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        cancel.trigger();
        Instant::now()
    });
    let error = bench.storage.pull(&bench.reference(), &options).unwrap_err();
    let taken = canceller.join().unwrap().elapsed();
    assert_eq!(error.status(), Status::Cancelled, "{error}");
    assert!(taken < Duration::from_secs(2), "{taken:?}");
    bench.assert_nothing();
    options.interrupt = Interrupt::new(None, Some(Duration::from_millis(200)));
    assert_eq!(bench.storage.pull(&bench.reference(), &options).unwrap_err().status(), Status::Timeout);
}

/// A registry that wants a token, and who gets which secret.
#[test]
fn tokens_and_passwords_go_where_they_belong() {
    let storage_for = Content::new();
    let served = storage_for.clone();
    let server = Server::new(move |asked, _| {
        if asked.path.starts_with("/token?") {
            assert!(asked.path.contains("scope=repository%3Alibrary%2Fapp%3Apull"), "{asked:?}");
            return match asked.header("authorization") {
                // me:secret
                Some("Basic bWU6c2VjcmV0") => Answer::new(200, r#"{"token":"abc"}"#),
                None => Answer::new(200, r#"{"access_token":"anonymous"}"#),
                Some(_) => Answer::new(401, ""),
            };
        }
        if asked.header("authorization") != Some("Bearer abc") {
            let host = asked.header("host").unwrap();
            let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"x\"");
            return Answer::new(401, "").header("www-authenticate", challenge);
        }
        served.answer(asked)
    });
    let reference = format!("{}/library/app", server.host());
    for (user, password, status) in
        [("me", "secret", None), ("me", "wrong", Some(Status::Unauthorized)), ("", "", Some(Status::Unauthorized))]
    {
        let dir = temp_dir();
        let storage = quick_store(dir.path());
        let mut options = PullOptions::default();
        options.plain_http = vec![server.host()];
        options.credentials = (!user.is_empty()).then(|| Credentials { user: user.into(), password: password.into() });
        let result = storage.pull(&reference, &options);
        if let Err(error) = &result {
            assert!(!error.message().contains(password) || password.is_empty(), "{error}");
        }
        assert_eq!(result.err().map(|error| error.status()), status, "{user}:{password}");
    }
}

/// A blob's bytes may come from elsewhere; what opens the registry does not go there.
#[test]
fn secrets_do_not_follow_a_redirect() {
    let content = Content::new();
    let blobs = content.clone();
    let elsewhere = Server::new(move |asked, _| blobs.answer(&asked.clone()));
    let (there, served) = (elsewhere.host(), content.clone());
    let server = Server::new(move |asked, _| {
        if asked.header("authorization") != Some("Basic bWU6c2VjcmV0") {
            return Answer::new(401, "").header("www-authenticate", "Basic realm=\"x\"");
        }
        if asked.path.contains("/blobs/") {
            return Answer::new(307, "").header("location", format!("http://{there}{}", asked.path));
        }
        served.answer(asked)
    });
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let mut options = PullOptions::default();
    options.plain_http = vec![server.host()];
    options.credentials = Some(Credentials { user: "me".into(), password: "secret".into() });
    storage.pull(&format!("{}/library/app", server.host()), &options).unwrap();
    assert_eq!(elsewhere.asked().len(), 4);
    for asked in elsewhere.asked() {
        assert_eq!(asked.header("authorization"), None, "{asked:?}");
    }
}

/// A registry that is reached over the network may not have us ask inside it.
#[test]
fn a_token_server_inside_is_not_believed() {
    for realm in ["http://169.254.169.254/token", "http://[::1]:1/token", "http://10.0.0.1/t", "ftp://x/", "nonsense"] {
        let bench = Bench::new(move |_, _, _| {
            Answer::new(401, "").header("www-authenticate", format!("Bearer realm=\"{realm}\""))
        });
        let error = bench.pull().expect_err(realm);
        assert_eq!(error.status(), Status::Registry, "{realm}: {error}");
    }
}

/// Several who want the same image: each blob once.
#[test]
fn together_they_fetch_once() {
    let bench = Bench::honest();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| bench.assert_pulled_by(&bench.pull().unwrap()));
        }
    });
    for layer in &bench.content.layers {
        assert_eq!(bench.server.count(&layer.to_string()), 1);
    }
    bench.assert_pulled(&bench.pull().unwrap());
}

impl Bench {
    fn assert_pulled_by(&self, image: &Image) {
        assert_eq!(image.missing, []);
    }
}
