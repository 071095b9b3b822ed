//! Disks that the store keeps: found again, shared, collected, checked; and what starts an image whose layers are disks.

use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use boxlite_images::{
    CheckOptions, Digest, DiskFormat, DiskLayout, DiskOptions, ExtractOptions, GcOptions, Image, ImageName, Interrupt,
    KeptDisk, RootfsOptions, Status, Storage,
};

use super::archive::{Archive, Header};
use super::images::{put_image_of, put_image_that_runs};
use super::support::{leftovers, names_in, quick_store, temp_dir};

pub fn layers() -> Vec<Vec<u8>> {
    vec![
        Archive::new().file(b"a", &[b'a'; 9000]).dir(b"etc").file(b"etc/passwd", b"root:x:0:0::/root:\n").finish(),
        Archive::new().file(b"b", b"b").file(b".wh.a", b"").hardlink(b"c", b"b").finish(),
    ]
}

pub fn open(storage: &Storage, layers: &[Vec<u8>]) -> Image {
    storage.open_image_by_digest(&put_image_of(storage, "x", layers)).unwrap()
}

fn options(layout: DiskLayout) -> DiskOptions {
    DiskOptions::default().format(DiskFormat::Erofs).layout(layout)
}

/// One of each kind of disk.
pub fn kinds() -> [DiskOptions; 3] {
    [options(DiskLayout::Flat), options(DiskLayout::Merged), DiskOptions::default()]
}

fn everything() -> GcOptions {
    let mut options = GcOptions::default();
    options.min_age = Duration::ZERO;
    options
}

fn kept(storage: &Storage) -> Vec<String> {
    let mut names = names_in(&storage.images_dir().join("disks"));
    // A thread removes what was collected.
    names.retain(|name| !name.contains('.'));
    names
}

fn device(parts: &[boxlite_images::DiskPart]) -> Vec<u8> {
    parts.iter().flat_map(|part| std::fs::read(&part.path).unwrap()).collect()
}

#[test]
fn a_disk_is_made_once_and_found_again() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let image = open(&storage, &layers());
    for (number, kind) in kinds().into_iter().enumerate() {
        let made = storage.keep_disk(&image, &kind).unwrap();
        let found = storage.keep_disk(&image, &kind).unwrap();
        assert_eq!((made.disk.cached, found.disk.cached), (false, true));
        let mut same = found.disk.clone();
        same.cached = false;
        assert_eq!(same, made.disk);
        assert!(made.disk.path.starts_with(storage.images_dir().join("disks")));
        let to = dir.path().join(format!("disk-{number}"));
        let elsewhere = storage.create_disk(&image, &to, &kind).unwrap();
        assert_eq!(elsewhere.key, made.disk.key);
        assert!(device(&elsewhere.parts) == device(&made.disk.parts), "{kind:?}: other bytes");
        for part in &made.disk.parts {
            assert_eq!(std::fs::metadata(&part.path).unwrap().permissions().mode() & 0o777, 0o444);
        }
        // Another label is another disk.
        let labelled = storage.keep_disk(&image, &kind.clone().label("l")).unwrap().disk;
        assert!(!labelled.cached && labelled.path != made.disk.path);
        // What is kept can be made anew.
        assert!(!storage.keep_disk(&image, &kind.clone().replace(true)).unwrap().disk.cached);
        assert_eq!(kept(&storage).len(), 2 * number + 2);
    }
    let usage = storage.disk_usage().unwrap();
    assert_eq!(usage.disks.objects, 6);
    assert!(usage.disks.bytes > 3 * 9000, "{usage:?}");
    assert_eq!(leftovers(storage.images_dir()), [""; 0]);
}

#[test]
fn whoever_comes_at_once_gets_the_same_disk() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let image = open(&storage, &layers());
    let made: Vec<(bool, PathBuf)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| storage.keep_disk(&image, &options(DiskLayout::Merged)).unwrap().disk))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).map(|disk| (disk.cached, disk.path)).collect()
    });
    assert_eq!(made.iter().filter(|(cached, _)| !cached).count(), 1, "{made:?}");
    assert!(made.iter().all(|(_, path)| *path == made[0].1), "{made:?}");
}

