//! The limits table: what untrusted input may cost at most. One table gives each limit its name (as errors say it), its
//! default and its meaning; `docs/errors.md` and the tests read the same table.

#![forbid(unsafe_code)]

/// One row of the limits table.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// The name, as `BL_E_LIMIT` messages carry it.
    pub name: &'static str,
    /// The value that holds unless the caller sets another.
    pub default: u64,
    /// What is counted, in which unit.
    pub meaning: &'static str,
}

macro_rules! limit_table {
    ($($const:ident = $name:literal, $default:expr, $meaning:literal;)*) => {
        $(#[doc = $meaning] pub const $const: Limit = Limit { name: $name, default: $default, meaning: $meaning };)*

        /// Every limit there is.
        pub const ALL: &[Limit] = &[$($const),*];
    };
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

limit_table! {
    DOCUMENT_SIZE = "document size", 4 * MIB, "Bytes of a manifest, an index or a config.";
    JSON_DEPTH = "JSON depth", 64, "Arrays and objects inside each other in a manifest or index.";
    BLOB_SIZE = "blob size", 50 * GIB, "Bytes of a stored layer blob, as compressed.";
    LAYER_SIZE = "uncompressed layer size", 50 * GIB, "Bytes of a layer's tar stream after decompression, and of its files together.";
    RATIO = "compression ratio", 1000, "Uncompressed bytes for each compressed one, after the first 64 MiB.";
    ENTRIES = "entries", 2_000_000, "Entries in a layer.";
    COMPONENT = "name component", 255, "Bytes between two slashes of an entry's name.";
    DEPTH = "path depth", 4096, "Components of an entry's name.";
    PATH_LENGTH = "path length", 64 << 10, "Bytes of an entry's name or of a hard link's target.";
    HEADER_METADATA = "header metadata", MIB, "Bytes of PAX and GNU long-name data before one entry.";
    STACKED_HEADERS = "stacked headers", 16, "PAX and GNU headers before one entry.";
    SYMLINK_TARGET = "symlink target", 4095, "Bytes of a symlink's target.";
    SYMLINK_HOPS = "symlink hops", 40, "Symlinks followed while one parent directory is looked up.";
    SYMLINK_STEPS = "symlink steps", 1_000_000, "Symlinks followed in one layer.";
    DIRECTORY_STEPS = "directory steps", 2_000_000, "Directories opened on the way to the entries of one layer, above 16 for each entry.";
    XATTR_VALUE = "xattr value", 64 << 10, "Bytes of one extended attribute.";
    XATTRS = "xattrs", 1024, "Extended attributes of an entry.";
    XATTRS_SIZE = "xattrs size", MIB, "Bytes of all extended attributes of an entry.";
    KEPT_METADATA = "kept metadata", 64 * MIB, "Bytes of directories' names and attributes and of open hard links kept to the end of a layer, above 128 for each entry.";
    RECORD_SIZE = "record size", GIB, "Bytes of a layer's metadata record.";
    ZSTD_WINDOW_LOG = "zstd window log", 27, "Binary logarithm of the largest zstd window.";
}

/// The ratio limit holds from here on, so that a small layer of zeros is not a bomb.
pub(crate) const RATIO_FREE_BYTES: u64 = 64 * MIB;
