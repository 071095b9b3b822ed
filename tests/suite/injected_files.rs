//! Files of the host's on top of an image's disk. What does a guest see of them, what is refused, and does the store have them once?

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use boxlite_images::{
    CheckOptions, Disk, DiskFile, DiskFileContent, DiskFormat, DiskLayout, DiskOptions, GcOptions, Image, ImageName,
    Status, Storage, StorageOptions,
};

use super::archive::{Archive, gzip};
use super::disk_mount::{MountedDisk, assert_clean};
use super::images::put_image_of;
use super::support::{has_tool, is_root, leftovers, names_in, quick_store, skip, temp_dir};

const LONG_TARGET: &str = "no//where/";

fn image(storage: &Storage, name: &str) -> Image {
    let layer = Archive::new()
        .dir(b"usr")
        .dir(b"usr/sbin")
        .file(b"usr/sbin/init", b"init")
        .symlink(b"sbin", b"usr/sbin")
        .symlink(b"out", b"/../../../outside")
        .dir(b"etc")
        .file(b"etc/hostname", b"image")
        .file(b"etc/motd", name.as_bytes());
    storage.open_image_by_digest(&put_image_of(storage, name, &[layer.finish()])).unwrap()
}

fn bytes(path: &str, content: &[u8]) -> DiskFile {
    DiskFile::new(path, DiskFileContent::Bytes(content.to_vec()))
}

fn kinds() -> [DiskOptions; 3] {
    let erofs = DiskOptions::default().format(DiskFormat::Erofs);
    [DiskOptions::default(), erofs.clone(), erofs.layout(DiskLayout::Merged)]
}

/// One file with all of the device.
fn device(disk: &Disk, to: &Path) {
    std::fs::write(to, disk.parts.iter().flat_map(|part| std::fs::read(&part.path).unwrap()).collect::<Vec<u8>>())
        .unwrap();
}

#[test]
fn a_guest_sees_them_where_the_image_s_symlinks_lead() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let image = image(&storage, "x");
    let source = dir.path().join("agent");
    std::fs::write(&source, vec![b'a'; 300_000]).unwrap();
    let files = vec![
        DiskFile::new("/sbin/agent", DiskFileContent::CopyOf(source)).mode(0o4755).owner(70_000, 3_000_000_000),
        bytes("etc/hostname", b"first"),
        bytes("/./etc//hostname", b"guest"),
        bytes("/out/of/reach", b"inside"),
        bytes("/deep/er/empty", b""),
        DiskFile::new("etc", DiskFileContent::Directory).mode(0o700),
        DiskFile::new("/run/agent.sock", DiskFileContent::Symlink("/../tmp//./x/".into())),
        DiskFile::new("/run/long", DiskFileContent::Symlink(LONG_TARGET.repeat(30).into())),
        bytes(&format!("/{}/{}", "d".repeat(200), "f".repeat(200)), b"long"),
    ];
    for (number, options) in kinds().into_iter().enumerate() {
        let options = options.files(files.clone());
        let disk = storage.create_disk(&image, &dir.path().join(format!("disk-{number}")), &options).unwrap();
        let whole = dir.path().join(format!("device-{number}"));
        device(&disk, &whole);
        if has_tool("e2fsck") && has_tool("fsck.erofs") {
            assert_clean("injected", &whole, options.format, false);
        }
        if !is_root() || !has_tool("mount") {
            skip("mounting needs root");
            continue;
        }
        let Some(at) = MountedDisk::new(&whole, options.format, dir.path().join(format!("at-{number}"))) else {
            continue;
        };
        let at = at.path();
        let agent = std::fs::metadata(at.join("usr/sbin/agent")).unwrap();
        assert_eq!((agent.mode() & 0o7777, agent.uid(), agent.gid()), (0o4755, 70_000, 3_000_000_000));
        assert_eq!((agent.size(), agent.mtime()), (300_000, 0));
        assert!(std::fs::symlink_metadata(at.join("sbin")).unwrap().is_symlink());
        assert_eq!(std::fs::read(at.join("usr/sbin/init")).unwrap(), b"init");
        assert_eq!(std::fs::read(at.join("etc/hostname")).unwrap(), b"guest");
        assert_eq!(std::fs::metadata(at.join("etc/hostname")).unwrap().permissions().mode() & 0o7777, 0o644);
        assert_eq!(std::fs::read(at.join("etc/motd")).unwrap(), b"x");
        assert_eq!(std::fs::metadata(at.join("etc")).unwrap().permissions().mode() & 0o7777, 0o700);
        assert_eq!(std::fs::read(at.join("outside/of/reach")).unwrap(), b"inside");
        assert_eq!(std::fs::read(at.join("deep/er/empty")).unwrap(), b"");
        // As it was given: a target is any text.
        let target = |name: &str| std::fs::read_link(at.join(name)).unwrap().into_os_string().into_string().unwrap();
        assert_eq!(target("run/agent.sock"), "/../tmp//./x/");
        assert_eq!(target("run/long"), LONG_TARGET.repeat(30));
        assert_eq!(std::fs::read(at.join("d".repeat(200)).join("f".repeat(200))).unwrap(), b"long");
    }
    assert_eq!(leftovers(storage.images_dir()), [""; 0]);
}

