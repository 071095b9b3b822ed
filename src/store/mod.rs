//! The store: one directory, many processes, content named by digest.
//!
//! Every object is made as a partial that no reader looks for and becomes visible by one rename, in [`partial`]; that
//! rename is the only way in. What a name means, and what may be read under it, is in one file a kind: [`documents`]
//! (manifests and configs), [`layers`], [`names`], [`trees`].

#![forbid(unsafe_code)]

mod budget;
mod bundle;
mod directory;
mod documents;
mod flock;
mod format;
mod gc;
mod ingest;
mod layers;
mod layout_folder;
mod lease;
mod links;
mod lock;
mod names;
mod objects;
mod open;
mod options;
mod partial;
mod remove;
mod small_files;
mod staged;
mod storage;
mod sweep;
mod syncer;
mod taken;
mod trees;
mod usage;

pub(crate) use directory::{Area, Directory};
pub use gc::{GcOptions, GcReport};
pub(crate) use layout_folder::{LayoutFolder, path_of};
pub use lease::Lease;
pub(crate) use lease::{CallLease, check_lease};
#[cfg(feature = "pull")]
pub(crate) use lock::download_lock;
pub(crate) use lock::{CollectionLock, EXTRACTION_LOCK, Lock};
pub use names::{ImageName, TaggedImage};
pub use options::{Durability, StorageOptions};
pub(crate) use partial::{Partial, create_plain_directory};
pub(crate) use remove::{remove_tree, remove_tree_until};
pub use staged::Staged;
pub use storage::Storage;
pub(crate) use trees::was_opened_in_this_boot;
pub use usage::{DiskUsage, Usage};
