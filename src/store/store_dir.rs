//! The store's directory as a set of held handles. Every object is reached by one name below one of
//! these handles, so a path is resolved once, at open. The host may change its working directory,
//! and nobody can swap a parent under us.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::flock::{self, COLLECTION, Locking};
use super::format;
use super::options::{Durability, StorageOptions};
use super::writeback::{Waiting, Writeback};
use crate::error::{Error, Result, Status};
use crate::record::Validity;
use crate::sys;

/// The store's directory itself, and its folders. Their names never change (docs/on-disk.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Folder {
    Root,
    Manifests,
    Configs,
    Layers,
    Extracted,
    Disks,
    Names,
    Leases,
    Locks,
    Quarantine,
    Links,
}

impl Folder {
    pub(super) const FOLDERS: [Folder; 10] = [
        Folder::Manifests,
        Folder::Configs,
        Folder::Layers,
        Folder::Extracted,
        Folder::Disks,
        Folder::Names,
        Folder::Leases,
        Folder::Locks,
        Folder::Quarantine,
        Folder::Links,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Folder::Root => "",
            Folder::Manifests => "manifests",
            Folder::Configs => "configs",
            Folder::Layers => "layers",
            Folder::Extracted => "extracted",
            Folder::Disks => "disks",
            Folder::Names => "names",
            Folder::Leases => "leases",
            Folder::Locks => "locks",
            Folder::Quarantine => "quarantine",
            Folder::Links => "links",
        }
    }

    /// Trees hold set-uid files of foreign origin, which nobody but the owner is to reach.
    const fn mode(self) -> u32 {
        if matches!(self, Folder::Extracted | Folder::Quarantine) { 0o700 } else { 0o755 }
    }
}

#[derive(Debug)]
pub(crate) struct StoreDir {
    path: PathBuf,
    /// By `Folder as usize`. `None` only in a read-only store whose folder does not exist.
    areas: [Option<OwnedFd>; 11],
    /// The count of forks when the store was opened.
    forks: u64,
    locking: Locking,
    read_only: bool,
    durability: Durability,
    boot_id: Option<String>,
    has_version: bool,
    writeback: Option<Writeback>,
    /// Tells threads that may stop to do so.
    is_closing: Arc<AtomicBool>,
    /// Threads that remove what calls left to them.
    removals: Mutex<Vec<JoinHandle<()>>>,
}

/// The folder of the stores that [`super::bundle`] makes.
pub(super) const BUNDLES: &str = "local";
/// Names the last boot in which the store was opened.
pub(super) const BOOT_FILE: &str = "boot";

