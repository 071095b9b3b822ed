//! What lies where, found before a byte is written: records say all sizes.
//!
//! Directories, long targets and blocks of attributes come first, in the order of the inodes. The content of files follows, in
//! the order of the layers' disks that it comes from. So it is copied in few pieces: only the metadata of groups, holes, and
//! what lower layers lost, break one. Where the content of an inode begins is all that is kept of it. The rest follows from
//! that and from its holes, since what comes next is what is no metadata.

use std::collections::HashMap;

use super::directory::DirectoryLayout;
use super::extents::{FileExtent, I_BLOCK, extents_from, extents_of, tree_blocks};
use super::geometry::{GROUP_BLOCKS, Geometry};
use super::inode::{LOST_AND_FOUND, ROOT_DIRECTORY};
use super::room::Ext4Room;
use super::xattr::{DiskXattrs, MOST_USERS, XattrOwner, disk_xattrs};
use crate::disk::block::{BLOCK, too_many_blocks};
use crate::disk::merge::MergedTree;
use crate::disk::order::TreeOrder;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::record::Holes;
use crate::unpack::{Extent, InodeId, InodeKind, MemoryTree, ROOT};

/// The name below which e2fsck puts what it found.
pub(super) const LOST_AND_FOUND_NAME: &[u8] = b"lost+found";
/// Blocks of one that we make.
pub(super) const LOST_AND_FOUND_BLOCKS: u64 = 1;

/// What has that name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LostAndFound {
    /// The image has it.
    Image(InodeId),
    /// The image has something else there, which stays; e2fsck will say so.
    SomethingElse,
    /// It is made.
    Made,
}

/// The content of a file, and where it comes from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileContent {
    pub(super) from: Extent,
    /// Those that it takes, without its holes.
    pub(super) blocks: u64,
    pub(super) inode: InodeId,
}

/// Attributes that several inodes may have: the set, and what decides what of it they can have.
pub(super) type XattrSetId = (u32, XattrOwner);

/// How such a set is written.
pub(super) enum XattrSet {
    None,
    BehindInode(Vec<u8>),
    /// Each of its blocks has as many inodes as it may.
    Block {
        users: u32,
    },
}

/// Where the content of inodes begins.
struct Placement {
    geometry: Geometry,
    /// By inode; 0 for what has none.
    begins: Vec<u32>,
    /// The first block of each set that needs some.
    sets: HashMap<XattrSetId, u32>,
    made_lost_and_found: Option<u64>,
    /// Where the journal begins, and how many blocks it has.
    journal: Option<(u64, u64)>,
    /// The block that leads to what is reserved for growth.
    resize: Option<u64>,
    /// The block behind the last one with content.
    end: u64,
}

/// What there is to place.
struct Contents {
    order: TreeOrder,
    lost_and_found: LostAndFound,
    sets: HashMap<XattrSetId, XattrSet>,
    /// Blocks of directories and of targets that do not fit into an inode.
    others: HashMap<InodeId, u64>,
    /// Sorted by where they come from.
    files: Vec<FileContent>,
    /// Blocks of their trees of extents at least: what is metadata between their blocks may make them larger.
    trees: u64,
    room: Ext4Room,
}

/// Where everything is.
pub(super) struct Ext4Plan<'t> {
    pub(super) tree: &'t MemoryTree,
    holes: &'t HashMap<Extent, Holes>,
    pub(super) hash_seed: [u8; 16],
    /// By inode; 0 for what no name leads to.
    numbers: Vec<u32>,
    /// The highest number of an inode: all below it are used.
    pub(super) last_inode: u64,
    contents: Contents,
    placement: Placement,
}

/// Where the blocks of an inode's content are.
pub(super) struct Content {
    pub(super) extents: Vec<FileExtent>,
    /// Of the tree of extents.
    pub(super) tree: Vec<u64>,
}

