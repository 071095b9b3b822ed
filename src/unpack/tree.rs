//! The sink that makes a directory tree of entries.
//!
//! Every entry is one name in one open directory: created with `O_EXCL | O_NOFOLLOW`, after whatever had the name is
//! unlinked, so that no write ever goes through something that was there before (families 12 and 36). Directories get
//! their metadata at the end, deepest first, because filling one changes its times and its mode may forbid filling it.
//! What is kept until then is keyed by real paths: a directory that is replaced meanwhile takes its entry along
//! (family 13).

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::metadata::{DirectoryMetadata, Privilege};
use super::record::RecordWriter;
use super::root::{Dir, Missing, Root, fail};
use crate::error::{Error, Result, Status, quoted};
use crate::interrupt::Interrupt;
use crate::layer::{Anomalies, Device, Entry, Kind, Reader, split_parent};
use crate::store::is_directory;

/// A tree in the making.
pub(super) struct TreeWriter<'a> {
    root: Root,
    record: RecordWriter,
    privilege: Privilege,
    device_nodes: bool,
    interrupt: &'a Interrupt,
    /// By real path.
    directories: BTreeMap<Vec<u8>, DirectoryMetadata>,
    /// Hard links whose target has not come yet: real path of the link to the target as named.
    pending_links: BTreeMap<Vec<u8>, Vec<u8>>,
    anomalies: Anomalies,
}