#[test]
fn a_disk_stays_as_long_as_its_layers_or_a_lease() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let image = open(&storage, &layers());
    let name = ImageName::parse("example.org/x:1").unwrap();
    storage.tag_image(&name, &image.manifest_digest).unwrap();
    let held = storage.keep_disk(&image, &options(DiskLayout::Merged)).unwrap();
    let other = storage.keep_disk(&image, &options(DiskLayout::Flat)).unwrap();
    other.lease.release().unwrap();
    storage.collect(&everything()).unwrap();
    assert_eq!(kept(&storage).len(), 2, "the name holds the layers, and they the disks");
    storage.remove_image(&name).unwrap();
    let removed = storage.collect(&everything()).unwrap().removed;
    assert!(removed.iter().any(|object| object.starts_with("disks/")), "{removed:?}");
    assert_eq!([storage.images_dir().join("disks").join(&kept(&storage)[0])], [held.disk.path.parent().unwrap()]);
    assert_eq!(kept(&storage).len(), 1);
    // The layers' own disks are gone; what the guest has is not.
    assert_eq!(leftovers(storage.images_dir()), [""; 0]);
    assert_eq!(names_in(&storage.images_dir().join("extracted")), [""; 0]);
    assert!(device(&held.disk.parts).len() as u64 == held.disk.size);
    held.lease.release().unwrap();
    storage.collect(&everything()).unwrap();
    assert_eq!(kept(&storage), [""; 0]);
    assert_eq!(leftovers(storage.images_dir()), [""; 0]);
    assert_eq!(storage.disk_usage().unwrap().bytes(), 0);
}

/// A host may bound what it keeps, by when it was asked for last. A lease counts more than that.
#[test]
fn a_disk_that_nobody_asks_for_goes_where_that_is_wanted() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let image = open(&storage, &layers());
    storage.tag_image(&ImageName::parse("example.org/x:1").unwrap(), &image.manifest_digest).unwrap();
    let [idle, held, used] = kinds().map(|kind| (storage.keep_disk(&image, &kind).unwrap(), kind));
    let ages = |disk: &KeptDisk| {
        let description =
            std::fs::File::options().write(true).open(disk.disk.path.parent().unwrap().join("description")).unwrap();
        let hours_ago = std::time::SystemTime::now() - Duration::from_secs(2 * 3600);
        description.set_modified(hours_ago).unwrap();
    };
    [&idle.0, &held.0, &used.0].into_iter().for_each(ages);
    idle.0.lease.release().unwrap();
    used.0.lease.release().unwrap();
    let again = storage.keep_disk(&image, &used.1).unwrap();
    assert!(again.disk.cached);
    again.lease.release().unwrap();
    storage.collect(&everything()).unwrap();
    assert_eq!(kept(&storage).len(), 3, "their layers stay");
    storage.collect(&everything().max_disk_idle(Duration::from_secs(3 * 3600))).unwrap();
    assert_eq!(kept(&storage).len(), 3);
    let report = storage.collect(&everything().max_disk_idle(Duration::from_secs(3600))).unwrap();
    assert_eq!(report.removed.len(), 1, "{report:?}");
    assert!(!idle.0.disk.path.exists() && held.0.disk.path.exists() && used.0.disk.path.exists());
}

