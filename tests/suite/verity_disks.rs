//! Disks with hashes for dm-verity. veritysetup is the judge: it verifies what is there, and comes to the same root.

use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use boxlite_images::{
    CheckOptions, Disk, DiskFormat, DiskLayout, DiskOptions, GcOptions, Image, Status, Storage, Verity,
};

use super::archive::Archive;
use super::images::put_image_of;
use super::support::{as_each_user, has_tool, leftovers, names_in, quick_store, temp_dir};

const SALT: &str = "0000000000000000000000000000000000000000000000000000000000000000";

fn kinds() -> [(&'static str, DiskOptions); 3] {
    let erofs = DiskOptions::default().format(DiskFormat::Erofs);
    let all =
        [("ext4", DiskOptions::default()), ("erofs", erofs.clone()), ("merged", erofs.layout(DiskLayout::Merged))];
    all.map(|(name, options)| (name, options.verity(true)))
}

/// Three layers: one with many small files, one with some that are no whole blocks, and one with names that are gone.
fn image(storage: &Storage) -> Image {
    let many = (0..600).fold(Archive::new().dir(b"d"), |archive, number| {
        archive.file(format!("d/{number}").as_bytes(), format!("{number}").repeat(number).as_bytes())
    });
    let large = Archive::new().file(b"large", &vec![b'l'; 3_000_001]).file(b"empty", b"");
    let last = Archive::new().file(b"d/.wh.7", b"").hardlink(b"same", b"later").file(b"later", b"later");
    let layers = [many.finish(), large.finish(), last.finish()];
    storage.open_image_by_digest(&put_image_of(storage, "x", &layers)).unwrap()
}

/// One file with all of the device.
fn device(disk: &Disk, to: &Path) -> PathBuf {
    let bytes: Vec<u8> = disk.parts.iter().flat_map(|part| std::fs::read(&part.path).unwrap()).collect();
    assert_eq!(bytes.len() as u64, disk.size);
    std::fs::write(to, bytes).unwrap();
    to.to_path_buf()
}

fn verity(disk: &Disk) -> &Verity {
    disk.verity.as_ref().unwrap()
}

/// Whether veritysetup finds all blocks to be what the root says.
fn is_verified(device: &Path, root: &Verity) -> bool {
    let offset = format!("--hash-offset={}", root.data_blocks * 4096);
    let verify =
        Command::new("veritysetup").arg("verify").args([device, device]).args([root.root_hash_hex(), offset]).output();
    verify.unwrap().status.success()
}

#[test]
fn veritysetup_agrees_and_finds_each_byte_that_was_changed() {
    if !has_tool("veritysetup") {
        return;
    }
    as_each_user("verity_disks::veritysetup_agrees_and_finds_each_byte_that_was_changed", || {
        let dir = temp_dir();
        let dir = dir.path();
        let storage = quick_store(&dir.join("store"));
        let image = image(&storage);
        for (name, options) in kinds() {
            let disk = storage.create_disk(&image, &dir.join(name), &options).unwrap();
            let root = verity(&disk);
            let whole = device(&disk, &dir.join(format!("{name}.device")));
            assert!(is_verified(&whole, root), "{name}");
            // The same root without us.
            let bytes = std::fs::read(&whole).unwrap();
            let data = dir.join(format!("{name}.data"));
            std::fs::write(&data, &bytes[..root.data_blocks as usize * 4096]).unwrap();
            let theirs = Command::new("veritysetup")
                .arg("format")
                .args([&data, &dir.join(format!("{name}.hashes"))])
                .args(["--salt", SALT])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&theirs.stdout).into_owned();
            assert!(said.contains(&root.root_hash_hex()), "{name}: {said}");
            // A byte of each part, and in the tree.
            let file = std::fs::File::options().write(true).open(&whole).unwrap();
            let places = disk.parts.iter().map(|part| part.offset + part.length / 2).chain([disk.size - 4096 + 5]);
            for at in places {
                let was = bytes[at as usize];
                file.write_all_at(&[was ^ 1], at).unwrap();
                assert!(!is_verified(&whole, root), "{name}: a change at {at} is not found");
                file.write_all_at(&[was], at).unwrap();
            }
            assert!(is_verified(&whole, root), "{name}");
        }
    });
}

