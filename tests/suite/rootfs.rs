//! Root file systems: where they go, what becomes of what is there, and what is left when they fail.

use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use boxlite_images::{
    Anomalies, Cancel, CheckOptions, GcOptions, Image, Interrupt, OverlayOptions, ProgressCallback, RootfsMode,
    RootfsOptions, Status, Storage, WhiteoutForm,
};

use super::archive::{Archive, Header};
use super::images::put_image_of;
use super::support::{
    as_each_user, assert_nothing_half_made, is_root, leftovers, names_in, quick_store, skip, temp_dir, watched,
};
use super::tree::{differences, snapshot};

struct Bench {
    dir: tempfile::TempDir,
    storage: Storage,
    image: Image,
}

impl Bench {
    fn new(layers: &[Vec<u8>]) -> Bench {
        let dir = temp_dir();
        let storage = quick_store(&dir.path().join("store"));
        let digest = put_image_of(&storage, "x", layers);
        let image = storage.open_image_by_digest(&digest).unwrap();
        Bench { dir, storage, image }
    }

    fn small() -> Bench {
        Bench::new(&[
            Archive::new().dir(b"d").file(b"d/f", b"1").file(b"g", b"1").finish(),
            Archive::new().file(b"d/.wh.f", b"").file(b"h", b"2").finish(),
        ])
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn assemble(&self, to: &Path, options: &RootfsOptions) -> Result<(), Status> {
        let result = self.storage.assemble_rootfs(&self.image, to, options);
        // Beside the root file system and the store there may be its record.
        assert_nothing_half_made(self.dir.path(), "rootfs");
        assert_eq!(leftovers(self.storage.images_dir()), [""; 0]);
        assert_eq!(names_in(&self.storage.images_dir().join("leases")), [""; 0]);
        result.map(|_| ()).map_err(|error| error.status())
    }

    fn assert_whole(&self, at: &Path) {
        assert_eq!(names_in(at), ["d", "g", "h"]);
        assert_eq!(names_in(&at.join("d")), [""; 0]);
    }
}

fn mode(mode: RootfsMode) -> RootfsOptions {
    let mut options = RootfsOptions::default();
    options.mode = mode;
    options
}

#[test]
fn destinations() {
    as_each_user("rootfs::destinations", || {
        let bench = Bench::small();
        let to = bench.path("root");
        let default = RootfsOptions::default();
        bench.assemble(&to, &default).unwrap();
        bench.assert_whole(&to);
        assert_eq!(bench.assemble(&to, &default), Err(Status::Exists));
        std::fs::write(to.join("mine"), "x").unwrap();
        let mut replace = RootfsOptions::default();
        replace.replace = true;
        bench.assemble(&to, &replace).unwrap();
        bench.assert_whole(&to);
        let empty = bench.path("empty");
        std::fs::create_dir(&empty).unwrap();
        bench.assemble(&empty, &default).unwrap();
        bench.assert_whole(&empty);
        std::fs::write(bench.path("file"), "x").unwrap();
        std::os::unix::fs::symlink("empty", bench.path("link")).unwrap();
        for taken in ["file", "link"] {
            for options in [&default, &replace] {
                assert_eq!(bench.assemble(&bench.path(taken), options), Err(Status::Exists), "{taken}");
            }
        }
        assert_eq!(bench.assemble(&bench.path("no/such"), &default), Err(Status::NotFound));
        assert_eq!(bench.assemble(Path::new("/"), &default), Err(Status::InvalidArgument));
        assert_eq!(bench.assemble(&bench.path("x/.."), &default), Err(Status::InvalidArgument));
        // A slash at the end, and a symlink on the way, are the host's.
        std::os::unix::fs::symlink(bench.dir.path(), bench.path("way")).unwrap();
        bench.assemble(&bench.path("way/slash/"), &default).unwrap();
        bench.assert_whole(&bench.path("slash"));
        // For an ordinary user the record says what the file system was not told.
        assert_eq!(bench.path("slash.mtree").exists(), !is_root());
    });
}

/// A root that nobody may write to has its place all the same.
#[test]
fn a_root_of_any_mode_is_put_in_place() {
    as_each_user("rootfs::a_root_of_any_mode_is_put_in_place", || {
        let layer = Archive::new().entry(Header::new(b'5', b"./").mode(0o555), b"").file(b"f", b"1").finish();
        let bench = Bench::new(&[layer]);
        let to = bench.path("root");
        let mut options = RootfsOptions::default();
        options.replace = true;
        for _ in 0..2 {
            bench.assemble(&to, &options).unwrap();
            assert_eq!(std::fs::metadata(&to).unwrap().mode() & 0o7777, 0o555);
        }
        std::fs::set_permissions(&to, PermissionsExt::from_mode(0o755)).unwrap();
    });
}

/// What an ordinary user has is a tree and its record, which say together what root gets.
#[test]
fn the_record_says_what_root_gets() {
    let layers = [
        Archive::new()
            .entry(Header::new(b'5', b"d").mode(0o711).owner(3, 4), b"")
            .entry(Header::new(b'0', b"d/secret").mode(0).owner(1, 2), b"secret")
            .entry(Header::new(b'0', b"set").mode(0o6755).owner(5, 6), b"s")
            .entry(Header::new(b'3', b"null").device(1, 3).mode(0o666), b"")
            .hardlink(b"other", b"set")
            .file(b"gone", b"1")
            .finish(),
        Archive::new()
            .file(b".wh.gone", b"")
            .pax(&[("SCHILY.xattr.user.x", b"y")])
            .entry(Header::new(b'0', b"d/new").mode(0o640).owner(7, 8), b"new")
            .hardlink(b"third", b"other")
            .finish(),
    ];
    as_each_user("rootfs::the_record_says_what_root_gets", || {
        let bench = Bench::new(&layers);
        let mut records = Vec::new();
        for (number, mode) in [RootfsMode::Copy, RootfsMode::Direct].into_iter().enumerate() {
            let (to, record) = (bench.path(&format!("root{number}")), bench.path(&format!("record{number}")));
            let mut options = RootfsOptions::default();
            (options.mode, options.record_path) = (mode, Some(record.clone()));
            bench.assemble(&to, &options).unwrap();
            assert_eq!(names_in(&to), ["d", "null", "other", "set", "third"]);
            let record = std::fs::read_to_string(record).unwrap();
            let mut lines: Vec<String> =
                record.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).map(str::to_owned).collect();
            lines.sort();
            records.push(lines);
        }
        assert_eq!(records[0], records[1]);
        let has = |name: &str, words: &[&str]| {
            let lines: Vec<&String> = records[0].iter().filter(|l| l.starts_with(&format!("./{name} "))).collect();
            assert_eq!(lines.len(), 1, "{name}: {:?}", records[0]);
            words.iter().for_each(|word| assert!(lines[0].contains(word), "{name}: {} lacks {word}", lines[0]));
        };
        has("d", &["type=dir", "mode=0711", "uid=3", "gid=4"]);
        has("d/secret", &["mode=0000", "uid=1", "gid=2", "size=6"]);
        has("d/new", &["mode=0640", "uid=7", "xattr.user.x="]);
        has("null", &["type=char", "device=native,1,3"]);
        has("other", &["hardlink=./set"]);
        has("third", &["hardlink=./other"]);
        assert_eq!(records[0].len(), 7, "{:?}", records[0]);
    });
}