#[test]
fn a_direct_disk_leaves_no_disks_of_layers() {
    for kind in kinds() {
        let dir = temp_dir();
        let (storage, other) = (quick_store(&dir.path().join("store")), quick_store(&dir.path().join("other")));
        let direct = kind.clone().direct(true);
        let disk = storage.keep_disk(&open(&storage, &layers()), &direct).unwrap().disk;
        let at = dir.path().join("disk");
        let elsewhere = storage.create_disk(&open(&storage, &layers()), &at, &direct).unwrap();
        assert_eq!(names_in(&storage.images_dir().join("extracted")), [""; 0]);
        let usual = other.keep_disk(&open(&other, &layers()), &kind).unwrap().disk;
        assert!(device(&disk.parts) == device(&usual.parts) && device(&elsewhere.parts) == device(&usual.parts));
        for part in disk.parts.iter().chain(&elsewhere.parts) {
            assert_eq!(std::fs::metadata(&part.path).unwrap().nlink(), 1, "{part:?}");
        }
        assert_eq!(storage.disk_usage().unwrap().disks.bytes, disk_bytes(&disk.path));
        // One that is there is used.
        let image = open(&other, &layers());
        other.create_disk(&image, &dir.path().join("again"), &kind.clone().direct(true)).unwrap();
        assert_eq!(names_in(&other.images_dir().join("extracted")).len(), 4);
        assert_eq!(leftovers(storage.images_dir()), [""; 0]);
    }
}

/// Of all files beside this one.
fn disk_bytes(path: &Path) -> u64 {
    let files = std::fs::read_dir(path.parent().unwrap()).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn a_check_compares_disks_with_their_layers() {
    let change = |path: &Path, at: u64| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
        std::fs::File::options().write(true).open(path).unwrap().write_all_at(b"changed", at).unwrap();
    };
    type Damage = Box<dyn Fn(&Path)>;
    let damages: [(&str, DiskOptions, Damage); 11] = [
        ("the superblock", options(DiskLayout::Flat), Box::new(move |folder| change(&folder.join("disk.erofs"), 1030))),
        ("metadata", options(DiskLayout::Flat), Box::new(move |folder| change(&folder.join("disk.erofs"), 4100))),
        (
            "content",
            options(DiskLayout::Flat),
            Box::new(move |folder| {
                let file = folder.join("disk.erofs");
                change(&file, std::fs::metadata(&file).unwrap().len() - 4096);
            }),
        ),
        (
            "a disk that is cut",
            options(DiskLayout::Flat),
            Box::new(|folder| {
                let file = folder.join("disk.erofs");
                std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
                std::fs::File::options().write(true).open(file).unwrap().set_len(4096).unwrap();
            }),
        ),
        ("an ext4", DiskOptions::default(), Box::new(move |folder| change(&folder.join("disk.ext4"), 1030))),
        ("its groups", DiskOptions::default(), Box::new(move |folder| change(&folder.join("disk.ext4"), 4100))),
        (
            "its content",
            DiskOptions::default(),
            Box::new(move |folder| {
                let file = folder.join("disk.ext4");
                change(&file, std::fs::metadata(&file).unwrap().len() - 4096);
            }),
        ),
        ("its metadata", options(DiskLayout::Merged), Box::new(move |folder| change(&folder.join("meta.erofs"), 4100))),
        ("its descriptor", options(DiskLayout::Merged), Box::new(move |folder| change(&folder.join("disk.vmdk"), 3))),
        (
            "a part that is gone",
            options(DiskLayout::Merged),
            Box::new(|folder| {
                std::fs::remove_file(folder.join("layer-1.erofs")).unwrap();
            }),
        ),
        (
            "its description",
            options(DiskLayout::Merged),
            Box::new(|folder| {
                std::fs::write(folder.join("description"), "{}").unwrap();
            }),
        ),
    ];
    for (what, kind, damage) in damages {
        let dir = temp_dir();
        let storage = quick_store(&dir.path().join("store"));
        let image = open(&storage, &layers());
        let made = storage.keep_disk(&image, &kind).unwrap().disk;
        let mut checking = CheckOptions::default();
        let report = storage.check(&checking).unwrap();
        assert_eq!((&report.findings[..], report.skipped), (&[][..], 0), "{what}");
        damage(made.path.parent().unwrap());
        checking.repair = true;
        let findings = storage.check(&checking).unwrap().findings;
        assert_eq!(findings.len(), 1, "{what}: {findings:?}");
        assert!(findings[0].quarantined && findings[0].object.starts_with("disks/"), "{what}: {findings:?}");
        assert_eq!(storage.check(&checking).unwrap().findings, [], "{what}");
        let again = storage.keep_disk(&image, &kind).unwrap().disk;
        assert!(!again.cached, "{what}");
        assert_eq!(storage.check(&checking).unwrap().findings, [], "{what}");
    }
}

