//! What a check finds, and what it leaves alone. (`faults::corruption` damages at random; these are the cases one by one.)

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use boxlite_images::{
    Cancel, CheckOptions, Digest, ExtractOptions, Finding, GcOptions, ImageName, Interrupt, Problem, Status, Storage,
    TreeForm, WhiteoutForm,
};

use super::archive::{Archive, Header, gzip};
use super::images::put_image;
use super::support::{as_each_user, names_in, put_layer, quick_store, record_of, temp_dir, wait_until, watched};

pub fn check(storage: &Storage) -> Vec<Finding> {
    storage.check(&CheckOptions::default()).unwrap().findings
}

pub fn repair() -> CheckOptions {
    let mut options = CheckOptions::default();
    options.repair = true;
    options
}

/// Everything that a layer can have.
fn layer() -> Vec<u8> {
    let archive = Archive::new()
        .dir(b"d")
        .entry(Header::new(b'0', b"d/set-id").mode(0o6755), b"x")
        .entry(Header::new(b'0', b"d/secret").mode(0), b"x")
        .entry(Header::new(b'5', b"closed").mode(0o500), b"")
        .symlink(b"d/link", b"../nowhere")
        .hardlink(b"same", b"d/set-id")
        .hardlink(b"lower", b"not/in/this/layer")
        .entry(Header::new(b'3', b"null").device(1, 3), b"")
        .entry(Header::new(b'6', b"fifo"), b"")
        .file(b"implied/by/its/file", b"x")
        .file(b"d/.wh.gone", b"")
        .file(b"d/.wh..wh..opq", b"")
        // A link to a marker that another one replaces; a whiteout whose name lower layers decide about.
        .file(b".wh.y", b"")
        .hardlink(b"was-marker", b".wh.y")
        .file(b".wh.y", b"")
        .file(b".wh.below", b"")
        .hardlink(b"below", b"not/in/this/layer/either")
        .file(b"twice", b"first")
        .file(b"twice", b"second");
    gzip(&archive.finish())
}

/// No form of a tree is taken for damaged, whoever unpacked it.
#[test]
fn what_was_just_unpacked_is_whole() {
    as_each_user("check::what_was_just_unpacked_is_whole", || {
        let dir = temp_dir();
        let storage = quick_store(dir.path());
        let digest = put_layer(&storage, &layer());
        let mut forms = 0;
        for whiteouts in [WhiteoutForm::Markers, WhiteoutForm::Overlay, WhiteoutForm::UserOverlay] {
            for override_stat in [false, true] {
                let mut form = TreeForm::default();
                (form.whiteouts, form.override_stat, form.device_nodes) = (whiteouts, override_stat, true);
                let mut options = ExtractOptions::default();
                options.tree.form = form;
                // An ordinary user cannot make every form, nor can every file system.
                forms += u32::from(storage.extract_layer(&digest, &options).is_ok());
            }
        }
        assert!(forms > 0);
        let report = storage.check(&CheckOptions::default()).unwrap();
        assert_eq!(report.findings, []);
        assert_eq!((report.objects, report.skipped), (1 + u64::from(forms), 0));
        assert!(report.bytes > 0);
    });
}

/// overlayfs' own forms of a whiteout and an opaque directory can be lost too.
#[test]
fn lost_whiteouts_are_found() {
    if !super::support::is_root() {
        return;
    }
    type Damage = fn(&std::path::Path);
    let cases: [(&str, Damage); 3] = [
        ("\"d/gone\": is no whiteout", |tree| std::fs::remove_file(tree.join("d/gone")).unwrap()),
        ("\"d/gone\": is no whiteout", |tree| {
            std::fs::remove_file(tree.join("d/gone")).unwrap();
            std::fs::write(tree.join("d/gone"), "").unwrap();
        }),
        ("\"d/.wh..wh..opq\": the directory is opaque no more", |tree| {
            rustix::fs::removexattr(tree.join("d"), "trusted.overlay.opaque").unwrap();
        }),
    ];
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let digest = put_layer(&storage, &layer());
    let mut options = ExtractOptions::default();
    options.tree.form.whiteouts = WhiteoutForm::Overlay;
    for (why, damage) in cases {
        storage.extract_layer(&digest, &options).unwrap();
        damage(&storage.extracted_path(&digest, options.tree.form));
        let found = storage.check(&repair()).unwrap().findings;
        assert!(found.len() == 1 && found[0].message.ends_with(why), "{found:?}");
    }
}

