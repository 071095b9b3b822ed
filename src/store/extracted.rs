//! Extracted trees: which of them count, by the heads of their metadata records.
//!
//! Syncing tens of thousands of files would cost more than unpacking them, so a tree becomes
//! visible without. Its record says in which boot of the machine it was made. After the next one
//! the tree counts as absent, because it may lack what was never written. Its layer is there to
//! unpack again. Whoever opens the store first in a boot removes such trees, so that a path in
//! `extracted` never leads to one. Meanwhile [`super::writeback`] has the file system flushed and
//! then writes "durable" into the record. A tree whose record is missing or does not match its own
//! checksum is absent too. Nothing about a tree has to reach the disk in any order.
//!
//! A tree is a directory, or, by its name, a file with a file system in it. All of this holds for both.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::fs::Stat;

use super::lock::{EXTRACTION_LOCK, Lock};
use super::partial::{Partial, Removal, is_tree_name};
use super::storage::Storage;
use super::store_dir::{BOOT_FILE, Folder, StoreDir};
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::record::{DISK_RECIPE, EROFS_SUFFIX, RecordHead, Validity, record_name};
use crate::sys::{self, is_directory, is_regular};

impl Storage {
    /// Bytes of a tree, by its name; 0 for none.
    pub(crate) fn tree_content(&self, name: &str) -> Result<u64> {
        match self.directory.stat(Folder::Extracted, name)?.filter(|stat| is_tree(name, stat)) {
            Some(stat) => self.tree_bytes(name, &stat),
            None => Ok(0),
        }
    }

    /// The same by its name and status: of a directory those of the files in it, as its record
    /// says. 0 for one of boxlite 0.9.
    pub(super) fn tree_bytes(&self, name: &str, stat: &Stat) -> Result<u64> {
        if is_regular(stat) {
            return Ok(stat.st_size as u64);
        }
        Ok(tree_head(&self.directory, name)?.and_then(|head| head.content).unwrap_or(0))
    }

    /// What the record of a tree says, if there is a tree that counts. Whoever asks is about to use it, so it is made
    /// durable where it is not.
    pub(crate) fn tree_for_use(&self, name: &str) -> Result<Option<RecordHead>> {
        let head = tree_head(&self.directory, name)?;
        if head.as_ref().is_some_and(|head| head.validity != Validity::Durable) {
            self.directory.make_durable(name);
        }
        Ok(head)
    }

    /// A tree's record, if the tree counts and has one of ours.
    pub(crate) fn tree_record(&self, name: &str) -> Result<Option<OwnedFd>> {
        let Some(head) = tree_head(&self.directory, name)? else { return Ok(None) };
        match head.lines {
            Some(_) => self.directory.open_file(Folder::Extracted, &record_name(name)),
            None => Ok(None),
        }
    }
}

/// Whether what has a tree's name is what the name says: a directory, or a file with a file system in it.
pub(crate) fn is_tree(name: &str, stat: &Stat) -> bool {
    if name.ends_with(EROFS_SUFFIX) { is_regular(stat) } else { is_directory(stat) }
}

/// Whether a tree is what would be made today: a disk by another recipe has other bytes.
pub(crate) fn is_current(name: &str, head: &RecordHead) -> bool {
    !name.ends_with(EROFS_SUFFIX) || head.recipe == Some(DISK_RECIPE)
}

/// What the record of a tree says, if there is a tree that counts.
pub(crate) fn tree_head(directory: &StoreDir, name: &str) -> Result<Option<RecordHead>> {
    if !directory.stat(Folder::Extracted, name)?.is_some_and(|stat| is_tree(name, &stat)) {
        return Ok(None);
    }
    let Some(record) = directory.open_file(Folder::Extracted, &record_name(name))? else {
        return Ok(directory.trusts_existing_trees().then(|| adopted(name)));
    };
    let head = match RecordHead::read(record.as_fd()) {
        // A record that the disk has lost is no record.
        Err(error) if error.os_errno().is_some_and(sys::is_damage) => None,
        head => head.map_err(|error| {
            error.context(format_args!(
                "read {}",
                directory.object_path(Folder::Extracted, &record_name(name)).display()
            ))
        })?,
    };
    Ok(head.filter(|head| is_current(name, head)).filter(|head| match &head.validity {
        Validity::Durable => true,
        volatile => *volatile == Validity::this_boot(directory.boot_id()),
    }))
}

