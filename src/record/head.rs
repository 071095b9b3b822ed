//! The head of a record: which bytes a tree is (layer, diff_id), what was odd about them, and how long the tree counts. It has a
//! fixed length, since the digests are known last, and a checksum of its own.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::fs::Stat;
use rustix::io::Errno;
use twox_hash::XxHash3_64;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::sys;

/// What follows a tree's name in the name of its metadata record, which lies beside it.
pub(crate) const RECORD_SUFFIX: &str = ".mtree";
/// Behind the name of a tree that is a disk: hashes of its blocks.
pub(crate) const HASHES_SUFFIX: &str = ".verity";

/// What follows a layer's name in the name of a tree that is not a directory but an EROFS file system in a file.
pub(crate) const EROFS_SUFFIX: &str = ".erofs";

/// The version of how disks are made, and which of them count. Whatever changes a byte of one changes it.
pub(crate) const DISK_RECIPE: u32 = 2;

/// The name of the hashes of a tree's blocks.
pub(crate) fn hashes_name(tree: &str) -> String {
    format!("{tree}{HASHES_SUFFIX}")
}

/// The name of a tree's record.
pub(crate) fn record_name(tree: &str) -> String {
    format!("{tree}{RECORD_SUFFIX}")
}

/// Bytes of a record's head, padded with newlines: one sector, so that it is written in one piece.
pub(crate) const RECORD_HEAD_LEN: usize = 512;

/// How often a head is read that looks damaged.
const READS: u32 = 3;
const MAGIC: &str = "#mtree v2.0\n";
const LAYER: &str = "# layer ";
const DIFF_ID: &str = "# diff_id ";
const ANOMALIES: &str = "# anomalies ";
const CONTENT: &str = "# content ";
const LINES: &str = "# lines ";
const MAKER: &str = "# maker ";
const RECIPE: &str = "# recipe ";
const DURABLE: &str = "# durable";
const BOOT: &str = "# boot ";
const SUM: &str = "# head ";
/// Of a machine that does not tell one boot from another.
const UNKNOWN_BOOT: &str = "unknown";

/// What a record's head says.
#[derive(Clone, Debug)]
pub(crate) struct RecordHead {
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
    pub(crate) maker: Option<TreeOwner>,
    /// By which version of the recipe it was made, where the tree is a disk.
    pub(crate) recipe: Option<u32>,
    pub(crate) validity: Validity,
}

/// Who has the files of a tree that nobody gave another owner, and the user namespace ([`sys::user_namespace`]) in which that
/// was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TreeOwner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    namespace: u32,
}

impl TreeOwner {
    /// Of a tree that is being made by this process.
    pub(crate) fn new((uid, gid): (u32, u32)) -> TreeOwner {
        TreeOwner { uid, gid, namespace: sys::user_namespace() }
    }

    /// Whether this process sees owners as the maker did: the record, which is the maker's, is.
    pub(crate) fn sees_the_same(self, record: &Stat) -> bool {
        self.uid == record.st_uid && self.namespace == sys::user_namespace()
    }

    fn parse(text: &str) -> Option<TreeOwner> {
        let mut parts = text.split(' ');
        let mut next = || parts.next();
        let (uid, gid) = (next()?.parse().ok()?, next()?.parse().ok()?);
        Some(TreeOwner { uid, gid, namespace: u32::from_str_radix(next()?, 16).ok()? })
    }
}

/// How long a tree counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Validity {
    /// Everything of it was synced.
    Durable,
    /// Until the machine starts again: the kernel's name for this boot.
    UntilReboot(String),
}

impl Validity {
    /// Of a tree that the disk refused.
    pub(crate) fn never() -> Validity {
        Validity::UntilReboot("never".to_owned())
    }

    pub(crate) fn this_boot(boot_id: Option<&str>) -> Validity {
        Validity::UntilReboot(boot_id.unwrap_or(UNKNOWN_BOOT).to_owned())
    }
}

impl RecordHead {
    /// The head's bytes.
    pub(crate) fn to_bytes(&self) -> [u8; RECORD_HEAD_LEN] {
        let mut text = format!("{MAGIC}{LAYER}{}\n", self.layer);
        let mut line = |key: &str, value: String| text.push_str(&format!("{key}{value}\n"));
        self.diff_id.iter().for_each(|diff_id| line(DIFF_ID, diff_id.to_string()));
        self.anomalies.iter().for_each(|bits| line(ANOMALIES, bits.to_string()));
        self.content.iter().for_each(|content| line(CONTENT, content.to_string()));
        self.lines.iter().for_each(|sum| line(LINES, format!("{sum:016x}")));
        self.maker.iter().for_each(|maker| {
            line(MAKER, format!("{} {} {:08x}", maker.uid, maker.gid, maker.namespace));
        });
        self.recipe.iter().for_each(|recipe| line(RECIPE, recipe.to_string()));
        match &self.validity {
            Validity::Durable => line(DURABLE, String::new()),
            Validity::UntilReboot(boot) => line(BOOT, boot.clone()),
        }
        let sum = XxHash3_64::oneshot(text.as_bytes());
        text.push_str(&format!("{SUM}{sum:016x}\n"));
        padded(&text)
    }

