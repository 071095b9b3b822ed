//! The operations on nodes ([`super::nodes`]), in memory. The rules stand on their errors, so these are POSIX's, as a disk has
//! them.

use rustix::io::Errno;

use super::arena::{Arena, InodeId, InodeKind, NONE};
use super::content::{Extent, RecordedLayer};
use super::metadata::Metadata;
use super::nodes::{NamedNode, Nodes};
use super::root_dir::{Dir, fail};
use super::walk::Walk;
use super::write_pool::{Filling, Plan};
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::layer::{Anomalies, Device, Entry, Kind};
use crate::record::BlockPlace;

/// The longest target that a symlink can have (POSIX `PATH_MAX`, with its NUL).
const TARGET_MAX: usize = 4095;

impl Walk for Arena<'_> {
    type Handle = InodeId;

    fn open_directory(&self, &at: &InodeId, name: &[u8]) -> Result<InodeId, Errno> {
        let tables = self.tables.borrow();
        let inode = tables.find(at, name)?;
        let is_directory = matches!(tables.inodes[inode as usize].kind, InodeKind::Directory { .. });
        if is_directory { Ok(inode) } else { Err(Errno::NOTDIR) }
    }

    fn read_symlink(&self, &at: &InodeId, name: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
        let tables = self.tables.borrow();
        let inode = tables.find(at, name)?;
        Ok(match tables.inodes[inode as usize].kind {
            InodeKind::Symlink { at, len } => Some(tables.names[at as usize..][..usize::from(len)].to_vec()),
            _ => None,
        })
    }

    fn make_directory(&self, &at: &InodeId, name: &[u8]) -> Result<(), Errno> {
        let made = self.tables.borrow_mut().make(at, name, InodeKind::Directory { first: NONE });
        made.map(|_| ())
    }

    fn take_away(&mut self, &at: &InodeId, name: &[u8]) -> Result<Result<(), Errno>> {
        let tables = self.tables.get_mut();
        Ok(match tables.entry(at, name) {
            Some(entry) if tables.entries[entry as usize].inode != NONE => {
                let gone = std::mem::replace(&mut tables.entries[entry as usize].inode, NONE);
                self.forget_link(gone);
                Ok(())
            }
            _ => Err(Errno::NOENT),
        })
    }
}

