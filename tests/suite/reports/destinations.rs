//! Report 7 (lxd#18959, WSL#40857): a destination that cannot be renamed to is found out at the end of all the work. A mount point is
//! filled where it is, and so is a directory that the caller wants filled.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use boxlite_images::{ExportOptions, ExportTarget, Image, Interrupt, RootfsMode, RootfsOptions, Status, Storage};

use super::super::archive::{Archive, Header};
use super::super::disk_faults::SmallDisk;
use super::super::image_files::{Bench as Archives, Made, layout, named, tar};
use super::super::images::put_image_of;
use super::super::loop_disk::LoopDisk;
use super::super::support::{as_each_user, is_root, names_in, quick_store, run, skip, temp_dir};
use super::super::tree::{differences, snapshot};

const MODES: [RootfsMode; 2] = [RootfsMode::Copy, RootfsMode::Direct];

/// A store with an image that has a root of its own mode, times and attributes.
struct Bench {
    _dir: tempfile::TempDir,
    storage: Storage,
    image: Image,
}

impl Bench {
    fn new(more: impl FnOnce(Archive) -> Archive) -> Bench {
        let dir = temp_dir();
        let storage = quick_store(&dir.path().join("store"));
        let root = Header::new(b'5', b"./").mode(0o750).owner(7, 8);
        let bottom = Archive::new()
            .pax(&[("SCHILY.xattr.user.root", b"1"), ("mtime", b"1234.5")])
            .entry(root, b"")
            .dir(b"d")
            .file(b"d/gone", b"1")
            .file(b"f", &[b'x'; 5000])
            .hardlink(b"g", b"f")
            .symlink(b"l", b"d/f");
        let layers = [more(bottom).finish(), Archive::new().file(b"d/.wh.gone", b"").file(b"d/new", b"2").finish()];
        let digest = put_image_of(&storage, "x", &layers);
        let image = storage.open_image_by_digest(&digest).unwrap();
        Bench { _dir: dir, storage, image }
    }

    fn assemble(&self, to: &Path, options: &RootfsOptions) -> Result<(), boxlite_images::Error> {
        self.storage.assemble_rootfs(&self.image, to, options).map(drop)
    }

    /// A destination has what a new directory gets, but for these names.
    fn assert_as_elsewhere(&self, at: &Path, but_for: &[&str], what: &str) {
        let dir = temp_dir();
        let elsewhere = dir.path().join("root");
        self.assemble(&elsewhere, &mode(RootfsMode::Direct)).unwrap();
        let (mut ours, mut theirs) = (snapshot(at), snapshot(&elsewhere));
        for nodes in [&mut ours, &mut theirs] {
            but_for.iter().for_each(|name| _ = nodes.remove(&format!("./{name}")));
            // One more directory in it is one more link.
            nodes.get_mut(".").unwrap().links = 0;
        }
        assert_eq!(differences(&ours, &theirs), [""; 0], "{what}");
    }
}

fn mode(mode: RootfsMode) -> RootfsOptions {
    let mut options = RootfsOptions::default();
    options.mode = mode;
    options
}

fn filling(of: RootfsMode) -> RootfsOptions {
    let mut options = mode(of);
    options.into_existing = true;
    options
}

/// How VM hosts fill a disk that they made: a fresh ext4 with its lost+found, a tmpfs, a bind mount of the same file system.
#[test]
fn mount_points_are_filled() {
    if !is_root() {
        return skip("only root mounts");
    }
    for of in MODES {
        let bench = Bench::new(|archive| archive);
        if let Some(disk) = LoopDisk::ext4(64) {
            bench.assemble(&disk.path(), &mode(of)).unwrap_or_else(|error| panic!("ext4, {of:?}: {error}"));
            assert_eq!(names_in(&disk.path()), ["d", "f", "g", "l", "lost+found"]);
            bench.assert_as_elsewhere(&disk.path(), &["lost+found"], "ext4");
        }
        if let Some(disk) = SmallDisk::new("size=8m") {
            let mut replace = mode(of);
            replace.replace = true;
            bench.assemble(disk.path(), &replace).unwrap();
            bench.assert_as_elsewhere(disk.path(), &[], "tmpfs");
            // Full now, which a mount point cannot be.
            for options in [&replace, &mode(of), &filling(of)] {
                let error = bench.assemble(disk.path(), options).unwrap_err();
                assert_eq!(error.status(), Status::Exists, "{error}");
                assert!(error.message().contains("mount point"), "{error}");
            }
        }
        let dir = temp_dir();
        let (at, from) = (dir.path().join("at"), dir.path().join("from"));
        std::fs::create_dir(&at).unwrap();
        std::fs::create_dir(&from).unwrap();
        run("mount", &["--bind".as_ref(), from.as_os_str(), at.as_os_str()]);
        let assembled = bench.assemble(&at, &mode(of));
        run("umount", &["-l".as_ref(), at.as_os_str()]);
        assembled.unwrap();
        bench.assert_as_elsewhere(&from, &[], "a bind mount");
    }
}

