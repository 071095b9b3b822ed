//! The order in which a disk has its inodes: a directory's children together, each directory before what is deeper. Inodes
//! that no name leads to are not in it.

use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::unpack::{InodeId, InodeKind, MemoryTree, ROOT};

/// What is known of a tree before the places of its inodes are.
pub(super) struct TreeOrder {
    /// All inodes that have names.
    pub(super) inodes: Vec<InodeId>,
    /// How many names an inode has; a directory has one for itself and one for each directory in it, too. 0 for none.
    pub(super) links: Vec<u32>,
    /// The directory that a directory is in.
    pub(super) parents: Vec<InodeId>,
}

impl TreeOrder {
    pub(super) fn of(tree: &MemoryTree, interrupt: &Interrupt) -> Result<TreeOrder> {
        let count = tree.inode_count();
        let mut inodes = Vec::with_capacity(count);
        let (mut links, mut parents) = (vec![0u32; count], vec![ROOT; count]);
        inodes.push(ROOT);
        links[ROOT as usize] = 2;
        let mut open = vec![ROOT];
        while let Some(directory) = open.pop() {
            interrupt.check()?;
            let from = open.len();
            for (_, child) in tree.children(directory) {
                if links[child as usize] == 0 {
                    inodes.push(child);
                }
                if let InodeKind::Directory { .. } = tree.inode(child).kind {
                    links[directory as usize] += 1;
                    links[child as usize] = 2;
                    parents[child as usize] = directory;
                    open.push(child);
                } else {
                    links[child as usize] += 1;
                }
            }
            open[from..].reverse();
        }
        Ok(TreeOrder { inodes, links, parents })
    }
}