/// Without the layers' disks there is nothing to compare with; a layer's disk that was made again is another file.
#[test]
fn a_check_knows_what_it_cannot_judge() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let image = open(&storage, &layers());
    let merged = storage.keep_disk(&image, &options(DiskLayout::Merged).direct(true)).unwrap();
    let report = storage.check(&CheckOptions::default()).unwrap();
    assert_eq!((&report.findings[..], report.skipped), (&[][..], 1));
    let mut as_disk = ExtractOptions::default();
    as_disk.tree.form.erofs = true;
    for (layer, _) in image.layers() {
        storage.extract_layer(&layer.digest, &as_disk).unwrap();
    }
    let report = storage.check(&CheckOptions::default()).unwrap();
    assert_eq!((&report.findings[..], report.skipped), (&[][..], 0));
    let part = &merged.disk.parts[1].path;
    std::fs::set_permissions(part, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::File::options().write(true).open(part).unwrap().write_all_at(b"changed", 4096).unwrap();
    let findings = storage.check(&CheckOptions::default()).unwrap().findings;
    assert!(findings.len() == 1 && findings[0].message.contains("layer-"), "{findings:?}");
}

#[test]
fn a_disk_that_cannot_be_kept_leaves_nothing() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let image = open(&storage, &layers());
    let cancelled = boxlite_images::Cancel::default();
    cancelled.trigger();
    let too_long = options(DiskLayout::Flat).label("0123456789abcdef");
    let ended = options(DiskLayout::Flat).interrupt(Interrupt::new(Some(cancelled), None));
    for (wrong, status) in [(too_long, Status::InvalidArgument), (ended, Status::Cancelled)] {
        let error = storage.keep_disk(&image, &wrong).unwrap_err();
        assert_eq!(error.status(), status, "{error}");
        assert_eq!(names_in(&storage.images_dir().join("leases")), [""; 0]);
        assert_eq!(kept(&storage), [""; 0]);
    }
    std::fs::remove_file(storage.layer_tarball_path(&image.manifest.layers[1].digest)).unwrap();
    let image = storage.open_image_by_digest(&image.manifest_digest).unwrap();
    let error = storage.keep_disk(&image, &options(DiskLayout::Flat)).unwrap_err();
    assert_eq!(error.status(), Status::NotFound, "{error}");
    assert!(kept(&storage).is_empty() && names_in(&storage.images_dir().join("leases")).is_empty());
}

