//! Writing a layer's entries into the tree, one after the other, out of the archive or out of an extracted tree.

use rustix::io::Errno;

use super::checksum::{ContentSum, sum_of};
use super::lower::{LayerSource, damaged};
use super::metadata::Metadata;
use super::nodes::{Lower, Nodes};
use super::root_dir::{Missing, fail};
use super::tree::{Slot, TreeWriter};
use super::write_pool::{Filling, Plan, same_name};
use crate::error::{Error, Result, Status};
use crate::layer::{Anomalies, Data, Device, Entry, Kind, Reader, WHITEOUT_PREFIX, split_parent};
use crate::record::RecordWriter;

/// The longest name that file systems take (POSIX `NAME_MAX` on Linux and macOS).
pub(super) const NAME_MAX: usize = 255;

impl<N: Nodes> TreeWriter<N> {
    /// Takes all entries of a layer.
    pub(crate) fn write(&mut self, reader: &mut Reader) -> Result<()> {
        let mut entry = Entry::default();
        while reader.next(&mut entry)? {
            self.interrupt.check()?;
            self.entries += 1;
            self.root.grant_steps();
            self.entry(&entry, &mut LayerSource::Archive(reader))?;
            self.keep(0)?;
            self.report(reader.progress())?;
        }
        self.report_now(reader.progress())
    }

    pub(super) fn entry(&mut self, entry: &Entry, layer: &mut LayerSource<'_, N::Lower>) -> Result<()> {
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
        if let LayerSource::Lower(lower, sum) = layer
            && lower.is_linked()
            && entry.kind != Kind::Directory
        {
            return self.link_from(&slot, entry, (lower, *sum), &real_path);
        }
        match entry.kind {
            Kind::File => {
                let sum = match layer {
                    LayerSource::Archive(reader) => self.file(&slot, entry, reader)?,
                    LayerSource::Lower(lower, sum) => {
                        self.file_from(&slot, entry, lower)?;
                        *sum
                    }
                    LayerSource::Entry(content, sum) => {
                        // Shared blocks take no room.
                        let filling = content.take().map_or(Filling::Data(None), Filling::Copy);
                        self.whole_file(&slot, Plan::of(entry), filling)?;
                        *sum
                    }
                };
                return self.record.file(&real_path, entry, (sum, self.root.nodes.place(entry.size)));
            }
            Kind::Whiteout => return self.whiteout(&slot, entry, &real_path),
            Kind::Opaque => return self.opaque(&slot, entry, &real_path),
            Kind::Directory => self.directory(&slot, entry, real_path.clone())?,
            Kind::Symlink | Kind::Fifo => self.special(&slot, entry)?,
            Kind::CharDevice(device) | Kind::BlockDevice(device) => self.device(&slot, entry, device)?,
            // Dealt with above.
            Kind::Hardlink => {}
        }
        self.record.entry(&real_path, entry)
    }

