//! POSIX ACLs as extended attributes have them (`linux/posix_acl_xattr.h`), to tell whether two say the same: a version, then
//! eight bytes an entry, all little-endian.

const VERSION: [u8; 4] = [2, 0, 0, 0];
const USER_OBJ: u16 = 1;
const USER: u16 = 2;
const GROUP_OBJ: u16 = 4;
const GROUP: u16 = 8;
const MASK: u16 = 16;
const OTHER: u16 = 32;

/// An ACL, in one form of all that mean the same.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Acl {
    /// Tag, number of the user or group where it has one, permissions; sorted.
    entries: Vec<(u16, u32, u16)>,
}

impl Acl {
    pub(super) fn parse(value: &[u8]) -> Option<Acl> {
        let entries = value.strip_prefix(&VERSION)?;
        let entries = entries.as_chunks::<8>();
        let (entries, []) = entries else { return None };
        let parse = |entry: &[u8; 8]| {
            let &[tag, tag_high, perm, perm_high, id @ ..] = entry;
            let tag = u16::from_le_bytes([tag, tag_high]);
            let id = if matches!(tag, USER | GROUP) { u32::from_le_bytes(id) } else { 0 };
            (tag, id, u16::from_le_bytes([perm, perm_high]))
        };
        let mut entries: Vec<_> = entries.iter().map(parse).collect();
        entries.sort_unstable();
        Some(Acl { entries })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether it says no more than the permission bits of a mode.
    pub(super) fn is_mode(&self) -> bool {
        self.entries.iter().all(|(tag, ..)| matches!(*tag, USER_OBJ | GROUP_OBJ | OTHER))
    }

    /// Whoever is named: a user namespace gives them other numbers.
    pub(super) fn without_ids(mut self) -> Acl {
        self.entries.iter_mut().for_each(|(_, id, _)| *id = 0);
        self.entries.sort_unstable();
        self
    }

    /// After a chmod, which changes the entries that are a mode's as well (acl(5), "Correspondence").
    pub(super) fn with_mode(mut self, mode: u32) -> Acl {
        let group = if self.entries.iter().any(|(tag, ..)| *tag == MASK) { MASK } else { GROUP_OBJ };
        for (tag, _, permissions) in &mut self.entries {
            let bits = match *tag {
                USER_OBJ => mode >> 6,
                OTHER => mode,
                tag if tag == group => mode >> 3,
                _ => continue,
            };
            *permissions = (bits & 7) as u16;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut value = VERSION.to_vec();
        for (tag, perm, id) in entries {
            value.extend([tag.to_le_bytes(), perm.to_le_bytes()].concat());
            value.extend(id.to_le_bytes());
        }
        value
    }

    #[test]
    fn acls_are_compared_by_what_they_say() {
        let said = acl(&[(USER_OBJ, 7, 0), (USER, 5, 1000), (GROUP_OBJ, 5, 0), (MASK, 7, 0), (OTHER, 0, 0)]);
        let none = u32::MAX;
        let kept =
            acl(&[(OTHER, 4, none), (USER_OBJ, 6, none), (USER, 5, 1000), (GROUP_OBJ, 5, none), (MASK, 4, none)]);
        let [said, kept] = [said, kept].map(|value| Acl::parse(&value).unwrap());
        assert!(!said.is_mode() && said != kept);
        assert_eq!(said.with_mode(0o644), kept);
        let other =
            Acl::parse(&acl(&[(USER_OBJ, 6, 0), (USER, 5, 1001), (GROUP_OBJ, 5, 0), (MASK, 4, 0), (OTHER, 4, 0)]));
        assert_ne!(other.unwrap(), kept);
        assert!(Acl::parse(&acl(&[(USER_OBJ, 7, 0), (GROUP_OBJ, 5, 0), (OTHER, 0, 0)])).unwrap().is_mode());
        for broken in [&b""[..], b"\x01\0\0\0", b"\x02\0\0\0\x01\0\x07"] {
            assert_eq!(Acl::parse(broken), None);
        }
    }
}
