//! Writing the metadata of a tree: inodes with what lies behind them, and then what of directories is whole blocks.

use super::dirent::{Dirent, write_directory};
use super::inode::{DiskInode, NO_BLOCK, SLOT, device_number};
use super::layout::{Layout, content_size, inline_size, with_dots};
use super::superblock::Superblock;
use super::xattr::{write_xattrs, xattrs_count, xattrs_size};
use crate::disk::block::{BLOCK, too_many_blocks};
use crate::disk::file_type::{file_type, type_bits};
use crate::disk::id::DiskId;
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;
use crate::unpack::{Extent, InodeId, InodeKind, MemoryTree, ROOT};

/// How much is handed over at a time.
const WRITE_BUFFER_BYTES: usize = 1 << 20;

/// The metadata of a disk: a tree, and where each inode of it lies. That does not depend on where the disk's data is.
pub(in crate::disk) struct DiskMetadata<'t> {
    tree: &'t MemoryTree,
    layout: Layout,
}

impl<'t> DiskMetadata<'t> {
    pub(in crate::disk) fn of(tree: &'t MemoryTree, interrupt: &Interrupt) -> Result<DiskMetadata<'t>> {
        Ok(DiskMetadata { tree, layout: Layout::of(tree, interrupt)? })
    }

    /// How many blocks it has.
    pub(in crate::disk) fn blocks(&self) -> u64 {
        self.layout.inode_blocks + self.layout.directory_blocks
    }

    /// An attribute cannot be said, and is left out.
    pub(in crate::disk) fn has_skipped_xattrs(&self) -> bool {
        self.layout.has_skipped_xattrs
    }

    /// Where the content of each file is, and how much there is; of those that are empty nothing.
    pub(in crate::disk) fn files(&self) -> impl Iterator<Item = (Extent, u64)> {
        self.layout.order.inodes.iter().filter_map(|&inode| match self.tree.inode(inode).kind {
            InodeKind::File { size, part, block } if size > 0 => Some((Extent { part, block }, size)),
            _ => None,
        })
    }

    /// Hands it over, from its beginning on, as what begins at the block `begins`. `block_of` is where the content of a file
    /// that is not empty begins.
    pub(in crate::disk) fn write(
        &self,
        begins: u64,
        block_of: impl Fn(Extent) -> u32,
        out: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let begins = self.last_block_fits(begins)?;
        let out = Gathered { buffer: Vec::new(), written: 0, hand_over: out };
        let mut writer = MetadataWriter { metadata: self, out };
        writer.inodes(begins, block_of)?;
        writer.directories()?;
        writer.out.flush()
    }

    /// The first block of a disk of so many blocks whose metadata begins at `begins`.
    pub(in crate::disk) fn first_block(&self, (begins, blocks): (u64, u64), id: &DiskId) -> Result<[u8; BLOCK]> {
        let superblock = Superblock {
            root_nid: self.layout.nids[ROOT as usize] as u16,
            inodes: self.layout.order.inodes.len() as u64,
            blocks: u32::try_from(blocks).map_err(|_| too_many_blocks(blocks))?,
            meta_block: self.last_block_fits(begins)?,
            uuid: id.uuid,
            label: id.label.clone(),
        };
        Ok(superblock.to_block())
    }

    /// Hands over a directory's entries, block by block, or a symlink's target.
    fn content(&self, inode: InodeId, mut out: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if let InodeKind::Symlink { .. } = self.tree.inode(inode).kind {
            return out(self.tree.target(inode));
        }
        let parent = self.layout.order.parents[inode as usize];
        let entries = with_dots(self.tree.children(inode).map(Name::Child), Name::name).map(|name| {
            let (bytes, of) = match name {
                Name::Child((bytes, child)) => (bytes, child),
                Name::Dot(dot) => (dot, if dot.len() == 1 { inode } else { parent }),
            };
            let nid = u64::from(self.nid(of)?);
            Ok(Dirent { name: bytes, nid, file_type: file_type(&self.tree.inode(of).kind) })
        });
        write_directory(entries, out)
    }

    fn nid(&self, inode: InodeId) -> Result<u32> {
        match self.layout.nids[inode as usize] {
            0 => Err(Error::new(Status::Internal, "an inode without a place")),
            nid => Ok(nid),
        }
    }

    fn last_block_fits(&self, begins: u64) -> Result<u32> {
        let end = begins + self.blocks();
        u32::try_from(end).map_err(|_| too_many_blocks(end))?;
        Ok(begins as u32)
    }
}

struct MetadataWriter<'a> {
    metadata: &'a DiskMetadata<'a>,
    out: Gathered<'a>,
}

