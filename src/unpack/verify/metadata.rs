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
//! | owner | somebody whom we see under another number (user namespace, idmapped mount) | anything |
//! | mode | anybody | without set-gid, where the file's group came from the folder |
//! | time | anybody | what the file system makes of it: coarser, or its first or last |
//! | attribute | anybody | none, where one was refused (`SKIPPED_XATTR`) and this one can have been |
//!
//! Attributes that the layer does not have are damage too, but for those that the host's own security modules set.

use std::os::fd::BorrowedFd;

use rustix::fs::Stat;
use rustix::io::Errno;

use super::acl::Acl;
use crate::error::Result;
use crate::layer::Anomalies;
use crate::store::Head;
use crate::sys;
use crate::unpack::form::TreeForm;
use crate::unpack::metadata::{is_reserved, mode_on_disk, override_stat_of};
use crate::unpack::{LayerEntry, LayerEntryKind};

const CAPABILITY: &[u8] = b"security.capability";
const OVERRIDE_STAT: &[u8] = b"user.containers.override_stat";
const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";
const SET_GID: u32 = 0o2000;
/// Attributes of one file that every file system with attributes takes, in bytes.
const SMALL: usize = 1024;

/// What of a tree's metadata can be compared.
pub(super) struct Kept {
    form: TreeForm,
    /// Who made the tree; `None` where we see owners under other numbers than the maker did.
    maker: Option<(u32, u32)>,
    anomalies: Anomalies,
    /// New files get the group, or an ACL, of the folder that the tree is in.
    inherits_group: bool,
    inherits_acl: bool,
}

/// Where a file's attributes are read: the file itself, or a name in a directory.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    Open(BorrowedFd<'a>),
    Named(BorrowedFd<'a>, &'a [u8]),
}

impl Kept {
    /// `folder` is the one that the tree is in, `record` the record's own status.
    pub(super) fn new(head: &Head, form: TreeForm, folder: BorrowedFd<'_>, record: &Stat) -> Kept {
        Kept {
            form,
            maker: head.owner.filter(|&owner| owner == (record.st_uid, record.st_gid)),
            anomalies: head.anomalies.map(Anomalies::from_bits).unwrap_or_default(),
            inherits_group: rustix::fs::fstat(folder).is_ok_and(|stat| sys::mode_of(&stat) & SET_GID != 0),
            inherits_acl: Place::Open(folder).value(DEFAULT_ACL).is_ok(),
        }
    }

    /// What differs but the time, of a file that is of the right type.
    pub(super) fn differs(&self, entry: &LayerEntry, stat: &Stat, place: Place<'_>) -> Result<Option<String>> {
        match self.owner(entry, stat).or_else(|| self.mode(entry, stat)) {
            None => self.attributes(entry, place),
            verdict => Ok(verdict),
        }
    }

    fn owner(&self, entry: &LayerEntry, stat: &Stat) -> Option<String> {
        let maker = self.maker?;
        let (is, said) = ((stat.st_uid, stat.st_gid), (entry.uid, entry.gid));
        let is_roots = maker.0 == 0 && !self.form.override_stat;
        let may_be_makers = !is_roots || self.anomalies.contains(Anomalies::OWNER_NOT_SET);
        // What was root's already was left as it was born, with the folder's group.
        let is_born = is_roots && said == (0, 0) && is == maker && self.inherits_group;
        let is_right = is_roots && is == said || may_be_makers && is == maker || is_born;
        let wanted = if is_roots { said } else { maker };
        (!is_right).then(|| format!("has owner {}:{} instead of {}:{}", is.0, is.1, wanted.0, wanted.1))
    }

    fn mode(&self, entry: &LayerEntry, stat: &Stat) -> Option<String> {
        if entry.kind == LayerEntryKind::Symlink {
            return None;
        }
        let is = sys::mode_of(stat) & 0o7777;
        let wanted = mode_on_disk(self.form, entry.mode, entry.kind == LayerEntryKind::Directory) & 0o7777;
        // The kernel takes set-gid away from who is not in the group.
        let may_lack_set_gid = self.inherits_group || self.maker.is_none();
        let is_right = is == wanted || may_lack_set_gid && is == wanted & !SET_GID;
        (!is_right).then(|| format!("has mode {is:04o} instead of {wanted:04o}"))
    }

    fn attributes(&self, entry: &LayerEntry, place: Place<'_>) -> Result<Option<String>> {
        let names = match place.names() {
            Ok(names) => names,
            // There are none here, or nobody can say.
            Err(_) => return Ok(None),
        };
        for (key, value) in &entry.xattrs {
            if !self.is_set(key) {
                continue;
            }
            match place.value(key) {
                Ok(is) if is_same(key, &is, value, entry.mode) => {}
                Ok(_) => return Ok(Some(format!("its attribute {} is not what was written", shown(key)))),
                Err(Errno::NODATA) if !self.may_be_missing(entry, key, value) => {
                    return Ok(Some(format!("has lost its attribute {}", shown(key))));
                }
                Err(_) => {}
            }
        }
        if let Some(wanted) = override_stat_of(entry).filter(|_| self.form.override_stat) {
            // Device nodes do without, and what was made as a marker and is a file now.
            let is_needed =
                entry.kind == LayerEntryKind::Directory || entry.kind == LayerEntryKind::File && entry.size > 0;
            match place.value(OVERRIDE_STAT) {
                Ok(is) if is != wanted.as_bytes() => {
                    return Ok(Some(format!("its attribute {} is not what was written", shown(OVERRIDE_STAT))));
                }
                Err(Errno::NODATA) if is_needed => {
                    return Ok(Some(format!("has lost its attribute {}", shown(OVERRIDE_STAT))));
                }
                _ => {}
            }
        }
        let is_foreign = |key: &&Vec<u8>| self.counts(key) && !entry.xattrs.iter().any(|(known, _)| known == *key);
        Ok(names.iter().find(is_foreign).map(|key| format!("has an attribute {} that is not the layer's", shown(key))))
    }