/// Each thing that can be wrong with a tree, and what is said of it.
#[test]
fn every_kind_of_damage_to_a_tree_is_found() {
    type Damage = fn(&std::path::Path);
    let cases: [(&str, Damage); 14] = [
        ("\"d\": is gone", |tree| std::fs::rename(tree.join("d"), tree.join("e")).unwrap()),
        ("\"d/set-id\": its content is not what was written", |tree| {
            std::fs::write(tree.join("d/set-id"), "y").unwrap()
        }),
        ("\"d/set-id\": has 2 bytes instead of 1", |tree| std::fs::write(tree.join("d/set-id"), "xx").unwrap()),
        ("\"twice\": has mode 0600 instead of 0644", |tree| {
            std::fs::set_permissions(tree.join("twice"), std::fs::Permissions::from_mode(0o600)).unwrap();
        }),
        ("\"twice\": is not a regular file", |tree| {
            std::fs::remove_file(tree.join("twice")).unwrap();
            std::fs::create_dir(tree.join("twice")).unwrap();
        }),
        ("\"d/link\": is a symlink to something else", |tree| {
            std::fs::remove_file(tree.join("d/link")).unwrap();
            std::os::unix::fs::symlink("elsewhere", tree.join("d/link")).unwrap();
        }),
        ("\"d/link\": is not a symlink", |tree| {
            std::fs::remove_file(tree.join("d/link")).unwrap();
            std::fs::write(tree.join("d/link"), "").unwrap();
        }),
        ("\"same\": is not a link to \"d/set-id\"", |tree| {
            std::fs::remove_file(tree.join("same")).unwrap();
            std::fs::write(tree.join("same"), "x").unwrap();
        }),
        ("\"d/.wh.gone\": is gone", |tree| std::fs::remove_file(tree.join("d/.wh.gone")).unwrap()),
        ("\"d/.wh.gone\": is not an empty marker", |tree| std::fs::write(tree.join("d/.wh.gone"), "x").unwrap()),
        ("\"fifo\": is of another type", |tree| {
            std::fs::remove_file(tree.join("fifo")).unwrap();
            std::fs::write(tree.join("fifo"), "").unwrap();
        }),
        ("\"null\": is another device", |tree| std::fs::write(tree.join("null"), "x").unwrap()),
        ("\"d/more\": is not in the layer", |tree| std::fs::write(tree.join("d/more"), "").unwrap()),
        ("its metadata record is not what was written", |tree| {
            let mut bytes = std::fs::read(record_of(tree)).unwrap();
            *bytes.last_mut().unwrap() = b' ';
            std::fs::write(record_of(tree), bytes).unwrap();
        }),
    ];
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let digest = put_layer(&storage, &layer());
    for (why, damage) in cases {
        storage.extract_layer(&digest, &ExtractOptions::default()).unwrap();
        assert_eq!(check(&storage), []);
        damage(&storage.layer_extracted_path(&digest));
        let found = storage.check(&repair()).unwrap().findings;
        let object = format!("extracted/sha256-{}", digest.hex());
        let expected = (Problem::Damaged, format!("{object}: {why}"), true);
        let found: Vec<_> = found.into_iter().map(|f| (f.problem, f.message, f.quarantined)).collect();
        assert_eq!(found, [expected]);
        assert!(!storage.layer_extracted_path(&digest).exists());
    }
    // They are kept as long as anything that nothing reaches.
    assert_eq!(names_in(&dir.path().join("quarantine")).len(), 28);
    assert_eq!(storage.disk_usage().unwrap().quarantined.objects, 28);
    let mut options = GcOptions::default();
    assert_eq!(storage.collect(&options).unwrap().kept, 29);
    options.min_age = Duration::ZERO;
    assert_eq!(storage.collect(&options).unwrap().removed.len(), 29);
    drop(storage);
    assert_eq!(names_in(&dir.path().join("quarantine")), [""; 0]);
}