impl<'a> TreeWriter<'a> {
    pub(super) fn new(
        root: OwnedFd,
        record: RecordWriter,
        device_nodes: bool,
        interrupt: &'a Interrupt,
    ) -> TreeWriter<'a> {
        let directories = BTreeMap::from([(Vec::new(), DirectoryMetadata::implied())]);
        TreeWriter {
            root: Root::new(root),
            record,
            privilege: Privilege::current(),
            device_nodes,
            interrupt,
            directories,
            pending_links: BTreeMap::new(),
            anomalies: Anomalies::default(),
        }
    }

    /// Takes all entries of a layer.
    pub(super) fn write(&mut self, reader: &mut Reader) -> Result<()> {
        let mut entry = Entry::default();
        while reader.next(&mut entry)? {
            self.interrupt.check()?;
            self.entry(&entry, reader)?;
            self.record.entry(&entry)?;
        }
        Ok(())
    }

    /// Gives the directories their metadata; gives back the record and what was odd.
    pub(super) fn finish(mut self) -> Result<(RecordWriter, Anomalies)> {
        self.link_pending()?;
        let directories = std::mem::take(&mut self.directories);
        // Reverse order of paths puts every directory after what is in it.
        for (path, metadata) in directories.iter().rev() {
            self.interrupt.check()?;
            if let Some(dir) = self.root.dir(path, Missing::Leave)? {
                let dir = std::os::fd::AsFd::as_fd(&*dir);
                self.privilege.apply_to_directory(dir, metadata, path, &mut self.anomalies)?;
            }
        }
        Ok((self.record, self.anomalies))
    }

    fn entry(&mut self, entry: &Entry, reader: &mut Reader) -> Result<()> {
        if entry.path.is_empty() {
            self.directories.insert(Vec::new(), DirectoryMetadata::of(entry));
            return Ok(());
        }
        let (parent, name) = split_parent(&entry.path);
        let parent = self.parent(parent)?;
        let real_path = parent.join(name);
        self.pending_links.remove(&real_path);
        match entry.kind {
            Kind::File => self.file(&parent, name, entry, reader),
            Kind::Whiteout | Kind::Opaque => self.empty_file(&parent, name, entry),
            Kind::Directory => self.directory(&parent, name, entry, real_path),
            Kind::Symlink => self.make(&parent, name, entry, |dir| rustix::fs::symlinkat(&entry.link[..], dir, name)),
            Kind::Hardlink => self.hardlink(&parent, name, &entry.link, real_path),
            Kind::Fifo => {
                self.make(&parent, name, entry, |dir| rustix::fs::mkfifoat(dir, name, Mode::RUSR | Mode::WUSR))
            }
            Kind::CharDevice(device) => {
                self.device(&parent, name, entry, rustix::fs::FileType::CharacterDevice, device)
            }
            Kind::BlockDevice(device) => self.device(&parent, name, entry, rustix::fs::FileType::BlockDevice, device),
        }
    }

    /// The directory that an entry goes into, made where it is missing.
    fn parent(&mut self, path: &[u8]) -> Result<Rc<Dir>> {
        let dir = self.root.dir(path, Missing::Create)?;
        self.drop_replaced();
        for path in std::mem::take(&mut self.root.created) {
            self.record.implied_directory(&path)?;
            self.directories.insert(path, DirectoryMetadata::implied());
        }
        dir.ok_or_else(|| Error::new(Status::Internal, format!("directory {} not made", quoted(path))))
    }

    fn file(&mut self, parent: &Dir, name: &[u8], entry: &Entry, reader: &mut Reader) -> Result<()> {
        let file = self.create_file(parent, name, entry)?;
        loop {
            let mut data = reader.data()?;
            if data.is_empty() {
                break;
            }
            while !data.is_empty() {
                match rustix::io::write(&file, data) {
                    Ok(n) => data = &data[n..],
                    Err(Errno::INTR) => {}
                    Err(errno) => return Err(fail(errno, "write", &entry.path)),
                }
            }
            self.interrupt.check()?;
        }
        let file = std::os::fd::AsFd::as_fd(&file);
        self.privilege.apply_to_file(file, entry, &mut self.anomalies)
    }

    fn empty_file(&mut self, parent: &Dir, name: &[u8], entry: &Entry) -> Result<()> {
        let file = self.create_file(parent, name, entry)?;
        self.privilege.apply_to_file(std::os::fd::AsFd::as_fd(&file), entry, &mut self.anomalies)
    }

    fn create_file(&mut self, parent: &Dir, name: &[u8], entry: &Entry) -> Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.replacing(parent, name, "create", &entry.path, |dir| {
            rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)
        })
    }

    fn directory(&mut self, parent: &Dir, name: &[u8], entry: &Entry, real_path: Vec<u8>) -> Result<()> {
        match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            Err(Errno::EXIST) => {
                let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|errno| fail(errno, "look at", &entry.path))?;
                if !is_directory(&stat) {
                    self.replacing(parent, name, "create directory", &entry.path, |dir| {
                        rustix::fs::mkdirat(dir, name, Mode::RWXU)
                    })?;
                }
            }
            other => other.map_err(|errno| fail(errno, "create directory", &entry.path))?,
        }
        self.directories.insert(real_path, DirectoryMetadata::of(entry));
        Ok(())
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
        self.privilege.apply_to_special(parent, name, entry, &mut self.anomalies)
    }

    /// D6: a device node only as root and when asked for; otherwise a file that says where one would be.
    fn device(
        &mut self,
        parent: &Dir,
        name: &[u8],
        entry: &Entry,
        file_type: rustix::fs::FileType,
        device: Device,
    ) -> Result<()> {
        if !(self.device_nodes && self.privilege.is_root()) {
            self.anomalies.insert(Anomalies::DEVICE_PLACEHOLDER);
            return self.empty_file(parent, name, entry);
        }
        let number = rustix::fs::makedev(device.major, device.minor);
        let mode = Mode::RUSR | Mode::WUSR;
        self.make(parent, name, entry, |dir| rustix::fs::mknodat(dir, name, file_type, mode, number))
    }

    /// Metadata in a hard link's own header is not the inode's business (family 43), and its data was drained (D3).
    fn hardlink(&mut self, parent: &Dir, name: &[u8], target: &[u8], real_path: Vec<u8>) -> Result<()> {
        if !self.try_link(parent, name, target, &real_path)? {
            self.pending_links.insert(real_path, target.to_vec());
        }
        Ok(())
    }

    /// False where the target is not there (yet).
    fn try_link(&mut self, parent: &Dir, name: &[u8], target: &[u8], real_path: &[u8]) -> Result<bool> {
        let (target_parent, target_name) = split_parent(target);
        let Some(target_parent) = self.root.dir(target_parent, Missing::Leave)? else { return Ok(false) };
        let real_target = target_parent.join(target_name);
        if real_target == real_path {
            self.anomalies.insert(Anomalies::SELF_LINK);
            return Ok(true);
        }
        match rustix::fs::statat(&*target_parent, target_name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(fail(errno, "look at", &real_target)),
            Ok(stat) if is_directory(&stat) => {
                let link = quoted(real_path);
                let why = format!("hard link {link} to {}, which is a directory", quoted(target));
                return Err(Error::new(Status::Malformed, why));
            }
            Ok(_) => {}
        }
        self.replacing(parent, name, "link", real_path, |dir| {
            rustix::fs::linkat(&*target_parent, target_name, dir, name, AtFlags::empty())
        })?;
        Ok(true)
    }

    /// Links whose target came later in the archive; links to links are resolved as their targets appear (family 38).
    fn link_pending(&mut self) -> Result<()> {
        let mut pending = std::mem::take(&mut self.pending_links);
        loop {
            let before = pending.len();
            let mut left = BTreeMap::new();
            for (real_path, target) in pending {
                let (parent, name) = split_parent(&real_path);
                let parent = self.parent(parent)?;
                if !self.try_link(&parent, name, &target, &real_path)? {
                    left.insert(real_path, target);
                }
            }
            match left.first_key_value() {
                None => return Ok(()),
                Some((link, target)) if left.len() == before => {
                    let why =
                        format!("hard link {} to {}, which the layer does not have", quoted(link), quoted(target));
                    return Err(Error::new(Status::Malformed, why));
                }
                Some(_) => pending = left,
            }
        }
    }

    /// Creates a name, after removing whatever has it.
    fn replacing<T>(
        &mut self,
        parent: &Dir,
        name: &[u8],
        action: &str,
        path: &[u8],
        create: impl Fn(&Dir) -> Result<T, Errno>,
    ) -> Result<T> {
        match create(parent) {
            Err(Errno::EXIST) => {
                self.root.remove(parent, name)?;
                self.drop_replaced();
                create(parent).map_err(|errno| fail(errno, action, path))
            }
            other => other.map_err(|errno| fail(errno, action, path)),
        }
    }

    /// Forgets what was kept for paths that are gone.
    fn drop_replaced(&mut self) {
        for gone in std::mem::take(&mut self.root.replaced) {
            remove_below(&mut self.directories, &gone);
            remove_below(&mut self.pending_links, &gone);
        }
    }
}

/// Removes a path and everything under it.
fn remove_below<V>(map: &mut BTreeMap<Vec<u8>, V>, path: &[u8]) {
    map.remove(path);
    let first = [path, b"/"].concat();
    let below: Vec<_> =
        map.range(first.clone()..).take_while(|(key, _)| key.starts_with(&first)).map(|(key, _)| key.clone()).collect();
    for key in below {
        map.remove(&key);
    }
}
