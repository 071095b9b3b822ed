//! A layer's tree once more, from its record: what of a disk's metadata can be made again and compared.
//!
//! The record has each path once, in an order in which it can be made. Directories come before or
//! after what is in them; hard links come after their targets. What an entry replaced is not in it,
//! so that the tree comes out as it was and the effort does not.

use std::os::fd::{AsFd as _, OwnedFd};

use super::apply::entry_of;
use super::lower::LayerSource;
use super::nodes::{Lower as _, Nodes};
use super::tree::TreeWriter;
use crate::error::Result;
use crate::layer::{Entry, OPAQUE_MARKER, WHITEOUT_PREFIX, split_parent};
use crate::record::{LayerEntryKind, RecordLines, RecordedEntry};

impl<N: Nodes> TreeWriter<N> {
    /// Takes all entries of a layer, as its record says them.
    pub(crate) fn replay(&mut self, record: &OwnedFd, lower: &mut N::Lower) -> Result<()> {
        let mut lines = RecordLines::default();
        while let Some(line) = lines.next(record.as_fd())? {
            self.interrupt.check()?;
            self.entries += 1;
            self.root.grant_steps();
            let RecordedEntry { entry: mut found, sum, block, holes } = RecordedEntry::parse(&line)?;
            lower.at_block(block, holes);
            match found.kind {
                // Not in the tree.
                LayerEntryKind::LowerLink => continue,
                LayerEntryKind::Directory if found.is_implied => {
                    self.parent(&found.path)?;
                    continue;
                }
                LayerEntryKind::Whiteout => {
                    let (parent, name) = split_parent(&found.path);
                    found.path = below(parent, &[WHITEOUT_PREFIX, name].concat());
                }
                LayerEntryKind::Opaque => found.path = below(&found.path, OPAQUE_MARKER),
                _ => {}
            }
            self.entry(&entry_of(found), &mut LayerSource::Lower(lower, sum))?;
        }
        Ok(())
    }
}

impl<N: Nodes> TreeWriter<N> {
    /// Takes an entry without content.
    pub(crate) fn take(&mut self, entry: &Entry, lower: &mut N::Lower) -> Result<()> {
        self.interrupt.check()?;
        self.root.grant_steps();
        self.entry(entry, &mut LayerSource::Lower(lower, None))
    }
}

fn below(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}
