//! A real image, given as an OCI layout folder in `BL_TEST_LAYOUT`: every layer against what bsdtar makes of it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use boxlite_images::oci::Document;
use boxlite_images::{Digest, ExtractOptions};
use serde_json::Value;

use super::support::{has_tool, is_root, quick_store, record_of, run, skip, temp_dir};
use super::tree::{differences, snapshot};

#[test]
fn layers_match_what_bsdtar_extracts() {
    let Some(layout) = std::env::var_os("BL_TEST_LAYOUT").map(PathBuf::from) else {
        return skip("BL_TEST_LAYOUT names no image layout");
    };
    if !has_tool("bsdtar") {
        return;
    }
    let blob = |digest: &Digest| layout.join("blobs/sha256").join(digest.hex());
    let index: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let digest = Digest::parse(index["manifests"][0]["digest"].as_str().unwrap()).unwrap();
    let Document::Manifest(manifest) = Document::parse(&std::fs::read(blob(&digest)).unwrap()).unwrap() else {
        panic!("{digest} is an index")
    };
    let config: Value = serde_json::from_slice(&std::fs::read(blob(&manifest.config.digest)).unwrap()).unwrap();
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    for (i, layer) in manifest.layers.iter().enumerate() {
        let mut options = ExtractOptions::default();
        options.tarball_path = Some(blob(&layer.digest));
        options.diff_id = Some(Digest::parse(config["rootfs"]["diff_ids"][i].as_str().unwrap()).unwrap());
        options.form.device_nodes = is_root();
        let done = storage.extract_layer(&layer.digest, &options).unwrap();
        let theirs = dir.path().join(format!("bsdtar-{i}"));
        std::fs::create_dir(&theirs).unwrap();
        unpack_with_bsdtar(&blob(&layer.digest), &theirs);
        let ours = snapshot(&storage.extracted_path(&layer.digest, options.form));
        let mut theirs = snapshot(&theirs);
        // bsdtar leaves the times of the directory that it is sent to; we give the root what its entry says (D2).
        // Directories without an entry are of now for bsdtar, and of the epoch for us (family 83).
        let record = std::fs::read_to_string(record_of(&storage.extracted_path(&layer.digest, options.form))).unwrap();
        let implied = record.lines().filter(|line| line.ends_with(" implied"));
        for path in implied.map(|line| line.split(' ').next().unwrap()) {
            assert_eq!(ours[path].mtime, 0, "{path}");
            theirs.get_mut(path).unwrap().mtime = 0;
        }
        theirs.get_mut(".").unwrap().mtime = ours["."].mtime;
        let found = differences(&ours, &theirs);
        assert!(found.is_empty(), "layer {i}: {found:#?}");
        eprintln!("layer {i}: {} entries, {} paths, no difference", done.entries, ours.len());
    }
    assert!(!manifest.layers.is_empty());
}

fn unpack_with_bsdtar(blob: &Path, to: &Path) {
    let args = [OsStr::new("-xpf"), blob.as_os_str(), OsStr::new("--numeric-owner"), OsStr::new("-C"), to.as_os_str()];
    run("bsdtar", &args);
}
