//! Extended attributes: behind an inode where they fit, otherwise in a block (Linux, Documentation/filesystems/ext4,
//! "Extended Attributes"). What that has no room for is left out. So is what the kernel would refuse: names of other systems,
//! and access control lists that are none.

use super::checksum::Checksum;
use super::geometry::INODE;
use super::inode::INODE_FIELDS;
use crate::disk::block::BLOCK;
use crate::unpack::InodeKind;

/// Names that are a number on the disk, or begin with what is one. Others of `system.` are ext4's own business: one of them says
/// that the content is behind the inode.
const PREFIXES: [(&[u8], u8); 5] = [
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"user.", 1),
    (b"trusted.", 4),
    (b"security.", 6),
];
const ACL_ACCESS: u8 = 2;
const ACL_DEFAULT: u8 = 3;
const MAGIC: u32 = 0xea02_0000;
/// Bytes of an entry without its name.
const ENTRY: usize = 16;
const BLOCK_HEADER: usize = 32;
/// Behind an inode a magic number comes first.
const BEHIND_INODE: usize = INODE - INODE_FIELDS - 4;
/// The entries end with four zeros.
const END: usize = 4;
/// Bytes of a name with its prefix (`XATTR_NAME_MAX`).
const MOST_NAME: usize = 255;
/// How many inodes may have one block (`EXT4_XATTR_REFCOUNT_MAX`).
pub(super) const MOST_USERS: u32 = 1024;

/// An attribute as it is on the disk, in the order of the disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct DiskXattr {
    index: u8,
    name_len: u8,
    name: Vec<u8>,
    value: Vec<u8>,
}

/// What decides which access control lists an inode can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum XattrOwner {
    Directory,
    Symlink,
    Other,
}

impl XattrOwner {
    pub(super) fn of(kind: &InodeKind) -> XattrOwner {
        match kind {
            InodeKind::Directory { .. } => XattrOwner::Directory,
            InodeKind::Symlink { .. } => XattrOwner::Symlink,
            _ => XattrOwner::Other,
        }
    }
}

/// Where the attributes of an inode go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DiskXattrs {
    None,
    BehindInode(Vec<u8>),
    Block(Vec<u8>),
}

/// The attributes as ext4 has them, and whether some are left out.
pub(super) fn disk_xattrs(xattrs: &[(Vec<u8>, Vec<u8>)], owner: XattrOwner) -> (DiskXattrs, bool) {
    let mut found: Vec<DiskXattr> = xattrs.iter().filter_map(|xattr| disk_xattr(xattr, owner)).collect();
    let mut size = END;
    found.retain(|xattr| {
        let with_it = size + entry_size(xattr) + value_size(xattr);
        let fits = with_it <= BLOCK - BLOCK_HEADER;
        size = if fits { with_it } else { size };
        fits
    });
    let is_less = found.len() < xattrs.len();
    found.sort_unstable();
    let form = match size {
        END => DiskXattrs::None,
        size if size <= BEHIND_INODE => {
            let mut bytes = vec![0; 4 + BEHIND_INODE];
            bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
            fill(&found, &mut bytes[4..], 0);
            DiskXattrs::BehindInode(bytes)
        }
        _ => {
            let mut block = vec![0; BLOCK];
            let hash = fill(&found, &mut block, BLOCK_HEADER);
            block[0..4].copy_from_slice(&MAGIC.to_le_bytes());
            block[8..12].copy_from_slice(&1u32.to_le_bytes());
            block[12..16].copy_from_slice(&hash.to_le_bytes());
            DiskXattrs::Block(block)
        }
    };
    (form, is_less)
}

/// Says in a block of attributes how many inodes have it, and what its checksum at its place is.
pub(super) fn finish_block(block: &mut [u8], users: u32, place: u64, seed: Checksum) {
    block[4..8].copy_from_slice(&users.to_le_bytes());
    block[16..20].fill(0);
    let sum = seed.update(&place.to_le_bytes()).update(block).value();
    block[16..20].copy_from_slice(&sum.to_le_bytes());
}

/// `None` for what ext4 has no name for, and what its inode cannot have.
fn disk_xattr((full_name, value): &(Vec<u8>, Vec<u8>), owner: XattrOwner) -> Option<DiskXattr> {
    let (prefix, index) = PREFIXES.iter().find(|(prefix, index)| match *index {
        ACL_ACCESS | ACL_DEFAULT => full_name == prefix,
        _ => full_name.starts_with(prefix),
    })?;
    let value = match (*index, owner) {
        (ACL_ACCESS, XattrOwner::Symlink) | (ACL_DEFAULT, XattrOwner::Symlink | XattrOwner::Other) => return None,
        (ACL_ACCESS | ACL_DEFAULT, _) => short_acl(value)?,
        _ => value.clone(),
    };
    if full_name.len() > MOST_NAME {
        return None;
    }
    let name = full_name[prefix.len()..].to_vec();
    Some(DiskXattr { index: *index, name_len: name.len() as u8, name, value })
}

