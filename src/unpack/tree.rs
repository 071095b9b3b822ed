//! The tree in the making: names, and what is kept of them until the end.
//!
//! Every entry is one name in one open directory: created with `O_EXCL | O_NOFOLLOW`, after whatever had the name is
//! moved aside, so that no write ever goes through something that was there before (families 12 and 36). Directories get
//! their metadata at the end, deepest first, because filling one changes its times and its mode may forbid filling it.
//! What is kept until then is keyed by real paths: a directory that is replaced meanwhile takes its entry along
//! (family 13).
//!
//! What each kind of entry becomes is in [`super::write`], hard links are in [`super::hardlink`], and what a layer takes
//! away of the ones below it in [`super::hide`]; all of them stand on the operations here.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::aside::Aside;
use super::checksum;
use super::form::{TreeForm, TreeOptions};
use super::links::{Links, remove_range};
use super::metadata::{Applier, Metadata, StatType};
use super::order::{Arrival, LayerOrder, Position};
use super::progress::ProgressCallback;
use super::root_dir::{Dir, Missing, Root, fail};
use super::write_pool::{Filling, Job, OpenFile, PRIVATE, Plan, WritePool, create, same_name};
use crate::error::{Error, Result, Status, quoted};
use crate::interrupt::Interrupt;
use crate::layer::{Anomalies, Entry, Progress};
use crate::limits::{self, LayerLimits};
use crate::record::RecordWriter;
use crate::sys::{free_space, is_directory};

/// How far apart reports of progress are, in uncompressed bytes and in entries.
const REPORT_BYTES: u64 = 1 << 20;
const REPORT_ENTRIES: u64 = 256;

/// Where an entry goes.
pub(super) struct Slot<'a> {
    pub(super) parent: &'a Arc<Dir>,
    pub(super) name: &'a [u8],
    /// Nothing of this layer has had the name.
    pub(super) is_free: bool,
}

/// A tree in the making.
pub(crate) struct TreeWriter<'a> {
    pub(super) root: Root<'a>,
    pub(super) record: RecordWriter,
    pub(super) form: TreeForm,
    pub(super) limits: LayerLimits,
    pub(super) interrupt: Interrupt,
    pub(super) files: WritePool,
    pub(super) applier: Applier,
    /// By real path.
    pub(super) directories: BTreeMap<Vec<u8>, Metadata<'static>>,
    pub(super) links: Links,
    /// Real paths that lower layers lose: in the overlay forms all of them, in the form of markers those without one.
    pub(super) whiteouts: BTreeSet<Vec<u8>>,
    /// The layer that is being written.
    pub(super) order: LayerOrder,
    pub(super) entries: u64,
    /// Hashes of the real paths that were used so far. A path whose hash is not here is free.
    used: HashSet<u64>,
    pub(super) hasher: RandomState,
    /// Bytes that went into what is kept.
    kept: u64,
    /// Bytes that are to stay free in the file system.
    pub(super) min_free: u64,
    /// Bytes of files since the last look at the free space.
    pub(super) unlooked: u64,
    /// Bytes of holes that may still be hashed.
    pub(super) holes: u64,
    /// Is told how far it came in a layer.
    progress: Option<ProgressCallback>,
    pub(super) reported: Progress,
    pub(super) anomalies: Anomalies,
}

