//! The files of a disk, beside their destination until they are whole.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::options::{DiskOptions, DiskPart};
use crate::destination::{Destination, PendingOutput};
use crate::digest::Digest;
use crate::disk::{DiskId, LayerSize, MergedTree, OpenPart, VmdkPart, vmdk_descriptor, write_flat, write_merged};
use crate::error::{Error, Result, Status};
use crate::store::{Folder, Storage};
use crate::sys::{self, free_space};
use crate::unpack::TreeForm;

/// The file that a VMM is given of a disk of several.
pub(super) const DESCRIPTOR: &str = "disk.vmdk";
/// The first of its parts.
const METADATA: &str = "meta.erofs";
/// Of files of a merged disk: nobody is to write to a part that others share.
const READ_ONLY: Mode = Mode::RUSR.union(Mode::RGRP).union(Mode::ROTH);

/// What is to be written, and where.
pub(super) struct Output<'a> {
    pub(super) storage: &'a Storage,
    pub(super) place: &'a Arc<Destination>,
    pub(super) tree: &'a MergedTree,
    /// The layers whose disks the parts are, and how large those are.
    pub(super) digests: &'a [Digest],
    pub(super) sizes: &'a [LayerSize],
    pub(super) id: &'a DiskId,
    pub(super) options: &'a DiskOptions,
}

/// The files of a disk.
pub(super) struct MadeDisk {
    pub(super) parts: Vec<DiskPart>,
    /// Bytes that they take in their file system.
    pub(super) allocated: u64,
}

/// One raw file.
pub(super) fn flat(output: &Output<'_>) -> Result<MadeDisk> {
    let Output { storage, place, tree, digests, sizes, id, options } = output;
    let open = |number: u32| Ok(storage.open_layer_disk(&digests[number as usize])?.0);
    let work = PendingOutput::file(place)?;
    let (file, path) = (work.open()?, work.path().to_path_buf());
    let name = path.display().to_string();
    // Blocks that are shared take no room, so that only what is written will tell there.
    let check_room = |bytes: u64| match free_space(file.as_fd()) {
        Ok((free, _)) if free < bytes && !shares_blocks(digests.is_empty(), &open, &file) => {
            Err(Error::no_space(format!("{name}: {bytes} bytes to write, {free} free")))
        }
        _ => Ok(()),
    };
    let length = write_flat(tree, (sizes, &open), id, (&file, &name), check_room, &options.interrupt)?;
    let allocated = allocated(&file)?;
    place.check_free_for_file(options.replace)?;
    work.publish_file()?;
    Ok(MadeDisk { parts: vec![DiskPart { path, offset: 0, length }], allocated })
}

/// A directory: metadata, the parts, and a descriptor that puts them one behind the other.
pub(super) fn merged(output: &Output<'_>, key: &Digest) -> Result<MadeDisk> {
    let Output { storage, place, tree, digests, sizes, id, options } = output;
    let work = PendingOutput::directory(place)?;
    let (folder, path) = (work.open()?, work.path().to_path_buf());
    let create = |name: &str| {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&folder, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| Error::os(errno, format_args!("create {}", path.join(name).display())))
    };
    let finish = |file: &OwnedFd, name: &str| {
        rustix::fs::fchmod(file, READ_ONLY)
            .map_err(|errno| Error::os(errno, format_args!("set mode of {}", path.join(name).display())))
    };
    let metadata = create(METADATA)?;
    let name = path.join(METADATA).display().to_string();
    let written = write_merged(tree, sizes, id, (&metadata, &name), &options.interrupt)?;
    finish(&metadata, METADATA)?;
    let mut allocated = allocated(&metadata)?;
    let mut vmdk = vec![VmdkPart { name: METADATA.to_owned(), bytes: written.metadata_bytes }];
    for (number, bytes) in written.parts {
        options.interrupt.check()?;
        let name = format!("layer-{number}.erofs");
        let tree = TreeForm::EROFS.tree_name(&digests[number]);
        let from = storage.directory.area(Folder::Extracted)?;
        rustix::fs::linkat(from, tree.as_str(), &folder, name.as_str(), AtFlags::empty())
            .map_err(|errno| cannot_link(errno, &path.join(&name).display().to_string()))?;
        vmdk.push(VmdkPart { name, bytes });
        allocated = allocated.saturating_add(sizes[number].allocated);
    }
    let descriptor = create(DESCRIPTOR)?;
    sys::write_all(descriptor.as_fd(), vmdk_descriptor(&vmdk, key).as_bytes())
        .map_err(|errno| Error::os(errno, format_args!("write {}", path.join(DESCRIPTOR).display())))?;
    finish(&descriptor, DESCRIPTOR)?;
    rustix::fs::fchmod(&folder, Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH)
        .map_err(|errno| Error::os(errno, format_args!("set mode of {}", path.display())))?;
    work.publish_directory(options.replace)?;
    let mut offset = 0;
    let part = |VmdkPart { name, bytes }: VmdkPart| {
        let part = DiskPart { path: path.join(name), offset, length: bytes };
        offset += bytes;
        part
    };
    Ok(MadeDisk { parts: vmdk.into_iter().map(part).collect(), allocated })
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

/// Whether a copy of blocks of the parts takes no room: one is tried, and undone.
fn shares_blocks(is_empty: bool, open: &OpenPart<'_>, to: &OwnedFd) -> bool {
    let is_shared = !is_empty && open(0).is_ok_and(|part| sys::reflink(to.as_fd(), part.file.as_fd()).is_ok());
    is_shared && rustix::fs::ftruncate(to, 0).is_ok()
}
