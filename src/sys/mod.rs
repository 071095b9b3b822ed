//! What differs between operating systems, and the few system calls that `rustix` has no safe form for. Together with
//! `ffi` this is the only code that may be `unsafe`.

mod fork;
#[cfg(feature = "isal")]
mod isal;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
mod thread;

pub(crate) use fork::fork_count;
#[cfg(feature = "isal")]
pub(crate) use isal::Inflate;
#[cfg(target_os = "linux")]
pub(crate) use linux::*;
#[cfg(target_os = "macos")]
pub(crate) use macos::*;
pub(crate) use thread::{has_cores, leave_umask, spawn};

/// Whether an error number says that the disk does not have what was written to it.
pub(crate) fn is_damage(os_errno: i32) -> bool {
    DAMAGE.iter().any(|errno| errno.raw_os_error() == os_errno)
}
