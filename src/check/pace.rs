//! Reading at the pace that a host allows, since its guests read from the same disk.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::digest::{Digest, Hasher};
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::unpack::damage;

const READ_BUFFER_BYTES: usize = 256 << 10;

/// How fast the check reads, and how much it read.
pub(super) struct ReadRate<'a> {
    interrupt: &'a Interrupt,
    bytes_per_second: Option<u64>,
    started: Instant,
    pub(super) bytes: u64,
}

impl ReadRate<'_> {
    pub(super) fn new(bytes_per_second: Option<u64>, interrupt: &Interrupt) -> ReadRate<'_> {
        ReadRate { interrupt, bytes_per_second, started: Instant::now(), bytes: 0 }
    }

    /// Waits until so many bytes more are allowed.
    pub(super) fn spend(&mut self, bytes: u64) -> Result<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        loop {
            self.interrupt.check()?;
            let Some(rate) = self.bytes_per_second.filter(|&rate| rate > 0) else { return Ok(()) };
            let due = Duration::from_secs_f64(self.bytes as f64 / rate as f64);
            let Some(wait) = due.checked_sub(self.started.elapsed()).filter(|wait| !wait.is_zero()) else {
                return Ok(());
            };
            std::thread::sleep(wait.min(Duration::from_millis(20)));
        }
    }
}

/// The digest of what a file has; or why it cannot be read.
pub(super) fn hash(file: BorrowedFd<'_>, digest: &Digest, pace: &mut ReadRate<'_>) -> Result<Result<Digest, String>> {
    let mut hasher = Hasher::new(digest.algorithm());
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    loop {
        match rustix::io::read(file, &mut buffer[..]) {
            Ok(0) => return Ok(Ok(hasher.finish())),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                pace.spend(n as u64)?;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return damage(errno, "cannot be read").map(Err),
        }
    }
}
