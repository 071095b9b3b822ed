//! Nodes in memory: names and inodes, out of which the metadata of a disk is made.
//!
//! A layer of two million entries must fit, so nothing here is an object of its own. Names lie one behind the other in one
//! buffer, inodes and entries of directories in two vectors, sets of extended attributes are kept once. An inode has 48 bytes
//! and an entry 16. The table that finds an entry by its name holds its number alone, and goes when the tree is complete. A
//! name that goes keeps its place and is used again, should it come back; what was below it is just not reached any more.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use hashbrown::HashTable;
use rustix::io::Errno;

use super::content::{ContentSink, Extent};
use super::metadata::{Metadata, is_reserved};
use super::write::NAME_MAX;
use super::write_pool::Part;
use crate::error::Result;
use crate::layer::{Anomalies, Device, Timestamp};

/// No entry, or no inode.
pub(super) const NONE: u32 = u32::MAX;

/// The number of an inode.
pub(crate) type InodeId = u32;

/// Extended attributes by their full names, sorted.
pub(crate) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// The root directory.
pub(crate) const ROOT: InodeId = 0;

/// A node.
#[derive(Clone, Debug)]
pub(crate) struct Inode {
    pub(crate) kind: InodeKind,
    /// Permission, set-id and sticky bits.
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    /// Which of the sets of extended attributes; 0 is none.
    xattrs: u32,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InodeKind {
    /// The first of its entries.
    Directory {
        first: u32,
    },
    /// Where its content begins, as an [`Extent`] whose fields stand here because that is 8 bytes less.
    File {
        size: u64,
        part: u16,
        block: u32,
    },
    /// Where the target begins among the names, and how long it is.
    Symlink {
        at: u32,
        len: u16,
    },
    Fifo,
    CharDevice(Device),
    BlockDevice(Device),
}

impl InodeKind {
    pub(super) fn file(size: u64, Extent { part, block }: Extent) -> InodeKind {
        InodeKind::File { size, part, block }
    }
}

/// A name in a directory.
#[derive(Clone, Copy)]
pub(super) struct DirEntry {
    directory: InodeId,
    /// Where the name begins: its length comes first.
    at: u32,
    /// `NONE` when it is gone.
    pub(super) inode: InodeId,
    pub(super) next_in_directory: u32,
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Inode>() == 48 && size_of::<DirEntry>() == 16);

/// What a tree in memory is kept in.
pub(super) struct Tables {
    pub(super) inodes: Vec<Inode>,
    pub(super) entries: Vec<DirEntry>,
    /// Names, and targets of symlinks.
    pub(super) names: Vec<u8>,
    /// Entries by directory and name.
    by_name: HashTable<u32>,
    xattrs: Vec<Xattrs>,
    /// Which of them has a hash. Two of one hash are kept by themselves.
    xattr_ids: HashMap<u64, u32>,
    xattrs_bytes: u64,
    hasher: RandomState,
}

/// A file that is being written.
pub(super) struct FileToEnd {
    inode: InodeId,
    end: u64,
    /// Where its data may end before it does.
    size: Option<u64>,
}

/// A tree in memory.
pub(crate) struct Arena<'s> {
    pub(super) tables: RefCell<Tables>,
    pub(super) sink: &'s mut dyn ContentSink,
    /// What lower layers lose is said in it, as overlayfs has it.
    pub(super) has_whiteouts: bool,
    pub(super) open: Option<FileToEnd>,
    /// The sizes of files that are created and not begun, where their data may end before they do.
    pub(super) sizes: RefCell<HashMap<InodeId, u64>>,
    /// Of files alone; the writer has the others.
    pub(super) anomalies: Cell<Anomalies>,
    max_links: u32,
    /// How many names a file has that has several.
    links: RefCell<HashMap<InodeId, u32>>,
}

impl Tables {
    /// Bytes of what entries brought along.
    pub(super) fn kept_bytes(&self) -> u64 {
        self.names.len() as u64 + self.xattrs_bytes
    }

    pub(super) fn name(&self, entry: &DirEntry) -> &[u8] {
        name_at(&self.names, entry.at)
    }

    /// The entry of a name, which may be one that is gone.
    pub(super) fn entry(&self, directory: InodeId, name: &[u8]) -> Option<u32> {
        self.entry_of_hash(self.hasher.hash_one((directory, name)), directory, name)
    }

