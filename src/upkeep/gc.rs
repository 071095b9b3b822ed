//! Collection: removing what nothing reaches.
//!
//! Kept is what a name or a live lease reaches: a manifest, its config, its layers and their trees; for an index, every
//! manifest under it. What is younger than an age is kept too, since a host stores an image's parts before it can give
//! the image a name. Everything else loses its name while the collection lock is held, so that whoever relies on what
//! is there (a tag, a lease) comes before or after; deleting, which takes long, happens afterwards.
//!
//! What cannot be understood stays: a name, or the manifest of one, that cannot be read ends the collection with an error,
//! because what it needs cannot be known.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::time::{Duration, SystemTime};

use rustix::fs::Dir;
use rustix::io::Errno;

use crate::digest::Digest;
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;
use crate::oci::Document;
use crate::store::{Area, CollectionLock, EXTRACTION_LOCK, Lock, Partial, RECORD_SUFFIX, Storage, Trash, is_directory};

/// What [`Storage::collect`] does.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GcOptions {
    /// Only say what would be removed.
    pub dry_run: bool,
    /// What is younger stays; an hour.
    pub min_age: Duration,
    /// What may end the collection early.
    pub interrupt: Interrupt,
}

impl Default for GcOptions {
    fn default() -> GcOptions {
        GcOptions { dry_run: false, min_age: Duration::from_secs(3600), interrupt: Interrupt::default() }
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
        let mut trash = Vec::new();
        let report = {
            let _lock = CollectionLock::exclusive(&self.directory, &options.interrupt)?;
            let reached = self.reached(options)?;
            self.sweep_unreached(&reached, options, &mut trash)?
        };
        // Deletes what lost its name, which nobody waits for.
        drop(trash);
        Ok(report)
    }

    /// Everything that names and leases lead to, whatever kind of object has the digest.
    fn reached(&self, options: &GcOptions) -> Result<BTreeSet<Digest>> {
        let mut reached = BTreeSet::new();
        for tagged in self.images_but(Err)? {
            let manifest = self.load_image_manifest(&tagged.manifest).map_err(|error| {
                Error::new(Status::State, format!("{}: what it needs is not known: {}", tagged.name, error.message()))
            })?;
            reached.insert(tagged.manifest);
            reached.insert(manifest.config.digest);
            reached.extend(manifest.layers.into_iter().map(|layer| layer.digest));
        }
        let mut todo = self.leased(options.dry_run)?;
        while let Some(digest) = todo.pop() {
            options.interrupt.check()?;
            if !reached.insert(digest.clone()) {
                continue;
            }
            match self.load_manifest(&digest).and_then(|bytes| Document::parse(&bytes)) {
                Ok(Document::Manifest(manifest)) => {
                    todo.push(manifest.config.digest);
                    todo.extend(manifest.layers.into_iter().map(|layer| layer.digest));
                }
                Ok(Document::Index(index)) => todo.extend(index.manifests.into_iter().map(|manifest| manifest.digest)),
                // A config, a layer, or something that is not here yet.
                Err(error) if error.status() == Status::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(reached)
    }

    fn sweep_unreached(
        &self,
        reached: &BTreeSet<Digest>,
        options: &GcOptions,
        trash: &mut Vec<Trash>,
    ) -> Result<GcReport> {
        let mut sweep = Sweep { storage: self, reached, options, trash, report: GcReport::default() };
        // What points comes before what it points to, a tree before its record: a tree without one would be taken for
        // boxlite 0.9's, and so never be missed. The sync keeps that order on the disk.
        for area in [Area::Manifests, Area::Configs, Area::Layers] {
            sweep.folder(area, |_| true)?;
        }
        sweep.folder(Area::Extracted, |name| !name.ends_with(RECORD_SUFFIX))?;
        sweep.folder(Area::Extracted, |name| name.ends_with(RECORD_SUFFIX))?;
        Ok(sweep.report)
    }
}

struct Sweep<'a> {
    storage: &'a Storage,
    reached: &'a BTreeSet<Digest>,
    options: &'a GcOptions,
    trash: &'a mut Vec<Trash>,
    report: GcReport,
}

impl Sweep<'_> {
    fn folder(&mut self, area: Area, is_meant: impl Fn(&str) -> bool) -> Result<()> {
        let directory = &self.storage.directory;
        let fail = |errno| Error::os(errno, format_args!("list {}/{}", directory.path().display(), area.name()));
        for name in names(directory.area(area)?).map_err(fail)?.into_iter().filter(|name| is_meant(name)) {
            self.options.interrupt.check()?;
            if let Some(digest) = digest_of(area, &name).filter(|digest| !self.reached.contains(digest)) {
                self.object(area, &name, &digest)?;
            }
        }
        if self.options.dry_run { Ok(()) } else { directory.sync_area(area) }
    }

    fn object(&mut self, area: Area, name: &str, digest: &Digest) -> Result<()> {
        let directory = &self.storage.directory;
        let Some(stat) = directory.stat(area, name)? else { return Ok(()) };
        let is_tree = area == Area::Extracted && is_directory(&stat);
        // A tree's own times are its layer's; when it came about is when it changed last.
        let born = if area == Area::Extracted { stat.st_ctime } else { stat.st_mtime.max(stat.st_ctime) };
        let born = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(born).unwrap_or(0));
        let newest = SystemTime::now().checked_sub(self.options.min_age);
        if newest.is_none_or(|newest| born > newest) {
            self.report.kept += 1;
            return Ok(());
        }
        let tree = name.strip_suffix(RECORD_SUFFIX).unwrap_or(name);
        let _lock = match area {
            Area::Extracted => {
                let lock = Lock::try_acquire(directory, format!("{EXTRACTION_LOCK}{tree}"));
                match lock.map_err(|errno| Error::os(errno, format_args!("lock the extraction of {digest}")))? {
                    None => {
                        self.report.kept += 1;
                        return Ok(());
                    }
                    lock => lock,
                }
            }
            _ => None,
        };
        let bytes = if is_tree { self.storage.tree_content(name)? } else { stat.st_size as u64 };
        self.report.bytes = self.report.bytes.saturating_add(bytes);
        self.report.removed.push(format!("{}/{name}", area.name()));
        if !self.options.dry_run {
            self.trash.extend(Partial::take_to_trash(directory, area, name)?);
        }
        Ok(())
    }
}

fn names(folder: BorrowedFd<'_>) -> Result<Vec<String>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        names.extend(entry?.file_name().to_str().ok().map(str::to_owned));
    }
    Ok(names)
}

/// The digest that a name in one of the folders stands for; `None` for what is none of ours, or is a partial.
fn digest_of(area: Area, name: &str) -> Option<Digest> {
    let stem = match area {
        Area::Layers => name.strip_suffix(".tar.gz")?,
        Area::Configs | Area::Manifests => name.strip_suffix(".json")?,
        Area::Extracted => {
            let tree = name.strip_suffix(RECORD_SUFFIX).unwrap_or(name);
            let (stem, form) = tree.split_once('.').unwrap_or((tree, ""));
            if !form.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') {
                return None;
            }
            stem
        }
        _ => return None,
    };
    let (algorithm, hex) = stem.split_once('-')?;
    Digest::parse(&format!("{algorithm}:{hex}")).ok()
}
