//! Extended attributes of an inode, right behind it. A header of 12 bytes comes first, then entries
//! of four bytes, name and value, each padded to four (Linux, fs/erofs/erofs_fs.h,
//! `erofs_xattr_ibody_header`).

/// Bytes of the header.
const HEADER: usize = 12;
/// The most that an inode has. Its count would say four times as much, but kernels before 6.x keep the bytes in 16 bits.
const MOST: usize = u16::MAX as usize & !3;

/// Prefixes that are a number on the disk. A prefix that is a whole name comes before the shorter one that it begins with.
const PREFIXES: [(&[u8], u8); 5] = [
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"user.", 1),
    (b"trusted.", 4),
    (b"security.", 6),
];

/// An attribute as it is on the disk: the number of its prefix, the rest of its name, and its value.
type Split<'a> = (u8, &'a [u8], &'a [u8]);

/// `None` for a name that EROFS has no prefix for, or that is too long, or a value that is.
fn split<'a>((name, value): &'a (Vec<u8>, Vec<u8>)) -> Option<Split<'a>> {
    let (prefix, index) = PREFIXES.iter().find(|(prefix, index)| match index {
        2 | 3 => name == prefix,
        _ => name.starts_with(prefix),
    })?;
    let rest = &name[prefix.len()..];
    (rest.len() <= usize::from(u8::MAX) && value.len() <= usize::from(u16::MAX)).then_some((*index, rest, value))
}

fn entry_size((_, name, value): &Split<'_>) -> usize {
    (4 + name.len() + value.len()).next_multiple_of(4)
}

/// What can be said of these attributes, in the order of the disk; and whether something had to be left out.
fn sayable(xattrs: &[(Vec<u8>, Vec<u8>)]) -> (Vec<Split<'_>>, bool) {
    let mut found: Vec<Split<'_>> = xattrs.iter().filter_map(split).collect();
    found.sort_unstable();
    let mut size = HEADER;
    let before = xattrs.len();
    found.retain(|entry| {
        let fits = size + entry_size(entry) <= MOST;
        size += if fits { entry_size(entry) } else { 0 };
        fits
    });
    let is_less = found.len() < before;
    (found, is_less)
}

/// Bytes that the attributes take behind the inode, and whether some are left out.
pub(super) fn xattrs_size(xattrs: &[(Vec<u8>, Vec<u8>)]) -> (usize, bool) {
    let (found, is_less) = sayable(xattrs);
    let size: usize = found.iter().map(entry_size).sum();
    (if found.is_empty() { 0 } else { HEADER + size }, is_less)
}

/// What an inode says of so many bytes of attributes (`i_xattr_icount`).
pub(super) fn xattrs_count(size: usize) -> u16 {
    if size == 0 { 0 } else { ((size - HEADER) / 4 + 1) as u16 }
}

/// Appends them.
pub(super) fn write_xattrs(xattrs: &[(Vec<u8>, Vec<u8>)], out: &mut Vec<u8>) {
    let (found, _) = sayable(xattrs);
    if found.is_empty() {
        return;
    }
    out.extend_from_slice(&[0; HEADER]);
    for entry in &found {
        let (index, name, value) = entry;
        let end = out.len() + entry_size(entry);
        out.extend_from_slice(&[name.len() as u8, *index]);
        out.extend_from_slice(&(value.len() as u16).to_le_bytes());
        out.extend_from_slice(name);
        out.extend_from_slice(value);
        out.resize(end, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xattr(name: &str, value: &[u8]) -> (Vec<u8>, Vec<u8>) {
        (name.as_bytes().to_vec(), value.to_vec())
    }

    #[test]
    fn they_are_sorted_padded_and_counted() {
        let xattrs = [
            xattr("user.b", b"12345"),
            xattr("security.capability", &[1; 20]),
            xattr("system.posix_acl_access", b"acl"),
            xattr("user.a", b""),
            xattr("com.apple.x", b"no"),
        ];
        let mut out = Vec::new();
        write_xattrs(&xattrs, &mut out);
        let (size, is_less) = xattrs_size(&xattrs);
        assert!(is_less && size == out.len() && size % 4 == 0, "{size}");
        assert_eq!(usize::from(xattrs_count(size)), (size - 12) / 4 + 1);
        let expected: &[&[u8]] = &[
            &[0; 12],
            &[1, 1, 0, 0, b'a', 0, 0, 0],
            &[1, 1, 5, 0, b'b', b'1', b'2', b'3', b'4', b'5', 0, 0],
            &[0, 2, 3, 0, b'a', b'c', b'l', 0],
            &[10, 6, 20, 0],
            b"capability",
            &[1; 20],
            &[0, 0],
        ];
        assert_eq!(out, expected.concat());
        assert_eq!(xattrs_size(&[]), (0, false));
        assert_eq!(xattrs_count(0), 0);
    }

    #[test]
    fn more_than_an_inode_can_count_is_left_out() {
        let many: Vec<_> = (0..8).map(|n| xattr(&format!("user.{n}"), &[7; 10_000])).collect();
        let (size, is_less) = xattrs_size(&many);
        assert!(is_less && size <= MOST && size > 60_000, "{size}");
        assert_eq!(xattrs_size(&[xattr("user.large", &[7; 65_535])]), (0, true));
    }
}
