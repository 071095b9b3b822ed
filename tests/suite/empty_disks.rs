//! Empty disks for guests that write, and what an overlay shows that has one above an image's disk.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use boxlite_images::{DiskFormat, DiskLayout, DiskOptions, Image, Status, Storage};

use super::archive::{Archive, Header};
use super::disk_mount::{MountedDisk, assert_clean};
use super::images::put_image_of;
use super::support::{has_tool, is_root, quick_store, run, skip, temp_dir};

const MIB: u64 = 1 << 20;

fn image(storage: &Storage) -> Image {
    let root = Header::new(b'5', b"./").mode(0o1751).owner(11, 12);
    let layer = Archive::new().pax(&[("SCHILY.xattr.user.colour", b"blue")]).entry(root, b"").file(b"f", b"below");
    storage.open_image_by_digest(&put_image_of(storage, "x", &[layer.finish()])).unwrap()
}

fn checked(disk: &Path) {
    if has_tool("e2fsck") {
        assert_clean("empty", disk, DiskFormat::Ext4, false);
    }
}

#[test]
fn an_empty_disk_is_as_large_as_it_should_be_and_takes_hardly_any_room() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let whole = DiskOptions::default().journal_bytes(0u64).is_growable(true).label("scratch");
    let cases = [
        ("10 GiB", whole.clone().size_bytes(10_240 * MIB), 10_240 * MIB),
        ("10 GiB that cannot grow", DiskOptions::default().size_bytes(10_240 * MIB).journal_bytes(0u64), 10_240 * MIB),
        ("1 GiB", DiskOptions::default().size_bytes(1024 * MIB), 1024 * MIB),
        ("small", whole.clone().size_bytes(8 * MIB), 8 * MIB),
        ("free", DiskOptions::default().free_bytes(100 * MIB), 0),
    ];
    for (name, options, size) in cases {
        let at = dir.path().join(name);
        let disk = storage.format_disk(None, &at, &options).unwrap();
        assert!(size == 0 || disk.size == size, "{name}: {disk:?}");
        // What is reserved to grow by has an address in each of 1,024 blocks, as that of mke2fs has.
        let most = if options.is_growable { 5 * MIB } else { 4 * MIB };
        assert!(disk.allocated < most && disk.entries == 0 && disk.is_writable, "{name}: {disk:?}");
        assert!(disk.is_empty && disk.kernel_args().is_none(), "{name}: nothing can be started with it");
        assert_eq!(std::fs::metadata(&at).unwrap().len(), disk.size);
        checked(&at);
        // The same options are the same bytes.
        let again = storage.format_disk(None, &at, &options.clone().replace(true)).unwrap();
        assert_eq!((again.key, again.uuid), (disk.key, disk.uuid));
    }
}

#[test]
fn what_cannot_be_an_empty_disk_is_refused() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let sized = DiskOptions::default().size_bytes(64 * MIB);
    let cases = [
        (DiskOptions::default(), Status::InvalidArgument, "needs a size"),
        (sized.clone().format(DiskFormat::Erofs), Status::InvalidArgument, "erofs"),
        (sized.clone().layout(DiskLayout::Merged), Status::InvalidArgument, "merged"),
        (sized.clone().verity(true), Status::InvalidArgument, "cannot be written to"),
        (sized.clone().label("seventeen letters"), Status::InvalidArgument, "label"),
        (DiskOptions::default().size_bytes(4096u64), Status::NoSpace, "takes at least"),
        (sized.clone().size_bytes(17u64 << 40), Status::Limit, "blocks of a disk"),
    ];
    for (options, status, why) in cases {
        let error = storage.format_disk(None, &dir.path().join("disk"), &options).unwrap_err();
        assert!(error.status() == status && error.to_string().contains(why), "{error}");
        assert!(!dir.path().join("disk").exists());
    }
    std::fs::write(dir.path().join("taken"), b"x").unwrap();
    let error = storage.format_disk(None, &dir.path().join("taken"), &sized).unwrap_err();
    assert_eq!(error.status(), Status::Exists);
    assert_eq!(std::fs::read(dir.path().join("taken")).unwrap(), b"x");
}

/// The upper directory is the root that a guest sees.
#[test]
fn an_overlay_with_an_upper_disk_looks_like_the_image() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let image = image(&storage);
    let options = DiskOptions::default().size_bytes(64 * MIB).journal_bytes(0u64);
    let upper = storage.format_disk(Some(&image), &dir.path().join("upper.img"), &options).unwrap();
    let other = storage.format_disk(None, &dir.path().join("other.img"), &options).unwrap();
    assert_ne!(upper.key, other.key);
    checked(&upper.path);
    if !is_root() || !has_tool("mount") {
        return skip("mounting needs root");
    }
    let lower = storage.create_disk(&image, &dir.path().join("image.img"), &DiskOptions::default()).unwrap();
    let Some(lower) = MountedDisk::new(&lower.path, DiskFormat::Ext4, dir.path().join("lower")) else { return };
    let (at, merged) = (dir.path().join("upper"), dir.path().join("merged"));
    std::fs::create_dir(&at).unwrap();
    std::fs::create_dir(&merged).unwrap();
    run("mount", &["-o".as_ref(), "loop".as_ref(), upper.path.as_ref(), at.as_ref()]);
    let (lower_dir, at_dir) = (lower.path().display(), at.display());
    let how = format!("lowerdir={lower_dir},upperdir={at_dir}/upper,workdir={at_dir}/work");
    run("mount", &["-t".as_ref(), "overlay".as_ref(), "-o".as_ref(), how.as_ref(), "none".as_ref(), merged.as_ref()]);
    let root = std::fs::metadata(&merged).unwrap();
    let seen = (root.permissions().mode() & 0o7777, root.uid(), root.gid());
    let colour = xattr_of(&merged);
    let below = std::fs::read(merged.join("f"));
    let written = std::fs::write(merged.join("g"), b"above");
    run("umount", &[merged.as_ref()]);
    run("umount", &[at.as_ref()]);
    assert_eq!(seen, (0o1751, 11, 12));
    assert_eq!(colour, b"blue");
    assert_eq!(below.unwrap(), b"below");
    written.unwrap();
    checked(&upper.path);
}

fn xattr_of(path: &Path) -> Vec<u8> {
    let mut value = vec![0; 64];
    let length = rustix::fs::getxattr(path, "user.colour", &mut value).unwrap();
    value.truncate(length);
    value
}
