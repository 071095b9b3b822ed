//! A real image, given as an OCI layout folder in `BL_TEST_LAYOUT`. Every layer is held against
//! what bsdtar makes of it, and the whole of it against what umoci does.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use boxlite_images::oci::Document;
use boxlite_images::{Digest, ExtractOptions, Image, OverlayOptions, RootfsMode, RootfsOptions, Storage};
use serde_json::Value;

use super::blimg::Tool;
use super::loop_disk::LoopDisk;
use super::support::{has_tool, is_root, quick_store, record_of, run, skip, temp_dir};
use super::tree::{Node, differences, snapshot};

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
        options.tree.form.device_nodes = is_root();
        let done = storage.extract_layer(&layer.digest, &options).unwrap();
        let theirs = dir.path().join(format!("bsdtar-{i}"));
        std::fs::create_dir(&theirs).unwrap();
        unpack_with_bsdtar(&blob(&layer.digest), &theirs);
        let ours = snapshot(&storage.extracted_path(&layer.digest, options.tree.form));
        let mut theirs = snapshot(&theirs);
        // bsdtar leaves the times of the directory that it is sent to; we give the root what its entry says (D2).
        // Directories without an entry are of now for bsdtar, and of the epoch for us (family 83).
        let record =
            std::fs::read_to_string(record_of(&storage.extracted_path(&layer.digest, options.tree.form))).unwrap();
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

/// The whole image, in every mode, and what the record says of it.
#[test]
fn root_file_systems_are_what_umoci_makes() {
    let Some(layout) = std::env::var_os("BL_TEST_LAYOUT").map(PathBuf::from) else {
        return skip("BL_TEST_LAYOUT names no image layout");
    };
    if !has_tool("umoci") {
        return;
    }
    if !is_root() {
        return skip("owners need root");
    }
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let (digest, tag) = load(&layout, &storage);
    let bundle = dir.path().join("bundle");
    let image = format!("{}:{tag}", layout.display());
    let args = ["unpack", "--image", &image, bundle.to_str().unwrap()].map(OsStr::new);
    assert!(run("umoci", &args).status.success());
    let mut theirs = snapshot(&bundle.join("rootfs"));
    let image = storage.open_image_by_digest(&digest).unwrap();
    for mode in [RootfsMode::Copy, RootfsMode::Reflink, RootfsMode::Hardlink, RootfsMode::Direct] {
        let to = dir.path().join("root");
        let record = dir.path().join("record");
        let mut options = RootfsOptions::default();
        (options.mode, options.tree.form.device_nodes, options.replace) = (mode, true, true);
        options.record_path = Some(record.clone());
        storage.assemble_rootfs(&image, &to, &options).unwrap();
        let mut ours = snapshot(&to);
        for nodes in [&mut ours, &mut theirs] {
            // In the store files may have more names. umoci leaves the root as it made it, where it has no entry.
            nodes.values_mut().for_each(|node| node.links = 0);
            nodes.remove(".");
        }
        let found = differences(&ours, &theirs);
        assert!(found.is_empty(), "{mode:?}: {found:#?}");
        let said = recorded(&record);
        let found: Vec<_> =
            theirs.iter().filter(|(path, node)| said.get(*path) != Some(&words(node))).take(5).collect();
        assert!(found.is_empty(), "{mode:?}: the record says otherwise of {found:#?}");
        assert_eq!(said.len(), theirs.len(), "{mode:?}");
        eprintln!("{mode:?}: {} paths, no difference", ours.len());
    }
    filled_into_ext4(&storage, &image, &theirs);
    shown_by_overlayfs(&storage, &image, dir.path(), &theirs);
    made_by_an_ordinary_user(&layout, dir.path(), &theirs);
}

/// As VM hosts do it: a file system is made and mounted, and the image is put into it.
fn filled_into_ext4(storage: &Storage, image: &Image, theirs: &BTreeMap<String, Node>) {
    let Some(disk) = LoopDisk::ext4(2048) else { return };
    let mut options = RootfsOptions::default();
    (options.mode, options.tree.form.device_nodes) = (RootfsMode::Direct, true);
    storage.assemble_rootfs(image, &disk.path(), &options).unwrap();
    let mut ours = snapshot(&disk.path());
    ours.values_mut().for_each(|node| node.links = 0);
    for name in [".", "./lost+found"] {
        ours.remove(name);
    }
    let found = differences(&ours, theirs);
    assert!(found.is_empty(), "in a fresh ext4: {found:#?}");
    eprintln!("a fresh ext4: {} paths, no difference", ours.len());
}

