//! Extracted trees: which of them count, and the head of the metadata record that says so.
//!
//! Syncing tens of thousands of files would cost more than unpacking them, so a tree becomes visible without. Its record
//! says in which boot of the machine it was made, and after the next one the tree counts as absent, because it may lack
//! what was never written; its layer is there to unpack again. Whoever opens the store first in a boot removes such trees,
//! so that a path in `extracted` never leads to one. Meanwhile [`super::syncer`] has the file system flushed
//! and then writes "durable" into the record. A tree whose record is missing or does not match its own checksum is
//! absent too: nothing about a tree has to reach the disk in any order.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::Stat;
use rustix::io::Errno;
use twox_hash::XxHash3_64;

use super::directory::{Area, Directory};
use super::lock::Lock;
use super::partial::{Partial, Trash, is_tree_name};
use super::{EXTRACTION_LOCK, Storage};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::sys::{self, is_directory};

/// What follows a tree's name in the name of its metadata record, which lies beside it.
pub(crate) const RECORD_SUFFIX: &str = ".mtree";

/// Bytes of a record's head, padded with newlines: one sector, so that a mark is written in one piece.
pub(crate) const HEAD_LEN: usize = 512;

/// How often a head is read that looks damaged.
const READS: u32 = 3;
/// Names the last boot in which the store was opened.
pub(super) const BOOT_FILE: &str = "boot";

const MAGIC: &str = "#mtree v2.0\n";
const LAYER: &str = "# layer ";
const DIFF_ID: &str = "# diff_id ";
const ANOMALIES: &str = "# anomalies ";
const CONTENT: &str = "# content ";
const LINES: &str = "# lines ";
const MAKER: &str = "# maker ";
const DURABLE: &str = "# durable";
const BOOT: &str = "# boot ";
const SUM: &str = "# head ";
/// Of a machine that does not tell one boot from another.
const UNKNOWN_BOOT: &str = "unknown";

/// What a record's head says.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) layer: String,
    /// Digest of the uncompressed layer; `None` for a tree that boxlite 0.9 made, of which nothing more is known.
    pub(crate) diff_id: Option<Digest>,
    /// The bits of what was odd about the layer.
    pub(crate) anomalies: Option<u64>,
    /// Bytes of all files in the tree.
    pub(crate) content: Option<u64>,
    /// XXH3 of everything after the head.
    pub(crate) lines: Option<u64>,
    /// Who made the tree. Who sees that otherwise cannot compare the tree's owners.
    pub(crate) maker: Option<Maker>,
    pub(crate) mark: Mark,
}

/// Who has the files of a tree that nobody gave another owner, and the user namespace ([`sys::user_namespace`]) in which that
/// was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Maker {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    namespace: u32,
}

impl Maker {
    /// Of a tree that is being made by this process.
    pub(crate) fn new((uid, gid): (u32, u32)) -> Maker {
        Maker { uid, gid, namespace: sys::user_namespace() }
    }

    /// Whether this process sees owners as the maker did: the record, which is the maker's, is.
    pub(crate) fn sees_the_same(self, record: &Stat) -> bool {
        self.uid == record.st_uid && self.namespace == sys::user_namespace()
    }

    fn parse(text: &str) -> Option<Maker> {
        let mut parts = text.split(' ');
        let mut next = || parts.next();
        let (uid, gid) = (next()?.parse().ok()?, next()?.parse().ok()?);
        Some(Maker { uid, gid, namespace: u32::from_str_radix(next()?, 16).ok()? })
    }
}

/// How long a tree counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Everything of it was synced.
    Durable,
    /// Until the machine starts again: the kernel's name for this boot.
    Volatile(String),
}

impl Mark {
    /// Of a tree that the disk refused.
    pub(super) fn never() -> Mark {
        Mark::Volatile("never".to_owned())
    }

    pub(crate) fn volatile(boot_id: Option<&str>) -> Mark {
        Mark::Volatile(boot_id.unwrap_or(UNKNOWN_BOOT).to_owned())
    }
}

impl Head {
    /// The head's bytes.
    pub(crate) fn to_bytes(&self) -> [u8; HEAD_LEN] {
        let mut text = format!("{MAGIC}{LAYER}{}\n", self.layer);
        let mut line = |key: &str, value: String| text.push_str(&format!("{key}{value}\n"));
        self.diff_id.iter().for_each(|diff_id| line(DIFF_ID, diff_id.to_string()));
        self.anomalies.iter().for_each(|bits| line(ANOMALIES, bits.to_string()));
        self.content.iter().for_each(|content| line(CONTENT, content.to_string()));
        self.lines.iter().for_each(|sum| line(LINES, format!("{sum:016x}")));
        self.maker.iter().for_each(|maker| {
            line(MAKER, format!("{} {} {:08x}", maker.uid, maker.gid, maker.namespace));
        });
        match &self.mark {
            Mark::Durable => line(DURABLE, String::new()),
            Mark::Volatile(boot) => line(BOOT, boot.clone()),
        }
        let sum = XxHash3_64::oneshot(text.as_bytes());
        text.push_str(&format!("{SUM}{sum:016x}\n"));
        padded(&text)
    }

