//! Layers on top of each other in one tree. Each takes away what its whiteouts hide, and adds or
//! replaces the rest (OCI image-spec, layer.md, "Applying Changesets").
//!
//! A layer comes out of its extracted tree, by its metadata record, or as an archive, and the result is the same. The record
//! is a list that can be read twice, so what it hides goes first, from the top down. An archive comes once; there
//! [`super::order`] knows which paths are the layer's own, and [`super::hide`] takes out what is around them.

use std::os::fd::{AsFd as _, OwnedFd};

use super::aside::{Aside, AsideDir};
use super::disk_nodes::DiskNodes;
use super::form::TreeOptions;
use super::lower::{CopyMode, LayerSource, LowerTree};
use super::nodes::{Lower as _, Nodes};
use super::order::{Arrival, LayerOrder, Position};
use super::progress::ProgressCallback;
use super::root_dir::Missing;
use super::tree::TreeWriter;
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::layer::{Anomalies, Entry, Kind, Progress, Reader, split_parent};
use crate::record::{
    LayerEntry, LayerEntryKind, RECORD_HEAD_LEN, RecordFile, RecordLines, RecordWriter, RecordedEntry,
};

/// What makes way before a layer's entries come. In this order where the path is the same.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Hidden {
    Whiteout,
    /// What is no directory and has the name of one.
    NoDirectory,
    Content,
}

impl<N: Nodes> TreeWriter<N> {
    fn begin_layer(&mut self, arrival: Arrival) {
        let position = if self.entries == 0 { Position::Lowest } else { Position::Above };
        self.order = LayerOrder::new(position, arrival, self.hasher.clone());
        self.root.begin_layer();
        self.root.followed = self.order.is_tracked().then(Vec::new);
        self.reported = Progress::default();
    }

    fn layer_of_record(&mut self, record: &OwnedFd, lower: &mut N::Lower) -> Result<()> {
        if self.entries > 0 {
            self.hide_all(record)?;
        }
        let mut lines = RecordLines::default();
        let mut progress = Progress::default();
        while let Some(line) = lines.next(record.as_fd())? {
            self.interrupt.check()?;
            self.root.grant_steps();
            let RecordedEntry { entry: found, sum, block, holes } = RecordedEntry::parse(&line)?;
            self.entries += u64::from(!found.is_implied);
            lower.at_block(block, holes);
            match found.kind {
                LayerEntryKind::Whiteout => continue,
                LayerEntryKind::Opaque => {
                    self.parent(&found.path)?;
                    continue;
                }
                // Made where something is put into it, and otherwise only there because of a whiteout (family 52).
                LayerEntryKind::Directory if found.is_implied => continue,
                _ => {}
            }
            let entry = entry_of(found);
            progress.bytes_out += entry.size;
            progress.entries += 1;
            self.entry(&entry, &mut LayerSource::Lower(lower, sum))?;
            self.keep(0)?;
            self.report(progress)?;
        }
        self.report_now(progress)
    }

    /// What a record hides goes before anything of it comes, and what is above goes first. A
    /// whiteout is not to lead through a symlink that the layer replaces (family 55).
    fn hide_all(&mut self, record: &OwnedFd) -> Result<()> {
        let mut hidden = Vec::new();
        let mut lines = RecordLines::default();
        while let Some(line) = lines.next(record.as_fd())? {
            self.interrupt.check()?;
            if !line.may_hide() {
                continue;
            }
            let found = RecordedEntry::parse(&line)?.entry;
            let what = match found.kind {
                LayerEntryKind::Whiteout => Hidden::Whiteout,
                LayerEntryKind::Directory if !found.is_implied => Hidden::NoDirectory,
                LayerEntryKind::Opaque => Hidden::Content,
                _ => continue,
            };
            hidden.push((found.path, what));
        }
        hidden.sort_unstable();
        for (path, what) in hidden {
            self.interrupt.check()?;
            self.root.grant_steps();
            if what == Hidden::Content {
                if let Some(dir) = self.root.dir(&path, Missing::Leave)? {
                    for name in self.names(&dir)? {
                        self.remove(&dir, &name)?;
                    }
                }
                continue;
            }
            let (parent, name) = split_parent(&path);
            let Some(parent) = self.root.dir(parent, Missing::Leave)? else { continue };
            match self.kind_of(&parent, name)? {
                None => {}
                Some(true) if what == Hidden::NoDirectory => {}
                Some(_) => self.remove(&parent, name)?,
            }
        }
        Ok(())
    }
}

