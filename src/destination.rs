//! A place of the host's for something that we make: a root file system, an archive. It is made beside its destination under
//! a name that says so, and renamed when it is whole.
//!
//! As in the store, a lock on what is made says that somebody is at work. So what the dead have
//! left can be told from what is being made. Whoever makes something for the same destination next
//! removes it.
//!
//! A directory that something is mounted on has no other name to be exchanged with. What is made
//! for it is made inside it, and moved up when it is whole. The host sees it appear in pieces, but
//! never what is half-written.

#![forbid(unsafe_code)]

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, FlockOperation, Gid, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use crate::error::{Error, Result, Status};
use crate::store::pending::{self, Made, create_plain_directory, create_plain_file};
use crate::store::{StoreDir, remove_tree};
use crate::sys::{self, is_directory, is_regular};

/// The directory that a new ext4 has.
const LOST_AND_FOUND: &[u8] = b"lost+found";
const SUFFIX: &[u8] = b".assembling";
/// What the kernel has for the names of a file's attributes, and for the value of one (xattr(7)).
const XATTR_NAMES: usize = 64 << 10;
const XATTR_VALUE: usize = 64 << 10;

/// A name in a folder of the host's.
pub(crate) struct Destination {
    folder: OwnedFd,
    name: Vec<u8>,
    path: PathBuf,
    /// Closing the store waits for what is still being removed.
    store: Arc<StoreDir>,
}

impl Destination {
    /// The folder must be there. Symlinks on the way to it are the host's business.
    pub(crate) fn new(path: &Path, store: &Arc<StoreDir>) -> Result<Arc<Destination>> {
        let Some(name) = path.file_name() else {
            let why = format!("{}: not a path to something that can be made", path.display());
            return Err(Error::new(Status::InvalidArgument, why));
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(folder, flags, Mode::empty())
            .map_err(|errno| Error::os(errno, format_args!("open {}", folder.display())))?;
        let (name, path, store) = (name.as_bytes().to_vec(), path.to_path_buf(), store.clone());
        Ok(Arc::new(Destination { folder, name, path, store }))
    }

    fn fail(&self, action: &str, errno: Errno) -> Error {
        match errno {
            // It came after we had looked.
            Errno::EXIST | Errno::NOTEMPTY => Error::new(Status::Exists, format!("{} is there", self.path.display())),
            errno => Error::os(errno, format_args!("{action} {}", self.path.display())),
        }
    }

    /// Refuses a place that is taken: by anything but a directory, and by one that has something in it unless that may be
    /// replaced.
    pub(crate) fn check_free(&self, may_replace: bool) -> Result<()> {
        let refuse = |why: &str| Err(Error::new(Status::Exists, format!("{} {why}", self.path.display())));
        match rustix::fs::statat(&self.folder, &self.name[..], AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.fail("look at", errno)),
            Ok(stat) if !is_directory(&stat) => refuse("is there and is no directory"),
            Ok(_) if may_replace || self.is_empty()? => Ok(()),
            Ok(_) => refuse("is there and is not empty"),
        }
    }

    /// The inside of the place, where it is to be filled and not replaced. Either something is
    /// mounted on it, or the caller wants it (`is_wanted`) and it is there. It must be empty but
    /// for what mkfs puts into a file system.
    pub(crate) fn inside(&self, is_wanted: bool) -> Result<Option<Arc<Destination>>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inside = match rustix::fs::openat(&self.folder, &self.name[..], flags, Mode::empty()) {
            Ok(inside) => inside,
            // Not there, or no directory: for [`Destination::check_free`].
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(errno) => return Err(self.fail("open", errno)),
        };
        let is_mounted =
            sys::is_mount_point(self.folder.as_fd(), &self.name).map_err(|errno| self.fail("look at", errno))?;
        if !is_mounted && !is_wanted {
            return Ok(None);
        }
        let (name, path, store) = (self.name.clone(), self.path.clone(), self.store.clone());
        let inside = Destination { folder: inside, name, path, store };
        inside.sweep();
        if !inside.is_unused().map_err(|errno| self.fail("list", errno))? {
            let what = if is_mounted { "is a mount point and is not empty" } else { "is not empty" };
            let why = format!("{} {what}: what is in it has to be removed first", self.path.display());
            return Err(Error::new(Status::Exists, why));
        }
        Ok(Some(Arc::new(inside)))
    }

    /// Whether there is nothing in the folder that somebody put there.
    fn is_unused(&self) -> Result<bool, Errno> {
        let mut is_unused = true;
        sys::for_each_name(self.folder.as_fd(), |name| {
            is_unused &= matches!(name.to_bytes(), b"." | b"..") || name.to_bytes() == LOST_AND_FOUND;
        })?;
        Ok(is_unused)
    }

    /// Refuses a place that is taken, unless by a file that may be replaced.
    pub(crate) fn check_free_for_file(&self, may_replace: bool) -> Result<()> {
        let refuse = |why: &str| Err(Error::new(Status::Exists, format!("{} {why}", self.path.display())));
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
    fn work_name(&self, random: &str) -> Vec<u8> {
        [b".", &self.name[..], b".", random.as_bytes(), SUFFIX].concat()
    }

    fn is_work_name(&self, name: &[u8]) -> bool {
        let random = name.strip_prefix(b".").and_then(|name| name.strip_prefix(&self.name[..]));
        let random = random.and_then(|rest| rest.strip_prefix(b".")).and_then(|rest| rest.strip_suffix(SUFFIX));
        random.is_some_and(pending::is_random)
    }
}