/// Gives the trees of a store that boxlite 0.9 made their records: of these trees nothing is known but that they are
/// good. Those that it adds later have none, and are made again when they are needed.
pub(super) fn adopt(directory: &Arc<StoreDir>) -> Result<()> {
    let mut are_new = false;
    for name in trees(directory)? {
        if directory.stat(Folder::Extracted, &record_name(&name))?.is_none() {
            are_new = true;
            let mut record = Partial::create_tree_file(directory, Folder::Extracted, &record_name(&name))?;
            record.write_all(&adopted(&name).to_bytes())?;
            record.publish(&record_name(&name), &Interrupt::default(), |_| Ok(true))?;
        }
    }
    // Records and trees, before the file that says that there is nothing to adopt.
    if are_new { directory.sync_everything() } else { Ok(()) }
}

/// Removes the trees that do not count, where this is the first time in this boot that the store is opened. They become
/// leftovers, for the sweep.
pub(super) fn drop_unsynced(directory: &Arc<StoreDir>) -> Result<()> {
    let Some(boot_id) = directory.boot_id() else { return Ok(()) };
    if was_opened_in_this_boot(directory)? {
        return Ok(());
    }
    for name in trees(directory)? {
        let lock = Lock::try_acquire(directory, format!("{EXTRACTION_LOCK}{name}"))
            .map_err(|errno| Error::os(errno, format_args!("lock the extraction of {name}")))?;
        if lock.is_some() && tree_head(directory, &name)?.is_none() {
            tracing::info!("{name} was not synced before the machine started anew, and is removed");
            for name in [record_name(&name), name] {
                Partial::take_to_trash(directory, Folder::Extracted, &name)?.into_iter().for_each(Removal::leave);
            }
        }
    }
    super::kept_disks::drop_unsynced(directory)?;
    let mut file = Partial::create_file(directory, Folder::Root, BOOT_FILE)?;
    file.write_all(boot_id.as_bytes())?;
    file.publish(BOOT_FILE, &Interrupt::default(), |_| Ok(false))
}

/// Whether the store was opened for writing in this boot: until then there may be trees that do not count.
pub(crate) fn was_opened_in_this_boot(directory: &StoreDir) -> Result<bool> {
    let Some(boot_id) = directory.boot_id() else { return Ok(true) };
    let Some(file) = directory.open_file(Folder::Root, BOOT_FILE)? else { return Ok(false) };
    let bytes = sys::read_start(file.as_fd(), boot_id.len()).map_err(|errno| Error::os(errno, "read it"))?;
    Ok(bytes == boot_id.as_bytes())
}

/// Names of trees.
fn trees(directory: &StoreDir) -> Result<Vec<String>> {
    let fail = |errno| Error::os(errno, format_args!("list {}/extracted", directory.path().display()));
    let mut trees = Vec::new();
    let mut names = Vec::new();
    let mut note = |name: &std::ffi::CStr| {
        names.extend(name.to_str().ok().filter(|name| is_tree_name(name)).map(str::to_owned));
    };
    sys::for_each_name(directory.area(Folder::Extracted)?, &mut note).map_err(fail)?;
    for name in names {
        if directory.stat(Folder::Extracted, &name)?.is_some_and(|stat| is_tree(&name, &stat)) {
            trees.push(name);
        }
    }
    Ok(trees)
}

fn adopted(name: &str) -> RecordHead {
    RecordHead::adopted(name.replacen('-', ":", 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn a_tree_of_an_older_program_is_of_the_layer_that_its_name_says() {
        let digest = Digest::of(b"x");
        assert_eq!(adopted(&digest.file_stem()).layer, digest.to_string());
    }
}