/// An access control list in ext4's own form, which has an id only where there is one (Linux, fs/ext4/acl.h). `None` for what
/// is no list (Linux, fs/posix_acl.c, `posix_acl_valid`).
fn short_acl(value: &[u8]) -> Option<Vec<u8>> {
    /// Owner, user, owning group, group, mask, others; in this order.
    const TAGS: [u16; 6] = [1, 2, 4, 8, 16, 32];
    let entries = value.strip_prefix(&2u32.to_le_bytes())?;
    let (mut out, mut counts) = (1u32.to_le_bytes().to_vec(), [0u32; TAGS.len()]);
    let mut before = 0;
    for entry in entries.chunks(8) {
        let entry: &[u8; 8] = entry.try_into().ok()?;
        let [tag, permissions] = [0, 2].map(|at| u16::from_le_bytes([entry[at], entry[at + 1]]));
        let kind = TAGS.iter().position(|&known| known == tag)?;
        if kind < before || permissions > 7 {
            return None;
        }
        before = kind;
        counts[kind] += 1;
        let has_id = matches!(tag, 2 | 8);
        out.extend_from_slice(if has_id { entry } else { &entry[..4] });
    }
    let [owner, users, owning_group, groups, masks, others] = counts;
    let is_whole = [owner, owning_group, others] == [1; 3];
    let is_masked = masks == 1 || masks == 0 && users + groups == 0;
    (is_whole && is_masked).then_some(out)
}

fn value_size(xattr: &DiskXattr) -> usize {
    xattr.value.len().next_multiple_of(4)
}

fn entry_size(xattr: &DiskXattr) -> usize {
    (ENTRY + xattr.name.len()).next_multiple_of(4)
}

/// Entries from `begin` on, values from the end on; the hash of all of them. Offsets are from the beginning of `out`.
fn fill(xattrs: &[DiskXattr], out: &mut [u8], begin: usize) -> u32 {
    let (mut at, mut value_at, mut whole) = (begin, out.len(), 0u32);
    for xattr in xattrs {
        value_at -= value_size(xattr);
        let hash = entry_hash(xattr);
        whole = whole.rotate_left(16) ^ hash;
        let offset = if xattr.value.is_empty() { 0 } else { value_at as u16 };
        out[at] = xattr.name_len;
        out[at + 1] = xattr.index;
        out[at + 2..at + 4].copy_from_slice(&offset.to_le_bytes());
        out[at + 8..at + 12].copy_from_slice(&(xattr.value.len() as u32).to_le_bytes());
        out[at + 12..at + 16].copy_from_slice(&hash.to_le_bytes());
        out[at + ENTRY..at + ENTRY + xattr.name.len()].copy_from_slice(&xattr.name);
        out[value_at..value_at + xattr.value.len()].copy_from_slice(&xattr.value);
        at += entry_size(xattr);
    }
    whole
}

/// Of a name and its value (Linux, fs/ext4/xattr.c, `ext4_xattr_hash_entry`).
fn entry_hash(xattr: &DiskXattr) -> u32 {
    let name = xattr.name.iter().fold(0u32, |hash, &byte| hash.rotate_left(5) ^ u32::from(byte));
    xattr.value.chunks(4).fold(name, |hash, bytes| {
        let mut word = [0; 4];
        word[..bytes.len()].copy_from_slice(bytes);
        hash.rotate_left(16) ^ u32::from_le_bytes(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xattr(name: &str, value: &[u8]) -> (Vec<u8>, Vec<u8>) {
        (name.as_bytes().to_vec(), value.to_vec())
    }

    fn acl(entries: &[(u16, u16)]) -> Vec<u8> {
        let entry = |&(tag, permissions): &(u16, u16)| [tag, permissions, 9, 0].map(u16::to_le_bytes).concat();
        [2u32.to_le_bytes().to_vec(), entries.iter().flat_map(entry).collect()].concat()
    }

    #[test]
    fn what_fits_is_kept_and_the_rest_is_said() {
        let kinds = |xattrs: &[_]| disk_xattrs(xattrs, XattrOwner::Other);
        assert_eq!(kinds(&[]), (DiskXattrs::None, false));
        assert_eq!(kinds(&[xattr("com.apple.x", b"1"), xattr("system.data", b"1")]), (DiskXattrs::None, true));
        assert!(matches!(kinds(&[xattr("user.a", b"1")]), (DiskXattrs::BehindInode(_), false)));
        assert!(matches!(kinds(&[xattr("user.a", &[1; 900])]), (DiskXattrs::Block(_), false)));
        // One that is too large does not take the others along.
        let (DiskXattrs::BehindInode(bytes), true) = kinds(&[xattr("user.a", &[1; 5000]), xattr("user.b", b"2")])
        else {
            panic!("the small one has room");
        };
        assert_eq!(bytes[4..6], [1, 1]);
        assert_eq!(kinds(&[xattr(&format!("user.{}", "n".repeat(251)), b"")]), (DiskXattrs::None, true));
    }

    #[test]
    fn lists_are_converted_where_they_are_some() {
        let short = |entries: &[(u16, u16)]| short_acl(&acl(entries));
        let whole = [(1, 7), (2, 5), (4, 5), (8, 1), (16, 5), (32, 0)];
        assert_eq!(short(&whole).unwrap().len(), 4 + 4 * 4 + 2 * 8);
        assert!(short(&[(1, 7), (4, 5), (32, 0)]).is_some());
        let wrong: [&[(u16, u16)]; 7] = [
            &[],
            &[(1, 7), (4, 5)],
            &[(1, 7), (1, 7), (4, 5), (32, 0)],
            &[(1, 7), (2, 5), (4, 5), (32, 0)],
            &[(4, 5), (1, 7), (32, 0)],
            &[(1, 8), (4, 5), (32, 0)],
            &[(1, 7), (3, 5), (4, 5), (32, 0)],
        ];
        for entries in wrong {
            assert_eq!(short(entries), None, "{entries:?}");
        }
        assert_eq!(short_acl(&[1, 0, 0, 0]), None);
        let list = [xattr("system.posix_acl_default", &acl(&whole))];
        assert!(disk_xattrs(&list, XattrOwner::Other).1 && !disk_xattrs(&list, XattrOwner::Directory).1);
    }
}
