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
