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
    let before = block_all_signals();
    // A size of our own, also because the default is read from the environment.
    let thread = Builder::new().name(name.to_owned()).stack_size(STACK).spawn(body);
    restore_signals(&before);
    thread
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
    #[test]
    fn our_threads_block_every_signal_and_the_caller_keeps_its_mask() {
        let mask = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            status.lines().find(|line| line.starts_with("SigBlk:")).unwrap().to_owned()
        };
        let before = mask();
        let inside = super::spawn("bl-test", mask).unwrap().join().unwrap();
        assert_eq!(before, mask());
        // Bits of signals 1 to 31, less SIGKILL (9) and SIGSTOP (19), which cannot be blocked.
        let bits = u64::from_str_radix(inside.split_whitespace().nth(1).unwrap(), 16).unwrap();
        assert_eq!(bits & 0x7fff_ffff, 0x7fff_ffff & !(1 << 8) & !(1 << 18), "{inside}");
    }
}
