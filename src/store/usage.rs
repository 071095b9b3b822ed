//! What a store holds, by kind, and what its file system has left.

use std::time::Duration;

use rustix::fs::Stat;

use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::store::{Area, Storage, is_directory, is_regular};

/// How long a call that waits for room waits between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// Objects of a kind, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// How many there are.
    pub objects: u64,
    /// Of blobs the size of their files, of trees the sizes of all files in them, by their records.
    pub bytes: u64,
}

impl Usage {
    fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// What a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskUsage {
    /// Manifests and indexes.
    pub manifests: Usage,
    /// Image configs.
    pub configs: Usage,
    /// Layer blobs.
    pub layers: Usage,
    /// Extracted trees with their records.
    pub trees: Usage,
    /// Partial objects: downloads and extractions that are under way or broke off, and what is about to be deleted. Of
    /// files with the room that is reserved for what they do not hold yet; what is in directories is not counted.
    pub partials: Usage,
    /// What a check moved away; what is in directories is not counted.
    pub quarantined: Usage,
    /// Bytes that this process may still write to the file system.
    pub free_bytes: u64,
    /// Bytes of the file system.
    pub total_bytes: u64,
}

impl DiskUsage {
    /// Bytes of everything that the store holds.
    pub fn bytes(&self) -> u64 {
        let kinds = [self.manifests, self.configs, self.layers, self.trees, self.partials, self.quarantined];
        kinds.iter().fold(0, |sum: u64, kind| sum.saturating_add(kind.bytes))
    }
}

/// What a partial object takes of the disk: a download reserves room for what it has not got yet.
pub(super) fn size_of_partial(stat: &Stat) -> u64 {
    if is_regular(stat) { (stat.st_size as u64).max(stat.st_blocks as u64 * 512) } else { 0 }
}

impl Storage {
    /// Adds up what the store holds. Looks at every object and reads none.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        self.directory.check_alive()?;
        let mut usage = DiskUsage::default();
        (usage.free_bytes, usage.total_bytes) = self.directory.space()?;
        for (area, kind) in [
            (Area::Manifests, &mut usage.manifests),
            (Area::Configs, &mut usage.configs),
            (Area::Layers, &mut usage.layers),
        ] {
            for (name, _) in self.objects(area)? {
                self.add_file(kind, area, &name)?;
            }
        }
        for (name, object) in self.objects(Area::Extracted)? {
            let Some(stat) = self.directory.stat(Area::Extracted, &name)? else { continue };
            if object.is_record {
                usage.trees.bytes = usage.trees.bytes.saturating_add(stat.st_size as u64);
            } else if is_directory(&stat) {
                usage.trees.add(self.tree_content(&name)?);
            }
        }
        for (area, name) in self.partials()? {
            if let Some(stat) = self.directory.stat(area, &name)? {
                usage.partials.add(size_of_partial(&stat));
            }
        }
        for name in self.quarantined()? {
            self.add_file(&mut usage.quarantined, Area::Quarantine, &name)?;
        }
        Ok(usage)
    }

    fn add_file(&self, usage: &mut Usage, area: Area, name: &str) -> Result<()> {
        if let Some(stat) = self.directory.stat(area, name)? {
            usage.add(if is_regular(&stat) { stat.st_size as u64 } else { 0 });
        }
        Ok(())
    }

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
            std::thread::sleep(LOOK);
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
        let default = super::GcOptions::default();
        let options = super::GcOptions {
            min_age: self.gc_min_age.unwrap_or(default.min_age),
            interrupt: interrupt.clone(),
            ..default
        };
        match self.collect_now(&options) {
            Ok(report) => {
                tracing::info!("collected {} objects, {} bytes, for room", report.removed.len(), report.bytes)
            }
            Err(error) => tracing::warn!("cannot collect for room: {error}"),
        }
        interrupt.check()
    }
}
