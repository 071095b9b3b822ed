//! The tree in the making: names, and what is kept of them until the end.
//!
//! Every entry is one name in one open directory: created with `O_EXCL | O_NOFOLLOW`, after
//! whatever had the name is moved aside. So no write ever goes through something that was there
//! before (families 12 and 36). Directories get their metadata at the end, deepest first, because
//! filling one changes its times and its mode may forbid filling it. What is kept until then is
//! keyed by real paths: a directory that is replaced meanwhile takes its entry along (family 13).
//!
//! What each kind of entry becomes is in [`super::write`]. Hard links are in [`super::hardlink`].
//! What a layer takes away of the ones below it in [`super::hide`]. All of them stand on the
//! operations here.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use super::aside::Aside;
use super::checksum;
use super::disk_nodes::DiskNodes;
use super::form::{TreeForm, TreeOptions};
use super::links::{Links, remove_range};
use super::metadata::{Metadata, StatType};
use super::nodes::{Lower, Nodes};
use super::order::{Arrival, LayerOrder, Position};
use super::progress::ProgressCallback;
use super::root_dir::{Dir, Missing, Root, fail};
use super::write_pool::{Filling, Plan, same_name};
use crate::error::{Error, Result, Status, quoted};
use crate::interrupt::Interrupt;
use crate::layer::{Anomalies, Progress};
use crate::limits::{self, LayerLimits};
use crate::record::RecordWriter;

/// How far apart reports of progress are, in uncompressed bytes and in entries.
const REPORT_BYTES: u64 = 1 << 20;
const REPORT_ENTRIES: u64 = 256;

/// Where an entry goes.
pub(super) struct Slot<'a, H> {
    pub(super) parent: &'a Arc<Dir<H>>,
    pub(super) name: &'a [u8],
    /// It is known that nothing of this layer has had the name.
    pub(super) is_free: bool,
}

/// A tree in the making.
pub(crate) struct TreeWriter<N: Nodes> {
    pub(super) root: Root<N>,
    pub(super) record: RecordWriter,
    pub(super) form: TreeForm,
    pub(super) limits: LayerLimits,
    pub(super) interrupt: Interrupt,
    /// By real path.
    pub(super) directories: BTreeMap<Vec<u8>, Metadata<'static>>,
    pub(super) links: Links<N::Identity>,
    /// Real paths that lower layers lose: in the overlay forms all of them, in the form of markers those without one.
    pub(super) whiteouts: BTreeSet<Vec<u8>>,
    /// The layer that is being written.
    pub(super) order: LayerOrder,
    pub(super) entries: u64,
    /// Hashes of the real paths that were used so far, where a look costs a system call. A path whose hash is not here is free.
    used: HashSet<u64>,
    pub(super) hasher: RandomState,
    /// Bytes that went into what is kept.
    kept: u64,
    /// Bytes of holes that may still be hashed.
    pub(super) holes: u64,
    /// Is told how far it came in a layer.
    progress: Option<ProgressCallback>,
    pub(super) reported: Progress,
    pub(super) anomalies: Anomalies,
}

impl<'a> TreeWriter<DiskNodes<'a>> {
    /// One that writes to an empty directory.
    pub(crate) fn on_disk(
        root: OwnedFd,
        trash: Aside<'a>,
        record: RecordWriter,
        options: &TreeOptions,
        interrupt: &Interrupt,
        min_free: u64,
    ) -> Result<TreeWriter<DiskNodes<'a>>> {
        let nodes = DiskNodes::new(root.as_fd(), trash, options.form, interrupt, min_free)?;
        Ok(TreeWriter::new(root, nodes, record, options, interrupt))
    }

    /// Owner and group of the files of this tree that nobody gave another one.
    pub(crate) fn born(&self) -> (u32, u32) {
        self.root.nodes.born()
    }
}

