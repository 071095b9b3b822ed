//! Writing what is planned: metadata of groups, inodes, directories, and last the content of files, which is copied.

use std::collections::HashMap;

use super::checksum::Checksum;
use super::directory::{Directory, DirectoryEntry, DirectoryLayout};
use super::extents::{FileExtent, I_BLOCK, extents_from, tree};
use super::geometry::{DESCRIPTOR, GROUP_BLOCKS, Geometry, INODE};
use super::inode::{
    EXTENTS, Ext4Inode, INDEXED, JOURNAL, LOST_AND_FOUND, MOST_LINKS, RESIZE, ROOT_DIRECTORY, device_content,
};
use super::journal::journal_superblock;
use super::plan::{Content, Ext4Plan, FileContent, LOST_AND_FOUND_BLOCKS, XattrSet, XattrSetId};
use super::resize::{self, reserved_blocks};
use super::room::Ext4Room;
use super::superblock::{Ext4Superblock, GroupDescriptor, SUPERBLOCK, bitmap};
use super::xattr::{DiskXattrs, MOST_USERS, disk_xattrs, finish_block};
use crate::disk::block::BLOCK;
use crate::disk::file_type::{DIRECTORY, file_type, type_bits};
use crate::disk::id::DiskId;
use crate::disk::merge::MergedTree;
use crate::disk::parts::{LayerDisk, LayerSize, OpenPart};
use crate::disk::sink::DiskSink;
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;
use crate::unpack::{InodeId, InodeKind, ROOT};

/// How much is handed over at a time.
const WRITE_BUFFER_BYTES: usize = 1 << 20;
const LOST_AND_FOUND_MODE: u16 = 0o700;
/// The mode of what only the file system itself uses.
const SYSTEM_FILE: u16 = 0o100_600;

/// What is written of an ext4.
struct Writer<'a, 'p> {
    plan: &'p Ext4Plan<'p>,
    seed: Checksum,
    sink: &'a mut dyn DiskSink,
    /// Metadata of groups.
    groups: Gather,
    /// What inodes have that is no file's content, which lies in the order of the inodes too.
    content: Gather,
    interrupt: &'a Interrupt,
    /// How many inodes had a set of attributes so far.
    users: HashMap<XattrSetId, u32>,
    /// What the journal's inode says, which the superblock says again.
    journal: Option<([u8; I_BLOCK], u64)>,
}