impl<'t> Ext4Plan<'t> {
    pub(super) fn of(
        merged: &'t MergedTree,
        room: Ext4Room,
        hash_seed: [u8; 16],
        interrupt: &Interrupt,
    ) -> Result<Ext4Plan<'t>> {
        let (tree, holes) = (&merged.tree, &merged.holes);
        let contents = Contents::of(merged, room, &hash_seed, interrupt)?;
        let (numbers, last_inode) = numbers(tree, &contents)?;
        let inodes = last_inode.saturating_add(room.free_inodes);
        u32::try_from(inodes).map_err(|_| too_many_inodes(inodes))?;
        let placement = match room.size_bytes {
            0 => contents.place_with_free(merged, last_inode, interrupt)?,
            bytes => contents.place_in(merged, bytes / BLOCK as u64, last_inode, interrupt)?,
        };
        Ok(Ext4Plan { tree, holes, hash_seed, numbers, last_inode, contents, placement })
    }

    pub(super) fn geometry(&self) -> &Geometry {
        &self.placement.geometry
    }

    pub(super) fn order(&self) -> &TreeOrder {
        &self.contents.order
    }

    /// Of files, in the order in which it lies.
    pub(super) fn files(&self) -> &[FileContent] {
        &self.contents.files
    }

    /// The block behind the last one with content.
    pub(super) fn end(&self) -> u64 {
        self.placement.end
    }

    /// Where the journal is, and how many blocks it has.
    pub(super) fn journal(&self) -> Option<(Content, u64)> {
        self.placement.journal.map(|(begin, blocks)| (content_at(self.geometry(), begin, [(0, blocks)]).0, blocks))
    }

    /// The block that leads to what is reserved for growth.
    pub(super) fn resize(&self) -> Option<u64> {
        self.placement.resize
    }

    /// The block of the `lost+found` that the image does not have.
    pub(super) fn made_lost_and_found(&self) -> Option<u64> {
        self.placement.made_lost_and_found
    }

    /// Blocks that are written, whatever the content of files comes to.
    pub(super) fn blocks_besides_files(&self) -> u64 {
        let files: u64 = self.files().iter().map(|file| file.blocks).sum();
        // Of a journal one block is, and the others are holes.
        self.geometry().written_metadata_blocks(self.last_inode) + self.contents.blocks() - files
            + u64::from(self.placement.journal.is_some())
            + self.placement.resize.map_or(0, |_| 1 + self.geometry().reserved_blocks())
    }

    pub(super) fn number(&self, inode: InodeId) -> u32 {
        self.numbers[inode as usize]
    }

    /// Where so many blocks of what an inode has are, if it is no file.
    pub(super) fn content(&self, inode: InodeId, blocks: u64) -> Content {
        content_at(self.geometry(), self.begin(inode), [(0, blocks)]).0
    }

    /// Where the content of a file is.
    pub(super) fn file_content(&self, inode: InodeId) -> Content {
        content_at(self.geometry(), self.begin(inode), parts_of(self.tree, self.holes, inode)).0
    }

    fn begin(&self, inode: InodeId) -> u64 {
        self.placement.begins[inode as usize].into()
    }

    pub(super) fn xattr_set_id(&self, inode: InodeId) -> XattrSetId {
        set_id(self.tree, inode)
    }

    pub(super) fn xattr_set(&self, id: XattrSetId) -> &XattrSet {
        self.contents.sets.get(&id).unwrap_or(&XattrSet::None)
    }

    /// The block of attributes that the user of this number has.
    pub(super) fn xattr_block(&self, id: XattrSetId, user: u32) -> Option<u64> {
        let begin = u64::from(*self.placement.sets.get(&id)?);
        let number = u64::from(user / MOST_USERS);
        let (extents, _) = extents_from(self.geometry(), begin, number + 1);
        extents.last().and_then(|extent| extent.range().last())
    }

    /// The names in a directory, without `.` and `..`; the inode is `None` for the one that the image does not have.
    pub(super) fn names(&self, directory: InodeId) -> impl Iterator<Item = (&[u8], Option<InodeId>)> + Clone {
        names(self.tree, directory, self.contents.lost_and_found)
    }

    pub(super) fn directory_layout(&self, directory: InodeId) -> Result<DirectoryLayout> {
        let most_in_a_row = self.contents.room.most_blocks_in_a_row();
        DirectoryLayout::of(self.names(directory).map(|(name, _)| name), most_in_a_row, &self.hash_seed)
    }
}

