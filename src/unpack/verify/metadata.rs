//! Owner, mode, modification time and extended attributes of a tree's files against what its record says of them.
//!
//! An extraction sets what the layer says as far as the process and the file system can. A comparison that knew less
//! would call trees damaged that are as they were made, and a repair would make them anew for ever. So each rule here
//! follows one of [`crate::unpack::metadata`], and says what may differ:
//!
//! | what | who made the tree | what may be there instead |
//! |---|---|---|
//! | owner | root | the maker's, where an owner was refused (`OWNER_NOT_SET`) |
//! | owner | an ordinary user, or `override_stat` | nothing: it is the maker's |
//! | owner, and those that an ACL names | somebody whom we see otherwise (user namespace, idmapped mount) | anything |
//! | mode | anybody | without set-id bits that were refused (`OWNER_NOT_SET`) |
//! | time | anybody | what the file system makes of it: coarser, or its first or last |
//! | attribute | anybody | none, where one was refused (`SKIPPED_XATTR`) and this one can have been |
//!
//! Attributes that the layer does not have are damage too, in `user.` and where overlayfs, the kernel or a mode takes its
//! meaning from them. Others are the file system's and the host's own.

use std::os::fd::BorrowedFd;

use rustix::fs::Stat;
use rustix::io::Errno;

use super::acl::Acl;
use super::damage::damage;
use crate::error::Result;
use crate::layer::{Anomalies, Device, Timestamp};
use crate::record::{LayerEntry, LayerEntryKind, RecordHead, TreeOwner};
use crate::sys::{self, is_regular};
use crate::unpack::form::{TreeForm, WhiteoutForm};
use crate::unpack::metadata::{SET_ID, is_reserved, mode_on_disk, override_stat_of};

const CAPABILITY: &[u8] = b"security.capability";
const OVERRIDE_STAT: &[u8] = b"user.containers.override_stat";
const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";
/// Attributes of one file that every file system with attributes takes, in bytes: the smallest block is 1024.
const SMALL: usize = 512;
/// What a file system takes for each of them besides.
const OVERHEAD: usize = 32;

/// What of a tree's metadata can be compared.
pub(super) struct ExpectedMetadata {
    form: TreeForm,
    /// Who made the tree; `None` where we see owners under other numbers than the maker did.
    maker: Option<TreeOwner>,
    anomalies: Anomalies,
    /// New files get an ACL from the folder that the tree is in.
    inherits_acl: bool,
}

/// Where a file's attributes are read: the file itself, or a name in a directory.
#[derive(Clone, Copy)]
pub(super) enum StatTarget<'a> {
    Open(BorrowedFd<'a>),
    Named(BorrowedFd<'a>, &'a [u8]),
}

impl ExpectedMetadata {
    /// `folder` is the one that the tree is in, `record` the record's own status.
    pub(super) fn new(head: &RecordHead, form: TreeForm, folder: BorrowedFd<'_>, record: &Stat) -> ExpectedMetadata {
        ExpectedMetadata {
            form,
            maker: head.maker.filter(|maker| maker.sees_the_same(record)),
            anomalies: head.anomalies.map(Anomalies::from_bits).unwrap_or_default(),
            inherits_acl: StatTarget::Open(folder).value(DEFAULT_ACL).is_ok(),
        }
    }

    /// What differs but the time, of a file that is of the right type.
    pub(super) fn differs(&self, entry: &LayerEntry, stat: &Stat, place: StatTarget<'_>) -> Result<Option<String>> {
        match self.owner(entry, stat).or_else(|| self.mode(entry, stat)) {
            None => self.attributes(entry, is_regular(stat), place),
            verdict => Ok(verdict),
        }
    }

    fn owner(&self, entry: &LayerEntry, stat: &Stat) -> Option<String> {
        let maker = self.maker?;
        let (is, said, makers) = ((stat.st_uid, stat.st_gid), (entry.uid, entry.gid), (maker.uid, maker.gid));
        let is_roots = maker.uid == 0 && !self.form.override_stat;
        let may_be_makers = !is_roots || self.anomalies.contains(Anomalies::OWNER_NOT_SET);
        let is_right = is_roots && is == said || may_be_makers && is == makers;
        let wanted = if is_roots { said } else { makers };
        (!is_right).then(|| format!("has owner {}:{} instead of {}:{}", is.0, is.1, wanted.0, wanted.1))
    }

