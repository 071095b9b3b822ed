//! Reading a file of a tree that foreign data shaped, for somebody who has a use for what is in it.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::aside::Aside;
use super::root_dir::{Missing, Root, fail};
use super::walk::DiskWalk;
use crate::error::{Error, Result, Status, quoted};
use crate::interrupt::Interrupt;
use crate::layer::split_parent;
use crate::limits::{self, LayerLimits};
use crate::sys::is_regular;

/// A small file below a directory, with symlinks resolved as if that were the root; `None` where there is none. Nothing but
/// a regular file is ever read: opening a device does things, and a fifo waits (family 128).
pub(crate) fn read_in_root(root: OwnedFd, path: &[u8], most: usize) -> Result<Option<Vec<u8>>> {
    let trash = Aside::new(|| Err(Error::new(Status::Internal, "a tree is not to be changed")));
    let limits = LayerLimits::default();
    let mut root = Root::new(root, DiskWalk::new(trash), limits.clone(), Interrupt::default());
    let mut path = path.to_vec();
    let mut hops = 0;
    loop {
        let (parent, name) = split_parent(&path);
        let not_a_file = || Error::new(Status::Malformed, format!("{} is not a regular file", quoted(&path)));
        if matches!(name, b"" | b"..") {
            return Err(not_a_file());
        }
        let Some(parent) = root.dir(parent, Missing::Leave)? else { return Ok(None) };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        // What it is, before it is opened.
        let stat = match rustix::fs::statat(&*parent, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT | Errno::NAMETOOLONG) => return Ok(None),
            Err(errno) => return Err(fail(errno, "look at", &path)),
        };
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Symlink {
            hops += 1;
            limits::SYMLINK_HOPS.check(&limits, hops, || quoted(&path))?;
            let target = rustix::fs::readlinkat(&*parent, name, Vec::new())
                .map_err(|errno| fail(errno, "read symlink", &path))?
                .into_bytes();
            let from = if target.starts_with(b"/") { &[][..] } else { &parent.real_path };
            let components = from.split(|&b| b == b'/').chain(target.split(|&b| b == b'/'));
            path = components.filter(|c| !matches!(*c, b"" | b".")).collect::<Vec<_>>().join(&b'/');
            continue;
        }
        if !is_regular(&stat) {
            return Err(not_a_file());
        }
        let file = rustix::fs::openat(&*parent, name, flags, Mode::empty()).map_err(|e| fail(e, "open", &path))?;
        let stat = rustix::fs::fstat(&file).map_err(|errno| fail(errno, "look at", &path))?;
        if !is_regular(&stat) {
            return Err(not_a_file());
        }
        return read_bounded(&file, &path, most).map(Some);
    }
}

fn read_bounded(file: &OwnedFd, path: &[u8], most: usize) -> Result<Vec<u8>> {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 16 << 10]);
    loop {
        match rustix::io::read(file.as_fd(), &mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(fail(errno, "read", path)),
        }
        if bytes.len() > most {
            return Err(Error::limit("file of users or groups", most as u64, bytes.len(), quoted(path)));
        }
    }
}