impl Contents {
    fn of(merged: &MergedTree, room: Ext4Room, hash_seed: &[u8; 16], interrupt: &Interrupt) -> Result<Contents> {
        let tree = &merged.tree;
        let order = TreeOrder::of(tree, interrupt)?;
        let lost_and_found = match tree.child(ROOT, LOST_AND_FOUND_NAME) {
            Some(inode) if matches!(tree.inode(inode).kind, InodeKind::Directory { .. }) => LostAndFound::Image(inode),
            Some(_) => LostAndFound::SomethingElse,
            None => LostAndFound::Made,
        };
        let mut contents = Contents {
            order,
            lost_and_found,
            sets: HashMap::new(),
            others: HashMap::new(),
            files: Vec::new(),
            trees: 0,
            room,
        };
        for place in 0..contents.order.inodes.len() {
            interrupt.check()?;
            contents.add(merged, contents.order.inodes[place], hash_seed)?;
        }
        contents.files.sort_unstable();
        Ok(contents)
    }

    fn add(&mut self, merged: &MergedTree, inode: InodeId, hash_seed: &[u8; 16]) -> Result<()> {
        let tree = &merged.tree;
        match tree.inode(inode).kind {
            InodeKind::Directory { .. } => {
                let names = names(tree, inode, self.lost_and_found).map(|(name, _)| name);
                let layout = DirectoryLayout::of(names, self.room.most_blocks_in_a_row(), hash_seed)?;
                self.others.insert(inode, layout.blocks());
            }
            InodeKind::Symlink { len, .. } if usize::from(len) >= I_BLOCK => {
                self.others.insert(inode, 1);
            }
            InodeKind::File { size, part, block } if size > 0 => {
                let blocks = size.div_ceil(BLOCK as u64);
                u32::try_from(blocks).map_err(|_| too_many_blocks(blocks))?;
                let parts = parts_of(tree, &merged.holes, inode);
                let blocks = parts.iter().map(|(_, blocks)| blocks).sum();
                self.files.push(FileContent { from: Extent { part, block }, blocks, inode });
                self.trees += tree_blocks(parts.len()) as u64;
            }
            _ => {}
        }
        if tree.xattr_set(inode) > 0 {
            let id = set_id(tree, inode);
            let set = self.sets.entry(id).or_insert_with(|| XattrSet::of(tree.xattrs(inode), id.1));
            if let XattrSet::Block { users } = set {
                *users += 1;
            }
        }
        Ok(())
    }

    /// As large as it must be, with the free room that is wanted.
    fn place_with_free(&self, merged: &MergedTree, last_inode: u64, interrupt: &Interrupt) -> Result<Placement> {
        let free = self.free_blocks();
        let mut groups = self.blocks().saturating_add(free).div_ceil(GROUP_BLOCKS).max(1);
        loop {
            interrupt.check()?;
            let most = groups.saturating_mul(GROUP_BLOCKS);
            u32::try_from(most).map_err(|_| too_many_blocks(most))?;
            match self.try_to_place(merged, most, last_inode, free) {
                Some(placement) => return Ok(placement.cut(free)),
                None => groups += 1,
            }
        }
    }

    /// In so many blocks, with the free room that is wanted; `NO_SPACE` where they are too few, with what it would take.
    fn place_in(&self, merged: &MergedTree, blocks: u64, last_inode: u64, interrupt: &Interrupt) -> Result<Placement> {
        u32::try_from(blocks).map_err(|_| too_many_blocks(blocks))?;
        // A last group that has no room for its metadata is left out.
        let whole_groups = blocks / GROUP_BLOCKS * GROUP_BLOCKS;
        for blocks in [blocks, whole_groups] {
            if let Some(placement) = self.try_to_place(merged, blocks, last_inode, self.free_blocks()) {
                return Ok(placement);
            }
        }
        // Inodes are by the size, so that the least one has to be looked for.
        let (mut least, mut enough) = (0, self.place_with_free(merged, last_inode, interrupt)?.geometry.blocks);
        while least < enough {
            interrupt.check()?;
            let middle = least + (enough - least) / 2;
            match self.try_to_place(merged, middle, last_inode, self.free_blocks()) {
                Some(_) => enough = middle,
                None => least = middle + 1,
            }
        }
        let needed = enough * BLOCK as u64;
        let found = self.room.size_bytes;
        Err(Error::no_space(format!("a disk of {found} bytes is too small: it takes at least {needed}")))
    }

