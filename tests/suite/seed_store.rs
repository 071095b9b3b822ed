//! Directories that boxlite 0.9.4 made, and what dead processes leave.

use std::os::fd::AsFd as _;
use std::process::Command;

use boxlite_images::{Digest, ExtractOptions, Status};

use super::archive::{Archive, gzip};
use super::support::{as_each_user, names_in, put_layer, quick_store, temp_dir, wait_until};

/// Its blobs are served, its pretty-printed manifests are absent, its trees are used as they are.
#[test]
fn a_seed_directory_opens_and_works() {
    let dir = temp_dir();
    let at = |name: &str| dir.path().join(name);
    for folder in ["manifests", "configs", "layers", "extracted", "local", "disk-images"] {
        std::fs::create_dir(at(folder)).unwrap();
    }
    let tar = Archive::new().file(b"f", b"1").finish();
    let blob = gzip(&tar);
    let digest = Digest::of(&blob);
    let stem = format!("sha256-{}", digest.hex());
    std::fs::write(at(&format!("layers/{stem}.tar.gz")), &blob).unwrap();
    std::fs::create_dir(at(&format!("extracted/{stem}"))).unwrap();
    std::fs::write(at(&format!("extracted/{stem}/f")), "1").unwrap();
    std::fs::write(at(&format!("manifests/{stem}.json")), "{\n  \"schemaVersion\": 2\n}").unwrap();
    std::fs::write(at("index.json"), "theirs").unwrap();

    let storage = quick_store(dir.path());
    assert!(storage.has_layer(&digest).unwrap());
    assert!(!storage.has_manifest(&digest).unwrap());
    let done = storage.extract_layer(&digest, &ExtractOptions::default()).unwrap();
    assert!(done.cached && done.diff_id.is_none());
    // There is no record: the blob is read to answer.
    let mut options = ExtractOptions::default();
    options.diff_id = Some(Digest::of(&tar));
    assert_eq!(storage.extract_layer(&digest, &options).unwrap().diff_id, Some(Digest::of(&tar)));
    options.diff_id = Some(Digest::of(b"other"));
    assert_eq!(storage.extract_layer(&digest, &options).unwrap_err().status(), Status::DigestMismatch);
    assert_eq!(std::fs::read_to_string(at("index.json")).unwrap(), "theirs");
}

#[test]
fn leftovers_of_the_dead_go_and_everything_else_stays() {
    let dir = temp_dir();
    drop(quick_store(dir.path()));
    let at = |name: &str| dir.path().join(name);
    let stem = format!("sha256-{}", "a".repeat(64));
    let random = "0123456789abcdef0123456789abcdef";
    let dead = [
        format!("layers/{stem}.{random}.downloading"),
        format!("configs/{stem}.{random}.downloading"),
        format!("manifests/{stem}.{random}.downloading"),
        format!("extracted/{stem}.mtree.{random}.extracting"),
        format!("format-version.{random}.downloading"),
        format!("locks/extract-{stem}"),
    ];
    for name in &dead {
        std::fs::write(at(name), "x").unwrap();
    }
    let dead_tree = at(&format!("extracted/{stem}.{random}.extracting"));
    std::fs::create_dir_all(dead_tree.join("a/b")).unwrap();
    std::fs::write(dead_tree.join("a/b/f"), "x").unwrap();
    let not_ours = [
        "layers/notes.downloading".to_owned(),
        format!("layers/{stem}.short.downloading"),
        format!("layers/x-{stem}.{random}.downloading"),
        format!("layers/{stem}.{random}.downloading.bak"),
        "extracted/readme".to_owned(),
    ];
    for name in &not_ours {
        std::fs::write(at(name), "x").unwrap();
    }
    let outside = temp_dir();
    std::fs::write(outside.path().join("keep"), "x").unwrap();
    let link = format!("extracted/{stem}.{}.extracting", "f".repeat(32));
    std::os::unix::fs::symlink(outside.path(), at(&link)).unwrap();

    drop(quick_store(dir.path()));
    for name in &dead {
        assert!(!at(name).exists(), "{name} was left");
    }
    assert!(!dead_tree.exists());
    for name in &not_ours {
        assert!(at(name).exists(), "{name} was removed");
    }
    assert!(at(&link).is_symlink() && outside.path().join("keep").exists());
}

/// A tree whose root had its final mode when its owner died: its own user cannot open it.
#[test]
fn a_locked_leftover_goes_too() {
    as_each_user("seed_store::a_locked_leftover_goes_too", || {
        let dir = temp_dir();
        drop(quick_store(dir.path()));
        let name = format!("sha256-{}.{}.extracting", "d".repeat(64), "0".repeat(32));
        let tree = dir.path().join("extracted").join(name);
        std::fs::create_dir_all(tree.join("a")).unwrap();
        std::fs::set_permissions(&tree, std::os::unix::fs::PermissionsExt::from_mode(0o0)).unwrap();
        drop(quick_store(dir.path()));
        assert!(!tree.exists());
    });
}

#[test]
fn partials_of_the_living_stay() {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let digest = Digest::of(b"alive");
    let mut staged = storage.stage_layer(&digest, Some(5)).unwrap();
    staged.write(b"ali").unwrap();
    drop(quick_store(dir.path()));
    assert!(staged.staged_path().exists());
    staged.write(b"ve").unwrap();
    staged.commit().unwrap();

    // Another process holds one: `flock` keeps its lock as long as it runs.
    let name = format!("sha256-{}.{}.downloading", "b".repeat(64), "0".repeat(32));
    let path = dir.path().join("layers").join(&name);
    let file = std::fs::File::create(&path).unwrap();
    rustix::fs::flock(file.as_fd(), rustix::fs::FlockOperation::LockExclusive).unwrap();
    let mut holder = Command::new("sleep").arg("60").stdin(file.try_clone().unwrap()).spawn().unwrap();
    drop(file);
    drop(quick_store(dir.path()));
    assert!(path.exists(), "swept although its owner lives");
    holder.kill().unwrap();
    holder.wait().unwrap();
    drop(quick_store(dir.path()));
    assert!(!path.exists(), "left although its owner is dead");
}

#[test]
fn a_thousand_leftovers_do_not_hinder_anything() {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let digest = put_layer(&storage, b"x");
    let stem = format!("sha256-{}", "c".repeat(64));
    for i in 0..1000 {
        std::fs::write(dir.path().join(format!("layers/{stem}.{i:032x}.downloading")), "x").unwrap();
    }
    let storage = quick_store(dir.path());
    assert!(storage.has_layer(&digest).unwrap());
    // What takes longer than an open may, a thread removes.
    wait_until("the leftovers are gone", || names_in(&dir.path().join("layers")).len() == 1);
}