    fn entry_of_hash(&self, hash: u64, directory: InodeId, name: &[u8]) -> Option<u32> {
        let is_it = |&at: &u32| {
            let entry = &self.entries[at as usize];
            entry.directory == directory && self.name(entry) == name
        };
        self.by_name.find(hash, is_it).copied()
    }

    pub(super) fn find(&self, directory: InodeId, name: &[u8]) -> Result<InodeId, Errno> {
        if name.len() > NAME_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        let entry = self.entry(directory, name).map(|at| self.entries[at as usize].inode);
        entry.filter(|&inode| inode != NONE).ok_or(Errno::NOENT)
    }

    /// Gives a node a name.
    pub(super) fn name_it(&mut self, directory: InodeId, name: &[u8], inode: InodeId) -> Result<(), Errno> {
        if name.len() > NAME_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        let hash = self.hasher.hash_one((directory, name));
        if let Some(at) = self.entry_of_hash(hash, directory, name) {
            let entry = &mut self.entries[at as usize];
            if entry.inode != NONE {
                return Err(Errno::EXIST);
            }
            entry.inode = inode;
            return Ok(());
        }
        let InodeKind::Directory { first } = self.inodes[directory as usize].kind else {
            return Err(Errno::NOTDIR);
        };
        let number = u32::try_from(self.entries.len()).map_err(|_| Errno::NOSPC)?;
        let at = self.keep(&[name.len() as u8])?;
        self.keep(name)?;
        self.entries.push(DirEntry { directory, at, inode, next_in_directory: first });
        self.inodes[directory as usize].kind = InodeKind::Directory { first: number };
        let (entries, names, hasher) = (&self.entries, &self.names, &self.hasher);
        let hash_of = |&number: &u32| {
            let entry = &entries[number as usize];
            hasher.hash_one((entry.directory, name_at(names, entry.at)))
        };
        self.by_name.insert_unique(hash, number, hash_of);
        Ok(())
    }

    /// Keeps bytes among the names; where they begin.
    pub(super) fn keep(&mut self, bytes: &[u8]) -> Result<u32, Errno> {
        let at = u32::try_from(self.names.len() + bytes.len()).map_err(|_| Errno::NOSPC)? - bytes.len() as u32;
        self.names.extend_from_slice(bytes);
        Ok(at)
    }

    /// A new node under a new name.
    pub(super) fn make(&mut self, directory: InodeId, name: &[u8], kind: InodeKind) -> Result<InodeId, Errno> {
        let inode = u32::try_from(self.inodes.len()).map_err(|_| Errno::NOSPC)?;
        self.name_it(directory, name, inode)?;
        self.inodes.push(Inode { kind, mode: 0, uid: 0, gid: 0, mtime: Timestamp::default(), xattrs: 0 });
        Ok(inode)
    }

    pub(super) fn set_metadata(&mut self, inode: InodeId, metadata: &Metadata<'_>, anomalies: &mut Anomalies) {
        let kind = self.inodes[inode as usize].kind;
        // As Linux has it: attributes of users are for files and directories alone (xattr(7)).
        let takes_users = matches!(kind, InodeKind::File { .. } | InodeKind::Directory { .. });
        let mut kept = Vec::new();
        for (key, value) in metadata.xattrs.iter() {
            if is_reserved(key) || !takes_users && key.starts_with(b"user.") {
                anomalies.insert(Anomalies::SKIPPED_XATTR);
            } else {
                kept.push((key.clone(), value.clone()));
            }
        }
        if metadata.is_opaque {
            kept.push((b"trusted.overlay.opaque".to_vec(), b"y".to_vec()));
        }
        let xattrs = self.xattrs_id(kept);
        let node = &mut self.inodes[inode as usize];
        let is_symlink = matches!(node.kind, InodeKind::Symlink { .. });
        node.mode = if is_symlink { 0o777 } else { metadata.mode as u16 & 0o7777 };
        (node.uid, node.gid, node.mtime, node.xattrs) = (metadata.uid, metadata.gid, metadata.mtime, xattrs);
    }

    /// Where only one layer of an overlay has a directory, the kernel lists it without a look for
    /// whiteouts. This attribute says that there may be some (mkfs.erofs sets it too).
    fn mark_origins(&mut self) {
        let is_whiteout = |inode: InodeId| match self.inodes.get(inode as usize) {
            Some(Inode { kind: InodeKind::CharDevice(device), .. }) => *device == Device::default(),
            _ => false,
        };
        let mut directories: Vec<InodeId> =
            self.entries.iter().filter(|entry| is_whiteout(entry.inode)).map(|entry| entry.directory).collect();
        directories.sort_unstable();
        directories.dedup();
        for directory in directories {
            let before = self.inodes[directory as usize].xattrs;
            let mut xattrs = if before == 0 { Vec::new() } else { self.xattrs[before as usize - 1].clone() };
            xattrs.push((b"trusted.overlay.origin".to_vec(), Vec::new()));
            self.inodes[directory as usize].xattrs = self.xattrs_id(xattrs);
        }
    }

