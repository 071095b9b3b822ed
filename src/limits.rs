//! The limits table: what untrusted input may cost at most. One table gives each limit its name (as
//! errors say it), its default and its meaning. `docs/errors.md`, `bl_layer_limits` and the tests
//! come from the same table.

#![forbid(unsafe_code)]

use std::fmt::Display;

use crate::error::{Error, Result};

/// One row of the limits table.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// The name, as `BL_E_LIMIT` messages carry it.
    pub name: &'static str,
    /// The value that holds unless the caller sets another.
    pub default: u64,
    /// What is counted, in which unit.
    pub meaning: &'static str,
    /// The field of [`LayerLimits`], and of `bl_layer_limits`, that sets it; `None` for what cannot be set there.
    pub field: Option<&'static str>,
}

/// A limit on what one layer may cost, whose value comes from a [`LayerLimits`].
#[derive(Clone, Copy)]
pub(crate) struct LayerLimit {
    row: Limit,
    value: fn(&LayerLimits) -> u64,
}

impl LayerLimit {
    /// The value that holds.
    pub(crate) fn of(&self, limits: &LayerLimits) -> u64 {
        (self.value)(limits)
    }

    /// `LIMIT` where `found` is more than allowed; `object` says of what.
    pub(crate) fn check<T: Display>(&self, limits: &LayerLimits, found: u64, object: impl FnOnce() -> T) -> Result<()> {
        if found > self.of(limits) { Err(self.breach(limits, found, object())) } else { Ok(()) }
    }

    /// The error of a breach.
    pub(crate) fn breach(&self, limits: &LayerLimits, found: impl Display, object: impl Display) -> Error {
        Error::limit(self.row.name, self.of(limits), found, object)
    }
}

macro_rules! limit_table {
    (
        fixed { $($const:ident = $name:literal, $default:expr, $meaning:literal;)* }
        layer { $($layer_const:ident $field:ident = $layer_name:literal, $layer_default:expr, $layer_meaning:literal;)* }
    ) => {
        $(
            #[doc = $meaning]
            pub const $const: Limit = Limit { name: $name, default: $default, meaning: $meaning, field: None };
        )*

        $(
            pub(crate) const $layer_const: LayerLimit = LayerLimit {
                row: Limit {
                    name: $layer_name,
                    default: $layer_default,
                    meaning: $layer_meaning,
                    field: Some(stringify!($field)),
                },
                value: |limits| limits.$field,
            };
        )*

        /// What one layer may cost. Begin with the default and change what is to be different; a breach is `LIMIT`.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct LayerLimits {
            $(#[doc = $layer_meaning] pub $field: u64,)*
        }

        impl Default for LayerLimits {
            fn default() -> LayerLimits {
                LayerLimits { $($field: $layer_default),* }
            }
        }

        impl LayerLimits {
            /// For what was within its limits when it was made.
            pub(crate) fn unlimited() -> LayerLimits {
                let loops_end = LayerLimits::default().symlink_hops;
                let mut limits = LayerLimits { $($field: u64::MAX),* };
                limits.symlink_hops = loops_end;
                limits
            }
        }

        /// Every limit there is.
        pub const ALL: &[Limit] = &[$($const,)* $($layer_const.row),*];
    };
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

limit_table! {
    fixed {
        DOCUMENT_SIZE = "document size", 4 * MIB, "Bytes of a manifest, an index or a config.";
        LAYERS = "layers", 1024, "Layers of an image.";
        JSON_DEPTH = "JSON depth", 64, "Arrays and objects inside each other in a manifest or index.";
        BLOB_SIZE = "blob size", 50 * GIB, "Bytes of a stored layer blob, as compressed (max_blob_bytes of the store's options).";
    }
    layer {
        LAYER_SIZE layer_bytes = "uncompressed layer size", 50 * GIB, "Bytes of a layer's tar stream after decompression, and of its files together.";
        RATIO compression_ratio = "compression ratio", 1000, "Uncompressed bytes for each compressed one, after the first 64 MiB.";
        ENTRIES entries = "entries", 2_000_000, "Entries in a layer.";
        COMPONENT name_component_bytes = "name component", 255, "Bytes between two slashes of an entry's name, without the prefix of a whiteout.";
        DEPTH path_depth = "path depth", 4096, "Components of an entry's name.";
        PATH_LENGTH path_bytes = "path length", 64 << 10, "Bytes of an entry's name or of a hard link's target.";
        HEADER_METADATA header_metadata_bytes = "header metadata", MIB, "Bytes of PAX, GNU long-name and sparse map data before one entry.";
        STACKED_HEADERS stacked_headers = "stacked headers", 16, "PAX and GNU headers before one entry.";
        SPARSE_CHUNKS sparse_chunks = "sparse chunks", 10_000, "Pieces of data between the holes of a sparse file.";
        SYMLINK_TARGET symlink_target_bytes = "symlink target", 4095, "Bytes of a symlink's target.";
        SYMLINK_HOPS symlink_hops = "symlink hops", 40, "Symlinks followed while one parent directory is looked up.";
        SYMLINK_STEPS symlink_steps = "symlink steps", 1_000_000, "Symlinks followed in one layer.";
        DIRECTORY_STEPS directory_steps = "directory steps", 2_000_000, "Directories opened on the way to the entries of one layer, above 16 for each entry.";
        XATTR_VALUE xattr_value_bytes = "xattr value", 64 << 10, "Bytes of one extended attribute.";
        XATTRS xattrs = "xattrs", 1024, "Extended attributes of an entry.";
        XATTRS_SIZE xattrs_bytes = "xattrs size", MIB, "Bytes of all extended attributes of an entry.";
        KEPT_METADATA kept_metadata_bytes = "kept metadata", 64 * MIB, "Bytes of directories' names and attributes and of open hard links kept to the end of a layer, above 128 for each entry.";
        RECORD_SIZE record_bytes = "record size", GIB, "Bytes of a layer's metadata record.";
        ZSTD_WINDOW_LOG zstd_window_log = "zstd window log", 27, "Binary logarithm of the largest zstd window.";
    }
}

/// The ratio limit holds from here on, so that a small layer of zeros is not a bomb.
pub(crate) const RATIO_FREE_BYTES: u64 = 64 * MIB;
