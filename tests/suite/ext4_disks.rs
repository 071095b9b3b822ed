//! What ext4 has forms of its own for: large directories, trees of extents, attributes in blocks, `lost+found`, old and far
//! dates. The kernel and e2fsck are the judges.

use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;

use boxlite_images::{
    Anomalies, Disk, DiskFormat, DiskLayout, DiskOptions, RootfsMode, RootfsOptions, Status, Storage,
};

use super::archive::{Archive, Header};
use super::disk_mount::{MountedDisk, assert_clean, assert_same};
use super::images::put_image_of;
use super::support::{as_each_user, has_tool, is_root, quick_store, run, skip, temp_dir};

/// One that e2fsck finds nothing in, of these layers; `None` without e2fsck.
fn clean_disk(dir: &Path, layers: &[Vec<u8>], options: &DiskOptions) -> Option<(Storage, Disk)> {
    if !has_tool("e2fsck") {
        return None;
    }
    let storage = quick_store(&dir.join("store"));
    let image = storage.open_image_by_digest(&put_image_of(&storage, "x", layers)).unwrap();
    let disk = storage.create_disk(&image, &dir.join("disk"), options).unwrap();
    assert_clean("disk", &disk.path, DiskFormat::Ext4, false);
    Some((storage, disk))
}

fn mounted(dir: &Path, disk: &Disk) -> Option<MountedDisk> {
    if !is_root() || !has_tool("mount") {
        skip("mounting needs root");
        return None;
    }
    MountedDisk::new(&disk.path, DiskFormat::Ext4, dir.join("mounted"))
}

/// So many names that an index leads to indexes, and each of them is found by its hash.
#[test]
fn names_in_a_large_directory_are_found() {
    let dir = temp_dir();
    for (place, count, length) in [("eight blocks", 1600, 9), ("many indexes", 24_000, 95)] {
        let dir = dir.path().join(place);
        std::fs::create_dir(&dir).unwrap();
        let name = |number: usize| format!("{number:0length$}");
        let archive = (0..count).fold(Archive::new().dir(b"d"), |archive, number| {
            archive.file(format!("d/{}", name(number)).as_bytes(), b"")
        });
        let Some((_storage, disk)) = clean_disk(&dir, &[archive.finish()], &DiskOptions::default()) else { return };
        let Some(at) = mounted(&dir, &disk) else { return };
        assert_eq!(std::fs::read_dir(at.path().join("d")).unwrap().count(), count);
        let inodes: std::collections::BTreeSet<u64> =
            (0..count).map(|number| std::fs::metadata(at.path().join("d").join(name(number))).unwrap().ino()).collect();
        assert_eq!(inodes.len(), count);
        assert!(!at.path().join("d/none").exists());
    }
}

/// Beyond two flexible groups: content goes around the metadata of groups, and needs more extents than an inode has.
#[test]
fn a_large_file_goes_around_metadata() {
    let dir = temp_dir();
    let size = 9u64 << 29;
    // Of so many holes the last one is content.
    let pieces = (0..1001u64).map(|number| (number * 8192, 1)).chain([(size - 4, 4)]);
    let map: Vec<String> = pieces.map(|(at, length)| format!("{at},{length}")).collect();
    let records = [
        ("GNU.sparse.size", size.to_string()),
        ("GNU.sparse.numblocks", map.len().to_string()),
        ("GNU.sparse.map", map.join(",")),
        ("GNU.sparse.name", "large".to_owned()),
    ];
    let records = records.each_ref().map(|(key, value)| (*key, value.as_bytes()));
    let content = ["b".repeat(1001), "+end".to_owned()].concat();
    let layer = Archive::new().pax(&records).file(b"large", content.as_bytes()).file(b"small", b"small").finish();
    let Some((_storage, disk)) = clean_disk(dir.path(), &[layer], &DiskOptions::default()) else { return };
    assert!(disk.allocated < 8 << 20, "holes take room: {disk:?}");
    let Some(at) = mounted(dir.path(), &disk) else { return };
    let large = std::fs::File::open(at.path().join("large")).unwrap();
    assert_eq!(large.metadata().unwrap().size(), size);
    let read = |offset: u64, length: usize| {
        let mut bytes = vec![1; length];
        large.read_exact_at(&mut bytes, offset).unwrap();
        bytes
    };
    assert!(large.metadata().unwrap().blocks() > (size - (16 << 20)) / 512, "{:?}", large.metadata());
    assert_eq!((read(0, 2), read(size - 5, 5)), (b"b\0".to_vec(), b"\0+end".to_vec()));
    assert_eq!((read(8_191, 3), read(8_192_000, 2)), (b"\0b\0".to_vec(), b"b\0".to_vec()));
    assert_eq!(std::fs::read(at.path().join("small")).unwrap(), b"small");
}

