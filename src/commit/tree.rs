//! A changed tree as a layer: what is not as the base had it, and whiteouts for what is gone.
//!
//! One walk looks at everything, and content is not read. What differs is noted, and written afterwards. Whether the names of a
//! file are those that it had is not known before the last of them was seen. A file is written with all of its names.

use std::collections::HashMap;
use std::iter::Peekable;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::base::BaseTree;
use super::entries::{EntryWriter, SourceCounts};
use super::node::{Node, OrdinaryUser, changed, owner_in_image, refused, whiteout_device};
use super::options::CommitOptions;
use super::walk::SourceWalk;
use super::walk_ahead::{Seen, WalkAhead};
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

/// A path, and which file is there.
type PartedFile = (Vec<u8>, (u64, u64));

/// What a directory of the base has, in the order of the names.
type BaseChildren<'b> = Box<dyn Iterator<Item = (&'b [u8], InodeId)> + 'b>;

/// What the base has in a directory that is walked, and was not come to yet.
struct BaseFolder<'b> {
    path: Vec<u8>,
    children: Peekable<BaseChildren<'b>>,
}

/// A tree whose walk has begun.
pub(super) struct TreeWalk {
    walk: WalkAhead,
    root: OwnedFd,
    stat: Stat,
    user: Option<OrdinaryUser>,
}

impl TreeWalk {
    pub(super) fn new(root: &Path, options: &CommitOptions) -> Result<TreeWalk> {
        let walk = SourceWalk::new(root)?;
        let (user, (folder, stat)) = (walk.user(), walk.root());
        let root =
            folder.try_clone_to_owned().map_err(|cause| Error::io(&cause, format_args!("open {}", root.display())))?;
        let stat = *stat;
        let walk = WalkAhead::new(walk, options.crosses_file_systems, &options.interrupt);
        Ok(TreeWalk { walk, root, stat, user })
    }
}

/// A tree that is compared with its base.
pub(super) struct TreeReader<'b> {
    walk: WalkAhead,
    stat: Stat,
    /// What the walk came to, looked at once more.
    source: SourceTree<'b>,
    base: &'b BaseTree<'b>,
    options: &'b CommitOptions,
    /// Of the root and each directory on the way.
    folders: Vec<Option<BaseFolder<'b>>>,
    linked: HashMap<(u64, u64), LinkedFile>,
    /// Files of one name that are as they were, but for further names in the base.
    parted: HashMap<InodeId, Vec<PartedFile>>,
    changes: Vec<(Vec<u8>, Change)>,
    counts: SourceCounts,
}