impl<'a> TreeWriter<'a> {
    pub(crate) fn new(
        root: OwnedFd,
        trash: Aside<'a>,
        record: RecordWriter,
        options: &TreeOptions,
        interrupt: &Interrupt,
        min_free: u64,
    ) -> Result<TreeWriter<'a>> {
        let applier = Applier::new(options.form, root.as_fd())?;
        let hasher = RandomState::new();
        Ok(TreeWriter {
            root: Root::new(root, trash, options.limits.clone(), interrupt.clone()),
            record,
            form: options.form,
            limits: options.limits.clone(),
            interrupt: interrupt.clone(),
            files: WritePool::new(applier, interrupt.clone())?,
            applier,
            directories: BTreeMap::new(),
            links: Links::default(),
            whiteouts: BTreeSet::new(),
            order: LayerOrder::new(Position::Alone, Arrival::Archive, hasher.clone()),
            used: HashSet::default(),
            hasher,
            entries: 0,
            kept: 0,
            min_free,
            unlooked: 0,
            holes: checksum::HOLES,
            progress: None,
            reported: Progress::default(),
            anomalies: Anomalies::default(),
        })
    }

    /// Notes that a name is used; true where it was not before. Where it was, what has it is there after this.
    pub(super) fn claim(&mut self, real_path: &[u8]) -> Result<bool> {
        let is_free = self.used.insert(self.hasher.hash_one(real_path));
        self.order.mark_ours(real_path);
        if !is_free {
            self.files.finish()?;
        }
        Ok(is_free)
    }

    /// The directory that an entry goes into, made where it is missing.
    pub(super) fn parent(&mut self, path: &[u8]) -> Result<Arc<Dir>> {
        // A file that is not made yet may be in the way of what the walk would make.
        if self.files.are_pending() && !self.root.finds(path) {
            self.files.finish()?;
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

    pub(super) fn whole_file(&mut self, slot: &Slot<'_>, plan: Plan, filling: Filling) -> Result<()> {
        let job = if slot.is_free {
            Job::Whole { parent: slot.parent.clone(), plan, filling }
        } else {
            Job::Part { file: Arc::new(self.open_file(slot, plan)?), filling }
        };
        self.files.submit(job)
    }

    pub(super) fn open_file(&mut self, slot: &Slot<'_>, plan: Plan) -> Result<OpenFile> {
        let file = self.replacing(slot, "create", &plan.path, |dir| create(dir, slot.name, PRIVATE))?;
        Ok(OpenFile::new(file, plan))
    }

    /// A full disk that is known beforehand is not filled first.
    pub(super) fn check_space(&self, parent: &Dir, entry: &Entry) -> Result<()> {
        // Where it cannot be asked, writing will tell.
        let Ok((free, _)) = free_space(parent.as_fd()) else { return Ok(()) };
        if entry.size.saturating_add(self.min_free) <= free {
            return Ok(());
        }
        let kept =
            if self.min_free > 0 { format!(", of which {} are to stay free", self.min_free) } else { String::new() };
        Err(Error::no_space(format!("{}: {} bytes to write, {free} free{kept}", quoted(&entry.path), entry.size)))
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
        let limit = limits::KEPT_METADATA;
        limit.check(&self.limits, self.kept.saturating_sub(128 * self.entries), || "layer")
    }

    /// Creates a name, after removing whatever has it.
    pub(super) fn replacing<T>(
        &mut self,
        slot: &Slot<'_>,
        action: &str,
        path: &[u8],
        create: impl Fn(&Dir) -> Result<T, Errno>,
    ) -> Result<T> {
        match create(slot.parent) {
            Err(Errno::EXIST) if slot.is_free => Err(same_name(path)),
            Err(Errno::EXIST) => {
                self.remove(slot.parent, slot.name)?;
                create(slot.parent).map_err(|errno| fail(errno, action, path))
            }
            other => other.map_err(|errno| fail(errno, action, path)),
        }
    }

    /// Removes whatever has a name, and what was kept of it.
    pub(super) fn remove(&mut self, parent: &Dir, name: &[u8]) -> Result<()> {
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

    /// Owner and group of the files of this tree that nobody gave another one.
    pub(crate) fn born(&self) -> (u32, u32) {
        self.applier.born()
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
    pub(super) fn remove_hidden(&mut self, parent: &Dir, name: &[u8]) -> Result<()> {
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
}

/// Whether a name is one of a directory; `None` where nothing has it.
pub(super) fn kind_of(parent: &Dir, name: &[u8]) -> Result<Option<bool>> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(is_directory(&stat))),
        Err(Errno::NOENT | Errno::NAMETOOLONG) => Ok(None),
        Err(errno) => Err(fail(errno, "look at", &parent.join(name))),
    }
}

pub(super) fn names(dir: &Dir) -> Result<Vec<Vec<u8>>> {
    let failed = |errno| fail(errno, "list", &dir.real_path);
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}