/// What is odd about devices is that they are not made, here and not in the extracted layers.
/// What is odd about a layer by itself, and what only making its files comes to.
#[test]
fn strict_refuses_what_is_odd_in_each_mode() {
    let device = || Archive::new().entry(Header::new(b'3', b"null").device(1, 3).mode(0o666), b"").finish();
    let odd = || [&Archive::new().file(b"a", b"1").finish()[..], &[1; 512]].concat();
    for (what, layer) in [("a device", device()), ("bytes behind the archive", odd())] {
        for mode in [RootfsMode::Copy, RootfsMode::Reflink, RootfsMode::Hardlink, RootfsMode::Direct] {
            let bench = Bench::new(std::slice::from_ref(&layer));
            let options = RootfsOptions::default().mode(mode);
            let plain = bench.path("plain");
            bench.storage.assemble_rootfs(&bench.image, &plain, &options).unwrap();
            let strict = bench.path("strict");
            let tree = boxlite_images::TreeOptions::default().strict(true);
            let error = bench.storage.assemble_rootfs(&bench.image, &strict, &options.tree(tree)).unwrap_err();
            assert_eq!(error.status(), Status::Malformed, "{what}, {mode:?}: {error}");
            assert!(error.message().contains("strict: "), "{error}");
            assert!(!strict.exists());
        }
    }
}

