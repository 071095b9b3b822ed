//! Leases and collection: what is reached stays, whoever else is at work, and the rest goes.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use boxlite_images::{Digest, ExtractOptions, GcOptions, GcReport, ImageName, ProgressCallback, Status, Storage};

use super::archive::Archive;
use super::images::{put_config, put_image};
use super::support::{digest_of, leftovers, names_in, put_layer, quick_store, record_of, temp_dir};

const HOUR: Duration = Duration::from_secs(3600);

fn name(text: &str) -> ImageName {
    ImageName::parse(text).unwrap()
}

fn collect(storage: &Storage) -> GcReport {
    let mut options = GcOptions::default();
    options.min_age = Duration::ZERO;
    storage.collect(&options).unwrap()
}

fn layers_of(storage: &Storage, image: &Digest) -> Vec<Digest> {
    storage.open_image_by_digest(image).unwrap().layers().map(|(layer, _)| layer.digest.clone()).collect()
}

fn extract(storage: &Storage, layer: &Digest) {
    storage.extract_layer(layer, &ExtractOptions::default()).unwrap();
}

#[test]
fn what_a_name_reaches_stays_and_the_rest_goes() {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let (named, other) = (put_image(&storage, "1", &["a", "b"]), put_image(&storage, "2", &["b", "c"]));
    storage.tag_image(&name("x"), &named).unwrap();
    let (kept, gone) = (layers_of(&storage, &named), layers_of(&storage, &other)[1].clone());
    kept.iter().chain([&gone]).for_each(|layer| extract(&storage, layer));
    let mut options = GcOptions::default();
    options.min_age = Duration::ZERO;
    options.dry_run = true;
    let would = storage.collect(&options).unwrap();
    assert!(storage.has_manifest(&other).unwrap());
    let report = collect(&storage);
    assert_eq!(report, would);
    let stem = gone.to_string().replace(':', "-");
    let mut expected = vec![
        format!("manifests/{}.json", other.to_string().replace(':', "-")),
        report.removed[1].clone(),
        format!("layers/{stem}.tar.gz"),
        format!("extracted/{stem}"),
        format!("extracted/{stem}.mtree"),
    ];
    assert!(expected[1].starts_with("configs/"));
    assert_eq!(report.removed, expected);
    expected.iter().for_each(|path| assert!(!dir.path().join(path).exists(), "{path}"));
    assert!(report.bytes > 1000 && report.kept == 0, "{report:?}");
    assert!(storage.open_image(&name("x")).unwrap().missing.is_empty());
    kept.iter().for_each(|layer| assert!(storage.layer_extracted_path(layer).join("..").exists()));
    assert_eq!(collect(&storage), GcReport::default());
    // Without its name the rest goes too.
    storage.remove_image(&name("x")).unwrap();
    expected.clear();
    assert_eq!(collect(&storage).removed.len(), 8);
    assert_eq!(leftovers(dir.path()), [""; 0]);
    for folder in ["manifests", "configs", "layers", "extracted"] {
        assert_eq!(names_in(&dir.path().join(folder)), [""; 0], "{folder}");
    }
}

#[test]
fn what_is_young_stays() {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let image = put_image(&storage, "1", &["a"]);
    let report = storage.collect(&GcOptions::default()).unwrap();
    assert_eq!((report.removed.len(), report.kept), (0, 3));
    assert!(storage.open_image_by_digest(&image).unwrap().missing.is_empty());
}

/// A tree without its record would be taken for boxlite 0.9's.
#[test]
fn a_record_stays_with_its_tree() {
    const AGE: Duration = Duration::from_secs(2);
    // Where this process stands still until what is to be young is old, once more.
    assert!((0..20).any(|_| collect_but_for_what_is_younger_than(AGE)), "never within {AGE:?}");
}

fn collect_but_for_what_is_younger_than(age: Duration) -> bool {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let layer = put_layer(&storage, &Archive::new().file(b"f", b"x").finish());
    extract(&storage, &layer);
    let tree = storage.layer_extracted_path(&layer);
    std::thread::sleep(age + Duration::from_millis(1100));
    let touched = std::time::Instant::now();
    std::fs::write(tree.join("new"), "").unwrap();
    let mut options = GcOptions::default();
    options.min_age = age;
    let report = storage.collect(&options).unwrap();
    if touched.elapsed() >= age {
        return false;
    }
    assert_eq!((report.removed.len(), report.kept), (1, 2), "{report:?}");
    assert!(tree.exists() && record_of(&tree).exists());
    true
}

/// That a named image has a manifest among its layers says nothing of what that manifest needs.
#[test]
fn a_leased_image_is_held_whatever_others_list() {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let leased = put_image(&storage, "1", &["a"]);
    let bytes = storage.load_manifest(&leased).unwrap();
    let mut staged = storage.stage_layer(&leased, None).unwrap();
    staged.write(&bytes).unwrap();
    staged.commit().unwrap();
    let config = put_config(&storage, b"{}");
    let hostile = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"x","digest":"{config}","size":2}},
            "layers":[{{"mediaType":"x","digest":"{leased}","size":{}}}]}}"#,
        bytes.len()
    );
    let digest = digest_of(hostile.as_bytes());
    storage.save_manifest(&digest, hostile.as_bytes()).unwrap();
    storage.tag_image(&name("hostile"), &digest).unwrap();
    storage.create_lease(HOUR).unwrap().hold(&leased).unwrap();
    assert_eq!(collect(&storage), GcReport::default());
    // A leased manifest that is damaged leaves it unknown what it needs.
    std::fs::write(storage.manifest_path(&leased), "{}").unwrap();
    let mut options = GcOptions::default();
    options.min_age = Duration::ZERO;
    assert_eq!(storage.collect(&options).unwrap_err().status(), Status::State);
}

