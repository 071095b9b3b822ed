//! Check: whether the disk still has what was stored, and getting what it has not out of the way.
//!
//! Every blob is hashed again, every tree compared with its metadata record, every disk with its
//! layers, every name and lease read. What does not hold is a finding. With `repair` it is moved to the folder `quarantine`, so
//! that the object is absent and the next pull, commit or extraction replaces it. Nothing is
//! deleted, and nothing that is only missing can be moved.
//!
//! Nothing is locked while bytes are read. An object is judged by the file that was open. Before it
//! is reported or moved, its name must still lead to that file, so that an object that somebody
//! replaced meanwhile is left alone.

use std::collections::HashSet;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::Stat;

use super::pace::{ReadRate, hash};
use crate::digest::Digest;
use crate::disk::{verify_layer_disk, verify_layer_record};
use crate::error::{Error, Result, Status, quoted};
use crate::image_disk::KeptDiskVerdict;
use crate::interrupt::Interrupt;
use crate::options::options;
use crate::record::{EROFS_SUFFIX, RecordHead, Validity, hashes_name, record_name};
use crate::store::{
    CollectionLock, DISK_LOCK, Described, EXTRACTION_LOCK, Folder, Lock, Partial, Storage, check_lease, is_current,
    is_tree, was_opened_in_this_boot,
};
use crate::sys::{self, is_regular};
use crate::unpack::{TreeForm, Verdict, verify_tree};

options! {
    /// What [`Storage::check`] does.
    #[derive(Clone, Debug, Default)]
    pub struct CheckOptions {
        /// Move what is damaged to the folder `quarantine`.
        pub repair: bool,
        /// Do not compare trees, nor the disks that are kept.
        pub skip_trees: bool,
        /// Read no faster than this; `None` is as fast as it goes.
        pub bytes_per_second: Option<u64>,
        /// What may end the check early.
        pub interrupt: Interrupt,
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What is wrong.
    pub problem: Problem,
    /// The object, by its place in the store: `layers/sha256-<hex>.tar.gz`.
    pub object: String,
    /// One line for a reader.
    pub message: String,
    /// It was moved out of the way.
    pub quarantined: bool,
}

/// What can be wrong with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// It is there, and is not what it was.
    Damaged,
    /// An image needs it, and it is not there.
    Missing,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// Objects that were looked at: blobs, trees, disks, names, leases.
    pub objects: u64,
    /// Bytes that were read of them.
    pub bytes: u64,
    /// Trees that could not be compared: of boxlite 0.9, without a record, or with directories that this user may not
    /// enter. Disks whose layers have none of their own any more.
    pub skipped: u64,
    /// What is wrong, at most one finding an object.
    pub findings: Vec<Finding>,
}

impl Storage {
    /// Reads everything in the store and compares it with what it should be. Reading alone works in a read-only store.
    pub fn check(&self, options: &CheckOptions) -> Result<CheckReport> {
        let mut report = CheckReport::default();
        self.check_into(options, &mut report).map(|()| report)
    }

    /// The same; what was found is in the report also where the check ends early.
    pub fn check_into(&self, options: &CheckOptions, report: &mut CheckReport) -> Result<()> {
        self.directory.check_not_forked()?;
        if options.repair {
            self.directory.check_writable()?;
        }
        let pace = ReadRate::new(options.bytes_per_second, &options.interrupt);
        let mut check =
            Check { storage: self, options, pace, report, damaged_trees: HashSet::new(), judged_disks: HashSet::new() };
        let result = check.everything();
        report.bytes = check.pace.bytes;
        result
    }
}

struct Check<'a> {
    storage: &'a Storage,
    options: &'a CheckOptions,
    pace: ReadRate<'a>,
    report: &'a mut CheckReport,
    /// Extracted trees that are not what they should be: disks are made of some of them.
    damaged_trees: HashSet<String>,
    /// Disks that were judged by a tree whose file they have, too.
    judged_disks: HashSet<String>,
}

