//! Images as disks: the kernel shows on them what an assembled root file system has, in both layouts; and what a disk refuses.

use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use boxlite_images::{
    Anomalies, Cancel, Disk, DiskFormat, DiskLayout, DiskOptions, Image, Interrupt, RootfsMode, RootfsOptions, Status,
    Storage,
};

use super::archive::Archive;
use super::disk_mount::{MountedDisk, assert_clean, assert_same};
use super::families;
use super::images::put_image_of;
use super::loop_disk::LoopDisk;
use super::support::{
    as_each_user, assert_nothing_half_made, has_tool, is_root, leftovers, quick_store, skip, temp_dir,
    temp_dir_in_memory,
};

fn options(layout: DiskLayout) -> DiskOptions {
    DiskOptions::default().format(DiskFormat::Erofs).layout(layout)
}

fn open(storage: &Storage, layers: &[Vec<u8>]) -> Image {
    storage.open_image_by_digest(&put_image_of(storage, "x", layers)).unwrap()
}

/// The device that a guest sees, as one file.
fn device(disk: &Disk, at: PathBuf) -> PathBuf {
    let mut file = std::fs::File::create(&at).unwrap();
    let mut offset = 0;
    for part in &disk.parts {
        assert_eq!(part.offset, offset, "parts follow each other");
        let bytes = std::fs::read(&part.path).unwrap();
        assert_eq!(bytes.len() as u64, part.length);
        file.write_all(&bytes).unwrap();
        offset += part.length;
    }
    assert_eq!(offset, disk.size);
    at
}

/// Everything that there are layers for in these tests.
pub fn layers() -> Vec<Vec<u8>> {
    let many =
        (0..400).fold(Archive::new().dir(b"many"), |archive, i| archive.file(format!("many/{i}").as_bytes(), b"m"));
    vec![
        many.dir(b"etc").file(b"etc/passwd", b"root:x:0:0::/root:/bin/sh\n").file(b"large", &[b'l'; 3 << 20]).finish(),
        Archive::new().hardlink(b"same", b"large").file(b"etc/.wh.passwd", b"").symlink(b"link", b"etc").finish(),
        Archive::new()
            .file(b"link/passwd", b"new")
            .dir(b"many")
            .file(b"many/.wh..wh..opq", b"")
            .file(b"many/one", b"1")
            .finish(),
    ]
}

