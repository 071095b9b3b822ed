//! Owner, mode, times and extended attributes: in the order in which they do not undo each other. What tells the host what a
//! file is comes first, as long as there is room for it. Attributes of users may be set by the owner alone, so they come before
//! another owner does. That clears set-id bits and file capabilities, so these come after it. The mode may take away
//! the right to do the rest; times come after everything.

use std::borrow::Cow;
use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::fs::{AtFlags, Gid, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::form::{TreeForm, WhiteoutForm};
use super::root_dir::{Dir, fail};
use crate::error::Result;
use crate::layer::{Anomalies, Device, Entry, Kind, Timestamp};
use crate::record::{LayerEntry, LayerEntryKind};
use crate::sys;

/// The set-user-id and set-group-id bits.
pub(super) const SET_ID: u32 = 0o6000;

/// What is to be said of an open file or directory.
#[derive(Clone, Debug)]
pub(crate) struct Metadata<'a> {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Timestamp,
    pub(super) xattrs: Cow<'a, [(Vec<u8>, Vec<u8>)]>,
    /// What `override_stat` calls it; `None` for what only stands for something, such as a marker.
    pub(super) stat_type: Option<StatType>,
    /// A directory that hides what lower layers have in it.
    pub(super) is_opaque: bool,
}

/// The last part of `user.containers.override_stat`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StatType {
    File,
    Directory,
    CharDevice(Device),
    BlockDevice(Device),
}

impl<'a> Metadata<'a> {
    pub(super) fn of(entry: &'a Entry) -> Metadata<'a> {
        Metadata {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs: Cow::Borrowed(&entry.xattrs),
            stat_type: match entry.kind {
                Kind::File => Some(StatType::File),
                Kind::Directory => Some(StatType::Directory),
                Kind::CharDevice(device) => Some(StatType::CharDevice(device)),
                Kind::BlockDevice(device) => Some(StatType::BlockDevice(device)),
                _ => None,
            },
            is_opaque: false,
        }
    }

    /// A directory without an entry of its own (family 83).
    pub(super) fn implied() -> Metadata<'static> {
        Metadata {
            mode: LayerEntry::IMPLIED_MODE,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            xattrs: Cow::Borrowed(&[]),
            stat_type: Some(StatType::Directory),
            is_opaque: false,
        }
    }

    /// One that can be kept.
    pub(super) fn into_owned(self) -> Metadata<'static> {
        Metadata { xattrs: Cow::Owned(self.xattrs.into_owned()), ..self }
    }
}

/// Sets metadata as the tree's form wants it, as far as the process may.
#[derive(Clone, Copy, Debug)]
pub(super) struct Applier {
    is_root: bool,
    /// Owner and group of a new file in the tree.
    born: (u32, u32),
    form: TreeForm,
}

impl Applier {
    /// With the rights of this process, now, in the tree whose root was just made.
    pub(super) fn new(form: TreeForm, root: BorrowedFd<'_>) -> Result<Applier> {
        Ok(Applier { is_root: rustix::process::geteuid().is_root(), born: born_in(root)?, form })
    }

    /// Owner and group of a file that nobody gave another one.
    pub(super) fn born(self) -> (u32, u32) {
        self.born
    }

    pub(super) fn is_root(self) -> bool {
        self.is_root
    }

