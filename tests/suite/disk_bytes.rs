//! The bytes of images' disks: the same whoever makes them, and wherever. Only a new version of the recipe may change the digests
//! in `tests/golden/image-disks.txt`.

use boxlite_images::{Digest, Disk, DiskFile, DiskFileContent, DiskFormat, DiskLayout, DiskOptions, Storage};

use super::families;
use super::families::disks::{in_other_places, on_one_core};
use super::generated::is_up_to_date;
use super::images::put_image_of;
use super::support::{as_each_user, is_root, quick_store, repository, temp_dir};

const GOLDEN: &str = "tests/golden/image-disks.txt";
/// Of the stacks of layers every so many-th: each makes a disk of each kind.
const STEP: usize = 2;

fn kinds() -> [(&'static str, DiskOptions); 7] {
    let (ext4, erofs) = (DiskOptions::default(), DiskOptions::default().format(DiskFormat::Erofs));
    let agent = DiskFile::new("/usr/sbin/agent", DiskFileContent::Bytes(b"agent".to_vec())).mode(0o755).owner(3, 4);
    [
        ("ext4", ext4.clone()),
        ("erofs", erofs.clone()),
        ("merged", erofs.clone().layout(DiskLayout::Merged)),
        ("verity", ext4.clone().verity(true)),
        ("merged and verity", erofs.layout(DiskLayout::Merged).verity(true)),
        ("writable", ext4.clone().free_bytes(9u64 << 20).journal_bytes(0u64).is_growable(true).label("golden")),
        ("with a file", ext4.files(vec![agent]).max_mtime(1_000_000_000)),
    ]
}

/// Of all files of a disk, in their order, with their lengths.
fn digest(disk: &Disk) -> String {
    let mut all = Vec::new();
    for part in &disk.parts {
        all.extend_from_slice(&part.length.to_le_bytes());
        all.extend(std::fs::read(&part.path).unwrap());
    }
    Digest::of(&all).hex().to_owned()
}

fn digests(storage: &Storage, at: &std::path::Path) -> String {
    let mut golden = String::from("# The digests of images' disks, of each kind; and of an empty one.\n");
    for (number, layers) in families::assembly::layers_of_all().into_iter().enumerate().step_by(STEP) {
        let image = storage.open_image_by_digest(&put_image_of(storage, "x", &layers)).unwrap();
        for (kind, options) in kinds() {
            if let Ok(disk) = storage.create_disk(&image, &at.join("disk"), &options.clone().replace(true)) {
                golden.push_str(&format!("{} stack {number}, {kind}\n", digest(&disk)));
                remove(&at.join("disk"));
            }
        }
    }
    let options = DiskOptions::default().size_bytes(64u64 << 20).journal_bytes(0u64).is_growable(true);
    let empty = storage.format_disk(None, &at.join("empty"), &options).unwrap();
    golden.push_str(&format!("{} empty\n", digest(&empty)));
    golden
}

/// A disk of another layout does not take the place of one.
fn remove(disk: &std::path::Path) {
    if disk.is_dir() {
        std::fs::remove_dir_all(disk).unwrap();
    } else {
        std::fs::remove_file(disk).unwrap();
    }
}

fn digests_here() -> String {
    let dir = temp_dir();
    digests(&quick_store(&dir.path().join("store")), dir.path())
}

#[test]
fn an_image_s_disk_is_the_same_bytes_whoever_makes_it() {
    as_each_user("disk_bytes::an_image_s_disk_is_the_same_bytes_whoever_makes_it", || {
        let golden = digests_here();
        // An ordinary user only compares.
        if is_root() || std::env::var_os("BLESS").is_none() {
            is_up_to_date(&repository().join(GOLDEN), &golden);
        }
    });
}

#[test]
fn an_image_s_disk_is_the_same_bytes_wherever_it_is_made() {
    in_other_places("disk_bytes::an_image_s_disk_is_the_same_bytes_wherever_it_is_made", || {
        let golden = std::fs::read_to_string(repository().join(GOLDEN)).unwrap();
        on_one_core(|| assert_eq!(digests_here(), golden));
    });
}
