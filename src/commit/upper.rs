//! The upper directory of an overlay as a layer (Linux, Documentation/filesystems/overlayfs.rst; OCI image-spec, layer.md,
//! "Representing Changes").
//!
//! | in the upper directory | in the layer |
//! |---|---|
//! | a character device 0:0; since 6.7 also an empty file with `overlay.whiteout` in a directory that is marked `x` | `.wh.NAME` |
//! | a directory with `overlay.opaque` = `y` | the directory, and `.wh..wh..opq` in it |
//! | a file with names in the layers below too, in an overlay with `index=on` | hard links, also to those ([`super::indexed`]) |
//! | a directory with `overlay.redirect`, a file with `overlay.metacopy` | `UNSUPPORTED`, by name: what they stand for is below |
//! | further names of a file | hard links to its first one |
//! | a socket | `.wh.NAME`: it means nothing without its process; it is counted |
//! | attributes of overlayfs, labels of the host's | nothing |
//!
//! A real name that begins with `.wh.` is refused: in a layer it would take something away.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Stat};

use super::base::BaseTree;
use super::entries::EntryWriter;
use super::indexed::IndexedFiles;
use super::node::{Node, NodeXattrs, TRUSTED_OVERLAY, USER_OVERLAY};
use super::options::{CommitOptions, OverlayXattrs};
use super::walk::SourceWalk;
use crate::error::{Error, Result, Status};
use crate::layer::WHITEOUT_PREFIX;
use crate::store::CallLease;
use crate::sys;

/// What an entry of the directory stands for.
enum Standing {
    Whiteout,
    Real {
        /// It hides what is below it.
        is_opaque: bool,
        /// Files in it may be whiteouts.
        has_file_whiteouts: bool,
    },
}

/// An upper directory that is read.
pub(super) struct UpperReader<'a> {
    walk: SourceWalk,
    options: &'a CommitOptions,
    /// Of overlayfs' own attributes.
    prefix: &'static [u8],
    root: OwnedFd,
    /// The overlay was mounted with `index=on`, which notes where its root is from.
    is_indexed: bool,
    indexed: IndexedFiles,
    /// Of the root and each directory on the way, whether files in it may be whiteouts.
    file_whiteouts: Vec<bool>,
}

