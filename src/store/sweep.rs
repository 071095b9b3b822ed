//! Reclaims what dead owners left: partial objects and lock files whose lock nobody holds. Runs when a store is opened
//! and never makes that fail; what cannot be removed now waits for the next time.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;

use rustix::fs::{Dir, Mode, OFlags};
use rustix::io::Errno;

use super::EXTRACTION_LOCK;
use super::directory::{Area, Directory};
use super::lock::{self, Lock};
use super::partial::{TREE_SUFFIX, is_digest_stem, is_partial_name};
use super::remove::remove_tree;

/// Removes the leftovers. Names that this library does not give are not its to touch.
pub(super) fn sweep(directory: &Arc<Directory>) {
    for area in std::iter::once(Area::Root).chain(Area::FOLDERS) {
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
            match reclaim(directory, area, &name) {
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
            && is_ours(name, area)
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Whether the name is one that this library, or the seed, gives to something that does not last.
fn is_ours(name: &str, area: Area) -> bool {
    match area {
        Area::Root => is_partial_name(name, |stem| stem == super::format::NAME),
        Area::Leases => is_partial_name(name, super::lease::is_id),
        Area::Locks => {
            let lease = name.strip_prefix(super::lease::LOCK);
            name.strip_prefix(EXTRACTION_LOCK).is_some_and(is_digest_stem) || lease.is_some_and(super::lease::is_id)
        }
        _ => is_partial_name(name, is_digest_stem),
    }
}

/// Removes a partial object unless its owner lives. The lock is held meanwhile, so that an owner who has just made the
/// name and not locked it yet sees that it lost it.
fn reclaim(directory: &Arc<Directory>, area: Area, name: &str) -> Result<bool, Errno> {
    let Ok(folder) = directory.area(area) else { return Ok(false) };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let handle = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(false),
        // A tree whose root has its final mode already. Whoever makes a tree also holds the lock on its extraction.
        Err(Errno::ACCESS) if area == Area::Extracted => {
            let tree =
                name.strip_suffix(TREE_SUFFIX).and_then(|rest| rest.rsplit_once('.')).map_or(name, |(tree, _)| tree);
            let Some(_lock) = Lock::try_acquire(directory, format!("{EXTRACTION_LOCK}{tree}"))? else {
                return Ok(false);
            };
            remove_tree(folder, name.as_bytes())?;
            return Ok(true);
        }
        other => other?,
    };
    if !lock::try_lock(handle.as_fd())? || !lock::has_name(handle.as_fd())? {
        return Ok(false);
    }
    remove_tree(folder, name.as_bytes())?;
    Ok(true)
}
