//! The commit protocol, in its one place: how an object comes to be visible.
//!
//! A partial file or tree is made in the folder of its final name, under a name that no reader
//! looks for. It is locked as long as its owner lives. Publishing it is: flush the data, rename
//! without replacing, flush the folder (not for extracted trees, see [`super::extracted`]). At
//! every moment the final name is absent or the whole object. A crash leaves a partial that the
//! next open sweeps away, because its lock is free (store invariants I1, I2, I4, I5;
//! docs/on-disk.md).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
#[cfg(feature = "pull")]
use std::time::{Duration, Instant};

#[cfg(feature = "pull")]
use rustix::fs::SeekFrom;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;

use super::flock::{Held, Share};
use super::lock::{self, CollectionLock};
use super::pending::{self, Made, create_plain_directory, create_plain_file};
use super::rmtree::remove_tree;
use super::store_dir::{BOOT_FILE, Folder, StoreDir};
use crate::digest::Digest;
#[cfg(feature = "pull")]
use crate::error::Status;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::record::{HASHES_SUFFIX, RECORD_SUFFIX};
use crate::sys::{self, is_directory};

pub(crate) const FILE_SUFFIX: &str = ".downloading";
pub(crate) const TREE_SUFFIX: &str = ".extracting";

/// An object that is not visible yet. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Partial {
    directory: Arc<StoreDir>,
    area: Folder,
    name: String,
    /// Says that the owner lives.
    held: Option<Held>,
    handle: OwnedFd,
    is_tree: bool,
    /// The name is still ours to remove.
    is_pending: bool,
    /// Nobody needs it after this boot.
    is_for_this_boot: bool,
}

impl Partial {
    /// A new empty file `stem.<random>.downloading`.
    pub(crate) fn create_file(directory: &Arc<StoreDir>, area: Folder, stem: &str) -> Result<Partial> {
        Partial::create(directory, area, stem, FILE_SUFFIX, false)
    }

    /// A new empty directory `stem.<random>.extracting`, accessible to its owner only.
    pub(crate) fn create_tree(directory: &Arc<StoreDir>, area: Folder, stem: &str) -> Result<Partial> {
        Partial::create(directory, area, stem, TREE_SUFFIX, true)
    }

    /// A new empty file with the name of a partial tree, for one that is a file, or for what is published together with one.
    pub(crate) fn create_tree_file(directory: &Arc<StoreDir>, area: Folder, stem: &str) -> Result<Partial> {
        Partial::create(directory, area, stem, TREE_SUFFIX, false)
    }

