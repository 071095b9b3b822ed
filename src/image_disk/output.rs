//! The files of a disk, written where they are not visible yet.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::hashes::Hashes;
use super::layers::Layers;
use crate::digest::Digest;
use crate::disk::{
    BlockHashes, DiskSink, DiskSpec, HashTree, HashedSink, MergedDisk, MergedTree, OutputFile, Verity, VmdkPart,
    WrittenDisk, vmdk_descriptor, write_merged,
};
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;
use crate::sys::{self, free_space};

/// The file that a VMM is given of a disk of several.
pub(super) const DESCRIPTOR: &str = "disk.vmdk";
/// The first of its parts.
pub(super) const METADATA: &str = "meta.erofs";
/// The last of them: hashes of all others.
pub(super) const VERITY: &str = "verity";
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
    pub(super) spec: DiskSpec<'a>,
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
    pub(super) verity: Option<Verity>,
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
        let wanted = if self.spec.has_verity { Hashes::Kept } else { Hashes::Unwanted };
        let open = |number: u16| self.layers.open_with(number, wanted, self.interrupt);
        let parts = (&self.layers.sizes[..], &open as _);
        let sink = &mut OutputFile { file, name, interrupt: self.interrupt };
        let WrittenDisk { bytes, verity } = self.spec.write(self.tree, parts, sink, &check_room, self.interrupt)?;
        Ok(Written {
            parts: vec![WrittenPart { name: String::new(), bytes, tree: None }],
            descriptor: None,
            verity,
            allocated: allocated_of(file)?,
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
        let sink = &mut OutputFile { file: &metadata, name: &name, interrupt: self.interrupt };
        let MergedFiles { disk: written, tree } =
            MergedFiles::write(self.layers, self.tree, &self.spec, sink, Hashes::Kept, self.interrupt)?;
        finish(&metadata, path, METADATA)?;
        let mut allocated = allocated_of(&metadata)?;
        let mut parts = vec![WrittenPart { name: METADATA.to_owned(), bytes: written.metadata_bytes, tree: None }];
        for (number, bytes) in written.parts {
            self.interrupt.check()?;
            let name = part_name(number);
            let linked = self.layers.link(number, folder, &name)?;
            linked.map_err(|errno| cannot_link(errno, &path.join(&name).display().to_string()))?;
            parts.push(WrittenPart { name, bytes, tree: self.layers.tree_name(number) });
            allocated = allocated.saturating_add(sizes[number].allocated);
        }
        if let Some(tree) = &tree {
            let file = create(folder, path, VERITY)?;
            let name = path.join(VERITY).display().to_string();
            let bytes = write_tree(tree, &mut OutputFile { file: &file, name: &name, interrupt: self.interrupt })?;
            finish(&file, path, VERITY)?;
            allocated = allocated.saturating_add(allocated_of(&file)?);
            parts.push(WrittenPart { name: VERITY.to_owned(), bytes, tree: None });
        }
        let descriptor = create(folder, path, DESCRIPTOR)?;
        let vmdk: Vec<VmdkPart> =
            parts.iter().map(|part| VmdkPart { name: part.name.clone(), bytes: part.bytes }).collect();
        let text = vmdk_descriptor(&vmdk, self.key);
        sys::write_all(descriptor.as_fd(), text.as_bytes())
            .map_err(|errno| Error::os(errno, format_args!("write {}", path.join(DESCRIPTOR).display())))?;
        finish(&descriptor, path, DESCRIPTOR)?;
        let descriptor = WrittenPart { name: DESCRIPTOR.to_owned(), bytes: text.len() as u64, tree: None };
        let verity = tree.map(|tree| tree.verity());
        Ok(Written { parts, descriptor: Some(descriptor), verity, allocated })
    }

    /// Whether a copy of blocks of the parts takes no room: one is tried, and undone.
    fn shares_blocks(&self, to: &OwnedFd) -> bool {
        let is_shared = !self.layers.is_empty()
            && self.layers.open(0).is_ok_and(|(part, _)| sys::reflink(to.as_fd(), part.file.as_fd()).is_ok());
        is_shared && rustix::fs::ftruncate(to, 0).is_ok()
    }
}

/// What a disk of several files comes to, but for the layers' own.
pub(super) struct MergedFiles {
    pub(super) disk: MergedDisk,
    /// Of all files in the order of the device, where that is wanted.
    pub(super) tree: Option<HashTree>,
}

impl MergedFiles {
    /// Hands over the metadata.
    pub(super) fn write(
        layers: &Layers<'_>,
        tree: &MergedTree,
        spec: &DiskSpec<'_>,
        sink: &mut dyn DiskSink,
        wanted: Hashes<'_>,
        interrupt: &Interrupt,
    ) -> Result<MergedFiles> {
        if !spec.has_verity {
            let disk = write_merged(tree, &layers.sizes, spec.id, sink, interrupt)?;
            return Ok(MergedFiles { disk, tree: None });
        }
        let mut hashed = HashedSink::new(sink, false);
        let disk = write_merged(tree, &layers.sizes, spec.id, &mut hashed, interrupt)?;
        let mut hashes = vec![Arc::new(hashed.into_hashes()?)];
        for (number, _) in &disk.parts {
            let of_part = layers.open_with(*number as u16, wanted, interrupt)?.hashes;
            hashes.push(of_part.ok_or_else(|| Error::new(Status::Internal, "a layer's disk without hashes"))?);
        }
        Ok(MergedFiles { disk, tree: Some(HashTree::of(BlockHashes::in_a_row(&hashes)?)) })
    }
}

/// Hands over the file of a tree of hashes; how long it is.
pub(super) fn write_tree(tree: &HashTree, sink: &mut dyn DiskSink) -> Result<u64> {
    let bytes = HashTree::bytes_behind(tree.verity().data_blocks);
    sink.size(bytes)?;
    let mut at = 0;
    tree.write(|part| {
        sink.bytes(at, part)?;
        at += part.len() as u64;
        Ok(())
    })?;
    Ok(bytes)
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
fn allocated_of(file: &OwnedFd) -> Result<u64> {
    let stat = rustix::fs::fstat(file).map_err(|errno| Error::os(errno, "look at a disk"))?;
    Ok(stat.st_blocks as u64 * 512)
}