    /// That are wanted.
    fn free_blocks(&self) -> u64 {
        self.room.free_bytes.div_ceil(BLOCK as u64)
    }

    fn try_to_place(&self, merged: &MergedTree, blocks: u64, last_inode: u64, free: u64) -> Option<Placement> {
        let inodes = self.room.inodes(blocks, last_inode);
        let geometry = Geometry::new(blocks, inodes, self.room.reserved_blocks(blocks))?;
        let wanted = self.blocks() + self.room.journal_blocks(blocks) + free;
        let has_room = geometry.content_blocks().is_some_and(|content| content >= wanted);
        // Trees of extents are not known before their content has its place.
        has_room
            .then(|| self.place(merged, geometry))
            .filter(|placement| extents_from(&placement.geometry, placement.end, free).1 <= blocks)
    }

    /// All that there is, without the journal and what trees of extents have because of metadata between content.
    fn blocks(&self) -> u64 {
        let made = if self.lost_and_found == LostAndFound::Made { LOST_AND_FOUND_BLOCKS } else { 0 };
        self.others.values().sum::<u64>()
            + self.files.iter().map(|file| file.blocks).sum::<u64>()
            + self.trees
            + self.sets.values().map(XattrSet::blocks).sum::<u64>()
            + made
    }

    fn place(&self, merged: &MergedTree, geometry: Geometry) -> Placement {
        let tree = &merged.tree;
        let (mut at, mut begins, mut sets) = (0, vec![0; tree.inode_count()], HashMap::new());
        let mut placed = |blocks: u64| {
            let begin = geometry.content_from(at, 1).start;
            at = content_at(&geometry, begin, [(0, blocks)]).1;
            begin
        };
        let made_lost_and_found = (self.lost_and_found == LostAndFound::Made).then(|| placed(LOST_AND_FOUND_BLOCKS));
        let resize = (geometry.reserved_blocks() > 0).then(|| placed(1));
        let journal_blocks = self.room.journal_blocks(geometry.blocks);
        let journal = (journal_blocks > 0).then(|| (placed(journal_blocks), journal_blocks));
        for &inode in &self.order.inodes {
            if let Some(&blocks) = self.others.get(&inode) {
                begins[inode as usize] = placed(blocks) as u32;
            }
            let id = set_id(tree, inode);
            if let Some(set @ XattrSet::Block { .. }) = self.sets.get(&id) {
                sets.entry(id).or_insert_with(|| placed(set.blocks()) as u32);
            }
        }
        for file in self.files.iter().filter(|file| file.blocks > 0) {
            let begin = geometry.content_from(at, 1).start;
            at = content_at(&geometry, begin, parts_of(tree, &merged.holes, file.inode)).1;
            begins[file.inode as usize] = begin as u32;
        }
        Placement { begins, sets, made_lost_and_found, journal, resize, end: at, geometry }
    }
}

impl Placement {
    /// Has the last group end where the content does, and what is to be free behind it.
    fn cut(mut self, free: u64) -> Placement {
        let last = self.geometry.groups() - 1;
        let least = last * GROUP_BLOCKS + self.geometry.metadata_blocks(last) + 1;
        self.geometry.blocks = extents_from(&self.geometry, self.end, free).1.max(least);
        self
    }
}

impl XattrSet {
    fn of(xattrs: &[(Vec<u8>, Vec<u8>)], owner: XattrOwner) -> XattrSet {
        match disk_xattrs(xattrs, owner).0 {
            DiskXattrs::None => XattrSet::None,
            DiskXattrs::BehindInode(bytes) => XattrSet::BehindInode(bytes),
            DiskXattrs::Block(_) => XattrSet::Block { users: 0 },
        }
    }