#[test]
fn devices_that_are_made_are_not_odd() {
    as_each_user("rootfs::devices_that_are_made_are_not_odd", || {
        let bench =
            Bench::new(&[Archive::new().entry(Header::new(b'3', b"null").device(1, 3).mode(0o666), b"").finish()]);
        for (number, mode) in [RootfsMode::Copy, RootfsMode::Hardlink, RootfsMode::Direct].into_iter().enumerate() {
            for device_nodes in [false, true] {
                let to = bench.path(&format!("root{number}{device_nodes}"));
                let mut options = RootfsOptions::default();
                (options.mode, options.tree.form.device_nodes) = (mode, device_nodes);
                let made = bench.storage.assemble_rootfs(&bench.image, &to, &options).unwrap();
                let is_device = !std::fs::metadata(to.join("null")).unwrap().is_file();
                assert_eq!(is_device, device_nodes && is_root());
                assert_eq!(
                    made.anomalies.contains(Anomalies::DEVICE_PLACEHOLDER),
                    !is_device,
                    "{mode:?} {device_nodes}"
                );
            }
        }
    });
}

/// Where files are linked they are the store's own.
#[test]
fn linked_files_are_the_stores() {
    let bench = Bench::small();
    let to = bench.path("root");
    bench.assemble(&to, &mode(RootfsMode::Hardlink)).unwrap();
    let lowest = bench.storage.layer_extracted_path(&bench.image.manifest.layers[0].digest);
    let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
    assert_eq!(inode(&to.join("g")), inode(&lowest.join("g")));
    assert_eq!(bench.storage.check(&CheckOptions::default()).unwrap().findings, []);
    let other = Path::new("/dev/shm");
    if other.is_dir() && std::fs::metadata(other).unwrap().dev() != std::fs::metadata(bench.dir.path()).unwrap().dev() {
        let place = tempfile::tempdir_in(other).unwrap();
        assert_eq!(bench.assemble(&place.path().join("root"), &mode(RootfsMode::Hardlink)), Err(Status::Unsupported));
        assert_eq!(names_in(place.path()), [""; 0]);
        bench.assemble(&place.path().join("root"), &mode(RootfsMode::Reflink)).unwrap();
        bench.assert_whole(&place.path().join("root"));
    }
}

/// Straight from the blobs: nothing is extracted for it. And without the blobs: from what is extracted.
#[test]
fn each_mode_needs_what_it_takes_from() {
    let bench = Bench::small();
    bench.assemble(&bench.path("direct"), &mode(RootfsMode::Direct)).unwrap();
    assert_eq!(names_in(&bench.storage.images_dir().join("extracted")), [""; 0]);
    bench.assemble(&bench.path("copy"), &mode(RootfsMode::Copy)).unwrap();
    let found = differences(&snapshot(&bench.path("direct")), &snapshot(&bench.path("copy")));
    assert!(found.is_empty(), "{found:#?}");
    let layer = &bench.image.manifest.layers[0].digest;
    std::fs::write(bench.storage.layer_tarball_path(layer), "damaged").unwrap();
    assert!(bench.assemble(&bench.path("again"), &mode(RootfsMode::Copy)).is_ok());
    let blob = bench.storage.layer_tarball_path(&bench.image.manifest.layers[1].digest);
    std::fs::write(blob, "damaged").unwrap();
    std::fs::remove_dir_all(bench.storage.images_dir().join("extracted")).unwrap();
    std::fs::create_dir(bench.storage.images_dir().join("extracted")).unwrap();
    for damaged in [RootfsMode::Copy, RootfsMode::Hardlink, RootfsMode::Direct] {
        let error = bench.assemble(&bench.path("none"), &mode(damaged)).unwrap_err();
        assert!(matches!(error, Status::Malformed | Status::DigestMismatch), "{damaged:?}: {error:?}");
    }
    // One that is damaged is not taken for what it was.
    let bench = Bench::small();
    bench.assemble(&bench.path("copy"), &mode(RootfsMode::Copy)).unwrap();
    let layer = &bench.image.manifest.layers[0].digest;
    std::fs::remove_file(bench.storage.layer_tarball_path(layer)).unwrap();
    std::fs::remove_file(bench.storage.layer_extracted_path(layer).join("g")).unwrap();
    assert_eq!(bench.assemble(&bench.path("none"), &mode(RootfsMode::Copy)), Err(Status::NotFound));
    assert!(!bench.path("none").exists());
    let mut missing = bench.image.clone();
    missing.missing.push(layer.clone());
    let error = bench.storage.assemble_rootfs(&missing, &bench.path("none"), &RootfsOptions::default()).unwrap_err();
    assert_eq!(error.status(), Status::NotFound);
}

