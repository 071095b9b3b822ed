//! Which file system a disk has.

use super::block::BLOCK;
use super::ext4::{Ext4Room, MOST_LINKS, has_skipped_xattrs, write_ext4};
use super::flat::write_flat;
use super::id::DiskId;
use super::merge::MergedTree;
use super::parts::{LayerSize, OpenPart};
use super::sink::DiskSink;
use super::verity::{HashTree, HashedSink, Verity};
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::layer::Anomalies;

/// The file system of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DiskFormat {
    /// What every Linux guest mounts. In one raw file.
    #[default]
    Ext4,
    /// For guests with Linux 5.4 or newer that have it. Read-only.
    Erofs,
}

impl DiskFormat {
    /// As mount(2) calls it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            DiskFormat::Ext4 => "ext4",
            DiskFormat::Erofs => "erofs",
        }
    }

    /// The longest label, in bytes.
    pub(crate) fn max_label_bytes(self) -> usize {
        match self {
            DiskFormat::Ext4 => 16,
            DiskFormat::Erofs => 15,
        }
    }

    /// How many names a file can have.
    pub(crate) fn max_links(self) -> u32 {
        match self {
            DiskFormat::Ext4 => MOST_LINKS,
            DiskFormat::Erofs => u32::MAX,
        }
    }

    /// What of a tree cannot be said, besides what its layers' disks lack already.
    pub(crate) fn anomalies(self, merged: &MergedTree, interrupt: &Interrupt) -> Result<Anomalies> {
        let is_less = self == DiskFormat::Ext4 && has_skipped_xattrs(&merged.tree, interrupt)?;
        Ok(if is_less { Anomalies::SKIPPED_XATTR } else { Anomalies::default() })
    }
}

/// What a disk that is one raw file is to be.
#[derive(Clone, Copy)]
pub(crate) struct DiskSpec<'a> {
    pub(crate) format: DiskFormat,
    pub(crate) id: &'a DiskId,
    pub(crate) room: Ext4Room,
    /// Hashes of all blocks lie behind the file system. The parts come with their own.
    pub(crate) has_verity: bool,
}

/// What it came to.
pub(crate) struct WrittenDisk {
    pub(crate) bytes: u64,
    pub(crate) verity: Option<Verity>,
}

impl DiskSpec<'_> {
    /// Hands over the disk. `check_room` is told how many bytes may have to be written.
    pub(crate) fn write(
        &self,
        merged: &MergedTree,
        parts: (&[LayerSize], &OpenPart<'_>),
        sink: &mut dyn DiskSink,
        check_room: &dyn Fn(u64) -> Result<()>,
        interrupt: &Interrupt,
    ) -> Result<WrittenDisk> {
        if !self.has_verity {
            let bytes = self.write_file_system(merged, parts, sink, check_room, interrupt)?;
            return Ok(WrittenDisk { bytes, verity: None });
        }
        let mut hashed = HashedSink::new(sink, true);
        let with_tree = |bytes: u64| check_room(bytes + HashTree::bytes_behind(bytes / BLOCK as u64));
        let bytes = self.write_file_system(merged, parts, &mut hashed, &with_tree, interrupt)?;
        let verity = hashed.finish()?.verity();
        let bytes = bytes + HashTree::bytes_behind(verity.data_blocks);
        Ok(WrittenDisk { bytes, verity: Some(verity) })
    }

    fn write_file_system(
        &self,
        merged: &MergedTree,
        parts: (&[LayerSize], &OpenPart<'_>),
        sink: &mut dyn DiskSink,
        check_room: &dyn Fn(u64) -> Result<()>,
        interrupt: &Interrupt,
    ) -> Result<u64> {
        match self.format {
            DiskFormat::Ext4 => write_ext4(merged, parts, (self.id, self.room), sink, check_room, interrupt),
            DiskFormat::Erofs => write_flat(merged, parts, self.id, sink, check_room, interrupt),
        }
    }
}
