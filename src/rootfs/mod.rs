//! Root file systems: an image's layers on top of each other. They are in a directory of the host's
//! ([`assemble`]), or as lower directories of a mount ([`overlay`]). Also what a guest needs to
//! know of the image ([`process`]).

#![forbid(unsafe_code)]

mod assemble;
mod overlay;
mod process;
mod users;

pub use assemble::{Rootfs, RootfsMode, RootfsOptions};
pub use overlay::{Overlay, OverlayOptions};
pub use process::Process;
pub(crate) use users::MAX_USERS_BYTES;
pub use users::RootfsUser;
