//! What registries do on the way: the rules of a transfer, and every way not to keep them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use boxlite_images::{Cancel, Digest, Interrupt, Status};

use super::super::support::{is_in_time, quick_store, side_by_side, temp_dir, watchdog, watched};
use super::content::{Content, MANIFEST};
use super::server::{Answer, Asked, Ending, Server};
use super::{Bench, Change, impatient, options_for};

/// Whether this is the answer to a request for a layer.
fn is_layer(asked: &Asked, answer: &Answer) -> bool {
    asked.path.contains("/blobs/") && answer.body.len() > 10_000
}

/// Servers that misbehave for a while, and with which a pull succeeds all the same.
#[test]
fn what_passes_is_waited_for() {
    let cases: [(&str, Change); 22] = [
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
        ("a connection that is reset", |_, before, answer| match before {
            0 => answer.ending(Ending::ResetAt(100)),
            _ => answer,
        }),
        ("a request that took too long", |_, before, answer| match before {
            0 => Answer::new(408, ""),
            1 => Answer::new(504, ""),
            _ => answer,
        }),
        ("a server that says until when", |_, before, answer| match before {
            0 => Answer::new(503, "").header("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"),
            _ => answer,
        }),
        ("another range than was asked for", |asked, before, answer| match before {
            0 if is_layer(asked, &answer) => answer.ending(Ending::CutAt(1000)),
            1 if answer.status == 206 => answer.replaced("content-range", "bytes 7-1233/1234"),
            _ => answer,
        }),
        ("a range of something of another size", |asked, before, answer| match before {
            0 if is_layer(asked, &answer) => answer.ending(Ending::CutAt(1000)),
            1 if answer.status == 206 => answer.replaced("content-range", "bytes 1000-1233/1234"),
            _ => answer,
        }),
        ("a part that says not which", |asked, before, answer| match before {
            0 if is_layer(asked, &answer) => answer.ending(Ending::CutAt(1000)),
            1 if answer.status == 206 => answer.without("content-range"),
            _ => answer,
        }),
        ("a part that was not asked for", |asked, before, answer| match before {
            0 if is_layer(asked, &answer) => Answer { status: 206, ..answer },
            _ => answer,
        }),
        ("a range that cannot be had", |asked, before, answer| match before {
            0 if is_layer(asked, &answer) => answer.ending(Ending::CutAt(1000)),
            1 if answer.status == 206 => Answer::new(416, ""),
            _ => answer,
        }),
        ("a blob that changed in the middle", |asked, before, answer| match before {
            0 if is_layer(asked, &answer) => Answer { body: vec![9; answer.body.len()], ..answer }
                .header("etag", "\"a\"")
                .ending(Ending::CutAt(1000)),
            _ => answer.header("etag", "\"b\""),
        }),
        ("a blob that breaks off again and again", |asked, _, answer| {
            let length = answer.body.len().min(60_000);
            if asked.path.contains("/blobs/") && answer.body.len() > length {
                answer.ending(Ending::CutAt(length))
            } else {
                answer
            }
        }),
        ("redirects", |asked, _, answer| match asked.path.split_once("?hops=") {
            Some((_, "4")) => answer,
            Some((path, hops)) => {
                let hops: u32 = hops.parse().unwrap();
                let status = [301, 302, 303, 307][hops as usize];
                Answer::new(status, "").header("location", format!("{path}?hops={}", hops + 1))
            }
            None => Answer::new(308, "").header("location", format!("{}?hops=0", asked.path)),
        }),
        ("a blob with an ETag", |_, before, answer| match before {
            0 => answer.header("etag", "\"a\"").ending(Ending::CutAt(50)),
            _ => answer.header("etag", "\"a\""),
        }),
        ("a Content-Encoding that is none", |_, _, answer| answer.header("content-encoding", "identity")),
    ];
    side_by_side(cases, |(what, change)| {
        let bench = Bench::new(change);
        let is_silent = what.ends_with("stalls");
        let options = if is_silent { impatient(bench.options()) } else { bench.options() };
        let image = bench.storage.pull(&bench.reference(), &options).unwrap_or_else(|error| panic!("{what}: {error}"));
        bench.assert_pulled(&image);
    });
}