const OPEN_DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl StoreDir {
    /// Opens the store at `path`, which is made absolute. Unless `read_only`, it and its folders are created.
    pub(super) fn open(path: &Path, options: &StorageOptions) -> Result<Arc<StoreDir>> {
        let &StorageOptions { read_only, durability, single_process, .. } = options;
        let path = std::path::absolute(path)
            .map_err(|cause| Error::io(&cause, format_args!("open store {}", path.display())))?;
        if !read_only {
            create_root(&path, durability)?;
        }
        let root = rustix::fs::open(&path, OPEN_DIR, Mode::empty())
            .map_err(|errno| Error::os(errno, format_args!("open store {}", path.display())))?;
        // Before anything is created: a store of a newer format is not touched.
        let has_version = format::check(root.as_fd(), &path)?;
        let mut areas = [const { None }; 11];
        for area in Folder::FOLDERS {
            areas[area as usize] = open_folder(root.as_fd(), &path, area.name(), area.mode(), read_only)?;
        }
        if !read_only {
            open_folder(root.as_fd(), &path, BUNDLES, 0o755, false)?;
        }
        areas[Folder::Root as usize] = Some(root);
        let locking = if single_process { Locking::Threads } else { Locking::Processes };
        if let Some(locks) = &areas[Folder::Locks as usize]
            && !read_only
            && !single_process
        {
            flock::probe(locks.as_fd(), COLLECTION, &path)?;
        }
        let boot_id = sys::boot_id();
        let writeback = match (&areas[Folder::Extracted as usize], &areas[Folder::Disks as usize]) {
            (Some(trees), Some(disks)) if !read_only && durability == Durability::Full => {
                let again = |folder: &OwnedFd| {
                    let fail = |cause| Error::io(&cause, format_args!("open store {}", path.display()));
                    folder.try_clone().map_err(fail)
                };
                Some(Writeback::new(again(trees)?, again(disks)?, Validity::this_boot(boot_id.as_deref())))
            }
            _ => None,
        };
        Ok(Arc::new(StoreDir {
            path,
            areas,
            forks: sys::fork_count(),
            boot_id,
            has_version,
            writeback,
            is_closing: Arc::default(),
            locking,
            read_only,
            durability,
            removals: Mutex::default(),
        }))
    }

    /// Whether the store said, when it was opened, which format it has. One of boxlite 0.9 does not, nor does a new one.
    pub(super) fn has_version(&self) -> bool {
        self.has_version
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// The absolute path that the store was opened by.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where an object is, for messages and for callers who want the path.
    pub(crate) fn object_path(&self, area: Folder, name: &str) -> PathBuf {
        self.path.join(area.name()).join(name)
    }

    /// The handle on a folder; `NOT_FOUND` in a read-only store that lacks it.
    pub(crate) fn area(&self, area: Folder) -> Result<BorrowedFd<'_>> {
        self.areas[area as usize].as_ref().map(AsFd::as_fd).ok_or_else(|| {
            Error::new(Status::NotFound, format!("{} does not exist", self.path.join(area.name()).display()))
        })
    }

    /// What is different after every start of the machine, where the system tells.
    pub(crate) fn boot_id(&self) -> Option<&str> {
        self.boot_id.as_deref()
    }

    pub(super) fn locking(&self) -> Locking {
        self.locking
    }

    /// Whether a tree without a record counts.
    pub(crate) fn trusts_existing_trees(&self) -> bool {
        // Nobody has looked at the trees of boxlite 0.9 yet, and nobody may write down that they are good.
        self.read_only && !self.has_version
    }

    /// Has a tree synced, some time after this returns. Nothing in a store that is not durable, or read-only.
    pub(crate) fn make_durable(&self, tree: &str) {
        if let Some(writeback) = &self.writeback {
            writeback.add(Waiting::Tree(tree.to_owned()));
        }
    }

    /// The same of a disk that the store keeps.
    pub(super) fn make_disk_durable(&self, disk: &str) {
        if let Some(writeback) = &self.writeback {
            writeback.add(Waiting::Disk(disk.to_owned()));
        }
    }

    /// Flushes everything that was written, where the store is durable.
    pub(crate) fn sync_everything(&self) -> Result<()> {
        if !self.is_durable() {
            return Ok(());
        }
        sys::sync_file_system(self.area(Folder::Root)?)
            .map_err(|errno| Error::os(errno, format_args!("sync {}", self.path.display())))
    }

    pub(super) fn durability(&self) -> Durability {
        self.durability
    }

    pub(super) fn is_single_process(&self) -> bool {
        matches!(self.locking, Locking::Threads)
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.durability == Durability::Full
    }

    /// True in a child that was forked after the store was opened. It holds copies of handles whose
    /// objects belong to the parent, and must leave them alone.
    pub(crate) fn is_forked(&self) -> bool {
        sys::fork_count() != self.forks
    }

    /// The same store with handles of its own, for a thread that the last owner waits for.
    pub(super) fn duplicate(&self) -> Result<Arc<StoreDir>> {
        let mut areas = [const { None }; 11];
        for (own, area) in areas.iter_mut().zip(&self.areas) {
            *own = area
                .as_ref()
                .map(OwnedFd::try_clone)
                .transpose()
                .map_err(|cause| Error::io(&cause, "open the store"))?;
        }
        Ok(Arc::new(StoreDir {
            path: self.path.clone(),
            areas,
            forks: self.forks,
            locking: self.locking,
            read_only: self.read_only,
            durability: self.durability,
            boot_id: self.boot_id.clone(),
            has_version: self.has_version,
            writeback: None,
            is_closing: self.is_closing.clone(),
            removals: Mutex::default(),
        }))
    }

    /// Whether the last owner is waiting.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    /// Lets the last owner of the store wait for a thread.
    pub(crate) fn await_at_close(&self, thread: JoinHandle<()>) {
        let mut removals = self.removals.lock().unwrap_or_else(PoisonError::into_inner);
        removals.retain(|thread| !thread.is_finished());
        removals.push(thread);
    }

    /// Whether something that lost its name is being deleted.
    pub(crate) fn is_removing(&self) -> bool {
        let removals = self.removals.lock().unwrap_or_else(PoisonError::into_inner);
        removals.iter().any(|thread| !thread.is_finished())
    }

    /// Every public function begins here (or in [`StoreDir::check_writable`]).
    pub(crate) fn check_not_forked(&self) -> Result<()> {
        if self.is_forked() {
            return Err(Error::new(
                Status::Forked,
                format!("store {}: opened before fork(); open it again in the child", self.path.display()),
            ));
        }
        Ok(())
    }

    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_not_forked()?;
        if self.read_only {
            return Err(Error::new(Status::Permission, format!("store {} was opened read-only", self.path.display())));
        }
        Ok(())
    }

    /// The object's status without following a symlink; `None` where there is nothing of that name.
    pub(crate) fn stat(&self, area: Folder, name: &str) -> Result<Option<Stat>> {
        let Some(folder) = &self.areas[area as usize] else { return Ok(None) };
        match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::os(errno, format_args!("look at {}", self.object_path(area, name).display()))),
        }
    }

    /// Opens a regular file of the store for reading; `None` where there is none of that name. Whatever else lies under
    /// the name (a symlink, a fifo, a directory) is nothing of ours and is not opened.
    pub(crate) fn open_file(&self, area: Folder, name: &str) -> Result<Option<OwnedFd>> {
        let Some(folder) = &self.areas[area as usize] else { return Ok(None) };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fail = |errno| Error::os(errno, format_args!("open {}", self.object_path(area, name).display()));
        match rustix::fs::openat(folder, name, flags, Mode::empty()) {
            Ok(file) => {
                let stat = rustix::fs::fstat(&file).map_err(fail)?;
                Ok(sys::is_regular(&stat).then_some(file))
            }
            Err(Errno::NOENT | Errno::LOOP) => Ok(None),
            Err(errno) => Err(fail(errno)),
        }
    }

    /// Opens a directory of the store; `None` where there is none of that name.
    pub(crate) fn open_directory(&self, area: Folder, name: &str) -> Result<Option<OwnedFd>> {
        let Some(folder) = &self.areas[area as usize] else { return Ok(None) };
        match rustix::fs::openat(folder, name, OPEN_DIR | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(Error::os(errno, format_args!("open {}", self.object_path(area, name).display()))),
        }
    }

    /// [`sys::free_space`] of the store's file system.
    pub(crate) fn space(&self) -> Result<(u64, u64)> {
        sys::free_space(self.area(Folder::Root)?)
            .map_err(|errno| Error::os(errno, format_args!("ask for free space in {}", self.path.display())))
    }

    /// Flushes a folder's names where the store is durable.
    pub(crate) fn sync_area(&self, area: Folder) -> Result<()> {
        if !self.is_durable() {
            return Ok(());
        }
        sys::sync_directory(self.area(area)?)
            .map_err(|errno| Error::os(errno, format_args!("sync {}", self.path.join(area.name()).display())))
    }
}

