//! A changed tree as a layer: what is not as the base had it, and whiteouts for what is gone.
//!
//! One walk looks at everything, and content is not read. What differs is noted, and written afterwards: whether the names of a file
//! are those that it had is not known before the last of them was seen. A file is written with all of its names.

use std::collections::HashMap;
use std::iter::Peekable;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::base::BaseTree;
use super::entries::{EntryWriter, SourceCounts};
use super::node::{Node, changed};
use super::options::CommitOptions;
use super::pack::LayerPacker;
use super::walk::Walk;
use crate::error::{Error, Result, quoted};
use crate::layer::{Entry, Kind, WHITEOUT_PREFIX};
use crate::sys;
use crate::unpack::{InodeId, InodeKind, ROOT};

/// Something that the layer says.
enum Change {
    /// What is there now, and which file it is.
    Node((u64, u64)),
    Gone,
}

/// The names of one file.
struct LinkedFile {
    paths: Vec<Vec<u8>>,
    /// What the base has at the first of them.
    base: Option<InodeId>,
    /// All of them are as they were.
    is_same: bool,
}

/// What the base has in a directory that is walked, and was not come to yet.
struct BaseFolder<'b> {
    path: Vec<u8>,
    children: Peekable<Box<dyn Iterator<Item = (&'b [u8], InodeId)> + 'b>>,
}

/// A tree that is compared with its base.
pub(super) struct TreeReader<'b> {
    walk: Walk,
    root: OwnedFd,
    stat: Stat,
    base: &'b BaseTree<'b>,
    options: &'b CommitOptions,
    device: u64,
    /// Of the root and each directory on the way.
    folders: Vec<Option<BaseFolder<'b>>>,
    linked: HashMap<(u64, u64), LinkedFile>,
    changes: Vec<(Vec<u8>, Change)>,
    counts: SourceCounts,
}

