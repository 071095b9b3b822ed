//! Layers as the lower directories of an overlay mount, for hosts that mount one instead of copying.
//!
//! overlayfs puts directories on top of each other as they are. That is less than a layer says in
//! three cases. One is a hard link to a file of a lower layer. The others are directories that a
//! layer uses without an entry for them. A lower layer has a symlink there, through which the entry
//! was to lead; or it says more of the directory than what is implied. Those images are refused, by
//! what the layers' records say, rather than shown wrong.

use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::digest::Digest;
use crate::error::{Error, Result, Status, quoted};
use crate::extraction::ExtractOptions;
use crate::image::Image;
use crate::interrupt::Interrupt;
use crate::options::options;
use crate::record::{LayerEntry, LayerEntryKind};
use crate::store::{Folder, Lease, Storage};
use crate::unpack::{ProgressCallback, TreeForm, TreeOptions, WhiteoutForm};

options! {
    /// What kind of overlay mount it is to be. The default is one by root.
    #[derive(Clone, Debug, Default)]
    pub struct OverlayOptions {
        /// What the directories look like, and what each layer may cost. `whiteouts` is [`WhiteoutForm::UserOverlay`] for a mount
        /// with `userxattr`, as in a user namespace, which is also what an ordinary user can make. Anything else is
        /// [`WhiteoutForm::Overlay`].
        pub tree: TreeOptions,
        /// How long the layers are held; `None` is a day.
        pub lease_time: Option<Duration>,
        /// Is told how far the extraction of each layer came.
        pub progress: Option<ProgressCallback>,
        /// What may end it early.
        pub interrupt: Interrupt,
    }
}

/// Bytes of options that may have absolute paths. mount(2) takes a page, in which the host's `upperdir` and `workdir`
/// need room as well.
const ABSOLUTE: usize = 3 * 1024;

/// The lower directories of an overlay mount.
#[derive(Debug)]
#[non_exhaustive]
pub struct Overlay {
    /// The uppermost first, as `lowerdir` has them; absolute. For fsconfig(2), each is a `lowerdir+` (Linux 6.8), which takes
    /// 255 bytes.
    pub lower_dirs: Vec<PathBuf>,
    /// Where the names in the options of the mount are relative to: the working directory of whoever mounts. `None` where
    /// they are absolute.
    pub mount_dir: Option<PathBuf>,
    /// What goes into the options of a mount(2): `lowerdir=…`, and `userxattr` where it is that kind. Absolute paths, or
    /// short names in `mount_dir` where those would be longer than 3 KiB. Colons, commas and backslashes are escaped as
    /// overlayfs wants it.
    pub mount_options: Vec<u8>,
    /// Keeps a collection from taking them. To be released when the mount is gone; it outlives the process until its time.
    pub lease: Lease,
}

/// `lowerdir=…`, escaped.
fn lowerdir<'a>(names: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut option = b"lowerdir=".to_vec();
    for (number, name) in names.enumerate() {
        if number > 0 {
            option.push(b':');
        }
        for &byte in name {
            if matches!(byte, b':' | b',' | b'\\') {
                option.push(b'\\');
            }
            option.push(byte);
        }
    }
    option
}

impl Storage {
    /// Extracts an image's layers in the form that overlayfs takes, and holds them.
    ///
    /// `UNSUPPORTED` for an image of which overlayfs would show something else, `NOT_FOUND` where the store lacks a layer,
    /// otherwise as [`Storage::extract_layer`].
    pub fn overlay(&self, image: &Image, options: &OverlayOptions) -> Result<Overlay> {
        self.directory.check_writable()?;
        options.tree.form.check_directory()?;
        if let Some(digest) = image.missing.first() {
            return Err(Error::new(Status::NotFound, format!("{digest} is not in the store")));
        }
        let prepared = self.held_by_lease(options.lease_time, |lease| {
            lease.hold_unless(&image.manifest_digest, &options.interrupt)?;
            let trees = self.lower_trees(image, options)?;
            self.mount_options(&trees, options)
        });
        match prepared {
            Ok(((lower_dirs, mount_dir, mount_options), lease)) => {
                Ok(Overlay { lower_dirs, mount_dir, mount_options, lease })
            }
            Err(error) => Err(error.context(format_args!("overlay of {}", image.manifest_digest))),
        }
    }

    /// The paths of trees, the directory that the names in the options are relative to, and the options.
    fn mount_options(
        &self,
        trees: &[String],
        options: &OverlayOptions,
    ) -> Result<(Vec<PathBuf>, Option<PathBuf>, Vec<u8>)> {
        let dirs: Vec<PathBuf> = trees.iter().map(|tree| self.directory.object_path(Folder::Extracted, tree)).collect();
        let more: &[u8] = if options.tree.form.whiteouts == WhiteoutForm::UserOverlay { b",userxattr" } else { b"" };
        let mut mount_options = lowerdir(dirs.iter().map(|dir| dir.as_os_str().as_bytes()));
        let mut mount_dir = None;
        if mount_options.len() + more.len() > ABSOLUTE {
            let links = self.link_trees(trees, &options.interrupt)?;
            mount_options = lowerdir(links.iter().map(String::as_bytes));
            mount_dir = Some(self.directory.path().join(Folder::Links.name()));
        }
        mount_options.extend_from_slice(more);
        Ok((dirs, mount_dir, mount_options))
    }