impl Drop for StoreDir {
    fn drop(&mut self) {
        let removals = std::mem::take(self.removals.get_mut().unwrap_or_else(PoisonError::into_inner));
        if let Some(writeback) = &self.writeback {
            writeback.close(self.is_forked());
        }
        // A forked child has the handles and not the threads: not even to detach them.
        if self.is_forked() {
            return std::mem::forget(removals);
        }
        if !removals.is_empty() {
            self.is_closing.store(true, Ordering::Relaxed);
        }
        for thread in removals {
            let _ = thread.join();
        }
    }
}

/// The store's own directory is made private: while a layer is unpacked it holds set-uid files of foreign origin. The
/// directories above it are made as `mkdir -p` would.
fn create_root(path: &Path, durability: Durability) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    let fail = |cause: std::io::Error| Error::io(&cause, format_args!("create store {}", path.display()));
    let parent = path.parent().unwrap_or(path);
    let missing: Vec<&Path> = path.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    std::fs::create_dir_all(parent).map_err(fail)?;
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        // Once more, for a umask that keeps even the owner out.
        Ok(()) => std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(fail)?,
        Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        Err(cause) => return Err(fail(cause)),
    }
    if durability == Durability::Full {
        for parent in missing.iter().filter_map(|created| created.parent()) {
            let parent = rustix::fs::open(parent, OPEN_DIR, Mode::empty()).map_err(|errno| fail(errno.into()))?;
            sys::sync_directory(parent.as_fd()).map_err(|errno| fail(errno.into()))?;
        }
    }
    Ok(())
}

fn open_folder(root: BorrowedFd<'_>, path: &Path, name: &str, mode: u32, read_only: bool) -> Result<Option<OwnedFd>> {
    let fail = |errno, action: &str| Error::os(errno, format_args!("{action} {}", path.join(name).display()));
    if !read_only {
        match rustix::fs::mkdirat(root, name, sys::mode(mode)) {
            Ok(()) => {
                // The umask decides for others, not for us.
                let stat = rustix::fs::statat(root, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| fail(e, "create"))?;
                let mode = Mode::from_raw_mode(stat.st_mode) | Mode::RWXU;
                rustix::fs::chmodat(root, name, mode, AtFlags::empty()).map_err(|e| fail(e, "create"))?;
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(fail(errno, "create")),
        }
    }
    match rustix::fs::openat(root, name, OPEN_DIR | OFlags::NOFOLLOW, Mode::empty()) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::NOENT) if read_only => Ok(None),
        Err(errno) => Err(fail(errno, "open")),
    }
}