    /// The file of a download that may go on later, after [`Partial::keep`] or the death of its
    /// owner. It is the one that is there, or a new one. Whoever calls holds the lock on the
    /// download.
    #[cfg(feature = "pull")]
    pub(crate) fn open_resumable(directory: &Arc<StoreDir>, area: Folder, digest: &Digest) -> Result<Partial> {
        let folder = directory.area(area)?;
        let name = resumable_name(digest);
        let fail = |errno| Error::os(errno, format_args!("open {}", directory.object_path(area, &name).display()));
        // Somebody who sweeps may hold it, or have it removed, for a moment.
        let patience = Instant::now() + Duration::from_secs(1);
        loop {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let handle = match rustix::fs::openat(folder, name.as_str(), flags, Mode::from_raw_mode(0o644)) {
                Ok(handle) if sys::is_regular(&rustix::fs::fstat(&handle).map_err(fail)?) => handle,
                // Nothing that we made has that name and is no file.
                Ok(_) | Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => {
                    remove_tree(folder, name.as_bytes()).map_err(fail)?;
                    continue;
                }
                Err(errno) => return Err(fail(errno)),
            };
            let (directory, name) = (directory.clone(), name.clone());
            let mut partial = Partial {
                directory,
                area,
                name,
                held: None,
                handle,
                is_tree: false,
                is_pending: false,
                is_for_this_boot: false,
            };
            if partial.claim()? {
                partial.is_pending = true;
                return Ok(partial);
            }
            if Instant::now() >= patience {
                return Err(Error::new(Status::Busy, format!("{} is in use", partial.path().display())));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What is published is not to survive a loss of power.
    pub(super) fn only_for_this_boot(mut self) -> Partial {
        self.is_for_this_boot = true;
        self
    }

    /// Leaves the file for [`Partial::open_resumable`].
    #[cfg(feature = "pull")]
    pub(crate) fn keep(mut self, bytes: u64) {
        // Without the room that was reserved behind them.
        match rustix::fs::ftruncate(&self.handle, bytes) {
            Ok(()) => self.is_pending = false,
            Err(errno) => tracing::warn!("cannot keep {}: {errno}", self.path().display()),
        }
    }

    /// A file of the host's under the name of a partial one, which `link` gives it. `None` where it
    /// can have none, or somebody holds a lock on it. Whoever drops this removes the name.
    pub(super) fn link_file(
        directory: &Arc<StoreDir>,
        area: Folder,
        stem: &str,
        link: impl Fn(BorrowedFd<'_>, &str) -> Result<(), Errno>,
    ) -> Result<Option<Partial>> {
        let folder = directory.area(area)?;
        let name = format!("{stem}.{}{FILE_SUFFIX}", pending::random());
        if link(folder, &name).is_err() {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(handle) = rustix::fs::openat(folder, name.as_str(), flags, Mode::empty()) else {
            // Not to be read, or removed by a sweep that found it without a lock.
            let _ = rustix::fs::unlinkat(folder, name.as_str(), AtFlags::empty());
            return Ok(None);
        };
        let directory = directory.clone();
        let (is_tree, is_pending, is_for_this_boot, held) = (false, true, false, None);
        let mut partial = Partial { directory, area, name, held, handle, is_tree, is_pending, is_for_this_boot };
        // A file with other names does not tell that a sweep took this one before it was locked.
        let is_ours = partial.claim()? && partial.has_its_name();
        Ok(is_ours.then_some(partial))
    }

    fn create(directory: &Arc<StoreDir>, area: Folder, stem: &str, suffix: &str, is_tree: bool) -> Result<Partial> {
        let folder = directory.area(area)?;
        pending::make(|random| {
            let name = format!("{stem}.{random}{suffix}");
            let handle =
                if is_tree { create_plain_directory(folder, &name) } else { create_plain_file(folder, name.as_str()) };
            let handle = match handle {
                Ok(handle) => handle,
                Err(Errno::NOENT) if is_tree => return Ok(Made::Lost),
                Err(errno) => {
                    let _ = remove_tree(folder, name.as_bytes());
                    let path = directory.object_path(area, &name);
                    return Err(Error::os(errno, format_args!("create {}", path.display())));
                }
            };
            let directory = directory.clone();
            let (is_pending, is_for_this_boot, held) = (true, false, None);
            let mut partial = Partial { directory, area, name, held, handle, is_tree, is_pending, is_for_this_boot };
            Ok(if partial.claim()? { Made::Ours(partial) } else { Made::Lost })
        })
    }

    fn has_its_name(&self) -> bool {
        self.directory.stat(self.area, &self.name).is_ok_and(|stat| stat.is_some())
    }

    fn claim(&mut self) -> Result<bool> {
        let path = self.path();
        let fail = |errno| Error::os(errno, format_args!("lock {}", path.display()));
        self.held = self.directory.locking().try_lock(self.handle.as_fd(), Share::Alone).map_err(fail)?;
        Ok(self.held.is_some() && lock::has_name(self.handle.as_fd()).map_err(fail)?)
    }

    /// Removes a visible object: it loses its name in one step, and is deleted under the name of a leftover. Nothing of
    /// that name is no error.
    pub(crate) fn take_away(directory: &Arc<StoreDir>, area: Folder, name: &str) -> Result<()> {
        let trash = Partial::take_to_trash(directory, area, name)?;
        if trash.is_some() { directory.sync_area(area) } else { Ok(()) }
    }

    /// The first half of [`Partial::take_away`]: the caller syncs the folder, and deletes by dropping.
    pub(crate) fn take_to_trash(directory: &Arc<StoreDir>, area: Folder, name: &str) -> Result<Option<Removal>> {
        let folder = directory.area(area)?;
        let stem = name.split('.').next().unwrap_or(name);
        let trash = format!("{stem}.{}{TREE_SUFFIX}", pending::random());
        match rustix::fs::renameat(folder, name, folder, trash.as_str()) {
            Ok(()) => Ok(Some(Removal::new(directory, area, trash))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::os(errno, format_args!("remove {}", directory.object_path(area, name).display()))),
        }
    }

    /// Moves a visible object out of everybody's way, under a name by which a reader knows what it was.
    pub(crate) fn take_to_quarantine(directory: &Arc<StoreDir>, area: Folder, name: &str) -> Result<()> {
        let to = format!("{}.{name}.{}", area.name(), pending::random());
        match rustix::fs::renameat(directory.area(area)?, name, directory.area(Folder::Quarantine)?, to.as_str()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => {
                Err(Error::os(errno, format_args!("move {} away", directory.object_path(area, name).display())))
            }
        }
    }

    /// The file, or the directory that is the tree's root.
    pub(crate) fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.object_path(self.area, &self.name)
    }

    /// A further name of the file, in another folder.
    pub(crate) fn link_to(&self, folder: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
        let from = self.directory.area(self.area).map_err(|_| Errno::NOENT)?;
        rustix::fs::linkat(from, self.name.as_str(), folder, name, AtFlags::empty())
    }

    /// Appends all bytes to the file.
    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        sys::write_all(self.handle.as_fd(), bytes)
            .map_err(|errno| Error::os(errno, format_args!("write {}", self.path().display())))
    }

    /// Hands over what the file has, piece by piece, and goes on writing behind it. More than `most` is not what anybody
    /// wrote for this object: then the file is emptied.
    #[cfg(feature = "pull")]
    pub(crate) fn rehash(&mut self, most: u64, piece: usize, mut each: impl FnMut(&[u8])) -> Result<u64> {
        let fail = |errno| Error::os(errno, format_args!("read {}", self.path().display()));
        let size = rustix::fs::fstat(&self.handle).map_err(fail)?.st_size as u64;
        if size > most {
            rustix::fs::ftruncate(&self.handle, 0).map_err(fail)?;
            return Ok(0);
        }
        let (mut buffer, mut read) = (vec![0; piece], 0);
        while read < size {
            match rustix::io::pread(&self.handle, &mut buffer, read) {
                Ok(0) => break,
                Ok(n) => {
                    each(&buffer[..n]);
                    read += n as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(fail(errno)),
            }
        }
        rustix::fs::seek(&self.handle, SeekFrom::Start(read)).map_err(fail)?;
        Ok(read)
    }

    /// Reserves disk space for the file, where the file system can do that; its size stays what it is.
    pub(crate) fn reserve(&self, bytes: u64) -> Result<()> {
        match sys::reserve_space(self.handle.as_fd(), bytes) {
            Ok(()) | Err(Errno::NOTSUP | Errno::NOSYS | Errno::INVAL | Errno::INTR | Errno::PERM) => Ok(()),
            Err(Errno::NOSPC) => {
                let (free, _) = self.directory.space()?;
                Err(Error::no_space(format!("{}: {bytes} bytes to write, {free} free", self.path().display())))
            }
            Err(errno) => Err(Error::os(errno, format_args!("reserve {bytes} bytes for {}", self.path().display()))),
        }
    }

    /// Makes the object visible as `name`. Where that name is taken, `is_good` looks at what has it
    /// (an open file; a directory for trees). A good one is kept, and the caller's identical object
    /// is dropped, which is success. A damaged one is replaced. An error of a flush is final: the
    /// partial is removed. `interrupt` ends the wait for a collection.
    pub(crate) fn publish(
        mut self,
        name: &str,
        interrupt: &Interrupt,
        is_good: impl Fn(BorrowedFd<'_>) -> Result<bool>,
    ) -> Result<()> {
        let fail = |action: &str, errno| {
            let path = self.directory.object_path(self.area, name);
            Error::os(errno, format_args!("{action} {}", path.display()))
        };
        if self.is_synced(name) {
            sys::sync_data(self.handle.as_fd()).map_err(|errno| fail("flush", errno))?;
        }
        let folder = self.directory.area(self.area)?;
        // A collection either sees what appears here, and that it is new, or is over before.
        let _collection = match self.area {
            Folder::Manifests | Folder::Configs | Folder::Layers => {
                Some(CollectionLock::shared(&self.directory, interrupt)?)
            }
            _ => None,
        };
        match rename_new(folder, &self.name, name, self.is_tree) {
            Ok(()) => self.is_pending = false,
            Err(Errno::EXIST | Errno::NOTEMPTY) if self.exchange(name) => {}
            Err(Errno::EXIST | Errno::NOTEMPTY) => {
                if !self.keep_existing(folder, name, is_good)? {
                    // A file is replaced by the rename itself; everything else must go first.
                    if self.is_tree || self.directory.stat(self.area, name)?.is_some_and(|stat| is_directory(&stat)) {
                        Partial::take_away(&self.directory, self.area, name)?;
                    }
                    rustix::fs::renameat(folder, self.name.as_str(), folder, name)
                        .map_err(|errno| fail("publish", errno))?;
                    // Two names of one file stay two (POSIX, rename): then the drop removes the other one.
                    self.is_pending = !self.is_tree && self.has_its_name();
                }
            }
            Err(errno) => return Err(fail("publish", errno)),
        }
        if self.is_synced(name) { self.directory.sync_area(self.area) } else { Ok(()) }
    }

    /// Takes the name of a disk that is replaced, in one step: what had it has ours then, and goes when this is dropped.
    fn exchange(&self, name: &str) -> bool {
        let Ok(folder) = self.directory.area(self.area) else { return false };
        let flags = RenameFlags::EXCHANGE;
        self.area == Folder::Disks && rustix::fs::renameat_with(folder, self.name.as_str(), folder, name, flags).is_ok()
    }

    /// Trees, their records and disks become durable later, and which boot it is nobody asks in the next one ([`super::extracted`]).
    fn is_synced(&self, name: &str) -> bool {
        !self.is_for_this_boot
            && self.directory.is_durable()
            && !matches!(self.area, Folder::Extracted | Folder::Disks)
            && name != BOOT_FILE
    }

    /// Our success promises durability, whoever made the object that is there.
    fn keep_existing(
        &self,
        folder: BorrowedFd<'_>,
        name: &str,
        is_good: impl Fn(BorrowedFd<'_>) -> Result<bool>,
    ) -> Result<bool> {
        let kind = if self.is_tree { OFlags::DIRECTORY } else { OFlags::NONBLOCK };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | kind;
        let existing = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
            Ok(existing) => existing,
            // Of another kind than it should be, or gone: not something to keep. Anything else says nothing of it.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
            Err(errno) => {
                let path = self.directory.object_path(self.area, name);
                return Err(Error::os(errno, format_args!("open {}", path.display())));
            }
        };
        if !is_good(existing.as_fd())? {
            return Ok(false);
        }
        if self.is_synced(name) {
            sys::sync_data(existing.as_fd()).map_err(|errno| {
                Error::os(errno, format_args!("flush {}", self.directory.object_path(self.area, name).display()))
            })?;
        }
        if matches!(self.area, Folder::Manifests | Folder::Configs) {
            // It counts as new, so that a collection does not take it before its image has a name.
            let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
            let times = Timestamps { last_access: now, last_modification: now };
            // In somebody else's store it is as old as it is.
            let _ = rustix::fs::futimens(&existing, &times);
        }
        Ok(true)
    }
}

/// An object that lost its name. Dropping it deletes it; what cannot be deleted is a leftover.
pub(crate) struct Removal {
    directory: Arc<StoreDir>,
    area: Folder,
    /// Empty when the deletion was left to somebody else.
    name: String,
}

impl Removal {
    /// Something that has no name that anybody looks for.
    pub(crate) fn new(directory: &Arc<StoreDir>, area: Folder, name: String) -> Removal {
        Removal { directory: directory.clone(), area, name }
    }

    /// Leaves the deletion to a sweep.
    pub(super) fn leave(mut self) {
        self.name.clear();
    }

    /// Leaves the deletion to a thread, for which closing the store waits.
    pub(crate) fn delete_later(directory: &Arc<StoreDir>, trash: Vec<Removal>) {
        // Without a reference to the directory, whose last owner joins the thread.
        let mut by_folder: Vec<(Folder, OwnedFd, Vec<String>)> = Vec::new();
        for mut trash in trash {
            if by_folder.last().is_none_or(|(area, ..)| *area != trash.area) {
                let Ok(Ok(folder)) = directory.area(trash.area).map(|folder| folder.try_clone_to_owned()) else {
                    continue;
                };
                by_folder.push((trash.area, folder, Vec::new()));
            }
            if let Some((.., names)) = by_folder.last_mut() {
                names.push(std::mem::take(&mut trash.name));
            }
        }
        if by_folder.is_empty() {
            return;
        }
        let thread = sys::spawn("bl-remove", move || {
            for (area, folder, names) in by_folder {
                for name in names {
                    if let Err(errno) = remove_tree(folder.as_fd(), name.as_bytes()) {
                        tracing::warn!("cannot remove {}/{name}: {errno}; the next open tries again", area.name());
                    }
                }
            }
        });
        match thread {
            Ok(thread) => directory.await_at_close(thread),
            Err(cause) => tracing::warn!("cannot remove now: {cause}; the next open does"),
        }
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        if self.name.is_empty() || self.directory.is_forked() {
            return;
        }
        let Ok(folder) = self.directory.area(self.area) else { return };
        if let Err(errno) = remove_tree(folder, self.name.as_bytes()) {
            let path = self.directory.object_path(self.area, &self.name);
            tracing::warn!("cannot remove {}: {errno}; the next open tries again", path.display());
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // In a forked child the object is the parent's.
        if !self.is_pending || self.directory.is_forked() {
            return;
        }
        let Ok(folder) = self.directory.area(self.area) else { return };
        let (held, handle) = (self.held.take(), &self.handle);
        let lock = || Ok(Box::new((held, handle.try_clone()?)) as Box<dyn Send>);
        pending::remove(&self.directory, folder, self.name.as_bytes(), self.path(), lock);
    }
}

/// Whether `name` is one that [`Partial`], or the seed, gives: only such names are ever swept away.
pub(super) fn is_partial_name(name: &str, stem_is_ours: impl Fn(&str) -> bool) -> bool {
    let Some(rest) = name.strip_suffix(FILE_SUFFIX).or_else(|| name.strip_suffix(TREE_SUFFIX)) else { return false };
    let Some((stem, random)) = rest.rsplit_once('.') else { return false };
    pending::is_random(random.as_bytes()) && stem_is_ours(stem)
}

/// The partial file of a download that a later one goes on with. What is random in others is the beginning of the digest
/// here, so that it can be found again.
pub(super) fn resumable_name(digest: &Digest) -> String {
    format!("{}.{}{FILE_SUFFIX}", digest.file_stem(), &digest.hex()[..32])
}

/// Whose partial file that is, if it is one that a later download goes on with.
pub(crate) fn resumable_of(name: &str) -> Option<Digest> {
    let (algorithm, rest) = name.split_once('-')?;
    let digest = Digest::parse(&format!("{algorithm}:{}", rest.split_once('.')?.0)).ok()?;
    (resumable_name(&digest) == name).then_some(digest)
}

/// The tree that a file lies beside: a metadata record, or hashes.
pub(super) fn tree_of(name: &str) -> Option<&str> {
    name.strip_suffix(RECORD_SUFFIX).or_else(|| name.strip_suffix(HASHES_SUFFIX))
}

/// Whether a name's stem is one that digests become: that of a tree, or of what lies beside one.
pub(super) fn is_digest_stem(stem: &str) -> bool {
    is_tree_name(tree_of(stem).unwrap_or(stem))
}

/// Whether a name is one of a tree: `sha256-<hex>`, or that with the form of a tree (`.overlay-stat`).
pub(super) fn is_tree_name(stem: &str) -> bool {
    let (stem, form) = stem.split_once('.').unwrap_or((stem, ""));
    let is_form = form.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    is_form && stem.split_once('-').is_some_and(|(algorithm, hex)| Digest::parse(&format!("{algorithm}:{hex}")).is_ok())
}

/// Renames without replacing, also where the file system cannot do that in one call.
fn rename_new(folder: BorrowedFd<'_>, from: &str, to: &str, is_tree: bool) -> Result<(), Errno> {
    match rustix::fs::renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
        // EPERM is what some sandboxes answer to calls that they do not know.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP | Errno::PERM) if is_tree => {
            // A rename onto a non-empty directory fails, and a published tree that is empty equals any other.
            rustix::fs::renameat(folder, from, folder, to)
        }
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP | Errno::PERM) => {
            rustix::fs::linkat(folder, from, folder, to, AtFlags::empty())?;
            rustix::fs::unlinkat(folder, from, AtFlags::empty())
        }
        other => other,
    }
}
