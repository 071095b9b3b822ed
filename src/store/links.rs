//! Short names of extracted trees: symlinks in `links/`.
//!
//! mount(2) takes one page of options. A tree's own name has some eighty bytes, so that the lower directories of an
//! overlay mount would not fit from about forty layers on. Docker and containers/storage keep short links for that as
//! well. A link is made when somebody asks for it, under the shared lock of a collection, which removes those that lead
//! nowhere. A link is never changed: one that leads elsewhere makes the next one longer.

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::lock::CollectionLock;
use super::storage::Storage;
use super::store_dir::{Folder, StoreDir};
use crate::digest::Digest;
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;
use crate::sys;

/// Hex digits of the shortest name. With 500 trees one in a hundred stores has a longer one.
const SHORTEST: usize = 6;

impl Storage {
    /// The names of links in `links/`, one for each tree.
    pub(crate) fn link_trees(&self, trees: &[String], interrupt: &Interrupt) -> Result<Vec<String>> {
        let _collection = CollectionLock::shared(&self.directory, interrupt)?;
        trees.iter().map(|tree| link(&self.directory, tree)).collect()
    }
}

fn link(directory: &StoreDir, tree: &str) -> Result<String> {
    let folder = directory.area(Folder::Links)?;
    let target = target(tree);
    let name = Digest::of(tree.as_bytes()).hex().to_owned();
    for length in SHORTEST..=name.len() {
        let name = &name[..length];
        let fail =
            |errno| Error::os(errno, format_args!("make {}", directory.object_path(Folder::Links, name).display()));
        match rustix::fs::symlinkat(target.as_str(), folder, name) {
            Ok(()) => return Ok(name.to_owned()),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(fail(errno)),
        }
        match rustix::fs::readlinkat(folder, name, Vec::new()) {
            Ok(found) if found.to_bytes() == target.as_bytes() => return Ok(name.to_owned()),
            // Another tree's, or something else.
            Ok(_) | Err(Errno::INVAL) => {}
            Err(errno) => return Err(fail(errno)),
        }
    }
    Err(Error::new(
        Status::State,
        format!("{} is full of what is no link", directory.object_path(Folder::Links, "").display()),
    ))
}

fn target(tree: &str) -> String {
    format!("../{}/{tree}", Folder::Extracted.name())
}

/// Removes the links that lead nowhere. The caller has the collection's lock alone.
pub(crate) fn remove_dangling(directory: &StoreDir) -> Result<()> {
    let folder = directory.area(Folder::Links)?;
    let fail = |errno| Error::os(errno, format_args!("list {}", directory.object_path(Folder::Links, "").display()));
    let mut names = Vec::new();
    sys::for_each_name(folder, &mut |name: &std::ffi::CStr| names.push(name.to_owned())).map_err(fail)?;
    for name in names {
        let is_ours = rustix::fs::readlinkat(folder, name.as_c_str(), Vec::new())
            .is_ok_and(|found| found.to_bytes().starts_with(target("").as_bytes()));
        if is_ours && matches!(rustix::fs::statat(folder, name.as_c_str(), AtFlags::empty()), Err(Errno::NOENT)) {
            match rustix::fs::unlinkat(folder, name.as_c_str(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => {
                    let path = directory.object_path(Folder::Links, &name.to_string_lossy());
                    return Err(Error::os(errno, format_args!("remove {}", path.display())));
                }
            }
        }
    }
    Ok(())
}
