//! An embeddable OCI image store: takes image bytes, verifies them, keeps them content-addressed on disk, and turns
//! layers into directory trees. Without a daemon, without root, without calling other programs.
//!
//! The same operations exist as a C ABI (`include/boxlite_images.h`), which the [`ffi`] module implements on top of the
//! safe Rust API here.
//!
//! ```
//! use boxlite_images::{Digest, Storage, StorageOptions};
//!
//! # fn main() -> Result<(), boxlite_images::Error> {
//! # let dir = std::env::temp_dir().join(format!("boxlite-images-doc-{}", std::process::id()));
//! # let layer = [0u8; 1024]; // an empty tar archive
//! # let digest = Digest::of(&layer);
//! let storage = Storage::open(&dir, &StorageOptions::default())?;
//! let mut staged = storage.stage_layer(&digest, Some(layer.len() as u64))?;
//! staged.write(&layer)?; // as often as bytes arrive
//! staged.commit()?; // verified, flushed, visible
//! storage.extract_layer(&digest, &Default::default())?;
//! println!("extracted to {}", storage.layer_extracted_path(&digest).display());
//! # std::fs::remove_dir_all(&dir).ok();
//! # Ok(())
//! # }
//! ```

#![deny(unsafe_code)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("boxlite-images needs a 64-bit target: sizes of blobs, disks and option structs are 64-bit throughout");

mod archive;
mod check;
mod commit;
mod destination;
mod digest;
mod disk;
mod error;
mod extraction;
mod fault;
#[allow(unsafe_code)]
pub mod ffi;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod image;
mod image_disk;
mod interrupt;
mod layer;
pub mod limits;
pub mod oci;
mod options;
#[cfg(feature = "pull")]
mod pull;
mod queue;
mod record;
mod rootfs;
#[cfg(feature = "pull")]
mod runtime;
mod status;
mod store;
#[allow(unsafe_code)]
mod sys;
mod unpack;

pub use archive::{ExportOptions, ExportTarget, ImportOptions, ImportSource, Imported};
pub use check::{CheckOptions, CheckReport, Finding, Problem};
pub use commit::{CommitOptions, CommitSource, CommittedImage, ConfigChanges, LayerCompression, OverlayXattrs};
pub use digest::{Algorithm, Digest};
pub use disk::{DiskFormat, Verity};
pub use error::{Error, Result, Status};
pub use extraction::{ExtractOptions, Extraction};
pub use image::{Image, ImageSizes};
pub use image_disk::{Disk, DiskFile, DiskFileContent, DiskLayout, DiskOptions, DiskPart, KeptDisk};
pub use interrupt::{Cancel, Interrupt};
pub use layer::{Anomalies, Device, Progress, Timestamp};
pub use limits::LayerLimits;
#[cfg(feature = "pull")]
pub use pull::{
    Credentials, CredentialsCallback, LayerProgress, PullOperation, PullOptions, PullPhase, PullPolicy, PullProgress,
    PullProgressCallback, PullTracker, RegistryOptions,
};
pub use record::{LayerEntries, LayerEntry, LayerEntryKind};
pub use rootfs::{Overlay, OverlayOptions, Process, Rootfs, RootfsMode, RootfsOptions, RootfsUser};
#[cfg(feature = "pull")]
pub use runtime::shutdown;
pub use store::{
    DiskUsage, Durability, GcOptions, GcReport, ImageName, Lease, Staged, Storage, StorageOptions, TaggedImage, Usage,
    VerifyOptions,
};
pub use unpack::{ProgressCallback, TreeForm, TreeOptions, WhiteoutForm};

/// Compiles the Rust of the docs.
#[cfg(doctest)]
#[doc = include_str!("../docs/languages.md")]
struct Readme;