#[test]
fn an_archive_on_top_is_a_layer_whiteouts_and_all() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let image = image(&storage, "x");
    let top = dir.path().join("top.tar.gz");
    std::fs::write(&top, gzip(&Archive::new().file(b"etc/.wh.motd", b"").file(b"etc/new", b"new").finish())).unwrap();
    let options = DiskOptions::default().top_layer(top.clone()).files(vec![bytes("etc/new", b"newer")]);
    let disk = storage.create_disk(&image, &dir.path().join("disk"), &options).unwrap();
    if is_root() && has_tool("mount") {
        let at = MountedDisk::new(&disk.path, DiskFormat::Ext4, dir.path().join("at")).unwrap();
        assert!(!at.path().join("etc/motd").exists());
        assert_eq!(std::fs::read(at.path().join("etc/new")).unwrap(), b"newer");
    }
    // Packed or not, it is the same layer and the same disk.
    let plain = dir.path().join("top.tar");
    std::fs::write(&plain, Archive::new().file(b"etc/.wh.motd", b"").file(b"etc/new", b"new").finish()).unwrap();
    let again = storage.create_disk(&image, &dir.path().join("again"), &options.top_layer(plain)).unwrap();
    assert_eq!(again.key, disk.key);
    assert!(std::fs::read(&again.path).unwrap() == std::fs::read(&disk.path).unwrap());
}

#[test]
fn what_cannot_be_put_there_is_refused_and_nothing_stays() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let image = image(&storage, "x");
    let copy = |of: &Path| DiskFile::new("a", DiskFileContent::CopyOf(of.to_path_buf()));
    let no_archive = dir.path().join("no.tar");
    std::fs::write(&no_archive, vec![b'x'; 4096]).unwrap();
    let files = |file: DiskFile| DiskOptions::default().files(vec![bytes("fine", b"fine"), file]);
    let cases = [
        (files(bytes("", b"")), Status::InvalidArgument, "root"),
        (files(bytes("/", b"")), Status::InvalidArgument, "root"),
        (files(bytes("/a/../../b", b"")), Status::InvalidArgument, ".."),
        (files(bytes("etc/.wh.motd", b"")), Status::InvalidArgument, ".wh."),
        (files(bytes("etc/.wh..wh..opq", b"")), Status::InvalidArgument, ".wh."),
        (files(bytes("a\0b", b"")), Status::InvalidArgument, "NUL"),
        (files(DiskFile::new("a", DiskFileContent::Symlink("".into()))), Status::InvalidArgument, "target"),
        (files(DiskFile::new("a", DiskFileContent::Symlink("b\0".into()))), Status::InvalidArgument, "target"),
        (files(copy(&dir.path().join("none"))), Status::NotFound, "none"),
        (files(copy(dir.path())), Status::InvalidArgument, "not a regular file"),
        (files(bytes(&"n".repeat(256), b"")), Status::Limit, "nnn"),
        (DiskOptions::default().top_layer(dir.path().join("none.tar")), Status::NotFound, "none.tar"),
        (DiskOptions::default().top_layer(no_archive), Status::Malformed, ""),
    ];
    for (options, status, why) in cases {
        for result in [
            storage.create_disk(&image, &dir.path().join("disk"), &options).err(),
            storage.keep_disk(&image, &options).err(),
        ] {
            let error = result.unwrap();
            assert!(error.status() == status && error.to_string().contains(why), "{why}: {error:?}");
            assert!(!dir.path().join("disk").exists());
        }
    }
    assert_eq!(leftovers(storage.images_dir()), [""; 0]);
    assert_eq!(names_in(&storage.images_dir().join("disks")), [""; 0]);
    let empty = DiskOptions::default().size_bytes(64u64 << 20).files(vec![bytes("a", b"")]);
    assert_eq!(
        storage.format_disk(None, &dir.path().join("disk"), &empty).unwrap_err().status(),
        Status::InvalidArgument
    );
}