/// The user of an image is the same in its layers' disks as in its root file system.
#[test]
fn a_process_is_the_same_by_the_layers_disks() {
    let users = b"root:x:0:0::/root:\napp:x:1000:1001::/srv:\n";
    let group = b"app:x:1001:\nextra:x:5:app\n";
    let plain = || Archive::new().dir(b"etc").file(b"etc/passwd", users).file(b"etc/group", group);
    let cases: [(&str, Vec<Vec<u8>>, &str); 12] = [
        ("plain", vec![plain().finish()], "app"),
        ("nobody", vec![plain().finish()], "nobody"),
        ("a group", vec![plain().finish()], "app:extra"),
        ("no files", vec![Archive::new().file(b"x", b"").finish()], "7"),
        ("no files, a name", vec![Archive::new().file(b"x", b"").finish()], "app"),
        (
            "a later layer",
            vec![plain().finish(), Archive::new().file(b"etc/passwd", b"app:x:7:8::/:\n").finish()],
            "app",
        ),
        ("a whiteout", vec![plain().finish(), Archive::new().file(b"etc/.wh.passwd", b"").finish()], "app"),
        (
            "symlinks",
            vec![
                Archive::new().symlink(b"etc", b"usr/../data/./etc").dir(b"usr").dir(b"data").dir(b"data/etc").finish(),
                Archive::new()
                    .symlink(b"etc/passwd", b"/../../files/users")
                    .dir(b"files")
                    .file(b"files/users", users)
                    .finish(),
            ],
            "app",
        ),
        ("a loop", vec![Archive::new().dir(b"etc").symlink(b"etc/passwd", b"passwd").finish()], "app"),
        ("a directory", vec![Archive::new().dir(b"etc/passwd").finish()], "app"),
        ("a fifo", vec![Archive::new().dir(b"etc").entry(Header::new(b'6', b"etc/passwd"), b"").finish()], "app"),
        ("too large", vec![Archive::new().dir(b"etc").file(b"etc/passwd", &[b'x'; (1 << 20) + 1]).finish()], "app"),
    ];
    for (what, layers, user) in cases {
        let dir = temp_dir();
        let storage = quick_store(&dir.path().join("store"));
        let run = format!(r#"{{"Cmd":["sh"],"User":"{user}"}}"#);
        let image = storage.open_image_by_digest(&put_image_that_runs(&storage, &run, &layers)).unwrap();
        let error = storage.process(&image, &Interrupt::default()).unwrap_err();
        assert_eq!(error.status(), Status::NotFound, "{what}: {error}");
        let root = dir.path().join("root");
        storage.assemble_rootfs(&image, &root, &RootfsOptions::default()).unwrap();
        storage.keep_disk(&image, &options(DiskLayout::Flat)).unwrap();
        let expected = image.process(&root).map_err(|error| error.status());
        let found = storage.process(&image, &Interrupt::default());
        assert_eq!(found.map_err(|error| error.status()), expected, "{what}");
    }
}

/// A config can claim anything: a key that is made of it is no proof.
#[test]
fn a_config_that_lies_is_given_no_disk_of_another_image() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let secret = Archive::new().file(b"secret", b"secret").finish();
    let image = open(&storage, std::slice::from_ref(&secret));
    let kept = storage.keep_disk(&image, &options(DiskLayout::Flat)).unwrap().disk;
    // The same config for other layers.
    let other = super::support::put_layer(&storage, &super::archive::gzip(&Archive::new().file(b"a", b"a").finish()));
    let mut lying = storage.open_image_by_digest(&image.manifest_digest).unwrap();
    lying.manifest.layers[0].digest = other;
    let error = storage.keep_disk(&lying, &options(DiskLayout::Flat)).unwrap_err();
    assert_eq!(error.status(), Status::DigestMismatch, "{error}");
    // Another compression of the same layer makes the same disk.
    let again = super::support::put_layer(&storage, &super::archive::zstd(&secret));
    let mut recompressed = storage.open_image_by_digest(&image.manifest_digest).unwrap();
    recompressed.manifest.layers[0].digest = again;
    let found = storage.keep_disk(&recompressed, &options(DiskLayout::Flat)).unwrap().disk;
    assert!(found.key == kept.key && device(&found.parts) == device(&kept.parts), "{found:?}");
}

/// What a config says of a layer is checked each time that the image has the layer.
#[test]
fn a_layer_that_an_image_has_twice_is_what_the_config_says_twice() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let image = open(&storage, &layers());
    let mut lying = image.clone();
    lying.manifest.layers[1] = lying.manifest.layers[0].clone();
    for direct in [false, true] {
        let error = storage.keep_disk(&lying, &options(DiskLayout::Flat).direct(direct)).unwrap_err();
        assert_eq!(error.status(), Status::DigestMismatch, "{error}");
        let error = storage.create_disk(&lying, &dir.path().join("disk"), &options(DiskLayout::Flat)).unwrap_err();
        assert_eq!(error.status(), Status::DigestMismatch, "{error}");
    }
    assert_eq!(kept(&storage), [""; 0]);
    // One that is true is a disk, and the layer is read once.
    let twice = [layers().remove(0), layers().remove(0)];
    let disk = storage.keep_disk(&open(&storage, &twice), &options(DiskLayout::Merged)).unwrap().disk;
    assert_eq!(disk.parts.len(), 2, "{disk:?}");
}

