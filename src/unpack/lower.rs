//! The extracted tree of a layer, out of which files come into another tree.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::aside::Aside;
use super::root_dir::{Dir, Missing, Root};
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;
use crate::layer::{Reader, split_parent};
use crate::limits::LayerLimits;

/// Where the entries of a layer come from, and the content of its files.
pub(super) enum LayerSource<'r, 't> {
    Archive(&'r mut Reader),
    Tree(&'r mut LowerTree<'t>),
}

/// How files of an extracted tree become files of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopyMode {
    Copy,
    /// With shared blocks where the file system can.
    Reflink,
    /// As further names of the same files.
    Link,
}

/// The extracted tree of a layer, which is read.
pub(super) struct LowerTree<'t> {
    root: Root<'t>,
    pub(super) taking: CopyMode,
    /// Of the content of the file whose turn it is.
    pub(super) sum: Option<u64>,
}

impl LowerTree<'_> {
    pub(super) fn new(tree: OwnedFd, taking: CopyMode, limits: LayerLimits, interrupt: Interrupt) -> Self {
        // A walk that makes nothing replaces nothing.
        let trash = Aside::new(|| Err(Error::new(Status::Internal, "an extracted tree is not to be changed")));
        LowerTree { root: Root::new(tree, trash, limits, interrupt), taking, sum: None }
    }

    pub(super) fn is_linked(&self) -> bool {
        self.taking == CopyMode::Link
    }

    /// The directory of what has this path in the record.
    pub(super) fn parent(&mut self, path: &[u8]) -> Result<Arc<Dir>> {
        self.root.grant_steps();
        self.root.dir(split_parent(path).0, Missing::Leave)?.ok_or_else(damaged)
    }
}

pub(super) fn damaged() -> Error {
    Error::new(Status::State, "an extracted layer is damaged; bl_check() mends it")
}
