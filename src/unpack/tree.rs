//! The sink that makes a directory tree of entries.
//!
//! Every entry is one name in one open directory: created with `O_EXCL | O_NOFOLLOW`, after whatever had the name is
//! moved aside, so that no write ever goes through something that was there before (families 12 and 36). Directories get
//! their metadata at the end, deepest first, because filling one changes its times and its mode may forbid filling it.
//! What is kept until then is keyed by real paths: a directory that is replaced meanwhile takes its entry along
//! (family 13).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;

use super::content::{self, ContentSum, sum_of};
use super::extract::{ExtractOptions, ProgressCallback};
use super::files::{Files, Filling, Job, OpenFile, PRIVATE, Plan, create, same_name};
use super::links::Links;
use super::merge::{Layer, Merge};
use super::metadata::{Applier, Metadata, StatType};
use super::record::RecordWriter;
use super::root::{Dir, Missing, Root, fail, make_directory};
use super::trash::Trash;
use crate::error::{Error, Result, Status, quoted};
use crate::layer::{Anomalies, Data, Device, Entry, Kind, Progress, Reader, WHITEOUT_PREFIX, split_parent};
use crate::limits;
use crate::sys::{self, free_space, is_directory};

/// The longest name that file systems take (POSIX `NAME_MAX` on Linux and macOS).
const NAME_MAX: usize = 255;
/// From this size on it is worth a system call to ask whether a file has room before it is written.
pub(super) const LARGE_FILE: u64 = 1 << 20;
/// How many bytes of small files come between two looks at the free space, where the host wants some.
const LOOK: u64 = 16 << 20;
/// How far apart reports of progress are, in uncompressed bytes and in entries.
const REPORT_BYTES: u64 = 1 << 20;
const REPORT_ENTRIES: u64 = 256;

/// Where an entry goes.
pub(super) struct Place<'a> {
    pub(super) parent: &'a Arc<Dir>,
    pub(super) name: &'a [u8],
    /// Nothing of this layer has had the name.
    pub(super) is_free: bool,
}

/// A tree in the making.
pub(super) struct TreeWriter<'a> {
    pub(super) root: Root<'a>,
    pub(super) record: RecordWriter,
    pub(super) options: &'a ExtractOptions,
    pub(super) files: Files,
    applier: Applier,
    /// By real path.
    directories: BTreeMap<Vec<u8>, Metadata<'static>>,
    pub(super) links: Links,
    /// Real paths that lower layers lose: in the overlay forms all of them, in the form of markers those without one.
    pub(super) whiteouts: BTreeSet<Vec<u8>>,
    /// Where layers go on top of each other.
    pub(super) merge: Option<Merge>,
    pub(super) entries: u64,
    /// Hashes of the real paths that were used so far. A path whose hash is not here is free.
    used: HashSet<u64>,
    pub(super) hasher: RandomState,
    /// Bytes that went into what is kept.
    kept: u64,
    /// Bytes that are to stay free in the file system.
    min_free: u64,
    /// Bytes of files since the last look at the free space.
    unlooked: u64,
    /// Bytes of holes that may still be hashed.
    holes: u64,
    /// Is told how far it came in a layer.
    pub(super) progress: Option<ProgressCallback>,
    pub(super) reported: Progress,
    pub(super) anomalies: Anomalies,
}