    /// Whether an extraction sets an attribute of this name.
    fn is_set(&self, key: &[u8]) -> bool {
        let may_be_set = self.maker.is_some_and(|maker| maker.0 == 0) || key != CAPABILITY;
        !is_reserved(key) && may_be_set
    }

    /// Whether an attribute that is not there can have been refused.
    fn may_be_missing(&self, entry: &LayerEntry, key: &[u8], value: &[u8]) -> bool {
        let is_plain = matches!(entry.kind, LayerEntryKind::File | LayerEntryKind::Directory);
        let bytes: usize = entry.xattrs.iter().map(|(key, value)| key.len() + value.len()).sum();
        let was_refused = self.anomalies.contains(Anomalies::SKIPPED_XATTR)
            && (!is_plain || !key.starts_with(b"user.") || bytes > SMALL);
        // The kernel keeps no ACL that says no more than a mode does.
        was_refused || key == ACCESS_ACL && Acl::parse(value).is_some_and(|acl| acl.is_mode())
    }

    /// Whether an attribute that the layer does not have says that somebody was there.
    fn counts(&self, key: &[u8]) -> bool {
        let is_forms = self.form.override_stat && key == OVERRIDE_STAT;
        let is_overlays =
            self.form.is_overlay() && (key.starts_with(b"trusted.overlay.") || key.starts_with(b"user.overlay."));
        let is_acl = key == ACCESS_ACL || key == DEFAULT_ACL;
        let is_ours = key.starts_with(b"user.") || key.starts_with(b"trusted.") || key == CAPABILITY;
        !is_forms && !is_overlays && (is_ours || is_acl && !self.inherits_acl)
    }
}

impl Place<'_> {
    fn names(self) -> Result<Vec<Vec<u8>>, Errno> {
        match self {
            Place::Open(file) => sys::xattr_names(file),
            Place::Named(dir, name) => sys::link_xattr_names(dir, name),
        }
    }

    fn value(self, key: &[u8]) -> Result<Vec<u8>, Errno> {
        match self {
            Place::Open(file) => sys::xattr(file, key),
            Place::Named(dir, name) => sys::link_xattr(dir, name, key),
        }
    }
}

fn shown(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

/// Whether a file system that was told one value gives the other.
fn is_same(key: &[u8], is: &[u8], said: &[u8], mode: u32) -> bool {
    if is == said {
        return true;
    }
    match key {
        ACCESS_ACL => Acl::parse(is).zip(Acl::parse(said)).is_some_and(|(is, said)| is == said.with_mode(mode)),
        DEFAULT_ACL => Acl::parse(is).zip(Acl::parse(said)).is_some_and(|(is, said)| is == said),
        CAPABILITY => without_root_id(is) == without_root_id(said),
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

/// How the time of the last modification differs.
pub(super) fn time_differs(entry: &LayerEntry, stat: &Stat) -> Option<String> {
    let (seconds, nanoseconds) = entry.mtime;
    #[allow(clippy::unnecessary_cast)]
    let (is, is_nanoseconds) = (stat.st_mtime as i64, stat.st_mtime_nsec as u32);
    // What file systems keep: nanoseconds, 100 of them, microseconds, seconds.
    let is_coarser = |unit: u32| nanoseconds - nanoseconds % unit == is_nanoseconds;
    let is_kept = is == seconds && [1, 100, 1000, 1_000_000_000].into_iter().any(is_coarser);
    // The first and the last time that a file system can say are further out than those of the seconds of 32 bits.
    let is_clamped = seconds > is && is >= i64::from(i32::MAX) || seconds < is && is <= 0;
    let is_right = is_kept || is_clamped && is_out_of_range(seconds);
    (!is_right).then(|| format!("has the time {is}.{is_nanoseconds:09} instead of {seconds}.{nanoseconds:09}"))
}

/// Whether there are file systems that cannot say a time.
fn is_out_of_range(seconds: i64) -> bool {
    i32::try_from(seconds).is_err() || seconds < 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_the_same_in_both_revisions() {
        let two = [1, 0, 0, 2, 1, 2, 3, 4, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0];
        let mut three = [&[1, 0, 0, 3][..], &two[4..], &[0, 0, 0, 0]].concat();
        assert!(is_same(CAPABILITY, &two, &three, 0));
        three[20] = 1;
        assert!(!is_same(CAPABILITY, &two, &three, 0), "of another user");
        assert!(!is_same(b"user.x", &two, &three, 0));
    }
}
