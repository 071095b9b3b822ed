//! Readers of ext4 that others wrote find in our disks what the root file system has: `ext4-view` and `mkext4`. The latter also
//! computes each checksum and the place of each name anew. Neither of them is the kernel, nor e2fsck.

use std::collections::BTreeMap;

use boxlite_images::{Anomalies, Digest, DiskOptions, RootfsMode, RootfsOptions};

use super::archive::Archive;
use super::families;
use super::images::put_image_of;
use super::support::{as_each_user, is_root, quick_store, temp_dir};
use super::tree::{Node, snapshot};

/// Paths that are longer cannot be walked in the root file system either.
const LONGEST: usize = 3000;
const ROOT_INODE: u32 = 2;

/// What a reader says of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    /// Of a file or a symlink.
    content: String,
    /// Seconds and nanoseconds.
    mtime: (i64, u32),
}

type Tree = BTreeMap<Vec<u8>, Seen>;

fn kind_of(mode: u32) -> &'static str {
    match mode & 0o170000 {
        0o040000 => "dir",
        0o120000 => "symlink",
        0o100000 => "file",
        0o010000 => "fifo",
        0o020000 => "char",
        0o060000 => "block",
        other => panic!("there is no kind {other:o}"),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn by_ext4_view(disk: &std::path::Path) -> Tree {
    let fs = ext4_view::Ext4::load_from_path(disk).unwrap();
    let mut tree = Tree::new();
    let mut open = vec![b"/".to_vec()];
    while let Some(folder) = open.pop() {
        for entry in fs.read_dir(&folder[..]).unwrap() {
            let entry = entry.unwrap();
            let (path, name) = (entry.path(), entry.file_name());
            if matches!(name.as_ref(), b"." | b"..") || path.as_ref().len() > LONGEST {
                continue;
            }
            let metadata = fs.symlink_metadata(&path).unwrap();
            let kind = match metadata.file_type() {
                ext4_view::FileType::Directory => "dir",
                ext4_view::FileType::Symlink => "symlink",
                ext4_view::FileType::Regular => "file",
                ext4_view::FileType::Fifo => "fifo",
                ext4_view::FileType::CharacterDevice => "char",
                ext4_view::FileType::BlockDevice => "block",
                other => panic!("{other:?}"),
            };
            let content = match kind {
                "file" => Digest::of(&fs.read(&path).unwrap()).to_string(),
                "symlink" => text(fs.read_link(&path).unwrap().as_ref()),
                _ => String::new(),
            };
            let (mode, owner) = (u32::from(metadata.mode()), (metadata.uid(), metadata.gid()));
            let mtime = (metadata.modified().seconds(), metadata.modified().nanoseconds());
            if kind == "dir" {
                open.push(path.as_ref().to_vec());
            }
            tree.insert(path.as_ref()[1..].to_vec(), Seen { kind, mode, owner, content, mtime });
        }
    }
    tree
}

/// With the count of names of each that is no directory.
fn by_mkext4(disk: &std::path::Path) -> (Tree, BTreeMap<Vec<u8>, u64>) {
    let fs = mkext4::reader::Fs::open(std::fs::File::open(disk).unwrap()).unwrap();
    // It takes the descriptors of groups for 32 bytes long, so that its word on their checksums is none.
    let issues: Vec<_> =
        fs.verify().unwrap().into_iter().filter(|issue| !issue.what.contains(": desc checksum")).collect();
    assert!(issues.is_empty(), "{issues:?}");
    let (mut tree, mut links) = (Tree::new(), BTreeMap::new());
    let mut open = vec![(ROOT_INODE, Vec::new())];
    while let Some((folder, at)) = open.pop() {
        for entry in fs.read_dir(folder).unwrap() {
            let path = if at.is_empty() { entry.name.clone() } else { [&at[..], b"/", &entry.name].concat() };
            if matches!(&entry.name[..], b"." | b"..") || path.len() >= LONGEST {
                continue;
            }
            assert_eq!(fs.lookup(folder, &entry.name).unwrap(), Some(entry.inode), "{}", text(&path));
            let inode = fs.inode(entry.inode).unwrap();
            let kind = kind_of(inode.mode.into());
            let content = match kind {
                "file" => Digest::of(&fs.read_file(entry.inode).unwrap()).to_string(),
                "symlink" => text(&fs.symlink_target(entry.inode).unwrap()),
                _ => String::new(),
            };
            let seconds = i64::from(inode.mtime as i32) + (i64::from(inode.mtime_extra & 3) << 32);
            let mtime = (seconds, inode.mtime_extra >> 2);
            if kind == "dir" {
                open.push((entry.inode, path.clone()));
            } else {
                links.insert(path.clone(), inode.links_count.into());
            }
            let (mode, owner) = (u32::from(inode.mode) & 0o7777, (inode.uid, inode.gid));
            tree.insert(path, Seen { kind, mode, owner, content, mtime });
        }
    }
    (tree, links)
}

#[test]
fn readers_that_others_wrote_agree() {
    as_each_user("ext4_readers::readers_that_others_wrote_agree", || {
        let (mut compared, mut names) = (0, 0);
        // A directory with an index is among them.
        let many = (0..2000).fold(Archive::new(), |archive, n| archive.file(format!("name of {n}").as_bytes(), b""));
        let stacks =
            families::assembly::layers_of_all().into_iter().chain([super::disks::layers(), vec![many.finish()]]);
        for (number, layers) in stacks.enumerate() {
            let (dir, what) = (temp_dir(), format!("stack {number}"));
            let storage = quick_store(&dir.path().join("store"));
            let image = storage.open_image_by_digest(&put_image_of(&storage, "x", &layers)).unwrap();
            let Ok(disk) = storage.create_disk(&image, &dir.path().join("disk"), &DiskOptions::default()) else {
                continue;
            };
            let one = by_ext4_view(&disk.path);
            let (mut other, links) = by_mkext4(&disk.path);
            // Of one that is one byte longer than it walks the other knows.
            other.retain(|path, _| one.contains_key(path) || path.len() + 1 < LONGEST);
            assert_eq!(one, other, "{what}");
            let mut options = RootfsOptions::default().mode(RootfsMode::Copy);
            options.tree.form.device_nodes = is_root();
            let root = dir.path().join("root");
            let odd = storage.assemble_rootfs(&image, &root, &options).unwrap().anomalies;
            let expected = snapshot(&root);
            assert_same(&what, &expected, &one);
            if !odd.contains(Anomalies::COPIED_LINK) {
                let counted = |path: &[u8]| expected.get(&format!("./{}", text(path))).map(|node| node.links);
                let wrong: Vec<_> =
                    links.iter().filter(|(path, links)| counted(path).is_some_and(|n| n != **links)).collect();
                assert!(wrong.is_empty(), "{what}: {wrong:?}");
            }
            (compared, names) = (compared + 1, names + one.len());
        }
        eprintln!("{compared} disks with {names} names");
        assert!(compared > 50 && names > 2000, "{compared} disks, {names} names");
    });
}

/// As root all that the root file system has; as a user what a user's has.
fn assert_same(what: &str, expected: &BTreeMap<String, Node>, found: &Tree) {
    let known = |path: &str| path != "." && path.len() < LONGEST && path != "./lost+found";
    let expected: BTreeMap<&String, &Node> = expected.iter().filter(|(path, _)| known(path)).collect();
    let found: BTreeMap<String, &Seen> =
        found.iter().map(|(path, seen)| (format!("./{}", text(path)), seen)).filter(|(path, _)| known(path)).collect();
    let names: (Vec<&String>, Vec<&String>) = (expected.keys().copied().collect(), found.keys().collect());
    assert_eq!(names.0, names.1, "{what}");
    for (path, node) in expected {
        let seen = found[path];
        // A user's root file system has empty files in place of devices.
        if !is_root() && matches!(seen.kind, "char" | "block") {
            continue;
        }
        assert_eq!(seen.kind, node.kind, "{what}: {path}");
        if matches!(node.kind, "file" | "symlink") {
            assert_eq!(seen.content, node.content, "{what}: {path}");
        }
        if is_root() {
            let of_node = (node.mode, (node.uid, node.gid));
            assert_eq!((seen.mode, seen.owner), of_node, "{what}: {path}");
        }
    }
}
