//! What a check says of kept disks: of what was written where nothing is, and of layers that share a disk.

use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};

use boxlite_images::{CheckOptions, Digest, Disk, DiskOptions};

use super::archive::Archive;
use super::kept_disks::{kinds, layers, open, sha512_hex};
use super::support::{names_in, quick_store, temp_dir};

/// Free blocks of a disk are zeros, and a check looks at them too: what is there now is nobody's but a guest's.
#[test]
fn a_check_finds_what_was_written_to_free_blocks() {
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let image = open(&storage, &[Archive::new().file(b"f", b"content").finish()]);
    let options = DiskOptions::default().free_bytes(20u64 << 20).journal_bytes(4u64 << 20);
    let disk = storage.keep_disk(&image, &options).unwrap().disk;
    let check = || storage.check(&CheckOptions::default()).unwrap().findings;
    assert_eq!(check(), []);
    std::fs::set_permissions(&disk.path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let file = std::fs::File::options().read(true).write(true).open(&disk.path).unwrap();
    // In the last free block, in the middle of the free room, and behind the first block of the journal, which has its magic.
    let bytes = std::fs::read(&disk.path).unwrap();
    let journal = bytes.chunks(4096).position(|block| block.starts_with(&[0xc0, 0x3b, 0x39, 0x98])).unwrap() as u64;
    for at in [disk.size - 1, disk.size - (10 << 20), (journal + 2) * 4096] {
        file.write_all_at(b"x", at).unwrap();
        let findings = check();
        assert!(findings.len() == 1 && findings[0].object.starts_with("disks/"), "{at}: {findings:?}");
        file.write_all_at(&[0], at).unwrap();
        assert_eq!(check(), [], "zeros are what was there");
    }
}

/// The diff_ids alone say which layers share a disk, so that a check comes to the same, whatever made it.
#[test]
fn a_layer_twice_with_diff_ids_of_two_algorithms_is_a_disk_that_a_check_knows() {
    for options in kinds().into_iter().flat_map(|kind| [kind.clone(), kind.verity(true)]) {
        let dir = temp_dir();
        let storage = quick_store(&dir.path().join("store"));
        let first = layers().remove(0);
        let mut image = open(&storage, &[first.clone(), layers().remove(1), first.clone()]);
        image.config.diff_ids[2] = Digest::parse(&format!("sha512:{}", sha512_hex(&first))).unwrap();
        for direct in [false, true] {
            let made = storage.create_disk(&image, &dir.path().join("disk"), &options.clone().direct(direct)).unwrap();
            let bytes =
                |disk: &Disk| disk.parts.iter().map(|part| std::fs::read(&part.path).unwrap()).collect::<Vec<_>>();
            let kept = storage.keep_disk(&image, &options).unwrap().disk;
            assert!(kept.key == made.key && bytes(&kept) == bytes(&made), "{options:?}");
            assert_eq!(storage.check(&CheckOptions::default()).unwrap().findings, []);
            if made.parts.len() > 1 {
                std::fs::remove_dir_all(dir.path().join("disk")).unwrap();
            } else {
                std::fs::remove_file(&made.path).unwrap();
            }
        }
    }
}

/// Kept hashes say of which disk they are as its record does, whatever a config calls it.
#[test]
fn kept_hashes_are_found_by_every_config() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let image = open(&storage, &layers());
    let mut other = image.clone();
    for (diff_id, layer) in other.config.diff_ids.iter_mut().zip(layers()) {
        *diff_id = Digest::parse(&format!("sha512:{}", sha512_hex(&layer))).unwrap();
    }
    let hashes = || {
        let folder = storage.images_dir().join("extracted");
        let names = names_in(&folder).into_iter().filter(|name| name.ends_with(".verity"));
        names.map(|name| std::fs::metadata(folder.join(name)).unwrap().ino()).collect::<Vec<_>>()
    };
    let options = DiskOptions::default().verity(true).replace(true);
    storage.create_disk(&image, &dir.path().join("disk"), &options).unwrap();
    let first = hashes();
    assert_eq!(first.len(), 2);
    storage.create_disk(&other, &dir.path().join("disk"), &options).unwrap();
    assert_eq!(hashes(), first, "they were computed again");
}
