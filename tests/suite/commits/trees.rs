//! Changed trees: what a tree cannot say is as the base has it, and what is mounted in it is not of it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use boxlite_images::{
    CommitOptions, CommitSource, CommittedImage, Device, Error, Image, LayerEntry, LayerEntryKind, OverlayOptions,
    RootfsMode, RootfsOptions, Status, Storage,
};

use super::super::archive::{Archive, Header};
use super::super::images::put_image_of;
use super::super::support::{as_each_user, in_own_process, is_root, quick_store, run, skip, temp_dir};

/// A store, an image of one layer, and its root file system as it is by default.
struct Started {
    dir: tempfile::TempDir,
    storage: Storage,
    image: Image,
}

impl Started {
    fn from(layer: Archive) -> Started {
        let dir = temp_dir();
        let storage = quick_store(&dir.path().join("store"));
        let image = storage.open_image_by_digest(&put_image_of(&storage, "x", &[layer.finish()])).unwrap();
        let started = Started { dir, storage, image };
        let options = RootfsOptions::default().mode(RootfsMode::Copy);
        started.storage.assemble_rootfs(&started.image, &started.tree(), &options).unwrap();
        started
    }

    fn tree(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    fn commit(&self) -> Result<CommittedImage, Error> {
        let source = CommitSource::Tree(self.tree());
        self.storage.commit_image(Some(&self.image), &source, &CommitOptions::default())
    }

    /// What the new layer has.
    fn entries(&self) -> Vec<LayerEntry> {
        let layer = self.commit().unwrap().layer.unwrap();
        self.storage.extract_layer(&layer, &Default::default()).unwrap();
        self.storage.layer_entries(&layer, Default::default()).unwrap().map(Result::unwrap).collect()
    }

    fn paths(&self) -> Vec<String> {
        self.entries().iter().map(|entry| String::from_utf8_lossy(&entry.path).into_owned()).collect()
    }
}

fn append(path: &Path) {
    use std::io::Write as _;
    std::fs::File::options().append(true).open(path).unwrap().write_all(b"more").unwrap();
}

/// Without them a reader would make them as it likes, and an overlay would show those.
#[test]
fn directories_on_the_way_are_in_the_layer() {
    let layer = Archive::new()
        .entry(Header::new(b'5', b"root/").mode(0o700), b"")
        .entry(Header::new(b'5', b"root/in/").mode(0o710), b"")
        .file(b"root/in/f", b"f");
    let started = Started::from(layer);
    append(&started.tree().join("root/in/f"));
    let entries = started.entries();
    let found: Vec<_> = entries.iter().map(|entry| (&entry.path[..], entry.mode & 0o777)).collect();
    assert_eq!(found, [(&b"root"[..], 0o700), (b"root/in", 0o710), (b"root/in/f", 0o644)]);
    if is_root() {
        let image = started.commit().unwrap().image;
        started.storage.overlay(&image, &OverlayOptions::default()).unwrap().lease.release().unwrap();
    }
}

/// By default a tree has an empty file in place of a device.
#[test]
fn a_device_of_which_the_tree_has_a_file_is_one() {
    as_each_user("commits::trees::a_device_of_which_the_tree_has_a_file_is_one", || {
        let layer = Archive::new().dir(b"dev").entry(Header::new(b'3', b"dev/null").mode(0o666).device(1, 3), b"");
        let started = Started::from(layer);
        assert_eq!(started.commit().unwrap().entries, 0);
        std::fs::set_permissions(started.tree().join("dev/null"), std::fs::Permissions::from_mode(0o600)).unwrap();
        let entries = started.entries();
        let null = entries.last().unwrap();
        assert_eq!((null.kind, null.mode & 0o777), (LayerEntryKind::CharDevice, 0o600));
        assert_eq!(null.device, Device { major: 1, minor: 3 });
        // What somebody has written is a file.
        append(&started.tree().join("dev/null"));
        assert_eq!(started.entries().last().unwrap().kind, LayerEntryKind::File);
    });
}

/// An ordinary user cannot set them.
#[test]
fn a_capability_that_the_tree_cannot_have_stays() {
    as_each_user("commits::trees::a_capability_that_the_tree_cannot_have_stays", || {
        const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let layer = Archive::new().pax(&[("SCHILY.xattr.security.capability", CAPABILITY)]).file(b"ping", b"ping");
        let started = Started::from(layer);
        assert_eq!(started.commit().unwrap().entries, 0);
        std::fs::set_permissions(started.tree().join("ping"), std::fs::Permissions::from_mode(0o700)).unwrap();
        let entries = started.entries();
        assert_eq!((entries.len(), entries[0].mode & 0o777), (1, 0o700));
        if !is_root() {
            assert_eq!(entries[0].xattrs, [(b"security.capability".to_vec(), CAPABILITY.to_vec())]);
        }
    });
}

#[test]
fn hard_links_that_are_files_of_their_own_are_that() {
    let started = Started::from(Archive::new().file(b"l1", b"linked").hardlink(b"l2", b"l1").file(b"f", b"f"));
    assert_eq!(started.commit().unwrap().entries, 0);
    let script = "cp -p l1 t && mv t l2";
    let made = std::process::Command::new("sh").args(["-ec", script]).current_dir(started.tree()).status().unwrap();
    assert!(made.success());
    assert_eq!(started.paths(), ["l1", "l2"]);
    assert!(started.entries().iter().all(|entry| entry.kind == LayerEntryKind::File));
}

#[test]
fn what_is_mounted_in_a_tree_is_not_of_it() {
    if !is_root() {
        return skip("mounting needs root");
    }
    let started =
        Started::from(Archive::new().dir(b"etc").file(b"etc/hosts", b"image").dir(b"data").file(b"data/f", b"f"));
    let host = started.dir.path().join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("hosts"), b"host").unwrap();
    std::fs::create_dir(started.tree().join("new")).unwrap();
    let points = [("hosts", "etc/hosts"), ("", "data"), ("", "new")]
        .map(|(from, to)| (host.join(from), started.tree().join(to)));
    points.iter().for_each(|(from, to)| drop(run("mount", &["--bind".as_ref(), from.as_ref(), to.as_ref()])));
    let (committed, paths) = (started.commit(), started.paths());
    points.iter().for_each(|(_, to)| drop(run("umount", &["-l".as_ref(), to.as_ref()])));
    assert_eq!(committed.unwrap().other_file_systems, 3);
    assert_eq!(paths, ["new"]);
}

