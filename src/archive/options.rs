//! What can be asked of an import, and what it gives.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::digest::Digest;
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::layer::Progress;
use crate::oci::Platform;
use crate::options::options;
use crate::store::ImageName;
use crate::unpack::{ProgressCallback, TreeOptions};

/// Where images come from.
#[derive(Debug)]
pub enum ImportSource {
    /// A layout folder, or an archive.
    Path(PathBuf),
    /// An archive: a file, or a pipe.
    File(OwnedFd),
}

options! {
    /// How to import. The default takes every image for this machine's platform, and unpacks it.
    #[derive(Clone, Debug, Default)]
    pub struct ImportOptions {
        /// Only the image of this name or tag, as the archive has it, or of this digest.
        pub select: Option<String>,
        /// Under this name, which is for one image; `None`: under the names that the archive has.
        pub name: Option<ImageName>,
        /// Which of the images of an index; `None` is this machine's.
        pub platform: Option<Platform>,
        /// No variant below the one that is wanted.
        pub strict_platform: bool,
        /// Do not unpack. Then layers are read once more, to compare them with the config's diff_ids; those of a bundle that is
        /// used in place are not read.
        pub no_unpack: bool,
        /// The layers of a folder may be its own files under one more name. Nothing is copied, but
        /// whoever can write to the folder's files can change the store's layers.
        pub hard_link: bool,
        /// What the trees look like, and what each layer, and the archive, may cost.
        pub tree: TreeOptions,
        /// Is told how far reading the archive came.
        pub progress: Option<ProgressCallback>,
        /// What may end it early.
        pub interrupt: Interrupt,
    }
}

/// An image that was imported.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// Its manifest, as the archive had it, or as it was made for an archive of `docker save`, which has none.
    pub manifest: Digest,
    /// The names that it got; none where the archive has none.
    pub names: Vec<ImageName>,
}

impl ImportOptions {
    pub(super) fn tell(&self, progress: &Progress) -> Result<()> {
        self.progress.as_ref().map_or(Ok(()), |callback| callback.tell(progress))
    }
}