    /// The head of a record; `None` for a file that has none, or a damaged one.
    pub(crate) fn read(record: BorrowedFd<'_>) -> Result<Option<Head>> {
        for _ in 0..READS {
            let bytes = sys::read_start(record, HEAD_LEN).map_err(|errno| Error::os(errno, "read it"))?;
            let head = std::str::from_utf8(&bytes).ok().filter(|text| text.len() == HEAD_LEN).and_then(Head::parse);
            if head.is_some() {
                return Ok(head);
            }
            // A mark may be being written at this moment, and nothing says that we see all or nothing of it.
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(None)
    }

    fn parse(text: &str) -> Option<Head> {
        let (summed, sum) = text.split_at(text.find(SUM)?);
        let sum = sum.strip_prefix(SUM)?;
        if u64::from_str_radix(sum.get(..16)?, 16).ok()? != XxHash3_64::oneshot(summed.as_bytes())
            || sum.bytes().skip(16).any(|byte| byte != b'\n')
        {
            return None;
        }
        let summed = summed.strip_prefix(MAGIC)?;
        let value = |key: &str| summed.lines().find_map(|line| line.strip_prefix(key));
        Some(Head {
            layer: value(LAYER)?.to_owned(),
            diff_id: value(DIFF_ID).and_then(|text| Digest::parse(text).ok()),
            anomalies: value(ANOMALIES).and_then(|text| text.parse().ok()),
            content: value(CONTENT).and_then(|text| text.parse().ok()),
            lines: value(LINES).and_then(|text| u64::from_str_radix(text, 16).ok()),
            maker: value(MAKER).and_then(Maker::parse),
            mark: match value(BOOT) {
                Some(boot) => Mark::Volatile(boot.to_owned()),
                None => value(DURABLE).map(|_| Mark::Durable)?,
            },
        })
    }

    /// Writes the head over the one that is there.
    pub(crate) fn write(&self, record: BorrowedFd<'_>) -> Result<(), Errno> {
        sys::write_all_at(record, &self.to_bytes(), 0)
    }
}

/// The head of a record, as long as all of them are.
pub(crate) fn padded(text: &str) -> [u8; HEAD_LEN] {
    let mut bytes = [b'\n'; HEAD_LEN];
    let length = text.len().min(HEAD_LEN);
    bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
    bytes
}

impl Storage {
    /// Bytes of the files in a tree, by its name; 0 for one of boxlite 0.9, and for none.
    pub(crate) fn tree_content(&self, name: &str) -> Result<u64> {
        Ok(tree_head(&self.directory, name)?.and_then(|head| head.content).unwrap_or(0))
    }

    /// What the record of a tree says, if there is a tree that counts. Whoever asks is about to use it, so it is made
    /// durable where it is not.
    pub(crate) fn tree_for_use(&self, name: &str) -> Result<Option<Head>> {
        let head = tree_head(&self.directory, name)?;
        if head.as_ref().is_some_and(|head| head.mark != Mark::Durable) {
            self.directory.make_durable(name);
        }
        Ok(head)
    }

