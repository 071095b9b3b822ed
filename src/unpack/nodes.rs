//! Where the nodes of a tree live.
//!
//! The rules of layers are written once. They say how a path leads through symlinks, what a later
//! entry replaces, what a whiteout hides, what a hard link is. They stand on the operations here,
//! each of which is one name in one open directory. On the disk an operation is a system call
//! ([`super::disk_nodes`]); in memory it is a look-up ([`super::arena_nodes`]).
//!
//! What the writer decides by is the error, so whatever is behind a name has the errors of POSIX.
//! `NOENT` and `EXIST` are plain. `NOTDIR` or `LOOP` is for what is no directory, `NAMETOOLONG`
//! above 255 bytes. `MLINK` is where a file can have no more names.

use std::sync::Arc;

use rustix::io::Errno;

use super::metadata::Metadata;
use super::root_dir::{Dir, fail};
use super::walk::Walk;
use super::write_pool::{Filling, Plan};
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::layer::{Anomalies, Device, Entry, split_parent};
use crate::record::{BlockPlace, Holes};

/// What has a name.
pub(crate) struct NamedNode<I> {
    pub(super) is_directory: bool,
    /// The device 0:0, which is a whiteout in the overlay forms.
    pub(super) is_null_device: bool,
    pub(super) size: u64,
    pub(super) identity: I,
}

/// What the writer of a tree does.
pub(crate) trait Nodes: Walk {
    /// What tells whether two names are of one node.
    type Identity: Copy + PartialEq;
    /// A file that gets its content in parts. Whoever drops the last one finishes the file.
    type File: Clone;
    /// What files of an extracted layer come from.
    type Lower: Lower;

    /// Whether the writer notes which names were used, so that it need not look at one that was not. Only then is a name known to
    /// be free, and [`Nodes::whole_file`] called.
    const NOTES_USED_NAMES: bool;

    /// What has the name, itself.
    fn look(&self, at: &Self::Handle, name: &[u8]) -> Result<NamedNode<Self::Identity>, Errno>;

    /// All names in a directory, in any order.
    fn names(&self, at: &Self::Handle) -> Result<Vec<Vec<u8>>, Errno>;

    /// A further name of something; a symlink is not followed.
    fn link(&self, from: (&Self::Handle, &[u8]), to: (&Self::Handle, &[u8])) -> Result<(), Errno>;

    /// The same of a file of an extracted layer.
    fn link_lower(
        &self,
        lower: &mut Self::Lower,
        entry: &Entry,
        to: (&Self::Handle, &[u8]),
    ) -> Result<Result<(), Errno>>;

    /// What has no room for a further name, once more (decision D4).
    fn copy(
        &self,
        from: (&Dir<Self::Handle>, &[u8]),
        to: (&Dir<Self::Handle>, &[u8]),
        interrupt: &Interrupt,
    ) -> Result<()>;

    /// A symlink, a fifo or a device, without its metadata.
    fn make_special(&self, at: &Self::Handle, name: &[u8], entry: &Entry) -> Result<(), Errno>;

    /// Gives it its metadata.
    fn finish_special(
        &mut self,
        at: &Dir<Self::Handle>,
        name: &[u8],
        entry: &Entry,
        anomalies: &mut Anomalies,
    ) -> Result<()>;

    /// Whether a device becomes one, and not a file in its place (D6).
    fn makes_device(&self, device: Device) -> bool;

    /// A whiteout of the overlay forms.
    fn make_whiteout(&self, at: &Self::Handle, name: &[u8]) -> Result<(), Errno>;

    /// Gives a directory its metadata, when nothing will be put into it any more.
    fn finish_directory(
        &mut self,
        directory: &Dir<Self::Handle>,
        metadata: &Metadata<'_>,
        path: &[u8],
        anomalies: &mut Anomalies,
    ) -> Result<()>;

    /// `NO_SPACE` for a file that will not fit.
    fn check_room(&mut self, at: &Self::Handle, path: &[u8], size: u64) -> Result<()>;

    /// A file whose name nothing has had, with all that it has; perhaps later.
    fn whole_file(
        &mut self,
        parent: &Arc<Dir<Self::Handle>>,
        plan: Plan,
        filling: Filling<<Self::Lower as Lower>::Original>,
    ) -> Result<()> {
        let created = self.create_file(parent.handle(), split_parent(&plan.path).1, &plan);
        let file = created.map_err(|errno| fail(errno, "create", &plan.path))?;
        self.fill(file, filling)
    }

    /// A file whose content comes in parts.
    fn create_file(&self, at: &Self::Handle, name: &[u8], plan: &Plan) -> Result<Self::File, Errno>;

    /// Puts something into it; perhaps later.
    fn fill(&mut self, file: Self::File, filling: Filling<<Self::Lower as Lower>::Original>) -> Result<()>;

    /// Where the content of the file that came last is, which has this size; `None` where files have no blocks that we know.
    fn place(&self, _: u64) -> Option<BlockPlace> {
        None
    }

    /// Bytes of names, targets and attributes that stay in memory.
    fn kept_bytes(&self) -> u64 {
        0
    }

    /// Whether there may be files that are not there yet.
    fn are_pending(&self) -> bool;

    /// Waits for all files.
    fn settle(&mut self) -> Result<()>;

    /// What was odd about the files that are there.
    fn anomalies(&self) -> Anomalies;
}

/// An extracted layer, out of which files come into another tree.
pub(crate) trait Lower {
    /// The content of one of its files.
    type Original;

    /// Where the content of the entry whose turn it is begins, and which blocks of it are zeros alone, where its record says that.
    fn at_block(&mut self, _: Option<u32>, _: Holes) {}

    /// Whether its files get further names, instead of copies.
    fn is_linked(&self) -> bool;

    /// The content of an entry of it.
    fn original(&mut self, entry: &Entry) -> Result<Self::Original>;
}