/// A block of zeros is a hole, whether a layer says so or has the zeros.
#[test]
fn zeros_take_no_blocks() {
    const BLOCK: usize = 4096;
    let dir = temp_dir();
    let content = |blocks: &[u8]| -> Vec<u8> { blocks.iter().flat_map(|&block| [block; BLOCK]).collect() };
    let many: Vec<u8> = (0..700).flat_map(|n| [n as u8 % 2; BLOCK]).collect();
    // The name, the content, and the blocks that it takes, its tree of extents included.
    let files: [(&str, Vec<u8>, u64); 7] = [
        ("between", content(&[1, 0, 0, 2]), 2),
        ("at-the-ends", content(&[0, 1, 0]), 1),
        ("zeros", vec![0; 40 * BLOCK + 1], 0),
        ("short", vec![0; 5], 0),
        ("five", content(&[1, 0, 1, 0, 1, 0, 1, 0, 1]), 5 + 1),
        ("many", many, 350 + 2),
        ("none", content(&[1, 2]), 2),
    ];
    let mut archive =
        files.iter().fold(Archive::new(), |archive, (name, content, _)| archive.file(name.as_bytes(), content));
    let size = 1u64 << 35;
    let map = format!("{},3,{},0", size / 2, size);
    let records = [
        ("GNU.sparse.size", size.to_string()),
        ("GNU.sparse.numblocks", "2".to_owned()),
        ("GNU.sparse.map", map),
        ("GNU.sparse.name", "sparse".to_owned()),
    ];
    archive = archive.pax(&records.each_ref().map(|(key, value)| (*key, value.as_bytes()))).file(b"sparse", b"mid");
    // What a layer above hides takes nothing with it, and further names are of the same file.
    let layers = [archive.finish(), Archive::new().file(b".wh.none", b"").hardlink(b"again", b"five").finish()];
    let Some((storage, disk)) = clean_disk(dir.path(), &layers, &DiskOptions::default()) else { return };
    assert!(disk.size < 4 << 20, "a disk of {} bytes for 360 blocks", disk.size);
    let image = storage.open_image_by_digest(&put_image_of(&storage, "x", &layers)).unwrap();
    let verified = storage.create_disk(&image, &dir.path().join("verified"), &DiskOptions::default().verity(true));
    assert_clean("verified", &verified.unwrap().path, DiskFormat::Ext4, false);
    let Some(at) = mounted(dir.path(), &disk) else { return };
    for (name, content, blocks) in files.iter().filter(|(name, ..)| *name != "none") {
        let path = at.path().join(name);
        assert!(std::fs::read(&path).unwrap() == *content, "{name}");
        assert_eq!(std::fs::metadata(&path).unwrap().blocks() / 8, *blocks, "{name}");
    }
    let inode = |name: &str| std::fs::metadata(at.path().join(name)).unwrap().ino();
    assert_eq!(inode("again"), inode("five"));
    let sparse = std::fs::File::open(at.path().join("sparse")).unwrap();
    assert_eq!((sparse.metadata().unwrap().len(), sparse.metadata().unwrap().blocks()), (size, 8));
    let mut found = [1; 5];
    sparse.read_exact_at(&mut found, size / 2 - 1).unwrap();
    assert_eq!(&found, b"\0mid\0");
}