impl<'a> UpperReader<'a> {
    pub(super) fn new(root: &Path, options: &'a CommitOptions) -> Result<UpperReader<'a>> {
        let walk = SourceWalk::new(root)?;
        let (folder, stat) = walk.root();
        let prefix = match options.overlay_xattrs {
            OverlayXattrs::Trusted => TRUSTED_OVERLAY,
            OverlayXattrs::User => USER_OVERLAY,
            OverlayXattrs::ByRoot => prefix_of(folder, stat, root)?,
        };
        let value = |name: &[u8]| sys::xattr(folder, &[prefix, name].concat());
        let is_marked = value(b"opaque").is_ok_and(|value| value == b"x");
        let is_indexed = value(b"origin").is_ok();
        let root =
            folder.try_clone_to_owned().map_err(|cause| Error::io(&cause, format_args!("open {}", root.display())))?;
        let (indexed, file_whiteouts) = (IndexedFiles::default(), vec![is_marked]);
        Ok(UpperReader { walk, options, prefix, root, is_indexed, indexed, file_whiteouts })
    }

    /// Writes everything that was changed. `base` is what lies below.
    pub(super) fn write(
        mut self,
        out: &mut EntryWriter<'_, '_>,
        base: impl FnOnce(&mut CallLease) -> Result<BaseTree<'a>>,
    ) -> Result<()> {
        while let Some(stat) = self.walk.next()? {
            self.file_whiteouts.truncate(self.walk.depth());
            self.one(&stat, out)?;
        }
        if self.is_indexed {
            let (opaque, base) = ([self.prefix, b"opaque"].concat(), base(out.lease)?);
            for link in self.indexed.missing_links(&base, &self.root, &opaque, &self.options.interrupt)? {
                out.put_parents(&link.path, |path| base.folder_entry(path, self.options))?;
                out.put(&link)?;
            }
        }
        Ok(())
    }

    fn one(&mut self, stat: &Stat, out: &mut EntryWriter<'_, '_>) -> Result<()> {
        let node = self.walk.node(stat);
        if node.name().starts_with(WHITEOUT_PREFIX) {
            return Err(node.refused("begins with .wh., which in a layer takes something away"));
        }
        if node.file_type() == FileType::Socket {
            out.counts.sockets += 1;
            // What had its name is gone all the same.
            return out.put_whiteout(node.path);
        }
        let is_mount_point = self.walk.is_mount_point(stat) && !self.options.crosses_file_systems;
        out.counts.other_file_systems += u64::from(is_mount_point);
        if is_mount_point && node.file_type() != FileType::Directory {
            return Ok(());
        }
        let file = node.open()?;
        let xattrs = node.xattrs(file.as_ref())?;
        let Standing::Real { is_opaque, has_file_whiteouts } = self.standing(&node, &xattrs)? else {
            return out.put_whiteout(node.path);
        };
        let entry = node.entry(&xattrs, self.options)?;
        let id = node.id();
        if node.file_type() != FileType::Directory {
            if let Some(nlink) = self.value(&xattrs, b"nlink").filter(|_| self.is_indexed) {
                self.indexed.add(id, &entry, nlink, sys::link_count(stat))?;
            }
            return out.put_node(entry, stat, id, file);
        }
        let path = entry.path.clone();
        out.put_node(entry, stat, id, None)?;
        if is_opaque {
            out.put_opaque(&path)?;
        }
        let Some(folder) = file.filter(|_| !is_mount_point) else { return Ok(()) };
        self.file_whiteouts.push(has_file_whiteouts);
        self.walk.go_into(folder, stat)
    }

    /// One of overlayfs' own attributes.
    fn value<'x>(&self, xattrs: &'x NodeXattrs, name: &[u8]) -> Option<&'x [u8]> {
        let found = xattrs.iter().find(|(key, _)| key.strip_prefix(self.prefix) == Some(name));
        found.map(|(_, value)| &value[..])
    }

    fn standing(&self, node: &Node<'_>, xattrs: &NodeXattrs) -> Result<Standing> {
        let value = |name: &[u8]| self.value(xattrs, name);
        let is_marked = self.file_whiteouts.last().copied().unwrap_or_default();
        match node.file_type() {
            FileType::CharacterDevice if node.stat.st_rdev == 0 => return Ok(Standing::Whiteout),
            FileType::RegularFile if is_marked && node.stat.st_size == 0 && value(b"whiteout").is_some() => {
                return Ok(Standing::Whiteout);
            }
            // What was renamed, and of what only the metadata was copied, has the rest of it below.
            FileType::Directory if value(b"redirect").is_some() => {
                return Err(node.refused("was renamed in an overlay with redirect_dir, and has its content below"));
            }
            FileType::RegularFile if value(b"metacopy").is_some() => {
                return Err(node.refused("has its content below, as overlays with metacopy have it"));
            }
            _ => {}
        }
        let opaque = value(b"opaque");
        Ok(Standing::Real { is_opaque: opaque == Some(b"y"), has_file_whiteouts: opaque == Some(b"x") })
    }
}

/// Whose attributes count. overlayfs notes something at the root of an upper directory as soon as anything in it comes from below.
fn prefix_of(folder: BorrowedFd<'_>, stat: &Stat, root: &Path) -> Result<&'static [u8]> {
    let names = sys::xattr_names(folder).unwrap_or_default();
    let has = |prefix: &[u8]| names.iter().any(|name| name.starts_with(prefix));
    match (sys::reads_trusted_xattrs(), has(TRUSTED_OVERLAY), has(USER_OVERLAY)) {
        (true, false, true) => Ok(USER_OVERLAY),
        (true, ..) => Ok(TRUSTED_OVERLAY),
        (false, ..) if stat.st_uid != rustix::process::geteuid().as_raw() && !has(USER_OVERLAY) => {
            let why = "it is somebody else's, and what its overlay has noted is not for this process to read";
            Err(Error::new(Status::Permission, format!("{}: {why}", root.display())))
        }
        (false, ..) => Ok(USER_OVERLAY),
    }
}
