//! The sink that makes a directory tree of entries.
//!
//! Every entry is one name in one open directory: created with `O_EXCL | O_NOFOLLOW`, after whatever had the name is
//! unlinked, so that no write ever goes through something that was there before (families 12 and 36). Directories get
//! their metadata at the end, deepest first, because filling one changes its times and its mode may forbid filling it.
//! What is kept until then is keyed by real paths: a directory that is replaced meanwhile takes its entry along
//! (family 13).

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::metadata::{DirectoryMetadata, Privilege};
use super::record::RecordWriter;
use super::root::{Dir, Missing, Root, fail, make_directory};
use crate::error::{Error, Result, Status, quoted};
use crate::interrupt::Interrupt;
use crate::layer::{Anomalies, Device, Entry, Kind, Reader, split_parent};
use crate::limits;
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
    entries: u64,
    /// Bytes that went into the two maps.
    kept: u64,
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
            root: Root::new(root, interrupt.clone()),
            record,
            privilege: Privilege::current(),
            device_nodes,
            interrupt,
            directories,
            pending_links: BTreeMap::new(),
            entries: 0,
            kept: 0,
            anomalies: Anomalies::default(),
        }
    }

    /// Takes all entries of a layer.
    pub(super) fn write(&mut self, reader: &mut Reader) -> Result<()> {
        let mut entry = Entry::default();
        while reader.next(&mut entry)? {
            self.interrupt.check()?;
            self.entries += 1;
            self.root.grant_steps();
            self.entry(&entry, reader)?;
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
            self.root.grant_steps();
            if let Some(dir) = self.root.dir(path, Missing::Leave)? {
                let dir = dir.as_fd();
                self.privilege.apply_to_directory(dir, metadata, path, &mut self.anomalies)?;
            }
        }
        Ok((self.record, self.anomalies))
    }

    fn entry(&mut self, entry: &Entry, reader: &mut Reader) -> Result<()> {
        if entry.path.is_empty() {
            self.keep_directory(Vec::new(), DirectoryMetadata::of(entry))?;
            return self.record.entry(b"", entry);
        }
        let (parent, name) = split_parent(&entry.path);
        let parent = self.parent(parent)?;
        let real_path = parent.join(name);
        if entry.kind == Kind::Hardlink {
            return self.hardlink(&parent, name, &entry.link, real_path);
        }
        self.pending_links.remove(&real_path);
        self.record.entry(&real_path, entry)?;
        match entry.kind {
            Kind::File => self.file(&parent, name, entry, reader),
            // Hard links were dealt with above.
            Kind::Whiteout | Kind::Opaque | Kind::Hardlink => self.empty_file(&parent, name, entry),
            Kind::Directory => self.directory(&parent, name, entry, real_path),
            Kind::Symlink => self.make(&parent, name, entry, |dir| rustix::fs::symlinkat(&entry.link[..], dir, name)),
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
            self.pending_links.remove(&path);
            self.keep_directory(path, DirectoryMetadata::implied())?;
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
        let file = file.as_fd();
        self.privilege.apply_to_file(file, entry, &mut self.anomalies)
    }

    fn empty_file(&mut self, parent: &Dir, name: &[u8], entry: &Entry) -> Result<()> {
        let file = self.create_file(parent, name, entry)?;
        self.privilege.apply_to_file(file.as_fd(), entry, &mut self.anomalies)
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
        self.keep_directory(real_path, DirectoryMetadata::of(entry))
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
        match self.try_link(parent, name, target, &real_path)? {
            Linked::Made => {
                self.pending_links.remove(&real_path);
            }
            // A link to itself changes nothing, if there is anything to change (family 40).
            Linked::ToItself if self.pending_links.contains_key(&real_path) || exists(parent, name)? => {
                self.anomalies.insert(Anomalies::SELF_LINK);
            }
            Linked::ToItself => return Err(missing_target(&real_path, target)),
            Linked::NotYet => {
                // What has the name is replaced now, as by any other entry.
                if exists(parent, name)? {
                    self.root.remove(parent, name)?;
                    self.drop_replaced();
                }
                self.keep((real_path.len() + target.len()) as u64)?;
                self.pending_links.insert(real_path, target.to_vec());
            }
        }
        Ok(())
    }

    fn try_link(&mut self, parent: &Dir, name: &[u8], target: &[u8], real_path: &[u8]) -> Result<Linked> {
        let (target_parent, target_name) = split_parent(target);
        let Some(target_parent) = self.root.dir(target_parent, Missing::Leave)? else { return Ok(Linked::NotYet) };
        let real_target = target_parent.join(target_name);
        if real_target == real_path {
            return Ok(Linked::ToItself);
        }
        let refuse = |why: &str| {
            let (link, target) = (quoted(real_path), quoted(target));
            Err(Error::new(Status::Malformed, format!("hard link {link} to {target}: {why}")))
        };
        match rustix::fs::statat(&*target_parent, target_name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(Linked::NotYet),
            Err(errno) => return Err(fail(errno, "look at", &real_target)),
            Ok(stat) if is_directory(&stat) => return refuse("a directory cannot have two names"),
            Ok(_) if real_target.starts_with(&[real_path, b"/"].concat()) => {
                return refuse("the link would replace the directory that its target is in");
            }
            Ok(_) => {}
        }
        self.replacing(parent, name, "link", real_path, |dir| {
            rustix::fs::linkat(&*target_parent, target_name, dir, name, AtFlags::empty())
        })?;
        self.record.hardlink(real_path, &real_target)?;
        Ok(Linked::Made)
    }

    /// Links whose target came later in the archive (family 38). A link that is made is at once tried as the target of
    /// others; only chains through symlinks need another round.
    fn link_pending(&mut self) -> Result<()> {
        const ROUNDS: usize = 8;
        let mut pending = std::mem::take(&mut self.pending_links);
        let mut waiting: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
        for (link, target) in &pending {
            waiting.entry(target.clone()).or_default().push(link.clone());
        }
        for _ in 0..ROUNDS {
            let before = pending.len();
            let mut queue: Vec<Vec<u8>> = pending.keys().cloned().collect();
            while let Some(link) = queue.pop() {
                self.interrupt.check()?;
                let Some(target) = pending.get(&link) else { continue };
                let (parent, name) = split_parent(&link);
                let parent = self.parent(parent)?;
                if self.try_link(&parent, name, target, &link)? == Linked::Made {
                    pending.remove(&link);
                    queue.extend(waiting.remove(&link).unwrap_or_default());
                }
            }
            if pending.len() == before {
                break;
            }
        }
        match pending.first_key_value() {
            None => Ok(()),
            Some((link, target)) => Err(missing_target(link, target)),
        }
    }

    fn keep_directory(&mut self, real_path: Vec<u8>, metadata: DirectoryMetadata) -> Result<()> {
        let xattrs: usize = metadata.xattrs.iter().map(|(key, value)| key.len() + value.len()).sum();
        self.keep((real_path.len() + xattrs) as u64)?;
        self.directories.insert(real_path, metadata);
        Ok(())
    }

    /// Memory is bounded by the number of entries, not by what they are called.
    fn keep(&mut self, bytes: u64) -> Result<()> {
        self.kept += bytes;
        let limit = limits::KEPT_METADATA;
        if self.kept > limit.default + 128 * self.entries {
            return Err(Error::limit(limit.name, limit.default, self.kept, "layer"));
        }
        Ok(())
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

/// What came of a hard link.
#[derive(PartialEq, Eq)]
enum Linked {
    Made,
    ToItself,
    /// The target is not there.
    NotYet,
}

fn missing_target(link: &[u8], target: &[u8]) -> Error {
    let why = format!("hard link {} to {}, which the layer does not have", quoted(link), quoted(target));
    Error::new(Status::Malformed, why)
}

fn exists(parent: &Dir, name: &[u8]) -> Result<bool> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(fail(errno, "look at", &parent.join(name))),
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
