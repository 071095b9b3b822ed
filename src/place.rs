//! A place of the host's for something that we make: a root file system, an archive. It is made beside its destination under
//! a name that says so, and renamed when it is whole.
//!
//! As in the store, that somebody is at work is said by a lock on what is made, so that what the dead have left can be
//! told from what is being made, and whoever makes something for the same destination next removes it.

#![forbid(unsafe_code)]

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::error::{Error, Result, Status};
use crate::store::{Directory, create_plain_directory, is_directory, is_regular, remove_tree, remove_tree_until};
use crate::sys;

const SUFFIX: &[u8] = b".assembling";
/// How long the removal of something half-made keeps the call that made it.
const REMOVAL_TIME: Duration = Duration::from_millis(10);

/// A name in a folder of the host's.
pub(crate) struct Place {
    folder: OwnedFd,
    name: Vec<u8>,
    path: PathBuf,
    /// Closing the store waits for what is still being removed.
    store: Arc<Directory>,
}

impl Place {
    /// The folder must be there. Symlinks on the way to it are the host's business.
    pub(crate) fn new(path: &Path, store: &Arc<Directory>) -> Result<Arc<Place>> {
        let Some(name) = path.file_name() else {
            let why = format!("{}: not a path to something that can be made", path.display());
            return Err(Error::new(Status::InvalidArgument, why));
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(folder, flags, Mode::empty())
            .map_err(|errno| Error::os(errno, format_args!("open {}", folder.display())))?;
        let (name, path, store) = (name.as_bytes().to_vec(), path.to_path_buf(), store.clone());
        Ok(Arc::new(Place { folder, name, path, store }))
    }

    fn fail(&self, action: &str, errno: Errno) -> Error {
        Error::os(errno, format_args!("{action} {}", self.path.display()))
    }

    /// Refuses a place that is taken: by anything but a directory, and by one that has something in it unless that may be
    /// replaced.
    pub(crate) fn check_free(&self, may_replace: bool) -> Result<()> {
        let refuse = |why: &str| Err(Error::new(Status::State, format!("{} {why}", self.path.display())));
        match rustix::fs::statat(&self.folder, &self.name[..], AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.fail("look at", errno)),
            Ok(stat) if !is_directory(&stat) => refuse("is there and is no directory"),
            Ok(_) if may_replace || self.is_empty()? => Ok(()),
            Ok(_) => refuse("is there and is not empty"),
        }
    }

