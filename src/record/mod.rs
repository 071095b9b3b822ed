//! The metadata record: what a layer says of each path. It says that also where the file system
//! could not be told (owners and devices without root, attributes of symlinks). It lies beside the
//! tree as `<tree>.mtree`, in mtree(5) form with the keywords that libarchive writes. It adds
//! `xattr.<name>` (base 64), `hardlink`, `lowerlink`, `whiteout`, `implied` and, of a layer that is
//! a disk, `block` and `holes`.
//!
//! Lines are written in the order of the archive, as the tree is made. Where an entry took the
//! place of another one, [`voided`] takes the old lines out at the end. So a record speaks of each
//! path once. The head says which bytes the tree is (layer, diff_id), what was odd about them, and
//! how long the tree counts ([`RecordHead`]).

#![forbid(unsafe_code)]

mod entry;
mod head;
mod holes;
mod line;
mod voided;
mod writer;

pub(crate) use entry::RecordedEntry;
pub use entry::{LayerEntries, LayerEntry, LayerEntryKind};
pub(crate) use head::{
    DISK_RECIPE, EROFS_SUFFIX, HASHES_SUFFIX, RECORD_HEAD_LEN, RECORD_SUFFIX, RecordHead, TreeOwner, Validity,
    hashes_name, image_head, record_name,
};
pub(crate) use holes::{HOLE_BLOCK, HoleFinder, Holes};
pub(crate) use line::{RecordLine, RecordLines};
pub(crate) use writer::{BlockPlace, RecordFile, RecordWriter};