/// Hands over the disk; how many bytes it has. `check_room` is told how many may have to be written.
pub(crate) fn write_ext4(
    merged: &MergedTree,
    (sizes, open): (&[LayerSize], &OpenPart<'_>),
    (id, room): (&DiskId, Ext4Room),
    sink: &mut dyn DiskSink,
    check_room: impl FnOnce(u64) -> Result<()>,
    interrupt: &Interrupt,
) -> Result<u64> {
    let plan = Ext4Plan::of(merged, room, hash_seed(id), interrupt)?;
    let size = (plan.geometry().blocks * BLOCK as u64).max(room.size_bytes / BLOCK as u64 * BLOCK as u64);
    check_room(size.min(bytes_to_write(&plan, sizes)))?;
    sink.size(size)?;
    let seed = Checksum::of_file_system(&id.uuid);
    let (groups, content) = (Gather::default(), Gather::default());
    let mut writer =
        Writer { plan: &plan, seed, sink, groups, content, interrupt, users: HashMap::new(), journal: None };
    writer.inodes(id)?;
    writer.groups(id)?;
    writer.files(open)?;
    // The superblock comes last: what was not finished is no file system.
    writer.first_block(id)?;
    Ok(size)
}

/// The most that is written: content has the room that it takes on its layer's disk, once for each inode that has it. What a layer
/// that an image has twice brings along may be there twice, since two inodes of an ext4 share no blocks.
fn bytes_to_write(plan: &Ext4Plan<'_>, sizes: &[LayerSize]) -> u64 {
    let again = plan.files().windows(2).filter(|pair| pair[0].from == pair[1].from).map(|pair| pair[1].blocks);
    let allocated = sizes.iter().fold(0u64, |sum, size| sum.saturating_add(size.allocated));
    allocated.saturating_add((plan.blocks_besides_files() + again.sum::<u64>()) * BLOCK as u64)
}

/// Out of the UUID, so that the same disk is the same bytes.
fn hash_seed(id: &DiskId) -> [u8; 16] {
    let mut seed = id.uuid;
    seed.reverse();
    seed
}

impl<'p> Writer<'_, 'p> {
    fn groups(&mut self, id: &DiskId) -> Result<()> {
        let plan = self.plan;
        let geometry = plan.geometry();
        let (superblock, descriptors) = (self.superblock(id), self.descriptors());
        for group in (1..geometry.groups()).filter(|&group| Geometry::has_backup(group)) {
            let at = geometry.group(group).start * BLOCK as u64;
            self.put(at, &superblock.to_bytes(group))?;
            self.put(at + BLOCK as u64, &descriptors)?;
        }
        self.put(BLOCK as u64, &descriptors)?;
        for group in 0..geometry.groups() {
            self.interrupt.check()?;
            if let Some(bits) = self.block_bitmap(group) {
                self.put(geometry.block_bitmap(group) * BLOCK as u64, &bits)?;
            }
        }
        for group in 0..geometry.groups() {
            if let Some(bits) = self.inode_bitmap(group) {
                self.put(geometry.inode_bitmap(group) * BLOCK as u64, &bits)?;
            }
        }
        self.groups.flush(self.sink)
    }

    fn first_block(&mut self, id: &DiskId) -> Result<()> {
        let mut block = [0; BLOCK];
        block[SUPERBLOCK..2 * SUPERBLOCK].copy_from_slice(&self.superblock(id).to_bytes(0));
        self.sink.bytes(0, &block)
    }

    fn put(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        self.groups.put(self.sink, at, bytes)
    }

    fn put_content(&mut self, place: u64, block: &[u8]) -> Result<()> {
        self.content.put(self.sink, place * BLOCK as u64, block)
    }

    fn superblock<'b>(&self, id: &'b DiskId) -> Ext4Superblock<'b>
    where
        'p: 'b,
    {
        let geometry = self.plan.geometry();
        Ext4Superblock {
            geometry,
            uuid: id.uuid,
            label: &id.label,
            hash_seed: self.plan.hash_seed,
            free_blocks: (0..geometry.groups()).map(|group| self.free_blocks(group)).sum(),
            free_inodes: geometry.inodes() - self.plan.last_inode,
            journal: self.journal,
        }
    }

    /// Blocks of a group behind its metadata that have content.
    fn content_end(&self, group: u64) -> u64 {
        let range = self.plan.geometry().group(group);
        let begin = range.start + self.plan.geometry().metadata_blocks(group);
        self.plan.end().clamp(begin, range.end)
    }

    fn free_blocks(&self, group: u64) -> u64 {
        self.plan.geometry().group(group).end - self.content_end(group)
    }

    /// `None` for a group of which no block is used, but for the last one.
    fn block_bitmap(&self, group: u64) -> Option<[u8; BLOCK]> {
        let range = self.plan.geometry().group(group);
        let used = self.content_end(group) - range.start;
        let is_last = group + 1 == self.plan.geometry().groups();
        (used > 0 || is_last).then(|| bitmap(range.end - range.start, used))
    }

    /// Inodes of a group that are used, which are the first ones.
    fn used_inodes(&self, group: u64) -> u64 {
        let per_group = self.plan.geometry().inodes_per_group;
        self.plan.last_inode.saturating_sub(group * per_group).min(per_group)
    }

    fn inode_bitmap(&self, group: u64) -> Option<[u8; BLOCK]> {
        let used = self.used_inodes(group);
        (used > 0).then(|| bitmap(self.plan.geometry().inodes_per_group, used))
    }

    fn descriptors(&self) -> Vec<u8> {
        let geometry = self.plan.geometry();
        let mut directories = vec![0u32; geometry.groups() as usize];
        let mut count = |number: u32| {
            directories[(u64::from(number - 1) / geometry.inodes_per_group) as usize] += 1;
        };
        let is_directory = |inode: InodeId| matches!(self.plan.tree.inode(inode).kind, InodeKind::Directory { .. });
        let with_names = self.plan.order().inodes.iter().filter(|&&inode| is_directory(inode));
        with_names.for_each(|&inode| count(self.plan.number(inode)));
        if self.plan.made_lost_and_found().is_some() {
            count(LOST_AND_FOUND);
        }
        let mut bytes = Vec::with_capacity(geometry.groups() as usize * DESCRIPTOR);
        for group in 0..geometry.groups() {
            let unused = (geometry.inodes_per_group - self.used_inodes(group)) as u32;
            let sum = |bits: Option<[u8; BLOCK]>, bytes: u64| {
                bits.map(|bits| self.seed.update(&bits[..bytes as usize]).value())
            };
            let descriptor = GroupDescriptor {
                free_blocks: self.free_blocks(group) as u32,
                free_inodes: unused,
                directories: directories[group as usize],
                unused_inodes: unused,
                block_bitmap_sum: sum(self.block_bitmap(group), GROUP_BLOCKS / 8),
                inode_bitmap_sum: sum(self.inode_bitmap(group), geometry.inodes_per_group / 8),
            };
            bytes.extend_from_slice(&descriptor.to_bytes(geometry, group, self.seed));
        }
        bytes
    }

    /// All inodes, and what of them is no file's content.
    fn inodes(&mut self, id: &DiskId) -> Result<()> {
        self.reserved_inodes(id)?;
        let plan = self.plan;
        for &inode in &plan.order().inodes {
            self.interrupt.check()?;
            self.inode(inode)?;
        }
        self.content.flush(self.sink)
    }

    /// Those that nobody has, which have their checksums all the same.
    fn reserved_inodes(&mut self, id: &DiskId) -> Result<()> {
        for number in (1..LOST_AND_FOUND).filter(|&number| number != ROOT_DIRECTORY) {
            let mut inode = Ext4Inode::unused(number);
            match number {
                RESIZE => self.resize_inode(&mut inode)?,
                JOURNAL => self.journal_inode(&mut inode, id)?,
                _ => {}
            }
            self.put_inode(&inode)?;
        }
        let Some(place) = self.plan.made_lost_and_found() else { return Ok(()) };
        let layout = DirectoryLayout::of(std::iter::empty(), 1, &self.plan.hash_seed)?;
        let directory = Directory { number: LOST_AND_FOUND, parent: ROOT_DIRECTORY };
        layout.write(&[], directory, self.seed, |block| self.put_content(place, block))?;
        let extents = extents_from(self.plan.geometry(), place, LOST_AND_FOUND_BLOCKS).0;
        let (content, _) = tree(&extents, &[], self.seed);
        let inode = Ext4Inode {
            mode: 0o040_000 | LOST_AND_FOUND_MODE,
            links: 2,
            size: LOST_AND_FOUND_BLOCKS * BLOCK as u64,
            blocks: LOST_AND_FOUND_BLOCKS,
            flags: EXTENTS,
            content,
            ..Ext4Inode::unused(LOST_AND_FOUND)
        };
        self.put_inode(&inode)
    }

    /// What holds the blocks that are reserved for growth.
    fn resize_inode(&mut self, inode: &mut Ext4Inode<'_>) -> Result<()> {
        let Some(place) = self.plan.resize() else { return Ok(()) };
        let geometry = self.plan.geometry();
        for (place, block) in reserved_blocks(geometry, place) {
            self.put_content(place, &block)?;
        }
        (inode.mode, inode.links) = (SYSTEM_FILE, 1);
        (inode.size, inode.blocks) = (resize::SIZE, resize::inode_blocks(geometry));
        let at = resize::BLOCKS_OF_BLOCKS * 4;
        inode.content[at..at + 4].copy_from_slice(&(place as u32).to_le_bytes());
        Ok(())
    }

    /// The journal, of which only the first block is written.
    fn journal_inode(&mut self, inode: &mut Ext4Inode<'_>, id: &DiskId) -> Result<()> {
        let Some((content, blocks)) = self.plan.journal() else { return Ok(()) };
        let place = content.extents.first().ok_or_else(no_place)?.physical;
        self.put_content(place, &journal_superblock(blocks as u32, &id.uuid))?;
        (inode.mode, inode.links, inode.size) = (SYSTEM_FILE, 1, blocks * BLOCK as u64);
        self.extents(inode, content)?;
        self.journal = Some((inode.content, inode.size));
        Ok(())
    }

    fn put_inode(&mut self, inode: &Ext4Inode<'_>) -> Result<()> {
        let geometry = self.plan.geometry();
        let (index, per_group) = (u64::from(inode.number - 1), geometry.inodes_per_group);
        let table = geometry.inode_table(index / per_group) * BLOCK as u64;
        self.put(table + index % per_group * INODE as u64, &inode.to_bytes(self.seed))
    }

    fn inode(&mut self, inode: InodeId) -> Result<()> {
        let plan = self.plan;
        let (node, number) = (plan.tree.inode(inode), plan.number(inode));
        let mut disk = Ext4Inode {
            mode: node.mode | type_bits(&node.kind),
            uid: node.uid,
            gid: node.gid,
            mtime: node.mtime,
            links: plan.order().links[inode as usize],
            ..Ext4Inode::unused(number)
        };
        match node.kind {
            InodeKind::File { size, .. } => {
                disk.size = size;
                self.extents(&mut disk, plan.file_content(inode))?;
            }
            InodeKind::Directory { .. } => self.directory(inode, &mut disk)?,
            InodeKind::Symlink { .. } => {
                let target = plan.tree.target(inode);
                disk.size = target.len() as u64;
                if target.len() < I_BLOCK {
                    disk.content[..target.len()].copy_from_slice(target);
                } else {
                    let content = plan.content(inode, 1);
                    let mut block = [0; BLOCK];
                    block[..target.len()].copy_from_slice(target);
                    let place = content.extents.first().ok_or_else(no_place)?.physical;
                    self.put_content(place, &block)?;
                    self.extents(&mut disk, content)?;
                }
            }
            InodeKind::CharDevice(device) | InodeKind::BlockDevice(device) => disk.content = device_content(device),
            InodeKind::Fifo => {}
        }
        let id = plan.xattr_set_id(inode);
        match plan.xattr_set(id) {
            XattrSet::None => {}
            XattrSet::BehindInode(bytes) => disk.xattrs = bytes,
            set @ XattrSet::Block { .. } => self.xattr_block(inode, set, &mut disk)?,
        }
        self.put_inode(&disk)
    }

    /// Has an inode say which block has its attributes, and writes that for the first that has it.
    fn xattr_block(&mut self, inode: InodeId, set: &XattrSet, disk: &mut Ext4Inode<'_>) -> Result<()> {
        let (plan, id) = (self.plan, self.plan.xattr_set_id(inode));
        let before = self.users.entry(id).or_default();
        let user = *before;
        *before += 1;
        let place = plan.xattr_block(id, user).ok_or_else(no_place)?;
        disk.xattr_block = place;
        disk.blocks += 1;
        if !user.is_multiple_of(MOST_USERS) {
            return Ok(());
        }
        let (DiskXattrs::Block(mut block), _) = disk_xattrs(plan.tree.xattrs(inode), id.1) else {
            return Err(no_place());
        };
        finish_block(&mut block, set.users_with(user), place, self.seed);
        self.put_content(place, &block)
    }

    /// Has an inode say where its content is.
    fn extents(&mut self, disk: &mut Ext4Inode<'_>, content: Content) -> Result<()> {
        let blocks: u64 = content.extents.iter().map(|extent| u64::from(extent.blocks)).sum();
        let (root, tree_blocks) = tree(&content.extents, &content.tree, self.seed.of_inode(disk.number));
        disk.blocks += blocks + tree_blocks.len() as u64;
        disk.flags |= EXTENTS;
        disk.content = root;
        tree_blocks.iter().try_for_each(|(place, block)| self.put_content(*place, block))
    }

    fn directory(&mut self, inode: InodeId, disk: &mut Ext4Inode<'_>) -> Result<()> {
        let plan = self.plan;
        let layout = plan.directory_layout(inode)?;
        let content = plan.content(inode, layout.blocks());
        let entries: Vec<DirectoryEntry<'_>> = plan
            .names(inode)
            .map(|(name, child)| match child {
                Some(child) => {
                    let file_type = file_type(&plan.tree.inode(child).kind);
                    DirectoryEntry { name, number: plan.number(child), file_type }
                }
                None => DirectoryEntry { name, number: LOST_AND_FOUND, file_type: DIRECTORY },
            })
            .collect();
        let parent = plan.number(plan.order().parents[inode as usize]);
        let mut places = content.extents.iter().flat_map(FileExtent::range);
        layout.write(&entries, Directory { number: disk.number, parent }, self.seed, |block| {
            let place = places.next().ok_or_else(no_place)?;
            self.put_content(place, block)
        })?;
        if inode == ROOT && plan.made_lost_and_found().is_some() {
            disk.links += 1;
        }
        disk.links = if disk.links > MOST_LINKS { 1 } else { disk.links };
        disk.size = layout.blocks() * BLOCK as u64;
        disk.flags |= if layout.is_indexed() { INDEXED } else { 0 };
        self.extents(disk, content)
    }

    /// Copies the content of files, in as few pieces as there are.
    fn files(&mut self, open: &OpenPart<'_>) -> Result<()> {
        let mut opened: Option<(u16, LayerDisk)> = None;
        for_each_piece(self.plan, |CopiedRun { part, from, to, blocks }| {
            let disk = match opened.take() {
                Some((already, disk)) if already == part => disk,
                _ => open(part)?,
            };
            self.sink.blocks(&disk, from, to, blocks)?;
            opened = Some((part, disk));
            Ok(())
        })
    }
}

