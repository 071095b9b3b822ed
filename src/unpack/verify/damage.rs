//! Which errors of a read say something of what is read.

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::sys;

/// What is wrong with something; `None` where nothing is.
pub(crate) type Verdict = Option<String>;

/// What the disk cannot give back is damaged; anything else says nothing of it and ends the check.
pub(crate) fn damage(errno: Errno, what: &str) -> Result<String> {
    if sys::is_damage(errno.raw_os_error()) { Ok(format!("{what}: {errno}")) } else { Err(Error::os(errno, what)) }
}