/// Something that is being made for a place. Dropping it removes it.
pub(crate) struct PendingOutput {
    place: Arc<Destination>,
    name: Vec<u8>,
    /// Locked as long as it is open.
    handle: OwnedFd,
    is_pending: bool,
}

impl PendingOutput {
    /// An empty directory that only its owner can enter.
    pub(crate) fn directory(place: &Arc<Destination>) -> Result<PendingOutput> {
        PendingOutput::make(place, |name| create_plain_directory(place.folder.as_fd(), name))
    }

    /// An empty file.
    pub(crate) fn file(place: &Arc<Destination>) -> Result<PendingOutput> {
        PendingOutput::make(place, |name| create_plain_file(place.folder.as_fd(), name))
    }

    fn make(place: &Arc<Destination>, make: impl Fn(&[u8]) -> Result<OwnedFd, Errno>) -> Result<PendingOutput> {
        pending::make(|random| {
            let name = place.work_name(&random);
            let handle = match make(&name) {
                Ok(handle) => handle,
                // A sweep of somebody else's came between.
                Err(Errno::NOENT) if has_name(&place.folder) => return Ok(Made::Lost),
                Err(errno) => return Err(place.fail("make something beside", errno)),
            };
            let work = PendingOutput { place: place.clone(), name, handle, is_pending: true };
            Ok(match rustix::fs::flock(&work.handle, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => Made::Lost,
                // Where there are no locks nobody takes it for left either.
                _ if has_name(&work.handle) => Made::Ours(work),
                _ => Made::Lost,
            })
        })
    }

    /// A further handle of it.
    pub(crate) fn open(&self) -> Result<OwnedFd> {
        self.handle.try_clone().map_err(|cause| Error::io(&cause, "open what is being made"))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.place.path
    }

    /// Where it is while it is made, for messages.
    fn made_path(&self) -> PathBuf {
        self.place.path.with_file_name(std::ffi::OsStr::from_bytes(&self.name))
    }

    /// Gives a file its name, in place of a file that has it, if that was asked for. Otherwise `EXISTS`, however short ago that
    /// came.
    pub(crate) fn publish_file(mut self, may_replace: bool) -> Result<()> {
        if may_replace {
            self.place.check_free_for_file(true)?;
        }
        let (folder, own, name) = (&self.place.folder, &self.name[..], &self.place.name[..]);
        let replace = || rustix::fs::renameat(folder, own, folder, name);
        let published = if may_replace {
            replace()
        } else {
            match rustix::fs::renameat_with(folder, own, folder, name, RenameFlags::NOREPLACE) {
                // Not in one call here. What has two names loses the other one when this is dropped.
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP | Errno::PERM) => {
                    match rustix::fs::linkat(folder, own, folder, name, AtFlags::empty()) {
                        Ok(()) => return Ok(()),
                        Err(Errno::EXIST) => Err(Errno::EXIST),
                        // Nor are there links.
                        Err(_) => {
                            self.place.check_free_for_file(false)?;
                            replace()
                        }
                    }
                }
                renamed => renamed,
            }
        };
        published.map_err(|errno| self.place.fail("make", errno))?;
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
        let old = place.work_name(&pending::random());
        rustix::fs::renameat(folder, name, folder, &old[..]).map_err(failed)?;
        if let Err(errno) = rustix::fs::renameat(folder, own, folder, name) {
            let _ = rustix::fs::renameat(folder, &old[..], folder, name);
            return Err(failed(errno));
        }
        self.name = old;
        Ok(())
    }
}

