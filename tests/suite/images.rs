//! Image names, and what an image says of itself.

use std::sync::atomic::{AtomicBool, Ordering};

use boxlite_images::{Digest, ExtractOptions, Image, ImageName, Status, Storage, StorageOptions};

use super::archive::{Archive, gzip};
use super::support::{digest_of, leftovers, names_in, put_layer, quick_store, temp_dir};

fn name(text: &str) -> ImageName {
    ImageName::parse(text).unwrap()
}

pub fn put_config(storage: &Storage, bytes: &[u8]) -> Digest {
    let digest = digest_of(bytes);
    let mut staged = storage.stage_config(&digest).unwrap();
    staged.write(bytes).unwrap();
    staged.commit().unwrap();
    digest
}

/// The text of a manifest.
fn manifest(config: &[u8], layers: &[Vec<u8>]) -> String {
    let descriptor = |kind: &str, bytes: &[u8]| {
        let (digest, size) = (digest_of(bytes), bytes.len());
        format!(r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{size}}}"#)
    };
    let layers: Vec<_> = layers.iter().map(|layer| descriptor("layer.v1.tar+gzip", layer)).collect();
    let config = descriptor("config.v1+json", config);
    format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#, layers.join(","))
}

fn config(env: &str, tars: &[Vec<u8>]) -> String {
    let diff_ids: Vec<_> = tars.iter().map(|tar| format!("\"{}\"", digest_of(tar))).collect();
    format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Env":["X={env}"],"Labels":{{"a":"1","b":"2"}}}},
            "rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        diff_ids.join(",")
    )
}

/// Stores an image whose layers have one file each; gives the digest of its manifest.
pub fn put_image(storage: &Storage, env: &str, files: &[&str]) -> Digest {
    let layer = |file: &&str| Archive::new().file(file.as_bytes(), &[b'x'; 1000]).finish();
    put_image_of(storage, env, &files.iter().map(layer).collect::<Vec<_>>())
}

/// Stores an image whose config has this under `config`.
pub fn put_image_that_runs(storage: &Storage, run: &str, tars: &[Vec<u8>]) -> Digest {
    let diff_ids: Vec<_> = tars.iter().map(|tar| format!("\"{}\"", digest_of(tar))).collect();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{run},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        diff_ids.join(",")
    );
    put_image_with(storage, &config, tars)
}

/// Stores an image of these layers; gives the digest of its manifest.
pub fn put_image_of(storage: &Storage, env: &str, tars: &[Vec<u8>]) -> Digest {
    put_image_with(storage, &config(env, tars), tars)
}

/// The same with a config of its own.
pub fn put_image_with(storage: &Storage, config: &str, tars: &[Vec<u8>]) -> Digest {
    let layers: Vec<Vec<u8>> = tars.iter().map(|tar| gzip(tar)).collect();
    put_config(storage, config.as_bytes());
    layers.iter().for_each(|layer| drop(put_layer(storage, layer)));
    let manifest = manifest(config.as_bytes(), &layers);
    let digest = digest_of(manifest.as_bytes());
    storage.save_manifest(&digest, manifest.as_bytes()).unwrap();
    digest
}