impl<'b> TreeReader<'b> {
    pub(super) fn new(tree: TreeWalk, base: &'b BaseTree<'b>, options: &'b CommitOptions) -> TreeReader<'b> {
        let TreeWalk { walk, root, stat, user } = tree;
        let source = SourceTree { root, held: None, user, options, base };
        let (linked, parted, changes) = (HashMap::new(), HashMap::new(), Vec::new());
        let (folders, counts) = (Vec::new(), SourceCounts::default());
        let mut reader = TreeReader { walk, stat, source, base, options, folders, linked, parted, changes, counts };
        let folder = reader.base_folder(Vec::new(), ROOT);
        reader.folders.push(Some(folder));
        reader
    }

    /// Writes what was changed.
    pub(super) fn write(mut self, out: &mut EntryWriter<'_, '_>) -> Result<()> {
        while let Some(seen) = self.walk.next()? {
            self.options.interrupt.check()?;
            self.leave(seen.depth);
            self.one(&seen)?;
        }
        self.leave(0);
        self.end_linked();
        self.changes.sort_unstable_by(|(a, _), (b, _)| a.split(|&c| c == b'/').cmp(b.split(|&c| c == b'/')));
        out.counts = self.counts;
        if let Some(root) = self.root_entry()? {
            out.put_node(root, &self.stat, sys::file_id(&self.stat), None)?;
        }
        let TreeReader { mut source, changes, .. } = self;
        for (path, change) in &changes {
            out.put_parents(path, |folder| source.look_at(folder).map(|(entry, ..)| entry))?;
            match change {
                Change::Gone => out.put_whiteout(path)?,
                Change::Node(id) => {
                    let (entry, stat, file) = source.look_at(path)?;
                    if sys::file_id(&stat) != *id {
                        return Err(changed(path));
                    }
                    out.put_node(entry, &stat, *id, file)?;
                }
            }
        }
        Ok(())
    }

    /// The root, where it has another owner, mode, or other attributes. Its time is another one with each change below.
    fn root_entry(&self) -> Result<Option<Entry>> {
        let SourceTree { root, user, .. } = &self.source;
        let node = Node { user: *user, folder: root.as_fd(), path: b"", stat: &self.stat };
        let entry = entry_of(&node, Some(root), Some(ROOT), self.base, self.options)?;
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

    fn one(&mut self, seen: &Seen) -> Result<()> {
        let Seen { path, stat, .. } = seen;
        let (name, file_type) = (name_of(path), FileType::from_raw_mode(stat.st_mode));
        if name.starts_with(WHITEOUT_PREFIX) {
            return Err(refused(path, "begins with .wh., which in a layer takes something away"));
        }
        let mut before = None;
        if let Some(Some(folder)) = self.folders.last_mut() {
            while let Some((gone, _)) = folder.children.next_if(|(child, _)| *child < name) {
                self.changes.push((joined(&folder.path, gone), Change::Gone));
            }
            before = folder.children.next_if(|(child, _)| *child == name).map(|(_, inode)| inode);
        }
        if file_type == FileType::Socket {
            self.counts.sockets += 1;
            // What had its name is gone all the same.
            if before.is_some() {
                self.changes.push((path.clone(), Change::Gone));
            }
            return Ok(());
        }
        let (is_directory, id) = (file_type == FileType::Directory, sys::file_id(stat));
        if seen.is_mount_point && !self.options.crosses_file_systems {
            // What is mounted there is not of the image, and what is below it is as it was.
            self.counts.other_file_systems += 1;
            if is_directory && before.is_none() {
                self.changes.push((path.clone(), Change::Node(id)));
            }
            return Ok(());
        }
        if file_type == FileType::CharacterDevice && stat.st_rdev == 0 {
            return Err(whiteout_device(path));
        }
        let is_same = match before {
            Some(inode) => self.is_as_before(seen, inode)?,
            None => false,
        };
        if !is_directory {
            self.file(path, id, stat, before, is_same);
            return Ok(());
        }
        if !is_same {
            self.changes.push((path.clone(), Change::Node(id)));
        }
        let is_folder = |inode: &InodeId| matches!(self.base.tree.inode(*inode).kind, InodeKind::Directory { .. });
        let folder = before.filter(is_folder).map(|inode| self.base_folder(path.clone(), inode));
        self.folders.push(folder);
        Ok(())
    }

    /// Whether something is what the base has, by all that is said of it; by its content if that is asked for.
    fn is_as_before(&mut self, seen: &Seen, inode: InodeId) -> Result<bool> {
        let Seen { path, stat, .. } = seen;
        let before = self.base.tree.inode(inode);
        if !is_of_kind(stat, before.kind) || !has_time_of(stat, inode, self.base) {
            return Ok(false);
        }
        // Most have no attributes, and need no second look.
        if !seen.has_xattrs && self.base.tree.xattrs(inode).is_empty() && !self.base.compares_content() {
            let owner = match (owner_in_image(stat, self.source.user), self.source.user) {
                ((0, 0), Some(user)) if stat.st_uid == user.uid => (before.uid, before.gid),
                (owner, _) => owner,
            };
            let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
            return Ok((is_link || sys::mode_of(stat) & 0o7777 == u32::from(before.mode))
                && owner == (before.uid, before.gid)
                && seen.target == self.base.tree.target(inode));
        }
        let (user, options, base) = (self.source.user, self.options, self.base);
        let folder = self.source.folder(parent_of(path))?.as_fd();
        looks_as_before(&Node { user, folder, path, stat }, inode, base, options)
    }

    /// Anything but a directory.
    fn file(&mut self, path: &[u8], id: (u64, u64), stat: &Stat, before: Option<InodeId>, is_same: bool) {
        if stat.st_nlink > 1 {
            let new = || LinkedFile { paths: Vec::new(), base: before, is_same: true };
            let file = self.linked.entry(id).or_insert_with(new);
            file.is_same &= is_same && file.base == before;
            file.paths.push(path.to_vec());
            return;
        }
        match before {
            _ if !is_same => self.changes.push((path.to_vec(), Change::Node(id))),
            Some(inode) if self.base.names(inode) > 1 => {
                self.parted.entry(inode).or_default().push((path.to_vec(), id));
            }
            _ => {}
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
        // What had several names is several files now, each as it was.
        for (_, files) in std::mem::take(&mut self.parted).into_iter().filter(|(_, files)| files.len() > 1) {
            self.changes.extend(files.into_iter().map(|(path, id)| (path, Change::Node(id))));
        }
    }
}

fn joined(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

fn parent_of(path: &[u8]) -> &[u8] {
    path.iter().rposition(|&byte| byte == b'/').map_or(b"", |slash| &path[..slash])
}

fn name_of(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

fn has_time_of(stat: &Stat, inode: InodeId, base: &BaseTree<'_>) -> bool {
    let time = base.tree.inode(inode).mtime;
    (time.seconds, time.nanoseconds) == (stat.st_mtime, stat.st_mtime_nsec as u32)
}

/// Whether something can be what the base has, by its type, size and device.
fn is_of_kind(stat: &Stat, before: InodeKind) -> bool {
    match (before, FileType::from_raw_mode(stat.st_mode)) {
        (InodeKind::Directory { .. }, FileType::Directory) | (InodeKind::Fifo, FileType::Fifo) => true,
        (InodeKind::File { size, .. }, FileType::RegularFile) => size == stat.st_size as u64,
        (InodeKind::Symlink { .. }, FileType::Symlink) => true,
        (InodeKind::CharDevice(device), FileType::CharacterDevice)
        | (InodeKind::BlockDevice(device), FileType::BlockDevice) => {
            (device.major, device.minor) == (rustix::fs::major(stat.st_rdev as _), rustix::fs::minor(stat.st_rdev as _))
        }
        // Trees have such a file where devices are not made.
        (InodeKind::CharDevice(_) | InodeKind::BlockDevice(_), FileType::RegularFile) => stat.st_size == 0,
        _ => false,
    }
}

/// Whether something of the same kind and time is what the base has.
fn looks_as_before(node: &Node<'_>, inode: InodeId, base: &BaseTree<'_>, options: &CommitOptions) -> Result<bool> {
    let before = base.tree.inode(inode);
    let now = entry_of(node, None, Some(inode), base, options)?;
    let looks_same = (now.kind == Kind::Symlink || now.mode == u32::from(before.mode))
        && (now.uid, now.gid) == (before.uid, before.gid)
        && now.link == base.tree.target(inode)
        && now.xattrs == base.tree.xattrs(inode);
    Ok(looks_same && base.has_same_content(inode, node, &options.interrupt)?)
}

/// What something is in a layer. What a tree could not say of it is as the base has it.
fn entry_of(
    node: &Node<'_>,
    file: Option<&OwnedFd>,
    before: Option<InodeId>,
    base: &BaseTree<'_>,
    options: &CommitOptions,
) -> Result<Entry> {
    let xattrs = node.xattrs(file)?;
    let mut entry = node.entry(&xattrs, options)?;
    let Some(inode) = before else { return Ok(entry) };
    let before = base.tree.inode(inode);
    let is_untouched = has_time_of(node.stat, inode, base);
    if is_untouched && entry.kind == Kind::File && entry.size == 0 {
        match before.kind {
            InodeKind::CharDevice(device) => entry.kind = Kind::CharDevice(device),
            InodeKind::BlockDevice(device) => entry.kind = Kind::BlockDevice(device),
            _ => {}
        }
    }
    // What an ordinary user has of an image is the user's own on the disk, and somebody else's in the image.
    let Some(user) = node.user else { return Ok(entry) };
    if node.stat.st_uid == user.uid && (entry.uid, entry.gid) == (0, 0) && !Node::has_override(&xattrs) {
        (entry.uid, entry.gid) = (before.uid, before.gid);
    }
    if is_untouched {
        let is_missing = |(name, _): &&(Vec<u8>, Vec<u8>)| {
            name.starts_with(b"security.") && entry.xattrs.iter().all(|(found, _)| found != name)
        };
        let kept: Vec<_> = base.tree.xattrs(inode).iter().filter(is_missing).cloned().collect();
        entry.xattrs.extend(kept);
        entry.xattrs.sort_unstable();
    }
    Ok(entry)
}

/// The tree, looked at once more.
struct SourceTree<'r> {
    root: OwnedFd,
    /// The directory that was come to last: what follows is mostly in it, or below.
    held: Option<(Vec<u8>, OwnedFd)>,
    user: Option<OrdinaryUser>,
    options: &'r CommitOptions,
    base: &'r BaseTree<'r>,
}

impl SourceTree<'_> {
    fn look_at(&mut self, path: &[u8]) -> Result<(Entry, Stat, Option<OwnedFd>)> {
        let (user, options, base) = (self.user, self.options, self.base);
        let name = name_of(path);
        let folder = self.folder(parent_of(path))?.as_fd();
        let stat = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Err(changed(path)),
            Err(errno) => return Err(Error::os(errno, format_args!("look at {}", quoted(path)))),
        };
        let node = Node { user, folder, path, stat: &stat };
        let file = node.open()?;
        let entry = entry_of(&node, file.as_ref(), base.tree.at(path), base, options)?;
        Ok((entry, stat, file))
    }

    /// One directory is open at a time, however deep it is.
    fn folder(&mut self, path: &[u8]) -> Result<&OwnedFd> {
        if path.is_empty() {
            return Ok(&self.root);
        }
        let held = self.held.take();
        let is_above = |at: &[u8]| path.strip_prefix(at).is_some_and(|rest| rest.is_empty() || rest[0] == b'/');
        let (mut at, mut folder) = match held.filter(|(at, _)| is_above(at)) {
            Some((at, folder)) => (at, Some(folder)),
            None => (Vec::new(), None),
        };
        let rest = path[at.len()..].split(|&byte| byte == b'/').filter(|name| !name.is_empty());
        for name in rest {
            at = joined(&at, name);
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            folder = match rustix::fs::openat(folder.as_ref().unwrap_or(&self.root), name, flags, Mode::empty()) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(changed(&at)),
                next => Some(next.map_err(|errno| Error::os(errno, format_args!("open {}", quoted(&at))))?),
            };
        }
        Ok(match folder {
            Some(folder) => &self.held.insert((at, folder)).1,
            None => &self.root,
        })
    }
}