    /// Refuses a place that is taken, unless by a file that may be replaced.
    pub(crate) fn check_free_for_file(&self, may_replace: bool) -> Result<()> {
        let refuse = |why: &str| Err(Error::new(Status::State, format!("{} {why}", self.path.display())));
        match rustix::fs::statat(&self.folder, &self.name[..], AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.fail("look at", errno)),
            Ok(stat) if !is_regular(&stat) => refuse("is there and is no file"),
            Ok(_) if may_replace => Ok(()),
            Ok(_) => refuse("is there"),
        }
    }

    fn is_empty(&self) -> Result<bool> {
        let failed = |errno| self.fail("list", errno);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(&self.folder, &self.name[..], flags, Mode::empty()).map_err(failed)?;
        for entry in rustix::fs::Dir::read_from(folder).map_err(failed)? {
            if !matches!(entry.map_err(failed)?.file_name().to_bytes(), b"." | b"..") {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes what dead processes have left of their work for this place.
    pub(crate) fn sweep(&self) {
        let Ok(entries) = rustix::fs::Dir::read_from(&self.folder) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name().to_bytes();
            if !self.is_work_name(name) {
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let Ok(left) = rustix::fs::openat(&self.folder, name, flags, Mode::empty()) else { continue };
            if rustix::fs::flock(&left, FlockOperation::NonBlockingLockExclusive).is_ok()
                && let Err(errno) = remove_tree(self.folder.as_fd(), name)
            {
                tracing::warn!("cannot remove what was left beside {}: {errno}", self.path.display());
            }
        }
    }

    /// `.<name>.<random>.assembling`
    fn work_name(&self) -> Vec<u8> {
        let random = uuid::Uuid::new_v4().simple().to_string();
        [b".", &self.name[..], b".", random.as_bytes(), SUFFIX].concat()
    }

    fn is_work_name(&self, name: &[u8]) -> bool {
        let random = name.strip_prefix(b".").and_then(|name| name.strip_prefix(&self.name[..]));
        let random = random.and_then(|rest| rest.strip_prefix(b".")).and_then(|rest| rest.strip_suffix(SUFFIX));
        random.is_some_and(|random| random.len() == 32 && random.iter().all(u8::is_ascii_hexdigit))
    }
}

/// Something that is being made for a place. Dropping it removes it.
pub(crate) struct Work {
    place: Arc<Place>,
    name: Vec<u8>,
    /// Locked as long as it is open.
    handle: OwnedFd,
    is_pending: bool,
}

impl Work {
    /// An empty directory that only its owner can enter.
    pub(crate) fn directory(place: &Arc<Place>) -> Result<Work> {
        Work::make(place, |name| create_plain_directory(place.folder.as_fd(), name))
    }

    /// An empty file.
    pub(crate) fn file(place: &Arc<Place>) -> Result<Work> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Work::make(place, |name| rustix::fs::openat(&place.folder, name, flags, Mode::from_raw_mode(0o644)))
    }

    fn make(place: &Arc<Place>, make: impl Fn(&[u8]) -> Result<OwnedFd, Errno>) -> Result<Work> {
        loop {
            let name = place.work_name();
            let handle = match make(&name) {
                Ok(handle) => handle,
                // A sweep of somebody else's came between.
                Err(Errno::NOENT) if rustix::fs::fstat(&place.folder).is_ok_and(|stat| stat.st_nlink > 0) => continue,
                Err(errno) => return Err(place.fail("make something beside", errno)),
            };
            let work = Work { place: place.clone(), name, handle, is_pending: true };
            match rustix::fs::flock(&work.handle, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => continue,
                // Where there are no locks nobody takes it for left either.
                _ if rustix::fs::fstat(&work.handle).is_ok_and(|stat| stat.st_nlink > 0) => return Ok(work),
                _ => {}
            }
        }
    }

    /// A further handle of it.
    pub(crate) fn open(&self) -> Result<OwnedFd> {
        self.handle.try_clone().map_err(|cause| Error::io(&cause, "open what is being made"))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.place.path
    }

    /// Gives a file its name, in place of what has it.
    pub(crate) fn publish_file(mut self) -> Result<()> {
        let (folder, name) = (&self.place.folder, &self.place.name[..]);
        rustix::fs::renameat(folder, &self.name[..], folder, name).map_err(|errno| self.place.fail("make", errno))?;
        self.is_pending = false;
        Ok(())
    }

    /// Gives a directory its name. One that is there and is not empty is removed where that was asked for, and is there until
    /// the new one is.
    pub(crate) fn publish_directory(mut self, may_replace: bool) -> Result<()> {
        let place = self.place.clone();
        let (folder, name, own) = (place.folder.as_fd(), &place.name[..], &self.name[..]);
        let failed = |errno| place.fail("make", errno);
        // This replaces an empty directory and nothing else.
        match rustix::fs::renameat(folder, own, folder, name) {
            Ok(()) => {
                self.is_pending = false;
                return Ok(());
            }
            Err(Errno::EXIST | Errno::NOTEMPTY) if may_replace => {}
            Err(errno) => {
                place.check_free(false)?;
                return Err(failed(errno));
            }
        }
        place.check_free(true)?;
        // What has our name after that goes with us.
        match rustix::fs::renameat_with(folder, own, folder, name, RenameFlags::EXCHANGE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP | Errno::PERM) => {}
            exchanged => return exchanged.map_err(failed),
        }
        let old = place.work_name();
        rustix::fs::renameat(folder, name, folder, &old[..]).map_err(failed)?;
        if let Err(errno) = rustix::fs::renameat(folder, own, folder, name) {
            let _ = rustix::fs::renameat(folder, &old[..], folder, name);
            return Err(failed(errno));
        }
        self.name = old;
        Ok(())
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if !self.is_pending || self.place.store.is_forked() {
            return;
        }
        match remove_tree_until(self.place.folder.as_fd(), &self.name, Instant::now() + REMOVAL_TIME) {
            Ok(true) => {}
            Ok(false) => self.remove_later(),
            Err(errno) => tracing::warn!("cannot remove what was made for {}: {errno}", self.place.path.display()),
        }
    }
}

impl Work {
    /// A thread removes the rest, under the same lock.
    fn remove_later(&self) {
        let lock = self.handle.try_clone();
        let (place, name) = (self.place.clone(), self.name.clone());
        let folder: std::io::Result<OwnedFd> = place.folder.try_clone();
        let thread = folder.and_then(|folder| {
            sys::spawn("bl-remove", move || {
                if let Err(errno) = remove_tree(folder.as_fd(), &name) {
                    tracing::warn!("cannot remove what was made for a root file system: {errno}");
                }
                drop(lock);
            })
        });
        match thread {
            Ok(thread) => place.store.await_at_close(thread),
            Err(cause) => tracing::warn!("cannot remove what was made for {}: {cause}", place.path.display()),
        }
    }
}