/// What has a form of its own in ext4 is as it is in a root file system: attributes, lists, devices,
/// targets, large owners.
#[test]
fn what_inodes_say_is_what_layers_say() {
    let dir = temp_dir();
    let acl = |entries: &[(u16, u16, u32)]| {
        let mut value = 2u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            value.extend([&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat());
        }
        value
    };
    let list = acl(&[(1, 6, !0), (2, 4, 70_000), (4, 4, !0), (8, 6, 80_000), (16, 6, !0), (32, 0, !0)]);
    let mut capability = vec![1, 0, 0, 2];
    capability.resize(20, 0);
    let large = vec![b'v'; 900];
    let mut archive = Archive::new().dir(b"d");
    for number in 0..1500 {
        let records = [("SCHILY.xattr.user.large", &large[..])];
        archive = archive.pax(&records).file(format!("d/{number}").as_bytes(), b"");
    }
    archive = archive
        .pax(&[("SCHILY.xattr.user.small", b"1"), ("SCHILY.xattr.user.z", b"")])
        .file(b"behind", b"x")
        .pax(&[("SCHILY.xattr.system.posix_acl_access", &list[..])])
        .entry(Header::new(b'0', b"acl").mode(0o660), b"x")
        .pax(&[("SCHILY.xattr.system.posix_acl_default", &list[..])])
        .dir(b"default")
        .pax(&[("SCHILY.xattr.security.capability", &capability[..])])
        .file(b"capable", b"x")
        .entry(Header::new(b'3', b"old").device(4, 64), b"")
        .entry(Header::new(b'4', b"new").device(259, 70_000), b"")
        .entry(Header::new(b'6', b"fifo"), b"")
        .entry(Header::new(b'0', b"owned").owner(70_000, 80_000).mode(0o4755), b"x")
        .pax(&[("mtime", b"-1.5")])
        .file(b"before", b"")
        .pax(&[("mtime", b"9000000000.25")])
        .file(b"after", b"")
        .hardlink(b"again", b"behind");
    for length in [1, 59, 60, 61, 1000, 4095] {
        let target = vec![b't'; length];
        archive = archive.pax(&[("linkpath", &target)]).symlink(format!("link-{length}").as_bytes(), b"t");
    }
    let layers = [archive.finish()];
    let Some((storage, disk)) = clean_disk(dir.path(), &layers, &DiskOptions::default()) else { return };
    assert_eq!(disk.anomalies, Anomalies::default(), "{:?}", disk.anomalies);
    let Some(at) = mounted(dir.path(), &disk) else { return };
    let image = storage.open_image_by_digest(&put_image_of(&storage, "x", &layers)).unwrap();
    let mut assembling = RootfsOptions::default().mode(RootfsMode::Copy);
    assembling.tree.form.device_nodes = true;
    let root = dir.path().join("root");
    let rootfs = storage.assemble_rootfs(&image, &root, &assembling).unwrap();
    assert_same("what inodes say", &root, at.path(), &[], rootfs.anomalies);
    assert!(std::fs::metadata(at.path().join("new")).unwrap().file_type().is_block_device());
    assert_eq!(std::fs::metadata(at.path().join("after")).unwrap().mtime(), 9_000_000_000);
    assert_eq!(std::fs::metadata(at.path().join("before")).unwrap().mtime(), -2);
}

#[test]
fn an_images_own_lost_and_found_stays() {
    let dir = temp_dir();
    let own = Archive::new().entry(Header::new(b'5', b"lost+found").mode(0o750).owner(7, 8), b"");
    let layer = own.file(b"lost+found/it", b"x").finish();
    let Some((_storage, disk)) = clean_disk(dir.path(), &[layer], &DiskOptions::default()) else { return };
    let Some(at) = mounted(dir.path(), &disk) else { return };
    let stat = std::fs::metadata(at.path().join("lost+found")).unwrap();
    assert_eq!((stat.ino(), stat.mode() & 0o7777, stat.uid(), stat.gid()), (11, 0o750, 7, 8));
    assert!(at.path().join("lost+found/it").exists());
}