#[test]
fn every_stack_of_layers_is_the_same_as_a_disk_and_as_a_root_file_system() {
    if !is_root() {
        return skip("mounting needs root");
    }
    if !has_tool("fsck.erofs") || !has_tool("mount") {
        return;
    }
    let (mut made, mut refused) = (0, 0);
    for (number, layers) in families::assembly::layers_of_all().into_iter().chain([layers()]).enumerate() {
        let (name, dir) = (format!("stack {number}"), temp_dir());
        let at = |name: &str| dir.path().join(name);
        let storage = quick_store(&at("store"));
        let image = open(&storage, &layers);
        let mut assembling = RootfsOptions::default().mode(RootfsMode::Copy);
        assembling.tree.form.device_nodes = true;
        let rootfs = storage.assemble_rootfs(&image, &at("root"), &assembling);
        let kinds = [
            (options(DiskLayout::Flat), "flat"),
            (options(DiskLayout::Merged), "merged"),
            (DiskOptions::default(), "ext4"),
        ];
        let disks = kinds.map(|(options, to)| storage.create_disk(&image, &at(to), &options));
        let (rootfs, flat, merged, ext4) = match (rootfs, disks) {
            (Ok(rootfs), [Ok(flat), Ok(merged), Ok(ext4)]) => (rootfs, flat, merged, ext4),
            (Err(error), [Err(flat), Err(merged), Err(ext4)]) => {
                assert_eq!(
                    [flat.status(), merged.status(), ext4.status()],
                    [error.status(); 3],
                    "{name}: {error}; {flat}"
                );
                assert!(!at("flat").exists() && !at("merged").exists() && !at("ext4").exists());
                assert_nothing_half_made(dir.path(), &name);
                refused += 1;
                continue;
            }
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!([&flat, &merged, &ext4].map(|disk| disk.image_format()), ["raw", "vmdk", "raw"]);
        assert_ne!(flat.key, merged.key);
        for (disk, to) in [(&flat, "a"), (&merged, "b"), (&ext4, "c")] {
            let device = device(disk, at(&format!("{to}.raw")));
            assert_clean(&name, &device, disk.format, layers.iter().any(|layer| layer.len() > 100_000));
            let Some(mounted) = MountedDisk::new(&device, disk.format, at(&format!("{to}.mounted"))) else { return };
            let odd = rootfs.anomalies | Anomalies::SKIPPED_XATTR;
            assert_same(&name, &at("root"), mounted.path(), &[], odd);
        }
        made += 1;
    }
    eprintln!("{made} stacks as disks, {refused} refused");
    assert!(made > 50 && refused > 2, "{made} {refused}");
}

/// What QEMU reads behind the descriptor is the device.
#[test]
fn a_descriptor_puts_the_parts_one_behind_the_other() {
    if !has_tool("qemu-img") {
        return;
    }
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let image = open(&storage, &layers());
    let disk = storage.create_disk(&image, &dir.path().join("disk"), &options(DiskLayout::Merged)).unwrap();
    assert_eq!(disk.path, dir.path().join("disk/disk.vmdk"));
    let raw = device(&disk, dir.path().join("raw"));
    let compared = Command::new("qemu-img")
        .args(["compare", "-f", "vmdk", "-F", "raw"])
        .args([&disk.path, &raw])
        .output()
        .unwrap();
    assert!(compared.status.success(), "{compared:?}");
    // The parts are the store's files, and nobody is to write to them.
    for part in &disk.parts[1..] {
        let stat = std::fs::metadata(&part.path).unwrap();
        assert_eq!((stat.nlink(), stat.permissions().mode() & 0o777), (2, 0o444));
    }
}

#[test]
fn the_same_layers_and_options_are_the_same_bytes() {
    let test = "disks::the_same_layers_and_options_are_the_same_bytes";
    as_each_user(test, || {
        let bytes = |change: fn(DiskOptions) -> DiskOptions, layout| {
            let dir = temp_dir();
            let storage = quick_store(&dir.path().join("store"));
            let disk =
                storage.create_disk(&open(&storage, &layers()), &dir.path().join("disk"), &change(options(layout)));
            let disk = disk.unwrap();
            let bytes = std::fs::read(device(&disk, dir.path().join("raw"))).unwrap();
            assert_eq!(bytes[1024 + 48..1024 + 64], disk.uuid);
            (bytes, disk.key)
        };
        for layout in [DiskLayout::Flat, DiskLayout::Merged] {
            let same = bytes(|options| options, layout);
            assert_eq!(same, bytes(|options| options, layout));
            let (labelled, key) = bytes(|options| options.label("a label"), layout);
            assert!(key != same.1 && labelled[1024 + 64..1024 + 72] == *b"a label\0");
            let (named, key) = bytes(|options| options.uuid([7; 16]), layout);
            assert!(key != same.1 && named[1024 + 48..1024 + 64] == [7; 16]);
            assert_ne!(bytes(|options| options.max_mtime(5), layout), same);
        }
    });
}

#[test]
fn what_a_disk_refuses() {
    let dir = temp_dir();
    let at = |name: &str| dir.path().join(name);
    let storage = quick_store(&at("store"));
    let image = open(&storage, &layers());
    let fails = |to: &Path, options: &DiskOptions| {
        let error = storage.create_disk(&image, to, options).unwrap_err();
        assert_nothing_half_made(dir.path(), &error.to_string());
        assert_eq!(leftovers(&at("store")), [""; 0]);
        error.status()
    };
    let [flat, merged] = [DiskLayout::Flat, DiskLayout::Merged].map(options);
    std::fs::write(at("file"), "x").unwrap();
    std::fs::create_dir(at("full")).unwrap();
    std::fs::write(at("full/x"), "x").unwrap();
    for (to, how, status) in [
        ("file", &flat, Status::Exists),
        ("full", &flat, Status::Exists),
        ("full", &flat.clone().replace(true), Status::Exists),
        ("file", &merged, Status::Exists),
        ("full", &merged, Status::Exists),
        ("file", &merged.clone().replace(true), Status::Exists),
        ("nowhere/disk", &flat, Status::NotFound),
        ("nowhere/disk", &merged, Status::NotFound),
        ("disk", &flat.clone().label("sixteen bytes ..."), Status::InvalidArgument),
        ("disk", &flat.clone().label("a\0b"), Status::InvalidArgument),
    ] {
        assert_eq!(fails(&at(to), how), status, "{to}");
    }
    assert_eq!(std::fs::read(at("file")).unwrap(), b"x");
    let cancel = Cancel::new();
    cancel.trigger();
    for how in [&flat, &merged] {
        assert_eq!(
            fails(&at("disk"), &how.clone().interrupt(Interrupt::new(Some(cancel.clone()), None))),
            Status::Cancelled
        );
        assert!(!at("disk").exists());
    }
    // What may be replaced is.
    storage.create_disk(&image, &at("file"), &flat.clone().replace(true)).unwrap();
    storage.create_disk(&image, &at("full"), &merged.clone().replace(true)).unwrap();
    assert!(at("full/disk.vmdk").is_file() && !at("full/x").exists());
    // A further name on another file system there is not.
    let elsewhere = temp_dir_in_memory();
    let is_other = std::fs::metadata(elsewhere.path()).unwrap().dev() != std::fs::metadata(dir.path()).unwrap().dev();
    if is_other {
        assert_eq!(fails(&elsewhere.path().join("disk"), &merged), Status::Unsupported);
        assert_nothing_half_made(elsewhere.path(), "on another file system");
        storage.create_disk(&image, &elsewhere.path().join("disk"), &flat).unwrap();
    }
}

#[test]
fn a_full_file_system_has_no_disk() {
    let Some(small) = LoopDisk::ext4(4) else { return skip("no small file system") };
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let image = open(&storage, &[Archive::new().file(b"f", &vec![1; 8 << 20]).finish()]);
    let error = storage.create_disk(&image, &small.path().join("disk"), &options(DiskLayout::Flat)).unwrap_err();
    assert_eq!(error.status(), Status::NoSpace, "{error}");
    assert_nothing_half_made(&small.path(), "a full disk");
    assert!(!small.path().join("disk").exists());
}

/// A layer's disk that a guest changed is found, and made again from its layer.
#[test]
fn a_changed_part_is_found_and_made_again() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let image = open(&storage, &layers());
    let at = dir.path().join("disk");
    let disk = storage.create_disk(&image, &at, &options(DiskLayout::Merged)).unwrap();
    let part = &disk.parts[1].path;
    std::fs::set_permissions(part, std::fs::Permissions::from_mode(0o644)).unwrap();
    let file = std::fs::File::options().write(true).open(part).unwrap();
    file.write_all_at(b"changed", 5 * 4096).unwrap();
    let mut checking = boxlite_images::CheckOptions::default();
    checking.repair = true;
    let findings = storage.check(&checking).unwrap().findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].quarantined && findings[0].object.ends_with(".erofs"), "{findings:?}");
    let again = storage.create_disk(&image, &at, &options(DiskLayout::Merged).replace(true)).unwrap();
    assert_eq!(again.key, disk.key);
    assert_eq!(storage.check(&checking).unwrap().findings, []);
}

/// A layer can say in a few bytes that a file has gigabytes of holes. They take no room on a disk,
/// and none has to be free.
#[test]
fn holes_stay_holes() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let size = (300u64 << 30).to_string();
    let records = [
        ("GNU.sparse.size", size.as_bytes()),
        ("GNU.sparse.numblocks", b"1"),
        ("GNU.sparse.map", b"0,4"),
        ("GNU.sparse.name", b"sparse"),
    ];
    let sparse = Archive::new().pax(&records).file(b"sparse", b"data").finish();
    let image = open(&storage, &[sparse]);
    let mut how = options(DiskLayout::Flat);
    how.limits.layer_bytes = 1 << 40;
    let disk = storage.create_disk(&image, &dir.path().join("disk"), &how).unwrap();
    assert!(disk.size > 300 << 30 && disk.allocated < 1 << 20, "{disk:?}");
}