/// A call that is ended leaves nothing, soon, and what others have left of theirs is removed by the next.
#[test]
fn it_ends_when_it_is_told_to_and_nothing_stays() {
    let files = |range: std::ops::Range<u32>| {
        range.fold(Archive::new(), |archive, i| archive.file(format!("f{i}").as_bytes(), &[b'x'; 1000])).finish()
    };
    let bench = Bench::new(&[files(0..4000), files(2000..6000)]);
    let to = bench.path("root");
    for mode in [RootfsMode::Copy, RootfsMode::Hardlink, RootfsMode::Direct] {
        for at in [1, 3000, 7000] {
            let cancel = Cancel::new();
            let mut options = RootfsOptions::default();
            options.mode = mode;
            options.interrupt = Interrupt::new(Some(cancel.clone()), None);
            options.progress = Some(ProgressCallback::new(move |progress| {
                if progress.entries >= at {
                    cancel.trigger();
                }
                ControlFlow::Continue(())
            }));
            let assemble = || bench.storage.assemble_rootfs(&bench.image, &to, &options);
            let error = watched("an assembly", assemble).unwrap_err();
            assert_eq!(error.status(), Status::Cancelled, "{mode:?} at {at}: {error}");
            assert!(!to.exists());
        }
        let mut options = RootfsOptions::default();
        (options.mode, options.progress) = (mode, Some(ProgressCallback::new(|_| ControlFlow::Break(()))));
        assert_eq!(bench.storage.assemble_rootfs(&bench.image, &to, &options).unwrap_err().status(), Status::Callback);
    }
    let left = bench.path(&format!(".root.{}.assembling", "0".repeat(32)));
    std::fs::create_dir_all(left.join("d")).unwrap();
    let live = bench.path(&format!(".root.{}.assembling", "1".repeat(32)));
    std::fs::create_dir(&live).unwrap();
    let lock = std::fs::File::open(&live).unwrap();
    lock.lock().unwrap();
    let foreign =
        [".root.assembling", ".other.00000000000000000000000000000000.assembling"].map(|name| bench.path(name));
    foreign.iter().for_each(|path| std::fs::create_dir(path).unwrap());
    bench.storage.assemble_rootfs(&bench.image, &to, &mode(RootfsMode::Hardlink)).unwrap();
    assert_eq!(names_in(&to).len(), 6000);
    assert!(!left.exists() && live.exists() && foreign.iter().all(|path| path.exists()));
    // What is being assembled is not collected.
    let mut options = GcOptions::default();
    options.min_age = Duration::ZERO;
    assert!(!bench.storage.collect(&options).unwrap().removed.is_empty());
    assert_eq!(std::fs::read(to.join("f5000")).unwrap(), [b'x'; 1000]);
}