    /// The names of the extracted layers, the uppermost first.
    fn lower_trees(&self, image: &Image, options: &OverlayOptions) -> Result<Vec<String>> {
        let mut tree = options.tree.clone();
        if tree.form.whiteouts == WhiteoutForm::Markers {
            tree.form.whiteouts = WhiteoutForm::Overlay;
        }
        let form = tree.form;
        let (mut trees, mut below): (Vec<String>, Vec<Shape>) = (Vec::new(), Vec::new());
        for (layer, diff_id) in image.layers() {
            let extract = ExtractOptions {
                diff_id: diff_id.cloned(),
                tree: tree.clone(),
                progress: options.progress.clone(),
                interrupt: options.interrupt.clone(),
                ..ExtractOptions::default()
            };
            self.extract_layer(&layer.digest, &extract)?;
            let shape = self.shape(&layer.digest, form, &options.interrupt)?;
            // overlayfs does not know of an opaque root; without what is below, nothing has to be hidden.
            if shape.opaque.contains(&b""[..]) {
                trees.clear();
                below.clear();
            }
            shape.check(&below).map_err(|error| error.context(format_args!("layer {}", layer.digest)))?;
            trees.insert(0, form.tree_name(&layer.digest));
            below.insert(0, shape);
        }
        Ok(trees)
    }

    fn shape(&self, layer: &Digest, form: TreeForm, interrupt: &Interrupt) -> Result<Shape> {
        let mut shape = Shape::default();
        for entry in self.layer_entries(layer, form)? {
            interrupt.check()?;
            let entry = entry?;
            match entry.kind {
                LayerEntryKind::Directory if entry.is_implied => {
                    shape.directories.insert(entry.path, None);
                }
                LayerEntryKind::Directory => {
                    let is_plain = entry.mode == LayerEntry::IMPLIED_MODE
                        && entry.uid == 0
                        && entry.gid == 0
                        && entry.xattrs.is_empty();
                    shape.directories.insert(entry.path, Some(is_plain));
                }
                LayerEntryKind::Opaque => drop(shape.opaque.insert(entry.path)),
                LayerEntryKind::Whiteout => drop(shape.whiteouts.insert(entry.path)),
                LayerEntryKind::Symlink => drop(shape.symlinks.insert(entry.path)),
                LayerEntryKind::LowerLink => {
                    let (link, target) = (quoted(&entry.path), quoted(&entry.link));
                    return Err(unsupported(format!("hard link {link} to {target} of a lower layer")));
                }
                _ => drop(shape.others.insert(entry.path)),
            }
        }
        Ok(shape)
    }
}

fn unsupported(why: String) -> Error {
    Error::new(Status::Unsupported, format!("{why}: overlayfs cannot show that; assemble a root file system instead"))
}

/// What a layer has at which paths, as far as it matters to the layers above it.
#[derive(Default)]
struct Shape {
    /// `None` without an entry of its own; otherwise whether that says what is implied without one.
    directories: HashMap<Vec<u8>, Option<bool>>,
    symlinks: HashSet<Vec<u8>>,
    whiteouts: HashSet<Vec<u8>>,
    opaque: HashSet<Vec<u8>>,
    others: HashSet<Vec<u8>>,
}

/// What a layer is to the one above it at a path.
enum Below<'a> {
    Symlink,
    Directory(&'a Option<bool>),
    /// Nothing, and neither do the layers below it count.
    Hidden,
    Absent,
}

impl Shape {
    /// That no directory without an entry hides something of lower layers, the nearest of which comes first.
    fn check(&self, below: &[Shape]) -> Result<()> {
        for path in self.directories.iter().filter(|(_, said)| said.is_none()).map(|(path, _)| path) {
            if prefixes(path).any(|prefix| self.opaque.contains(prefix) || self.whiteouts.contains(prefix)) {
                continue;
            }
            for lower in below {
                match lower.at(path) {
                    Below::Absent | Below::Directory(None) => {}
                    Below::Hidden | Below::Directory(Some(true)) => break,
                    Below::Symlink => {
                        return Err(unsupported(format!("{} leads through a symlink of a lower layer", quoted(path))));
                    }
                    Below::Directory(Some(false)) => {
                        let why = format!("directory {} has no entry, and a lower layer has one", quoted(path));
                        return Err(unsupported(why));
                    }
                }
                // What is opaque in there hides the rest.
                if prefixes(path).any(|prefix| lower.opaque.contains(prefix)) {
                    break;
                }
            }
        }
        Ok(())
    }

    fn at(&self, path: &[u8]) -> Below<'_> {
        if self.symlinks.contains(path) {
            return Below::Symlink;
        }
        let is_in_the_way = |prefix: &[u8]| {
            self.others.contains(prefix) || self.symlinks.contains(prefix) || self.whiteouts.contains(prefix)
        };
        match self.directories.get(path) {
            Some(said) => Below::Directory(said),
            None if prefixes(path).any(is_in_the_way) => Below::Hidden,
            None => Below::Absent,
        }
    }
}

/// A path and the directories that it is in, without the root.
fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    ends.chain(std::iter::once(path.len())).map(|end| &path[..end]).filter(|prefix| !prefix.is_empty())
}
