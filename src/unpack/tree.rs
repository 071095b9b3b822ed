//! The sink that makes a directory tree of entries.
//!
//! Every entry is one name in one open directory: created with `O_EXCL | O_NOFOLLOW`, after whatever had the name is
//! moved aside, so that no write ever goes through something that was there before (families 12 and 36). Directories get
//! their metadata at the end, deepest first, because filling one changes its times and its mode may forbid filling it.
//! What is kept until then is keyed by real paths: a directory that is replaced meanwhile takes its entry along
//! (family 13).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::extract::ExtractOptions;
use super::files::{End, Files, Job};
use super::links::Links;
use super::metadata::{Applier, Metadata, StatType};
use super::record::RecordWriter;
use super::root::{Dir, Missing, Root, fail, make_directory};
use super::trash::Trash;
use crate::error::{Error, Result, Status, quoted};
use crate::layer::{Anomalies, Device, Entry, Kind, Progress, Reader, WHITEOUT_PREFIX, split_parent};
use crate::limits;
use crate::store::is_directory;

/// The longest name that file systems take (POSIX `NAME_MAX` on Linux and macOS).
const NAME_MAX: usize = 255;
/// From this size on it is worth a system call to ask whether a file has room before it is written.
const LARGE_FILE: u64 = 1 << 20;
/// How far apart reports of progress are, in uncompressed bytes and in entries.
const REPORT_BYTES: u64 = 1 << 20;
const REPORT_ENTRIES: u64 = 256;

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
    entries: u64,
    /// Bytes that went into what is kept.
    kept: u64,
    reported: Progress,
    pub(super) anomalies: Anomalies,
}

impl<'a> TreeWriter<'a> {
    pub(super) fn new(
        root: OwnedFd,
        trash: Trash<'a>,
        record: RecordWriter,
        options: &'a ExtractOptions,
    ) -> Result<TreeWriter<'a>> {
        let applier = Applier::new(options.form);
        Ok(TreeWriter {
            root: Root::new(root, trash, options.limits.clone(), options.interrupt.clone()),
            record,
            options,
            files: Files::new(applier, options.interrupt.clone())?,
            applier,
            directories: BTreeMap::new(),
            links: Links::default(),
            whiteouts: BTreeSet::new(),
            entries: 0,
            kept: 0,
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
            self.entry(&entry, reader)?;
            self.report(reader.progress())?;
        }
        self.report_now(reader.progress())
    }

    /// Gives the directories their metadata; gives back the record and what was odd.
    pub(super) fn finish(mut self) -> Result<(RecordWriter, Anomalies)> {
        self.link_pending()?;
        self.anomalies.insert(self.files.finish()?);
        let mut directories = std::mem::take(&mut self.directories);
        directories.entry(Vec::new()).or_insert_with(Metadata::implied);
        // Reverse order of paths puts every directory after what is in it.
        for (path, metadata) in directories.iter().rev() {
            self.options.interrupt.check()?;
            self.root.grant_steps();
            if let Some(dir) = self.root.dir(path, Missing::Leave)? {
                self.applier.apply(dir.as_fd(), metadata, path, &mut self.anomalies)?;
            }
        }
        Ok((self.record, self.anomalies))
    }

    fn entry(&mut self, entry: &Entry, reader: &mut Reader) -> Result<()> {
        if entry.path.is_empty() {
            self.keep_directory(Vec::new(), Metadata::of(entry).into_owned())?;
            return self.record.entry(b"", entry);
        }
        let (parent, name) = split_parent(&entry.path);
        let parent = self.parent(parent)?;
        let real_path = parent.join(name);
        if entry.kind == Kind::Hardlink {
            return self.hardlink(&parent, name, &entry.link, real_path);
        }
        self.links.forget(&real_path);
        match entry.kind {
            Kind::File => self.file(&parent, name, entry, reader)?,
            Kind::Whiteout => return self.whiteout(&parent, name, entry, &real_path),
            Kind::Opaque => return self.opaque(&parent, name, entry, &real_path),
            Kind::Directory => self.directory(&parent, name, entry, real_path.clone())?,
            Kind::Symlink => {
                self.make(&parent, name, entry, |dir| rustix::fs::symlinkat(&entry.link[..], dir, name))?
            }
            Kind::Fifo => {
                self.make(&parent, name, entry, |dir| rustix::fs::mkfifoat(dir, name, Mode::RUSR | Mode::WUSR))?;
            }
            Kind::CharDevice(device) => self.device(&parent, name, entry, FileType::CharacterDevice, device)?,
            Kind::BlockDevice(device) => self.device(&parent, name, entry, FileType::BlockDevice, device)?,
            // Dealt with above.
            Kind::Hardlink => {}
        }
        self.record.entry(&real_path, entry)
    }

