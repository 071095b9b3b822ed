//! Collection: removing what nothing reaches.
//!
//! Kept is what a name or a live lease reaches: a manifest, its config, its layers and their trees.
//! Of an index, it is every manifest under it. A disk stays while all its layers are reached. What is younger than an age is kept too, since a
//! host stores an image's parts before it can give the image a name. Everything else loses its name
//! while the collection lock is held. So whoever relies on what is there (a tag, a lease) comes
//! before or after. Deleting, which takes long, happens afterwards.
//!
//! What cannot be understood stays. A name that cannot be read, or its manifest, ends the
//! collection with an error, because what it needs cannot be known.

use std::collections::BTreeSet;
use std::os::fd::AsFd as _;
use std::time::{Duration, SystemTime};

use super::disk_description::Described;
use super::links::remove_dangling;
use super::lock::{CollectionLock, Lock};
use super::lock::{DISK_LOCK, EXTRACTION_LOCK, download_lock};
use super::partial::{Partial, Removal, resumable_of, tree_of};
use super::storage::Storage;
use super::store_dir::Folder;
use super::usage::size_of_partial;
use crate::digest::Digest;
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;
use crate::oci::Document;
use crate::options::options;
use crate::record::{hashes_name, record_name};
use crate::sys::is_regular;

/// Trees that are removed together, under as many locks.
const LOCKS: usize = 64;

options! {
    /// What [`Storage::collect`] does.
    #[derive(Clone, Debug)]
    pub struct GcOptions {
        /// Only say what would be removed.
        pub dry_run: bool,
        /// What is younger stays; an hour.
        pub min_age: Duration,
        /// Disks that nobody has asked for in this time go too, although their layers stay; `None` is to keep them. A lease holds
        /// a disk all the same.
        pub max_disk_idle: Option<Duration>,
        /// What may end the collection early.
        pub interrupt: Interrupt,
    }
}

impl Default for GcOptions {
    fn default() -> GcOptions {
        let min_age = Duration::from_secs(3600);
        GcOptions { dry_run: false, min_age, max_disk_idle: None, interrupt: Interrupt::default() }
    }
}

/// What a collection removed, or would.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GcReport {
    /// Each object, by its place in the store: `layers/sha256-<hex>.tar.gz`.
    pub removed: Vec<String>,
    /// Their bytes: of files as they are stored, of trees as their records say.
    pub bytes: u64,
    /// Objects that stayed although nothing reaches them, because they are young or in use.
    pub kept: u64,
}

impl Storage {
    /// Removes what no name and no lease reaches.
    pub fn collect(&self, options: &GcOptions) -> Result<GcReport> {
        self.directory.check_writable()?;
        self.collect_now(options)
    }

    /// The same for those who have looked whether the store may be used.
    pub(crate) fn collect_now(&self, options: &GcOptions) -> Result<GcReport> {
        let mut trash = Vec::new();
        let report = {
            let _lock = CollectionLock::exclusive(&self.directory, &options.interrupt)?;
            let reached = self.reached(options)?;
            self.sweep_unreached(&reached, options, &mut trash)
        };
        // However it ended: what lost its name goes, and nobody waits for that.
        Removal::delete_later(&self.directory, trash);
        report
    }

    /// Everything that names and leases lead to, whatever kind of object has the digest.
    fn reached(&self, options: &GcOptions) -> Result<BTreeSet<Digest>> {
        let mut reached = BTreeSet::new();
        for (_, tagged) in self.name_files()? {
            let tagged = tagged?;
            let manifest = self.load_image_manifest(&tagged.manifest).map_err(|error| {
                Error::new(Status::State, format!("{}: what it needs is not known: {}", tagged.name, error.message()))
            })?;
            reached.insert(tagged.manifest);
            reached.extend(tagged.index);
            reached.insert(manifest.config.digest);
            reached.extend(manifest.layers.into_iter().map(|layer| layer.digest));
        }
        // A lease may hold any of these as a manifest, so they are not known as such.
        let mut expanded = BTreeSet::new();
        let mut todo = self.leased(options.dry_run)?;
        while let Some(digest) = todo.pop() {
            options.interrupt.check()?;
            if !expanded.insert(digest.clone()) {
                continue;
            }
            if self.is_manifest_there(&digest)? {
                let document = self.load_manifest(&digest).and_then(|bytes| Document::parse(&bytes));
                match document.map_err(|error| {
                    let why = format!("{digest} has a lease, and what it needs is not known: {}", error.message());
                    Error::new(Status::State, why)
                })? {
                    Document::Manifest(manifest) => {
                        todo.push(manifest.config.digest);
                        todo.extend(manifest.layers.into_iter().map(|layer| layer.digest));
                    }
                    Document::Index(index) => {
                        todo.extend(index.manifests.into_iter().map(|entry| entry.descriptor.digest));
                    }
                }
            }
        }
        reached.append(&mut expanded);
        Ok(reached)
    }