#[test]
fn names_are_references_in_full() {
    for (text, full) in [
        ("alpine", "docker.io/library/alpine:latest"),
        ("alpine:3.20", "docker.io/library/alpine:3.20"),
        ("user/tool", "docker.io/user/tool:latest"),
        ("ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
    ] {
        assert_eq!(name(text).as_str(), full);
        assert_eq!(name(full).as_str(), full);
    }
    for text in ["", " ", "upper/CASE", "a b", "a:b:c", "-x", "../../etc", "a//b", "x@sha256:12", "\u{e9}"] {
        let error = ImageName::parse(text).unwrap_err();
        assert_eq!(error.status(), Status::InvalidArgument, "{text}: {error}");
    }
}

#[test]
fn a_name_is_given_moved_listed_and_taken_away() {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let (one, two) = (put_image(&storage, "1", &["a"]), put_image(&storage, "2", &["a", "b"]));
    storage.tag_image(&name("z"), &one).unwrap();
    storage.tag_image(&name("alpine"), &one).unwrap();
    assert_eq!(storage.image(&name("alpine")).unwrap().manifest, one);
    storage.tag_image(&name("alpine"), &two).unwrap();
    storage.tag_image(&name("alpine"), &two).unwrap();
    let listed: Vec<_> =
        storage.images().unwrap().into_iter().map(|image| (image.name.to_string(), image.manifest)).collect();
    let expected =
        [("docker.io/library/alpine:latest".to_owned(), two.clone()), ("docker.io/library/z:latest".to_owned(), one)];
    assert_eq!(listed, expected);
    // Another process sees the same.
    assert_eq!(quick_store(dir.path()).images().unwrap().len(), 2);
    storage.remove_image(&name("z")).unwrap();
    assert_eq!(storage.remove_image(&name("z")).unwrap_err().status(), Status::NotFound);
    let error = storage.open_image(&name("z")).unwrap_err();
    assert_eq!(error.status(), Status::NotFound);
    assert!(error.message().contains("docker.io/library/z:latest"), "{error}");
    assert!(storage.has_manifest(&two).unwrap());
    assert_eq!(leftovers(dir.path()), [""; 0]);
}

#[test]
fn only_a_complete_image_gets_a_name() {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let image = put_image(&storage, "1", &["a", "b"]);
    let layers: Vec<Digest> =
        storage.open_image_by_digest(&image).unwrap().layers().map(|(layer, _)| layer.digest.clone()).collect();
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"x","digest":"{image}","size":1}}]}}"#);
    let index_digest = digest_of(index.as_bytes());
    storage.save_manifest(&index_digest, index.as_bytes()).unwrap();
    assert_eq!(storage.tag_image(&name("x"), &index_digest).unwrap_err().status(), Status::Unsupported);
    assert_eq!(storage.tag_image(&name("x"), &Digest::of(b"none")).unwrap_err().status(), Status::NotFound);
    std::fs::remove_file(storage.layer_tarball_path(&layers[1])).unwrap();
    let error = storage.tag_image(&name("x"), &image).unwrap_err();
    assert_eq!(error.status(), Status::NotFound);
    assert!(error.message().contains(&layers[1].to_string()) && !error.message().contains(&layers[0].to_string()));
    assert_eq!(storage.images().unwrap(), []);
    // One that lost a layer later still opens, and says so (I3).
    put_layer(&storage, &gzip(&Archive::new().file(b"b", &[b'x'; 1000]).finish()));
    storage.tag_image(&name("x"), &image).unwrap();
    std::fs::write(storage.layer_tarball_path(&layers[0]), "cut").unwrap();
    assert_eq!(storage.open_image(&name("x")).unwrap().missing, [layers[0].clone()]);
}

