//! Reclaims what dead owners left: partial objects whose lock nobody holds. Runs when a store is opened
//! and never makes that fail; what cannot be removed now waits for the next time.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;

use rustix::fs::{Dir, Mode, OFlags};
use rustix::io::Errno;

use super::directory::{Area, Directory};
use super::lock;
use super::partial::{is_digest_stem, is_partial_name};
use super::remove::remove_tree;

/// Removes the leftovers. Names that this library does not give are not its to touch.
pub(super) fn sweep(directory: &Arc<Directory>) {
    for area in [Area::Root, Area::Manifests, Area::Configs, Area::Layers, Area::Extracted] {
        let Ok(folder) = directory.area(area) else { continue };
        let leftovers = match leftovers(folder, area) {
            Ok(names) => names,
            Err(errno) => {
                tracing::warn!("cannot look for leftovers in {}/{}: {errno}", directory.path().display(), area.name());
                continue;
            }
        };
        for name in leftovers {
            let path = directory.object_path(area, &name);
            match reclaim(folder, &name) {
                Ok(true) => tracing::debug!("removed leftover {}", path.display()),
                Ok(false) => {}
                Err(errno) => tracing::warn!("cannot remove leftover {}: {errno}", path.display()),
            }
        }
    }
}

fn leftovers(folder: BorrowedFd<'_>, area: Area) -> Result<Vec<String>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().to_str()
            && is_partial_name(name, |stem| {
                if area == Area::Root { stem == super::format::NAME } else { is_digest_stem(stem) }
            })
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Removes a partial object unless its owner lives. The lock is held meanwhile, so that an owner who has just made the
/// name and not locked it yet sees that it lost it.
fn reclaim(folder: BorrowedFd<'_>, name: &str) -> Result<bool, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let handle = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(false),
        other => other?,
    };
    if !lock::try_lock(handle.as_fd())? || !lock::has_name(handle.as_fd())? {
        return Ok(false);
    }
    remove_tree(folder, name.as_bytes())?;
    Ok(true)
}
