//! What a store holds, by kind, and what its file system has left.

use rustix::fs::Stat;

use super::extracted::is_tree;
use super::storage::Storage;
use super::store_dir::Folder;
use crate::error::Result;
use crate::sys::is_regular;

/// Objects of a kind, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// How many there are.
    pub objects: u64,
    /// Of blobs and of trees that are disks it is the size of their files. Of other trees it is the
    /// sizes of all files in them, by their records.
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
    /// Disks of images. The files of layers' disks that they share with trees count there.
    pub disks: Usage,
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
        let Self { manifests, configs, layers, trees, disks, partials, quarantined, .. } = self;
        let kinds = [manifests, configs, layers, trees, disks, partials, quarantined];
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
        self.directory.check_not_forked()?;
        let mut usage = DiskUsage::default();
        (usage.free_bytes, usage.total_bytes) = self.directory.space()?;
        for (area, kind) in [
            (Folder::Manifests, &mut usage.manifests),
            (Folder::Configs, &mut usage.configs),
            (Folder::Layers, &mut usage.layers),
        ] {
            for (name, _) in self.objects(area)? {
                self.add_file(kind, area, &name)?;
            }
        }
        for (name, object) in self.objects(Folder::Extracted)? {
            let Some(stat) = self.directory.stat(Folder::Extracted, &name)? else { continue };
            if object.is_beside_tree {
                usage.trees.bytes = usage.trees.bytes.saturating_add(stat.st_size as u64);
            } else if is_tree(&name, &stat) {
                usage.trees.add(self.tree_bytes(&name, &stat)?);
            }
        }
        for (name, _) in self.objects(Folder::Disks)? {
            usage.disks.add(self.disk_bytes(&name)?);
        }
        for (area, name) in self.partials()? {
            if let Some(stat) = self.directory.stat(area, &name)? {
                usage.partials.add(size_of_partial(&stat));
            }
        }
        for name in self.quarantined()? {
            self.add_file(&mut usage.quarantined, Folder::Quarantine, &name)?;
        }
        Ok(usage)
    }

    fn add_file(&self, usage: &mut Usage, area: Folder, name: &str) -> Result<()> {
        if let Some(stat) = self.directory.stat(area, name)? {
            usage.add(if is_regular(&stat) { stat.st_size as u64 } else { 0 });
        }
        Ok(())
    }
}