    fn mode(&self, entry: &LayerEntry, stat: &Stat) -> Option<String> {
        if entry.kind == LayerEntryKind::Symlink {
            return None;
        }
        let is = sys::mode_of(stat) & 0o7777;
        let wanted = mode_on_disk(self.form, entry.mode, entry.kind == LayerEntryKind::Directory) & 0o7777;
        let may_lack_set_id = self.anomalies.contains(Anomalies::OWNER_NOT_SET);
        let is_right = is == wanted || may_lack_set_id && is == wanted & !SET_ID | is & wanted & SET_ID;
        (!is_right).then(|| format!("has mode {is:04o} instead of {wanted:04o}"))
    }

    fn attributes(&self, entry: &LayerEntry, is_file: bool, place: StatTarget<'_>) -> Result<Option<String>> {
        let names = match place.names() {
            Ok(names) => names,
            Err(errno) if sys::is_damage(errno.raw_os_error()) => return damage(errno, "its attributes").map(Some),
            // There are none here, or nobody can say.
            Err(_) => return Ok(None),
        };
        for (key, value) in entry.xattrs.iter().filter(|(key, _)| self.is_set(key)) {
            let verdict = match place.value(key) {
                Ok(is) if self.is_same(entry, key, &is, value) => continue,
                Ok(_) => "is not what was written",
                Err(Errno::NODATA) if self.may_be_missing(entry, key, value) => continue,
                Err(Errno::NODATA) => "is lost",
                Err(errno) if sys::is_damage(errno.raw_os_error()) => return damage(errno, "an attribute").map(Some),
                Err(_) => continue,
            };
            return Ok(Some(format!("its attribute {} {verdict}", shown(key))));
        }
        if let Some(wanted) = override_stat_of(entry).filter(|_| self.form.override_stat) {
            let verdict = match place.value(OVERRIDE_STAT) {
                Ok(is) if is != wanted.as_bytes() => "is not what was written",
                Err(Errno::NODATA) if is_overridden(entry, is_file) => "is lost",
                _ => "",
            };
            if !verdict.is_empty() {
                return Ok(Some(format!("its attribute {} {verdict}", shown(OVERRIDE_STAT))));
            }
        }
        let is_foreign = |key: &&Vec<u8>| self.counts(key) && !entry.xattrs.iter().any(|(known, _)| known == *key);
        Ok(names.iter().find(is_foreign).map(|key| format!("has an attribute {} that is not the layer's", shown(key))))
    }

    /// Whether root's attributes are seen at all.
    pub(super) fn sees_trusted(&self) -> bool {
        self.maker.is_some() && rustix::process::geteuid().is_root()
    }

    /// Whether a device is a node of its own; `None` where that cannot be known.
    pub(super) fn has_nodes(&self, device: Device) -> Option<bool> {
        let is_whiteout = self.form.is_overlay() && device == Device::default();
        Some(self.form.device_nodes && self.maker?.uid == 0 && !is_whiteout)
    }

    /// Whether a directory says of itself that it hides what lower layers have in it.
    pub(super) fn is_opaque(&self, place: StatTarget<'_>) -> bool {
        self.opaque_key().is_some_and(|key| place.value(key).is_ok())
    }

    fn opaque_key(&self) -> Option<&'static [u8]> {
        match self.form.whiteouts {
            WhiteoutForm::Markers => None,
            WhiteoutForm::Overlay => Some(b"trusted.overlay.opaque"),
            WhiteoutForm::UserOverlay => Some(b"user.overlay.opaque"),
        }
    }

    /// Whether an extraction sets an attribute of this name.
    fn is_set(&self, key: &[u8]) -> bool {
        let may_be_set = self.maker.is_some_and(|maker| maker.uid == 0) || key != CAPABILITY;
        !is_reserved(key) && may_be_set
    }

    /// Whether an attribute that is not there can have been refused.
    fn may_be_missing(&self, entry: &LayerEntry, key: &[u8], value: &[u8]) -> bool {
        let is_plain = matches!(entry.kind, LayerEntryKind::File | LayerEntryKind::Directory);
        let bytes: usize = entry.xattrs.iter().map(|(key, value)| key.len() + value.len() + OVERHEAD).sum();
        let was_refused = self.anomalies.contains(Anomalies::SKIPPED_XATTR)
            && (!is_plain || !key.starts_with(b"user.") || bytes > SMALL);
        // The kernel keeps no ACL that says nothing, or no more than a mode does.
        let is_empty = value.is_empty() || Acl::parse(value).is_some_and(|acl| acl.is_empty());
        let is_mode = key == ACCESS_ACL && Acl::parse(value).is_some_and(|acl| acl.is_mode());
        was_refused || (key == ACCESS_ACL || key == DEFAULT_ACL) && is_empty || is_mode
    }

    /// Whether an attribute that the layer does not have says that somebody was there.
    fn counts(&self, key: &[u8]) -> bool {
        let is_forms = self.form.override_stat && key == OVERRIDE_STAT || self.opaque_key() == Some(key);
        let is_acl = key == ACCESS_ACL || key == DEFAULT_ACL;
        let is_ours = key.starts_with(b"user.") || key.starts_with(b"trusted.overlay.") || key == CAPABILITY;
        !is_forms && (is_ours || is_acl && !self.inherits_acl)
    }

    /// Whether a file system that was told one value gives the other.
    fn is_same(&self, entry: &LayerEntry, key: &[u8], is: &[u8], said: &[u8]) -> bool {
        if is == said {
            return true;
        }
        let acl = |value| Acl::parse(value).map(|acl| if self.maker.is_none() { acl.without_ids() } else { acl });
        let mode = mode_on_disk(self.form, entry.mode, entry.kind == LayerEntryKind::Directory);
        match key {
            ACCESS_ACL => acl(is).zip(acl(said)).is_some_and(|(is, said)| is == said.with_mode(mode)),
            DEFAULT_ACL => acl(is).zip(acl(said)).is_some_and(|(is, said)| is == said),
            CAPABILITY => without_root_id(is) == without_root_id(said),
            _ => false,
        }
    }
}

