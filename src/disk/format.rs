//! Which file system a disk has.

use super::ext4::{Ext4Room, MOST_LINKS, has_skipped_xattrs, write_ext4};
use super::flat::write_flat;
use super::id::DiskId;
use super::merge::MergedTree;
use super::parts::{LayerSize, OpenPart};
use super::sink::DiskSink;
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

    /// Hands over a disk that is one raw file; how many bytes it has. `check_room` is told how many may have to be written.
    pub(crate) fn write(
        self,
        merged: &MergedTree,
        parts: (&[LayerSize], &OpenPart<'_>),
        (id, room): (&DiskId, Ext4Room),
        sink: &mut dyn DiskSink,
        check_room: &dyn Fn(u64) -> Result<()>,
        interrupt: &Interrupt,
    ) -> Result<u64> {
        match self {
            DiskFormat::Ext4 => write_ext4(merged, parts, (id, room), sink, check_room, interrupt),
            DiskFormat::Erofs => write_flat(merged, parts, id, sink, check_room, interrupt),
        }
    }
}
