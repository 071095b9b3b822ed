//! Something in a source directory that was looked at, and what is known of it beside its content.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::options::CommitOptions;
use crate::error::{Error, Result, Status, quoted};
use crate::layer::{Device, Entry, Kind, Timestamp};
use crate::sys;

/// Of overlayfs' own attributes.
pub(super) const TRUSTED_OVERLAY: &[u8] = b"trusted.overlay.";
pub(super) const USER_OVERLAY: &[u8] = b"user.overlay.";
/// The owner and mode that an ordinary user could not give a file (containers/storage).
const OVERRIDE_STAT: &[u8] = b"user.containers.override_stat";
/// What the host's policy gave a file, and what only holds on its own file system.
const OF_THE_HOST: [&[u8]; 4] = [b"security.selinux", b"security.ima", b"security.evm", b"security.SMACK64"];

/// Extended attributes by their full names, sorted.
pub(super) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// A name in a directory that is open, and what it was when it was looked at.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    pub(super) folder: BorrowedFd<'a>,
    /// From the root of the source on.
    pub(super) path: &'a [u8],
    pub(super) stat: &'a Stat,
}

impl Node<'_> {
    pub(super) fn name(&self) -> &[u8] {
        self.path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
    }

    pub(super) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    pub(super) fn id(&self) -> (u64, u64) {
        sys::file_id(self.stat)
    }

    /// Opens a file or a directory, which has to be what was looked at; `None` for anything else.
    pub(super) fn open(&self) -> Result<Option<OwnedFd>> {
        let kind = match self.file_type() {
            FileType::Directory => OFlags::DIRECTORY,
            FileType::RegularFile => OFlags::NONBLOCK,
            _ => return Ok(None),
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | kind;
        let file = match rustix::fs::openat(self.folder, self.name(), flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(changed(self.path)),
            file => file.map_err(|errno| self.failed("open", errno))?,
        };
        let now = rustix::fs::fstat(&file).map_err(|errno| self.failed("look at", errno))?;
        if sys::file_id(&now) == self.id() { Ok(Some(file)) } else { Err(changed(self.path)) }
    }

    /// All attributes; `file` is what it is, if it could be opened.
    pub(super) fn xattrs(&self, file: Option<&OwnedFd>) -> Result<Xattrs> {
        let names = match file {
            Some(file) => sys::xattr_names(file.as_fd()),
            None => sys::link_xattr_names(self.folder, self.name()),
        };
        let mut names = match names {
            // The file system has none, or this kind of file.
            Err(Errno::NOTSUP | Errno::PERM) => return Ok(Vec::new()),
            names => names.map_err(|errno| self.failed("read the attributes of", errno))?,
        };
        names.sort_unstable();
        let mut xattrs = Vec::with_capacity(names.len());
        for key in names {
            let value = match file {
                Some(file) => sys::xattr(file.as_fd(), &key),
                None => sys::link_xattr(self.folder, self.name(), &key),
            };
            match value {
                Ok(value) => xattrs.push((key, value)),
                // It went away, or is not for this process.
                Err(Errno::NODATA | Errno::NOTSUP) => {}
                Err(errno) => return Err(self.failed("read the attributes of", errno)),
            }
        }
        Ok(xattrs)
    }

    /// What it is in a layer, but for further names.
    pub(super) fn entry(&self, xattrs: &Xattrs, options: &CommitOptions) -> Result<Entry> {
        let stat = self.stat;
        let mut entry = Entry {
            path: self.path.to_vec(),
            kind: kind_of(stat),
            mode: sys::mode_of(stat) & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: clamped(
                Timestamp { seconds: stat.st_mtime as i64, nanoseconds: stat.st_mtime_nsec as u32 },
                options,
            ),
            ..Entry::default()
        };
        match entry.kind {
            Kind::File => entry.size = stat.st_size as u64,
            Kind::Symlink => {
                // Some file systems give it others, and none of them means anything.
                entry.mode = 0o777;
                let target = rustix::fs::readlinkat(self.folder, self.name(), Vec::new());
                entry.link = target.map_err(|errno| self.failed("read", errno))?.into_bytes();
            }
            _ => {}
        }
        // What an ordinary user has made is the image's root's, as in a user namespace of its own.
        if !rustix::process::geteuid().is_root() {
            let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            entry.uid = if entry.uid == own.0 { 0 } else { entry.uid };
            entry.gid = if entry.gid == own.1 { 0 } else { entry.gid };
        }
        if let Some((_, value)) = xattrs.iter().find(|(name, _)| name == OVERRIDE_STAT) {
            let why = || self.refused("has an attribute user.containers.override_stat that is none");
            (entry.uid, entry.gid, entry.mode) = override_stat(value).ok_or_else(why)?;
        }
        let stays = |name: &[u8]| {
            ![TRUSTED_OVERLAY, USER_OVERLAY].iter().any(|prefix| name.starts_with(prefix))
                && name != OVERRIDE_STAT
                && !OF_THE_HOST.contains(&name)
        };
        entry.xattrs = xattrs.iter().filter(|(name, _)| stays(name)).cloned().collect();
        Ok(entry)
    }

    pub(super) fn failed(&self, action: &str, errno: Errno) -> Error {
        Error::os(errno, format_args!("{action} {}", quoted(self.path)))
    }

    pub(super) fn refused(&self, why: &str) -> Error {
        Error::new(Status::Unsupported, format!("{}: {why}", quoted(self.path)))
    }
}

/// `STATE`: somebody is at work in the source.
pub(super) fn changed(path: &[u8]) -> Error {
    Error::new(Status::State, format!("{} was changed while it was read", quoted(path)))
}

/// A time is no later than the moment that was given.
pub(super) fn clamped(time: Timestamp, options: &CommitOptions) -> Timestamp {
    match options.epoch {
        Some(epoch) if time.seconds >= epoch => Timestamp { seconds: epoch, nanoseconds: 0 },
        _ => time,
    }
}

/// `uid:gid:mode`, the last in octal; more may follow.
fn override_stat(value: &[u8]) -> Option<(u32, u32, u32)> {
    let mut parts = std::str::from_utf8(value).ok()?.split(':');
    let (uid, gid) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some((uid, gid, u32::from_str_radix(parts.next()?, 8).ok()? & 0o7777))
}

fn kind_of(stat: &Stat) -> Kind {
    let device = || Device { major: rustix::fs::major(stat.st_rdev as _), minor: rustix::fs::minor(stat.st_rdev as _) };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::CharacterDevice => Kind::CharDevice(device()),
        FileType::BlockDevice => Kind::BlockDevice(device()),
        _ => Kind::File,
    }
}