#[test]
fn the_same_layers_are_the_same_ext4() {
    as_each_user("ext4_disks::the_same_layers_are_the_same_ext4", || {
        let layers = [Archive::new().dir(b"d").file(b"d/f", b"x").symlink(b"l", b"d").finish()];
        let bytes = |options: DiskOptions| {
            let dir = temp_dir();
            let storage = quick_store(&dir.path().join("store"));
            let image = storage.open_image_by_digest(&put_image_of(&storage, "x", &layers)).unwrap();
            let disk = storage.create_disk(&image, &dir.path().join("disk"), &options).unwrap();
            assert_eq!((disk.file_system(), disk.image_format()), ("ext4", "raw"));
            let bytes = std::fs::read(&disk.path).unwrap();
            assert_eq!(bytes[1024 + 0x68..1024 + 0x78], disk.uuid);
            (bytes, disk.key)
        };
        let same = bytes(DiskOptions::default());
        assert_eq!(same, bytes(DiskOptions::default()));
        assert!(same.0.len() < 100 << 10, "{} bytes", same.0.len());
        let (labelled, key) = bytes(DiskOptions::default().label("sixteen bytes 16"));
        assert!(key != same.1 && labelled[1024 + 0x78..1024 + 0x88] == *b"sixteen bytes 16");
        assert_ne!(bytes(DiskOptions::default().max_mtime(5)), same);
    });
}

#[test]
fn what_ext4_refuses() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let image = storage.open_image_by_digest(&put_image_of(&storage, "x", &[Archive::new().finish()])).unwrap();
    let refused = |options: DiskOptions, why: &str| {
        let error = storage.create_disk(&image, &dir.path().join("disk"), &options).unwrap_err();
        assert!(error.status() == Status::InvalidArgument && error.to_string().contains(why), "{error}");
        assert!(!dir.path().join("disk").exists());
    };
    refused(DiskOptions::default().label("seventeen bytes 7"), "ext4 has labels of at most 16 bytes");
    refused(DiskOptions::default().layout(DiskLayout::Merged), "a merged disk is EROFS");
    refused(DiskOptions::default().uuid([0; 16]), "a UUID of zeros");
}

/// A file can have 65,000 names: what would be a further one is a copy.
#[test]
fn more_names_than_a_file_can_have_are_copies() {
    let dir = temp_dir();
    let links = |archive: Archive, count: usize| {
        (0..count).fold(archive, |archive, number| archive.hardlink(format!("d/{number}").as_bytes(), b"f"))
    };
    let layer = links(Archive::new().file(b"f", b"content").dir(b"d"), 65_010).finish();
    let Some((_storage, disk)) = clean_disk(dir.path(), &[layer], &DiskOptions::default()) else { return };
    assert!(disk.anomalies.contains(Anomalies::COPIED_LINK), "{:?}", disk.anomalies);
    let Some(at) = mounted(dir.path(), &disk) else { return };
    assert_eq!(std::fs::metadata(at.path().join("f")).unwrap().nlink(), 65_000);
    let last = at.path().join("d/65009");
    assert_eq!((std::fs::metadata(&last).unwrap().nlink(), &std::fs::read(&last).unwrap()[..]), (11, &b"content"[..]));
}

/// More directories in one than its count of names can say.
#[test]
fn a_directory_of_directories_says_that_there_are_many() {
    let dir = temp_dir();
    let many = (0..65_010).fold(Archive::new(), |archive, number| archive.dir(format!("d/{number}").as_bytes()));
    let Some((_storage, disk)) = clean_disk(dir.path(), &[many.finish()], &DiskOptions::default()) else { return };
    let Some(at) = mounted(dir.path(), &disk) else { return };
    assert_eq!(std::fs::metadata(at.path().join("d")).unwrap().nlink(), 1);
    assert!(at.path().join("d/65009").is_dir());
}

