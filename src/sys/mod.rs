//! What differs between operating systems, and the few system calls that `rustix` has no safe form for. Together with
//! `ffi` this is the only code that may be `unsafe`.

mod descriptor;
mod fork;
mod io;
#[cfg(feature = "isal")]
mod isal;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
mod thread;

pub(crate) use descriptor::{duplicate, file_id, is_damage, link_count, mode_of};
pub(crate) use fork::fork_count;
pub(crate) use io::{free_space, is_directory, is_regular, next_data, next_hole, read_start, write_all, write_all_at};
#[cfg(feature = "isal")]
pub(crate) use isal::IsalInflate;
#[cfg(target_os = "linux")]
pub(crate) use linux::*;
#[cfg(target_os = "macos")]
pub(crate) use macos::*;
pub(crate) use thread::{has_cores, leave_umask, spawn, with_signals_blocked};
