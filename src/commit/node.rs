//! Something in a source directory that was looked at, and what is known of it beside its content.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::options::CommitOptions;
use crate::error::{Error, Result, Status, quoted};
use crate::layer::{Device, Entry, Kind, Timestamp};
use crate::sys;
use crate::unpack::is_reserved;

/// Of overlayfs' own attributes.
pub(super) const TRUSTED_OVERLAY: &[u8] = b"trusted.overlay.";
pub(super) const USER_OVERLAY: &[u8] = b"user.overlay.";
/// The owner and mode that an ordinary user could not give a file (containers/storage).
const OVERRIDE_STAT: &[u8] = b"user.containers.override_stat";
const CAPABILITY: &[u8] = b"security.capability";

/// Extended attributes by their full names, sorted.
pub(super) type NodeXattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// What an ordinary user's files have, which are root's in the image, as in a user namespace of its own.
#[derive(Clone, Copy)]
pub(super) struct OrdinaryUser {
    pub(super) uid: u32,
    /// The user's group, and that of the source's root, which files in it may have got.
    pub(super) gids: [u32; 2],
}

/// A name in a directory that is open, and what it was when it was looked at.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    pub(super) user: Option<OrdinaryUser>,
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

    /// Names of its attributes, sorted; `file` is what it is, if it could be opened.
    pub(super) fn xattr_names(&self, file: Option<&OwnedFd>) -> Result<Vec<Vec<u8>>> {
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
        Ok(names)
    }

    /// All attributes; `file` is what it is, if it could be opened.
    pub(super) fn xattrs(&self, file: Option<&OwnedFd>) -> Result<NodeXattrs> {
        let names = self.xattr_names(file)?;
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

    /// Where a symlink leads.
    pub(super) fn target(&self) -> Result<Vec<u8>> {
        match rustix::fs::readlinkat(self.folder, self.name(), Vec::new()) {
            // It is none any more.
            Err(Errno::INVAL) => Err(changed(self.path)),
            target => Ok(target.map_err(|errno| self.failed("read", errno))?.into_bytes()),
        }
    }

    /// What it is in a layer, but for further names.
    pub(super) fn entry(&self, xattrs: &NodeXattrs, options: &CommitOptions) -> Result<Entry> {
        let stat = self.stat;
        let mut entry = Entry {
            path: self.path.to_vec(),
            kind: kind_of(stat),
            mode: sys::mode_of(stat) & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: clamped(Timestamp { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 }, options),
            ..Entry::default()
        };
        match entry.kind {
            Kind::File => entry.size = stat.st_size as u64,
            Kind::Symlink => {
                // Some file systems give it others, and none of them means anything.
                entry.mode = 0o777;
                entry.link = self.target()?;
            }
            _ => {}
        }
        (entry.uid, entry.gid) = owner_in_image(stat, self.user);
        if let Some((_, value)) = xattrs.iter().find(|(name, _)| name == OVERRIDE_STAT) {
            let why = || self.refused("has an attribute user.containers.override_stat that is none");
            let meant = override_stat(value).ok_or_else(why)?;
            (entry.uid, entry.gid, entry.mode) = meant.owner_and_mode;
            if let Some(kind) = meant.kind.filter(|_| entry.kind == Kind::File) {
                (entry.kind, entry.size) = (kind, 0);
            }
        }
        entry.xattrs = xattrs.iter().filter(|(name, _)| !is_reserved(name)).cloned().collect();
        // As they come out of a layer: those in libarchive's form last.
        entry.xattrs.sort_by_key(|(name, _)| name.contains(&b'='));
        for (_, value) in entry.xattrs.iter_mut().filter(|(name, _)| name == CAPABILITY) {
            without_root_id(value);
        }
        Ok(entry)
    }

    /// Whether its owner and mode are said by an attribute.
    pub(super) fn has_override(xattrs: &NodeXattrs) -> bool {
        xattrs.iter().any(|(name, _)| name == OVERRIDE_STAT)
    }

    pub(super) fn failed(&self, action: &str, errno: Errno) -> Error {
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => changed(self.path),
            errno => Error::os(errno, format_args!("{action} {}", quoted(self.path))),
        }
    }

    pub(super) fn refused(&self, why: &str) -> Error {
        refused(self.path, why)
    }
}

/// Whether an attribute is in a layer, or says what its file is in one.
pub(super) fn says_something(name: &[u8]) -> bool {
    name == OVERRIDE_STAT || !is_reserved(name)
}

/// `UNSUPPORTED`, by name.
pub(super) fn refused(path: &[u8], why: &str) -> Error {
    Error::new(Status::Unsupported, format!("{}: {why}", quoted(path)))
}

