//! From a layer's entries to a directory tree, whole or not at all, and never outside its root.

#![forbid(unsafe_code)]

mod apply;
mod arena;
mod arena_nodes;
mod aside;
mod checksum;
mod content;
mod copy;
mod disk_nodes;
mod form;
mod hardlink;
mod hide;
mod links;
mod lower;
mod metadata;
mod nodes;
#[cfg(test)]
mod nodes_agree;
mod order;
mod progress;
mod read_in_root;
mod replay;
mod room;
mod root_dir;
mod take;
mod tree;
mod verify;
mod walk;
mod write;
mod write_pool;

pub(crate) use apply::Assembler;
pub(crate) use arena::{Arena, InodeId, InodeKind, MemoryTree, ROOT};
pub(crate) use aside::{Aside, AsideDir};
pub(crate) use checksum::ContentSum;
pub(crate) use content::{ContentSink, Extent, NoContent, RecordedLayer};
pub(crate) use disk_nodes::DiskNodes;
pub use form::{TreeForm, TreeOptions, WhiteoutForm};
pub(crate) use lower::CopyMode;
pub(crate) use metadata::is_reserved;
pub(crate) use nodes::Nodes;
pub use progress::ProgressCallback;
pub(crate) use read_in_root::read_in_root;
pub(crate) use room::RoomCheck;
pub(crate) use tree::TreeWriter;
pub(crate) use verify::{Spend, Verdict, damage, sum_of_bytes, verify_tree};