    /// The directory that an entry goes into, made where it is missing.
    pub(super) fn parent(&mut self, path: &[u8]) -> Result<Rc<Dir>> {
        let dir = self.root.dir(path, Missing::Create)?;
        self.drop_replaced()?;
        for path in self.root.take_created() {
            self.links.forget(&path);
            self.keep_directory(path.clone(), Metadata::implied())?;
            self.record.implied_directory(&path)?;
        }
        dir.ok_or_else(|| Error::new(Status::Internal, format!("directory {} not made", quoted(path))))
    }

    fn file(&mut self, parent: &Dir, name: &[u8], entry: &Entry, reader: &mut Reader) -> Result<()> {
        if entry.size >= LARGE_FILE && !entry.is_sparse {
            self.check_space(parent, entry)?;
        }
        let file = Arc::new(self.create_file(parent, name, entry)?);
        let path: Arc<[u8]> = entry.path.as_slice().into();
        loop {
            let data = reader.data()?;
            let end = data.as_ref().is_none_or(|data| data.is_last).then(|| {
                let data_end = data.as_ref().map_or(0, |data| data.offset + data.bytes.len() as u64);
                // Holes, or nothing at all, at the end.
                let size = (data_end != entry.size).then_some(entry.size);
                End { metadata: Metadata::of(entry).into_owned(), size }
            });
            let is_end = end.is_some();
            let data = data.map(|data| (data.offset, data.bytes));
            self.files.submit(Job { file: file.clone(), path: path.clone(), data, end })?;
            if is_end {
                return Ok(());
            }
            self.options.interrupt.check()?;
            self.report(reader.progress())?;
        }
    }

    /// A full disk that is known beforehand is not filled first.
    fn check_space(&self, parent: &Dir, entry: &Entry) -> Result<()> {
        // Where it cannot be asked, writing will tell.
        let Ok(status) = rustix::fs::fstatvfs(parent) else { return Ok(()) };
        // Some file systems in user space say nothing of their size.
        if status.f_blocks == 0 {
            return Ok(());
        }
        let blocks = if self.applier.is_root() { status.f_bfree } else { status.f_bavail };
        let free = blocks.saturating_mul(status.f_frsize);
        if entry.size <= free {
            return Ok(());
        }
        let why = format!("{}: {} bytes to write, {free} free", quoted(&entry.path), entry.size);
        Err(Error::new(Status::NoSpace, why))
    }

    /// A marker, or an empty file in place of a device.
    fn empty_file(&mut self, parent: &Dir, name: &[u8], entry: &Entry) -> Result<()> {
        let file = Arc::new(self.create_file(parent, name, entry)?);
        let end = End { metadata: Metadata::of(entry).into_owned(), size: None };
        self.files.submit(Job { file, path: entry.path.as_slice().into(), data: None, end: Some(end) })
    }