fn shown_by_overlayfs(storage: &Storage, image: &Image, dir: &Path, theirs: &BTreeMap<String, Node>) {
    let mut options = OverlayOptions::default();
    options.tree.form.device_nodes = true;
    let overlay = storage.overlay(image, &options).unwrap();
    // One lower directory alone is no overlay.
    let (at, empty) = (dir.join("mount"), dir.join("empty"));
    for dir in [&at, &empty] {
        std::fs::create_dir(dir).unwrap();
    }
    let options = format!("{}:{}", String::from_utf8(overlay.mount_options.clone()).unwrap(), empty.display());
    let args = ["-t", "overlay", "overlay", "-o", &options].map(OsStr::new);
    run("mount", &[&args[..], &[at.as_os_str()]].concat());
    let mut shown = snapshot(&at);
    run("umount", &[at.as_os_str()]);
    shown.remove(".");
    for (path, node) in &mut shown {
        node.links = 0;
        // Of a directory without an entry in an upper layer overlayfs shows that layer's time, which is 1970.
        if let Some(theirs) = theirs.get(path).filter(|_| node.kind == "dir" && node.mtime == 0) {
            node.mtime = theirs.mtime;
        }
        node.xattrs.retain(|(name, _)| !name.starts_with("trusted.overlay."));
    }
    let found = differences(&shown, theirs);
    assert!(found.is_empty(), "overlayfs: {found:#?}");
    eprintln!("overlayfs: {} paths, no difference", shown.len());
    overlay.lease.release().unwrap();
}

/// What an ordinary user's record says, where the files cannot be what they should.
fn made_by_an_ordinary_user(layout: &Path, dir: &Path, theirs: &BTreeMap<String, Node>) {
    const NOBODY: u32 = 65534;
    let Some(tool) = Tool::new() else { return };
    let store = dir.join("theirs");
    let (digest, _) = load(layout, &quick_store(&store));
    run("chown", &[OsStr::new("-R"), OsStr::new("65534:65534"), store.as_os_str()]);
    let to = dir.join("user");
    std::fs::create_dir(&to).unwrap();
    std::os::unix::fs::chown(&to, Some(NOBODY), Some(NOBODY)).unwrap();
    for mode in ["copy", "direct"] {
        let (root, record) = (to.join(mode), to.join(format!("{mode}.record")));
        let digest = digest.to_string();
        let mut command = std::process::Command::new(tool.path("blimg"));
        command.arg("--store").arg(&store).args(["--quiet", "rootfs", &digest]).arg(&root);
        command.args(["--mode", mode, "--record"]).arg(&record).uid(NOBODY).gid(NOBODY);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let said = recorded(&record);
        let found: Vec<_> =
            theirs.iter().filter(|(path, node)| said.get(*path) != Some(&words(node))).take(5).collect();
        assert!(found.is_empty(), "{mode}: the record says otherwise of {found:#?}");
        assert_eq!(said.len(), theirs.len(), "{mode}");
        eprintln!("as an ordinary user, {mode}: {} paths, no difference", said.len());
    }
}

/// Stores an image layout; gives its manifest's digest and its tag.
fn load(layout: &Path, storage: &Storage) -> (Digest, String) {
    let blob = |digest: &Digest| std::fs::read(layout.join("blobs/sha256").join(digest.hex())).unwrap();
    let index: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let entry = &index["manifests"][0];
    let digest = Digest::parse(entry["digest"].as_str().unwrap()).unwrap();
    let Document::Manifest(manifest) = Document::parse(&blob(&digest)).unwrap() else { panic!("{digest} is an index") };
    super::images::put_config(storage, &blob(&manifest.config.digest));
    manifest.layers.iter().for_each(|layer| drop(super::support::put_layer(storage, &blob(&layer.digest))));
    storage.save_manifest(&digest, &blob(&digest)).unwrap();
    (digest, entry["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap().to_owned())
}

/// What a record says of each path, but for what a hard link has from its target.
fn recorded(record: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(record).unwrap();
    let mut said = BTreeMap::new();
    let mut links = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let words: Vec<&str> = line.split(' ').collect();
        let path = unescape(words[0]);
        let word = |key: &str| words.iter().find_map(|word| word.strip_prefix(key));
        if path == "." {
            continue;
        }
        if let Some(target) = word("hardlink=") {
            links.push((path, unescape(target)));
            continue;
        }
        let xattrs = words.iter().filter(|word| word.starts_with("xattr.")).count();
        let content = word("link=").map(unescape).unwrap_or_default();
        let (seconds, nanos) = word("time=").unwrap().split_once('.').unwrap();
        said.insert(
            path,
            format!(
                "{} {} {}:{} {seconds}{nanos} {} {content:?} {xattrs}",
                word("type=").unwrap(),
                word("mode=").unwrap(),
                word("uid=").unwrap(),
                word("gid=").unwrap(),
                word("size=").unwrap_or("0")
            ),
        );
    }
    for (link, target) in links {
        let target = said[&target].clone();
        said.insert(link, target);
    }
    said
}

/// The same of what is there.
fn words(node: &Node) -> String {
    let kind = if node.kind == "symlink" { "link" } else { node.kind };
    let content = if node.kind == "symlink" { node.content.as_str() } else { "" };
    // A symlink's own mode is nobody's; images say 0777.
    let (seconds, nanos) = (node.mtime / 1_000_000_000, node.mtime % 1_000_000_000);
    let (mode, uid, gid, size, xattrs) = (node.mode, node.uid, node.gid, node.size, node.xattrs.len());
    format!("{kind} {mode:04o} {uid}:{gid} {seconds}{nanos:09} {size} {content:?} {xattrs}")
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        (bytes, rest) = match byte {
            b'\\' => {
                let code = u8::from_str_radix(std::str::from_utf8(&after[..3]).unwrap(), 8).unwrap();
                ([&bytes[..], &[code]].concat(), &after[3..])
            }
            byte => ([&bytes[..], &[byte]].concat(), after),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