#[test]
fn a_disk_of_which_a_file_is_gone_or_cut_is_made_again() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let image = open(&storage, &layers());
    for kind in kinds() {
        let direct = kind.clone().direct(true);
        let made = storage.keep_disk(&image, &direct).unwrap().disk;
        let part = &made.parts[0].path;
        std::fs::set_permissions(part, std::fs::Permissions::from_mode(0o644)).unwrap();
        std::fs::File::options().write(true).open(part).unwrap().set_len(4096).unwrap();
        // Also where there are no disks of layers to compare with.
        let findings = storage.check(&CheckOptions::default()).unwrap().findings;
        assert!(findings.len() == 1 && findings[0].object.starts_with("disks/"), "{findings:?}");
        let again = storage.keep_disk(&image, &direct).unwrap().disk;
        assert!(!again.cached && std::fs::metadata(part).unwrap().len() == made.parts[0].length);
        std::fs::remove_file(part).unwrap();
        assert!(!storage.keep_disk(&image, &direct).unwrap().disk.cached);
    }
}

/// A disk of an image without layers is nobody's but its lease's.
#[test]
fn a_disk_without_layers_goes_with_its_lease() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let held = storage.keep_disk(&open(&storage, &[]), &options(DiskLayout::Flat)).unwrap();
    storage.collect(&everything()).unwrap();
    assert_eq!(kept(&storage).len(), 1);
    held.lease.release().unwrap();
    storage.collect(&everything()).unwrap();
    assert_eq!(kept(&storage), [""; 0]);
}

/// Someone has the path while the disk is made anew: there is never nothing under it.
#[test]
fn a_disk_that_is_replaced_is_there_all_the_time() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let image = open(&storage, &layers());
    let path = storage.keep_disk(&image, &options(DiskLayout::Flat)).unwrap().disk.path;
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = 0u64;
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                assert!(path.exists(), "{} is gone", path.display());
                seen += 1;
            }
            seen
        });
        for _ in 0..30 {
            storage.keep_disk(&image, &options(DiskLayout::Flat).replace(true)).unwrap().lease.release().unwrap();
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(watcher.join().unwrap() > 0);
    });
    assert_eq!(leftovers(storage.images_dir()), [""; 0]);
}

/// Two configs can say the same layers by other digests. Neither takes the other's disk away.
#[test]
fn what_the_config_claims_is_a_part_of_the_name() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let image = open(&storage, &layers());
    let mut silent = image.clone();
    silent.config.diff_ids.clear();
    let mut other = image.clone();
    for (diff_id, layer) in other.config.diff_ids.iter_mut().zip(layers()) {
        *diff_id = Digest::parse(&format!("sha512:{}", sha512_hex(&layer))).unwrap();
    }
    let first = storage.keep_disk(&image, &options(DiskLayout::Flat)).unwrap().disk;
    for like in [&silent, &other] {
        let made = storage.keep_disk(like, &options(DiskLayout::Flat)).unwrap().disk;
        assert!(!made.cached && made.path != first.path, "{made:?}");
        assert!(storage.keep_disk(like, &options(DiskLayout::Flat)).unwrap().disk.cached);
        assert!(storage.keep_disk(&image, &options(DiskLayout::Flat)).unwrap().disk.cached);
    }
    assert_eq!(storage.check(&CheckOptions::default()).unwrap().findings, []);
}

