//! Writing a layer's entries into the tree, one after the other, out of the archive or out of an extracted tree.

use std::os::fd::AsFd as _;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;

use super::checksum::{ContentSum, sum_of};
use super::copy::Original;
use super::lower::{CopyMode, LayerSource, LowerTree, damaged};
use super::metadata::Metadata;
use super::root_dir::{Dir, Missing, fail, make_directory};
use super::tree::{Slot, TreeWriter};
use super::write_pool::{Filling, Job, Plan, same_name};
use crate::error::{Error, Result, Status};
use crate::layer::{Anomalies, Data, Device, Entry, Kind, Reader, WHITEOUT_PREFIX, split_parent};
use crate::record::RecordWriter;
use crate::sys::{self, is_directory};

/// The longest name that file systems take (POSIX `NAME_MAX` on Linux and macOS).
pub(super) const NAME_MAX: usize = 255;
/// From this size on it is worth a system call to ask whether a file has room before it is written.
const SPACE_CHECK_FROM_BYTES: u64 = 1 << 20;
/// How many bytes of small files come between two looks at the free space, where the host wants some.
const SPACE_CHECK_EVERY_BYTES: u64 = 16 << 20;

impl TreeWriter<'_> {
    /// Takes all entries of a layer.
    pub(crate) fn write(&mut self, reader: &mut Reader) -> Result<()> {
        let mut entry = Entry::default();
        while reader.next(&mut entry)? {
            self.interrupt.check()?;
            self.entries += 1;
            self.root.grant_steps();
            self.entry(&entry, &mut LayerSource::Archive(reader))?;
            self.report(reader.progress())?;
        }
        self.report_now(reader.progress())
    }

    pub(super) fn entry(&mut self, entry: &Entry, layer: &mut LayerSource<'_, '_>) -> Result<()> {
        if entry.path.is_empty() {
            self.keep_directory(Vec::new(), Metadata::of(entry).into_owned())?;
            return self.record.entry(b"", entry);
        }
        if self.order.is_stacked() && matches!(entry.kind, Kind::Whiteout | Kind::Opaque) {
            return self.hide_lower(entry);
        }
        let (parent, name) = split_parent(&entry.path);
        let parent = self.parent(parent)?;
        let real_path = parent.join(name);
        let slot = Slot { parent: &parent, name, is_free: self.claim(&real_path)? };
        if entry.kind == Kind::Hardlink {
            return self.hardlink(&slot, &entry.link, real_path);
        }
        self.links.forget(&real_path);
        if let LayerSource::Tree(lower) = layer
            && lower.is_linked()
            && entry.kind != Kind::Directory
        {
            return self.link_from(&slot, entry, lower, &real_path);
        }
        match entry.kind {
            Kind::File => {
                let sum = match layer {
                    LayerSource::Archive(reader) => self.file(&slot, entry, reader)?,
                    LayerSource::Tree(lower) => self.file_from(&slot, entry, lower)?,
                };
                return self.record.file(&real_path, entry, sum);
            }
            Kind::Whiteout => return self.whiteout(&slot, entry, &real_path),
            Kind::Opaque => return self.opaque(&slot, entry, &real_path),
            Kind::Directory => self.directory(&slot, entry, real_path.clone())?,
            Kind::Symlink => self.make(&slot, entry, |dir| rustix::fs::symlinkat(&entry.link[..], dir, name))?,
            Kind::Fifo => {
                self.make(&slot, entry, |dir| sys::make_fifo(dir.as_fd(), name, Mode::RUSR | Mode::WUSR))?;
            }
            Kind::CharDevice(device) => self.device(&slot, entry, FileType::CharacterDevice, device)?,
            Kind::BlockDevice(device) => self.device(&slot, entry, FileType::BlockDevice, device)?,
            // Dealt with above.
            Kind::Hardlink => {}
        }
        self.record.entry(&real_path, entry)
    }

    /// The sum of the content, where there is one.
    fn file(&mut self, slot: &Slot<'_>, entry: &Entry, reader: &mut Reader) -> Result<Option<u64>> {
        if !entry.is_sparse {
            self.unlooked += entry.size;
            // Small files take of the host's reserve too.
            if entry.size >= SPACE_CHECK_FROM_BYTES || self.min_free > 0 && self.unlooked >= SPACE_CHECK_EVERY_BYTES {
                self.unlooked = 0;
                self.check_space(slot.parent, entry)?;
            }
        }
        let mut data = reader.data()?;
        // Holes may be at the end.
        let plan = Plan { size: entry.is_sparse.then_some(entry.size), ..Plan::of(entry) };
        let sum;
        if data.as_ref().is_none_or(|data| data.is_last) {
            let data = data.map(|data| (data.offset, data.bytes));
            (sum, self.holes) = sum_of(data.as_ref(), entry.size, self.holes);
            self.whole_file(slot, plan, Filling::Data(data))?;
            return Ok(sum);
        }
        let mut content = ContentSum::new(self.holes);
        let file = Arc::new(self.open_file(slot, plan)?);
        while let Some(Data { offset, bytes, is_last }) = data {
            content.update(offset, &bytes);
            let filling = Filling::Data(Some((offset, bytes)));
            if is_last {
                // Our own reference goes along: whoever has the last one finishes the file.
                self.files.submit(Job::Part { file, filling })?;
                break;
            }
            self.files.submit(Job::Part { file: file.clone(), filling })?;
            self.interrupt.check()?;
            self.report(reader.progress())?;
            data = reader.data()?;
        }
        (sum, self.holes) = content.finish(entry.size);
        Ok(sum)
    }

    /// A marker, or an empty file in place of a device.
    fn empty_file(&mut self, slot: &Slot<'_>, entry: &Entry) -> Result<()> {
        self.whole_file(slot, Plan::of(entry), Filling::Data(None))
    }

    fn directory(&mut self, slot: &Slot<'_>, entry: &Entry, real_path: Vec<u8>) -> Result<()> {
        let Slot { parent, name, is_free } = *slot;
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
        self.order.note_directory(&real_path, is_new)?;
        self.keep_directory(real_path, Metadata::of(entry).into_owned())
    }

    /// Symlinks, fifos and devices: made by name, never opened.
    fn make(&mut self, slot: &Slot<'_>, entry: &Entry, create: impl Fn(&Dir) -> Result<(), Errno>) -> Result<()> {
        self.replacing(slot, "create", &entry.path, create)?;
        self.applier.apply_to_special(slot.parent, slot.name, entry, &mut self.anomalies)
    }

    /// D6: a device node only as root and when asked for; otherwise a file that says where one would be. In the overlay
    /// forms the device 0:0 is a whiteout and never a device (family 63).
    fn device(&mut self, slot: &Slot<'_>, entry: &Entry, file_type: FileType, device: Device) -> Result<()> {
        let is_whiteout = self.form.is_overlay() && device == Device { major: 0, minor: 0 };
        if !(self.form.device_nodes && self.applier.is_root()) || is_whiteout {
            self.anomalies.insert(Anomalies::DEVICE_PLACEHOLDER);
            return self.empty_file(slot, entry);
        }
        let number = rustix::fs::makedev(device.major, device.minor);
        let mode = Mode::RUSR | Mode::WUSR;
        self.make(slot, entry, |dir| sys::make_node(dir.as_fd(), slot.name, file_type, mode, number))
    }

    /// The place has the name with its prefix. Whatever this layer itself has under the name stays (family 56); a directory
    /// of it hides the lower one (family 57).
    fn whiteout(&mut self, slot: &Slot<'_>, entry: &Entry, real_marker: &[u8]) -> Result<()> {
        let Slot { parent, name: marker, .. } = *slot;
        let is_overlay = self.form.is_overlay();
        if !is_overlay && marker.len() <= NAME_MAX {
            self.empty_file(slot, entry)?;
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

    fn opaque(&mut self, slot: &Slot<'_>, entry: &Entry, real_marker: &[u8]) -> Result<()> {
        if !self.form.is_overlay() {
            self.empty_file(slot, entry)?;
            return self.record.entry(real_marker, entry);
        }
        // Every directory of the tree is kept, but for the root, which may come later or not at all.
        let directory = self.directories.entry(slot.parent.real_path.clone()).or_insert_with(Metadata::implied);
        let said_already = std::mem::replace(&mut directory.is_opaque, true);
        if said_already {
            // By a whiteout of the directory, or by a marker: then this line replaces that one's.
            self.keep(real_marker.len() as u64)?;
            self.record.superseded(real_marker);
        }
        self.record.entry(real_marker, entry)
    }

    /// A file out of an extracted tree.
    pub(super) fn file_from(
        &mut self,
        slot: &Slot<'_>,
        entry: &Entry,
        lower: &mut LowerTree<'_>,
    ) -> Result<Option<u64>> {
        if entry.size >= SPACE_CHECK_FROM_BYTES {
            self.check_space(slot.parent, entry)?;
        }
        let original = Original {
            parent: lower.parent(&entry.path)?,
            name: split_parent(&entry.path).1.to_vec(),
            size: entry.size,
            reflink: lower.taking != CopyMode::Copy,
        };
        self.whole_file(slot, Plan::of(entry), Filling::Copy(original))?;
        Ok(lower.sum)
    }

    /// Anything but a directory, as a further name of what the extracted tree has.
    pub(super) fn link_from(
        &mut self,
        slot: &Slot<'_>,
        entry: &Entry,
        lower: &mut LowerTree<'_>,
        real_path: &[u8],
    ) -> Result<()> {
        let (from, from_name) = (lower.parent(&entry.path)?, split_parent(&entry.path).1);
        let link = || rustix::fs::linkat(&*from, from_name, &**slot.parent, slot.name, AtFlags::empty());
        let mut linked = link();
        if linked == Err(Errno::EXIST) {
            if slot.is_free {
                return Err(same_name(real_path));
            }
            self.remove(slot.parent, slot.name)?;
            linked = link();
        }
        let sum = lower.sum;
        match linked {
            Ok(()) => {}
            // No more names for this one (D4).
            Err(Errno::MLINK) if entry.kind == Kind::File => {
                self.anomalies.insert(Anomalies::COPIED_LINK);
                self.file_from(slot, entry, lower)?;
            }
            Err(Errno::XDEV) => {
                let why = "the store is on another file system than the destination, so nothing of it can be linked";
                return Err(Error::new(Status::Unsupported, why));
            }
            Err(Errno::NOENT) => return Err(damaged()),
            Err(errno) => return Err(fail(errno, "link", real_path)),
        }
        match entry.kind {
            Kind::File => self.record.file(real_path, entry, sum),
            _ => self.record.entry(real_path, entry),
        }
    }

    /// Gives the directories their metadata; gives back the record and what was odd.
    pub(crate) fn finish(mut self) -> Result<(RecordWriter, Anomalies)> {
        self.link_pending()?;
        self.files.finish()?;
        self.anomalies.insert(self.files.anomalies());
        let mut directories = std::mem::take(&mut self.directories);
        directories.entry(Vec::new()).or_insert_with(Metadata::implied);
        // Reverse order of paths puts every directory after what is in it.
        for (path, metadata) in directories.iter().rev() {
            self.interrupt.check()?;
            self.root.grant_steps();
            if let Some(dir) = self.root.dir(path, Missing::Leave)? {
                self.applier.apply(dir.as_fd(), metadata, false, path, &mut self.anomalies)?;
            }
        }
        Ok((self.record, self.anomalies))
    }
}