#[test]
fn an_image_says_what_it_is() {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let digest = put_image(&storage, "1", &["a", "b"]);
    storage.tag_image(&name("x"), &digest).unwrap();
    let image: Image = storage.open_image(&name("x")).unwrap();
    assert_eq!((image.config.architecture.as_str(), image.config.env.as_slice()), ("amd64", &["X=1".to_owned()][..]));
    assert_eq!(image.config_bytes, storage.load_config(&image.manifest.config.digest).unwrap());
    assert_eq!(image.missing, []);
    for (i, (layer, diff_id)) in image.layers().enumerate() {
        assert_eq!(layer.media_type, "application/vnd.oci.image.layer.v1.tar+gzip");
        let mut options = ExtractOptions::default();
        options.diff_id = diff_id.cloned();
        assert_eq!(storage.image_sizes(&image).unwrap().extracted, i as u64 * 1000);
        storage.extract_layer(&layer.digest, &options).unwrap();
    }
    let first = storage.image(&name("x")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    storage.open_image(&name("x")).unwrap();
    storage.images().unwrap();
    let second = storage.image(&name("x")).unwrap();
    assert!(second.used > first.used && second.tagged == first.tagged, "{first:?} {second:?}");
    // Nothing is changed through a store that was opened to read.
    let mut options = StorageOptions::default();
    options.read_only = true;
    Storage::open(dir.path(), &options).unwrap().open_image(&name("x")).unwrap();
    assert_eq!(storage.image(&name("x")).unwrap(), second);
}

#[test]
fn sizes_tell_what_is_shared() {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let (one, two) = (put_image(&storage, "1", &["a", "b"]), put_image(&storage, "2", &["a", "c"]));
    let image = storage.open_image_by_digest(&one).unwrap();
    let size = |i: usize| image.manifest.layers[i].size;
    let all = size(0) + size(1) + image.manifest.config.size;
    let sizes = storage.image_sizes(&image).unwrap();
    // The other one has no name.
    assert_eq!((sizes.compressed, sizes.shared, sizes.unique, sizes.extracted), (all, 0, all, 0));
    storage.tag_image(&name("two"), &two).unwrap();
    storage.tag_image(&name("one"), &one).unwrap();
    let sizes = storage.image_sizes(&image).unwrap();
    assert_eq!((sizes.compressed, sizes.shared, sizes.unique), (all, size(0), all - size(0)));
}

#[test]
fn a_config_that_does_not_fit_is_said() {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let layer = gzip(&Archive::new().finish());
    put_layer(&storage, &layer);
    for text in ["{}", "[]", r#"{"config":7}"#] {
        put_config(&storage, text.as_bytes());
        let manifest = manifest(text.as_bytes(), std::slice::from_ref(&layer));
        let digest = digest_of(manifest.as_bytes());
        storage.save_manifest(&digest, manifest.as_bytes()).unwrap();
        assert_eq!(storage.open_image_by_digest(&digest).unwrap_err().status(), Status::Malformed, "{text}");
    }
}

#[test]
fn junk_among_the_names_is_none() {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let digest = put_image(&storage, "1", &["a"]);
    storage.tag_image(&name("x"), &digest).unwrap();
    let folder = dir.path().join("names");
    let file = folder.join(&names_in(&folder)[0]);
    std::fs::write(folder.join("README"), "x").unwrap();
    std::fs::create_dir(folder.join("dir.json")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.join("link.json")).unwrap();
    // A copy under another name is not that image's.
    std::fs::copy(&file, folder.join(format!("sha256-{}.json", "0".repeat(64)))).unwrap();
    assert_eq!(storage.images().unwrap().len(), 1);
    for text in ["", "{}", "{\"name\":\"docker.io/library/x:latest\",\"manifest\":\"no\"}", &"x".repeat(10_000)] {
        std::fs::write(&file, text).unwrap();
        assert_eq!(storage.open_image(&name("x")).unwrap_err().status(), Status::Malformed, "{text:.20}");
        assert_eq!(storage.images().unwrap(), []);
    }
    storage.tag_image(&name("x"), &digest).unwrap();
    assert_eq!(storage.images().unwrap().len(), 1);
}

/// Readers see the old image or the new one, and never none.
#[test]
fn a_name_changes_over_at_once() {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let images = [put_image(&storage, "1", &["a"]), put_image(&storage, "2", &["a"])];
    storage.tag_image(&name("x"), &images[0]).unwrap();
    let is_over = AtomicBool::new(false);
    let (mut changes, mut seen) = (0, [0, 0]);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let storage = quick_store(dir.path());
            let mut seen = [0, 0];
            while !is_over.load(Ordering::Relaxed) {
                let manifest = storage.open_image(&name("x")).unwrap().manifest_digest;
                assert_eq!(storage.images().unwrap().len(), 1);
                seen[images.iter().position(|image| *image == manifest).unwrap()] += 1;
            }
            seen
        });
        while changes < 300 {
            changes += 1;
            storage.tag_image(&name("x"), &images[changes % 2]).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
        seen = reader.join().unwrap();
    });
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
}