pub fn sha512_hex(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha512::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_damage_to_a_description_is_found() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let made = storage.keep_disk(&open(&storage, &layers()), &options(DiskLayout::Flat)).unwrap().disk;
    let file = made.path.with_file_name("description");
    let bytes = std::fs::read(&file).unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        std::fs::write(&file, damaged).unwrap();
        let report = storage.check(&CheckOptions::default()).unwrap();
        assert_eq!(report.findings.len(), 1, "byte {at} of {}", String::from_utf8_lossy(&bytes));
    }
    std::fs::write(&file, &bytes).unwrap();
    assert_eq!(storage.check(&CheckOptions::default()).unwrap().findings, []);
}

/// The file that a VMM is given is there, too.
#[test]
fn a_merged_disk_without_its_descriptor_is_made_again() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let image = open(&storage, &layers());
    let made = storage.keep_disk(&image, &options(DiskLayout::Merged)).unwrap().disk;
    std::fs::remove_file(&made.path).unwrap();
    let again = storage.keep_disk(&image, &options(DiskLayout::Merged)).unwrap().disk;
    assert!(!again.cached && again.path.exists());
}

/// A disk goes before the layer's file that it has, so that a check which ends between them leaves nothing that is wrong.
#[test]
fn a_disk_of_a_damaged_layer_goes_with_it() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let image = open(&storage, &layers());
    let merged = storage.keep_disk(&image, &options(DiskLayout::Merged)).unwrap().disk;
    let flat = storage.keep_disk(&image, &options(DiskLayout::Flat)).unwrap().disk;
    let part = &merged.parts[1].path;
    std::fs::set_permissions(part, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::File::options().write(true).open(part).unwrap().write_all_at(b"changed", 4096).unwrap();
    let mut checking = CheckOptions::default();
    for repair in [false, true] {
        checking.repair = repair;
        let report = storage.check(&checking).unwrap();
        let objects: Vec<&str> = report.findings.iter().map(|found| found.object.split('/').next().unwrap()).collect();
        assert_eq!(objects, ["disks", "extracted"], "{report:?}");
        // The flat one has its own bytes, and cannot be judged meanwhile.
        assert_eq!(report.skipped, 1);
    }
    assert!(!merged.path.exists() && flat.path.exists());
    // A record that is damaged says nothing of the bytes.
    let again = storage.keep_disk(&image, &options(DiskLayout::Merged)).unwrap().disk;
    let records = names_in(&storage.images_dir().join("extracted"));
    let record =
        storage.images_dir().join("extracted").join(records.iter().find(|name| name.ends_with("mtree")).unwrap());
    let mut bytes = std::fs::read(&record).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&record, bytes).unwrap();
    let findings = storage.check(&checking).unwrap().findings;
    assert!(findings.len() == 1 && findings[0].object.starts_with("extracted/"), "{findings:?}");
    assert!(again.path.exists());
}

/// A process that ends at once has flushed nothing; the next one that finds the disk does.
#[test]
fn a_disk_is_flushed_by_whoever_finds_it() {
    let dir = temp_dir();
    // The flush begins two seconds later; a machine that does nothing of ours for so long is asked again.
    let ended_before_it = (0..20).find_map(|attempt| {
        let at = dir.path().join(attempt.to_string());
        let storage = Storage::open(&at, &boxlite_images::StorageOptions::default()).unwrap();
        let disk = storage.keep_disk(&open(&storage, &layers()), &options(DiskLayout::Merged)).unwrap().disk;
        drop(storage);
        let mark = disk.path.with_file_name("durable");
        (!mark.exists()).then_some((at, mark))
    });
    let (at, mark) = ended_before_it.expect("closing a store does not wait for the disk");
    let storage = Storage::open(&at, &boxlite_images::StorageOptions::default()).unwrap();
    assert!(storage.keep_disk(&open(&storage, &layers()), &options(DiskLayout::Merged)).unwrap().disk.cached);
    super::support::wait_until("it is flushed", || mark.exists());
}