/// Zeros are content, wherever they are: the fuzz target found that a file of nothing else became an empty one.
#[test]
fn zeros_are_copied() {
    let sizes = [1_usize, 511, 4096, 65_535, 65_536, 65_537, 131_071, 131_072, 300_000];
    let content = |size: usize, at: usize| {
        let mut bytes = vec![0; size];
        bytes[..at.min(size)].fill(b'x');
        bytes
    };
    let starts = [0, 1, 40_000, 65_536];
    let files = sizes.iter().flat_map(|&size| starts.map(|at| (size, at)));
    let layer = files.clone().fold(Archive::new(), |archive, (size, at)| {
        archive.file(format!("{size}-{at}").as_bytes(), &content(size, at))
    });
    let bench = Bench::new(&[layer.finish(), Archive::new().file(b"other", b"").finish()]);
    for each in [RootfsMode::Copy, RootfsMode::Reflink, RootfsMode::Hardlink, RootfsMode::Direct] {
        let root = bench.path(&format!("{each:?}"));
        bench.assemble(&root, &mode(each)).unwrap();
        for (size, at) in files.clone() {
            let copied = std::fs::read(root.join(format!("{size}-{at}"))).unwrap();
            assert!(copied == content(size, at), "{each:?}: {at} of {size}, has {}", copied.len());
        }
    }
}

/// Files with holes keep them.
#[test]
fn holes_stay_holes() {
    let size = 64 << 20;
    let map: [(&str, &[u8]); 4] = [
        ("GNU.sparse.name", b"sparse"),
        ("GNU.sparse.size", b"67108864"),
        ("GNU.sparse.numblocks", b"1"),
        ("GNU.sparse.map", b"1048576,3"),
    ];
    let bench = Bench::new(&[Archive::new().pax(&map).file(b"x", b"abc").finish()]);
    bench.assemble(&bench.path("root"), &mode(RootfsMode::Copy)).unwrap();
    let file = std::fs::metadata(bench.path("root/sparse")).unwrap();
    assert_eq!(file.size(), size);
    assert!(file.blocks() * 512 < size / 8, "{} blocks", file.blocks());
    let content = std::fs::read(bench.path("root/sparse")).unwrap();
    assert_eq!(&content[1_048_576..1_048_579], b"abc");
    assert_eq!(content.iter().filter(|&&b| b != 0).count(), 3);
}

fn overlay(user_xattr: bool) -> OverlayOptions {
    let mut options = OverlayOptions::default();
    options.tree.form.whiteouts = if user_xattr { WhiteoutForm::UserOverlay } else { WhiteoutForm::Overlay };
    options
}