#[test]
fn a_guest_is_told_where_the_hashes_are() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let image = image(&storage);
    for (name, options) in kinds() {
        let disk = storage.create_disk(&image, &dir.path().join(name), &options).unwrap();
        let plain = options.clone().verity(false);
        let without = storage.create_disk(&image, &dir.path().join(format!("{name}.plain")), &plain).unwrap();
        let (root, blocks) = (verity(&disk).root_hash_hex(), verity(&disk).data_blocks);
        let table = format!(
            "0 {} verity 1 /dev/vda /dev/vda 4096 4096 {blocks} {} sha256 {root} {SALT}",
            blocks * 8,
            blocks + 1
        );
        assert_eq!(verity(&disk).table("/dev/vda"), table);
        let file_system = disk.file_system();
        let args = format!("dm-mod.create=\"root,,,ro,{table}\" root=/dev/dm-0 rootfstype={file_system} ro");
        assert_eq!(disk.kernel_args(), Some(args));
        // The file system has other ids, since the key is another one, and is as long.
        assert_ne!(disk.key, without.key);
        assert!(without.verity.is_none());
        assert_eq!(without.size, blocks * 4096, "{name}");
    }
    let refused = storage.create_disk(&image, &dir.path().join("no"), &kinds()[0].1.clone().free_bytes(1u64));
    assert_eq!(refused.unwrap_err().status(), Status::InvalidArgument);
}

fn hashes(storage: &Storage) -> Vec<PathBuf> {
    let folder = storage.images_dir().join("extracted");
    let names = names_in(&folder).into_iter().filter(|name| name.ends_with(".verity"));
    names.map(|name| folder.join(name)).collect()
}

/// Those of a layer are computed once. What is kept of them is not believed where it is not what was written.
#[test]
fn hashes_of_layers_are_kept_and_known_by_their_checksum() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let image = image(&storage);
    let create = |name: &str| {
        let disk = storage.create_disk(&image, &dir.path().join(name), &kinds()[0].1.clone().replace(true)).unwrap();
        verity(&disk).clone()
    };
    let first = create("first");
    let kept = hashes(&storage);
    assert_eq!(kept.len(), 3);
    let written: Vec<_> = kept.iter().map(|path| std::fs::metadata(path).unwrap().modified().unwrap()).collect();
    assert_eq!(create("second"), first);
    let now: Vec<_> = kept.iter().map(|path| std::fs::metadata(path).unwrap().modified().unwrap()).collect();
    assert_eq!(now, written, "they were computed again");
    for damage in [&b""[..], b"short", &[7; 4096]] {
        for path in &kept {
            std::fs::write(path, damage).unwrap();
        }
        assert_eq!(create("damaged"), first);
        assert!(kept.iter().all(|path| std::fs::read(path).unwrap() != damage), "they were not replaced");
    }
    // One bit in the middle.
    let mut bytes = std::fs::read(&kept[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&kept[0], bytes).unwrap();
    assert_eq!(create("bit"), first);
    // A check looks at what is kept, too: here is the hash of another block, as of a disk that was read wrong once.
    let check = |repair| storage.check(&CheckOptions::default().repair(repair)).unwrap().findings;
    assert_eq!(check(false), []);
    let mut bytes = std::fs::read(&kept[0]).unwrap();
    // Behind the head and the number of a block of hashes comes the superblock's, and then that of the first content.
    let head = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    bytes[head + 8 + 32] ^= 1;
    let sum = twox_hash::XxHash3_64::oneshot(&bytes[17..]);
    bytes[..17].copy_from_slice(format!("{sum:016x} ").as_bytes());
    std::fs::write(&kept[0], bytes).unwrap();
    assert_ne!(create("wrong"), first, "the check has nothing to find");
    for repair in [false, true] {
        let findings = check(repair);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].object.ends_with(".verity") && findings[0].quarantined == repair, "{findings:?}");
    }
    assert_eq!(check(false), []);
    assert_eq!(hashes(&storage).len(), 2);
    assert_eq!(create("anew"), first);
    // They go with their trees, and count as theirs.
    let before = storage.disk_usage().unwrap().trees;
    assert_eq!(before.objects, 3);
    let report = storage.collect(&GcOptions::default().min_age(std::time::Duration::ZERO)).unwrap();
    assert!(report.removed.iter().any(|name| name.ends_with(".verity")), "{report:?}");
    assert_eq!(hashes(&storage), [] as [PathBuf; 0]);
    assert_eq!(leftovers(storage.images_dir()), [""; 0]);
}