impl<N: Nodes> TreeWriter<N> {
    pub(crate) fn new(
        root: N::Handle,
        nodes: N,
        record: RecordWriter,
        options: &TreeOptions,
        interrupt: &Interrupt,
    ) -> TreeWriter<N> {
        let hasher = RandomState::new();
        TreeWriter {
            root: Root::new(root, nodes, options.limits.clone(), interrupt.clone()),
            record,
            form: options.form,
            limits: options.limits.clone(),
            interrupt: interrupt.clone(),
            directories: BTreeMap::new(),
            links: Links::default(),
            whiteouts: BTreeSet::new(),
            order: LayerOrder::new(Position::Alone, Arrival::Archive, hasher.clone()),
            used: HashSet::default(),
            hasher,
            entries: 0,
            kept: 0,
            holes: checksum::HOLES,
            progress: None,
            reported: Progress::default(),
            anomalies: Anomalies::default(),
        }
    }

    /// Notes that a name is used; true where it is known that it was not before. Otherwise, what has it is there after this.
    pub(super) fn claim(&mut self, real_path: &[u8]) -> Result<bool> {
        let is_free = N::NOTES_USED_NAMES && self.used.insert(self.hasher.hash_one(real_path));
        self.order.mark_ours(real_path);
        if !is_free {
            self.root.nodes.settle()?;
        }
        Ok(is_free)
    }

    /// The directory that an entry goes into, made where it is missing.
    pub(super) fn parent(&mut self, path: &[u8]) -> Result<Arc<Dir<N::Handle>>> {
        // A file that is not made yet may be in the way of what the walk would make.
        if self.root.nodes.are_pending() && !self.root.finds(path) {
            self.root.nodes.settle()?;
        }
        let dir = self.root.dir(path, Missing::Create)?;
        let created = self.root.take_created();
        self.note_walk(&created)?;
        self.drop_replaced()?;
        for path in created {
            self.claim(&path)?;
            self.links.forget(&path);
            self.keep_directory(path.clone(), Metadata::implied())?;
            self.record.implied_directory(&path)?;
        }
        dir.ok_or_else(|| Error::new(Status::Internal, format!("directory {} not made", quoted(path))))
    }

    pub(super) fn whole_file(
        &mut self,
        slot: &Slot<'_, N::Handle>,
        plan: Plan,
        filling: Filling<<N::Lower as Lower>::Original>,
    ) -> Result<()> {
        if slot.is_free {
            return self.root.nodes.whole_file(slot.parent, plan, filling);
        }
        let file = self.create_file(slot, &plan)?;
        self.root.nodes.fill(file, filling)
    }

    pub(super) fn create_file(&mut self, slot: &Slot<'_, N::Handle>, plan: &Plan) -> Result<N::File> {
        self.replacing(slot, "create", &plan.path, |nodes, at| nodes.create_file(at, slot.name, plan))
    }

    /// Remembers a directory's metadata; the line for it comes after this.
    pub(super) fn keep_directory(&mut self, real_path: Vec<u8>, mut metadata: Metadata<'static>) -> Result<()> {
        let xattrs: usize = metadata.xattrs.iter().map(|(key, value)| key.len() + value.len()).sum();
        self.keep((real_path.len() + xattrs) as u64)?;
        metadata.is_opaque = self.form.is_overlay() && self.whiteouts.contains(&real_path);
        metadata.stat_type = Some(StatType::Directory);
        if let Some(before) = self.directories.get_mut(&real_path) {
            metadata.is_opaque |= before.is_opaque;
            *before = metadata;
            self.record.superseded(&real_path);
        } else {
            self.directories.insert(real_path, metadata);
        }
        Ok(())
    }

    /// Memory is bounded by the number of entries, not by what they are called.
    pub(super) fn keep(&mut self, bytes: u64) -> Result<()> {
        self.kept += bytes;
        let kept = self.kept.saturating_add(self.root.nodes.kept_bytes());
        let limit = limits::KEPT_METADATA;
        limit.check(&self.limits, kept.saturating_sub(self.entries.saturating_mul(128)), || "layer")
    }

