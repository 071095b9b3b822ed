//! The way back: what was changed comes back as an image, and the image has what the changed root file system had.

mod archives;
mod extracted;
mod images;
mod model;
mod overlays;
mod readers;
mod shortages;
mod sources;
mod trees;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use boxlite_images::{CommitOptions, CommitSource, CommittedImage, Image, RootfsMode, RootfsOptions, Storage};

use super::archive::{Archive, Header};
use super::images::put_image_that_runs;
use super::support::is_root;
use super::tree::Node;

fn base_layers() -> Vec<Vec<u8>> {
    let wide =
        (0..50).fold(Archive::new().dir(b"wide"), |archive, n| archive.file(format!("wide/{n}").as_bytes(), b"w"));
    let lower = wide
        .file(b"f", b"base\n")
        .dir(b"d")
        .file(b"d/f", b"in d\n")
        .dir(b"d/e")
        .file(b"d/e/g", b"g")
        .dir(b"deep")
        .dir(b"deep/a")
        .dir(b"deep/a/b")
        .file(b"deep/a/b/f", b"f")
        .symlink(b"s", b"d/f")
        .file(b"l1", b"linked")
        .hardlink(b"l2", b"l1")
        .pax(&[("SCHILY.xattr.user.base", b"1")])
        .file(b"x", b"x");
    let upper =
        Archive::new().file(b"d/.wh.gone", b"").entry(Header::new(b'0', b"owned").owner(10, 20).mode(0o640), b"o");
    vec![lower.finish(), upper.finish()]
}

fn base(storage: &Storage) -> Image {
    let run = r#"{"Env":["PATH=/bin","HOME=/root"],"Cmd":["sh"],"Labels":{"a":"b"}}"#;
    storage.open_image_by_digest(&put_image_that_runs(storage, run, &base_layers())).unwrap()
}

fn rootfs(storage: &Storage, image: &Image, at: &Path) {
    let mut options = RootfsOptions::default().mode(RootfsMode::Copy);
    options.tree.form.device_nodes = is_root();
    storage.assemble_rootfs(image, at, &options).unwrap();
}

fn commit(storage: &Storage, base: &Image, upper: &Path, options: &CommitOptions) -> CommittedImage {
    storage.commit_image(Some(base), &CommitSource::Upper(upper.to_path_buf()), options).unwrap()
}

/// Without the root, whose metadata is the upper directory's own, and what overlayfs itself shows.
fn comparable(mut tree: BTreeMap<String, Node>) -> BTreeMap<String, Node> {
    tree.remove(".");
    for node in tree.values_mut() {
        node.xattrs.retain(|(key, _)| !key.starts_with("trusted.overlay."));
        // An overlay shows how many links the lower file has. Which names are one file is compared.
        node.links = 0;
    }
    tree
}

/// A directory that is there without root, for what needs none.
fn plain_upper(dir: &Path) -> PathBuf {
    let upper = dir.join("upper");
    std::fs::create_dir_all(upper.join("d")).unwrap();
    std::fs::write(upper.join("d/new"), b"new").unwrap();
    std::fs::write(upper.join("large"), vec![7; 3_000_000]).unwrap();
    std::os::unix::fs::symlink("d/new", upper.join("link")).unwrap();
    upper
}
