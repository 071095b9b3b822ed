//! Nodes on the disk: each operation is a system call on an open directory, and never follows the name.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;

use super::aside::Aside;
use super::copy::{Identity, Original, copy};
use super::form::TreeForm;
use super::lower::LowerTree;
use super::metadata::{Applier, Metadata};
use super::nodes::{NamedNode, Nodes};
use super::room::RoomCheck;
use super::root_dir::{Dir, fail};
use super::walk::{DiskWalk, Walk};
use super::write_pool::{Filling, Job, OpenFile, PRIVATE, Plan, WritePool, create};
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::layer::{Anomalies, Device, Entry, Kind};
use crate::sys::{self, is_directory};

/// A tree on the disk that is being written.
pub(crate) struct DiskNodes<'a> {
    walk: DiskWalk<'a>,
    form: TreeForm,
    applier: Applier,
    files: WritePool,
    room: RoomCheck,
}

impl<'a> DiskNodes<'a> {
    pub(crate) fn new(
        root: BorrowedFd<'_>,
        trash: Aside<'a>,
        form: TreeForm,
        interrupt: &Interrupt,
        min_free: u64,
    ) -> Result<DiskNodes<'a>> {
        let applier = Applier::new(form, root)?;
        let files = WritePool::new(applier, interrupt.clone())?;
        Ok(DiskNodes { walk: DiskWalk::new(trash), form, applier, files, room: RoomCheck::new(min_free) })
    }

    /// Owner and group of the files of this tree that nobody gave another one.
    pub(super) fn born(&self) -> (u32, u32) {
        self.applier.born()
    }
}

impl Walk for DiskNodes<'_> {
    type Handle = OwnedFd;

    fn open_directory(&self, at: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
        self.walk.open_directory(at, name)
    }

    fn read_symlink(&self, at: &OwnedFd, name: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
        self.walk.read_symlink(at, name)
    }

    fn make_directory(&self, at: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
        self.walk.make_directory(at, name)
    }

    fn take_away(&mut self, at: &OwnedFd, name: &[u8]) -> Result<Result<(), Errno>> {
        self.walk.take_away(at, name)
    }
}

impl Nodes for DiskNodes<'_> {
    type Identity = Identity;
    type File = Arc<OpenFile>;
    type Lower = LowerTree<'static>;

    const NOTES_USED_NAMES: bool = true;

    fn look(&self, at: &OwnedFd, name: &[u8]) -> Result<NamedNode<Identity>, Errno> {
        let stat = rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
        Ok(NamedNode {
            is_directory: is_directory(&stat),
            is_null_device: is_device && stat.st_rdev == 0,
            size: stat.st_size as u64,
            identity: Identity::of(&stat),
        })
    }

    fn names(&self, at: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(at)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.to_vec());
            }
        }
        Ok(names)
    }

    fn link(&self, (from, from_name): (&OwnedFd, &[u8]), (to, to_name): (&OwnedFd, &[u8])) -> Result<(), Errno> {
        rustix::fs::linkat(from, from_name, to, to_name, AtFlags::empty())
    }

    fn link_lower(
        &self,
        lower: &mut LowerTree<'static>,
        entry: &Entry,
        to: (&OwnedFd, &[u8]),
    ) -> Result<Result<(), Errno>> {
        let (from, from_name) = lower.place_of(entry)?;
        Ok(self.link((from.handle(), from_name), to))
    }

    fn copy(
        &self,
        (from, from_name): (&Dir<OwnedFd>, &[u8]),
        (to, to_name): (&Dir<OwnedFd>, &[u8]),
        interrupt: &Interrupt,
    ) -> Result<()> {
        let stat = rustix::fs::statat(from, from_name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| fail(errno, "look at", &from.join(from_name)))?;
        copy(from, from_name, &stat, to, to_name, interrupt)
    }

    fn make_special(&self, at: &OwnedFd, name: &[u8], entry: &Entry) -> Result<(), Errno> {
        let mode = Mode::RUSR | Mode::WUSR;
        let node = |file_type, device: Device| {
            let number = rustix::fs::makedev(device.major, device.minor);
            sys::make_node(at.as_fd(), name, file_type, mode, number)
        };
        match entry.kind {
            Kind::Symlink => rustix::fs::symlinkat(&entry.link[..], at, name),
            Kind::CharDevice(device) => node(FileType::CharacterDevice, device),
            Kind::BlockDevice(device) => node(FileType::BlockDevice, device),
            _ => sys::make_fifo(at.as_fd(), name, mode),
        }
    }

    fn finish_special(
        &mut self,
        at: &Dir<OwnedFd>,
        name: &[u8],
        entry: &Entry,
        anomalies: &mut Anomalies,
    ) -> Result<()> {
        self.applier.apply_to_special(at, name, entry, anomalies)
    }

    /// As root and when asked for. In the overlay forms the device 0:0 is a whiteout and never a device (family 63).
    fn makes_device(&self, device: Device) -> bool {
        let is_whiteout = self.form.is_overlay() && device == Device { major: 0, minor: 0 };
        self.form.device_nodes && self.applier.is_root() && !is_whiteout
    }

    fn make_whiteout(&self, at: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
        let number = rustix::fs::makedev(0, 0);
        sys::make_node(at.as_fd(), name, FileType::CharacterDevice, Mode::empty(), number)
    }

    fn finish_directory(
        &mut self,
        directory: &Dir<OwnedFd>,
        metadata: &Metadata<'_>,
        path: &[u8],
        anomalies: &mut Anomalies,
    ) -> Result<()> {
        self.applier.apply(directory.as_fd(), metadata, false, path, anomalies)
    }

    fn check_room(&mut self, at: &OwnedFd, path: &[u8], size: u64) -> Result<()> {
        self.room.check(at.as_fd(), path, size)
    }

    fn whole_file(&mut self, parent: &Arc<Dir<OwnedFd>>, plan: Plan, filling: Filling<Original>) -> Result<()> {
        self.files.submit(Job::Whole { parent: parent.clone(), plan, filling })
    }

    fn create_file(&self, at: &OwnedFd, name: &[u8], plan: &Plan) -> Result<Arc<OpenFile>, Errno> {
        Ok(Arc::new(OpenFile::new(create(at.as_fd(), name, PRIVATE)?, plan.clone())))
    }

    fn fill(&mut self, file: Arc<OpenFile>, filling: Filling<Original>) -> Result<()> {
        self.files.submit(Job::Part { file, filling })
    }

    fn are_pending(&self) -> bool {
        self.files.are_pending()
    }

    fn settle(&mut self) -> Result<()> {
        self.files.finish()
    }

    fn anomalies(&self) -> Anomalies {
        self.files.anomalies()
    }
}