#[test]
fn names_say_what_is_missing_and_leases_what_is_broken() {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let digest = put_image(&storage, "1", &["a"]);
    let name = ImageName::parse("x").unwrap();
    storage.tag_image(&name, &digest).unwrap();
    let lease = storage.create_lease(Duration::from_secs(60)).unwrap();
    assert_eq!(check(&storage), []);
    let image = storage.open_image(&name).unwrap();
    let layer = image.layers().next().unwrap().0.digest.clone();
    std::fs::remove_file(storage.layer_tarball_path(&layer)).unwrap();
    let found = check(&storage);
    assert_eq!((found.len(), found[0].problem), (1, Problem::Missing));
    assert_eq!(found[0].message, format!("image {name} lacks {layer}"));
    // Nothing that could be moved away.
    assert!(!storage.check(&repair()).unwrap().findings[0].quarantined);
    put_image(&storage, "1", &["a"]);
    assert_eq!(check(&storage), []);

    let file = dir.path().join("leases").join(format!("{}.json", lease.id()));
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap().replace("expires\":1", "expires\":9")).unwrap();
    // What it holds is not known, so nothing may go, until somebody decides.
    assert_eq!(storage.collect(&GcOptions::default()).unwrap_err().status(), Status::Malformed);
    assert!(storage.check(&repair()).unwrap().findings[0].quarantined);
    storage.collect(&GcOptions::default()).unwrap();
}

