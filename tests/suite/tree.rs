//! A directory tree as a list that can be compared: everything that an image may say of a path.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use boxlite_images::Digest;

/// What is at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub kind: &'static str,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Nanoseconds since the epoch.
    pub mtime: i128,
    pub size: u64,
    /// Digest of a file's content, target of a symlink, numbers of a device.
    pub content: String,
    pub xattrs: Vec<(String, Vec<u8>)>,
    /// The first path (in order of names) that is the same inode.
    pub same_as: String,
    pub links: u64,
}

/// Everything under a directory, and the directory itself as `.`.
pub fn snapshot(root: &Path) -> BTreeMap<String, Node> {
    snapshot_but(root, None)
}

/// The same without one folder and what is in it.
fn snapshot_but(root: &Path, folder: Option<&str>) -> BTreeMap<String, Node> {
    let mut nodes = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    // Not by recursion: trees can be deeper than a stack.
    let mut open = vec![(Place { base: None, path: root.to_owned(), depth: 0 }, ".".to_owned())];
    while let Some((place, name)) = open.pop() {
        if folder.is_some_and(|folder| folder == name) {
            continue;
        }
        let children = visit(&place.path, &name, &mut nodes, &mut inodes);
        let place = if children.is_empty() { place } else { place.shortened() };
        open.extend(children.into_iter().rev().map(|child| {
            let name = format!("{name}/{}", String::from_utf8_lossy(child.as_bytes()));
            (place.join(&child), name)
        }));
    }
    nodes
}

/// A path that stays short, however deep it leads: from a folder that is open, every few levels. By its whole path the
/// system would walk down from the root for each call.
struct Place {
    base: Option<Rc<File>>,
    path: PathBuf,
    depth: usize,
}

impl Place {
    fn join(&self, child: &OsStr) -> Place {
        Place { base: self.base.clone(), path: self.path.join(child), depth: self.depth + 1 }
    }

    fn shortened(self) -> Place {
        const LEVELS: usize = 16;
        if self.depth < LEVELS || !cfg!(target_os = "linux") {
            return self;
        }
        let Ok(folder) = File::open(&self.path) else { return self };
        let path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into();
        Place { base: Some(Rc::new(folder)), path, depth: 0 }
    }
}

/// Notes one path; gives what is in it, in the order of names.
fn visit(
    path: &Path,
    name: &str,
    nodes: &mut BTreeMap<String, Node>,
    inodes: &mut BTreeMap<(u64, u64), String>,
) -> Vec<OsString> {
    // Deeper than a path can say (`PATH_MAX`); the names of what may be below would fill the memory.
    if name.len() > 4096 {
        return Vec::new();
    }
    // In a directory that is locked, or a whiteout that overlayfs lists and does not have.
    let Ok(meta) = std::fs::symlink_metadata(path) else { return Vec::new() };
    let (kind, size, content) = if meta.is_dir() {
        ("dir", 0, String::new())
    } else if meta.is_symlink() {
        let target = std::fs::read_link(path).unwrap();
        ("symlink", 0, String::from_utf8_lossy(target.as_os_str().as_bytes()).into_owned())
    } else if meta.is_file() {
        let content = std::fs::read(path).map_or("unreadable".to_owned(), |bytes| Digest::of(&bytes).to_string());
        ("file", meta.size(), content)
    } else if meta.file_type().is_fifo() {
        ("fifo", 0, String::new())
    } else if meta.file_type().is_char_device() {
        ("char", 0, format!("{:x}", meta.rdev()))
    } else {
        ("block", 0, format!("{:x}", meta.rdev()))
    };
    let same_as = inodes.entry((meta.dev(), meta.ino())).or_insert_with(|| name.to_owned()).clone();
    let node = Node {
        kind,
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        mtime: i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()),
        size,
        content,
        xattrs: xattrs(path),
        same_as,
        links: if meta.is_dir() { 0 } else { meta.nlink() },
    };
    nodes.insert(name.to_owned(), node);
    let entries = if meta.is_dir() { std::fs::read_dir(path) } else { return Vec::new() };
    let mut children: Vec<_> = entries.into_iter().flatten().map(|entry| entry.unwrap().file_name()).collect();
    children.sort();
    children
}

fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0u8; 64 << 10];
    let Ok(n) = rustix::fs::llistxattr(path, &mut names[..]) else { return Vec::new() };
    let mut found: Vec<_> = names[..n]
        .split(|&b| b == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0u8; 64 << 10];
            let n = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap_or(0);
            value.truncate(n);
            (String::from_utf8_lossy(name).into_owned(), value)
        })
        .collect();
    found.sort();
    found
}

/// The differences of two trees, readable, the first twenty.
pub fn differences(a: &BTreeMap<String, Node>, b: &BTreeMap<String, Node>) -> Vec<String> {
    let mut found = Vec::new();
    for name in a.keys().chain(b.keys()).collect::<std::collections::BTreeSet<_>>() {
        if a.get(name) != b.get(name) {
            found.push(format!("{name}\n  {:?}\n  {:?}", a.get(name), b.get(name)));
        }
    }
    found.truncate(20);
    found
}

fn make_fifo(path: &Path) {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is a string of C's.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o644) }, 0);
}

/// A directory inside another one full of things to damage: whatever happens in the inner one, the outer must not
/// change. The inner one is not looked at.
pub struct Canary {
    outer: tempfile::TempDir,
    before: BTreeMap<String, Node>,
}

impl Canary {
    pub fn new() -> Canary {
        let outer = super::support::temp_dir();
        let at = |name: &str| outer.path().join(name);
        std::fs::create_dir(at("target")).unwrap();
        std::fs::create_dir(at("target-evil")).unwrap();
        std::fs::create_dir_all(at("etc")).unwrap();
        std::fs::write(at("etc/passwd"), "outside\n").unwrap();
        std::fs::write(at("flag"), "outside\n").unwrap();
        std::os::unix::fs::symlink("flag", at("link")).unwrap();
        make_fifo(&at("fifo"));
        let mut canary = Canary { outer, before: BTreeMap::new() };
        canary.before = canary.outside();
        canary
    }

    /// The directory that hostile input is unpacked below.
    pub fn target(&self) -> std::path::PathBuf {
        self.outer.path().join("target")
    }

    pub fn assert_untouched(&self, what: &str) {
        let found = differences(&self.before, &self.outside());
        assert!(found.is_empty(), "{what} reached outside: {found:#?}");
    }

    fn outside(&self) -> BTreeMap<String, Node> {
        snapshot_but(self.outer.path(), Some("./target"))
    }
}
