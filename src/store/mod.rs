//! The store: one directory, many processes, content named by digest.
//!
//! Every object is made as a partial that no reader looks for and becomes visible by one rename, in
//! [`partial`]. That rename is the only way in. What a name means, and what may be read under it,
//! is in one file a kind: [`manifests`] (manifests and configs), [`layers`], [`image_names`],
//! [`extracted`], [`kept_disks`].

#![forbid(unsafe_code)]

mod block_hashes;
mod budget;
mod bundle;
mod disk_description;
mod disk_files;
mod documents;
mod extracted;
mod flock;
mod format;
mod gc;
mod image_names;
mod ingest;
mod kept_disks;
mod layers;
mod layout_folder;
mod lease;
mod links;
mod listing;
mod lock;
mod manifests;
mod open;
mod options;
mod partial;
pub(crate) mod pending;
mod reflink_import;
mod rmtree;
mod small_files;
mod staged;
mod storage;
mod store_dir;
mod sweep;
mod usage;
mod writeback;

pub(crate) use disk_description::{Described, DescribedLayer, DescribedPart, DescribedVerity, DiskDescription};
pub(crate) use extracted::{is_current, is_tree, was_opened_in_this_boot};
pub use gc::{GcOptions, GcReport};
pub use image_names::{ImageName, TaggedImage};
pub(crate) use kept_disks::has_size;
pub(crate) use layers::UnnamedLayer;
pub(crate) use layout_folder::{LayoutFolder, path_of};
pub use lease::Lease;
pub(crate) use lease::{CallLease, check_lease};
#[cfg(feature = "pull")]
pub(crate) use lock::download_lock;
pub(crate) use lock::{CollectionLock, DISK_LOCK, EXTRACTION_LOCK, Lock};
pub use options::{Durability, StorageOptions, VerifyOptions};
pub(crate) use partial::Partial;
pub(crate) use rmtree::remove_tree;
pub use staged::Staged;
pub use storage::Storage;
pub(crate) use store_dir::{Folder, StoreDir};
pub use usage::{DiskUsage, Usage};