/// A layer that an image has twice brings its file twice, where a link to the first one is still there.
#[test]
fn content_that_two_inodes_have_is_there_twice() {
    let dir = temp_dir();
    let content = vec![b'c'; 300_000];
    let layer = Archive::new().file(b"big", &content).finish();
    let link = Archive::new().hardlink(b"kept", b"big").finish();
    let Some((_storage, disk)) = clean_disk(dir.path(), &[layer.clone(), link, layer], &DiskOptions::default()) else {
        return;
    };
    let Some(at) = mounted(dir.path(), &disk) else { return };
    let stat = |name: &str| std::fs::metadata(at.path().join(name)).unwrap();
    assert_ne!(stat("big").ino(), stat("kept").ino());
    for name in ["big", "kept"] {
        assert!(stat(name).nlink() == 1 && std::fs::read(at.path().join(name)).unwrap() == content, "{name}");
    }
}

/// What has the name and is no directory stays; only e2fsck has something to say about it.
#[test]
fn a_lost_and_found_that_is_none_stays() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let layers = [Archive::new().file(b"lost+found", b"mine").file(b"f", b"x").finish()];
    let image = storage.open_image_by_digest(&put_image_of(&storage, "x", &layers)).unwrap();
    let disk = storage.create_disk(&image, &dir.path().join("disk"), &DiskOptions::default()).unwrap();
    let Some(at) = mounted(dir.path(), &disk) else { return };
    assert_eq!(std::fs::read(at.path().join("lost+found")).unwrap(), b"mine");
    let said = Command::new("e2fsck").arg("-fn").arg(&disk.path).output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(!said.contains("differences") && !said.contains("count wrong"), "{said}");
}

/// What has no room, or no name in ext4, is left out, and that is said; the rest stays.
#[test]
fn attributes_that_cannot_be_said_are_left_out() {
    let dir = temp_dir();
    let cases: [(&str, &[u8]); 4] = [
        ("SCHILY.xattr.user.large", &[b'v'; 5000]),
        ("SCHILY.xattr.system.data", b"inline"),
        ("SCHILY.xattr.system.posix_acl_access", b"no list"),
        ("SCHILY.xattr.com.apple.x", b"x"),
    ];
    for (number, case) in cases.into_iter().enumerate() {
        let layer = Archive::new().pax(&[case, ("SCHILY.xattr.user.small", b"1")]).file(b"f", b"x").finish();
        let at = dir.path().join(number.to_string());
        std::fs::create_dir(&at).unwrap();
        let Some((storage, disk)) = clean_disk(&at, std::slice::from_ref(&layer), &DiskOptions::default()) else {
            return;
        };
        assert_eq!(disk.anomalies, Anomalies::SKIPPED_XATTR, "{case:?}");
        let image = storage.open_image_by_digest(&put_image_of(&storage, "x", &[layer])).unwrap();
        let strict = DiskOptions::default().strict(true);
        let error = storage.create_disk(&image, &at.join("strict"), &strict).unwrap_err();
        assert_eq!(error.status(), Status::Malformed, "{error}");
        assert!(!at.join("strict").exists());
    }
}

/// Used blocks are at most those of `mke2fs -d`, which makes one of a directory.
#[test]
fn it_is_no_larger_than_that_of_mke2fs() {
    let dir = temp_dir();
    let archive = (0..2000).fold(Archive::new().dir(b"d"), |archive, number| {
        archive.file(format!("d/{number}").as_bytes(), &vec![b'x'; number * 3])
    });
    let layers = [archive.finish()];
    let Some((storage, disk)) = clean_disk(dir.path(), &layers, &DiskOptions::default()) else { return };
    let image = storage.open_image_by_digest(&put_image_of(&storage, "x", &layers)).unwrap();
    let root = dir.path().join("root");
    storage.assemble_rootfs(&image, &root, &RootfsOptions::default().mode(RootfsMode::Copy)).unwrap();
    let theirs = dir.path().join("theirs");
    std::fs::File::create(&theirs).unwrap().set_len(64 << 20).unwrap();
    let made =
        Command::new("mke2fs").args(["-q", "-t", "ext4", "-O", "^has_journal", "-d"]).arg(&root).arg(&theirs).output();
    assert!(made.unwrap().status.success());
    let said = Command::new("dumpe2fs").arg("-h").arg(&theirs).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let number =
        |key: &str| -> u64 { said.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().parse().unwrap() };
    let used = number("Block count:") - number("Free blocks:");
    assert!(disk.size / 4096 <= used, "{} blocks, where mke2fs uses {used}", disk.size / 4096);
}

