//! What a layer may cost.

use super::args::SizedStruct;
use crate::limits::LayerLimits;

/// What one layer may cost at most. Zero in a field is its default; initialise with BL_LAYER_LIMITS_INIT. A breach is
/// BL_E_LIMIT, whose message names the limit and both values.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_layer_limits {
    /// sizeof(bl_layer_limits).
    pub struct_size: usize,
    /// Bytes of the tar stream after decompression, and of the files together; 50 GiB.
    pub layer_bytes: u64,
    /// Uncompressed bytes for each compressed one, after the first 64 MiB; 1,000.
    pub compression_ratio: u64,
    /// Entries; 2,000,000.
    pub entries: u64,
    /// Bytes between two slashes of a name, without the prefix of a whiteout; 255.
    pub name_component_bytes: u64,
    /// Components of a name; 4,096.
    pub path_depth: u64,
    /// Bytes of a name or of a hard link's target; 64 KiB.
    pub path_bytes: u64,
    /// Bytes of PAX, GNU long-name and sparse map data before one entry; 1 MiB.
    pub header_metadata_bytes: u64,
    /// PAX and GNU headers before one entry; 16.
    pub stacked_headers: u64,
    /// Pieces of data between the holes of a sparse file; 10,000.
    pub sparse_chunks: u64,
    /// Bytes of a symlink's target; 4,095.
    pub symlink_target_bytes: u64,
    /// Symlinks followed while one parent directory is looked up; 40.
    pub symlink_hops: u64,
    /// Symlinks followed in the layer; 1,000,000.
    pub symlink_steps: u64,
    /// Directories opened on the way to the entries, above 16 for each; 2,000,000.
    pub directory_steps: u64,
    /// Bytes of one extended attribute; 64 KiB.
    pub xattr_value_bytes: u64,
    /// Extended attributes of an entry; 1,024.
    pub xattrs: u64,
    /// Bytes of all extended attributes of an entry; 1 MiB.
    pub xattrs_bytes: u64,
    /// Bytes of directories' names and attributes and of open hard links kept to the end, above 128 for each entry;
    /// 64 MiB.
    pub kept_metadata_bytes: u64,
    /// Bytes of the metadata record; 1 GiB.
    pub record_bytes: u64,
    /// Binary logarithm of the largest zstd window; 27.
    pub zstd_window_log: u64,
}

// SAFETY: integers only.
unsafe impl SizedStruct for bl_layer_limits {}

impl bl_layer_limits {
    pub(super) fn to_limits(self) -> LayerLimits {
        let or = |value: u64, default: u64| if value == 0 { default } else { value };
        let default = LayerLimits::default();
        // Without `..`: a new limit must be settable here.
        LayerLimits {
            layer_bytes: or(self.layer_bytes, default.layer_bytes),
            compression_ratio: or(self.compression_ratio, default.compression_ratio),
            entries: or(self.entries, default.entries),
            name_component_bytes: or(self.name_component_bytes, default.name_component_bytes),
            path_depth: or(self.path_depth, default.path_depth),
            path_bytes: or(self.path_bytes, default.path_bytes),
            header_metadata_bytes: or(self.header_metadata_bytes, default.header_metadata_bytes),
            stacked_headers: or(self.stacked_headers, default.stacked_headers),
            sparse_chunks: or(self.sparse_chunks, default.sparse_chunks),
            symlink_target_bytes: or(self.symlink_target_bytes, default.symlink_target_bytes),
            symlink_hops: or(self.symlink_hops, default.symlink_hops),
            symlink_steps: or(self.symlink_steps, default.symlink_steps),
            directory_steps: or(self.directory_steps, default.directory_steps),
            xattr_value_bytes: or(self.xattr_value_bytes, default.xattr_value_bytes),
            xattrs: or(self.xattrs, default.xattrs),
            xattrs_bytes: or(self.xattrs_bytes, default.xattrs_bytes),
            kept_metadata_bytes: or(self.kept_metadata_bytes, default.kept_metadata_bytes),
            record_bytes: or(self.record_bytes, default.record_bytes),
            zstd_window_log: or(self.zstd_window_log, default.zstd_window_log),
        }
    }
}