    /// Creates a name, after removing whatever has it.
    pub(super) fn replacing<T>(
        &mut self,
        slot: &Slot<'_, N::Handle>,
        action: &str,
        path: &[u8],
        create: impl Fn(&N, &N::Handle) -> Result<T, Errno>,
    ) -> Result<T> {
        match create(&self.root.nodes, slot.parent.handle()) {
            Err(Errno::EXIST) if slot.is_free => Err(same_name(path)),
            Err(Errno::EXIST) => {
                self.remove(slot.parent, slot.name)?;
                create(&self.root.nodes, slot.parent.handle()).map_err(|errno| fail(errno, action, path))
            }
            other => other.map_err(|errno| fail(errno, action, path)),
        }
    }

    /// Removes whatever has a name, and what was kept of it.
    pub(super) fn remove(&mut self, parent: &Dir<N::Handle>, name: &[u8]) -> Result<()> {
        self.root.remove(parent, name)?;
        self.drop_replaced()
    }

    /// Forgets what was kept for paths that are gone. That the layer hides such a path in lower layers stays true.
    pub(super) fn drop_replaced(&mut self) -> Result<()> {
        for gone in std::mem::take(&mut self.root.replaced) {
            self.order.note_gone(&gone)?;
            self.keep(gone.len() as u64)?;
            let below = [&gone[..], b"/"].concat();
            self.directories.remove(&gone);
            remove_range(&mut self.directories, &below);
            self.links.forget(&gone);
            self.links.forget_below(&below);
            while let Some(path) = self.whiteouts.range(below.clone()..).next().filter(|path| path.starts_with(&below))
            {
                let path = path.clone();
                self.whiteouts.remove(&path);
            }
            self.record.removed(&gone);
        }
        Ok(())
    }

    /// Whom to tell of progress in what follows.
    pub(crate) fn tell(&mut self, callback: Option<ProgressCallback>) {
        self.progress = callback;
    }

    /// Reports progress, but not more often than anybody can read it.
    pub(super) fn report(&mut self, progress: Progress) -> Result<()> {
        let far = progress.bytes_out - self.reported.bytes_out >= REPORT_BYTES
            || progress.entries - self.reported.entries >= REPORT_ENTRIES;
        if far && self.progress.is_some() { self.report_now(progress) } else { Ok(()) }
    }

    pub(super) fn report_now(&mut self, progress: Progress) -> Result<()> {
        self.reported = progress;
        self.progress.as_ref().map_or(Ok(()), |callback| callback.tell(&progress))
    }

    /// Removes what would have gone before all entries of the layer.
    pub(super) fn remove_hidden(&mut self, parent: &Dir<N::Handle>, name: &[u8]) -> Result<()> {
        self.order.set_hiding(true);
        let removed = self.remove(parent, name);
        self.order.set_hiding(false);
        removed
    }

    /// A walk went through symlinks, and made directories. Called before what it replaced is noted.
    pub(super) fn note_walk(&mut self, created: &[Vec<u8>]) -> Result<()> {
        if let Some(followed) = self.root.followed.as_mut().map(std::mem::take) {
            self.order.note_followed(followed);
        }
        created.iter().try_for_each(|path| self.order.note_new_directory(path))
    }

    /// Whether a name is one of a directory; `None` where nothing has it.
    pub(super) fn kind_of(&self, parent: &Dir<N::Handle>, name: &[u8]) -> Result<Option<bool>> {
        match self.root.nodes.look(parent.handle(), name) {
            Ok(node) => Ok(Some(node.is_directory)),
            Err(Errno::NOENT | Errno::NAMETOOLONG) => Ok(None),
            Err(errno) => Err(fail(errno, "look at", &parent.join(name))),
        }
    }

    pub(super) fn names(&self, dir: &Dir<N::Handle>) -> Result<Vec<Vec<u8>>> {
        self.root.nodes.names(dir.handle()).map_err(|errno| fail(errno, "list", &dir.real_path))
    }
}