/// An image's own lost+found takes the place of an empty one.
#[test]
fn a_lost_and_found_of_the_image_stays() {
    let Some(disk) = LoopDisk::ext4(64) else { return };
    let bench = Bench::new(|archive| archive.dir(b"lost+found").file(b"lost+found/x", b"1"));
    bench.assemble(&disk.path(), &mode(RootfsMode::Copy)).unwrap();
    bench.assert_as_elsewhere(&disk.path(), &[], "lost+found");
}

#[test]
fn an_existing_directory_is_filled_where_that_is_wanted() {
    as_each_user("reports::destinations::an_existing_directory_is_filled_where_that_is_wanted", || {
        for of in MODES {
            let bench = Bench::new(|archive| archive);
            let dir = temp_dir();
            let at = dir.path().join("at");
            std::fs::create_dir(&at).unwrap();
            std::fs::create_dir(at.join("lost+found")).unwrap();
            let before = std::fs::metadata(&at).unwrap().ino();
            bench.assemble(&at, &filling(of)).unwrap();
            assert_eq!(std::fs::metadata(&at).unwrap().ino(), before, "it is the same directory");
            bench.assert_as_elsewhere(&at, &["lost+found"], "an existing directory");
            for refused in [mode(of), filling(of)] {
                let error = bench.assemble(&at, &refused).unwrap_err();
                assert_eq!(error.status(), Status::Exists, "{error}");
                assert!(error.message().contains("not empty"), "{error}");
            }
            // One that is not there is made as ever.
            bench.assemble(&dir.path().join("new"), &filling(of)).unwrap();
            bench.assert_as_elsewhere(&dir.path().join("new"), &[], "a new one");
            std::fs::write(dir.path().join("file"), "").unwrap();
            std::os::unix::fs::symlink("at", dir.path().join("link")).unwrap();
            for taken in ["file", "link"] {
                let error = bench.assemble(&dir.path().join(taken), &filling(of)).unwrap_err();
                assert_eq!(error.status(), Status::Exists, "{taken}: {error}");
            }
        }
    });
}

/// What a process left that died in the middle is removed by the next one.
#[test]
fn leftovers_inside_go() {
    let bench = Bench::new(|archive| archive);
    let dir = temp_dir();
    let at = dir.path().join("at");
    let left = at.join(format!(".at.{}.assembling", "0".repeat(32)));
    std::fs::create_dir_all(left.join("sub")).unwrap();
    std::fs::write(left.join("sub/file"), "x").unwrap();
    bench.assemble(&at, &filling(RootfsMode::Copy)).unwrap();
    bench.assert_as_elsewhere(&at, &[], "after a leftover");
}