impl Nodes for Arena<'_> {
    type Identity = InodeId;
    type File = InodeId;
    type Lower = RecordedLayer;

    const NOTES_USED_NAMES: bool = false;

    fn look(&self, &at: &InodeId, name: &[u8]) -> Result<NamedNode<InodeId>, Errno> {
        let tables = self.tables.borrow();
        let identity = tables.find(at, name)?;
        let kind = tables.inodes[identity as usize].kind;
        Ok(NamedNode {
            is_directory: matches!(kind, InodeKind::Directory { .. }),
            is_null_device: matches!(kind, InodeKind::CharDevice(Device { major: 0, minor: 0 })),
            size: if let InodeKind::File { size, .. } = kind { size } else { 0 },
            identity,
        })
    }

    fn names(&self, &at: &InodeId) -> Result<Vec<Vec<u8>>, Errno> {
        let tables = self.tables.borrow();
        let InodeKind::Directory { first } = tables.inodes[at as usize].kind else { return Err(Errno::NOTDIR) };
        let (mut next, mut names) = (first, Vec::new());
        while next != NONE {
            let entry = &tables.entries[next as usize];
            if entry.inode != NONE {
                names.push(tables.name(entry).to_vec());
            }
            next = entry.next_in_directory;
        }
        Ok(names)
    }

    fn link(&self, (&from, from_name): (&InodeId, &[u8]), (&to, to_name): (&InodeId, &[u8])) -> Result<(), Errno> {
        let mut tables = self.tables.borrow_mut();
        let inode = tables.find(from, from_name)?;
        if matches!(tables.inodes[inode as usize].kind, InodeKind::Directory { .. }) {
            return Err(Errno::PERM);
        }
        if tables.find(to, to_name).is_ok() {
            return Err(Errno::EXIST);
        }
        self.count_link(inode)?;
        tables.name_it(to, to_name, inode)
    }

    fn link_lower(&self, _: &mut RecordedLayer, _: &Entry, _: (&InodeId, &[u8])) -> Result<Result<(), Errno>> {
        Ok(Err(Errno::XDEV))
    }

    fn copy(
        &self,
        (from, from_name): (&Dir<InodeId>, &[u8]),
        (to, to_name): (&Dir<InodeId>, &[u8]),
        _: &Interrupt,
    ) -> Result<()> {
        let mut tables = self.tables.borrow_mut();
        let copied = tables.find(*from.handle(), from_name).and_then(|inode| {
            let node = tables.inodes[inode as usize].clone();
            let copy = tables.make(*to.handle(), to_name, node.kind)?;
            tables.inodes[copy as usize] = node;
            Ok(())
        });
        copied.map_err(|errno| fail(errno, "copy to", &to.join(to_name)))
    }

    fn make_special(&self, &at: &InodeId, name: &[u8], entry: &Entry) -> Result<(), Errno> {
        let mut tables = self.tables.borrow_mut();
        let kind = match entry.kind {
            Kind::Symlink if entry.link.is_empty() => return Err(Errno::NOENT),
            Kind::Symlink if entry.link.len() > TARGET_MAX => return Err(Errno::NAMETOOLONG),
            Kind::Symlink => InodeKind::Symlink { at: tables.keep(&entry.link)?, len: entry.link.len() as u16 },
            Kind::CharDevice(device) => InodeKind::CharDevice(device),
            Kind::BlockDevice(device) => InodeKind::BlockDevice(device),
            _ => InodeKind::Fifo,
        };
        tables.make(at, name, kind).map(|_| ())
    }

    fn finish_special(
        &mut self,
        at: &Dir<InodeId>,
        name: &[u8],
        entry: &Entry,
        anomalies: &mut Anomalies,
    ) -> Result<()> {
        let tables = self.tables.get_mut();
        let found = tables.find(*at.handle(), name);
        let inode = found.map_err(|errno| fail(errno, "look at", &entry.path))?;
        tables.set_metadata(inode, &Metadata::of(entry), anomalies);
        Ok(())
    }

    /// Nobody has to be root for that here. Where there are whiteouts, the device 0:0 would be one (family 63).
    fn makes_device(&self, device: Device) -> bool {
        !(self.has_whiteouts && device == Device::default())
    }

    fn make_whiteout(&self, &at: &InodeId, name: &[u8]) -> Result<(), Errno> {
        let kind = InodeKind::CharDevice(Device { major: 0, minor: 0 });
        self.tables.borrow_mut().make(at, name, kind).map(|_| ())
    }

    fn finish_directory(
        &mut self,
        directory: &Dir<InodeId>,
        metadata: &Metadata<'_>,
        _: &[u8],
        anomalies: &mut Anomalies,
    ) -> Result<()> {
        self.tables.get_mut().set_metadata(*directory.handle(), metadata, anomalies);
        Ok(())
    }

    fn check_room(&mut self, _: &InodeId, path: &[u8], size: u64) -> Result<()> {
        self.sink.check_room(path, size)
    }

    fn create_file(&self, &at: &InodeId, name: &[u8], plan: &Plan) -> Result<InodeId, Errno> {
        let mut tables = self.tables.borrow_mut();
        let kind = InodeKind::file(plan.size.unwrap_or(0), Extent::default());
        let inode = tables.make(at, name, kind)?;
        let mut anomalies = self.anomalies.get();
        tables.set_metadata(inode, &plan.metadata, &mut anomalies);
        self.anomalies.set(anomalies);
        if let Some(size) = plan.size {
            self.sizes.borrow_mut().insert(inode, size);
        }
        Ok(inode)
    }

    fn fill(&mut self, file: InodeId, filling: Filling<(u64, Extent)>) -> Result<()> {
        let part = match filling {
            Filling::Copy(original) => {
                self.take(file, original);
                return Ok(());
            }
            Filling::Data(part) => part,
        };
        self.open(file)?;
        part.map_or(Ok(()), |part| self.write(part))
    }

    fn place(&self, size: u64) -> Option<BlockPlace> {
        // Of a file whose content is elsewhere the sink knows nothing.
        self.open.as_ref().and_then(|_| self.sink.place(size))
    }

    fn kept_bytes(&self) -> u64 {
        self.tables.borrow().kept_bytes()
    }

    fn are_pending(&self) -> bool {
        false
    }

    fn settle(&mut self) -> Result<()> {
        self.close()
    }

    fn anomalies(&self) -> Anomalies {
        self.anomalies.get()
    }
}
