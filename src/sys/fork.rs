//! How a process knows that it is a forked child. A process id does not tell: in a new namespace the child may have the
//! same one.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

static FORKS: AtomicU64 = AtomicU64::new(0);

/// How often the process, or those it descends from, forked since the first call; each child sees one more.
pub(crate) fn fork_count() -> u64 {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: the handler is async-signal-safe, and the library is never unloaded (`-z nodelete`). Without memory for
        // it the count stays, and a forked child is not told apart; nothing else depends on it.
        let _ = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
    FORKS.load(Ordering::Relaxed)
}

extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}
