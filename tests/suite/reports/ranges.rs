//! Report 4 (registry.k8s.io#333): what broke once is asked for again and again. A layer breaks
//! off, and the server refuses to send the rest. That refusal ends this pull and every later one,
//! although it would send all of it.

use boxlite_images::Status;

use super::super::pull::Bench;
use super::super::pull::content::Content;
use super::super::pull::server::{Answer, Asked, Ending};
use super::super::support::{names_in, side_by_side};

/// The layer that breaks off.
fn is_it(asked: &Asked) -> bool {
    asked.path.ends_with(&Content::new().layers[0].to_string())
}

fn ranges_asked_for(bench: &Bench) -> Vec<Option<usize>> {
    let asked = bench.server.asked();
    let start = |asked: &Asked| asked.header("range").map(|_| asked.range_start());
    asked.iter().filter(|asked| is_it(asked)).map(start).collect()
}

/// One pull: the rest is asked for once, and then all of it.
#[test]
fn a_refusal_of_the_rest_is_forgotten() {
    side_by_side([400, 403, 404, 405, 406, 410, 411, 416, 501], |status| {
        let bench = Bench::new(move |asked, before, answer| match (is_it(asked), before) {
            (true, 0) => answer.ending(Ending::CutAt(100_000)),
            (true, _) if asked.header("range").is_some() => Answer::new(status, ""),
            _ => answer,
        });
        let image = bench.pull().unwrap_or_else(|error| panic!("{status}: {error}"));
        bench.assert_pulled(&image);
        assert_eq!(ranges_asked_for(&bench), [None, Some(100_000), None], "{status}");
    });
}

/// What may pass is no refusal: the rest is asked for again.
#[test]
fn what_passes_is_no_refusal() {
    side_by_side([408, 429, 500, 502, 503, 504], |status| {
        let bench = Bench::new(move |asked, before, answer| match (is_it(asked), before) {
            (true, 0) => answer.ending(Ending::CutAt(100_000)),
            (true, 1) => Answer::new(status, "").header("retry-after", "0"),
            _ => answer,
        });
        bench.assert_pulled(&bench.pull().unwrap_or_else(|error| panic!("{status}: {error}")));
        assert_eq!(ranges_asked_for(&bench), [None, Some(100_000), Some(100_000)], "{status}");
    });
}

/// Several pulls: one that found ranges refused leaves nothing for the next to stumble over. What
/// an earlier one left is dropped at the first refusal.
#[test]
fn a_refusal_does_not_outlive_its_pull() {
    for status in [403, 501] {
        // It always breaks off, and never gives the rest, until it is well.
        let well = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let is_well = well.clone();
        let bench = Bench::new(move |asked, _, answer| match is_it(asked) {
            true if asked.header("range").is_some() => Answer::new(status, ""),
            true if !is_well.load(std::sync::atomic::Ordering::Relaxed) => answer.ending(Ending::CutAt(100_000)),
            _ => answer,
        });
        let error = bench.pull().unwrap_err();
        assert!(matches!(error.status(), Status::Network | Status::Denied | Status::Registry), "{error}");
        let kept: Vec<String> = names_in(&bench.storage.layers_dir());
        assert!(!kept.iter().any(|name| name.ends_with(".downloading")), "{kept:?}");
        well.store(true, std::sync::atomic::Ordering::Relaxed);
        let before = ranges_asked_for(&bench).len();
        bench.assert_pulled(&bench.pull().unwrap());
        assert_eq!(ranges_asked_for(&bench)[before..], [None], "{status}");
    }
}

/// A part that was left by a pull that ended otherwise is tried once and then dropped.
#[test]
fn what_an_earlier_pull_left_is_tried_once() {
    let refuses = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_refusing = refuses.clone();
    let bench = Bench::new(move |asked, _, answer| {
        let is_refusing = is_refusing.load(std::sync::atomic::Ordering::Relaxed);
        match is_it(asked) {
            true if asked.header("range").is_some() && is_refusing => Answer::new(403, ""),
            true if asked.header("range").is_some() => answer.ending(Ending::CutAt(0)),
            true if !is_refusing => answer.ending(Ending::CutAt(100_000)),
            _ => answer,
        }
    });
    assert_eq!(bench.pull().unwrap_err().status(), Status::Network);
    assert!(names_in(&bench.storage.layers_dir()).iter().any(|name| name.ends_with(".downloading")));
    refuses.store(true, std::sync::atomic::Ordering::Relaxed);
    let before = ranges_asked_for(&bench).len();
    bench.assert_pulled(&bench.pull().unwrap());
    assert_eq!(ranges_asked_for(&bench)[before..], [Some(100_000), None]);
}