impl<'b> TreeReader<'b> {
    pub(super) fn new(root: &Path, base: &'b BaseTree<'b>, options: &'b CommitOptions) -> Result<TreeReader<'b>> {
        let walk = Walk::new(root)?;
        let (folder, stat) = walk.root();
        let root =
            folder.try_clone_to_owned().map_err(|cause| Error::io(&cause, format_args!("open {}", root.display())))?;
        let device = sys::file_id(stat).0;
        let stat = *stat;
        let mut reader = TreeReader {
            walk,
            root,
            stat,
            base,
            options,
            device,
            folders: Vec::new(),
            linked: HashMap::new(),
            changes: Vec::new(),
            counts: SourceCounts::default(),
        };
        let folder = reader.base_folder(Vec::new(), ROOT);
        reader.folders.push(Some(folder));
        Ok(reader)
    }

    /// Writes what was changed.
    pub(super) fn write(mut self, packer: &mut LayerPacker) -> Result<SourceCounts> {
        while let Some(stat) = self.walk.next()? {
            self.options.interrupt.check()?;
            self.leave(self.walk.depth());
            self.one(&stat)?;
        }
        self.leave(0);
        self.end_linked();
        self.changes.sort_unstable_by(|(a, _), (b, _)| a.split(|&c| c == b'/').cmp(b.split(|&c| c == b'/')));
        let mut out = EntryWriter::new(packer, self.options);
        out.counts = self.counts;
        if let Some(root) = self.root_entry()? {
            out.put_node(root, &self.stat, sys::file_id(&self.stat), None)?;
        }
        let mut places = Places { root: &self.root, open: Vec::new() };
        for (path, change) in &self.changes {
            match change {
                Change::Gone => out.put_whiteout(path)?,
                Change::Node(id) => put(&mut out, self.options, self.base, &mut places, path, *id)?,
            }
        }
        out.finish()
    }

    /// The root, where it has another owner, mode, or other attributes. Its time is another one with each change below.
    fn root_entry(&self) -> Result<Option<Entry>> {
        let node = Node { folder: self.root.as_fd(), path: b"", stat: &self.stat };
        let xattrs = node.xattrs(Some(&self.root))?;
        let mut entry = node.entry(&xattrs, self.options)?;
        keep_owner(&mut entry, &self.stat, self.base, Some(ROOT));
        let before = self.base.tree.inode(ROOT);
        let is_same = (entry.mode, entry.uid, entry.gid) == (before.mode.into(), before.uid, before.gid)
            && entry.xattrs == self.base.tree.xattrs(ROOT);
        Ok((!is_same).then_some(entry))
    }

    fn base_folder(&self, path: Vec<u8>, inode: InodeId) -> BaseFolder<'b> {
        let children: Box<dyn Iterator<Item = (&'b [u8], InodeId)> + 'b> = Box::new(self.base.tree.children(inode));
        BaseFolder { path, children: children.peekable() }
    }

    /// What is left of directories that the walk is out of is gone.
    fn leave(&mut self, depth: usize) {
        while self.folders.len() > depth {
            let Some(Some(folder)) = self.folders.pop() else { continue };
            let BaseFolder { path, children } = folder;
            self.changes.extend(children.map(|(name, _)| (joined(&path, name), Change::Gone)));
        }
    }

    fn one(&mut self, stat: &Stat) -> Result<()> {
        let node = self.walk.node(stat);
        if node.name().starts_with(WHITEOUT_PREFIX) {
            return Err(node.refused("begins with .wh., which in a layer takes something away"));
        }
        let mut before = None;
        if let Some(Some(folder)) = self.folders.last_mut() {
            let name = node.name();
            while let Some((gone, _)) = folder.children.next_if(|(child, _)| *child < name) {
                self.changes.push((joined(&folder.path, gone), Change::Gone));
            }
            before = folder.children.next_if(|(child, _)| *child == name).map(|(_, inode)| inode);
        }
        if node.file_type() == FileType::Socket {
            self.counts.sockets += 1;
            // What had its name is gone all the same.
            if before.is_some() {
                self.changes.push((node.path.to_vec(), Change::Gone));
            }
            return Ok(());
        }
        let is_same = match before {
            Some(inode) => is_as_before(&node, inode, self.base, self.options)?,
            None => false,
        };
        let (path, id) = (node.path.to_vec(), node.id());
        if node.file_type() != FileType::Directory {
            if stat.st_nlink > 1 {
                let new = || LinkedFile { paths: Vec::new(), base: before, is_same: true };
                let file = self.linked.entry(id).or_insert_with(new);
                file.is_same &= is_same && file.base == before;
                file.paths.push(path);
            } else if !is_same {
                self.changes.push((path, Change::Node(id)));
            }
            return Ok(());
        }
        if id.0 != self.device && !self.options.crosses_file_systems {
            // What is mounted there is not of the image, and what is below it is as it was.
            self.counts.other_file_systems += 1;
            return Ok(());
        }
        if !is_same {
            self.changes.push((path.clone(), Change::Node(id)));
        }
        let is_directory = |inode: &InodeId| matches!(self.base.tree.inode(*inode).kind, InodeKind::Directory { .. });
        let folder = before.filter(is_directory).map(|inode| self.base_folder(path, inode));
        let open = node.open()?;
        self.folders.push(folder);
        match open {
            Some(open) => self.walk.go_into(open, stat),
            None => Ok(()),
        }
    }

    /// Files with several names that are not those, or not what, they were.
    fn end_linked(&mut self) {
        for (id, file) in std::mem::take(&mut self.linked) {
            let were = file.base.map_or(0, |inode| self.base.names(inode));
            if !file.is_same || were != file.paths.len() as u64 {
                self.changes.extend(file.paths.into_iter().map(|path| (path, Change::Node(id))));
            }
        }
    }
}

fn joined(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

/// Whether something is what the base has, by all that is said of it; by its content if that is asked for.
fn is_as_before(node: &Node<'_>, inode: InodeId, base: &BaseTree<'_>, options: &CommitOptions) -> Result<bool> {
    let (before, stat) = (base.tree.inode(inode), node.stat);
    let is_same_kind = match (before.kind, node.file_type()) {
        (InodeKind::Directory { .. }, FileType::Directory) | (InodeKind::Fifo, FileType::Fifo) => true,
        (InodeKind::File { size, .. }, FileType::RegularFile) => size == stat.st_size as u64,
        (InodeKind::Symlink { .. }, FileType::Symlink) => true,
        (InodeKind::CharDevice(device), FileType::CharacterDevice)
        | (InodeKind::BlockDevice(device), FileType::BlockDevice) => {
            (device.major, device.minor) == (rustix::fs::major(stat.st_rdev as _), rustix::fs::minor(stat.st_rdev as _))
        }
        _ => false,
    };
    if !is_same_kind
        || (before.mtime.seconds, before.mtime.nanoseconds) != (stat.st_mtime as i64, stat.st_mtime_nsec as u32)
    {
        return Ok(false);
    }
    let names = match sys::link_xattr_names(node.folder, node.name()) {
        Err(Errno::NOTSUP | Errno::PERM) => Vec::new(),
        names => names.map_err(|errno| node.failed("read the attributes of", errno))?,
    };
    // Most have none, and then nothing has to be read.
    let xattrs = if names.is_empty() { Vec::new() } else { node.xattrs(None)? };
    let mut now = node.entry(&xattrs, options)?;
    keep_owner(&mut now, node.stat, base, Some(inode));
    let is_symlink = now.kind == Kind::Symlink;
    let looks_same = (is_symlink || now.mode == u32::from(before.mode))
        && (now.uid, now.gid) == (before.uid, before.gid)
        && now.link == base.tree.target(inode)
        && now.xattrs == base.tree.xattrs(inode);
    Ok(looks_same && base.has_same_content(inode, node, &options.interrupt)?)
}

/// What an ordinary user has of an image is the user's own on the disk, and somebody else's in the image.
fn keep_owner(entry: &mut Entry, stat: &Stat, base: &BaseTree<'_>, inode: Option<InodeId>) {
    let euid = rustix::process::geteuid();
    let is_own = !euid.is_root() && stat.st_uid == euid.as_raw() && (entry.uid, entry.gid) == (0, 0);
    if let Some(inode) = inode.filter(|_| is_own) {
        let before = base.tree.inode(inode);
        (entry.uid, entry.gid) = (before.uid, before.gid);
    }
}

/// Directories on the way to what is written.
struct Places<'r> {
    root: &'r OwnedFd,
    open: Vec<(Vec<u8>, OwnedFd)>,
}

impl Places<'_> {
    /// The directory that a path is in.
    fn folder_of(&mut self, path: &[u8]) -> Result<&OwnedFd> {
        let mut components: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
        components.pop();
        let same = components.iter().zip(&self.open).take_while(|(name, (open, _))| **name == &open[..]).count();
        self.open.truncate(same);
        for name in &components[same..] {
            let above = self.open.last().map_or(self.root, |(_, folder)| folder);
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let folder = match rustix::fs::openat(above, *name, flags, Mode::empty()) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(changed(path)),
                folder => folder.map_err(|errno| Error::os(errno, format_args!("open {}", quoted(path))))?,
            };
            self.open.push((name.to_vec(), folder));
        }
        Ok(self.open.last().map_or(self.root, |(_, folder)| folder))
    }
}

fn put(
    out: &mut EntryWriter<'_>,
    options: &CommitOptions,
    base: &BaseTree<'_>,
    places: &mut Places<'_>,
    path: &[u8],
    id: (u64, u64),
) -> Result<()> {
    let folder = places.folder_of(path)?.as_fd();
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let stat = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if sys::file_id(&stat) == id => stat,
        Ok(_) | Err(Errno::NOENT) => return Err(changed(path)),
        Err(errno) => return Err(Error::os(errno, format_args!("look at {}", quoted(path)))),
    };
    let node = Node { folder, path, stat: &stat };
    let file = node.open()?;
    let xattrs = node.xattrs(file.as_ref())?;
    let mut entry = node.entry(&xattrs, options)?;
    keep_owner(&mut entry, &stat, base, base.at(path));
    out.put_node(entry, &stat, id, file)
}
