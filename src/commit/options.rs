//! What is to be committed, and how.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::interrupt::Interrupt;
use crate::limits::LayerLimits;
use crate::options::options;
use crate::store::ImageName;
use crate::unpack::{ProgressCallback, TreeOptions};

/// What was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommitSource {
    /// The upper directory of an overlay (Linux, Documentation/filesystems/overlayfs.rst), which is not mounted any more, or in
    /// which nobody writes.
    Upper(PathBuf),
    /// A directory that has all of the image: the base as it was assembled, with changes. What is as the base's records say is left
    /// out. A file is as it was if its size, time, owner, mode and attributes are.
    Tree(PathBuf),
    /// The archive of a layer: a tar, plain or compressed, in a file or a pipe. What the base and it come to is what the image has.
    /// Its whiteouts and its links to lower files mean what they mean in a layer.
    Archive(PathBuf),
}

/// How a layer is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LayerCompression {
    /// zstd, and gzip on a base with Docker's media types, which have no zstd.
    #[default]
    ByBase,
    /// zstd: the fastest to write and to read. Docker reads it from 23.0 on.
    Zstd,
    /// gzip: what everybody reads.
    Gzip,
    /// None.
    Plain,
}

/// Whose attributes say what is a whiteout, or opaque, in an upper directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OverlayXattrs {
    /// What the root of the upper directory has of both. Where it has none, `trusted.overlay.*` if this process may read them, and
    /// otherwise `user.overlay.*`.
    #[default]
    ByRoot,
    /// `trusted.overlay.*`.
    Trusted,
    /// `user.overlay.*`, as the mount option `userxattr` has it.
    User,
}

/// What of a config is to be another than the base's. What is `None`, or empty, stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigChanges {
    /// The command's first words; an empty list is none.
    pub entrypoint: Option<Vec<String>>,
    /// The arguments; an empty list is none.
    pub cmd: Option<Vec<String>>,
    /// Variables as `NAME=value`, in place of those of the same name.
    pub env: Vec<String>,
    /// Names of variables that go.
    pub unset_env: Vec<String>,
    /// The directory to start in.
    pub working_dir: Option<String>,
    /// `user`, `uid`, `user:group` or `uid:gid`.
    pub user: Option<String>,
    /// Labels, in place of those of the same name.
    pub labels: BTreeMap<String, String>,
    /// Names of labels that go.
    pub unset_labels: Vec<String>,
    /// Further ports, as `8080/tcp`.
    pub exposed_ports: Vec<String>,
    /// Further directories with data of their own.
    pub volumes: Vec<String>,
    /// The signal that asks it to stop.
    pub stop_signal: Option<String>,
}

options! {
    /// How to commit.
    #[derive(Clone, Debug, Default)]
    pub struct CommitOptions {
        /// What the new image is called. Without a name a collection may take it, unless a lease holds it.
        pub name: Option<ImageName>,
        /// How the layer is stored.
        pub compression: LayerCompression,
        /// How hard it tries; `None` is 3 for zstd, and 6 for gzip.
        pub level: Option<i32>,
        /// Seconds since 1970: when it was made, and the latest time of any file. With it the same changes are the same image.
        /// `None` is now, and files as they are.
        pub epoch: Option<i64>,
        /// Who made it, for the config.
        pub author: String,
        /// What was done, for the history.
        pub message: String,
        /// By what, for the history.
        pub created_by: String,
        /// What the config says otherwise.
        pub changes: ConfigChanges,
        /// What the manifest says besides, in place of what the base's says by the same keys.
        pub annotations: BTreeMap<String, String>,
        /// Whose attributes an upper directory has.
        pub overlay_xattrs: OverlayXattrs,
        /// Read the files of a tree that look as they were, too: what has another content, and the same size and time, is found.
        pub compares_content: bool,
        /// Go into other file systems that are mounted below. By default those are empty directories.
        pub crosses_file_systems: bool,
        /// The new layer is extracted, too, in this form, so that what is started next need not wait for it. Its files share the
        /// source's blocks where both are on one file system that can do that (XFS, btrfs); elsewhere the packed layer is unpacked.
        /// The limits are [`CommitOptions::limits`]. `None` is not.
        pub extract: Option<TreeOptions>,
        /// What the layer may cost.
        pub limits: LayerLimits,
        /// Is told how far it came.
        pub progress: Option<ProgressCallback>,
        /// What may end it early.
        pub interrupt: Interrupt,
    }
}