impl Check<'_> {
    fn everything(&mut self) -> Result<()> {
        for area in [Folder::Manifests, Folder::Configs, Folder::Layers] {
            self.blobs(area)?;
        }
        if !self.options.skip_trees {
            self.trees()?;
            self.disks()?;
        }
        // After the blobs: what was moved away is now missing.
        self.names()?;
        self.leases()
    }

    fn blobs(&mut self, area: Folder) -> Result<()> {
        for (name, object) in self.storage.objects(area)? {
            let Some(file) = self.open(area, &name)? else { continue };
            self.report.objects += 1;
            let stat = stat_of(&file)?;
            match hash(file.as_fd(), &object.digest, &mut self.pace)? {
                Ok(actual) if actual == object.digest => {}
                Ok(actual) => self.damaged(area, &name, &stat, format!("hashes to {actual}"))?,
                Err(why) => self.damaged(area, &name, &stat, why)?,
            }
        }
        Ok(())
    }

    /// A file of the store; what is none, or what the disk has lost, is a finding.
    fn open(&mut self, area: Folder, name: &str) -> Result<Option<OwnedFd>> {
        let directory = &self.storage.directory;
        match directory.open_file(area, name) {
            Ok(None) => {
                // A directory, a symlink: it is in the way of a file.
                if let Some(stat) = directory.stat(area, name)?.filter(|stat| !is_regular(stat)) {
                    self.report.objects += 1;
                    self.damaged(area, name, &stat, "is not a regular file".into())?;
                }
                Ok(None)
            }
            Err(error) if is_damage(&error) => {
                self.report.objects += 1;
                // Which file it is cannot be known, so it is not moved.
                self.find(area, name, error.message(), false);
                Ok(None)
            }
            other => other,
        }
    }

    fn trees(&mut self) -> Result<()> {
        let objects = self.storage.objects(Folder::Extracted)?;
        for (name, object) in objects.into_iter().filter(|(_, object)| !object.is_beside_tree) {
            // As long as it is open no other tree gets its inode: what is judged can be told from what comes after it.
            let tree = match self.open_tree(&name) {
                Err(error) if error.status() == Status::Permission => {
                    self.report.objects += 1;
                    self.report.skipped += 1;
                    continue;
                }
                Err(error) if is_damage(&error) => {
                    self.report.objects += 1;
                    self.find(Folder::Extracted, &name, error.message(), false);
                    self.damaged_trees.insert(name);
                    continue;
                }
                tree => tree?,
            };
            let Some(tree) = tree else {
                // Something of another kind is in the way of a tree.
                if let Some(stat) =
                    self.storage.directory.stat(Folder::Extracted, &name)?.filter(|stat| !is_tree(&name, stat))
                {
                    self.report.objects += 1;
                    let wanted = if is_file(&name) { "regular file" } else { "directory" };
                    self.damaged(Folder::Extracted, &name, &stat, format!("is not a {wanted}"))?;
                }
                continue;
            };
            self.report.objects += 1;
            let stat = stat_of(&tree)?;
            let verdict = match self.tree(tree.as_fd(), &name, &object.digest) {
                Err(error) if error.status() == Status::Permission => {
                    self.report.skipped += 1;
                    continue;
                }
                // It went away while it was read.
                Err(error) if error.status() == Status::NotFound => continue,
                Err(error) if is_damage(&error) => Some(TreeDamage::content(error.message())),
                verdict => verdict?,
            };
            if let Some(TreeDamage { why, is_content }) = verdict {
                if is_content {
                    self.disks_with(&name, sys::file_id(&stat))?;
                }
                self.damaged(Folder::Extracted, &name, &stat, why)?;
                self.damaged_trees.insert(name);
            }
        }
        Ok(())
    }

    /// Disks that have the file of a tree whose bytes are damaged. They go before it: afterwards nothing would tell.
    fn disks_with(&mut self, tree: &str, id: (u64, u64)) -> Result<()> {
        let storage = self.storage;
        for (name, _) in storage.objects(Folder::Disks)? {
            let Some(folder) = storage.directory.open_directory(Folder::Disks, &name)? else { continue };
            let Described::Good(description) = storage.describe_kept_disk(folder.as_fd())? else { continue };
            let has_it = description.has_file(folder.as_fd(), id);
            if has_it.map_err(|errno| Error::os(errno, format_args!("look at the files of {name}")))? {
                let stat = stat_of(&folder)?;
                self.report.objects += 1;
                self.damaged(Folder::Disks, &name, &stat, format!("has the file of {tree}, which is damaged"))?;
                self.judged_disks.insert(name);
            }
        }
        Ok(())
    }

    /// After the trees: a disk is compared with what its layers' disks come to.
    fn disks(&mut self) -> Result<()> {
        let storage = self.storage;
        for (name, _) in storage.objects(Folder::Disks)? {
            if self.judged_disks.contains(&name) {
                continue;
            }
            // As long as it is open no other directory gets its inode.
            let folder = match storage.directory.open_directory(Folder::Disks, &name) {
                Ok(Some(folder)) => folder,
                Ok(None) => {
                    if let Some(stat) = storage.directory.stat(Folder::Disks, &name)? {
                        self.report.objects += 1;
                        self.damaged(Folder::Disks, &name, &stat, "is not a directory".into())?;
                    }
                    continue;
                }
                Err(error) if is_damage(&error) => {
                    self.report.objects += 1;
                    self.find(Folder::Disks, &name, error.message(), false);
                    continue;
                }
                Err(error) => return Err(error),
            };
            self.report.objects += 1;
            let stat = stat_of(&folder)?;
            if let Some(why) = self.disk(&name, folder.as_fd())? {
                self.damaged(Folder::Disks, &name, &stat, why)?;
            }
        }
        Ok(())
    }

    fn disk(&mut self, name: &str, folder: BorrowedFd<'_>) -> Result<Option<String>> {
        let (pace, interrupt) = (&mut self.pace, &self.options.interrupt);
        let mut spend = |bytes| pace.spend(bytes);
        let judged = self.storage.verify_kept_disk((name, folder), &self.damaged_trees, interrupt, &mut spend);
        match judged {
            Ok(KeptDiskVerdict::Good) => return Ok(None),
            Ok(KeptDiskVerdict::Damaged(why)) => return Ok(Some(why)),
            // What power loss left of it, the next one to open the store for writing removes.
            Ok(KeptDiskVerdict::NoDescription) if was_opened_in_this_boot(&self.storage.directory)? => {
                return Ok(Some("its description is not what was written".into()));
            }
            Ok(KeptDiskVerdict::NoDescription | KeptDiskVerdict::Unknown) => {}
            // A layer's disk that is damaged is a finding of its own; this one cannot be judged by it.
            Err(error) if error.status() == Status::State => {}
            // It went away while it was read.
            Err(error) if error.status() == Status::NotFound => return Ok(None),
            Err(error) if is_damage(&error) => return Ok(Some(error.message().to_owned())),
            Err(error) => return Err(error),
        }
        self.report.skipped += 1;
        Ok(None)
    }

    fn open_tree(&self, name: &str) -> Result<Option<OwnedFd>> {
        let directory = &self.storage.directory;
        if is_file(name) {
            directory.open_file(Folder::Extracted, name)
        } else {
            directory.open_directory(Folder::Extracted, name)
        }
    }

    fn tree(&mut self, tree: BorrowedFd<'_>, name: &str, digest: &Digest) -> Result<Option<TreeDamage>> {
        let directory = &self.storage.directory;
        let record = match directory.open_file(Folder::Extracted, &record_name(name)) {
            Err(error) if is_damage(&error) => return Ok(Some(TreeDamage::record(error.message()))),
            record => record?,
        };
        let Some(record) = record else {
            if directory.trusts_existing_trees() {
                self.report.skipped += 1;
                return Ok(None);
            }
            return Ok(Some(TreeDamage::record("has no metadata record")));
        };
        let head = match RecordHead::read(record.as_fd()) {
            Err(error) if is_damage(&error) => return Ok(Some(TreeDamage::record(error.message()))),
            head => head?,
        };
        let Some(head) = head else {
            // What power loss left of it, the next one to open the store for writing removes.
            if !was_opened_in_this_boot(directory)? {
                self.report.skipped += 1;
                return Ok(None);
            }
            return Ok(Some(TreeDamage::record("its metadata record is damaged")));
        };
        if head.layer != digest.to_string() {
            let why = format!("its metadata record is of {}", quoted(head.layer.as_bytes()));
            return Ok(Some(TreeDamage::record(&why)));
        }
        // A disk's says where content is, and by which recipe; a directory's does not.
        if head.recipe.is_some() != is_file(name) {
            return Ok(Some(TreeDamage::record("its metadata record is of another kind of tree")));
        }
        let counts = head.validity == Validity::Durable || head.validity == Validity::this_boot(directory.boot_id());
        if !counts || head.lines.is_none() || !is_current(name, &head) {
            self.report.skipped += 1;
            return Ok(None);
        }
        let Some(form) = TreeForm::of_tree_name(name, digest) else { return Ok(None) };
        let mut spend = |bytes| self.pace.spend(bytes);
        let content = |verdict: Verdict| verdict.map(|why| TreeDamage { why, is_content: true });
        if form.erofs {
            if let Some(why) = verify_layer_record(&record, &head, &mut spend)? {
                return Ok(Some(TreeDamage::record(&why)));
            }
            let verdict = verify_layer_disk(tree, &record, &head, &self.options.interrupt, &mut spend)?;
            if verdict.is_none() {
                self.block_hashes(tree, name, &head)?;
            }
            return Ok(content(verdict));
        }
        let folder = directory.area(Folder::Extracted)?;
        verify_tree(folder, tree, record.as_fd(), &head, form, &mut spend).map(content)
    }

    /// Hashes that are kept of a layer's disk, which is what was written. They may be of what it once had.
    fn block_hashes(&mut self, disk: BorrowedFd<'_>, name: &str, head: &RecordHead) -> Result<()> {
        let (storage, kept) = (self.storage, hashes_name(name));
        let file = match self.open(Folder::Extracted, &kept) {
            // Nobody else can take them for its hashes either.
            Err(error) if error.status() == Status::Permission => None,
            file => file?,
        };
        let Some((diff_id, file)) = head.diff_id.as_ref().zip(file) else { return Ok(()) };
        let disk = disk.try_clone_to_owned().map_err(|cause| Error::io(&cause, format_args!("open {name}")))?;
        let pace = &mut self.pace;
        if storage.verify_block_hashes(name, (disk, diff_id), &mut |bytes| pace.spend(bytes))? {
            return Ok(());
        }
        self.damaged(Folder::Extracted, &kept, &stat_of(&file)?, "is not what the blocks of its disk hash to".into())
    }

    fn names(&mut self) -> Result<()> {
        for (file_name, _) in self.storage.objects(Folder::Names)? {
            self.options.interrupt.check()?;
            let (stat, tagged) = match self.storage.name_file(&file_name) {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(error) if is_damage(&error) => {
                    self.find(Folder::Names, &file_name, error.message(), false);
                    continue;
                }
                Err(error) => return Err(error),
            };
            self.report.objects += 1;
            let tagged = match tagged {
                Err(error) if is_damage(&error) => {
                    self.damaged(Folder::Names, &file_name, &stat, error.message().to_owned())?;
                    continue;
                }
                tagged => tagged?,
            };
            self.bundled(&tagged.manifest)?;
            let missing = self.missing(&tagged.manifest)?;
            // An image that was removed or moved on meanwhile needs nothing of this.
            if missing.is_empty() || self.storage.image(&tagged.name).is_ok_and(|now| now.manifest != tagged.manifest) {
                continue;
            }
            if self.storage.image(&tagged.name).is_ok() {
                let missing: Vec<String> = missing.iter().map(Digest::to_string).collect();
                self.report.findings.push(Finding {
                    problem: Problem::Missing,
                    object: format!("{}/{file_name}", Folder::Names.name()),
                    message: format!("image {} lacks {}", tagged.name, missing.join(", ")),
                    quarantined: false,
                });
            }
        }
        Ok(())
    }

    /// The layers of an image that are a bundle's files.
    fn bundled(&mut self, manifest: &Digest) -> Result<()> {
        let Ok(manifest) = self.storage.load_image_manifest(manifest) else { return Ok(()) };
        for layer in &manifest.layers {
            let Some(file) = self.storage.open_bundled(&layer.digest)? else { continue };
            self.report.objects += 1;
            let why = match hash(file.as_fd(), &layer.digest, &mut self.pace)? {
                Ok(actual) if actual == layer.digest => continue,
                Ok(actual) => format!("hashes to {actual}"),
                Err(why) => why,
            };
            let object = self.storage.layer_tarball_path(&layer.digest).display().to_string();
            let message = format!("{object}: {why}");
            self.report.findings.push(Finding { problem: Problem::Damaged, object, message, quarantined: false });
        }
        Ok(())
    }

    /// What an image needs and cannot be read.
    fn missing(&self, digest: &Digest) -> Result<Vec<Digest>> {
        let manifest = match self.storage.load_image_manifest(digest) {
            Ok(manifest) => manifest,
            Err(error) if error.status() == Status::NotFound || is_damage(&error) => return Ok(vec![digest.clone()]),
            Err(error) => return Err(error),
        };
        match self.storage.missing_blobs(&manifest) {
            Err(error) if is_damage(&error) => Ok(vec![manifest.config.digest]),
            missing => missing,
        }
    }

    fn leases(&mut self) -> Result<()> {
        for name in self.storage.lease_files()? {
            self.options.interrupt.check()?;
            let Some(file) = self.open(Folder::Leases, &name)? else { continue };
            self.report.objects += 1;
            match check_lease(file.as_fd()) {
                Err(error) if is_damage(&error) => {
                    let stat = stat_of(&file)?;
                    self.damaged(Folder::Leases, &name, &stat, error.message().to_owned())?;
                }
                other => other?,
            }
        }
        Ok(())
    }

    fn find(&mut self, area: Folder, name: &str, why: &str, quarantined: bool) {
        let object = format!("{}/{name}", area.name());
        let message = format!("{object}: {why}");
        tracing::warn!("{message}");
        self.report.findings.push(Finding { problem: Problem::Damaged, object, message, quarantined });
    }

    /// Notes that an object is not what it should be. Moves it away where that was asked for,
    /// unless it is another one by now.
    fn damaged(&mut self, area: Folder, name: &str, judged: &Stat, why: String) -> Result<()> {
        let quarantined = if self.options.repair {
            match self.quarantine(area, name, judged)? {
                Some(quarantined) => quarantined,
                None => return Ok(()),
            }
        } else if !self.is_same(area, name, judged)? {
            return Ok(());
        } else {
            false
        };
        self.find(area, name, &why, quarantined);
        Ok(())
    }

    /// `None` where the object is another one by now; false where somebody is at work on it.
    fn quarantine(&self, area: Folder, name: &str, judged: &Stat) -> Result<Option<bool>> {
        let directory = &self.storage.directory;
        // Whoever publishes shares this lock, so that the object stays what it is between the look and the move.
        let _collection = CollectionLock::exclusive(directory, &self.options.interrupt)?;
        let lock = match area {
            Folder::Extracted => Some(EXTRACTION_LOCK),
            Folder::Disks => Some(DISK_LOCK),
            _ => None,
        };
        let making = lock
            .map(|lock| Lock::try_acquire(directory, format!("{lock}{name}")))
            .transpose()
            .map_err(|errno| Error::os(errno, format_args!("lock the making of {name}")))?;
        // Before the look at the lock: what is gone was rightly so, also where somebody makes it anew at this moment.
        if !self.is_same(area, name, judged)? {
            return Ok(None);
        }
        if matches!(making, Some(None)) {
            return Ok(Some(false));
        }
        let mut names = vec![name.to_owned()];
        if area == Folder::Extracted {
            // Hashes may be of what was damaged.
            names.extend([record_name(name), hashes_name(name)]);
        }
        for name in &names {
            Partial::take_to_quarantine(directory, area, name)?;
        }
        directory.sync_area(area)?;
        Ok(Some(true))
    }

    fn is_same(&self, area: Folder, name: &str, judged: &Stat) -> Result<bool> {
        let now = self.storage.directory.stat(area, name)?;
        Ok(now.is_some_and(|now| (now.st_dev, now.st_ino) == (judged.st_dev, judged.st_ino)))
    }
}

/// What is wrong with a tree.
struct TreeDamage {
    why: String,
    /// Its own bytes, and not its record alone.
    is_content: bool,
}

impl TreeDamage {
    fn content(why: &str) -> TreeDamage {
        TreeDamage { why: why.to_owned(), is_content: true }
    }

    fn record(why: &str) -> TreeDamage {
        TreeDamage { why: why.to_owned(), is_content: false }
    }
}

/// Whether a tree of this name is a file, with a file system in it.
fn is_file(name: &str) -> bool {
    name.ends_with(EROFS_SUFFIX)
}

/// Whether an error says that an object is not what it was; any other says nothing of it, and ends the check.
fn is_damage(error: &Error) -> bool {
    error.status() == Status::Malformed || error.os_errno().is_some_and(sys::is_damage)
}

fn stat_of(file: &OwnedFd) -> Result<Stat> {
    rustix::fs::fstat(file).map_err(|errno| Error::os(errno, "look at an object"))
}