/// What overlayfs would show of layers, and what is assembled of them, is the same; and what it would show wrong is
/// refused.
#[test]
fn overlays_are_what_is_assembled_or_refused() {
    let full = |archive: Archive, path: &[u8], mode: u64| archive.entry(Header::new(b'5', path).mode(mode), b"");
    let a = Archive::new;
    let base = || full(full(a(), b"d", 0o755), b"tmp", 0o1777).file(b"d/f", b"1").symlink(b"l", b"d").file(b"g", b"1");
    for (what, layers, is_shown) in [
        ("entries for all", vec![base(), full(a(), b"d", 0o700).file(b"d/.wh.f", b"").file(b"d/x", b"2")], true),
        ("a directory like the implied", vec![base(), a().file(b"d/x", b"2")], true),
        ("a directory that nothing below has", vec![base(), a().file(b"new/x", b"2")], true),
        ("one of another mode", vec![base(), a().file(b"tmp/x", b"2")], false),
        ("one of another mode, by two layers", vec![base(), a().file(b"o", b""), a().file(b"tmp/x", b"2")], false),
        ("one that is hidden in between", vec![base(), a().file(b".wh.tmp", b""), a().file(b"tmp/x", b"2")], true),
        ("one that is hidden by itself", vec![base(), a().file(b".wh.tmp", b"").file(b"tmp/x", b"2")], true),
        ("through a symlink", vec![base(), a().file(b"l/x", b"2")], false),
        ("over a symlink", vec![base(), full(a(), b"l", 0o755).file(b"l/x", b"2")], true),
        ("over a file", vec![base(), a().file(b"g/x", b"2")], true),
        ("a link to a lower layer", vec![base(), a().hardlink(b"h", b"g")], false),
        ("an opaque root", vec![base(), a().file(b".wh..wh..opq", b"").file(b"only", b"2")], true),
    ] {
        let layers: Vec<Vec<u8>> = layers.into_iter().map(Archive::finish).collect();
        let bench = Bench::new(&layers);
        for user_xattr in [true, false] {
            if !user_xattr && !is_root() {
                continue;
            }
            let result = bench.storage.overlay(&bench.image, &overlay(user_xattr));
            let leases = names_in(&bench.storage.images_dir().join("leases"));
            let overlay = match (result, is_shown) {
                (Ok(overlay), true) => overlay,
                (Err(error), false) => {
                    assert_eq!(error.status(), Status::Unsupported, "{what}: {error}");
                    assert_eq!(leases, [""; 0]);
                    continue;
                }
                (result, _) => panic!("{what}: {result:?}"),
            };
            assert_eq!(leases.len(), 1);
            let mut options = GcOptions::default();
            options.min_age = Duration::ZERO;
            bench.storage.collect(&options).unwrap();
            assert!(overlay.lower_dirs.iter().all(|dir| dir.exists()), "{what}: collected");
            let empty = bench.path("empty");
            std::fs::create_dir_all(&empty).unwrap();
            let mut mount_options = String::from_utf8(overlay.mount_options.clone()).unwrap();
            mount_options = mount_options.replacen(",userxattr", &format!(":{},userxattr", empty.display()), 1);
            if !user_xattr {
                mount_options = format!("{mount_options}:{}", empty.display());
            }
            let at = bench.path("mount");
            std::fs::create_dir_all(&at).unwrap();
            let mount = ["-t", "overlay", "overlay", "-o", &mount_options].map(std::ffi::OsStr::new);
            if !is_root() || !run_quietly("mount", &[&mount[..], &[at.as_os_str()]].concat()) {
                skip("overlayfs cannot be mounted");
            } else {
                let mut shown = snapshot(&at);
                run_quietly("umount", &[at.as_os_str()]);
                let to = bench.path("root");
                let mut options = RootfsOptions::default();
                options.replace = true;
                bench.storage.assemble_rootfs(&bench.image, &to, &options).unwrap();
                let mut assembled = snapshot(&to);
                for nodes in [&mut shown, &mut assembled] {
                    nodes.remove(".");
                    for node in nodes.values_mut() {
                        node.links = 0;
                        // Times of directories without an entry are the upper layer's there.
                        node.mtime *= i128::from(node.kind != "dir");
                        node.xattrs.retain(|(name, _)| !name.contains("overlay"));
                    }
                }
                let found = differences(&shown, &assembled);
                assert!(found.is_empty(), "{what}: {found:#?}");
            }
            overlay.lease.release().unwrap();
        }
    }
}

fn run_quietly(program: &str, args: &[&std::ffi::OsStr]) -> bool {
    std::process::Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
}

/// Characters of a path that mean something in mount options.
#[test]
fn mount_options_are_escaped() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("a:b,c\\d"));
    let image = put_image_of(&storage, "x", &[Archive::new().file(b"f", b"1").finish()]);
    let image = storage.open_image_by_digest(&image).unwrap();
    let overlay = storage.overlay(&image, &overlay(true)).unwrap();
    let options = String::from_utf8(overlay.mount_options.clone()).unwrap();
    assert!(options.starts_with("lowerdir=") && options.ends_with(".useroverlay,userxattr"), "{options}");
    assert!(options.contains("/a\\:b\\,c\\\\d/extracted/sha256-"), "{options}");
}

/// The config of an image and the users of its root file system, as one.
#[test]
fn a_process_is_what_the_image_says() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let layer = Archive::new()
        .file(b"etc/passwd", b"root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/srv:/bin/sh\n")
        .file(b"etc/group", b"app:x:1001:\nextra:x:5:app\n")
        .finish();
    let run = r#"{"Entrypoint":["/bin/app","-x"],"Cmd":["../y"],"Env":["A=1","odd"],"WorkingDir":"../w","User":"app",
        "StopSignal":"SIGQUIT"}"#;
    let digest = super::images::put_image_that_runs(&storage, run, &[layer]);
    let image = storage.open_image_by_digest(&digest).unwrap();
    let root = dir.path().join("root");
    storage.assemble_rootfs(&image, &root, &RootfsOptions::default()).unwrap();
    let process = image.process(&root).unwrap();
    assert_eq!(process.args, ["/bin/app", "-x", "../y"]);
    assert_eq!((process.user.uid, process.user.gid, &process.user.additional_gids[..]), (1000, 1001, &[5][..]));
    assert_eq!((process.user.home.as_deref(), process.stop_signal.as_str()), (Some("/srv"), "SIGQUIT"));
    let json: serde_json::Value = serde_json::from_str(&process.to_runtime_json()).unwrap();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let expected = serde_json::json!({
        "terminal": false,
        "user": {"uid": 1000, "gid": 1001, "additionalGids": [5]},
        "args": ["/bin/app", "-x", "../y"],
        "env": ["A=1", "odd", path],
        "cwd": "/../w",
    });
    assert_eq!(json, expected);
    let nobody = super::images::put_image_that_runs(&storage, r#"{"User":"nobody"}"#, &[]);
    let nobody = storage.open_image_by_digest(&nobody).unwrap();
    assert_eq!(nobody.process(&root).unwrap_err().status(), Status::NotFound);
}