impl StatTarget<'_> {
    fn names(self) -> Result<Vec<Vec<u8>>, Errno> {
        match self {
            StatTarget::Open(file) => sys::xattr_names(file),
            StatTarget::Named(dir, name) => sys::link_xattr_names(dir, name),
        }
    }

    fn value(self, key: &[u8]) -> Result<Vec<u8>, Errno> {
        match self {
            StatTarget::Open(file) => sys::xattr(file, key),
            StatTarget::Named(dir, name) => sys::link_xattr(dir, name, key),
        }
    }
}

fn shown(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

/// Whether an extraction says what a file really is in `override_stat`. Device nodes do without. So
/// does what was made as a marker, which is empty, and got another name before another marker took
/// its place.
fn is_overridden(entry: &LayerEntry, is_file: bool) -> bool {
    match entry.kind {
        LayerEntryKind::Directory => true,
        LayerEntryKind::File => entry.size > 0,
        LayerEntryKind::CharDevice | LayerEntryKind::BlockDevice => is_file,
        _ => false,
    }
}

/// A file capability of revision 3 that is of user 0 is shown as one of revision 2 (`linux/capability.h`).
fn without_root_id(value: &[u8]) -> Vec<u8> {
    match value {
        [flags, 0, 0, 3, sets @ .., 0, 0, 0, 0] if value.len() == 24 => [&[*flags, 0, 0, 2], sets].concat(),
        value => value.to_vec(),
    }
}

/// The first and last second that file systems can say: of 32 bits, with and without a sign, ext4's, and XFS's with bigtime.
const LIMITS: [i64; 6] = [i32::MIN as i64, 0, i32::MAX as i64, u32::MAX as i64, 0x3_7fff_ffff, 16_299_260_424];

/// How the time of the last modification differs.
pub(super) fn time_differs(entry: &LayerEntry, stat: &Stat) -> Option<String> {
    let Timestamp { seconds, nanoseconds } = entry.mtime;
    #[allow(clippy::unnecessary_cast)]
    let (is, is_nanoseconds) = (stat.st_mtime as i64, stat.st_mtime_nsec as u32);
    // What file systems keep: nanoseconds, 100 of them, microseconds, seconds.
    let is_coarser = |unit: u32| nanoseconds - nanoseconds % unit == is_nanoseconds;
    let is_kept = is == seconds && [1, 100, 1000, 1_000_000_000].into_iter().any(is_coarser);
    let is_right = is_kept || is != seconds && LIMITS.contains(&is) && is_beyond(seconds, is);
    (!is_right).then(|| format!("has the time {is}.{is_nanoseconds:09} instead of {seconds}.{nanoseconds:09}"))
}

/// Whether a time is further from 1970 than the limit that a file system has.
fn is_beyond(seconds: i64, limit: i64) -> bool {
    if limit > 0 { seconds > limit } else { seconds < limit }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_the_same_in_both_revisions() {
        let two = [1, 0, 0, 2, 1, 2, 3, 4, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0];
        let mut three = [&[1, 0, 0, 3][..], &two[4..], &[0, 0, 0, 0]].concat();
        assert_eq!(without_root_id(&two), without_root_id(&three));
        three[20] = 1;
        assert_ne!(without_root_id(&two), without_root_id(&three), "of another user");
    }
}