/// What dumpe2fs says of one.
fn said_of(disk: &Path) -> impl Fn(&str) -> String {
    let said = Command::new("dumpe2fs").arg("-h").arg(disk).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    move |key| said.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim().to_owned()
}

/// With free room, and with all that a guest that writes may want.
#[test]
fn a_guest_can_write_where_there_is_room() {
    let dir = temp_dir();
    let layer = Archive::new().dir(b"d").file(b"d/f", &[b'x'; 100_000]).finish();
    let cases: [(&str, DiskOptions); 5] = [
        ("free", DiskOptions::default().free_bytes(20u64 << 20)),
        ("small", DiskOptions::default().size_bytes((8u64 << 20) + 5000)),
        ("whole", DiskOptions::default().size_bytes(64u64 << 20).journal_bytes(0u64).is_growable(true)),
        (
            "groups",
            DiskOptions::default().size_bytes((300u64 << 20) + 4096).journal_bytes(8u64 << 20).is_growable(true),
        ),
        (
            "flexible groups",
            DiskOptions::default().size_bytes(5u64 << 30).journal_bytes(0u64).free_inodes(1_000_000u64),
        ),
    ];
    for (what, options) in cases {
        let at = dir.path().join(what.replace(' ', "-"));
        std::fs::create_dir(&at).unwrap();
        let Some((_storage, disk)) = clean_disk(&at, std::slice::from_ref(&layer), &options) else { return };
        assert!(disk.allocated < 16 << 20, "{what}: {disk:?}");
        assert_eq!(disk.kernel_args().as_deref(), Some("root=/dev/vda rootfstype=ext4 rw"), "{what}");
        let said = said_of(&disk.path);
        let number = |key: &str| said(key).parse::<u64>().unwrap();
        assert_eq!(said("Filesystem features:").contains("has_journal"), options.journal_bytes.is_some(), "{what}");
        assert_eq!(said("Filesystem features:").contains("resize_inode"), options.is_growable, "{what}");
        assert!(number("Free blocks:") * 4096 >= options.free_bytes, "{what}");
        assert!(number("Free inodes:") >= options.free_inodes.max(100), "{what}");
        if options.size_bytes > 0 {
            assert_eq!(disk.size, options.size_bytes / 4096 * 4096, "{what}");
        }
        if !is_root() || !has_tool("mount") {
            continue;
        }
        let mounted = at.join("mounted");
        std::fs::create_dir(&mounted).unwrap();
        let writable = at.join("writable");
        std::fs::copy(&disk.path, &writable).unwrap();
        std::fs::set_permissions(&writable, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        run("mount", &["-o".as_ref(), "loop".as_ref(), writable.as_ref(), mounted.as_ref()]);
        let count = (number("Free inodes:") / 2).min(3000);
        for number in 0..count {
            std::fs::write(mounted.join("d").join(number.to_string()), b"written").unwrap();
        }
        std::fs::remove_file(mounted.join("d/f")).unwrap();
        run("umount", &[mounted.as_ref()]);
        assert_clean(what, &writable, DiskFormat::Ext4, false);
    }
}

/// It grows as those of mke2fs do.
#[test]
fn a_growable_one_grows() {
    let dir = temp_dir();
    let layer = Archive::new().file(b"f", b"content").finish();
    let options = DiskOptions::default().size_bytes(64u64 << 20).is_growable(true).journal_bytes(0u64);
    let Some((_storage, disk)) = clean_disk(dir.path(), &[layer], &options) else { return };
    std::fs::set_permissions(&disk.path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::File::options().write(true).open(&disk.path).unwrap().set_len(3 << 30).unwrap();
    run("e2fsck", &["-fp".as_ref(), disk.path.as_ref()]);
    run("resize2fs", &[disk.path.as_ref()]);
    assert_clean("grown", &disk.path, DiskFormat::Ext4, false);
    assert_eq!(said_of(&disk.path)("Block count:"), ((3u64 << 30) / 4096).to_string());
}

/// Too little is known before anything is written, and how much it takes is said.
#[test]
fn too_small_a_size_is_refused_with_the_one_it_takes() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let layers = [Archive::new().file(b"f", &vec![b'x'; 3 << 20]).finish()];
    let image = storage.open_image_by_digest(&put_image_of(&storage, "x", &layers)).unwrap();
    let create = |size: u64| {
        storage.create_disk(&image, &dir.path().join("disk"), &DiskOptions::default().size_bytes(size).replace(true))
    };
    let error = create(2 << 20).unwrap_err();
    assert_eq!(error.status(), Status::NoSpace, "{error}");
    assert!(!dir.path().join("disk").exists());
    let text = error.to_string();
    let needed = text.split("at least ").nth(1).unwrap().split(|c: char| !c.is_ascii_digit()).next().unwrap();
    let needed: u64 = needed.parse().unwrap();
    assert!(create(needed - 4096).is_err() && create(needed).is_ok(), "{text}");
    let exact = storage.create_disk(&image, &dir.path().join("exact"), &DiskOptions::default()).unwrap();
    assert_eq!(exact.kernel_args().as_deref(), Some("root=/dev/vda rootfstype=ext4 ro"));
    let refused = [
        (DiskOptions::default().format(DiskFormat::Erofs).free_bytes(1u64), "erofs is read-only"),
        (DiskOptions::default().journal_bytes(4096u64), "a journal has 4194304 to"),
        (DiskOptions::default().size_bytes(1u64 << 42).journal_bytes(1u64 << 41), "to 41943040000 bytes"),
    ];
    for (options, why) in refused {
        let error = storage.create_disk(&image, &dir.path().join("other"), &options).unwrap_err();
        assert!(error.status() == Status::InvalidArgument && error.to_string().contains(why), "{error}");
    }
    // A size of less than a block is one, and free room is wanted within a size too.
    let small = storage.create_disk(&image, &dir.path().join("other"), &DiskOptions::default().size_bytes(4095u64));
    assert_eq!(small.unwrap_err().status(), Status::NoSpace);
    let with_free = DiskOptions::default().size_bytes(needed).free_bytes(1u64 << 20);
    let error = storage.create_disk(&image, &dir.path().join("other"), &with_free).unwrap_err();
    assert_eq!(error.status(), Status::NoSpace, "{error}");
    assert!(!dir.path().join("other").exists());
    let with_free = with_free.size_bytes(needed + (2 << 20));
    storage.create_disk(&image, &dir.path().join("other"), &with_free).unwrap();
}

/// What no ext4 has is refused at once.
#[test]
fn more_than_an_ext4_can_have_is_a_limit() {
    let dir = temp_dir();
    let storage = quick_store(&dir.path().join("store"));
    let layers = [Archive::new().file(b"f", b"x").finish()];
    let image = storage.open_image_by_digest(&put_image_of(&storage, "x", &layers)).unwrap();
    let cases = [
        DiskOptions::default().free_inodes(u64::MAX),
        DiskOptions::default().free_inodes(u64::from(u32::MAX)),
        DiskOptions::default().free_inodes(u64::MAX - 4).size_bytes(1u64 << 30),
        DiskOptions::default().free_bytes(u64::MAX),
        DiskOptions::default().free_bytes(17u64 << 40),
        DiskOptions::default().size_bytes(u64::MAX),
        DiskOptions::default().size_bytes(1u64 << 30).free_bytes(u64::MAX),
    ];
    for options in cases {
        let error = storage.create_disk(&image, &dir.path().join("disk"), &options).unwrap_err();
        assert!(matches!(error.status(), Status::Limit | Status::NoSpace), "{error}");
        assert!(!dir.path().join("disk").exists());
    }
    // A group has 32,768 inodes at most, so that many of them take many groups.
    let many = DiskOptions::default().free_inodes(3_000_000u64);
    let disk = storage.create_disk(&image, &dir.path().join("many"), &many).unwrap();
    if has_tool("e2fsck") {
        assert_clean("many inodes", &disk.path, DiskFormat::Ext4, false);
    }
}
