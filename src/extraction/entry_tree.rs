//! The tree of a layer that does not exist yet: whoever packs the layer gives its entries here, too. So nothing is unpacked
//! afterwards.
//!
//! Where the file system can share blocks, a file is cloned before it is read ([`EntryTree::snapshot`]). The clone is what is
//! packed, and what the tree gets. So both have the same content, whoever writes to the file meanwhile. Where it cannot, this is
//! not used: a tree that was copied beside the archive would have to be compared with it.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use super::{ExtractOptions, record_file_of};
use crate::digest::Digest;
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::layer::Entry;
use crate::record::{RecordHead, RecordWriter, TreeOwner};
use crate::store::{EXTRACTION_LOCK, Folder, Lock, Partial, Storage};
use crate::sys;
use crate::unpack::{ContentSum, DiskNodes, TreeOptions, TreeWriter};

/// A tree in the making. Dropping it leaves nothing.
pub(crate) struct EntryTree<'a> {
    storage: &'a Storage,
    writer: TreeWriter<DiskNodes<'a>>,
    tree: Partial,
    record: Partial,
    maker: TreeOwner,
    /// Says that somebody makes it, as for any tree ([`crate::store`]).
    held: Lock,
}

impl Storage {
    /// Begins the tree of a layer whose digest nobody knows yet.
    pub(crate) fn begin_tree(&self, how: &TreeOptions, interrupt: &Interrupt) -> Result<EntryTree<'_>> {
        how.form.check_possible()?;
        self.make_room(0, "a layer's tree", interrupt)?;
        let name = how.form.tree_name(&Digest::of(uuid::Uuid::new_v4().as_bytes()));
        let lock = Lock::acquire(&self.directory, format!("{EXTRACTION_LOCK}{name}"), interrupt)?;
        let tree = Partial::create_tree(&self.directory, Folder::Extracted, &name)?;
        let record = self.new_record(&name)?;
        let lines = RecordWriter::new(Some(record_file_of(&record)?), how.limits.clone());
        let writer = self.tree_writer(&tree, name, lines, how, interrupt)?;
        let maker = TreeOwner::new(writer.born());
        Ok(EntryTree { storage: self, writer, tree, record, maker, held: lock })
    }
}

impl EntryTree<'_> {
    /// What a file has now, which nobody writes to any more. `None` where its blocks cannot be shared.
    pub(crate) fn snapshot(&self, file: BorrowedFd<'_>) -> Option<OwnedFd> {
        let clone = sys::unnamed_file(self.tree.handle().as_fd()).ok()?;
        sys::reflink(clone.as_fd(), file).ok()?;
        Some(clone)
    }

    /// Takes an entry without content.
    pub(crate) fn take_node(&mut self, entry: &Entry) -> Result<()> {
        self.writer.take_node(entry)
    }

    /// For the content of the file that comes next.
    pub(crate) fn content_sum(&self) -> ContentSum {
        self.writer.content_sum()
    }

    /// Takes a file with what [`EntryTree::snapshot`] gave; `None` for an empty one.
    pub(crate) fn take_file(&mut self, entry: &Entry, content: Option<OwnedFd>, sum: ContentSum) -> Result<()> {
        self.writer.take_file(entry, content, sum)
    }

    /// Gives it the name of the layer that it is of, unless that has a tree by now.
    pub(crate) fn publish(self, digest: &Digest, diff_id: &Digest, options: &ExtractOptions) -> Result<()> {
        let EntryTree { storage, writer, tree, record, maker, held: _held } = self;
        let (lines, anomalies, _) = writer.finish()?;
        options.tree.check_strict(anomalies, format_args!("layer {digest}"))?;
        let name = options.tree.form.tree_name(digest);
        let _lock = Lock::acquire(&storage.directory, format!("{EXTRACTION_LOCK}{name}"), &options.interrupt)?;
        if storage.cached_tree(&name, digest, options)?.is_some() {
            return Ok(());
        }
        storage.take_old_tree_away(&name)?;
        let head = RecordHead {
            layer: digest.to_string(),
            diff_id: Some(diff_id.clone()),
            anomalies: Some(anomalies.bits()),
            content: None,
            lines: None,
            maker: Some(maker),
            recipe: None,
            validity: storage.validity_of_new_trees(),
        };
        let new = storage.complete_record(&name, tree, (record, lines), head, &options.interrupt)?;
        storage.publish(&name, new, &options.interrupt)
    }
}
