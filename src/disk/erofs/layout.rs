//! Where each inode is, found before anything is written. An entry of a directory says the place of
//! its inode, and an inode the place of its data.
//!
//! Inodes come first. What of a directory's content is whole blocks comes after all inodes; the rest of it, and a symlink's target, lies right behind its inode.
//!
//! Kernels differ in what they read across the end of a block. Those before 5.9 read no inode
//! there. Those before 6.12 refuse a symlink whose target ends behind the block that its inode
//! begins in. So nothing here goes across. An inode that would, with what lies behind it, begins in
//! the next block. What does not fit one has blocks of its own.

use super::dirent::directory_size;
use super::inode::{INODE, SLOT};
use super::xattr::xattrs_size;
use crate::disk::block::BLOCK;
use crate::disk::order::TreeOrder;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::unpack::{InodeId, InodeKind, MemoryTree};

/// How a tree lies. What an inode itself tells is not kept, since there can be millions.
pub(super) struct Layout {
    /// All inodes that have a place, in that order.
    pub(super) order: TreeOrder,
    /// By inode its number: the slot that it begins at. 0 for what no name leads to.
    pub(super) nids: Vec<u32>,
    /// Blocks of inodes.
    pub(super) inode_blocks: u64,
    /// Blocks of directories, after those.
    pub(super) directory_blocks: u64,
    /// An attribute could not be said.
    pub(super) has_skipped_xattrs: bool,
}

/// What lies behind an inode, or in blocks of its own: a directory's content, a symlink's target.
pub(super) fn content_size(tree: &MemoryTree, inode: InodeId) -> u64 {
    match tree.inode(inode).kind {
        InodeKind::Directory { .. } => directory_size(names(tree, inode)),
        InodeKind::Symlink { .. } => tree.target(inode).len() as u64,
        _ => 0,
    }
}

/// Of the content of an inode those bytes that lie right behind it and its attributes.
pub(super) fn inline_size(tree: &MemoryTree, inode: InodeId, content: u64) -> u64 {
    let tail = content % BLOCK as u64;
    if tail == 0 {
        return 0;
    }
    let head = (INODE + xattrs_size(tree.xattrs(inode)).0) as u64;
    if head + tail <= BLOCK as u64 { tail } else { 0 }
}

/// The names in a directory, `.` and `..` at their places.
fn names(tree: &MemoryTree, directory: InodeId) -> impl Iterator<Item = &[u8]> {
    with_dots(tree.children(directory).map(|(name, _)| name), |name| name)
}

/// Puts `.` and `..` where they belong: of two sorted lists one.
pub(super) fn with_dots<'a, T: From<&'a [u8]>>(
    sorted: impl Iterator<Item = T>,
    name: impl Fn(&T) -> &[u8],
) -> impl Iterator<Item = T> {
    let mut dots = [&b"."[..], b".."].into_iter().peekable();
    let mut rest = sorted.peekable();
    std::iter::from_fn(move || match (dots.peek(), rest.peek()) {
        (Some(dot), Some(next)) if name(next) < *dot => rest.next(),
        (Some(_), _) => dots.next().map(T::from),
        (None, _) => rest.next(),
    })
}

impl Layout {
    pub(super) fn of(tree: &MemoryTree, interrupt: &Interrupt) -> Result<Layout> {
        let order = TreeOrder::of(tree, interrupt)?;
        let nids = vec![0; tree.inode_count()];
        let mut layout = Layout { order, nids, inode_blocks: 0, directory_blocks: 0, has_skipped_xattrs: false };
        // An inode with the number 0 is none to some programs, and the root's number has 16 bits.
        let mut at = SLOT as u64;
        for place in 0..layout.order.inodes.len() {
            layout.place(tree, layout.order.inodes[place], &mut at)?;
        }
        layout.inode_blocks = at.div_ceil(BLOCK as u64);
        Ok(layout)
    }

    fn place(&mut self, tree: &MemoryTree, inode: InodeId, at: &mut u64) -> Result<()> {
        let (xattrs, is_less) = xattrs_size(tree.xattrs(inode));
        self.has_skipped_xattrs |= is_less;
        let head = (INODE + xattrs) as u64;
        let size = content_size(tree, inode);
        let inline = inline_size(tree, inode, size);
        let together = if inline > 0 { head + inline } else { INODE as u64 };
        if *at % BLOCK as u64 + together > BLOCK as u64 {
            *at = at.next_multiple_of(BLOCK as u64);
        }
        let is_directory = matches!(tree.inode(inode).kind, InodeKind::Directory { .. });
        let own = if inline > 0 { size / BLOCK as u64 } else { size.div_ceil(BLOCK as u64) };
        debug_assert!(is_directory || own <= 1);
        self.directory_blocks += own;
        let nid = u32::try_from(*at / SLOT as u64)
            .map_err(|_| Error::limit("inodes of a disk", u64::from(u32::MAX) * SLOT as u64, *at, "bytes of inodes"))?;
        self.nids[inode as usize] = nid;
        *at = (*at + head + inline).next_multiple_of(SLOT as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;
    use crate::interrupt::Interrupt;
    use crate::layer::{Decompressor, LayerFile, Reader, Stream};
    use crate::limits::LayerLimits;
    use crate::record::RecordWriter;
    use crate::unpack::{Arena, NoContent, ROOT, TreeOptions, TreeWriter};

    fn reader_of(layer: &[u8]) -> Reader {
        let (limits, interrupt) = (LayerLimits::default(), Interrupt::default());
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, layer).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let file = LayerFile::new(file.into(), Algorithm::Sha256);
        let source = Decompressor::open(file, Algorithm::Sha256, interrupt.clone(), &limits).unwrap();
        Reader::new(Stream::new(source, Algorithm::Sha256, interrupt).unwrap(), limits)
    }

    /// Of links whose targets have these lengths, in one directory.
    fn tree_of_links(targets: impl Iterator<Item = usize>) -> MemoryTree {
        let (options, mut nothing) = (TreeOptions::default(), NoContent);
        let record = RecordWriter::new(None, options.limits.clone());
        let mut writer =
            TreeWriter::new(ROOT, Arena::new(&mut nothing, false), record, &options, &Interrupt::default());
        let mut builder = tar::Builder::new(Vec::new());
        for (number, length) in targets.enumerate() {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, format!("l{number:05}"), "t".repeat(length)).unwrap();
        }
        writer.write(&mut reader_of(&builder.into_inner().unwrap())).unwrap();
        writer.finish().unwrap().2.into_tree().unwrap()
    }

    #[test]
    fn nothing_goes_across_the_end_of_a_block() {
        let tree = tree_of_links((0..500).map(|n| 1 + n * 37 % 4095));
        let layout = Layout::of(&tree, &Interrupt::default()).unwrap();
        let mut end_before = 0;
        for &inode in &layout.order.inodes {
            let content = content_size(&tree, inode);
            let inline = inline_size(&tree, inode, content);
            let at = u64::from(layout.nids[inode as usize]) * SLOT as u64;
            assert!(at >= end_before && at > 0, "they overlap");
            end_before = at + INODE as u64 + inline;
            assert!(at % BLOCK as u64 + (end_before - at) <= BLOCK as u64, "{at} {inline}");
            // What is not behind its inode is in blocks of its own.
            assert!(inline == content % BLOCK as u64 || inline == 0, "{content} {inline}");
        }
        assert_eq!(layout.order.inodes.len(), 501);
    }
}
