//! Whether there is room for what a call is about to write. The file system must have it, and the
//! host may want a part of that free. The store must have it too: the host may set a high-water
//! mark. Above that, or without room, the store is collected first.

use std::time::Duration;

use super::gc::GcOptions;
use super::storage::Storage;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;

/// Between two looks at the free space, while what was collected is being deleted.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

impl Storage {
    /// `NO_SPACE`, with the numbers, unless so many bytes fit and leave free what the host wants free. Where the store has
    /// a high-water mark and would be above it, or there is no room, it is collected first.
    pub(crate) fn make_room(&self, bytes: u64, what: impl std::fmt::Display, interrupt: &Interrupt) -> Result<()> {
        let is_collected = self.make_room_in_store(bytes, interrupt)?;
        if self.high_water.is_none() && bytes == 0 && self.min_free == 0 {
            return Ok(());
        }
        let wanted = bytes.saturating_add(self.min_free);
        let (mut free, _) = self.directory.space()?;
        if free < wanted && self.high_water.is_some() && !is_collected {
            self.collect_for_room(interrupt)?;
            (free, _) = self.directory.space()?;
        }
        // What was collected is deleted by a thread.
        while free < wanted && self.directory.is_removing() {
            interrupt.check()?;
            std::thread::sleep(POLL_INTERVAL);
            (free, _) = self.directory.space()?;
        }
        if free >= wanted {
            return Ok(());
        }
        let kept =
            if self.min_free > 0 { format!(", of which {} are to stay free", self.min_free) } else { String::new() };
        let path = self.directory.path().display();
        Err(Error::no_space(format!("{what}: {bytes} bytes to write, {free} free in {path}{kept}")))
    }

    /// The first half of that, for what takes room in the store and none of the disk; whether it was collected.
    pub(crate) fn make_room_in_store(&self, bytes: u64, interrupt: &Interrupt) -> Result<bool> {
        match self.high_water {
            Some(mark) if self.disk_usage()?.bytes().saturating_add(bytes) > mark => {
                self.collect_for_room(interrupt)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Collecting for somebody who waits for room: what cannot be collected is no failure of theirs.
    fn collect_for_room(&self, interrupt: &Interrupt) -> Result<()> {
        let default = GcOptions::default();
        let options =
            GcOptions { min_age: self.gc_min_age.unwrap_or(default.min_age), interrupt: interrupt.clone(), ..default };
        match self.collect_now(&options) {
            Ok(report) => {
                tracing::info!("collected {} objects, {} bytes, for room", report.removed.len(), report.bytes)
            }
            Err(error) => tracing::warn!("cannot collect for room: {error}"),
        }
        interrupt.check()
    }
}