    /// A tree's record, if the tree counts and has one of ours.
    pub(crate) fn tree_record(&self, name: &str) -> Result<Option<OwnedFd>> {
        let Some(head) = tree_head(&self.directory, name)? else { return Ok(None) };
        match head.lines {
            Some(_) => self.directory.open_file(Area::Extracted, &record_name(name)),
            None => Ok(None),
        }
    }
}

pub(crate) fn record_name(tree: &str) -> String {
    format!("{tree}{RECORD_SUFFIX}")
}

/// What the record of a tree says, if there is a tree that counts.
pub(crate) fn tree_head(directory: &Directory, name: &str) -> Result<Option<Head>> {
    if !directory.stat(Area::Extracted, name)?.is_some_and(|stat| is_directory(&stat)) {
        return Ok(None);
    }
    let Some(record) = directory.open_file(Area::Extracted, &record_name(name))? else {
        return Ok(directory.takes_trees_as_they_are().then(|| adopted(name)));
    };
    let head = match Head::read(record.as_fd()) {
        // A record that the disk has lost is no record.
        Err(error) if error.os_errno().is_some_and(sys::is_damage) => None,
        head => head.map_err(|error| {
            error.context(format_args!("read {}", directory.object_path(Area::Extracted, &record_name(name)).display()))
        })?,
    };
    Ok(head.filter(|head| match &head.mark {
        Mark::Durable => true,
        volatile => *volatile == Mark::volatile(directory.boot_id()),
    }))
}

/// Gives the trees of a store that boxlite 0.9 made their records: of these trees nothing is known but that they are
/// good. Those that it adds later have none, and are made again when they are needed.
pub(super) fn adopt(directory: &Arc<Directory>) -> Result<()> {
    let mut are_new = false;
    for name in trees(directory)? {
        if directory.stat(Area::Extracted, &record_name(&name))?.is_none() {
            are_new = true;
            let mut record = Partial::create_record(directory, Area::Extracted, &record_name(&name))?;
            record.write_all(&adopted(&name).to_bytes())?;
            record.publish(&record_name(&name), &Interrupt::default(), |_| Ok(true))?;
        }
    }
    // Records and trees, before the file that says that there is nothing to adopt.
    if are_new { directory.sync_everything() } else { Ok(()) }
}

/// Removes the trees that do not count, where this is the first time in this boot that the store is opened. They become
/// leftovers, for the sweep.
pub(super) fn drop_unsynced(directory: &Arc<Directory>) -> Result<()> {
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
                Partial::take_to_trash(directory, Area::Extracted, &name)?.into_iter().for_each(Trash::leave);
            }
        }
    }
    let mut file = Partial::create_file(directory, Area::Root, BOOT_FILE)?;
    file.write_all(boot_id.as_bytes())?;
    file.publish(BOOT_FILE, &Interrupt::default(), |_| Ok(false))
}

/// Whether the store was opened for writing in this boot: until then there may be trees that do not count.
pub(crate) fn was_opened_in_this_boot(directory: &Directory) -> Result<bool> {
    let Some(boot_id) = directory.boot_id() else { return Ok(true) };
    let Some(file) = directory.open_file(Area::Root, BOOT_FILE)? else { return Ok(false) };
    let bytes = sys::read_start(file.as_fd(), boot_id.len()).map_err(|errno| Error::os(errno, "read it"))?;
    Ok(bytes == boot_id.as_bytes())
}

/// Names of directories that are trees.
fn trees(directory: &Directory) -> Result<Vec<String>> {
    let fail = |errno| Error::os(errno, format_args!("list {}/extracted", directory.path().display()));
    let mut trees = Vec::new();
    let mut names = Vec::new();
    let mut note = |name: &std::ffi::CStr| {
        names.extend(name.to_str().ok().filter(|name| is_tree_name(name)).map(str::to_owned));
    };
    sys::for_each_name(directory.area(Area::Extracted)?, &mut note).map_err(fail)?;
    for name in names {
        if directory.stat(Area::Extracted, &name)?.is_some_and(|stat| is_directory(&stat)) {
            trees.push(name);
        }
    }
    Ok(trees)
}

fn adopted(name: &str) -> Head {
    let layer = name.replacen('-', ":", 1);
    Head { layer, diff_id: None, anomalies: None, content: None, lines: None, maker: None, mark: Mark::Durable }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_what_was_written_or_nothing() {
        let digest = Digest::of(b"x");
        let long = format!("sha512:{}", "a".repeat(128));
        for mark in [Mark::Durable, Mark::volatile(Some("00000000-0000-0000-0000-000000000000")), Mark::volatile(None)]
        {
            let head = Head {
                layer: long.clone(),
                diff_id: Some(Digest::parse(&long).unwrap()),
                anomalies: Some(u64::MAX),
                content: Some(u64::MAX),
                lines: Some(u64::MAX),
                maker: Some(Maker { uid: u32::MAX, gid: u32::MAX, namespace: u32::MAX }),
                mark,
            };
            let bytes = head.to_bytes();
            assert_eq!(bytes.len(), HEAD_LEN);
            let file = tempfile::tempfile().unwrap();
            head.write(file.as_fd()).unwrap();
            let again = Head::read(file.as_fd()).unwrap().unwrap();
            assert_eq!((&again.mark, again.lines, again.anomalies), (&head.mark, head.lines, head.anomalies));
            assert_eq!(again.maker, head.maker);
            for at in 0..HEAD_LEN {
                let mut flipped = bytes;
                flipped[at] ^= 1;
                let text = String::from_utf8(flipped.to_vec()).unwrap();
                assert!(Head::parse(&text).is_none(), "byte {at} says nothing");
            }
        }
        let file = tempfile::tempfile().unwrap();
        assert!(Head::read(file.as_fd()).unwrap().is_none());
        assert_eq!(adopted(&digest.file_stem()).layer, digest.to_string());
    }
}