    fn create_file(&mut self, parent: &Dir, name: &[u8], entry: &Entry) -> Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.replacing(parent, name, "create", &entry.path, |dir| {
            rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)
        })
    }

    fn directory(&mut self, parent: &Dir, name: &[u8], entry: &Entry, real_path: Vec<u8>) -> Result<()> {
        match make_directory(parent.as_fd(), name) {
            Err(Errno::EXIST) => {
                let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|errno| fail(errno, "look at", &entry.path))?;
                if !is_directory(&stat) {
                    self.replacing(parent, name, "create directory", &entry.path, |dir| {
                        make_directory(dir.as_fd(), name)
                    })?;
                }
            }
            other => other.map_err(|errno| fail(errno, "create directory", &entry.path))?,
        }
        self.keep_directory(real_path, Metadata::of(entry).into_owned())
    }

    /// Symlinks, fifos and devices: made by name, never opened.
    fn make(
        &mut self,
        parent: &Dir,
        name: &[u8],
        entry: &Entry,
        create: impl Fn(&Dir) -> Result<(), Errno>,
    ) -> Result<()> {
        self.replacing(parent, name, "create", &entry.path, create)?;
        self.applier.apply_to_special(parent, name, entry, &mut self.anomalies)
    }

    /// D6: a device node only as root and when asked for; otherwise a file that says where one would be. In the overlay
    /// forms the device 0:0 is a whiteout and never a device (family 63).
    fn device(&mut self, parent: &Dir, name: &[u8], entry: &Entry, file_type: FileType, device: Device) -> Result<()> {
        let is_whiteout = self.options.form.is_overlay() && device == Device { major: 0, minor: 0 };
        if !(self.options.form.device_nodes && self.applier.is_root()) || is_whiteout {
            self.anomalies.insert(Anomalies::DEVICE_PLACEHOLDER);
            return self.empty_file(parent, name, entry);
        }
        let number = rustix::fs::makedev(device.major, device.minor);
        let mode = Mode::RUSR | Mode::WUSR;
        self.make(parent, name, entry, |dir| rustix::fs::mknodat(dir, name, file_type, mode, number))
    }

    /// `marker` is the name with its prefix. Whatever this layer itself has under the name stays (family 56); a directory
    /// of it hides the lower one (family 57).
    fn whiteout(&mut self, parent: &Dir, marker: &[u8], entry: &Entry, real_marker: &[u8]) -> Result<()> {
        let is_overlay = self.options.form.is_overlay();
        if !is_overlay && marker.len() <= NAME_MAX {
            self.empty_file(parent, marker, entry)?;
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
                let (mode, number) = (Mode::empty(), rustix::fs::makedev(0, 0));
                match rustix::fs::mknodat(parent, name, FileType::CharacterDevice, mode, number) {
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

    fn opaque(&mut self, parent: &Dir, marker: &[u8], entry: &Entry, real_marker: &[u8]) -> Result<()> {
        if !self.options.form.is_overlay() {
            self.empty_file(parent, marker, entry)?;
            return self.record.entry(real_marker, entry);
        }
        // Every directory of the tree is kept, but for the root, which may come later or not at all.
        let directory = self.directories.entry(parent.real_path.clone()).or_insert_with(Metadata::implied);
        let said_already = std::mem::replace(&mut directory.is_opaque, true);
        if said_already {
            // By a whiteout of the directory, or by a marker: then this line replaces that one's.
            self.keep(real_marker.len() as u64)?;
            self.record.superseded(real_marker);
        }
        self.record.entry(real_marker, entry)
    }

    /// Remembers a directory's metadata; the line for it comes after this.
    fn keep_directory(&mut self, real_path: Vec<u8>, mut metadata: Metadata<'static>) -> Result<()> {
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
        parent: &Dir,
        name: &[u8],
        action: &str,
        path: &[u8],
        create: impl Fn(&Dir) -> Result<T, Errno>,
    ) -> Result<T> {
        match create(parent) {
            Err(Errno::EXIST) => {
                self.remove(parent, name)?;
                create(parent).map_err(|errno| fail(errno, action, path))
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
    fn drop_replaced(&mut self) -> Result<()> {
        for gone in std::mem::take(&mut self.root.replaced) {
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
    fn report(&mut self, progress: Progress) -> Result<()> {
        let far = progress.bytes_out - self.reported.bytes_out >= REPORT_BYTES
            || progress.entries - self.reported.entries >= REPORT_ENTRIES;
        if far && self.options.progress.is_some() { self.report_now(progress) } else { Ok(()) }
    }

    fn report_now(&mut self, progress: Progress) -> Result<()> {
        self.reported = progress;
        match self.options.progress.as_ref().map(|callback| callback.call(&progress)) {
            None | Some(ControlFlow::Continue(())) => Ok(()),
            Some(ControlFlow::Break(())) => Err(Error::new(Status::Callback, "the progress callback ended the call")),
        }
    }
}

pub(super) fn remove_range<V>(map: &mut BTreeMap<Vec<u8>, V>, prefix: &[u8]) {
    while let Some((key, _)) = map.range(prefix.to_vec()..).next().filter(|(key, _)| key.starts_with(prefix)) {
        let key = key.clone();
        map.remove(&key);
    }
}