    /// The head of a record; `None` for a file that has none, or a damaged one.
    pub(crate) fn read(record: BorrowedFd<'_>) -> Result<Option<RecordHead>> {
        for _ in 0..READS {
            let bytes = sys::read_start(record, RECORD_HEAD_LEN).map_err(|errno| Error::os(errno, "read it"))?;
            let head = std::str::from_utf8(&bytes)
                .ok()
                .filter(|text| text.len() == RECORD_HEAD_LEN)
                .and_then(RecordHead::parse);
            if head.is_some() {
                return Ok(head);
            }
            // A head may be being written at this moment, and nothing says that we see all or nothing of it.
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(None)
    }

    /// Of a tree of boxlite 0.9, of which nothing is known but which layer it is.
    pub(crate) fn adopted(layer: String) -> RecordHead {
        let validity = Validity::Durable;
        RecordHead {
            layer,
            diff_id: None,
            anomalies: None,
            content: None,
            lines: None,
            maker: None,
            recipe: None,
            validity,
        }
    }

    fn parse(text: &str) -> Option<RecordHead> {
        let (summed, sum) = text.split_at(text.find(SUM)?);
        let sum = sum.strip_prefix(SUM)?;
        if u64::from_str_radix(sum.get(..16)?, 16).ok()? != XxHash3_64::oneshot(summed.as_bytes())
            || sum.bytes().skip(16).any(|byte| byte != b'\n')
        {
            return None;
        }
        let summed = summed.strip_prefix(MAGIC)?;
        let value = |key: &str| summed.lines().find_map(|line| line.strip_prefix(key));
        Some(RecordHead {
            layer: value(LAYER)?.to_owned(),
            diff_id: value(DIFF_ID).and_then(|text| Digest::parse(text).ok()),
            anomalies: value(ANOMALIES).and_then(|text| text.parse().ok()),
            content: value(CONTENT).and_then(|text| text.parse().ok()),
            lines: value(LINES).and_then(|text| u64::from_str_radix(text, 16).ok()),
            maker: value(MAKER).and_then(TreeOwner::parse),
            recipe: value(RECIPE).and_then(|text| text.parse().ok()),
            validity: match value(BOOT) {
                Some(boot) => Validity::UntilReboot(boot.to_owned()),
                None => value(DURABLE).map(|_| Validity::Durable)?,
            },
        })
    }

    /// Writes the head over the one that is there.
    pub(crate) fn write(&self, record: BorrowedFd<'_>) -> Result<(), Errno> {
        sys::write_all_at(record, &self.to_bytes(), 0)
    }
}

/// The head of the record of a root file system, which is made of all of an image's layers.
pub(crate) fn image_head(image: &Digest, content: u64, lines: u64) -> [u8; RECORD_HEAD_LEN] {
    padded(&format!("{MAGIC}# image {image}\n{CONTENT}{content}\n{LINES}{lines:016x}\n"))
}

/// The head of a record, as long as all of them are.
fn padded(text: &str) -> [u8; RECORD_HEAD_LEN] {
    let mut bytes = [b'\n'; RECORD_HEAD_LEN];
    let length = text.len().min(RECORD_HEAD_LEN);
    bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
    bytes
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_head_is_what_was_written_or_nothing() {
        let long = format!("sha512:{}", "a".repeat(128));
        let maker = TreeOwner { uid: u32::MAX, gid: u32::MAX, namespace: u32::MAX };
        // A directory has a maker, and a disk a recipe: there is no room for both.
        for (validity, maker, recipe) in [
            (Validity::Durable, Some(maker), None),
            (Validity::this_boot(Some("00000000-0000-0000-0000-000000000000")), Some(maker), None),
            (Validity::this_boot(Some("00000000-0000-0000-0000-000000000000")), None, Some(u32::MAX)),
            (Validity::this_boot(None), None, None),
        ] {
            let head = RecordHead {
                layer: long.clone(),
                diff_id: Some(Digest::parse(&long).unwrap()),
                anomalies: Some(u64::MAX),
                content: Some(u64::MAX),
                lines: Some(u64::MAX),
                maker,
                recipe,
                validity,
            };
            let bytes = head.to_bytes();
            assert_eq!(bytes.len(), RECORD_HEAD_LEN);
            let file = tempfile::tempfile().unwrap();
            head.write(file.as_fd()).unwrap();
            let again = RecordHead::read(file.as_fd()).unwrap().unwrap();
            assert_eq!((&again.validity, again.lines, again.anomalies), (&head.validity, head.lines, head.anomalies));
            assert_eq!((again.maker, again.recipe), (head.maker, head.recipe));
            for at in 0..RECORD_HEAD_LEN {
                let mut flipped = bytes;
                flipped[at] ^= 1;
                let text = String::from_utf8(flipped.to_vec()).unwrap();
                assert!(RecordHead::parse(&text).is_none(), "byte {at} says nothing");
            }
        }
        let file = tempfile::tempfile().unwrap();
        assert!(RecordHead::read(file.as_fd()).unwrap().is_none());
    }
}
