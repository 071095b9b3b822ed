//! The format-version file: what lets a later library tell a store that it must convert or leave alone. A directory
//! without one is the seed's (or new) and is version 1.

use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result, Status, quoted};

pub(super) const FILE_NAME: &str = "format-version";
pub(super) const CURRENT_VERSION: u32 = 1;

/// Refuses a newer version. False where the file is missing.
pub(super) fn check(root: BorrowedFd<'_>, path: &Path) -> Result<bool> {
    let fail = |errno| Error::os(errno, format_args!("read {}", path.join(FILE_NAME).display()));
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(root, FILE_NAME, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(fail(errno)),
    };
    let mut buffer = [0; 32];
    let n = rustix::io::read(&file, &mut buffer).map_err(fail)?;
    let text = &buffer[..n];
    match std::str::from_utf8(text).ok().and_then(|text| text.trim_end().parse::<u32>().ok()) {
        Some(1..=CURRENT_VERSION) => Ok(true),
        Some(version) => Err(Error::new(
            Status::Unsupported,
            format!(
                "store {} has format version {version}; this library knows versions up to {CURRENT_VERSION}",
                path.display()
            ),
        )),
        None => Err(Error::new(
            Status::Malformed,
            format!("{} holds {}, not a version number", path.join(FILE_NAME).display(), quoted(text)),
        )),
    }
}
