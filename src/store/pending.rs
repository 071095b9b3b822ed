//! Making something beside its name: what objects of the store ([`super::partial`]) and what is made for a host
//! (`crate::destination`) have in common.
//!
//! Whatever is being made has a random part in its name and is locked as long as its owner lives.
//! Who finds such a name without a lock knows that its owner is dead, and may remove it. So a name
//! that was just made may be gone, or held, before its owner has the lock: then another name is
//! taken. What is given up is removed in a moment, or, where that takes longer, by a thread under
//! the same lock. So a call that was cancelled ends soon.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::rmtree::{remove_tree, remove_tree_until};
use super::store_dir::StoreDir;
use crate::sys;

/// How long the removal of something half-made keeps the call that made it.
const REMOVAL_TIME: Duration = Duration::from_millis(10);
/// Hexadecimal digits of the random part.
const RANDOM_LENGTH: usize = 32;

/// The part of a name that nothing else has.
pub(crate) fn random() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// Whether a part of a name is one that [`random`] gave.
pub(crate) fn is_random(part: &[u8]) -> bool {
    part.len() == RANDOM_LENGTH && part.iter().all(u8::is_ascii_hexdigit)
}

/// What came of an attempt to make something under a name.
pub(crate) enum Made<T> {
    /// It is there, and locked.
    Ours(T),
    /// A sweep took it, or holds it: another name is to be tried.
    Lost,
}

/// Makes something under a name that nothing has, and locks it. `attempt` is called with one name after the other.
pub(crate) fn make<T, E>(mut attempt: impl FnMut(String) -> Result<Made<T>, E>) -> Result<T, E> {
    loop {
        if let Made::Ours(made) = attempt(random())? {
            return Ok(made);
        }
    }
}

/// Removes what was given up. `lock` is held until it is gone; `path` is what it is called. What cannot be removed is a
/// leftover.
pub(crate) fn remove(
    store: &StoreDir,
    folder: BorrowedFd<'_>,
    name: &[u8],
    path: PathBuf,
    lock: impl FnOnce() -> std::io::Result<Box<dyn Send>>,
) {
    match remove_tree_until(folder, name, Instant::now() + REMOVAL_TIME) {
        Ok(true) => {}
        Ok(false) => remove_later(store, folder, name, path, lock),
        Err(errno) => tracing::warn!("cannot remove {}: {errno}; the next time it is tried again", path.display()),
    }
}

/// A thread removes the rest, to everybody else an object of a live owner. Closing the store waits for it.
fn remove_later(
    store: &StoreDir,
    folder: BorrowedFd<'_>,
    name: &[u8],
    path: PathBuf,
    lock: impl FnOnce() -> std::io::Result<Box<dyn Send>>,
) {
    let what = path.display().to_string();
    let thread = folder.try_clone_to_owned().and_then(|folder| {
        let (lock, name) = (lock()?, name.to_vec());
        sys::spawn("bl-remove", move || {
            if let Err(errno) = remove_tree(folder.as_fd(), &name) {
                tracing::warn!("cannot remove {}: {errno}; the next time it is tried again", path.display());
            }
            drop(lock);
        })
    });
    match thread {
        Ok(thread) => store.await_at_close(thread),
        Err(cause) => tracing::warn!("cannot remove {what} now: {cause}"),
    }
}

/// A directory of our own user and group, of mode 0700 and without ACLs, whatever the umask or its
/// folder would hand down. What is made in it inherits from it.
pub(crate) fn create_plain_directory(
    folder: BorrowedFd<'_>,
    name: impl rustix::path::Arg + Copy,
) -> Result<OwnedFd, Errno> {
    rustix::fs::mkdirat(folder, name, Mode::RWXU)?;
    rustix::fs::chmodat(folder, name, Mode::RWXU, AtFlags::empty())?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    let group = rustix::process::getegid();
    if rustix::fs::fstat(&directory)?.st_gid != group.as_raw() {
        rustix::fs::fchown(&directory, None, Some(group))?;
    }
    for acl in ["system.posix_acl_default", "system.posix_acl_access"] {
        match rustix::fs::fremovexattr(&directory, acl) {
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM | Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(directory)
}

/// A new empty file, which its owner may read and write.
pub(crate) fn create_plain_file(folder: BorrowedFd<'_>, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o644))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_part_is_known_again_and_nothing_else_is() {
        assert!(is_random(random().as_bytes()));
        assert_ne!(random(), random());
        for other in [&b""[..], b"0123", b"0123456789abcdef0123456789abcdeg", b"0123456789abcdef0123456789abcdef0"] {
            assert!(!is_random(other));
        }
    }

    #[test]
    fn another_name_is_tried_until_one_is_ours() {
        let mut names = Vec::new();
        let made: Result<usize, ()> = make(|name| {
            names.push(name);
            Ok(if names.len() < 3 { Made::Lost } else { Made::Ours(names.len()) })
        });
        assert_eq!(made, Ok(3));
        names.dedup();
        assert_eq!(names.len(), 3);
        assert_eq!(make(|_| Err::<Made<()>, u8>(7)), Err(7));
    }
}
