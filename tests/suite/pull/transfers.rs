//! What registries do on the way: the rules of a transfer, and every way not to keep them.

use std::time::{Duration, Instant};

use boxlite_images::{Cancel, Interrupt, Status};

use super::content::{Content, MANIFEST};
use super::server::{Answer, Ending};
use super::{Bench, Change};

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