    fn blocks(&self) -> u64 {
        match self {
            XattrSet::Block { users } => users.div_ceil(MOST_USERS).into(),
            _ => 0,
        }
    }

    /// How many inodes have the block that the user of this number has.
    pub(super) fn users_with(&self, user: u32) -> u32 {
        match self {
            XattrSet::Block { users } => (users - user / MOST_USERS * MOST_USERS).min(MOST_USERS),
            _ => 0,
        }
    }
}

/// Whether attributes of a tree cannot be said.
pub(in crate::disk) fn has_skipped_xattrs(tree: &MemoryTree, interrupt: &Interrupt) -> Result<bool> {
    let mut seen = HashMap::new();
    let mut has_skipped = false;
    for &inode in &TreeOrder::of(tree, interrupt)?.inodes {
        interrupt.check()?;
        let id = set_id(tree, inode);
        has_skipped |= id.0 > 0 && *seen.entry(id).or_insert_with(|| disk_xattrs(tree.xattrs(inode), id.1).1);
    }
    Ok(has_skipped)
}

fn set_id(tree: &MemoryTree, inode: InodeId) -> XattrSetId {
    (tree.xattr_set(inode), XattrOwner::of(&tree.inode(inode).kind))
}

fn names(
    tree: &MemoryTree,
    directory: InodeId,
    lost_and_found: LostAndFound,
) -> impl Iterator<Item = (&[u8], Option<InodeId>)> + Clone {
    let made = (directory == ROOT && lost_and_found == LostAndFound::Made).then_some((LOST_AND_FOUND_NAME, None));
    tree.children(directory).map(|(name, inode)| (name, Some(inode))).chain(made)
}

/// The parts of a file's content that are no holes: where each begins in the file, and how many blocks it has.
fn parts_of(tree: &MemoryTree, holes: &HashMap<Extent, Holes>, inode: InodeId) -> Vec<(u64, u64)> {
    let InodeKind::File { size, part, block } = tree.inode(inode).kind else { return Vec::new() };
    let blocks = size.div_ceil(BLOCK as u64);
    match (holes.get(&Extent { part, block }), u32::try_from(blocks)) {
        (Some(holes), Ok(blocks)) => holes.data(blocks).map(|(first, blocks)| (first.into(), blocks.into())).collect(),
        _ => vec![(0, blocks)],
    }
}

/// Parts of content whose blocks begin at one, the tree of their extents behind them, and the block behind that.
fn content_at(geometry: &Geometry, begin: u64, parts: impl IntoIterator<Item = (u64, u64)>) -> (Content, u64) {
    let (extents, behind) = extents_of(geometry, begin, parts);
    let (tree, end) = extents_from(geometry, behind, tree_blocks(extents.len()) as u64);
    let tree = tree.iter().flat_map(FileExtent::range).collect();
    (Content { extents, tree }, end)
}

fn too_many_inodes(inodes: u64) -> Error {
    Error::limit("inodes of an ext4", u32::MAX.into(), inodes, "disk")
}

/// The number of each inode, and the highest one.
fn numbers(tree: &MemoryTree, contents: &Contents) -> Result<(Vec<u32>, u64)> {
    let mut numbers = vec![0; tree.inode_count()];
    // Where nobody has the number of `lost+found`, the first of the others has it.
    let is_taken = contents.lost_and_found != LostAndFound::SomethingElse;
    let mut last = u64::from(LOST_AND_FOUND) - if is_taken { 0 } else { 1 };
    for &inode in &contents.order.inodes {
        numbers[inode as usize] = match inode {
            ROOT => ROOT_DIRECTORY,
            _ if contents.lost_and_found == LostAndFound::Image(inode) => LOST_AND_FOUND,
            _ => {
                last += 1;
                u32::try_from(last).map_err(|_| too_many_inodes(last))?
            }
        };
    }
    Ok((numbers, last))
}