    /// The sum of the content, where there is one.
    fn file(&mut self, slot: &Slot<'_, N::Handle>, entry: &Entry, reader: &mut Reader) -> Result<Option<u64>> {
        if !entry.is_sparse {
            self.root.nodes.check_room(slot.parent.handle(), &entry.path, entry.size)?;
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
        let file = self.create_file(slot, &plan)?;
        while let Some(Data { offset, bytes, is_last }) = data {
            content.update(offset, &bytes);
            let filling = Filling::Data(Some((offset, bytes)));
            if is_last {
                // Our own reference goes along: whoever has the last one finishes the file.
                self.root.nodes.fill(file, filling)?;
                break;
            }
            self.root.nodes.fill(file.clone(), filling)?;
            self.interrupt.check()?;
            self.report(reader.progress())?;
            data = reader.data()?;
        }
        (sum, self.holes) = content.finish(entry.size);
        Ok(sum)
    }

    /// A marker, or an empty file in place of a device.
    fn empty_file(&mut self, slot: &Slot<'_, N::Handle>, entry: &Entry) -> Result<()> {
        self.whole_file(slot, Plan::of(entry), Filling::Data(None))
    }

    fn directory(&mut self, slot: &Slot<'_, N::Handle>, entry: &Entry, real_path: Vec<u8>) -> Result<()> {
        let Slot { parent, name, is_free } = *slot;
        let made = |made: Result<(), Errno>| made.map_err(|errno| fail(errno, "create directory", &entry.path));
        let is_new = match self.root.nodes.make_directory(parent.handle(), name) {
            Err(Errno::EXIST) if is_free => return Err(same_name(&entry.path)),
            Err(Errno::EXIST) => {
                let node = self.root.nodes.look(parent.handle(), name);
                let is_in_the_way = !node.map_err(|errno| fail(errno, "look at", &entry.path))?.is_directory;
                if is_in_the_way {
                    self.remove_hidden(parent, name)?;
                    made(self.root.nodes.make_directory(parent.handle(), name))?;
                }
                is_in_the_way
            }
            other => made(other).map(|()| true)?,
        };
        self.order.note_directory(&real_path, is_new)?;
        self.keep_directory(real_path, Metadata::of(entry).into_owned())
    }

    /// Symlinks, fifos and devices: made by name, never opened.
    fn special(&mut self, slot: &Slot<'_, N::Handle>, entry: &Entry) -> Result<()> {
        self.replacing(slot, "create", &entry.path, |nodes, at| nodes.make_special(at, slot.name, entry))?;
        self.root.nodes.finish_special(slot.parent, slot.name, entry, &mut self.anomalies)
    }

    /// A device, or a file that says where one would be (D6).
    fn device(&mut self, slot: &Slot<'_, N::Handle>, entry: &Entry, device: Device) -> Result<()> {
        if self.root.nodes.makes_device(device) {
            return self.special(slot, entry);
        }
        self.anomalies.insert(Anomalies::DEVICE_PLACEHOLDER);
        self.empty_file(slot, entry)
    }

    /// The place has the name with its prefix. Whatever this layer itself has under the name stays (family 56); a directory
    /// of it hides the lower one (family 57).
    fn whiteout(&mut self, slot: &Slot<'_, N::Handle>, entry: &Entry, real_marker: &[u8]) -> Result<()> {
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
                match self.root.nodes.make_whiteout(parent.handle(), name) {
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

    fn opaque(&mut self, slot: &Slot<'_, N::Handle>, entry: &Entry, real_marker: &[u8]) -> Result<()> {
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
    fn file_from(&mut self, slot: &Slot<'_, N::Handle>, entry: &Entry, lower: &mut N::Lower) -> Result<()> {
        self.root.nodes.check_room(slot.parent.handle(), &entry.path, entry.size)?;
        let original = lower.original(entry)?;
        self.whole_file(slot, Plan::of(entry), Filling::Copy(original))
    }

    /// Anything but a directory, as a further name of what the extracted tree has.
    fn link_from(
        &mut self,
        slot: &Slot<'_, N::Handle>,
        entry: &Entry,
        (lower, sum): (&mut N::Lower, Option<u64>),
        real_path: &[u8],
    ) -> Result<()> {
        let to = (slot.parent.handle(), slot.name);
        let mut linked = self.root.nodes.link_lower(lower, entry, to)?;
        if linked == Err(Errno::EXIST) {
            if slot.is_free {
                return Err(same_name(real_path));
            }
            self.remove(slot.parent, slot.name)?;
            linked = self.root.nodes.link_lower(lower, entry, to)?;
        }
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
            Kind::File => self.record.file(real_path, entry, (sum, None)),
            _ => self.record.entry(real_path, entry),
        }
    }

    /// Gives the directories their metadata; gives back the record and what was odd.
    pub(crate) fn finish(mut self) -> Result<(RecordWriter, Anomalies, N)> {
        self.link_pending()?;
        self.root.nodes.settle()?;
        self.anomalies.insert(self.root.nodes.anomalies());
        let mut directories = std::mem::take(&mut self.directories);
        directories.entry(Vec::new()).or_insert_with(Metadata::implied);
        // Reverse order of paths puts every directory after what is in it.
        for (path, metadata) in directories.iter().rev() {
            self.interrupt.check()?;
            self.root.grant_steps();
            if let Some(dir) = self.root.dir(path, Missing::Leave)? {
                self.root.nodes.finish_directory(&dir, metadata, path, &mut self.anomalies)?;
            }
        }
        Ok((self.record, self.anomalies, self.root.into_nodes()))
    }
}
