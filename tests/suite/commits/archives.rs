//! Archives as sources, and what a tar can say as trees.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use boxlite_images::{
    CommitOptions, CommitSource, CommittedImage, Error, Image, Interrupt, RootfsMode, RootfsOptions, Status, Storage,
};

use super::super::archive::{Archive, Header, gzip, zstd};
use super::super::families::{Case, all_cases};
use super::super::images::put_image_of;
use super::super::support::{is_root, leftovers, make_fifo, quick_store, temp_dir, temp_dir_in_memory, watched};
use super::super::tree::{differences, snapshot};
use super::{base, base_layers, comparable, rootfs};

fn committed_archive(storage: &Storage, base: Option<&Image>, archive: &Path) -> Result<CommittedImage, Error> {
    storage.commit_image(base, &CommitSource::Archive(archive.to_path_buf()), &CommitOptions::default())
}

/// An archive means what it means as a layer, whoever wrote it and however it is packed.
#[test]
fn an_archive_on_a_base_is_what_the_image_has() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let base = base(&storage);
    let layer = Archive::new()
        .file(b"d/.wh.f", b"")
        .dir(b"z")
        .file(b"z/new", b"new")
        .hardlink(b"z/link", b"l1")
        .file(b".wh.deep", b"")
        .file(b"a", &[0; 200_000])
        .finish();
    let mut blobs: Vec<Vec<u8>> = base_layers();
    blobs.push(layer.clone());
    let expected = dir.path().join("expected");
    let image = storage.open_image_by_digest(&put_image_of(&storage, "x", &blobs)).unwrap();
    rootfs(&storage, &image, &expected);
    let mut layers = Vec::new();
    for (name, packed) in [("plain", layer.clone()), ("gzip", gzip(&layer)), ("zstd", zstd(&layer))] {
        let archive = dir.path().join(name);
        std::fs::write(&archive, packed).unwrap();
        let committed = committed_archive(&storage, Some(&base), &archive).unwrap();
        let at = dir.path().join(format!("{name}.root"));
        rootfs(&storage, &committed.image, &at);
        let differences = differences(&comparable(snapshot(&expected)), &comparable(snapshot(&at)));
        assert!(differences.is_empty(), "{name}: {differences:#?}");
        layers.push(committed.layer);
    }
    let pipe = dir.path().join("pipe");
    make_fifo(&pipe);
    std::thread::scope(|scope| {
        scope.spawn(|| std::fs::write(&pipe, &layer).unwrap());
        layers.push(watched("a commit from a pipe", || committed_archive(&storage, Some(&base), &pipe)).unwrap().layer);
    });
    assert!(layers.windows(2).all(|pair| pair[0] == pair[1]), "{layers:?}");
    assert_eq!(leftovers(storage.images_dir()), [""; 0]);
}

#[test]
fn archives_that_are_none_are_refused_and_nothing_stays() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let base = base(&storage);
    let (garbage, folder, pipe) = (dir.path().join("garbage"), dir.path().join("folder"), dir.path().join("pipe"));
    std::fs::write(&garbage, [7; 4000]).unwrap();
    std::fs::create_dir(&folder).unwrap();
    make_fifo(&pipe);
    let out = dir.path().join("out.tar");
    std::fs::write(&out, Archive::new().file(b"../x", b"x").finish()).unwrap();
    for (archive, status) in [
        (dir.path().join("none"), Status::NotFound),
        (folder, Status::InvalidArgument),
        (garbage, Status::Malformed),
        (out, Status::UnsafePath),
    ] {
        let error = committed_archive(&storage, Some(&base), &archive).unwrap_err();
        assert_eq!(error.status(), status, "{error}");
        assert!(error.to_string().contains(archive.to_str().unwrap()), "{error}");
    }
    // Nobody writes into it.
    let mut options = CommitOptions::default();
    options.interrupt = Interrupt::new(None, Some(Duration::from_millis(300)));
    let wait = || storage.commit_image(Some(&base), &CommitSource::Archive(pipe.clone()), &options);
    assert_eq!(watched("a commit from a pipe", wait).unwrap_err().status(), Status::Timeout);
    // More than a layer may have.
    let mut options = CommitOptions::default();
    options.limits.layer_bytes = 1_000_000;
    std::thread::scope(|scope| {
        scope.spawn(|| std::fs::write(&pipe, vec![0; 3_000_000]).is_err());
        let read = || storage.commit_image(Some(&base), &CommitSource::Archive(pipe.clone()), &options);
        assert_eq!(watched("a commit from a pipe", read).unwrap_err().status(), Status::Limit);
    });
    assert_eq!(leftovers(storage.images_dir()), [""; 0]);
}