/// What has the name by the time that the disk is whole is not replaced, unless that was asked for.
#[test]
fn of_two_calls_for_one_name_one_succeeds() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let image = image(&storage, "x");
    for round in 0..20 {
        let at = dir.path().join(round.to_string());
        let made = std::thread::scope(|scope| {
            let make = || storage.create_disk(&image, &at, &DiskOptions::default());
            let others: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
            others.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        let errors: Vec<Status> =
            made.iter().filter_map(|made| made.as_ref().err()).map(|error| error.status()).collect();
        assert_eq!(errors, [Status::Exists; 3], "{made:?}");
    }
    assert_eq!(names_in(dir.path()).len(), 21);
}

/// A store that is only read has no room for them.
#[test]
fn a_read_only_store_takes_none() {
    let dir = temp_dir();
    let image = {
        let storage = quick_store(&dir.path().join("store"));
        let image = image(&storage, "x");
        storage.keep_disk(&image, &DiskOptions::default()).unwrap().lease.release().unwrap();
        image
    };
    let mut options = StorageOptions::default();
    options.read_only = true;
    let storage = Storage::open(dir.path().join("store"), &options).unwrap();
    let disk = dir.path().join("disk");
    let options = DiskOptions::default().files(vec![bytes("a", b"")]);
    assert_eq!(storage.create_disk(&image, &disk, &options).unwrap_err().status(), Status::Permission);
    storage.create_disk(&image, &disk, &DiskOptions::default()).unwrap();
    assert_eq!(leftovers(storage.images_dir()), [""; 0]);
}

/// The same content in another blob, on top too, is the same disk, and a check agrees.
#[test]
fn content_that_comes_in_two_blobs_is_there_once() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let (first, other) = (Archive::new().file(b"a", &[b'a'; 9000]).finish(), Archive::new().file(b"b", b"b").finish());
    let plain = put_image_of(&storage, "x", &[first.clone(), other.clone(), first.clone()]);
    let image = storage.open_image_by_digest(&plain).unwrap();
    let of_two = storage.open_image_by_digest(&put_image_of(&storage, "x", &[first.clone(), other])).unwrap();
    let top = dir.path().join("top.tar.gz");
    std::fs::write(&top, gzip(&first)).unwrap();
    for (number, options) in kinds().into_iter().enumerate() {
        let at = |name: &str| dir.path().join(format!("{name}-{number}"));
        let disk = storage.create_disk(&image, &at("same"), &options).unwrap();
        let options = options.top_layer(top.clone());
        let topped = storage.create_disk(&of_two, &at("other"), &options).unwrap();
        assert_eq!(topped.key, disk.key);
        device(&disk, &at("same-device"));
        device(&topped, &at("other-device"));
        assert!(std::fs::read(at("same-device")).unwrap() == std::fs::read(at("other-device")).unwrap());
        storage.keep_disk(&of_two, &options).unwrap();
        assert_eq!(storage.check(&CheckOptions::default()).unwrap().findings, []);
    }
}

#[test]
fn the_store_has_them_once_and_as_long_as_a_disk_with_them() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let (one, other) = (image(&storage, "one"), image(&storage, "other"));
    let name = ImageName::parse("example.org/x:1").unwrap();
    storage.tag_image(&name, &one.manifest_digest).unwrap();
    let options = DiskOptions::default().format(DiskFormat::Erofs).layout(DiskLayout::Merged);
    let with = |content: &[u8]| options.clone().files(vec![bytes("agent", content)]);
    let made = storage.keep_disk(&one, &with(b"agent")).unwrap();
    let found = storage.keep_disk(&one, &with(b"agent")).unwrap();
    assert!(!made.disk.cached && found.disk.cached && found.disk.key == made.disk.key);
    assert!(!storage.keep_disk(&one, &options).unwrap().disk.cached, "without files it is another disk");
    let disks = || {
        let mut names = names_in(&storage.images_dir().join("extracted"));
        names.retain(|name| name.ends_with(".erofs"));
        names.len()
    };
    assert_eq!(disks(), 2);
    storage.create_disk(&other, &dir.path().join("other"), &with(b"agent")).unwrap();
    assert_eq!(disks(), 3, "the other image's own layer, and no other");
    let changed = storage.keep_disk(&one, &with(b"other")).unwrap();
    assert!(!changed.disk.cached && changed.disk.key != made.disk.key);
    assert_eq!(storage.check(&CheckOptions::default()).unwrap().findings, []);
    for kept in [made, found, changed] {
        kept.lease.release().unwrap();
    }
    // The name holds the image, that its disks, and these what is on top of it.
    storage.collect(&GcOptions::default().min_age(Duration::ZERO)).unwrap();
    assert_eq!(disks(), 3);
    assert!(storage.keep_disk(&one, &with(b"agent")).unwrap().disk.cached);
    assert_eq!(storage.check(&CheckOptions::default()).unwrap().findings, []);
    storage.remove_image(&name).unwrap();
    let held = storage.collect(&GcOptions::default().min_age(Duration::ZERO)).unwrap();
    assert!(!held.removed.is_empty());
    assert_eq!(leftovers(storage.images_dir()), [""; 0]);
}
