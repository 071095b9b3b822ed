//! Threads of ours inside somebody else's process.

use std::mem::MaybeUninit;
use std::thread::{Builder, JoinHandle};

const STACK: usize = 512 << 10;

/// Whether a second thread would find a processor to run on. Fuzzing is faster, and the same each time, on one.
pub(crate) fn has_cores() -> bool {
    !cfg!(fuzzing) && std::thread::available_parallelism().is_ok_and(|n| n.get() > 1)
}

/// Starts a thread with every signal blocked, so that the host's handlers run on the host's threads only. A new thread
/// inherits the mask of its creator; blocking before the start and not inside leaves no moment in between.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<JoinHandle<T>> {
    #[cfg(test)]
    let body = crate::fault::inherited(body);
    // A size of our own, also because the default is read from the environment.
    with_signals_blocked(|| Builder::new().name(name.to_owned()).stack_size(STACK).spawn(body))
}

/// For what may start threads that are not ours, as zstd does: they inherit the mask, too.
pub(crate) fn with_signals_blocked<T>(body: impl FnOnce() -> T) -> T {
    let _before = BlockedSignals(block_all_signals());
    body()
}

/// Dropping it brings back the mask that was before.
struct BlockedSignals(libc::sigset_t);

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        restore_signals(&self.0);
    }
}

/// Frees the calling thread, which must be one of ours, from the process's umask, which is the host's and may change at
/// any time. False where the system has no such thing or a sandbox does not allow it.
pub(crate) fn leave_umask() -> bool {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: a system call without pointers. Root, working directory and umask become the thread's own; it uses
        // none of the first two.
        let is_own = unsafe { libc::unshare(libc::CLONE_FS) } == 0;
        if is_own {
            // SAFETY: a system call without pointers, which cannot fail.
            unsafe { libc::umask(0) };
        }
        is_own
    }
    #[cfg(not(target_os = "linux"))]
    false
}

fn block_all_signals() -> libc::sigset_t {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigfillset` initialises the set that it is given.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: both pointers are valid for the call; `all` was initialised above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
    // SAFETY: `pthread_sigmask` wrote the old mask; it cannot fail with SIG_SETMASK and valid pointers.
    unsafe { before.assume_init() }
}

fn restore_signals(mask: &libc::sigset_t) {
    // SAFETY: the mask is a valid set that `pthread_sigmask` gave us; the old one is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, std::ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_without_umask_leaves_that_of_the_host() {
        let umask = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            status.lines().find(|line| line.starts_with("Umask:")).unwrap().to_owned()
        };
        let before = umask();
        let inside = super::spawn("bl-test", move || super::leave_umask().then(umask)).unwrap().join().unwrap();
        assert_eq!(before, umask());
        assert_ne!(before, "Umask:\t0000");
        assert_eq!(inside.unwrap(), "Umask:\t0000");
    }

    /// The signals that the calling thread blocks.
    fn blocked() -> Vec<i32> {
        let mut mask = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: nothing is set, and the old mask is written to a set of ours.
        assert_eq!(unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), mask.as_mut_ptr()) }, 0);
        // SAFETY: the call wrote it.
        let mask = unsafe { mask.assume_init() };
        // SAFETY: the set is a valid one.
        (1..32).filter(|&signal| unsafe { libc::sigismember(&raw const mask, signal) } == 1).collect()
    }

    #[test]
    fn our_threads_block_every_signal_and_the_caller_keeps_its_mask() {
        let before = blocked();
        let inside = super::spawn("bl-test", blocked).unwrap().join().unwrap();
        assert_eq!(before, blocked());
        let all: Vec<i32> = (1..32).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)).collect();
        assert_eq!(inside, all);
    }
}