#[test]
fn a_kept_disk_has_its_root_and_a_check_finds_what_was_changed() {
    for (name, options) in kinds() {
        let dir = temp_dir();
        let storage = quick_store(&dir.path().join("store"));
        let image = image(&storage);
        let made = storage.keep_disk(&image, &options).unwrap().disk;
        let found = storage.keep_disk(&image, &options).unwrap().disk;
        assert!(found.cached && found.verity == made.verity && found.verity.is_some(), "{name}");
        let check = || storage.check(&CheckOptions::default()).unwrap().findings;
        assert_eq!(check(), [], "{name}");
        // The last byte of the hashes that is not padding.
        let last = made.parts.last().unwrap();
        let bytes = std::fs::read(&last.path).unwrap();
        let at = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        std::fs::set_permissions(&last.path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let file = std::fs::File::options().write(true).open(&last.path).unwrap();
        file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
        let findings = check();
        assert!(findings.iter().any(|finding| finding.object.starts_with("disks/")), "{name}: {findings:?}");
    }
}

/// A layer can say in a few bytes that a file has terabytes of holes. They are neither read nor remembered.
#[test]
fn holes_of_terabytes_cost_nothing_but_their_tree() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    // The tree of a terabyte has 8 GB, which is why this is not more.
    let (size, at) = ((8u64 << 30).to_string(), 4u64 << 30);
    let keys = [
        ("GNU.sparse.size", size.as_bytes()),
        ("GNU.sparse.numblocks", b"1"),
        ("GNU.sparse.map", &format!("{at},5").into_bytes()),
    ];
    let layer = Archive::new().pax(&keys).file(b"hole", b"bytes").finish();
    let image = storage.open_image_by_digest(&put_image_of(&storage, "x", &[layer])).unwrap();
    for (name, options) in kinds() {
        let disk = storage.create_disk(&image, &dir.path().join(name), &options).unwrap();
        // An ext4 has no blocks for them.
        assert!(if name == "ext4" { disk.size < 1 << 20 } else { disk.size > 8 << 30 }, "{name}: {disk:?}");
        assert!(disk.allocated < 160 << 20, "{name}: {disk:?}");
    }
    let kept = hashes(&storage);
    assert!(kept.len() == 1 && std::fs::metadata(&kept[0]).unwrap().len() < 20_000);
    assert_eq!(storage.check(&CheckOptions::default()).unwrap().findings, []);
}

/// What a check reads of disks with hashes counts as read, so that it keeps to the pace that it was given.
#[test]
fn a_check_counts_what_it_hashes() {
    let read = |options: &DiskOptions| {
        let dir = temp_dir();
        let storage = quick_store(&dir.path().join("store"));
        let image = image(&storage);
        storage.keep_disk(&image, options).unwrap();
        storage.check(&CheckOptions::default()).unwrap().bytes
    };
    for (name, options) in kinds() {
        let (with, without) = (read(&options), read(&options.clone().verity(false)));
        // The layers are hashed once for what is kept, and once for the disk.
        assert!(with > without + 2 * 3_000_000, "{name}: {with} and {without}");
    }
}
