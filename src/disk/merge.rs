//! Layers on top of each other as one tree, by their records alone. The content of each file stays
//! where it is, on the disk of its layer. It is the merge of every root file system
//! ([`crate::unpack::Assembler`]), with nodes in memory.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::layer::{Anomalies, Entry, Kind};
use crate::limits::LayerLimits;
use crate::record::{Holes, RECORD_HEAD_LEN, RecordWriter};
use crate::unpack::{
    Arena, Assembler, Extent, MemoryTree, NoContent, ProgressCallback, ROOT, RecordedLayer, TreeOptions, TreeWriter,
};

/// What layers come to.
pub(crate) struct MergedTree {
    pub(super) tree: MemoryTree,
    /// Of files that have some, by where their content begins.
    pub(super) holes: HashMap<Extent, Holes>,
    /// What was odd about putting them on top of each other.
    pub(crate) anomalies: Anomalies,
    /// Entries of all layers.
    pub(crate) entries: u64,
}

impl MergedTree {
    /// A root with these directories in it, which are empty and have what `like` has: owner, mode, time and attributes.
    pub(crate) fn of_directories(names: &[&str], like: &Entry, interrupt: &Interrupt) -> Result<MergedTree> {
        let options = TreeOptions { limits: LayerLimits::unlimited(), ..TreeOptions::default() };
        let no_record = RecordWriter::new(None, options.limits.clone());
        let mut nothing = NoContent;
        let mut writer = TreeWriter::new(ROOT, Arena::new(&mut nothing, false), no_record, &options, interrupt);
        for name in names {
            let entry = Entry {
                path: name.as_bytes().to_vec(),
                kind: Kind::Directory,
                mode: like.mode,
                uid: like.uid,
                gid: like.gid,
                mtime: like.mtime,
                xattrs: like.xattrs.clone(),
                ..Entry::default()
            };
            writer.take(&entry, &mut RecordedLayer::new(0))?;
        }
        let (.., nodes) = writer.finish()?;
        let (tree, anomalies) = (nodes.into_tree()?, Anomalies::default());
        Ok(MergedTree { tree, holes: HashMap::new(), anomalies, entries: 0 })
    }

    pub(crate) fn into_tree(self) -> MemoryTree {
        self.tree
    }

    /// What the root has, as an entry.
    pub(crate) fn root(&self) -> Entry {
        let root = self.tree.inode(ROOT);
        Entry {
            kind: Kind::Directory,
            mode: root.mode.into(),
            uid: root.uid,
            gid: root.gid,
            mtime: root.mtime,
            xattrs: self.tree.xattrs(ROOT).to_vec(),
            ..Entry::default()
        }
    }
}

/// Puts layers on top of each other, the lowest first.
pub(crate) struct Merge<'a> {
    assembler: Assembler<Arena<'a>>,
    holes: HashMap<Extent, Holes>,
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
        let assembler = Assembler::of(TreeWriter::new(ROOT, nodes, no_record, options, interrupt));
        Merge { assembler, holes: HashMap::new() }
    }

    /// The next layer, whose disk is the one of this number.
    pub(crate) fn layer(&mut self, record: &OwnedFd, part: u16, progress: Option<ProgressCallback>) -> Result<()> {
        self.assembler.tell(progress);
        let mut layer = RecordedLayer::new(part);
        self.assembler.record(record, &mut layer)?;
        self.holes.extend(layer.into_holes());
        Ok(())
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
        Ok(MergedTree { tree, holes: self.holes, anomalies, entries })
    }
}