/// What each family comes to comes back: as a tree of its own, and as the archive that it came as.
#[test]
fn every_family_comes_back() {
    let dir = temp_dir_in_memory();
    let (mut back, mut refused) = (0, 0);
    // All of them in CI.
    let step = if std::env::var_os("BL_REQUIRE_TOOLS").is_some() { 1 } else { 4 };
    for Case { name, layer, .. } in all_cases().into_iter().step_by(step) {
        let storage = quick_store(&dir.path().join("store"));
        let [tree, archive, at] = ["tree", "archive", "at"].map(|name| dir.path().join(name));
        let digest = put_image_of(&storage, "x", std::slice::from_ref(&layer));
        let assembled = storage.open_image_by_digest(&digest).and_then(|image| {
            let mut options = RootfsOptions::default().mode(RootfsMode::Copy);
            options.tree.form.device_nodes = is_root();
            storage.assemble_rootfs(&image, &tree, &options)
        });
        if assembled.is_err() {
            refused += 1;
        } else {
            std::fs::write(&archive, &layer).unwrap();
            let expected = comparable(snapshot(&tree));
            for source in [CommitSource::Tree(tree.clone()), CommitSource::Archive(archive.clone())] {
                let committed = match storage.commit_image(None, &source, &CommitOptions::default()) {
                    Err(error) if error.to_string().contains("a device 0:0") => continue,
                    committed => committed.unwrap_or_else(|error| panic!("{name}: {error}")),
                };
                rootfs(&storage, &committed.image, &at);
                let differences = differences(&expected, &comparable(snapshot(&at)));
                assert!(differences.is_empty(), "{name}, {source:?}: {differences:#?}");
                std::fs::remove_dir_all(&at).unwrap();
                back += 1;
            }
            std::fs::remove_dir_all(&tree).unwrap();
        }
        drop(storage);
        std::fs::remove_dir_all(dir.path().join("store")).unwrap();
    }
    eprintln!("{back} came back, {refused} layers refused");
    assert!(back > 600 / step && refused > 100 / step, "{back} {refused}");
}

/// The root's own owner and mode are a part of a tree, of an archive, and of layers that become one.
#[test]
fn the_root_s_own_mode_comes_along() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let layer = Archive::new().entry(Header::new(b'5', b"./").mode(0o711), b"").file(b"f", b"f").finish();
    let image = storage.open_image_by_digest(&put_image_of(&storage, "x", std::slice::from_ref(&layer))).unwrap();
    let [tree, archive] = ["tree", "archive"].map(|name| dir.path().join(name));
    rootfs(&storage, &image, &tree);
    std::fs::write(&archive, &layer).unwrap();
    let options = CommitOptions::default();
    let unchanged = storage.commit_image(Some(&image), &CommitSource::Tree(tree.clone()), &options).unwrap();
    assert_eq!(unchanged.entries, 0, "{unchanged:?}");
    let mode_of = |committed: CommittedImage, name: &str| {
        let at = dir.path().join(name);
        rootfs(&storage, &committed.image, &at);
        std::fs::metadata(at).unwrap().permissions().mode() & 0o7777
    };
    let of_tree =
        |base: Option<&Image>| storage.commit_image(base, &CommitSource::Tree(tree.clone()), &options).unwrap();
    assert_eq!(mode_of(of_tree(None), "of a tree"), 0o711);
    assert_eq!(mode_of(committed_archive(&storage, None, &archive).unwrap(), "of an archive"), 0o711);
    assert_eq!(mode_of(storage.squash_image(&image, 0, &options).unwrap(), "squashed"), 0o711);
    std::fs::set_permissions(&tree, std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(mode_of(of_tree(Some(&image)), "changed"), 0o700);
}