/// Puts layers on top of each other, the lowest first.
pub(crate) struct Assembler<N: Nodes> {
    writer: TreeWriter<N>,
}

impl<'a> Assembler<DiskNodes<'a>> {
    /// Into an empty directory. `bin` makes a directory of the same file system for what is replaced.
    pub(crate) fn new(
        root: OwnedFd,
        bin: impl Fn() -> Result<OwnedFd> + 'a,
        record: Option<RecordFile>,
        options: &TreeOptions,
        interrupt: &Interrupt,
    ) -> Result<Assembler<DiskNodes<'a>>> {
        let trash = Aside::new(move || Ok(AsideDir { handle: bin()?, _owner: Box::new(()) }));
        let record = RecordWriter::new(record, options.limits.clone());
        Ok(Assembler::of(TreeWriter::on_disk(root, trash, record, options, interrupt, 0)?))
    }

    /// The next layer, out of its extracted tree and the record of that.
    pub(crate) fn tree(&mut self, tree: OwnedFd, record: &OwnedFd, taking: CopyMode) -> Result<()> {
        let mut lower = LowerTree::new(tree, taking, self.writer.limits.clone(), self.writer.interrupt.clone());
        self.record(record, &mut lower)
    }
}

impl<N: Nodes> Assembler<N> {
    /// Into whatever the writer writes to.
    pub(crate) fn of(writer: TreeWriter<N>) -> Assembler<N> {
        Assembler { writer }
    }

    /// The next layer, as its archive is read.
    pub(crate) fn archive(&mut self, reader: &mut Reader) -> Result<()> {
        self.writer.begin_layer(Arrival::Archive);
        self.writer.write(reader)?;
        self.end_layer()
    }

    /// Whom to tell of progress in the layers that follow.
    pub(crate) fn tell(&mut self, callback: Option<ProgressCallback>) {
        self.writer.tell(callback);
    }

    /// The next layer, as its record says, and where the content of its files is.
    pub(crate) fn record(&mut self, record: &OwnedFd, lower: &mut N::Lower) -> Result<()> {
        self.writer.begin_layer(Arrival::Record);
        self.writer.layer_of_record(record, lower)?;
        self.end_layer()
    }

    fn end_layer(&mut self) -> Result<()> {
        self.writer.link_pending()?;
        self.writer.root.nodes.settle()
    }

    /// Why the last layer failed: its archive has to be unpacked by itself, and everything to begin again.
    pub(crate) fn is_out_of_order(&self) -> bool {
        self.writer.order.is_out_of_order()
    }

    /// Entries of all layers so far.
    pub(crate) fn entries(&self) -> u64 {
        self.writer.entries
    }

    /// Gives all directories their metadata, and completes the record; the nodes, and what was odd.
    pub(crate) fn finish(
        self,
        head: impl FnOnce(u64, u64) -> [u8; RECORD_HEAD_LEN],
        successor: impl FnOnce() -> Result<RecordFile>,
    ) -> Result<(N, Anomalies)> {
        let interrupt = self.writer.interrupt.clone();
        let (record, anomalies, nodes) = self.writer.finish()?;
        record.finish(head, successor, &interrupt)?;
        Ok((nodes, anomalies))
    }
}

/// What a record says, as a layer would.
pub(super) fn entry_of(found: LayerEntry) -> Entry {
    let device = found.device;
    Entry {
        path: found.path,
        kind: match found.kind {
            LayerEntryKind::File => Kind::File,
            LayerEntryKind::Directory => Kind::Directory,
            LayerEntryKind::Symlink => Kind::Symlink,
            LayerEntryKind::Hardlink | LayerEntryKind::LowerLink => Kind::Hardlink,
            LayerEntryKind::Fifo => Kind::Fifo,
            LayerEntryKind::CharDevice => Kind::CharDevice(device),
            LayerEntryKind::BlockDevice => Kind::BlockDevice(device),
            LayerEntryKind::Whiteout => Kind::Whiteout,
            LayerEntryKind::Opaque => Kind::Opaque,
        },
        size: found.size,
        is_sparse: false,
        link: found.link,
        mode: found.mode,
        uid: found.uid,
        gid: found.gid,
        mtime: found.mtime,
        xattrs: found.xattrs,
    }
}