    fn sweep_unreached(
        &self,
        reached: &BTreeSet<Digest>,
        options: &GcOptions,
        trash: &mut Vec<Removal>,
    ) -> Result<GcReport> {
        let (injected, report) = (BTreeSet::new(), GcReport::default());
        let mut sweep = Sweep { storage: self, reached, injected, options, trash, report };
        // What points comes before what it points to.
        for area in [Folder::Manifests, Folder::Configs, Folder::Layers] {
            sweep.blobs(area)?;
        }
        sweep.disks()?;
        sweep.trees()?;
        sweep.interrupted()?;
        sweep.quarantined()?;
        if !options.dry_run {
            remove_dangling(&self.directory)?;
        }
        Ok(sweep.report)
    }
}

struct Sweep<'a> {
    storage: &'a Storage,
    reached: &'a BTreeSet<Digest>,
    /// Layers that disks which stay have on top of an image's.
    injected: BTreeSet<Digest>,
    options: &'a GcOptions,
    trash: &'a mut Vec<Removal>,
    report: GcReport,
}

impl Sweep<'_> {
    fn blobs(&mut self, area: Folder) -> Result<()> {
        let directory = &self.storage.directory;
        for name in self.unreached(area)? {
            self.options.interrupt.check()?;
            let Some(stat) = directory.stat(area, &name)? else { continue };
            // A file that was linked has its maker's time of modification; when it got its name here, nobody else can set.
            if self.is_young(stat.st_ctime) {
                self.report.kept += 1;
                continue;
            }
            self.remove(area, &name, stat.st_size as u64)?;
        }
        if self.options.dry_run { Ok(()) } else { directory.sync_area(area) }
    }

    /// A tree goes before its record, and what else lies beside it: a tree without one counts as absent. Nobody makes either of them anew before the disk
    /// knows that they are gone, or an old record could be found with a new tree.
    fn trees(&mut self) -> Result<()> {
        let directory = &self.storage.directory;
        let names = self.unreached(Folder::Extracted)?;
        let trees: BTreeSet<&str> = names.iter().map(|name| tree_of(name).unwrap_or(name)).collect();
        let trees: Vec<&str> = trees.into_iter().collect();
        for batch in trees.chunks(LOCKS) {
            let mut locks = Vec::new();
            for tree in batch {
                locks.extend(self.tree(tree)?);
            }
            if !self.options.dry_run && !locks.is_empty() {
                directory.sync_area(Folder::Extracted)?;
            }
        }
        Ok(())
    }

    /// The lock on the extraction of a tree that was removed.
    fn tree(&mut self, tree: &str) -> Result<Option<Lock>> {
        self.options.interrupt.check()?;
        let directory = &self.storage.directory;
        let lock = Lock::try_acquire(directory, format!("{EXTRACTION_LOCK}{tree}"))
            .map_err(|errno| Error::os(errno, format_args!("lock the extraction of {tree}")))?;
        let mut found = Vec::new();
        for name in [tree.to_owned(), record_name(tree), hashes_name(tree)] {
            if let Some(stat) = directory.stat(Folder::Extracted, &name)? {
                found.push((name, stat));
            }
        }
        // Their modification times are the layer's; when they came about is when they changed last.
        let born = found.iter().map(|(_, stat)| stat.st_ctime).max();
        if lock.is_none() || born.is_some_and(|born| self.is_young(born)) {
            self.report.kept += found.len() as u64;
            return Ok(None);
        }
        for (name, stat) in found {
            let bytes = if name == tree { self.storage.tree_bytes(tree, &stat)? } else { stat.st_size as u64 };
            self.remove(Folder::Extracted, &name, bytes)?;
        }
        Ok(lock)
    }

    /// A disk is kept as long as all its layers are and somebody asks for it, or a lease holds it.
    fn disks(&mut self) -> Result<()> {
        let directory = &self.storage.directory;
        for (name, object) in self.storage.objects(Folder::Disks)? {
            self.options.interrupt.check()?;
            let lock = Lock::try_acquire(directory, format!("{DISK_LOCK}{name}"))
                .map_err(|errno| Error::os(errno, format_args!("lock the disk {name}")))?;
            let Some(stat) = directory.stat(Folder::Disks, &name)? else { continue };
            let described = match directory.open_directory(Folder::Disks, &name) {
                Ok(Some(folder)) => self.storage.describe_kept_disk(folder.as_fd()),
                Ok(None) => Ok(Described::Damaged),
                Err(error) => Err(error),
            };
            let (layers, injected) = match described {
                Ok(Described::Good(description)) => description.layer_digests().unwrap_or_default(),
                Ok(Described::Stale | Described::Damaged) => (Vec::new(), Vec::new()),
                // What cannot be understood stays.
                Err(_) => {
                    self.report.kept += 1;
                    continue;
                }
            };
            // One that has no layers is nobody's.
            let is_of_layers = !layers.is_empty() && layers.iter().all(|layer| self.reached.contains(layer));
            let is_held = self.reached.contains(&object.digest);
            if is_held || is_of_layers && !self.is_idle(&name)? {
                self.injected.extend(injected);
                continue;
            }
            if lock.is_none() || self.is_young(stat.st_ctime) {
                self.report.kept += 1;
                continue;
            }
            self.remove(Folder::Disks, &name, self.storage.disk_bytes(&name)?)?;
        }
        if self.options.dry_run { Ok(()) } else { directory.sync_area(Folder::Disks) }
    }

    /// Downloads that broke off, and with which nobody went on.
    fn interrupted(&mut self) -> Result<()> {
        let directory = &self.storage.directory;
        for (area, name) in self.storage.partials()? {
            let Some(digest) = resumable_of(&name) else { continue };
            let lock = Lock::try_acquire(directory, download_lock(&digest))
                .map_err(|errno| Error::os(errno, format_args!("lock the download of {digest}")))?;
            let Some(stat) = directory.stat(area, &name)? else { continue };
            if lock.is_none() || self.is_young(stat.st_mtime) {
                self.report.kept += 1;
                continue;
            }
            self.remove(area, &name, size_of_partial(&stat))?;
        }
        Ok(())
    }

    /// What a check moved away is kept as long as what nothing reaches.
    fn quarantined(&mut self) -> Result<()> {
        let directory = &self.storage.directory;
        for name in self.storage.quarantined()? {
            let Some(stat) = directory.stat(Folder::Quarantine, &name)? else { continue };
            if self.is_young(stat.st_ctime) {
                self.report.kept += 1;
                continue;
            }
            let bytes = if is_regular(&stat) { stat.st_size as u64 } else { 0 };
            self.report.bytes = self.report.bytes.saturating_add(bytes);
            self.report.removed.push(format!("{}/{name}", Folder::Quarantine.name()));
            if !self.options.dry_run {
                self.trash.push(Removal::new(directory, Folder::Quarantine, name));
            }
        }
        Ok(())
    }

    /// Names in a folder that are ours and not reached.
    fn unreached(&self, area: Folder) -> Result<Vec<String>> {
        let objects = self.storage.objects(area)?.into_iter();
        let is_needed = |digest: &Digest| {
            self.reached.contains(digest) || area == Folder::Extracted && self.injected.contains(digest)
        };
        Ok(objects.filter(|(_, object)| !is_needed(&object.digest)).map(|(name, _)| name).collect())
    }

    /// Whether a disk has not been asked for in the time that is allowed.
    fn is_idle(&self, name: &str) -> Result<bool> {
        let Some(most) = self.options.max_disk_idle else { return Ok(false) };
        let Some(used) = self.storage.disk_used_at(name)? else { return Ok(false) };
        Ok(SystemTime::now().duration_since(used).is_ok_and(|idle| idle > most))
    }

    /// `born` in seconds since 1970.
    fn is_young(&self, born: i64) -> bool {
        let born = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(born).unwrap_or(0));
        SystemTime::now().checked_sub(self.options.min_age).is_none_or(|newest| born > newest)
    }

    fn remove(&mut self, area: Folder, name: &str, bytes: u64) -> Result<()> {
        self.report.bytes = self.report.bytes.saturating_add(bytes);
        self.report.removed.push(format!("{}/{name}", area.name()));
        if !self.options.dry_run {
            match Partial::take_to_trash(&self.storage.directory, area, name) {
                // A host can have made a file immutable that is one of its own, too.
                Err(error) if area == Folder::Layers && error.status() == Status::Permission => {
                    tracing::warn!("{error}");
                    self.report.removed.pop();
                    self.report.bytes = self.report.bytes.saturating_sub(bytes);
                    self.report.kept += 1;
                }
                trash => self.trash.extend(trash?),
            }
        }
        Ok(())
    }
}
