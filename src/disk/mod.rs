//! Disks: an image as files that a guest mounts.
//!
//! The unit is the layer. Its entries go once into a disk of its own ([`layer`]), and the metadata record beside it says where
//! in it each file's content is. What is made of several layers takes the content from there.

#![forbid(unsafe_code)]

mod area;
mod block;
mod copy_blocks;
mod erofs;
mod ext4;
mod file_type;
mod flat;
mod format;
mod id;
mod layer;
mod lookup;
mod merge;
mod merged;
mod order;
mod parts;
mod sink;
mod verify;
mod verity;
mod vmdk;

pub(crate) use block::BLOCK_BYTES;
pub(crate) use ext4::Ext4Room;
pub use format::DiskFormat;
pub(crate) use format::{DiskSpec, WrittenDisk};
pub(crate) use id::{DiskId, disk_key};
pub(crate) use layer::{complete_layer, layer_area, layer_writer};
pub(crate) use merge::{Merge, MergedTree};
pub(crate) use merged::{MergedDisk, write_merged};
pub(crate) use parts::{LayerDisk, LayerSize};
pub(crate) use sink::{DiskComparison, DiskSink, OutputFile};
pub(crate) use verify::{verify_layer_disk, verify_layer_record};
pub use verity::Verity;
pub(crate) use verity::{BlockHashes, HashTree, HashedSink, hash_blocks, hash_blocks_at_pace};
pub(crate) use vmdk::{VmdkPart, vmdk_descriptor};