    /// The entries that are there, by directory and there by name, and where those of each directory begin. Most layers come in
    /// that order nearly, and there is little to sort in one directory.
    fn in_order(&self) -> (Vec<u32>, Vec<u32>) {
        let there = || self.entries.iter().enumerate().filter(|(_, entry)| entry.inode != NONE);
        let mut starts = vec![0u32; self.inodes.len() + 1];
        there().for_each(|(_, entry)| starts[entry.directory as usize + 1] += 1);
        (1..starts.len()).for_each(|directory| starts[directory] += starts[directory - 1]);
        let mut sorted = vec![0u32; starts.last().map_or(0, |&end| end as usize)];
        for (number, entry) in there() {
            let next = &mut starts[entry.directory as usize];
            sorted[*next as usize] = number as u32;
            *next += 1;
        }
        // Each now says where its directory ends, which is where the next one begins.
        starts.rotate_right(1);
        starts[0] = 0;
        for range in starts.windows(2) {
            let name = |&entry: &u32| self.name(&self.entries[entry as usize]);
            sorted[range[0] as usize..range[1] as usize].sort_unstable_by(|a, b| name(a).cmp(name(b)));
        }
        (sorted, starts)
    }

    fn xattrs_id(&mut self, mut xattrs: Xattrs) -> u32 {
        if xattrs.is_empty() {
            return 0;
        }
        // The last one of a name counts, as when they are set one after the other.
        xattrs.reverse();
        xattrs.sort_by(|(a, _), (b, _)| a.cmp(b));
        xattrs.dedup_by(|(later, _), (kept, _)| later == kept);
        let hash = self.hasher.hash_one(&xattrs);
        if let Some(&id) = self.xattr_ids.get(&hash)
            && self.xattrs[id as usize - 1] == xattrs
        {
            return id;
        }
        self.xattrs_bytes += xattrs.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum::<u64>();
        self.xattrs.push(xattrs);
        let id = self.xattrs.len() as u32;
        self.xattr_ids.insert(hash, id);
        id
    }
}

/// A name among the names.
fn name_at(names: &[u8], at: u32) -> &[u8] {
    let (len, rest) = (names[at as usize], &names[at as usize + 1..]);
    &rest[..usize::from(len)]
}

impl<'s> Arena<'s> {
    /// An empty root directory, and where content is to go.
    pub(crate) fn new(sink: &'s mut dyn ContentSink, has_whiteouts: bool) -> Arena<'s> {
        let root = Inode {
            kind: InodeKind::Directory { first: NONE },
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            xattrs: 0,
        };
        let tables = Tables {
            inodes: vec![root],
            entries: Vec::new(),
            names: Vec::new(),
            by_name: HashTable::new(),
            xattrs: Vec::new(),
            xattr_ids: HashMap::new(),
            xattrs_bytes: 0,
            hasher: RandomState::new(),
        };
        let tables = RefCell::new(tables);
        Arena {
            tables,
            sink,
            has_whiteouts,
            open: None,
            sizes: RefCell::default(),
            anomalies: Cell::default(),
            max_links: u32::MAX,
            links: RefCell::default(),
        }
    }

    /// A file can have no more names than these.
    pub(crate) fn with_max_links(self, max_links: u32) -> Arena<'s> {
        Arena { max_links, ..self }
    }

    /// Counts a further name of a file; `MLINK` where it can have none.
    pub(super) fn count_link(&self, inode: InodeId) -> Result<(), Errno> {
        let mut links = self.links.borrow_mut();
        let names = links.entry(inode).or_insert(1);
        if *names >= self.max_links {
            return Err(Errno::MLINK);
        }
        *names += 1;
        Ok(())
    }

    /// One of its names is gone.
    pub(super) fn forget_link(&mut self, inode: InodeId) {
        if let Some(names) = self.links.get_mut().get_mut(&inode) {
            *names -= 1;
        }
    }

    /// Ends the file that is open.
    pub(super) fn close(&mut self) -> Result<()> {
        let Some(FileToEnd { inode, end, size }) = self.open.take() else { return Ok(()) };
        let size = size.unwrap_or(end);
        let extent = self.sink.end(size)?;
        self.tables.get_mut().inodes[inode as usize].kind = InodeKind::file(size, extent);
        Ok(())
    }