/// One directory is open at a time.
#[test]
fn depth_takes_no_descriptors() {
    in_own_process("commits::trees::depth_takes_no_descriptors", || {
        let deep = "d/".repeat(300);
        let started = Started::from(Archive::new().file(b"f", b"f"));
        std::fs::create_dir_all(started.tree().join(&deep)).unwrap();
        std::fs::write(started.tree().join(&deep).join("f"), b"f").unwrap();
        let limit = rustix::process::Rlimit { current: Some(120), maximum: Some(120) };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
        assert_eq!(started.commit().unwrap().entries, 301);
    });
}

#[test]
fn a_device_that_overlays_take_for_a_whiteout_is_refused() {
    if !is_root() {
        return skip("making devices needs root");
    }
    let started = Started::from(Archive::new().file(b"f", b"f"));
    run("mknod", &[started.tree().join("odd").as_ref(), "c".as_ref(), "0".as_ref(), "0".as_ref()]);
    let error = started.commit().unwrap_err();
    assert!(error.status() == Status::Unsupported && error.to_string().contains("odd"), "{error}");
}

/// What goes away while it is read is a change, whatever the call that noticed.
#[test]
fn a_tree_that_changes_is_told() {
    let started = Started::from(
        (0..3000).fold(Archive::new(), |archive, n| archive.symlink(format!("s{n:04}").as_bytes(), b"x")),
    );
    let tree = started.tree();
    (0..3000).for_each(|n| {
        let path = tree.join(format!("s{n:04}"));
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("y", path).unwrap();
    });
    let error = std::thread::scope(|scope| {
        let remove =
            scope.spawn(|| (0..3000).rev().for_each(|n| drop(std::fs::remove_file(tree.join(format!("s{n:04}"))))));
        let committed = started.commit();
        remove.join().unwrap();
        committed.err()
    });
    // Either of them may be faster.
    if let Some(error) = error {
        assert_eq!(error.status(), Status::State, "{error}");
    }
}