#[test]
fn leases_hold_across_processes_and_end() {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let image = put_image(&storage, "1", &["a", "b"]);
    let layers = layers_of(&storage, &image);
    extract(&storage, &layers[0]);
    let id = {
        let lease = storage.create_lease(HOUR).unwrap();
        lease.hold(&image).unwrap();
        lease.hold(&image).unwrap();
        lease.id().to_owned()
    };
    let other = quick_store(dir.path());
    assert_eq!(collect(&other), GcReport::default());
    // Through an index, and a layer by itself.
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"x","digest":"{image}","size":1}}]}}"#);
    let index_digest = digest_of(index.as_bytes());
    storage.save_manifest(&index_digest, index.as_bytes()).unwrap();
    let second = other.create_lease(HOUR).unwrap();
    second.hold(&index_digest).unwrap();
    other.open_lease(&id).unwrap().release().unwrap();
    assert_eq!(other.open_lease(&id).unwrap_err().status(), Status::NotFound);
    assert_eq!(collect(&storage), GcReport::default());
    second.release().unwrap();
    second.release().unwrap();
    assert_eq!(second.hold(&image).unwrap_err().status(), Status::NotFound);
    let third = storage.create_lease(HOUR).unwrap();
    third.hold(&layers[0]).unwrap();
    assert_eq!(collect(&storage).removed.len(), 4, "index, manifest, config, one layer");
    assert!(storage.has_layer(&layers[0]).unwrap() && storage.layer_extracted_path(&layers[0]).exists());
    // Its time ends it.
    third.extend(Duration::from_secs(1)).unwrap();
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(third.extend(HOUR).unwrap_err().status(), Status::NotFound);
    assert_eq!(collect(&storage).removed.len(), 3, "layer, tree, record");
    assert_eq!(names_in(&dir.path().join("leases")), [""; 0]);
    for id in ["", "x", "../names/x", &"g".repeat(32), &"A".repeat(32)] {
        assert_eq!(storage.open_lease(id).unwrap_err().status(), Status::InvalidArgument, "{id}");
    }
}

/// What a name needs cannot be known without its manifest: nothing is removed.
#[test]
fn a_name_without_its_manifest_ends_a_collection() {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let image = put_image(&storage, "1", &["a"]);
    storage.tag_image(&name("x"), &image).unwrap();
    std::fs::write(storage.manifest_path(&image), "{}").unwrap();
    let mut options = GcOptions::default();
    options.min_age = Duration::ZERO;
    let error = storage.collect(&options).unwrap_err();
    assert_eq!(error.status(), Status::State);
    assert!(error.message().contains("docker.io/library/x:latest"), "{error}");
    assert_eq!(names_in(&dir.path().join("layers")).len(), 1);
    let file = dir.path().join("names").join(&names_in(&dir.path().join("names"))[0]);
    std::fs::write(file, "junk").unwrap();
    assert_eq!(storage.collect(&options).unwrap_err().status(), Status::Malformed);
    let lease = storage.create_lease(HOUR).unwrap();
    storage.remove_image(&name("x")).unwrap();
    std::fs::write(dir.path().join("leases").join(format!("{}.json", lease.id())), "junk").unwrap();
    assert_eq!(storage.collect(&options).unwrap_err().status(), Status::Malformed);
    assert_eq!(names_in(&dir.path().join("layers")).len(), 1);
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let junk =
        ["layers/notes.txt", "layers/sha256-12.tar.gz", "configs/x.json", "extracted/home", "manifests/sha256-x.json"];
    junk.iter().for_each(|path| std::fs::write(dir.path().join(path), "x").unwrap());
    put_config(&storage, b"unreached");
    assert_eq!(collect(&storage).removed.len(), 1);
    junk.iter().for_each(|path| assert!(dir.path().join(path).exists(), "{path}"));
}

/// From inside an extraction: its blob may lose its name, its tree comes to be all the same.
#[test]
fn a_collection_does_not_hinder_an_extraction() {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let layer = (0..2000).fold(Archive::new(), |archive, i| archive.file(format!("f{i}").as_bytes(), b"x")).finish();
    let digest = put_layer(&storage, &layer);
    let (inner, mut options) = (storage.clone(), ExtractOptions::default());
    options.progress = Some(ProgressCallback::new(move |_| {
        collect(&inner);
        ControlFlow::Continue(())
    }));
    let done = storage.extract_layer(&digest, &options).unwrap();
    assert_eq!(done.entries, 2000);
    let tree = storage.layer_extracted_path(&digest);
    assert_eq!((names_in(&tree).len(), record_of(&tree).exists()), (2000, true));
    assert_eq!(leftovers(dir.path()), [""; 0]);
}

/// An image that got its name has everything that it needs, whatever a collection did at the same time (I3).
#[test]
fn names_and_collections_exclude_each_other() {
    let dir = temp_dir();
    let is_over = AtomicBool::new(false);
    let (named, refused) = std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let storage = quick_store(dir.path());
            while !is_over.load(Ordering::Relaxed) {
                collect(&storage);
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        let storage = quick_store(dir.path());
        let (mut named, mut refused) = (0, 0);
        for round in 0..100 {
            let image = put_image(&storage, &round.to_string(), &["a", "b"]);
            match storage.tag_image(&name("x"), &image) {
                Ok(()) => {
                    assert_eq!(storage.open_image(&name("x")).unwrap().missing, []);
                    named += 1;
                }
                Err(error) => {
                    assert_eq!(error.status(), Status::NotFound, "{error}");
                    refused += 1;
                }
            }
        }
        is_over.store(true, Ordering::Relaxed);
        collector.join().unwrap();
        (named, refused)
    });
    assert!(named > 0 && refused > 0, "{named} named, {refused} refused: no race");
}