/// Servers that lie or refuse: the status, and nothing that is visible and wrong.
#[test]
fn what_is_wrong_is_refused() {
    let cases: [(&str, Status, Change); 33] = [
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
        ("a layer that is too short", Status::SizeMismatch, |asked, _, answer| {
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
        ("one redirect too many", Status::Registry, |asked, _, answer| {
            let hops = asked.path.split_once("?hops=").map_or(0, |(_, hops)| hops.parse().unwrap());
            let path = asked.path.split('?').next().unwrap();
            if hops == 6 {
                answer
            } else {
                Answer::new(307, "").header("location", format!("{path}?hops={}", hops + 1))
            }
        }),
        ("a redirect without a target", Status::Registry, |_, _, _| Answer::new(302, "")),
        ("a redirect with a user", Status::Registry, |asked, _, _| {
            let target = format!("http://me:secret@{}/", asked.header("host").unwrap());
            Answer::new(302, "").header("location", target)
        }),
        ("headers without an end", Status::Limit, |_, _, answer| answer.header("x-long", "x".repeat(70_000))),
        ("a manifest that says that it is long", Status::Limit, |asked, _, answer| {
            if asked.path.contains("/manifests/") {
                Answer::new(200, "").header("content-length", "99999999").ending(Ending::SilentAt(0))
            } else {
                answer
            }
        }),
        ("another config than its digest", Status::DigestMismatch, |asked, _, mut answer| {
            if asked.path.contains("/blobs/") && answer.body.len() < 1000 {
                answer.body[1] ^= 1;
            }
            answer
        }),
        ("a config of another size", Status::SizeMismatch, |asked, _, mut answer| {
            if asked.path.contains("/blobs/") && answer.body.len() < 1000 {
                answer.body.push(b' ');
            }
            answer
        }),
        ("a bad request", Status::Registry, |_, _, _| {
            Answer::new(400, r#"{"errors":[{"code":"NAME_INVALID","message":"no"}]}"#)
        }),
        ("gone", Status::Registry, |_, _, _| Answer::new(410, "")),
        ("busy for ever", Status::RateLimited, |_, _, _| Answer::new(429, "").header("retry-after", "0")),
        ("broken for ever", Status::Registry, |_, _, _| Answer::new(503, "").header("retry-after", "0")),
        ("no range can ever be had", Status::Registry, |asked, _, answer| {
            if is_layer(asked, &answer) { Answer::new(416, "") } else { answer }
        }),
        ("a blob that changes each time", Status::Registry, |asked, before, answer| {
            if asked.path.contains("/blobs/") && answer.body.len() > 10_000 {
                answer.header("etag", format!("\"{before}\"")).ending(Ending::CutAt(10))
            } else {
                answer
            }
        }),
        ("garbage for ever", Status::Network, |_, _, answer| answer.ending(Ending::Garbage)),
        ("reset for ever", Status::Network, |_, _, answer| answer.ending(Ending::ResetAt(0))),
        ("schema 1", Status::Unsupported, |asked, _, answer| {
            if asked.path.contains("/manifests/") {
                Answer::new(200, r#"{"schemaVersion":1,"fsLayers":[],"history":[]}"#)
                    .header("content-type", "application/vnd.docker.distribution.manifest.v1+prettyjws")
            } else {
                answer
            }
        }),
    ];
    side_by_side(cases, |(what, status, change)| {
        let bench = Bench::new(change);
        let options = if what == "silence" { impatient(bench.options()) } else { bench.options() };
        let error = bench.storage.pull(&bench.reference(), &options).expect_err(what);
        assert_eq!(error.status(), status, "{what}: {error}");
        assert!(error.message().contains("/library/app"), "{what}: {error} does not name the image");
        bench.assert_nothing();
    });
}

/// Documents that do not fit each other, or what they speak of: an honest registry with a dishonest image.
#[test]
fn images_that_are_wrong_are_refused() {
    use super::super::archive::Archive;
    let tar = Archive::new().file(b"f", b"1").finish();
    let layer = super::super::archive::gzip(&tar);
    let (good, other) = (Digest::of(&tar), Digest::of(b"other"));
    let descriptor = |kind: &str, bytes: &[u8]| {
        let digest = Digest::of(bytes);
        format!(r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{}}}"#, bytes.len())
    };
    let config = |diff_ids: &str| format!(r#"{{"os":"linux","rootfs":{{"type":"layers","diff_ids":[{diff_ids}]}}}}"#);
    let one = format!("\"{good}\"");
    let (of_layer, of_garbage) = (descriptor("layer.v1.tar+gzip", &layer), descriptor("layer.v1.tar", b"garbage"));
    let missing = format!(
        r#"{{"mediaType":"{}","digest":"{}","size":3,"urls":["http://127.0.0.1:1/foreign"]}}"#,
        "application/vnd.oci.image.layer.v1.tar",
        Digest::of(b"abc")
    );
    let foreign = missing.replace("layer.v1", "layer.nondistributable.v1");
    let long = of_layer.replace(&format!("\"size\":{}", layer.len()), "\"size\":99999");
    let short = of_layer.replace(&format!("\"size\":{}", layer.len()), "\"size\":10");
    let huge = of_layer.replace(&format!("\"size\":{}", layer.len()), "\"size\":99999999999999");
    for (what, diff_ids, layers, extra, status) in [
        ("what is right", one.clone(), of_layer.clone(), "", None),
        ("no layers", String::new(), String::new(), "", None),
        ("another diff_id", format!("\"{other}\""), of_layer.clone(), "", Some(Status::DigestMismatch)),
        ("more diff_ids than layers", format!("{one},{one}"), of_layer.clone(), "", Some(Status::Malformed)),
        ("more layers than diff_ids", one.clone(), format!("{of_layer},{of_layer}"), "", Some(Status::Malformed)),
        ("a layer that is none", format!("\"{}\"", Digest::of(b"garbage")), of_garbage, "", Some(Status::Malformed)),
        ("a layer that is elsewhere", format!("\"{other}\""), missing, "", Some(Status::NotFound)),
        ("a foreign layer", format!("\"{other}\""), foreign, "", Some(Status::Unsupported)),
        ("a layer that is shorter than it says", one.clone(), long, "", Some(Status::SizeMismatch)),
        ("a layer that is longer than it says", one.clone(), short, "", Some(Status::SizeMismatch)),
        ("a layer that no disk holds", one.clone(), huge, "", Some(Status::Limit)),
        ("an index too", one.clone(), of_layer.clone(), r#","manifests":[]"#, Some(Status::Malformed)),
        ("layers twice", one.clone(), of_layer.clone(), r#","layers":[]"#, Some(Status::Malformed)),
    ] {
        let config = config(&diff_ids);
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{layers}]{extra}}}"#,
            descriptor("config.v1+json", config.as_bytes())
        );
        let latest = Digest::of(manifest.as_bytes()).to_string();
        let mut content = Content { latest, ..Content::default() };
        content.manifests.insert(content.latest.clone(), (MANIFEST, manifest.into_bytes()));
        for blob in [config.into_bytes(), layer.clone(), b"garbage".to_vec()] {
            content.blobs.insert(Digest::of(&blob).to_string(), blob);
        }
        let server = Server::new(move |asked, _| content.answer(asked));
        let dir = temp_dir();
        let storage = quick_store(dir.path());
        let result = storage.pull(&format!("{}/library/app", server.host()), &options_for(&server));
        assert_eq!(result.as_ref().err().map(|error| error.status()), status, "{what}: {result:?}");
        assert_eq!(storage.images().unwrap().len(), usize::from(status.is_none()));
        assert_eq!(storage.check(&Default::default()).unwrap().findings, [], "{what}");
    }
}

/// A large blob over a slow connection comes in parts over several, where the server gives ranges.
/// Whatever it does to them, the blob arrives or the pull ends.
#[test]
fn a_slow_blob_comes_in_parts() {
    let noise: Vec<u8> = (0..3_000_000u32).flat_map(|i| i.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    let mut content = Content::default();
    content.image(&[super::super::archive::Archive::new().file(b"noise", &noise).finish()]);
    content.latest = content.manifests.keys().next().unwrap().clone();
    let content = std::sync::Arc::new(content);
    type Change = fn(&Asked, usize, Answer) -> Answer;
    let cases: [(&str, bool, Change); 5] = [
        ("as it should be", true, |_, _, answer| answer),
        ("no ranges", false, |_, _, answer| answer.without("accept-ranges")),
        ("other parts than were asked for", true, |asked, _, answer| match asked.range().1 {
            Some(_) => answer.replaced("content-range", "bytes 1-2/3"),
            None => answer,
        }),
        ("parts that break off", true, |asked, _, answer| match asked.range().1 {
            Some(_) => answer.ending(Ending::CutAt(1000)),
            None => answer,
        }),
        ("all of it for each part", true, |asked, _, mut answer| {
            if asked.range().1.is_some() {
                answer.status = 200;
            }
            answer
        }),
    ];
    for (what, is_in_parts, change) in cases {
        let served = content.clone();
        let server = Server::new(move |asked, before| {
            let answer = change(asked, before, served.answer(asked));
            if asked.path.contains("/blobs/") && asked.range().1.is_none() && answer.body.len() > 1000 {
                answer.ending(Ending::Slow)
            } else {
                answer
            }
        });
        let dir = temp_dir();
        let storage = quick_store(dir.path());
        let image = storage.pull(&format!("{}/library/app", server.host()), &options_for(&server));
        let image = image.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(image.missing, []);
        assert_eq!(storage.check(&Default::default()).unwrap().findings, []);
        let parts: Vec<_> = server.asked().iter().filter_map(|asked| asked.range().1).collect();
        assert_eq!(!parts.is_empty(), is_in_parts, "{what}: {parts:?}");
        if what == "as it should be" {
            // Together they are the rest, each once.
            let mut ranges: Vec<_> =
                server.asked().iter().filter(|asked| asked.range().1.is_some()).map(Asked::range).collect();
            ranges.sort();
            let size = content.blobs.values().map(Vec::len).max().unwrap();
            assert_eq!(ranges.last().unwrap().1, Some(size));
            assert!(ranges.windows(2).all(|pair| pair[0].1 == Some(pair[1].0)), "{ranges:?}");
            assert!(ranges.len() > 4, "{ranges:?}");
        }
    }
}

/// A server that sends a byte now and then never goes silent; the caller's deadline ends it.
#[test]
fn what_trickles_is_ended_by_the_deadline() {
    for part in ["/manifests/", "/blobs/"] {
        let bench = Bench::new(
            move |asked, _, answer| {
                if asked.path.contains(part) { answer.ending(Ending::Trickling) } else { answer }
            },
        );
        let mut options = bench.options();
        options.interrupt = Interrupt::new(None, Some(Duration::from_millis(500)));
        let error = watched(part, || bench.storage.pull(&bench.reference(), &options).unwrap_err());
        assert_eq!(error.status(), Status::Timeout, "{error}");
        bench.assert_nothing();
    }
}

/// Nor does it keep a blob from others for ever, where the caller set no deadline.
#[test]
fn what_trickles_is_given_up() {
    let bench = Bench::new(
        |asked, _, answer| {
            if asked.path.contains("/blobs/") { answer.ending(Ending::Trickling) } else { answer }
        },
    );
    let mut options = bench.options();
    options.stall_timeout = Some(Duration::from_millis(200));
    let error = bench.storage.pull(&bench.reference(), &options).unwrap_err();
    assert_eq!(error.status(), Status::Timeout, "{error}");
    bench.assert_nothing();
}

/// A collection that takes long keeps what is fetched from being stored, and the pull from ending for no longer than it
/// is told to.
#[test]
fn a_wait_for_a_collection_ends() {
    for part in ["/manifests/sha256:", "/blobs/"] {
        let place: Arc<OnceLock<PathBuf>> = Arc::default();
        let (known, held) = (place.clone(), Mutex::new(None));
        let bench = Bench::new(move |asked, _, answer| {
            if asked.path.contains(part) {
                held.lock().unwrap().get_or_insert_with(|| {
                    let lock = std::fs::File::open(known.get().unwrap()).unwrap();
                    lock.lock().unwrap();
                    lock
                });
            }
            answer
        });
        place.set(bench.dir.path().join("locks/collection")).unwrap();
        let mut options = bench.options();
        options.interrupt = Interrupt::new(None, Some(Duration::from_secs(3)));
        let error = watched(part, || bench.storage.pull(&bench.reference(), &options).unwrap_err());
        assert_eq!(error.status(), Status::Timeout, "{part}: {error}");
        assert!(error.message().contains("locks/collection"), "{part}: {error}");
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
    let mut options = bench.options();
    options.stall_timeout = None;
    let is_heard = is_in_time(Duration::from_millis(200), || {
        let cancel = Cancel::new();
        options.interrupt = Interrupt::new(Some(cancel.clone()), None);
        let canceller = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            cancel.trigger();
            Instant::now()
        });
        let error = watched("a pull", || bench.storage.pull(&bench.reference(), &options).unwrap_err());
        assert_eq!(error.status(), Status::Cancelled, "{error}");
        canceller.join().unwrap().elapsed()
    });
    assert!(is_heard, "not within 200 ms, ever");
    bench.assert_nothing();
    options.interrupt = Interrupt::new(None, Some(Duration::from_millis(200)));
    assert_eq!(bench.storage.pull(&bench.reference(), &options).unwrap_err().status(), Status::Timeout);
}

/// Answers without an end, of each kind, cost neither memory nor time: in a process that may not have much of the first.
#[test]
fn endless_answers_are_bounded() {
    fn bounded(cases: Vec<(&'static str, Server)>) {
        for (what, server) in &cases {
            let dir = temp_dir();
            let mut options = options_for(server);
            options.interrupt = Interrupt::new(None, Some(watchdog()));
            let error =
                quick_store(dir.path()).pull(&format!("{}/library/app", server.host()), &options).expect_err(what);
            assert!(
                matches!(error.status(), Status::Limit | Status::SizeMismatch | Status::NotFound | Status::Network),
                "{what}: {error}"
            );
        }
    }
    let endless = |part: &'static str| {
        let content = Content::new();
        Server::new(move |asked, _| {
            let answer = content.answer(asked);
            if !asked.path.contains(part) {
                return answer;
            }
            Answer::new(answer.status, vec![b' '; 1 << 20]).ending(Ending::Endless)
        })
    };
    let prepare = || {
        let content = Content::new();
        let challenge = Server::new(move |asked, _| {
            if asked.path.starts_with("/token") {
                return Answer::new(200, vec![b' '; 1 << 20]).ending(Ending::Endless);
            }
            let realm = format!("Bearer realm=\"http://{}/token\"", asked.header("host").unwrap());
            Answer::new(401, "").header("www-authenticate", realm)
        });
        let errors = Server::new(|_, _| Answer::new(404, vec![b' '; 1 << 20]).ending(Ending::Endless));
        let headers = Server::new(move |asked, _| content.answer(asked).header("x", "y".repeat(300_000)));
        vec![
            ("a manifest", endless("/manifests/")),
            ("a blob", endless("/blobs/")),
            ("a token", challenge),
            ("headers", headers),
            ("an error", errors),
        ]
    };
    super::super::support::as_each_user_capped("pull::transfers::endless_answers_are_bounded", prepare, bounded);
}
