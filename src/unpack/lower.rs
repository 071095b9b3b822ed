//! The extracted tree of a layer, out of which files come into another tree.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::aside::Aside;
use super::copy::{Original, Place};
use super::nodes::Lower;
use super::root_dir::{Dir, Missing, Root};
use super::walk::DiskWalk;
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;
use crate::layer::{Entry, Reader, split_parent};
use crate::limits::LayerLimits;

/// Where the entries of a layer come from, and the content of its files.
pub(super) enum LayerSource<'r, L: Lower> {
    Archive(&'r mut Reader),
    /// One entry, with its content if it is a file that has some, and the sum of that.
    Entry(Option<L::Original>, Option<u64>),
    /// An extracted layer, with the sum of the content of the file whose turn it is.
    Lower(&'r mut L, Option<u64>),
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
pub(crate) struct LowerTree<'t> {
    root: Root<DiskWalk<'t>>,
    taking: CopyMode,
}

impl LowerTree<'_> {
    pub(super) fn new(tree: OwnedFd, taking: CopyMode, limits: LayerLimits, interrupt: Interrupt) -> Self {
        // A walk that makes nothing replaces nothing.
        let trash = Aside::new(|| Err(Error::new(Status::Internal, "an extracted tree is not to be changed")));
        LowerTree { root: Root::new(tree, DiskWalk::new(trash), limits, interrupt), taking }
    }

    /// The directory and the name of an entry of the record.
    pub(super) fn place_of<'e>(&mut self, entry: &'e Entry) -> Result<(Arc<Dir>, &'e [u8])> {
        let (parent, name) = split_parent(&entry.path);
        self.root.grant_steps();
        let parent = self.root.dir(parent, Missing::Leave)?.ok_or_else(damaged)?;
        Ok((parent, name))
    }
}

impl Lower for LowerTree<'_> {
    type Original = Original;

    fn is_linked(&self) -> bool {
        self.taking == CopyMode::Link
    }

    fn original(&mut self, entry: &Entry) -> Result<Original> {
        let (parent, name) = self.place_of(entry)?;
        let reflink = self.taking != CopyMode::Copy;
        Ok(Original { place: Place::Named(parent, name.to_vec()), size: entry.size, reflink })
    }
}

pub(super) fn damaged() -> Error {
    Error::new(Status::State, "an extracted layer is damaged; bl_check() mends it")
}