#[test]
fn what_is_not_ours_or_not_known_is_no_finding() {
    let dir = temp_dir();
    for folder in ["layers", "extracted", "names"] {
        std::fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    // A tree of boxlite 0.9: nothing is known of it.
    let tree = dir.path().join("extracted").join(format!("sha256-{}", "a".repeat(64)));
    std::fs::create_dir(&tree).unwrap();
    for name in ["layers/notes.txt", "layers/sha256-short.tar.gz", "extracted/lost+found", "names/other.json"] {
        std::fs::write(dir.path().join(name), "theirs").unwrap();
    }
    let storage = quick_store(dir.path());
    let report = storage.check(&repair()).unwrap();
    assert_eq!((report.findings.len(), report.skipped), (0, 1));
    assert!(storage.images().unwrap().is_empty());
    assert!(dir.path().join("names/other.json").exists() && tree.exists());
    // Another one that it made later has no record, and does not count.
    let later = dir.path().join("extracted").join(format!("sha256-{}", "b".repeat(64)));
    std::fs::create_dir(&later).unwrap();
    let found = storage.check(&repair()).unwrap().findings;
    assert!(found.len() == 1 && found[0].message.ends_with("has no metadata record"), "{found:?}");
}

#[test]
fn a_check_can_be_slow_and_can_be_ended() {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    put_layer(&storage, &[1; 1_000_000]);
    let mut options = CheckOptions::default();
    options.bytes_per_second = Some(5_000_000);
    let started = Instant::now();
    assert_eq!(storage.check(&options).unwrap().bytes, 1_000_000);
    assert!(started.elapsed() >= Duration::from_millis(190), "{:?}", started.elapsed());
    options.bytes_per_second = Some(1);
    options.interrupt = Interrupt::new(None, Some(Duration::from_millis(30)));
    let result = watched("a check", || storage.check(&options));
    assert_eq!(result.unwrap_err().status(), Status::Timeout);
    let cancel = Cancel::new();
    cancel.trigger();
    options.interrupt = Interrupt::new(Some(cancel), None);
    assert_eq!(storage.check(&options).unwrap_err().status(), Status::Cancelled);
}

/// A tree that is removed while it is judged is no finding. One that is made in its place is not
/// moved away, though it would get the number of its inode.
#[test]
fn a_tree_that_is_replaced_meanwhile_stays() {
    for is_made_anew in [true, false] {
        // Where this process stands still for longer than the check does, once more.
        assert!((0..20).any(|_| replace_while_checked(is_made_anew)), "the check was through before, every time");
    }
}

/// False where the check was through too early.
fn replace_while_checked(is_made_anew: bool) -> bool {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    // Between its two files the check waits for two seconds.
    let archive = Archive::new().file(b"a", &[1; 200 << 10]).file(b"b", &[2; 200 << 10]);
    let blob = gzip(&archive.finish());
    let digest = put_layer(&storage, &blob);
    let extract = || storage.extract_layer(&digest, &ExtractOptions::default()).unwrap();
    let has_leftovers = || names_in(&dir.path().join("extracted")).iter().any(|name| name.ends_with(".extracting"));
    extract();
    let mut options = repair();
    options.bytes_per_second = Some(100 << 10);
    let report = std::thread::scope(|scope| {
        let check = scope.spawn(|| storage.check(&options).unwrap());
        std::thread::sleep(Duration::from_millis(100));
        let mut gc = GcOptions::default();
        gc.min_age = Duration::ZERO;
        assert!(!storage.collect(&gc).unwrap().removed.is_empty());
        wait_until("what was collected is gone", || !has_leftovers());
        if check.is_finished() {
            check.join().unwrap();
            return None;
        }
        // Now it finds that "b" is gone, and waits for this lock before it moves anything.
        let lock = std::fs::File::open(dir.path().join("locks/collection")).unwrap();
        lock.lock_shared().unwrap();
        std::thread::sleep(Duration::from_millis(2400));
        assert!(!check.is_finished());
        // Somebody who is about to make it again, and has not begun.
        let name = format!("locks/extract-sha256-{}", digest.hex());
        let extraction = std::fs::File::create(dir.path().join(name)).unwrap();
        if is_made_anew {
            put_layer(&storage, &blob);
            extract();
        } else {
            extraction.lock().unwrap();
        }
        lock.unlock().unwrap();
        Some(check.join().unwrap())
    });
    let Some(report) = report else { return false };
    assert_eq!(report.findings, []);
    assert_eq!(storage.layer_extracted_path(&digest).join("b").exists(), is_made_anew);
    true
}

#[test]
fn a_read_only_store_is_checked_and_not_repaired() {
    let dir = temp_dir();
    let digest = put_layer(&quick_store(dir.path()), b"x");
    std::fs::write(dir.path().join(format!("layers/sha256-{}.tar.gz", digest.hex())), "y").unwrap();
    let mut options = boxlite_images::StorageOptions::default();
    options.read_only = true;
    let storage = Storage::open(dir.path(), &options).unwrap();
    let found = check(&storage);
    assert_eq!(found[0].message, format!("{}: hashes to {}", found[0].object, Digest::of(b"y")));
    assert_eq!(storage.check(&repair()).unwrap_err().status(), Status::Permission);
}

/// Nothing is found where nothing is wrong, while others extract and collect. `BL_FAULTS=full` checks a thousand times.
#[test]
fn nothing_is_found_while_others_work() {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let blobs: Vec<Vec<u8>> = (0..4)
        .map(|number: u32| {
            let own = number.to_string();
            gzip(&Archive::new().dir(b"d").file(b"d/f", own.as_bytes()).symlink(b"l", b"d/f").finish())
        })
        .collect();
    // One image that stays, so that there is always something to check.
    let kept = put_image(&storage, "1", &["a"]);
    storage.tag_image(&ImageName::parse("kept").unwrap(), &kept).unwrap();
    let rounds = if std::env::var("BL_FAULTS").is_ok_and(|value| value == "full") { 1000 } else { 50 };
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (is_over, storage) = (&is_over, &storage);
        let is_working = move || !is_over.load(std::sync::atomic::Ordering::Relaxed);
        for blob in &blobs {
            scope.spawn(move || {
                while is_working() {
                    let digest = put_layer(storage, blob);
                    // What was just collected is not there.
                    if let Err(error) = storage.extract_layer(&digest, &ExtractOptions::default()) {
                        assert_eq!(error.status(), Status::NotFound, "{error}");
                    }
                }
            });
        }
        scope.spawn(move || {
            let mut options = GcOptions::default();
            options.min_age = Duration::ZERO;
            while is_working() {
                storage.collect(&options).unwrap();
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        let checked = std::panic::catch_unwind(|| {
            let mut objects = 0;
            for round in 0..rounds {
                let report = storage.check(&repair()).unwrap();
                assert_eq!(report.findings, [], "in round {round}");
                objects += report.objects;
            }
            objects
        });
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(checked.unwrap() >= 4 * rounds, "manifest, config, layer and name were not looked at each time");
    });
}
