//! Trees in the forms of overlayfs, as overlayfs sees them. Layers are extracted, mounted, and what
//! is in the mount is compared with what the model makes of the layers. And the other forms that a
//! tree can have.

use std::path::{Path, PathBuf};

use boxlite_images::{Anomalies, Digest, ExtractOptions, LayerEntryKind, Status, TreeForm, WhiteoutForm};

use super::super::archive::{Archive, Header};
use super::super::support::{as_each_user_capped, is_root, put_layer, skip};
use super::super::tree::snapshot;
use super::model::{Choices, Op, Tree, archive, found, lines, merge};
use super::{Bench, entries};

fn form(whiteouts: WhiteoutForm) -> ExtractOptions {
    let mut options = ExtractOptions::default();
    options.tree.form.whiteouts = whiteouts;
    options
}

/// A mount that is gone at the end.
struct Mount(PathBuf);

impl Mount {
    fn new(at: &Path, lower: &[PathBuf], user_xattr: bool) -> Option<Mount> {
        std::fs::create_dir_all(at).unwrap();
        let lower: Vec<_> = lower.iter().map(|path| path.display().to_string()).collect();
        let options = format!("lowerdir={}{}", lower.join(":"), if user_xattr { ",userxattr" } else { "" });
        let mount = std::process::Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o", &options])
            .arg(at)
            .output()
            .unwrap();
        if !mount.status.success() {
            skip(&format!("overlayfs cannot be mounted: {}", String::from_utf8_lossy(&mount.stderr).trim()));
            return None;
        }
        Some(Mount(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn families_54_to_59_overlayfs_sees_what_the_layers_say() {
    if !is_root() {
        return skip("mounting overlayfs needs root");
    }
    for (whiteouts, user_xattr) in [(WhiteoutForm::Overlay, false), (WhiteoutForm::UserOverlay, true)] {
        for seed in 0..60 {
            let bench = Bench::new();
            let mut choices = Choices::new(1000 + seed);
            let mut lower = Vec::new();
            let mut expected = Tree::default();
            let mut story = Vec::new();
            for _ in 0..3 {
                let mut ops: Vec<Op> = choices.ops(8, false);
                // The root cannot be opaque for overlayfs: whoever mounts leaves the lower layers out.
                ops.retain(|op| !matches!(op, Op::Opaque(path) if path.is_empty()));
                let Ok(mut tree) = Tree::of(&ops) else { continue };
                // overlayfs sees every directory that a layer has.
                tree.implied.clear();
                let blob = archive(&ops);
                story.push(ops);
                bench.extract(&format!("{story:?}"), &blob, &form(whiteouts)).0.unwrap();
                lower.insert(0, bench.storage.extracted_path(&Digest::of(&blob), form(whiteouts).tree.form));
                merge(&mut expected, &tree);
            }
            let empty = bench.canary.target().join("empty");
            std::fs::create_dir(&empty).unwrap();
            lower.push(empty);
            let at = bench.canary.target().join("mount");
            let Some(_mount) = Mount::new(&at, &lower, user_xattr) else { return };
            let mut lines = lines(&expected);
            lines.sort();
            assert_eq!(found(&snapshot(&at), &at), lines, "seed {seed}: {story:#?}");
        }
    }
}

/// The forms by themselves, also where nothing can be mounted.
#[test]
fn families_56_to_63_whiteouts_as_overlayfs_has_them() {
    as_each_user_capped(
        "families::overlay::families_56_to_63_whiteouts_as_overlayfs_has_them",
        || (),
        |()| {
            let a = Archive::new;
            let long = format!("d/.wh.{}", "n".repeat(255));
            let layer = a()
                .file(b".wh.gone", b"")
                .file(b"kept", b"1")
                .file(b".wh.kept", b"")
                .file(b".wh.later", b"")
                .file(b"later", b"2")
                .file(b".wh.dir", b"")
                .file(b"dir/f", b"3")
                .dir(b"other")
                .file(b".wh.other", b"")
                .pax(&[("path", long.as_bytes())])
                .file(b"x", b"")
                .file(b"opaque/.wh..wh..opq", b"")
                .dir(b"opaque")
                .hardlink(b"forward", b"target")
                .file(b".wh.forward", b"")
                .file(b"target", b"4")
                .hardlink(b"to-gone", b"gone")
                .finish();
            let bench = Bench::new();
            let options = form(WhiteoutForm::UserOverlay);
            let seen = bench.see("user overlay", &layer, &options);
            assert!(!seen.nodes.keys().any(|path| path.contains(".wh.")), "{:?}", seen.nodes.keys());
            let gone = |path: &str| (seen.node(path).kind, seen.node(path).content.as_str()) == ("char", "0");
            assert!(gone("gone") && gone(&format!("d/{}", "n".repeat(255))));
            assert_eq!((seen.node("kept").size, seen.node("later").size, seen.node("forward").size), (1, 1, 1));
            let opaque =
                |path: &str| seen.node(path).xattrs.contains(&("user.overlay.opaque".to_owned(), b"y".to_vec()));
            assert!(opaque("dir") && opaque("other") && opaque("opaque") && !opaque("d"));
            // A whiteout is no file to link to.
            assert!(
                !seen.has("to-gone")
                    && seen.has_anomaly(Anomalies::LOWER_LINK)
                    && !seen.has_anomaly(Anomalies::LONG_WHITEOUT)
            );
            let whiteouts = seen.entries.iter().filter(|entry| entry.kind == LayerEntryKind::Whiteout).count();
            let opaques = seen.entries.iter().filter(|entry| entry.kind == LayerEntryKind::Opaque).count();
            assert_eq!((whiteouts, opaques), (7, 1));
            // The attribute that only root can set.
            let result = bench.extract("overlay", &layer, &form(WhiteoutForm::Overlay)).0;
            match result {
                Ok(_) => assert!(is_root()),
                Err(error) => assert_eq!(error.status(), Status::Permission, "{error}"),
            }
        },
    );
}

#[test]
fn family_76_override_stat_says_what_the_file_system_was_not_told() {
    as_each_user_capped(
        "families::overlay::family_76_override_stat_says_what_the_file_system_was_not_told",
        || (),
        |()| {
            let a = Archive::new;
            let layer = a()
                .entry(Header::new(b'5', b"./").mode(0o755).owner(0, 0), b"")
                .entry(Header::new(b'0', b"setuid").mode(0o4755).owner(1000, 1001), b"1")
                .entry(Header::new(b'0', b"none").mode(0).owner(2, 3), b"2")
                .entry(Header::new(b'5', b"locked").mode(0o1000).owner(4, 5), b"")
                .entry(Header::new(b'3', b"null").device(1, 3).mode(0o666), b"")
                .entry(Header::new(b'4', b"sda").device(8, 0).mode(0o660).owner(0, 6), b"")
                .entry(Header::new(b'6', b"fifo").mode(0o600), b"")
                .pax(&[("SCHILY.xattr.user.containers.override_stat", b"0:0:0777:file")])
                .file(b"implied/forged", b"")
                .symlink(b"link", b"x")
                .file(b"locked/inside", b"3")
                .file(b".wh.gone", b"")
                .finish();
            let bench = Bench::new();
            let mut options = ExtractOptions::default();
            options.tree.form.override_stat = true;
            let (result, _) = bench.extract("override_stat", &layer, &options);
            if let Err(error) = &result {
                // tmpfs before Linux 6.6 has no user attributes; then the option cannot be had.
                assert_eq!(error.status(), Status::Unsupported, "{error}");
                return skip("the file system has no user.* attributes");
            }
            let seen = bench.see("override_stat", &layer, &options);
            let stat = |path: &str| {
                let xattrs = &seen.nodes[&if path == "." { path.to_owned() } else { format!("./{path}") }].xattrs;
                xattrs
                    .iter()
                    .find(|(name, _)| name == "user.containers.override_stat")
                    .map(|(_, v)| String::from_utf8(v.clone()).unwrap())
            };
            for (path, expected, mode) in [
                (".", "0:0:0755:dir", 0o755),
                ("setuid", "1000:1001:4755:file", 0o755),
                ("none", "2:3:0000:file", 0o600),
                ("locked", "4:5:1000:dir", 0o700),
                ("locked/inside", "0:0:0644:file", 0o644),
                ("null", "0:0:0666:char-1-3", 0o666),
                ("sda", "0:6:0660:block-8-0", 0o660),
                ("implied", "0:0:0755:dir", 0o755),
                ("implied/forged", "0:0:0644:file", 0o644),
            ] {
                assert_eq!(stat(path).as_deref(), Some(expected), "{path}");
                assert_eq!(
                    seen.nodes[&if path == "." { path.to_owned() } else { format!("./{path}") }].mode,
                    mode,
                    "{path}"
                );
            }
            // What cannot carry it, and what is no file of the image.
            for path in ["fifo", "link", ".wh.gone"] {
                assert_eq!(stat(path), None, "{path}");
            }
            let own = u32::from(!is_root()) * 65534;
            assert!(seen.nodes.values().all(|node| node.uid == own), "owners were changed");
        },
    );
}

#[test]
fn forms_never_share_a_tree() {
    let bench = Bench::new();
    let layer = Archive::new().file(b".wh.x", b"").finish();
    let digest = put_layer(&bench.storage, &layer);
    let mut trees = std::collections::BTreeSet::new();
    for whiteouts in [WhiteoutForm::Markers, WhiteoutForm::UserOverlay] {
        for device_nodes in [false, true] {
            let mut form = TreeForm::default();
            (form.whiteouts, form.device_nodes) = (whiteouts, device_nodes);
            let mut options = ExtractOptions::default();
            options.tree.form = form;
            assert!(!bench.storage.extract_layer(&digest, &options).unwrap().cached);
            assert!(bench.storage.extract_layer(&digest, &options).unwrap().cached);
            let marker = bench.storage.extracted_path(&digest, form).join(".wh.x");
            assert_eq!(marker.exists(), whiteouts == WhiteoutForm::Markers);
            assert_eq!(entries(&bench.storage, &digest, form).len(), 1);
            trees.insert(bench.storage.extracted_path(&digest, form));
        }
    }
    assert_eq!(trees.len(), 4);
    assert!(trees.contains(&bench.storage.layer_extracted_path(&digest)));
}

/// More names than one inode can have, where the file system has such a limit (ext4: 65,000).
#[test]
fn family_44_links_beyond_the_limit_become_copies() {
    let count = 65_100;
    let layer = (0..count)
        .fold(Archive::new().entry(Header::new(b'0', b"f").mode(0o4711).owner(7, 8), b"content"), |archive, i| {
            archive.hardlink(format!("l{i}").as_bytes(), b"f")
        });
    let bench = Bench::new();
    let digest = put_layer(&bench.storage, &layer.finish());
    let done = bench.storage.extract_layer(&digest, &ExtractOptions::default()).unwrap();
    let tree = bench.storage.layer_extracted_path(&digest);
    let meta = |i: usize| std::fs::metadata(tree.join(format!("l{i}"))).unwrap();
    use std::os::unix::fs::MetadataExt as _;
    let (first, last) = (meta(0), meta(count - 1));
    assert_eq!(done.anomalies.contains(Anomalies::COPIED_LINK), first.ino() != last.ino());
    assert_eq!(
        (first.mode(), first.uid(), first.mtime(), first.size()),
        (last.mode(), last.uid(), last.mtime(), last.size())
    );
    // Copies share an inode too.
    assert!(meta(count - 2).ino() == last.ino() && first.nlink() + last.nlink() > 100);
}
