//! Owner, mode, times and extended attributes: in the order in which they do not undo each other. A new owner clears
//! set-id bits and file capabilities, so it comes first; the mode may take away the right to do the rest, so of what
//! needs that right it comes last; times come after everything.

use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::root::{Dir, fail};
use crate::error::Result;
use crate::layer::{Anomalies, Entry, Kind, Timestamp};
use crate::sys;

/// What the process may do to metadata.
#[derive(Clone, Copy, Debug)]
pub(super) struct Privilege {
    uid: u32,
    gid: u32,
}

/// The metadata of a directory, kept until its entries are there.
#[derive(Clone, Debug)]
pub(super) struct DirectoryMetadata {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Timestamp,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl DirectoryMetadata {
    pub(super) fn of(entry: &Entry) -> DirectoryMetadata {
        DirectoryMetadata {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs: entry.xattrs.clone(),
        }
    }

    /// A directory without an entry of its own (family 83).
    pub(super) fn implied() -> DirectoryMetadata {
        DirectoryMetadata { mode: 0o755, uid: 0, gid: 0, mtime: Timestamp::default(), xattrs: Vec::new() }
    }
}

impl Privilege {
    /// Of this process, now.
    pub(super) fn current() -> Privilege {
        Privilege { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
    }

    pub(super) fn is_root(self) -> bool {
        self.uid == 0
    }

    /// Whether files need another owner than the one they are born with, and we are to try.
    fn wants_owner(self, uid: u32, gid: u32) -> Option<(Option<Uid>, Option<Gid>)> {
        let differs = self.is_root() && (uid != self.uid || gid != self.gid);
        differs.then(|| (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))))
    }

    /// To an open file.
    pub(super) fn apply_to_file(self, file: BorrowedFd<'_>, entry: &Entry, anomalies: &mut Anomalies) -> Result<()> {
        let path = &entry.path;
        self.set_owner(file, entry.uid, entry.gid, path, anomalies)?;
        let on = file;
        for (key, value) in &entry.xattrs {
            let set = || rustix::fs::fsetxattr(file, &key[..], value, XattrFlags::empty());
            self.set_xattr(on, key, path, anomalies, set)?;
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode)).map_err(|e| fail(e, "set mode of", path))?;
        rustix::fs::futimens(file, &times(entry.mtime)).map_err(|e| fail(e, "set times of", path))
    }

    /// To an open directory, when nothing will be put into it any more.
    pub(super) fn apply_to_directory(
        self,
        dir: BorrowedFd<'_>,
        metadata: &DirectoryMetadata,
        path: &[u8],
        anomalies: &mut Anomalies,
    ) -> Result<()> {
        self.set_owner(dir, metadata.uid, metadata.gid, path, anomalies)?;
        let on = dir;
        for (key, value) in &metadata.xattrs {
            let set = || rustix::fs::fsetxattr(dir, &key[..], value, XattrFlags::empty());
            self.set_xattr(on, key, path, anomalies, set)?;
        }
        rustix::fs::fchmod(dir, Mode::from_raw_mode(metadata.mode)).map_err(|e| fail(e, "set mode of", path))?;
        rustix::fs::futimens(dir, &times(metadata.mtime)).map_err(|e| fail(e, "set times of", path))
    }

    /// To a symlink, fifo or device, which must not be opened (family 69).
    pub(super) fn apply_to_special(
        self,
        parent: &Dir,
        name: &[u8],
        entry: &Entry,
        anomalies: &mut Anomalies,
    ) -> Result<()> {
        let path = &entry.path;
        if let Some((uid, gid)) = self.wants_owner(entry.uid, entry.gid) {
            match rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::PERM | Errno::INVAL) => anomalies.insert(Anomalies::OWNER_NOT_SET),
                other => other.map_err(|e| fail(e, "set owner of", path))?,
            }
        }
        let on = std::os::fd::AsFd::as_fd(parent);
        for (key, value) in &entry.xattrs {
            let set = || sys::set_link_xattr(on, name, key, value);
            self.set_xattr(on, key, path, anomalies, set)?;
        }
        if entry.kind != Kind::Symlink {
            // Made a moment ago in a directory that nobody else can enter: the name is what it was.
            rustix::fs::chmodat(parent, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
                .map_err(|e| fail(e, "set mode of", path))?;
        }
        rustix::fs::utimensat(parent, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| fail(e, "set times of", path))
    }

    /// Root of a user namespace cannot set owners that the namespace does not map; the record has them.
    fn set_owner(self, file: BorrowedFd<'_>, uid: u32, gid: u32, path: &[u8], anomalies: &mut Anomalies) -> Result<()> {
        let Some((uid, gid)) = self.wants_owner(uid, gid) else { return Ok(()) };
        match rustix::fs::fchown(file, uid, gid) {
            Err(Errno::PERM | Errno::INVAL) => {
                anomalies.insert(Anomalies::OWNER_NOT_SET);
                Ok(())
            }
            other => other.map_err(|e| fail(e, "set owner of", path)),
        }
    }

    fn set_xattr(
        self,
        on: BorrowedFd<'_>,
        key: &[u8],
        path: &[u8],
        anomalies: &mut Anomalies,
        set: impl Fn() -> Result<(), Errno>,
    ) -> Result<()> {
        if is_reserved(key) || (key == b"security.capability" && !self.is_root()) {
            anomalies.insert(Anomalies::SKIPPED_XATTR);
            return Ok(());
        }
        match set() {
            // Not on this kind of file, not here, not for us (family 79, and user.* on symlinks and fifos). /proc that
            // is not mounted is ENOENT for a symlink. The record has them all.
            Err(
                Errno::PERM
                | Errno::ACCESS
                | Errno::NOTSUP
                | Errno::NOSYS
                | Errno::NOENT
                | Errno::INVAL
                | Errno::TOOBIG
                | Errno::RANGE,
            ) => {
                anomalies.insert(Anomalies::SKIPPED_XATTR);
                Ok(())
            }
            // ext4 says so too where an inode's attributes do not fit the one block that it has for them.
            Err(Errno::NOSPC) if has_space(on) => {
                anomalies.insert(Anomalies::SKIPPED_XATTR);
                Ok(())
            }
            other => other.map_err(|e| fail(e, "set an extended attribute of", path)),
        }
    }
}

/// Attributes that mean something to the host's own tools or kernel; a layer has no say in them (families 63, 77, 78).
fn is_reserved(key: &[u8]) -> bool {
    const PREFIXES: [&[u8]; 8] = [
        b"trusted.",
        b"user.overlay.",
        b"user.containers.",
        b"user.fuseoverlayfs.",
        b"user.rootlesscontainers",
        b"security.selinux",
        b"security.ima",
        b"security.evm",
    ];
    key == b"system.nfs4_acl" || PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

/// Whether the file system has blocks left for us; where it cannot be asked, an ENOSPC is taken at its word.
fn has_space(on: BorrowedFd<'_>) -> bool {
    rustix::fs::fstatvfs(on).is_ok_and(|status| status.f_bavail > 0)
}

/// Reading leaves no trace in an image, so the access time is the modification time.
fn times(mtime: Timestamp) -> Timestamps {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}