impl MetadataWriter<'_> {
    fn inodes(&mut self, begins: u32, block_of: impl Fn(Extent) -> u32) -> Result<()> {
        let DiskMetadata { tree, layout } = self.metadata;
        let mut next_block = begins + layout.inode_blocks as u32;
        for &inode in &layout.order.inodes {
            let nid = self.metadata.nid(inode)?;
            self.out.pad_to(u64::from(nid) * SLOT as u64);
            let node = tree.inode(inode);
            let xattrs = tree.xattrs(inode);
            let content = content_size(tree, inode);
            let inline = inline_size(tree, inode, content);
            let own_blocks = (content - inline).div_ceil(BLOCK as u64) as u32;
            let (size, u) = match node.kind {
                InodeKind::File { size: 0, .. } => (0, NO_BLOCK),
                InodeKind::File { size, part, block } => (size, block_of(Extent { part, block })),
                InodeKind::Directory { .. } | InodeKind::Symlink { .. } => {
                    let first = if own_blocks > 0 { next_block } else { NO_BLOCK };
                    next_block += own_blocks;
                    (content, first)
                }
                InodeKind::Fifo => (0, 0),
                InodeKind::CharDevice(device) | InodeKind::BlockDevice(device) => (0, device_number(device)),
            };
            let disk = DiskInode {
                mode: node.mode | type_bits(&node.kind),
                is_inline: inline > 0,
                xattrs_count: xattrs_count(xattrs_size(xattrs).0),
                size,
                u,
                nid,
                uid: node.uid,
                gid: node.gid,
                mtime: node.mtime,
                links: layout.order.links[inode as usize],
            };
            self.out.buffer.extend_from_slice(&disk.to_bytes());
            write_xattrs(xattrs, &mut self.out.buffer);
            if inline > 0 {
                let mut before = content - inline;
                self.metadata.content(inode, |block| {
                    match before {
                        0 => self.out.buffer.extend_from_slice(block),
                        _ => before -= block.len() as u64,
                    }
                    Ok(())
                })?;
            }
            self.out.flush_if_full()?;
        }
        self.out.pad_to(layout.inode_blocks * BLOCK as u64);
        Ok(())
    }

    /// What of directories, and of symlinks, does not lie behind their inodes.
    fn directories(&mut self) -> Result<()> {
        let DiskMetadata { tree, layout } = self.metadata;
        for &inode in &layout.order.inodes {
            let content = content_size(tree, inode);
            let mut rest = content - inline_size(tree, inode, content);
            if rest == 0 {
                continue;
            }
            self.metadata.content(inode, |block| {
                if rest == 0 {
                    return Ok(());
                }
                rest -= block.len() as u64;
                self.out.buffer.extend_from_slice(block);
                self.out.pad_to(self.out.end().next_multiple_of(BLOCK as u64));
                self.out.flush_if_full()
            })?;
        }
        Ok(())
    }
}

/// What goes out, gathered to large pieces.
struct Gathered<'a> {
    buffer: Vec<u8>,
    /// Bytes that were handed over.
    written: u64,
    hand_over: &'a mut dyn FnMut(&[u8]) -> Result<()>,
}

impl Gathered<'_> {
    fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn pad_to(&mut self, end: u64) {
        let more = end - self.end();
        self.buffer.resize(self.buffer.len() + more as usize, 0);
    }

    fn flush_if_full(&mut self) -> Result<()> {
        if self.buffer.len() >= WRITE_BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        (self.hand_over)(&self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// An entry of a directory, before it is known where its inode is.
enum Name<'a> {
    Child((&'a [u8], InodeId)),
    Dot(&'a [u8]),
}

impl<'a> Name<'a> {
    fn name(&self) -> &[u8] {
        match self {
            Name::Child((name, _)) | Name::Dot(name) => name,
        }
    }
}

impl<'a> From<&'a [u8]> for Name<'a> {
    fn from(dot: &'a [u8]) -> Name<'a> {
        Name::Dot(dot)
    }
}