impl PendingOutput {
    /// Removes it before this returns.
    pub(crate) fn discard(mut self) -> Result<()> {
        self.is_pending = false;
        let failed = |errno| self.place.fail("remove what was made for", errno);
        remove_tree(self.place.folder.as_fd(), &self.name).map_err(failed)
    }

    /// Moves what a directory made inside its place has in it up into the place, which gets its owner, mode and attributes.
    /// After an error what was moved is taken away.
    pub(crate) fn publish_inside(mut self) -> Result<()> {
        let mut moved = Vec::new();
        let result = self.move_up(&mut moved);
        if result.is_err() {
            for name in moved {
                if let Err(errno) = remove_tree(self.place.folder.as_fd(), &name) {
                    tracing::warn!("cannot remove what was made in {}: {errno}", self.place.path.display());
                }
            }
        }
        result
    }

    fn move_up(&mut self, moved: &mut Vec<Vec<u8>>) -> Result<()> {
        let place = self.place.clone();
        let folder = place.folder.as_fd();
        // Moving its entries out changes its times.
        let made_as = rustix::fs::fstat(&self.handle).map_err(|errno| place.fail("look at what was made in", errno))?;
        let mut names = Vec::new();
        let list = |name: &std::ffi::CStr| match name.to_bytes() {
            b"." | b".." => {}
            name => names.push(name.to_vec()),
        };
        sys::for_each_name(self.handle.as_fd(), list).map_err(|errno| place.fail("list what was made in", errno))?;
        for name in names {
            let made = self.handle.as_fd();
            let renamed = match &name[..] {
                // An empty one gives way.
                LOST_AND_FOUND => rustix::fs::renameat(made, &name[..], folder, &name[..]),
                _ => match rustix::fs::renameat_with(made, &name[..], folder, &name[..], RenameFlags::NOREPLACE) {
                    Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                        rustix::fs::renameat(made, &name[..], folder, &name[..])
                    }
                    renamed => renamed,
                },
            };
            renamed.map_err(|errno| place.fail("move what was made into", errno))?;
            moved.push(name);
        }
        let failed = |errno| place.fail("set the metadata of", errno);
        copy_metadata(self.handle.as_fd(), &made_as, folder).map_err(failed)?;
        rustix::fs::unlinkat(folder, &self.name[..], AtFlags::REMOVEDIR)
            .map_err(|errno| place.fail("remove what was left in", errno))?;
        self.is_pending = false;
        let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
        let times = Timestamps {
            last_access: time(made_as.st_atime, made_as.st_atime_nsec as _),
            last_modification: time(made_as.st_mtime, made_as.st_mtime_nsec as _),
        };
        rustix::fs::futimens(folder, &times).map_err(failed)
    }
}

/// Gives one directory the owner, attributes and mode of another.
fn copy_metadata(from: BorrowedFd<'_>, stat: &Stat, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let old = rustix::fs::fstat(to)?;
    if (stat.st_uid, stat.st_gid) != (old.st_uid, old.st_gid) {
        rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    }
    let mut names = vec![0u8; XATTR_NAMES];
    let length = match rustix::fs::flistxattr(from, &mut names[..]) {
        Err(Errno::NOTSUP) => 0,
        length => length?,
    };
    let mut value = vec![0u8; XATTR_VALUE];
    for name in names[..length].split(|&b| b == 0).filter(|name| !name.is_empty()) {
        let length = rustix::fs::fgetxattr(from, name, &mut value[..])?;
        // Labels are the host's policy, and both directories got theirs by it.
        if !name.starts_with(b"security.") {
            rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty())?;
        }
    }
    rustix::fs::fchmod(to, sys::mode(sys::mode_of(stat) & 0o7777))
}

/// Whether an open file or directory still has one.
fn has_name(file: &OwnedFd) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| stat.st_nlink > 0)
}

impl Drop for PendingOutput {
    fn drop(&mut self) {
        let place = &self.place;
        if !self.is_pending || place.store.is_forked() {
            return;
        }
        let lock = || Ok(Box::new(self.handle.try_clone()?) as Box<dyn Send>);
        pending::remove(&place.store, place.folder.as_fd(), &self.name, self.made_path(), lock);
    }
}
