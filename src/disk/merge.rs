//! Layers on top of each other as one tree, by their records alone. The content of each file stays
//! where it is, on the disk of its layer. It is the merge of every root file system
//! ([`crate::unpack::Assembler`]), with nodes in memory.

use std::os::fd::OwnedFd;

use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::layer::Anomalies;
use crate::record::{RECORD_HEAD_LEN, RecordWriter};
use crate::unpack::{
    Arena, Assembler, MemoryTree, NoContent, ProgressCallback, ROOT, RecordedLayer, TreeOptions, TreeWriter,
};

/// What layers come to.
pub(crate) struct MergedTree {
    pub(super) tree: MemoryTree,
    /// What was odd about putting them on top of each other.
    pub(crate) anomalies: Anomalies,
    /// Entries of all layers.
    pub(crate) entries: u64,
}

/// Puts layers on top of each other, the lowest first.
pub(crate) struct Merge<'a> {
    assembler: Assembler<Arena<'a>>,
}

impl<'a> Merge<'a> {
    /// A file has at most so many names; what would be a further one is a copy (decision D4).
    pub(crate) fn new(
        nothing: &'a mut NoContent,
        max_links: u32,
        options: &TreeOptions,
        interrupt: &Interrupt,
    ) -> Merge<'a> {
        let no_record = RecordWriter::new(None, options.limits.clone());
        let nodes = Arena::new(nothing, false).with_max_links(max_links);
        Merge { assembler: Assembler::of(TreeWriter::new(ROOT, nodes, no_record, options, interrupt)) }
    }

    /// The next layer, whose disk is the one of this number.
    pub(crate) fn layer(&mut self, record: &OwnedFd, part: u16, progress: Option<ProgressCallback>) -> Result<()> {
        self.assembler.tell(progress);
        self.assembler.record(record, &mut RecordedLayer::new(part))
    }

    /// Entries so far.
    pub(crate) fn entries(&self) -> u64 {
        self.assembler.entries()
    }

    /// The whole; what was modified after `max_mtime`, in seconds since 1970, was modified then.
    pub(crate) fn finish(self, max_mtime: Option<i64>) -> Result<MergedTree> {
        let entries = self.assembler.entries();
        // There is no record whose head this would be.
        let no_head = |_, _| [b'\n'; RECORD_HEAD_LEN];
        let no_record = || Err(crate::error::Error::new(crate::error::Status::Internal, "a record that nobody wants"));
        let (nodes, anomalies) = self.assembler.finish(no_head, no_record)?;
        let mut tree = nodes.into_tree()?;
        if let Some(latest) = max_mtime {
            tree.limit_mtimes(latest);
        }
        Ok(MergedTree { tree, anomalies, entries })
    }
}
