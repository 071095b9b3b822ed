//! Reclaims what dead owners left: partial objects and lock files whose lock nobody holds. Runs
//! when a store is opened and never makes that fail; what cannot be removed now waits for the next
//! time. A few leftovers are gone when the store is open. What takes longer is left to a thread
//! that gives way to others, and stops when the store is closed.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{Mode, OFlags, Stat};
use rustix::io::Errno;

use super::flock::Share;
use super::lock::EXTRACTION_LOCK;
use super::lock::{self, Lock};
use super::partial::{TREE_SUFFIX, is_digest_stem, is_partial_name, resumable_of};
use super::rmtree::remove_tree_until;
use super::storage::Storage;
use super::store_dir::{Folder, StoreDir};
use crate::sys;

/// How long opening a store waits for its leftovers to go.
const OPEN_WAITS_FOR: Duration = Duration::from_millis(50);
/// How long the thread works, and then rests.
const WORK: Duration = Duration::from_millis(20);
const REST: Duration = Duration::from_millis(5);
/// How long the file of a download that broke off waits for somebody to go on with it.
const RESUMABLE_FOR: Duration = Duration::from_secs(24 * 3600);

/// Removes the leftovers. Names that this library does not give are not its to touch.
pub(super) fn sweep(directory: &Arc<StoreDir>) {
    let mut left = VecDeque::new();
    for area in std::iter::once(Folder::Root).chain(Folder::FOLDERS) {
        let Ok(folder) = directory.area(area) else { continue };
        match leftovers(folder, area) {
            Ok(names) => left.extend(names.into_iter().map(|name| (area, name))),
            Err(errno) => {
                tracing::warn!("cannot look for leftovers in {}/{}: {errno}", directory.path().display(), area.name());
            }
        }
    }
    reclaim_until(directory, &mut left, Instant::now() + OPEN_WAITS_FOR);
    if left.is_empty() {
        return;
    }
    tracing::info!("{}: {} leftovers are removed in the background", directory.path().display(), left.len());
    let spawned = directory.duplicate().map_err(|error| error.to_string()).and_then(|own| {
        let body = move || {
            while !left.is_empty() && !own.is_closing() {
                reclaim_until(&own, &mut left, Instant::now() + WORK);
                std::thread::sleep(REST);
            }
        };
        sys::spawn("bl-sweep", body).map_err(|cause| cause.to_string())
    });
    match spawned {
        Ok(thread) => directory.await_at_close(thread),
        Err(cause) => tracing::warn!("cannot remove leftovers now: {cause}; the next open tries again"),
    }
}

/// Works off the list until a moment; at least one step of it.
fn reclaim_until(directory: &Arc<StoreDir>, left: &mut VecDeque<(Folder, String)>, deadline: Instant) {
    while let Some((area, name)) = left.pop_front() {
        let path = directory.object_path(area, &name);
        match reclaim(directory, area, &name, deadline) {
            Ok(Reclaimed::Gone) => tracing::debug!("removed leftover {}", path.display()),
            Ok(Reclaimed::Alive) => {}
            Ok(Reclaimed::Partly) => return left.push_front((area, name)),
            Err(errno) => tracing::warn!("cannot remove leftover {}: {errno}", path.display()),
        }
        if Instant::now() >= deadline {
            return;
        }
    }
}

enum Reclaimed {
    /// It is removed, or was nothing to remove any more.
    Gone,
    /// Somebody is at work on it.
    Alive,
    /// Time was too short.
    Partly,
}

impl Storage {
    /// Partial objects, also of live owners.
    pub(crate) fn partials(&self) -> crate::error::Result<Vec<(Folder, String)>> {
        let mut partials = Vec::new();
        for area in std::iter::once(Folder::Root).chain(Folder::FOLDERS).filter(|&area| area != Folder::Locks) {
            let names = self.names_in(area)?.into_iter().filter(|name| is_ours(name, area));
            partials.extend(names.map(|name| (area, name)));
        }
        Ok(partials)
    }
}

fn leftovers(folder: BorrowedFd<'_>, area: Folder) -> Result<Vec<String>, Errno> {
    let mut names = Vec::new();
    sys::for_each_name(folder, |name| {
        let name = name.to_str().ok().filter(|name| is_ours(name, area));
        names.extend(name.map(str::to_owned));
    })?;
    Ok(names)
}

/// Whether a pull may still come back for it.
fn is_young(stat: &Stat) -> bool {
    let written = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
    // A time in the future says nothing.
    SystemTime::now().duration_since(written).is_ok_and(|age| age < RESUMABLE_FOR)
}

/// Whether the name is one that this library, or the seed, gives to something that does not last.
fn is_ours(name: &str, area: Folder) -> bool {
    match area {
        Folder::Root => {
            is_partial_name(name, |stem| [super::format::FILE_NAME, super::store_dir::BOOT_FILE].contains(&stem))
        }
        Folder::Leases => is_partial_name(name, super::lease::is_id),
        Folder::Locks => {
            let lease = name.strip_prefix(super::lease::LOCK);
            [EXTRACTION_LOCK, super::lock::DOWNLOAD_LOCK, super::lock::DISK_LOCK]
                .iter()
                .any(|prefix| name.strip_prefix(prefix).is_some_and(is_digest_stem))
                || lease.is_some_and(super::lease::is_id)
        }
        _ => is_partial_name(name, is_digest_stem),
    }
}

/// Removes a partial object unless its owner lives. The lock is held meanwhile, so that an owner who has just made the
/// name and not locked it yet sees that it lost it.
fn reclaim(directory: &Arc<StoreDir>, area: Folder, name: &str, deadline: Instant) -> Result<Reclaimed, Errno> {
    let Ok(folder) = directory.area(area) else { return Ok(Reclaimed::Gone) };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let remove = || {
        let is_gone = remove_tree_until(folder, name.as_bytes(), deadline)?;
        Ok(if is_gone { Reclaimed::Gone } else { Reclaimed::Partly })
    };
    let handle = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(Reclaimed::Gone),
        // A layer that was to be linked may have become a symlink or a socket before it was: this name of it is ours.
        Err(Errno::LOOP | Errno::NXIO) if area == Folder::Layers => return remove(),
        // A tree whose root has its final mode already. Whoever makes a tree also holds the lock on its extraction.
        Err(Errno::ACCESS) if area == Folder::Extracted => {
            let tree =
                name.strip_suffix(TREE_SUFFIX).and_then(|rest| rest.rsplit_once('.')).map_or(name, |(tree, _)| tree);
            let Some(_lock) = Lock::try_acquire(directory, format!("{EXTRACTION_LOCK}{tree}"))? else {
                return Ok(Reclaimed::Alive);
            };
            return remove();
        }
        other => other?,
    };
    if resumable_of(name).is_some() && is_young(&rustix::fs::fstat(&handle)?) {
        return Ok(Reclaimed::Alive);
    }
    let held = directory.locking().try_lock(handle.as_fd(), Share::Alone)?;
    if held.is_none() || !lock::has_name(handle.as_fd())? {
        return Ok(Reclaimed::Alive);
    }
    remove()
}