/// Who owns it in the image, if nothing else is said of it.
pub(super) fn owner_in_image(stat: &Stat, user: Option<OrdinaryUser>) -> (u32, u32) {
    let Some(user) = user else { return (stat.st_uid, stat.st_gid) };
    let uid = if stat.st_uid == user.uid { 0 } else { stat.st_uid };
    let gid = if user.gids.contains(&stat.st_gid) { 0 } else { stat.st_gid };
    (uid, gid)
}

/// `UNSUPPORTED`: in an overlay it would take away what has its name below, and elsewhere be a device.
pub(super) fn whiteout_device(path: &[u8]) -> Error {
    Error::new(Status::Unsupported, format!("{} is a device 0:0, which is a whiteout to overlayfs", quoted(path)))
}

/// `STATE`: somebody is at work in the source.
pub(super) fn changed(path: &[u8]) -> Error {
    Error::new(Status::State, format!("{} was changed while it was read", quoted(path)))
}

/// A time is no later than the moment that was given.
pub(super) fn clamped(time: Timestamp, options: &CommitOptions) -> Timestamp {
    match options.epoch {
        Some(epoch) if time.seconds >= epoch => Timestamp { seconds: epoch, nanoseconds: 0 },
        _ => time.clamped(),
    }
}

/// What `user.containers.override_stat` says.
struct OverrideStat {
    owner_and_mode: (u32, u32, u32),
    /// What an empty file stands for.
    kind: Option<Kind>,
}

/// `uid:gid:mode:type`, the mode in octal; the type may be missing.
fn override_stat(value: &[u8]) -> Option<OverrideStat> {
    let mut parts = std::str::from_utf8(value).ok()?.split(':');
    let (uid, gid) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let mode = u32::from_str_radix(parts.next()?, 8).ok()? & 0o7777;
    let device = |numbers: &str| {
        let (major, minor) = numbers.split_once('-')?;
        Some(Device { major: major.parse().ok()?, minor: minor.parse().ok()? })
    };
    let kind = match parts.next().unwrap_or("file") {
        "file" | "dir" | "symlink" | "socket" => None,
        "pipe" => Some(Kind::Fifo),
        stat_type => Some(match stat_type.split_once('-')? {
            ("char", numbers) => Kind::CharDevice(device(numbers)?),
            ("block", numbers) => Kind::BlockDevice(device(numbers)?),
            _ => return None,
        }),
    };
    Some(OverrideStat { owner_and_mode: (uid, gid, mode), kind })
}

/// A file capability of revision 3 is that of a user namespace, whose root is another user outside. In an image it is of the image's
/// root, which is revision 2 (Linux, uapi/linux/capability.h).
fn without_root_id(value: &mut Vec<u8>) {
    const WITH_ROOT_ID: usize = 24;
    if value.len() == WITH_ROOT_ID && value[1..4] == [0, 0, 3] {
        value[3] = 2;
        value.truncate(WITH_ROOT_ID - 4);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_attribute_says_of_a_file() {
        let said = |text: &str| override_stat(text.as_bytes()).map(|stat| (stat.owner_and_mode, stat.kind));
        let device = Device { major: 1, minor: 3 };
        for (text, meant) in [
            ("1:2:0644", Some(((1, 2, 0o644), None))),
            ("1:2:0100644:file", Some(((1, 2, 0o644), None))),
            ("0:0:04755:dir", Some(((0, 0, 0o4755), None))),
            ("0:0:0666:char-1-3", Some(((0, 0, 0o666), Some(Kind::CharDevice(device))))),
            ("0:0:0660:block-1-3", Some(((0, 0, 0o660), Some(Kind::BlockDevice(device))))),
            ("0:0:0600:pipe", Some(((0, 0, 0o600), Some(Kind::Fifo)))),
            ("0:0:0600:char-1", None),
            ("0:0:0600:what", None),
            ("0:0", None),
            ("a:0:0", None),
            ("", None),
        ] {
            assert_eq!(said(text), meant, "{text}");
        }
    }

    #[test]
    fn a_capability_of_a_user_namespace_is_the_image_s() {
        let second: Vec<u8> = [&[1, 0, 0, 2], &[7; 16][..]].concat();
        let third: Vec<u8> = [&[1, 0, 0, 3], &[7; 16][..], &1000u32.to_le_bytes()].concat();
        for value in [&second, &third] {
            let mut value = value.clone();
            without_root_id(&mut value);
            assert_eq!(value, second);
        }
    }
}
