//! Functions of the host's.

use std::ffi::c_void;

/// A function of the host's, and what it is to be given.
pub(super) struct HostFunction<F> {
    pub(super) function: F,
    pub(super) user_data: *mut c_void,
}

// SAFETY: it is called on the thread of the host's own call only, which outlives all other owners.
unsafe impl<F> Send for HostFunction<F> {}
// SAFETY: as above.
unsafe impl<F> Sync for HostFunction<F> {}
