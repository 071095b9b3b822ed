//! 1H: what a layer may cost.

use std::time::{Duration, Instant};

use boxlite_images::{
    Anomalies, Cancel, Digest, ExtractOptions, Interrupt, LayerLimits, ProgressCallback, Status, limits,
};

use super::super::archive::{Archive, Header, gzip, pax_record};
use super::super::support::{
    as_each_user_capped, in_own_process, is_in_time, is_root, leftovers, process_time, put_layer, quick_store, run,
    skip, temp_dir, thread_time,
};
use super::{Bench, Case, Outcome, case, fails, seen};

fn a() -> Archive {
    Archive::new()
}

pub fn cases() -> Vec<Case> {
    let sized = |size: &[u8]| a().pax(&[("size", size)]).raw_entry(Header::new(b'0', b"f"), b"").finish();
    let many = |count: usize, add: &dyn Fn(Archive, String) -> Archive| {
        (0..count).fold(a(), |archive, i| add(archive, format!("{i:06}"))).finish()
    };
    let links =
        (0..40).fold(a().dir(b"d"), |a, i| a.symlink(format!("l{i}").as_bytes(), format!("l{}", i + 1).as_bytes()));
    let farm = (0..2000).fold(links.symlink(b"l40", b"d"), |a, i| a.file(format!("l1/{i}").as_bytes(), b""));
    vec![
        case(
            "129 5,000 empty files in one directory",
            many(5000, &|a, i| a.file(i.as_bytes(), b"")),
            Outcome::Accepted,
        ),
        case("129 5,000 directories in one directory", many(5000, &|a, i| a.dir(i.as_bytes())), Outcome::Accepted),
        case("130 a file of 1 EiB", sized(b"1152921504606846976"), fails(Status::Limit)),
        case("130 a size that overflows", sized(b"18446744073709551615"), fails(Status::Limit)),
        case("132 a farm of symlinks", farm.finish(), seen(|seen| assert!(seen.has("d/1999")))),
        case("135 a name that would write on a terminal", a().file(b"\x1b[2J\n../x", b"").finish(), Outcome::Contained),
        case(
            "135 a keyword that would write on a terminal",
            a().pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.\x1b[2J\n", b"0")]).file(b"f", b"").finish(),
            fails(Status::Malformed),
        ),
        case(
            "135 a keyword like it in a global header",
            a().raw_entry(Header::new(b'g', b"g"), &pax_record("GNU.sparse.\x1b\n", b"0")).file(b"f", b"").finish(),
            fails(Status::Malformed),
        ),
        case(
            "135 a long name in an error",
            a().pax(&[("path", &[b'.'; 60_000])]).file(b"x", b"").finish(),
            fails(Status::Limit),
        ),
    ]
}

/// Each limit can be set, holds, and is named with both values.
#[test]
fn family_129_each_limit_is_settable_and_named() {
    let long_link = |n: usize| a().pax(&[("linkpath", &vec![b't'; n])]).symlink(b"l", b"x").finish();
    let xattrs = |n: usize, size: usize| {
        let keys: Vec<String> = (0..n).map(|i| format!("SCHILY.xattr.user.{i}")).collect();
        let value = vec![b'v'; size];
        let records: Vec<(&str, &[u8])> = keys.iter().map(|key| (key.as_str(), &value[..])).collect();
        a().pax(&records).file(b"f", b"").finish()
    };
    let hops = a().symlink(b"a", b"b").symlink(b"b", b"c").dir(b"c").file(b"a/f", b"").finish();
    let sparse = "0,1,10,1,20,1";
    let sparse = a()
        .pax(&[("GNU.sparse.size", b"100"), ("GNU.sparse.numblocks", b"3"), ("GNU.sparse.map", sparse.as_bytes())])
        .file(b"f", b"abc")
        .finish();
    let deep = a().file(b"a/b/c/d", b"").finish();
    let files = (0..100).fold(a(), |a, i| a.dir(format!("directory-{i}").as_bytes())).finish();
    let zeros = gzip(&a().file(b"f", &vec![0; 70 << 20]).finish());
    let big_window = {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(24).unwrap();
        std::io::Write::write_all(&mut encoder, &a().file(b"f", &vec![b'x'; 40 << 20]).finish()).unwrap();
        encoder.finish().unwrap()
    };
    let set = |change: &dyn Fn(&mut LayerLimits)| {
        let mut limits = LayerLimits::default();
        change(&mut limits);
        limits
    };
    let cases: Vec<(&str, Vec<u8>, LayerLimits)> = vec![
        ("layer_bytes", a().file(b"f", &[0; 5000]).finish(), set(&|l| l.layer_bytes = 4999)),
        ("compression_ratio", zeros, set(&|l| l.compression_ratio = 10)),
        ("entries", files.clone(), set(&|l| l.entries = 99)),
        ("name_component_bytes", a().file(b"abcdef", b"").finish(), set(&|l| l.name_component_bytes = 5)),
        ("path_depth", deep.clone(), set(&|l| l.path_depth = 3)),
        ("path_bytes", deep.clone(), set(&|l| l.path_bytes = 6)),
        ("header_metadata_bytes", xattrs(1, 100), set(&|l| l.header_metadata_bytes = 100)),
        (
            "stacked_headers",
            a().pax(&[("comment", b"x")]).pax(&[("comment", b"x")]).file(b"f", b"").finish(),
            set(&|l| l.stacked_headers = 1),
        ),
        ("sparse_chunks", sparse, set(&|l| l.sparse_chunks = 2)),
        ("symlink_target_bytes", long_link(10), set(&|l| l.symlink_target_bytes = 9)),
        ("symlink_hops", hops.clone(), set(&|l| l.symlink_hops = 1)),
        ("symlink_steps", hops, set(&|l| l.symlink_steps = 1)),
        (
            "directory_steps",
            a().file(&b"d/".repeat(45), b"").file(&[&b"d/".repeat(45)[..], b"f"].concat(), b"").finish(),
            set(&|l| l.directory_steps = 10),
        ),
        ("xattr_value_bytes", xattrs(1, 100), set(&|l| l.xattr_value_bytes = 99)),
        ("xattrs", xattrs(3, 1), set(&|l| l.xattrs = 2)),
        ("xattrs_bytes", xattrs(3, 100), set(&|l| l.xattrs_bytes = 200)),
        (
            "kept_metadata_bytes",
            a().pax(&[("path", &b"directory-with-a-long-name/".repeat(30))]).file(b"x", b"").finish(),
            set(&|l| l.kept_metadata_bytes = 100),
        ),
        ("record_bytes", files, set(&|l| l.record_bytes = 2000)),
        ("zstd_window_log", big_window, set(&|l| l.zstd_window_log = 20)),
    ];
    for (field, layer, limits_) in &cases {
        let row = limits::ALL.iter().find(|row| row.field == Some(field)).unwrap_or_else(|| panic!("no limit {field}"));
        let bench = Bench::new();
        let mut options = ExtractOptions::default();
        options.tree.limits = limits_.clone();
        let error = bench.extract(field, layer, &options).0.expect_err(field);
        assert_eq!(error.status(), Status::Limit, "{field}: {error}");
        assert!(error.message().contains(&format!("{} limit is ", row.name)), "{field}: {error}");
        // With the defaults the same layer is fine.
        bench.extract(field, layer, &ExtractOptions::default()).0.unwrap_or_else(|error| panic!("{field}: {error}"));
    }
    let covered: Vec<_> = cases.iter().map(|(field, ..)| *field).collect();
    for row in limits::ALL {
        assert!(row.field.is_none_or(|field| covered.contains(&field)), "{} has no case", row.name);
    }
}

/// Work grows with the size of the input, and not with its square.
#[test]
fn family_60_opaque_markers_are_linear() {
    let layer = |n: usize| {
        (0..n).fold(a(), |archive, i| {
            archive.file(format!("d{i}/.wh..wh..opq").as_bytes(), b"").file(format!("d{i}/f").as_bytes(), b"")
        })
    };
    let time = |n: usize| {
        let blob = layer(n).finish();
        let bench = Bench::new();
        let digest = put_layer(&bench.storage, &blob);
        let before = process_time();
        bench.storage.extract_layer(&digest, &ExtractOptions::default()).unwrap();
        (process_time() - before).as_secs_f64()
    };
    in_own_process("families::resources::family_60_opaque_markers_are_linear", || {
        let (small, large) = (time(1000), time(10_000));
        // Ten times the work; a square would be a hundred times.
        assert!(large / small < 30.0, "{small} s of the processor for 1,000, {large} s for 10,000");
    });
}

#[test]
fn family_62_layers_unpacked_side_by_side_are_the_same() {
    let layers: Vec<Vec<u8>> = (0..8)
        .map(|i| {
            (0..200)
                .fold(a(), |a, k| {
                    a.file(format!("d{k}/{i}").as_bytes(), b"x").file(format!("d{k}/.wh.o{i}").as_bytes(), b"")
                })
                .finish()
        })
        .collect();
    let trees = |parallel: bool| {
        let bench = Bench::new();
        let digests: Vec<Digest> = layers.iter().map(|layer| put_layer(&bench.storage, layer)).collect();
        let extract =
            |digest: &Digest| bench.storage.extract_layer(digest, &ExtractOptions::default()).map(drop).unwrap();
        std::thread::scope(|scope| {
            for digest in &digests {
                let thread = scope.spawn(move || extract(digest));
                if !parallel {
                    thread.join().unwrap();
                }
            }
        });
        digests
            .iter()
            .map(|digest| super::super::tree::snapshot(&bench.storage.layer_extracted_path(digest)))
            .collect::<Vec<_>>()
    };
    assert_eq!(trees(false), trees(true));
}

/// The callback is asked on the caller's thread, sees numbers grow, and can end the call wherever it is.
#[test]
fn families_133_134_an_extraction_can_be_ended_at_any_entry() {
    as_each_user_capped(
        "families::resources::families_133_134_an_extraction_can_be_ended_at_any_entry",
        || (),
        |()| {
            let layer =
                (0..3000).fold(a(), |archive, i| archive.file(format!("d{}/f{i}", i % 50).as_bytes(), &[b'x'; 600]));
            let layer = gzip(&layer.file(b"large", &vec![b'y'; 5 << 20]).finish());
            let bench = Bench::new();
            let fds = || std::fs::read_dir("/proc/self/fd").unwrap().count();
            let digest = put_layer(&bench.storage, &layer);
            let before = fds();
            let mut calls = 1;
            for stop_after in 0.. {
                let mut options = ExtractOptions::default();
                let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
                let (caller, on_call) = (std::thread::current().id(), seen.clone());
                options.progress = Some(ProgressCallback::new(move |progress| {
                    assert_eq!(std::thread::current().id(), caller);
                    let mut seen = on_call.lock().unwrap();
                    seen.push(*progress);
                    if seen.len() > stop_after {
                        std::ops::ControlFlow::Break(())
                    } else {
                        std::ops::ControlFlow::Continue(())
                    }
                }));
                let result = bench.storage.extract_layer(&digest, &options);
                let seen = seen.lock().unwrap();
                assert!(seen.is_sorted_by_key(|p| (p.entries, p.bytes_out)) && seen.is_sorted_by_key(|p| p.bytes_in));
                assert_eq!(leftovers(bench.storage.images_dir()), [""; 0]);
                match result {
                    Err(error) => assert_eq!(error.status(), Status::Callback, "{error}"),
                    Ok(done) => {
                        assert_eq!(seen.last().map(|p| (p.entries, p.bytes_out)), Some((done.entries, done.bytes_out)));
                        break;
                    }
                }
                assert!(!bench.storage.layer_extracted_path(&digest).exists());
                calls += 1;
            }
            assert!(calls > 10, "only {calls} calls");
            assert_eq!(fds(), before, "file descriptors leaked");
        },
    );
}

/// Nothing is looked up from where the process stands.
#[test]
fn family_34_the_working_directory_has_no_say() {
    in_own_process("families::resources::family_34_the_working_directory_has_no_say", || {
        let bench = Bench::new();
        let here = bench.canary.target().join("here");
        std::fs::create_dir(&here).unwrap();
        std::fs::write(here.join("sentinel"), "outside").unwrap();
        std::env::set_current_dir(&here).unwrap();
        let layer = a().hardlink(b"l", b"sentinel").symlink(b"s", b"here").file(b"s/x", b"1").file(b"f", b"2").finish();
        let seen = bench.see("34", &layer, &ExtractOptions::default());
        assert!(!seen.has("l") && seen.has_anomaly(Anomalies::LOWER_LINK));
        assert_eq!(std::fs::read_to_string("sentinel").unwrap(), "outside");
        assert_eq!(std::fs::read_dir(".").unwrap().count(), 1);
    });
}

/// Bytes are left, inodes are not.
#[test]
fn family_131_a_file_system_without_inodes_is_full() {
    if !is_root() {
        return skip("mounting a small file system needs root");
    }
    let dir = temp_dir();
    run(
        "mount",
        &["-t", "tmpfs", "-o", "size=64m,nr_inodes=200", "none"]
            .map(std::ffi::OsStr::new)
            .into_iter()
            .chain([dir.path().as_os_str()])
            .collect::<Vec<_>>(),
    );
    let layer = (0..1000).fold(a(), |archive, i| archive.file(format!("d{}/f{i}", i % 7).as_bytes(), b"x")).finish();
    let storage = quick_store(&dir.path().join("store"));
    let digest = put_layer(&storage, &layer);
    let error = storage.extract_layer(&digest, &ExtractOptions::default()).unwrap_err();
    let left = leftovers(storage.images_dir());
    drop(storage);
    run("umount", &[dir.path().as_os_str()]);
    assert_eq!((error.status(), left.len()), (Status::NoSpace, 0), "{error}");
}

/// The promise is 100 ms; what is asserted is how little is done in them, which no other load changes. It is cancelled on the
/// thread that reads the layer.
#[test]
fn family_134_a_cancel_is_heard_soon() {
    let layer = (0..20_000).fold(a(), |archive, i| archive.file(format!("f{i}").as_bytes(), b"x")).finish();
    let bench = Bench::new();
    let digest = put_layer(&bench.storage, &layer);
    let (cancel, at) = (Cancel::new(), std::sync::Arc::new(std::sync::Mutex::new(None)));
    let mut options = ExtractOptions::default();
    options.interrupt = Interrupt::new(Some(cancel.clone()), None);
    let triggered = at.clone();
    options.progress = Some(ProgressCallback::new(move |progress| {
        if progress.entries > 500 {
            triggered.lock().unwrap().get_or_insert_with(thread_time);
            cancel.trigger();
        }
        std::ops::ControlFlow::Continue(())
    }));
    let result = bench.storage.extract_layer(&digest, &options);
    assert_eq!(result.unwrap_err().status(), Status::Cancelled);
    let after = thread_time() - at.lock().unwrap().unwrap();
    assert!(after < Duration::from_millis(100), "{after:?} of the processor");
    // And by the clock, from another thread.
    let is_heard = is_in_time(Duration::from_millis(100), || {
        let cancel = Cancel::new();
        let mut options = ExtractOptions::default();
        options.interrupt = Interrupt::new(Some(cancel.clone()), None);
        std::thread::scope(|scope| {
            let extraction = scope.spawn(|| (bench.storage.extract_layer(&digest, &options).is_err(), Instant::now()));
            std::thread::sleep(Duration::from_millis(20));
            let triggered = Instant::now();
            cancel.trigger();
            let (is_ended, ended) = extraction.join().unwrap();
            // One that was through already tells nothing, and is done again.
            if is_ended { ended - triggered } else { Duration::MAX }
        })
    });
    assert!(is_heard, "not within 100 ms, ever");
}
