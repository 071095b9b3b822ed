//! Others read what was committed: skopeo copies it, and umoci unpacks the copy to what the merged view showed.

use std::collections::BTreeMap;
use std::path::Path;

use boxlite_images::{CommitOptions, ExportOptions, ExportTarget, ImageName, LayerCompression};

use super::super::support::{has_tool, quick_store, run, temp_dir};
use super::super::tree::{Node, differences, snapshot};
use super::overlays::{Overlay, SCRIPTS, can_overlay};
use super::{base, commit, comparable, rootfs};

/// A PAX record named `SCHILY.xattr` cannot say it, and umoci knows no other.
const NOT_READ_BY_UMOCI: &[&str] = &["an attribute with an equals sign in its name"];

fn tool(program: &str, args: &[&str]) {
    let output = run(program, &args.iter().map(std::ffi::OsStr::new).collect::<Vec<_>>());
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
}

fn unpacked_by_umoci(layout: &Path, tag: &str, at: &Path) -> BTreeMap<String, Node> {
    tool("umoci", &["unpack", "--image", &format!("{}:{tag}", layout.display()), &at.display().to_string()]);
    comparable(snapshot(&at.join("rootfs")))
}

#[test]
fn other_tools_read_what_was_committed() {
    if !can_overlay() || !has_tool("umoci") || !has_tool("skopeo") {
        return;
    }
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let base = base(&storage);
    let lower = dir.path().join("lower");
    rootfs(&storage, &base, &lower);
    let (mut images, mut shown) = (Vec::new(), Vec::new());
    for (number, (what, script)) in SCRIPTS.iter().enumerate() {
        let overlay = Overlay::new(&lower, &dir.path().join(number.to_string()), "");
        overlay.script(what, script);
        shown.push(comparable(snapshot(&overlay.merged())));
        let upper = overlay.upper();
        drop(overlay);
        // umoci of Debian 12 reads no zstd.
        let compression = [LayerCompression::Gzip, LayerCompression::Plain][number % 2];
        let name = ImageName::parse(&format!("a.org/x:{number}")).unwrap();
        let options = CommitOptions::default().compression(compression).name(name);
        images.push(commit(&storage, &base, &upper, &options).image);
    }
    let (ours, copied) = (dir.path().join("ours"), dir.path().join("copied"));
    let mut odd = Vec::new();
    let all: Vec<_> = images.iter().collect();
    storage.export(&all, ExportTarget::Folder(ours.clone()), &ExportOptions::default()).unwrap();
    for (number, (what, _)) in SCRIPTS.iter().enumerate() {
        let [from, to] = [&ours, &copied].map(|layout| format!("oci:{}:{number}", layout.display()));
        tool("skopeo", &["--insecure-policy", "copy", "--quiet", &from, &to]);
        let bundle = dir.path().join("bundle");
        let differences = differences(&shown[number], &unpacked_by_umoci(&copied, &number.to_string(), &bundle));
        if differences.is_empty() == NOT_READ_BY_UMOCI.contains(what) {
            odd.push(format!("{what}: {differences:#?}"));
        }
        std::fs::remove_dir_all(&bundle).unwrap();
    }
    assert!(odd.is_empty(), "{}", odd.join("\n"));
}
