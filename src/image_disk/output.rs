//! The files of a disk, written where they are not visible yet.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::layers::Layers;
use crate::digest::Digest;
use crate::disk::{DiskFile, DiskFormat, DiskId, Ext4Room, MergedTree, VmdkPart, vmdk_descriptor, write_merged};
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;
use crate::sys::{self, free_space};

/// The file that a VMM is given of a disk of several.
pub(super) const DESCRIPTOR: &str = "disk.vmdk";
/// The first of its parts.
pub(super) const METADATA: &str = "meta.erofs";
/// Of files that others share: nobody is to write to them.
const READ_ONLY: Mode = Mode::RUSR.union(Mode::RGRP).union(Mode::ROTH);

/// The part that is a layer's disk.
pub(super) fn part_name(number: usize) -> String {
    format!("layer-{number}.erofs")
}

/// What is to be written.
pub(super) struct Output<'a> {
    pub(super) layers: &'a Layers<'a>,
    pub(super) tree: &'a MergedTree,
    pub(super) key: &'a Digest,
    pub(super) id: &'a DiskId,
    pub(super) format: DiskFormat,
    pub(super) room: Ext4Room,
    pub(super) interrupt: &'a Interrupt,
}

/// A file of a disk, in the order of the device.
pub(super) struct WrittenPart {
    /// In the disk's folder; empty for a file without one.
    pub(super) name: String,
    pub(super) bytes: u64,
    /// The name of the tree in the store whose file it is, too.
    pub(super) tree: Option<String>,
}

/// The files of a disk.
pub(super) struct Written {
    pub(super) parts: Vec<WrittenPart>,
    /// What puts them one behind the other.
    pub(super) descriptor: Option<WrittenPart>,
    /// Bytes that they take in their file system.
    pub(super) allocated: u64,
}

impl Output<'_> {
    /// One raw file, into an empty one, which is called `name` in messages.
    pub(super) fn flat(&self, file: &OwnedFd, name: &str) -> Result<Written> {
        let check_room = |bytes: u64| match free_space(file.as_fd()) {
            Ok((free, _)) if free < bytes => {
                Err(Error::no_space(format!("{name}: {bytes} bytes to write, {free} free")))
            }
            _ => Ok(()),
        };
        self.flat_where(file, name, &check_room)
    }

    fn flat_where(&self, file: &OwnedFd, name: &str, check_room: &dyn Fn(u64) -> Result<()>) -> Result<Written> {
        // Blocks that are shared take no room, so that only what is written will tell there.
        let check_room = |bytes: u64| match check_room(bytes) {
            Err(error) if error.status() == Status::NoSpace && self.shares_blocks(file) => Ok(()),
            checked => checked,
        };
        let open = |number: u16| Ok(self.layers.open(number)?.0);
        let parts = (&self.layers.sizes[..], &open as _);
        let sink = &mut DiskFile { file, name, interrupt: self.interrupt };
        let bytes = self.format.write(self.tree, parts, (self.id, self.room), sink, &check_room, self.interrupt)?;
        Ok(Written {
            parts: vec![WrittenPart { name: String::new(), bytes, tree: None }],
            descriptor: None,
            allocated: allocated(file)?,
        })
    }

    /// One raw file of this name in a folder of the store, which is at `path`.
    pub(super) fn flat_in(&self, folder: BorrowedFd<'_>, path: &Path, name: &str) -> Result<Written> {
        let file = create(folder, path, name)?;
        let what = path.join(name).display().to_string();
        let check_room = |bytes: u64| self.layers.storage.make_room(bytes, &what, self.interrupt);
        let mut written = self.flat_where(&file, &what, &check_room)?;
        finish(&file, path, name)?;
        written.parts.iter_mut().for_each(|part| part.name = name.to_owned());
        Ok(written)
    }

    /// Metadata, the parts, and a descriptor that puts them one behind the other, in a folder that is at `path`.
    pub(super) fn merged_in(&self, folder: BorrowedFd<'_>, path: &Path) -> Result<Written> {
        let metadata = create(folder, path, METADATA)?;
        let name = path.join(METADATA).display().to_string();
        let sizes = &self.layers.sizes;
        let sink = &mut DiskFile { file: &metadata, name: &name, interrupt: self.interrupt };
        let written = write_merged(self.tree, sizes, self.id, sink, self.interrupt)?;
        finish(&metadata, path, METADATA)?;
        let mut allocated = allocated(&metadata)?;
        let mut parts = vec![WrittenPart { name: METADATA.to_owned(), bytes: written.metadata_bytes, tree: None }];
        for (number, bytes) in written.parts {
            self.interrupt.check()?;
            let name = part_name(number);
            let linked = self.layers.link(number, folder, &name)?;
            linked.map_err(|errno| cannot_link(errno, &path.join(&name).display().to_string()))?;
            parts.push(WrittenPart { name, bytes, tree: self.layers.tree_name(number) });
            allocated = allocated.saturating_add(sizes[number].allocated);
        }
        let descriptor = create(folder, path, DESCRIPTOR)?;
        let vmdk: Vec<VmdkPart> =
            parts.iter().map(|part| VmdkPart { name: part.name.clone(), bytes: part.bytes }).collect();
        let text = vmdk_descriptor(&vmdk, self.key);
        sys::write_all(descriptor.as_fd(), text.as_bytes())
            .map_err(|errno| Error::os(errno, format_args!("write {}", path.join(DESCRIPTOR).display())))?;
        finish(&descriptor, path, DESCRIPTOR)?;
        let descriptor = WrittenPart { name: DESCRIPTOR.to_owned(), bytes: text.len() as u64, tree: None };
        Ok(Written { parts, descriptor: Some(descriptor), allocated })
    }

    /// Whether a copy of blocks of the parts takes no room: one is tried, and undone.
    fn shares_blocks(&self, to: &OwnedFd) -> bool {
        let is_shared = !self.layers.is_empty()
            && self.layers.open(0).is_ok_and(|(part, _)| sys::reflink(to.as_fd(), part.file.as_fd()).is_ok());
        is_shared && rustix::fs::ftruncate(to, 0).is_ok()
    }
}

fn create(folder: BorrowedFd<'_>, path: &Path, name: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|errno| Error::os(errno, format_args!("create {}", path.join(name).display())))
}

/// From now on nobody writes to it.
fn finish(file: &OwnedFd, path: &Path, name: &str) -> Result<()> {
    rustix::fs::fchmod(file, READ_ONLY)
        .map_err(|errno| Error::os(errno, format_args!("set mode of {}", path.join(name).display())))
}

fn cannot_link(errno: Errno, name: &str) -> Error {
    let why = match errno {
        Errno::XDEV => "the store is on another file system, so that its files can have no name here; take a flat disk",
        Errno::MLINK => "a layer's file can have no more names in this file system; take a flat disk",
        Errno::PERM | Errno::ACCESS | Errno::NOTSUP => {
            "the system lets this user give the store's files no further names; take a flat disk"
        }
        errno => return Error::os(errno, format_args!("link {name}")),
    };
    Error::new(Status::Unsupported, format!("{name}: {why}"))
}

/// Bytes that a file takes in its file system.
fn allocated(file: &OwnedFd) -> Result<u64> {
    let stat = rustix::fs::fstat(file).map_err(|errno| Error::os(errno, "look at a disk"))?;
    Ok(stat.st_blocks as u64 * 512)
}