/// Each differs from the base by one thing, and has the size and time that it had.
#[test]
fn what_differs_by_one_thing_is_in_the_layer() {
    let scripts: &[(&str, &[&str])] = &[
        ("chmod 600 a/f", &["a", "a/f"]),
        ("chmod 4644 a/f", &["a", "a/f"]),
        ("chmod 700 a", &["a"]),
        ("touch -d @5 a/f", &["a", "a/f"]),
        ("touch -d @1.000000001 a/f", &["a", "a/f"]),
        ("setfattr -n user.x -v 1 a/f", &["a", "a/f"]),
        ("setfattr -x user.had a/x", &["a", "a/x"]),
        ("setfattr -n user.had -v other a/x", &["a", "a/x"]),
        ("ln -sfn g a/s && touch -hd @1 a/s", &["a", "a/s"]),
        ("rm a/f && mkfifo -m 644 a/f && touch -d @1 a/f", &["a", "a/f"]),
        ("rm a/f && ln -s f a/f && touch -hd @1 a/f", &["a", "a/f"]),
        ("truncate -s 2 a/f && touch -d @1 a/f", &["a", "a/f"]),
        ("ln a/f n && touch -d @1 a/f", &["a", "a/f", "n"]),
        ("rm l2", &["l2"]),
        ("cp -p a/f new && rm new", &[]),
        ("rm -r a", &["a"]),
    ];
    let of_root: &[(&str, &[&str])] = &[
        ("chown 5 a/f", &["a", "a/f"]),
        ("chgrp 5 a/f", &["a", "a/f"]),
        ("chown -h 5 a/s", &["a", "a/s"]),
        ("rm c && mknod -m 644 c c 1 5 && touch -d @1 c", &["c"]),
        ("rm c && mknod -m 644 c b 1 3 && touch -d @1 c", &["c"]),
    ];
    // All of the time 1.
    let at = |kind, path: &[u8], mode| Header::new(kind, path).mode(mode).number(136, 12, 1);
    let layer = || {
        Archive::new()
            .entry(at(b'5', b"a", 0o755), b"")
            .entry(at(b'0', b"a/f", 0o644), b"f")
            .entry(at(b'2', b"a/s", 0o777).link(b"f"), b"")
            .pax(&[("SCHILY.xattr.user.had", b"1")])
            .entry(at(b'0', b"a/x", 0o644), b"x")
            .entry(at(b'3', b"c", 0o644).device(1, 3), b"")
            .entry(at(b'0', b"l1", 0o644), b"l")
            .entry(at(b'1', b"l2", 0o644).link(b"l1"), b"")
    };
    let mut options = RootfsOptions::default().mode(RootfsMode::Copy);
    options.tree.form.device_nodes = is_root();
    for (script, expected) in scripts.iter().chain(of_root.iter().filter(|_| is_root())) {
        let started = Started::from(layer());
        std::fs::remove_dir_all(started.tree()).unwrap();
        started.storage.assemble_rootfs(&started.image, &started.tree(), &options).unwrap();
        let made = std::process::Command::new("sh").args(["-ec", script]).current_dir(started.tree()).status().unwrap();
        assert!(made.success(), "{script}");
        assert_eq!(started.paths(), *expected, "{script}");
    }
}