/// The same from the command line.
#[test]
fn blimg_assembles_and_says_how_to_run() {
    let Some(tool) = super::blimg::Tool::new() else { return };
    let storage = quick_store(&tool.store());
    let layer = Archive::new().file(b"etc/passwd", b"app:x:7:8::/srv:/bin/sh\n").file(b"f", b"1").finish();
    let run = r#"{"Entrypoint":["/bin/app"],"User":"app","Env":["PATH=/bin"],"WorkingDir":"/w"}"#;
    let digest = super::images::put_image_that_runs(&storage, run, &[layer]);
    storage.tag_image(&boxlite_images::ImageName::parse("app:1").unwrap(), &digest).unwrap();
    let dir = temp_dir();
    let root = dir.path().join("root");
    let text = root.to_str().unwrap();
    for (mode, more) in
        [("copy", &[][..]), ("reflink", &["--replace"]), ("hardlink", &["--replace"]), ("direct", &["--replace"])]
    {
        let args: Vec<&str> = ["rootfs", "app:1", text, "--mode", mode].iter().chain(more).copied().collect();
        let output = tool.blimg(&args);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(std::fs::read(root.join("f")).unwrap(), b"1");
    }
    assert_eq!(super::blimg::status_in(&tool.blimg(&["rootfs", "app:1", text])), "EXISTS");
    let said = |args: &[&str]| String::from_utf8(tool.blimg(args).stdout).unwrap();
    assert_eq!(
        said(&["--json", "rootfs", "app:1", text, "--replace"]),
        format!("{{\"rootfs\":\"{text}\",\"layers\":1,\"entries\":2,\"anomalies\":0}}\n")
    );
    assert_eq!(
        said(&["config", "app:1", text]),
        "arg: \"/bin/app\"\nenv: \"PATH=/bin\"\ncwd: \"/w\"\nhome: \"/srv\"\nuid: 7\ngid: 8\nadditional_gids:\n"
    );
    assert_eq!(
        said(&["config", "app:1", text, "--runtime-json"]),
        "{\"terminal\":false,\"user\":{\"uid\":7,\"gid\":8},\"args\":[\"/bin/app\"],\"env\":[\"PATH=/bin\"],\"cwd\":\"/w\"}\n"
    );
    // Without a root file system the layers' disks say it.
    assert_eq!(super::blimg::status_in(&tool.blimg(&["config", "app:1"])), "NOT_FOUND");
    assert!(tool.blimg(&["disk", "--cached", "app:1", "--format", "erofs"]).status.success());
    assert_eq!(said(&["config", "app:1"]), said(&["config", "app:1", text]));
    let options = said(&["mount-options", "app:1", "--user-xattr", "--seconds", "60"]);
    assert!(options.starts_with("lowerdir=") && options.ends_with(".useroverlay,userxattr\n"), "{options}");
    let json = said(&["--json", "mount-options", "app:1", "--user-xattr"]);
    assert!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["lease"].as_str().unwrap().len() == 32, "{json}");
    for wrong in [&["rootfs", "app:1"][..], &["rootfs", "app:1", text, "--mode", "x"], &["config"], &["mount-options"]]
    {
        assert_eq!(tool.blimg(wrong).status.code(), Some(2), "{wrong:?}");
    }
}