    /// Whether files need another owner than the one they are born with, and we are to try.
    fn wants_owner(self, uid: u32, gid: u32) -> Option<(Option<Uid>, Option<Gid>)> {
        let differs = self.is_root && !self.form.override_stat && (uid, gid) != self.born;
        differs.then(|| (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))))
    }

    /// To an open file, or to a directory when nothing will be put into it any more. `has_mode`: it has its mode already.
    pub(super) fn apply(
        self,
        on: BorrowedFd<'_>,
        metadata: &Metadata<'_>,
        has_mode: bool,
        path: &[u8],
        anomalies: &mut Anomalies,
    ) -> Result<()> {
        // What the host asked for is set or the call fails: a tree without it would be taken for something else.
        let must_set = |key: &str, value: &[u8]| {
            rustix::fs::fsetxattr(on, key, value, XattrFlags::empty())
                .map_err(|errno| fail(errno, &format!("set {key} of"), path))
        };
        if let Some(stat_type) = metadata.stat_type.filter(|_| self.form.override_stat) {
            must_set(
                "user.containers.override_stat",
                override_stat((metadata.uid, metadata.gid, metadata.mode), stat_type).as_bytes(),
            )?;
        }
        if metadata.is_opaque {
            match self.form.whiteouts {
                WhiteoutForm::Markers => {}
                WhiteoutForm::Overlay => must_set("trusted.overlay.opaque", b"y")?,
                WhiteoutForm::UserOverlay => must_set("user.overlay.opaque", b"y")?,
            }
        }
        let (users, others): (Vec<_>, Vec<_>) = metadata.xattrs.iter().partition(|(key, _)| key.starts_with(b"user."));
        let set = |attributes: Vec<&(Vec<u8>, Vec<u8>)>, anomalies: &mut Anomalies| {
            attributes.into_iter().try_for_each(|(key, value)| {
                let set = || rustix::fs::fsetxattr(on, &key[..], value, XattrFlags::empty());
                self.set_xattr(on, key, path, anomalies, set)
            })
        };
        set(users, anomalies)?;
        self.set_owner(on, metadata.uid, metadata.gid, path, anomalies)?;
        set(others, anomalies)?;
        if !has_mode {
            let is_directory = matches!(metadata.stat_type, Some(StatType::Directory));
            let mode = self.mode(metadata.mode, is_directory);
            rustix::fs::fchmod(on, sys::mode(mode)).map_err(|e| fail(e, "set mode of", path))?;
            // The kernel takes set-gid away from who is not in the group, and says nothing.
            if mode & SET_ID != 0 {
                let stat = rustix::fs::fstat(on).map_err(|e| fail(e, "look at", path))?;
                let is_kept = sys::mode_of(&stat) & SET_ID == mode & SET_ID;
                if !is_kept {
                    anomalies.insert(Anomalies::OWNER_NOT_SET);
                }
            }
        }
        rustix::fs::futimens(on, &times(metadata.mtime)).map_err(|e| fail(e, "set times of", path))
    }

    /// The mode of a file on the disk.
    pub(super) fn file_mode(self, mode: u32) -> u32 {
        self.mode(mode, false)
    }

    /// Whether every file gets an extended attribute.
    pub(super) fn has_attributes(self) -> bool {
        self.form.override_stat
    }

    fn mode(self, mode: u32, is_directory: bool) -> u32 {
        mode_on_disk(self.form, mode, is_directory)
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
        let on = parent.as_fd();
        for (key, value) in &entry.xattrs {
            let set = || sys::set_link_xattr(on, name, key, value);
            self.set_xattr(on, key, path, anomalies, set)?;
        }
        if entry.kind != Kind::Symlink {
            // Made a moment ago in a directory that nobody else can enter: the name is what it was.
            let mode = sys::mode(self.mode(entry.mode, false));
            rustix::fs::chmodat(parent, name, mode, AtFlags::empty()).map_err(|e| fail(e, "set mode of", path))?;
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
        if is_reserved(key) || (key == b"security.capability" && !self.is_root) {
            anomalies.insert(Anomalies::SKIPPED_XATTR);
            return Ok(());
        }
        match set() {
            // Not on this kind of file, not here, not for us (family 79, and user.* on symlinks and
            // fifos). Where /proc is not mounted, a symlink's is ENOENT. The record has them all.
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

/// The mode on the disk: where `override_stat` has the real one, one that lets the host read and that is harmless.
pub(super) fn mode_on_disk(form: TreeForm, mode: u32, is_directory: bool) -> u32 {
    match (form.override_stat, is_directory) {
        (false, _) => mode,
        (true, false) => (mode & 0o777) | 0o600,
        (true, true) => (mode & 0o777) | 0o700,
    }
}

/// `override_stat` of what a record says; `None` for what has none.
pub(super) fn override_stat_of(entry: &LayerEntry) -> Option<String> {
    let device = entry.device;
    let stat_type = match entry.kind {
        LayerEntryKind::File => StatType::File,
        LayerEntryKind::Directory => StatType::Directory,
        LayerEntryKind::CharDevice => StatType::CharDevice(device),
        LayerEntryKind::BlockDevice => StatType::BlockDevice(device),
        _ => return None,
    };
    Some(override_stat((entry.uid, entry.gid, entry.mode), stat_type))
}

/// Owner and group of a file that is made in a new directory. The directory itself may have the group of the folder that it
/// is in (set-gid); it gets the one that its files have.
fn born_in(root: BorrowedFd<'_>) -> Result<(u32, u32)> {
    let stat = rustix::fs::fstat(root).map_err(|e| fail(e, "look at the root of", b""))?;
    // In directories of this mode, and on macOS in all, files have the directory's group.
    if cfg!(target_os = "macos") || sys::mode_of(&stat) & 0o2000 != 0 {
        return Ok((stat.st_uid, stat.st_gid));
    }
    let gid = rustix::process::getegid();
    if stat.st_gid != gid.as_raw() {
        rustix::fs::fchown(root, None, Some(gid)).map_err(|e| fail(e, "set owner of", b""))?;
    }
    Ok((stat.st_uid, gid.as_raw()))
}

/// `uid:gid:mode:type`, as containers/storage writes it.
fn override_stat((uid, gid, mode): (u32, u32, u32), stat_type: StatType) -> String {
    let stat_type = match stat_type {
        StatType::File => "file".to_owned(),
        StatType::Directory => "dir".to_owned(),
        StatType::CharDevice(Device { major, minor }) => format!("char-{major}-{minor}"),
        StatType::BlockDevice(Device { major, minor }) => format!("block-{major}-{minor}"),
    };
    format!("{uid}:{gid}:{mode:04o}:{stat_type}")
}

/// Attributes that mean something to the host's own tools or kernel; a layer has no say in them (families 63, 77, 78).
pub(crate) fn is_reserved(key: &[u8]) -> bool {
    const PREFIXES: [&[u8]; 6] = [
        b"trusted.",
        b"user.overlay.",
        b"user.containers.",
        b"user.fuseoverlayfs.",
        b"user.rootlesscontainers",
        b"security.",
    ];
    let is_capability = key == b"security.capability";
    key == b"system.nfs4_acl" || !is_capability && PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

/// Whether the file system has blocks left for us; where it cannot be asked, an ENOSPC is taken at its word.
fn has_space(on: BorrowedFd<'_>) -> bool {
    rustix::fs::fstatvfs(on).is_ok_and(|status| status.f_bavail > 0 || status.f_blocks == 0)
}

/// Reading leaves no trace in an image, so the access time is the modification time.
fn times(mtime: Timestamp) -> Timestamps {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}