impl<'a> TreeWriter<'a> {
    pub(super) fn new(
        root: OwnedFd,
        trash: Trash<'a>,
        record: RecordWriter,
        options: &'a ExtractOptions,
        min_free: u64,
    ) -> Result<TreeWriter<'a>> {
        let applier = Applier::new(options.form, root.as_fd())?;
        Ok(TreeWriter {
            root: Root::new(root, trash, options.limits.clone(), options.interrupt.clone()),
            record,
            options,
            files: Files::new(applier, options.interrupt.clone())?,
            applier,
            directories: BTreeMap::new(),
            links: Links::default(),
            whiteouts: BTreeSet::new(),
            merge: None,
            used: HashSet::default(),
            hasher: RandomState::new(),
            entries: 0,
            kept: 0,
            min_free,
            unlooked: 0,
            holes: content::HOLES,
            progress: options.progress.clone(),
            reported: Progress::default(),
            anomalies: Anomalies::default(),
        })
    }

    /// Takes all entries of a layer.
    pub(super) fn write(&mut self, reader: &mut Reader) -> Result<()> {
        let mut entry = Entry::default();
        while reader.next(&mut entry)? {
            self.options.interrupt.check()?;
            self.entries += 1;
            self.root.grant_steps();
            self.entry(&entry, &mut Layer::Archive(reader))?;
            self.report(reader.progress())?;
        }
        self.report_now(reader.progress())
    }

    /// Gives the directories their metadata; gives back the record and what was odd.
    pub(super) fn finish(mut self) -> Result<(RecordWriter, Anomalies)> {
        self.link_pending()?;
        self.files.finish()?;
        self.anomalies.insert(self.files.anomalies());
        let mut directories = std::mem::take(&mut self.directories);
        directories.entry(Vec::new()).or_insert_with(Metadata::implied);
        // Reverse order of paths puts every directory after what is in it.
        for (path, metadata) in directories.iter().rev() {
            self.options.interrupt.check()?;
            self.root.grant_steps();
            if let Some(dir) = self.root.dir(path, Missing::Leave)? {
                self.applier.apply(dir.as_fd(), metadata, false, path, &mut self.anomalies)?;
            }
        }
        Ok((self.record, self.anomalies))
    }

    pub(super) fn entry(&mut self, entry: &Entry, layer: &mut Layer<'_, '_>) -> Result<()> {
        if entry.path.is_empty() {
            self.keep_directory(Vec::new(), Metadata::of(entry).into_owned())?;
            return self.record.entry(b"", entry);
        }
        if self.merge.is_some() && matches!(entry.kind, Kind::Whiteout | Kind::Opaque) {
            return self.hide_lower(entry);
        }
        let (parent, name) = split_parent(&entry.path);
        let parent = self.parent(parent)?;
        let real_path = parent.join(name);
        let place = Place { parent: &parent, name, is_free: self.claim(&real_path)? };
        if entry.kind == Kind::Hardlink {
            return self.hardlink(&place, &entry.link, real_path);
        }
        self.links.forget(&real_path);
        if let Layer::Tree(lower) = layer
            && lower.is_linked()
            && entry.kind != Kind::Directory
        {
            return self.link_from(&place, entry, lower, &real_path);
        }
        match entry.kind {
            Kind::File => {
                let sum = match layer {
                    Layer::Archive(reader) => self.file(&place, entry, reader)?,
                    Layer::Tree(lower) => self.file_from(&place, entry, lower)?,
                };
                return self.record.file(&real_path, entry, sum);
            }
            Kind::Whiteout => return self.whiteout(&place, entry, &real_path),
            Kind::Opaque => return self.opaque(&place, entry, &real_path),
            Kind::Directory => self.directory(&place, entry, real_path.clone())?,
            Kind::Symlink => self.make(&place, entry, |dir| rustix::fs::symlinkat(&entry.link[..], dir, name))?,
            Kind::Fifo => {
                self.make(&place, entry, |dir| sys::make_fifo(dir.as_fd(), name, Mode::RUSR | Mode::WUSR))?;
            }
            Kind::CharDevice(device) => self.device(&place, entry, FileType::CharacterDevice, device)?,
            Kind::BlockDevice(device) => self.device(&place, entry, FileType::BlockDevice, device)?,
            // Dealt with above.
            Kind::Hardlink => {}
        }
        self.record.entry(&real_path, entry)
    }

    /// Notes that a name is used; true where it was not before. Where it was, what has it is there after this.
    fn claim(&mut self, real_path: &[u8]) -> Result<bool> {
        let is_free = self.used.insert(self.hasher.hash_one(real_path));
        self.mark_ours(real_path);
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

    /// The sum of the content, where there is one.
    fn file(&mut self, place: &Place<'_>, entry: &Entry, reader: &mut Reader) -> Result<Option<u64>> {
        if !entry.is_sparse {
            self.unlooked += entry.size;
            // Small files take of the host's reserve too.
            if entry.size >= LARGE_FILE || self.min_free > 0 && self.unlooked >= LOOK {
                self.unlooked = 0;
                self.check_space(place.parent, entry)?;
            }
        }
        let mut data = reader.data()?;
        // Holes may be at the end.
        let plan = Plan { size: entry.is_sparse.then_some(entry.size), ..Plan::of(entry) };
        let sum;
        if data.as_ref().is_none_or(|data| data.is_last) {
            let data = data.map(|data| (data.offset, data.bytes));
            (sum, self.holes) = sum_of(data.as_ref(), entry.size, self.holes);
            self.whole_file(place, plan, Filling::Data(data))?;
            return Ok(sum);
        }
        let mut content = ContentSum::new(self.holes);
        let file = Arc::new(self.open_file(place, plan)?);
        while let Some(Data { offset, bytes, is_last }) = data {
            content.update(offset, &bytes);
            let filling = Filling::Data(Some((offset, bytes)));
            if is_last {
                // Our own reference goes along: whoever has the last one finishes the file.
                self.files.submit(Job::Part { file, filling })?;
                break;
            }
            self.files.submit(Job::Part { file: file.clone(), filling })?;
            self.options.interrupt.check()?;
            self.report(reader.progress())?;
            data = reader.data()?;
        }
        (sum, self.holes) = content.finish(entry.size);
        Ok(sum)
    }

    pub(super) fn whole_file(&mut self, place: &Place<'_>, plan: Plan, filling: Filling) -> Result<()> {
        let job = if place.is_free {
            Job::Whole { parent: place.parent.clone(), plan, filling }
        } else {
            Job::Part { file: Arc::new(self.open_file(place, plan)?), filling }
        };
        self.files.submit(job)
    }

    fn open_file(&mut self, place: &Place<'_>, plan: Plan) -> Result<OpenFile> {
        let file = self.replacing(place, "create", &plan.path, |dir| create(dir, place.name, PRIVATE))?;
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

    /// A marker, or an empty file in place of a device.
    fn empty_file(&mut self, place: &Place<'_>, entry: &Entry) -> Result<()> {
        self.whole_file(place, Plan::of(entry), Filling::Data(None))
    }

    fn directory(&mut self, place: &Place<'_>, entry: &Entry, real_path: Vec<u8>) -> Result<()> {
        let Place { parent, name, is_free } = *place;
        let made = |made: Result<(), Errno>| made.map_err(|errno| fail(errno, "create directory", &entry.path));
        let is_new = match make_directory(parent.as_fd(), name) {
            Err(Errno::EXIST) if is_free => return Err(same_name(&entry.path)),
            Err(Errno::EXIST) => {
                let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|errno| fail(errno, "look at", &entry.path))?;
                let is_in_the_way = !is_directory(&stat);
                if is_in_the_way {
                    self.remove_hidden(parent, name)?;
                    made(make_directory(parent.as_fd(), name))?;
                }
                is_in_the_way
            }
            other => made(other).map(|()| true)?,
        };
        self.note_directory(&real_path, is_new)?;
        self.keep_directory(real_path, Metadata::of(entry).into_owned())
    }

    /// Symlinks, fifos and devices: made by name, never opened.
    fn make(&mut self, place: &Place<'_>, entry: &Entry, create: impl Fn(&Dir) -> Result<(), Errno>) -> Result<()> {
        self.replacing(place, "create", &entry.path, create)?;
        self.applier.apply_to_special(place.parent, place.name, entry, &mut self.anomalies)
    }

    /// D6: a device node only as root and when asked for; otherwise a file that says where one would be. In the overlay
    /// forms the device 0:0 is a whiteout and never a device (family 63).
    fn device(&mut self, place: &Place<'_>, entry: &Entry, file_type: FileType, device: Device) -> Result<()> {
        let is_whiteout = self.options.form.is_overlay() && device == Device { major: 0, minor: 0 };
        if !(self.options.form.device_nodes && self.applier.is_root()) || is_whiteout {
            self.anomalies.insert(Anomalies::DEVICE_PLACEHOLDER);
            return self.empty_file(place, entry);
        }
        let number = rustix::fs::makedev(device.major, device.minor);
        let mode = Mode::RUSR | Mode::WUSR;
        self.make(place, entry, |dir| sys::make_node(dir.as_fd(), place.name, file_type, mode, number))
    }

    /// The place has the name with its prefix. Whatever this layer itself has under the name stays (family 56); a directory
    /// of it hides the lower one (family 57).
    fn whiteout(&mut self, place: &Place<'_>, entry: &Entry, real_marker: &[u8]) -> Result<()> {
        let Place { parent, name: marker, .. } = *place;
        let is_overlay = self.options.form.is_overlay();
        if !is_overlay && marker.len() <= NAME_MAX {
            self.empty_file(place, entry)?;
            return self.record.entry(real_marker, entry);
        }
        let name = marker.get(WHITEOUT_PREFIX.len()..).unwrap_or_default();
        let real_path = parent.join(name);
        self.keep(real_path.len() as u64)?;
        if !self.whiteouts.insert(real_path.clone()) {
            // Said already.
            return Ok(());
        }
        if is_overlay {
            if let Some(directory) = self.directories.get_mut(&real_path) {
                directory.is_opaque = true;
            } else {
                let is_free = self.claim(&real_path)?;
                let (mode, number) = (Mode::empty(), rustix::fs::makedev(0, 0));
                match sys::make_node(parent.as_fd(), name, FileType::CharacterDevice, mode, number) {
                    Err(Errno::EXIST) if is_free => return Err(same_name(&real_path)),
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(fail(errno, "make a whiteout of", &real_path)),
                }
            }
        } else {
            // The record is the only place that can say so (family 61).
            self.anomalies.insert(Anomalies::LONG_WHITEOUT);
        }
        self.record.entry(real_marker, entry)
    }

    fn opaque(&mut self, place: &Place<'_>, entry: &Entry, real_marker: &[u8]) -> Result<()> {
        if !self.options.form.is_overlay() {
            self.empty_file(place, entry)?;
            return self.record.entry(real_marker, entry);
        }
        // Every directory of the tree is kept, but for the root, which may come later or not at all.
        let directory = self.directories.entry(place.parent.real_path.clone()).or_insert_with(Metadata::implied);
        let said_already = std::mem::replace(&mut directory.is_opaque, true);
        if said_already {
            // By a whiteout of the directory, or by a marker: then this line replaces that one's.
            self.keep(real_marker.len() as u64)?;
            self.record.superseded(real_marker);
        }
        self.record.entry(real_marker, entry)
    }

    /// Remembers a directory's metadata; the line for it comes after this.
    pub(super) fn keep_directory(&mut self, real_path: Vec<u8>, mut metadata: Metadata<'static>) -> Result<()> {
        let xattrs: usize = metadata.xattrs.iter().map(|(key, value)| key.len() + value.len()).sum();
        self.keep((real_path.len() + xattrs) as u64)?;
        metadata.is_opaque = self.options.form.is_overlay() && self.whiteouts.contains(&real_path);
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
        limit.check(&self.options.limits, self.kept.saturating_sub(128 * self.entries), || "layer")
    }

    /// Creates a name, after removing whatever has it.
    pub(super) fn replacing<T>(
        &mut self,
        place: &Place<'_>,
        action: &str,
        path: &[u8],
        create: impl Fn(&Dir) -> Result<T, Errno>,
    ) -> Result<T> {
        match create(place.parent) {
            Err(Errno::EXIST) if place.is_free => Err(same_name(path)),
            Err(Errno::EXIST) => {
                self.remove(place.parent, place.name)?;
                create(place.parent).map_err(|errno| fail(errno, action, path))
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
            self.note_gone(&gone)?;
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
}

pub(super) fn remove_range<V>(map: &mut BTreeMap<Vec<u8>, V>, prefix: &[u8]) {
    while let Some((key, _)) = map.range(prefix.to_vec()..).next().filter(|(key, _)| key.starts_with(prefix)) {
        let key = key.clone();
        map.remove(&key);
    }
}