fn no_place() -> Error {
    Error::new(Status::Internal, "an ext4 in which something has no place")
}

/// Blocks that are copied together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CopiedRun {
    part: u16,
    from: u64,
    to: u64,
    blocks: u64,
}

/// A layer can have millions of them, so that they are not kept.
fn for_each_piece(plan: &Ext4Plan<'_>, mut each: impl FnMut(CopiedRun) -> Result<()>) -> Result<()> {
    let mut waiting: Option<CopiedRun> = None;
    for &FileContent { from: extent, inode, .. } in plan.files() {
        for part in plan.file_content(inode).extents {
            let from = u64::from(extent.block) + u64::from(part.logical);
            let next = CopiedRun { part: extent.part, from, to: part.physical, blocks: part.blocks.into() };
            match &mut waiting {
                Some(last)
                    if last.part == next.part
                        && last.from + last.blocks == next.from
                        && last.to + last.blocks == next.to =>
                {
                    last.blocks += next.blocks;
                }
                _ => waiting.replace(next).map_or(Ok(()), &mut each)?,
            }
        }
    }
    waiting.map_or(Ok(()), each)
}

/// Gathers what is written in a row.
#[derive(Default)]
struct Gather {
    at: u64,
    buffer: Vec<u8>,
}

impl Gather {
    fn put(&mut self, sink: &mut dyn DiskSink, at: u64, bytes: &[u8]) -> Result<()> {
        if at != self.at + self.buffer.len() as u64 || self.buffer.len() >= WRITE_BUFFER_BYTES {
            self.flush(sink)?;
            self.at = at;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self, sink: &mut dyn DiskSink) -> Result<()> {
        if !self.buffer.is_empty() {
            sink.bytes(self.at, &self.buffer)?;
        }
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