    /// Has what is written from now on be a file's.
    pub(super) fn open(&mut self, file: InodeId) -> Result<()> {
        if self.open.as_ref().is_some_and(|open| open.inode == file) {
            return Ok(());
        }
        self.close()?;
        self.open = Some(FileToEnd { inode: file, end: 0, size: self.sizes.get_mut().remove(&file) });
        Ok(())
    }

    pub(super) fn write(&mut self, part: Part) -> Result<()> {
        if let Some(open) = &mut self.open {
            open.end = part.0 + part.1.len() as u64;
        }
        self.sink.write(part)
    }

    /// Gives a file the content that one of an extracted layer has.
    pub(super) fn take(&mut self, file: InodeId, (size, extent): (u64, Extent)) {
        self.tables.get_mut().inodes[file as usize].kind = InodeKind::file(size, extent);
    }
}

/// A tree that is complete.
pub(crate) struct MemoryTree {
    tables: Tables,
    /// The entries that are there, by directory, and there by name.
    sorted: Vec<u32>,
    /// Where an inode's entries begin there; one more than there are inodes.
    starts: Vec<u32>,
}

impl Arena<'_> {
    /// Completes it.
    pub(crate) fn into_tree(mut self) -> Result<MemoryTree> {
        self.close()?;
        let mut tables = self.tables.into_inner();
        tables.by_name = HashTable::new();
        if self.has_whiteouts {
            tables.mark_origins();
        }
        let (sorted, starts) = tables.in_order();
        Ok(MemoryTree { tables, sorted, starts })
    }
}

impl MemoryTree {
    /// Has nothing modified after a moment, in seconds since 1970.
    pub(crate) fn limit_mtimes(&mut self, latest: i64) {
        let latest = Timestamp { seconds: latest, nanoseconds: 0 };
        for inode in &mut self.tables.inodes {
            let is_later = (inode.mtime.seconds, inode.mtime.nanoseconds) > (latest.seconds, 0);
            inode.mtime = if is_later { latest } else { inode.mtime };
        }
    }

    /// How many inodes there are, of which some may be reached by no name.
    pub(crate) fn inode_count(&self) -> usize {
        self.tables.inodes.len()
    }

    pub(crate) fn inode(&self, inode: InodeId) -> &Inode {
        &self.tables.inodes[inode as usize]
    }

    /// What is in a directory, in the order of names.
    pub(crate) fn children(&self, directory: InodeId) -> impl DoubleEndedIterator<Item = (&[u8], InodeId)> + Clone {
        let range = self.starts[directory as usize] as usize..self.starts[directory as usize + 1] as usize;
        self.sorted[range].iter().map(|&entry| {
            let entry = &self.tables.entries[entry as usize];
            (self.tables.name(entry), entry.inode)
        })
    }

    /// What is at a path from the root on.
    pub(crate) fn at(&self, path: &[u8]) -> Option<InodeId> {
        path.split(|&byte| byte == b'/').try_fold(ROOT, |inode, name| match self.inode(inode).kind {
            InodeKind::Directory { .. } => self.child(inode, name),
            _ => None,
        })
    }

    /// What has a name in a directory.
    pub(crate) fn child(&self, directory: InodeId, name: &[u8]) -> Option<InodeId> {
        let range = self.starts[directory as usize] as usize..self.starts[directory as usize + 1] as usize;
        let children = &self.sorted[range];
        let entry = |&entry: &u32| &self.tables.entries[entry as usize];
        let found = children.binary_search_by(|child| self.tables.name(entry(child)).cmp(name)).ok()?;
        Some(entry(&children[found]).inode)
    }

    /// The target of a symlink.
    pub(crate) fn target(&self, inode: InodeId) -> &[u8] {
        match self.inode(inode).kind {
            InodeKind::Symlink { at, len } => &self.tables.names[at as usize..][..usize::from(len)],
            _ => &[],
        }
    }

    /// A number that inodes with the same extended attributes have; 0 for none.
    pub(crate) fn xattr_set(&self, inode: InodeId) -> u32 {
        self.inode(inode).xattrs
    }

    pub(crate) fn xattrs(&self, inode: InodeId) -> &[(Vec<u8>, Vec<u8>)] {
        match self.inode(inode).xattrs {
            0 => &[],
            id => &self.tables.xattrs[id as usize - 1],
        }
    }
}
