//! What there is too little of: room on the disk, the base's blobs, and layers that an image may have.

use std::io::Write as _;

use boxlite_images::{CommitOptions, CommitSource, ExtractOptions, ImageName, Status, TreeOptions};

use super::super::archive::Archive;
use super::super::disk_faults::SmallDisk;
use super::super::images::put_image_of;
use super::super::support::{leftovers, names_in, quick_store, temp_dir};
use super::{base, plain_upper, rootfs};

#[test]
fn a_full_disk_leaves_no_name_and_its_space_comes_back() {
    let Some(disk) = SmallDisk::new("size=24m") else { return };
    let dir = temp_dir();
    let storage = quick_store(&disk.path().join("store"));
    let base = base(&storage);
    let upper = dir.path().join("upper");
    std::fs::create_dir(&upper).unwrap();
    // Not to be compressed.
    let noise: Vec<u8> =
        (0..1_u64 << 19).flat_map(|i| (i ^ 0x9e37_79b9).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_le_bytes()).collect();
    std::fs::write(upper.join("large"), noise).unwrap();
    let source = CommitSource::Upper(upper);
    let name = ImageName::parse("example.org/new:1").unwrap();
    let options = CommitOptions::default().name(name.clone()).extract(TreeOptions::default());
    let before = ["layers", "configs", "manifests"].map(|folder| names_in(&storage.images_dir().join(folder)));
    let filler = disk.path().join("filler");
    for free_kib in [0, 20, 400, 3000, 4400, 6000] {
        let mut file = std::fs::File::create(&filler).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
        let full = file.metadata().unwrap().len();
        file.set_len(full - free_kib * 1024).unwrap();
        drop(file);
        let error = storage.commit_image(Some(&base), &source, &options).unwrap_err();
        assert_eq!(error.status(), Status::NoSpace, "{free_kib} KiB free: {error}");
        assert_eq!(storage.image(&name).unwrap_err().status(), Status::NotFound);
        assert_eq!(leftovers(storage.images_dir()), [""; 0], "{free_kib} KiB free");
        std::fs::remove_file(&filler).unwrap();
        let mut collecting = boxlite_images::GcOptions::default();
        collecting.min_age = std::time::Duration::ZERO;
        let held = storage.create_lease(std::time::Duration::from_secs(60)).unwrap();
        held.hold(&base.manifest_digest).unwrap();
        storage.collect(&collecting).unwrap();
        // What is large goes in the background.
        assert_eq!(leftovers(storage.images_dir()), [""; 0], "{free_kib} KiB free");
        let after = ["layers", "configs", "manifests"].map(|folder| names_in(&storage.images_dir().join(folder)));
        assert_eq!(before, after, "{free_kib} KiB free");
    }
    let image = storage.commit_image(Some(&base), &source, &options).unwrap().image;
    assert_eq!(storage.image(&name).unwrap().manifest, image.manifest_digest);
}

/// The records of a base's layers are enough to compare a tree. Without them the layer that is missing is named, and an image of which
/// something is missing gets no name.
#[test]
fn a_base_whose_blobs_are_gone() {
    for has_records in [true, false] {
        let dir = temp_dir();
        let storage = quick_store(&dir.path().join("store"));
        let base = base(&storage);
        let tree = dir.path().join("tree");
        rootfs(&storage, &base, &tree);
        std::fs::write(tree.join("new"), b"new").unwrap();
        for (layer, _) in base.layers() {
            if has_records {
                storage.extract_layer(&layer.digest, &ExtractOptions::default()).unwrap();
            }
            std::fs::remove_file(storage.layer_tarball_path(&layer.digest)).unwrap();
        }
        if !has_records {
            names_in(&storage.images_dir().join("extracted")).iter().for_each(|name| {
                let path = storage.images_dir().join("extracted").join(name);
                std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path)).unwrap();
            });
        }
        let (upper, tree) = (CommitSource::Upper(plain_upper(dir.path())), CommitSource::Tree(tree));
        let nameless = CommitOptions::default();
        let made = storage.commit_image(Some(&base), &upper, &nameless).unwrap();
        assert_eq!(made.image.missing.len(), 2, "{:?}", made.image.missing);
        match storage.commit_image(Some(&base), &tree, &nameless) {
            Ok(made) => assert!(has_records && made.entries == 1, "{made:?}"),
            Err(error) => {
                let names_it = base.layers().any(|(layer, _)| error.to_string().contains(&layer.digest.to_string()));
                assert!(!has_records && error.status() == Status::NotFound && names_it, "{error}");
            }
        }
        let name = ImageName::parse("example.org/new:1").unwrap();
        let error = storage.commit_image(Some(&base), &upper, &nameless.name(name.clone())).unwrap_err();
        assert_eq!(error.status(), Status::NotFound, "{error}");
        assert_eq!(storage.image(&name).unwrap_err().status(), Status::NotFound);
        assert_eq!(leftovers(storage.images_dir()), [""; 0]);
    }
}

#[test]
fn an_image_has_as_many_layers_as_it_may() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let layer = |number: usize| Archive::new().file(format!("f{number}").as_bytes(), b"x").finish();
    let image_of = |count: usize| {
        let layers: Vec<_> = (0..count).map(layer).collect();
        storage.open_image_by_digest(&put_image_of(&storage, "x", &layers)).unwrap()
    };
    let upper = CommitSource::Upper(plain_upper(dir.path()));
    let made = storage.commit_image(Some(&image_of(127)), &upper, &CommitOptions::default()).unwrap();
    assert_eq!(made.image.manifest.layers.len(), 128);
    let root = dir.path().join("root");
    rootfs(&storage, &made.image, &root);
    assert!(root.join("f126").is_file() && root.join("d/new").is_file());
    let full = image_of(1024);
    let error = storage.commit_image(Some(&full), &upper, &CommitOptions::default()).unwrap_err();
    assert!(error.status() == Status::Limit && error.to_string().contains("layers"), "{error}");
    // What is squashed has room again.
    let squashed = storage.squash_image(&full, 1000, &CommitOptions::default()).unwrap();
    assert_eq!(squashed.image.manifest.layers.len(), 1001);
    storage.commit_image(Some(&squashed.image), &upper, &CommitOptions::default()).unwrap();
}