/// Whatever it fails with, what was made is taken away again, and what was there stays.
#[test]
fn a_failure_leaves_what_was_there() {
    let large = |archive: Archive| archive.file(b"large", &vec![1; 8 << 20]);
    let bench = Bench::new(large);
    let what_is_left = |at: &Path| {
        bench.storage.disk_usage().unwrap();
        super::super::support::wait_until("the removal", || {
            names_in(at).iter().all(|name| !name.ends_with(".assembling"))
        });
        names_in(at)
    };
    if let Some(disk) = LoopDisk::ext4(8) {
        for of in MODES {
            let error = bench.assemble(&disk.path(), &mode(of)).unwrap_err();
            assert_eq!(error.status(), Status::NoSpace, "{error}");
            assert_eq!(what_is_left(&disk.path()), ["lost+found"]);
        }
        assert_eq!(std::fs::metadata(disk.path()).unwrap().permissions().mode() & 0o7777, 0o755);
    }
    if let Some(disk) = SmallDisk::new("size=4m") {
        let error = bench.assemble(disk.path(), &mode(RootfsMode::Copy)).unwrap_err();
        assert_eq!(error.status(), Status::NoSpace, "{error}");
        assert_eq!(what_is_left(disk.path()), [""; 0]);
        let error = bench.assemble(disk.path(), &mode(RootfsMode::Hardlink)).unwrap_err();
        assert_eq!(error.status(), Status::Unsupported, "{error}");
        assert_eq!(what_is_left(disk.path()), [""; 0]);
        disk.remount("ro");
        let error = bench.assemble(disk.path(), &mode(RootfsMode::Copy)).unwrap_err();
        assert_eq!(error.status(), Status::Permission, "{error}");
    }
    let dir = temp_dir();
    let mut late = filling(RootfsMode::Copy);
    late.interrupt = Interrupt::new(None, Some(Duration::from_micros(300)));
    let error = bench.assemble(dir.path(), &late).unwrap_err();
    assert_eq!(error.status(), Status::Timeout);
    assert_eq!(what_is_left(dir.path()), [""; 0]);
}

/// Moving what was made fails in the middle: what was moved is taken away again.
#[test]
fn a_move_that_fails_is_undone() {
    if !is_root() {
        return skip("only root mounts");
    }
    let Some(disk) = LoopDisk::ext4(64) else { return };
    let bench = Bench::new(|archive| archive.dir(b"lost+found"));
    // The empty directory that is to give way cannot, since something is mounted there.
    let inner = disk.path().join("lost+found");
    run(
        "mount",
        &["-t", "tmpfs", "none"].map(std::ffi::OsStr::new).into_iter().chain([inner.as_os_str()]).collect::<Vec<_>>(),
    );
    let result = bench.assemble(&disk.path(), &mode(RootfsMode::Copy));
    run("umount", &["-l".as_ref(), inner.as_os_str()]);
    assert_eq!(result.unwrap_err().status(), Status::Io);
    assert_eq!(names_in(&disk.path()), ["lost+found"]);
}

/// An export into a folder that is a mount point.
#[test]
fn an_export_fills_a_mount_point() {
    let Some(disk) = SmallDisk::new("size=8m") else { return };
    let made = Made::new(&["one"]);
    let bench = Archives::new();
    bench.import(&tar(&layout(&[made.entry(&named("a.org/x:1"))], made.blobs())), &Default::default()).unwrap();
    let image = bench.storage.open_image_by_digest(&made.digest()).unwrap();
    let export = || {
        let target = ExportTarget::Folder(disk.path().to_owned());
        bench.storage.export(&[&image], target, &ExportOptions::default()).map_err(|error| error.status())
    };
    export().unwrap();
    assert_eq!(names_in(disk.path()), ["blobs", "index.json", "oci-layout"]);
    let other = Archives::new();
    assert_eq!(other.import_path(disk.path(), &Default::default()).unwrap()[0].manifest, made.digest());
    assert_eq!(export(), Err(Status::Exists));
}

/// From the command line.
#[test]
fn blimg_fills_a_directory() {
    let Some(tool) = super::super::blimg::Tool::new() else { return };
    let made = Made::new(&["one"]);
    let dir = temp_dir();
    let archive = dir.path().join("x.tar");
    std::fs::write(&archive, tar(&layout(&[made.entry(&named("a.org/x:1"))], made.blobs()))).unwrap();
    assert!(tool.blimg(&["import", archive.to_str().unwrap()]).status.success());
    let at = dir.path().join("at");
    std::fs::create_dir_all(at.join("lost+found")).unwrap();
    let at = at.to_str().unwrap();
    assert_eq!(super::super::blimg::status_in(&tool.blimg(&["rootfs", "a.org/x:1", at])), "EXISTS");
    assert!(tool.blimg(&["rootfs", "a.org/x:1", at, "--into-existing"]).status.success());
    assert!(Command::new("test").args(["-f", &format!("{at}/one")]).status().unwrap().success());
}
