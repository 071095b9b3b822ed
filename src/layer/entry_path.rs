//! Names inside a layer (decision D1; families 1 to 5 and 22 to 24).
//!
//! A name is normalised by its text alone, before anything looks at a file system. Leading slashes,
//! `.` and empty components vanish, `a/..` cancels out, and a `..` that would leave the root is
//! refused. What symlinks do to the rest is the business of the directory handle in
//! `unpack::root_dir`.

use super::path::split_parent;
use super::whiteout;
use crate::error::{Error, Result, Status, quoted};
use crate::limits::{self, LayerLimits};

/// What to do with a `..` at the root.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Underflow {
    /// Entry names: `UNSAFE_PATH`.
    Refuse,
    /// Hard link targets: the root is its own parent, as in a chroot.
    Clamp,
}

/// Writes the normal form of `name` to `out`: components joined by `/`, empty for the root.
pub(super) fn normalize(name: &[u8], underflow: Underflow, limits: &LayerLimits, out: &mut Vec<u8>) -> Result<()> {
    out.clear();
    if name.is_empty() {
        return Err(Error::new(Status::Malformed, "an entry has an empty name"));
    }
    if name.contains(&0) {
        return Err(Error::new(Status::Malformed, format!("name {} contains a NUL byte", quoted(name))));
    }
    limits::PATH_LENGTH.check(limits, name.len() as u64, || quoted(name))?;
    let mut depth = 0u64;
    for component in name.split(|&b| b == b'/') {
        match component {
            b"" | b"." => {}
            b".." if depth > 0 => {
                let parent = split_parent(out).0.len();
                out.truncate(parent);
                depth -= 1;
            }
            b".." if underflow == Underflow::Clamp => {}
            b".." => {
                return Err(Error::new(Status::UnsafePath, format!("name {} leaves the layer's root", quoted(name))));
            }
            _ => {
                // A whiteout speaks of a name that is within the limit, although its marker may not be (family 61).
                let shortened = component.strip_prefix(whiteout::WHITEOUT_PREFIX).unwrap_or(component);
                limits::COMPONENT.check(limits, shortened.len() as u64, || quoted(name))?;
                depth += 1;
                limits::DEPTH.check(limits, depth, || quoted(name))?;
                if !out.is_empty() {
                    out.push(b'/');
                }
                out.extend_from_slice(component);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(name: &[u8], underflow: Underflow) -> Result<Vec<u8>> {
        let mut out = b"left over".to_vec();
        normalize(name, underflow, &LayerLimits::default(), &mut out).map(|()| out)
    }

    #[test]
    fn families_1_to_5_names_are_normalised_by_text() {
        for (name, normalised) in [
            (&b"/etc/x"[..], &b"etc/x"[..]),
            (b"//tmp/moo", b"tmp/moo"),
            (b"a/../b", b"b"),
            (b"./a", b"a"),
            (b"a//b", b"a/b"),
            (b"a/./b/", b"a/b"),
            (b"a/b/../../c", b"c"),
            (b".", b""),
            (b"./", b""),
            (b"/", b""),
            (b"a/..", b""),
            (b"...", b"..."),
            (b"a\\..\\b", b"a\\..\\b"),
            (b"C:/x", b"C:/x"),
            (b"\xff\xfe/\n", b"\xff\xfe/\n"),
        ] {
            assert_eq!(normal(name, Underflow::Refuse).unwrap(), normalised, "{}", quoted(name));
        }
        for name in [&b"../x"[..], b"a/../../x", b"..", b"../../x", b"/..", b"/../etc"] {
            assert_eq!(normal(name, Underflow::Refuse).unwrap_err().status(), Status::UnsafePath, "{}", quoted(name));
        }
        assert_eq!(normal(b"../../etc/passwd", Underflow::Clamp).unwrap(), b"etc/passwd");
        assert_eq!(normal(b"", Underflow::Refuse).unwrap_err().status(), Status::Malformed);
        assert_eq!(normal(b"a\0b", Underflow::Refuse).unwrap_err().status(), Status::Malformed);
    }

    #[test]
    fn family_22_length_and_depth() {
        assert!(normal(&[b'x'; 255], Underflow::Refuse).is_ok());
        assert_eq!(normal(&[b'x'; 256], Underflow::Refuse).unwrap_err().status(), Status::Limit);
        assert!(normal(&b"a/".repeat(4096), Underflow::Refuse).is_ok());
        assert_eq!(normal(&b"a/".repeat(4097), Underflow::Refuse).unwrap_err().status(), Status::Limit);
        assert_eq!(normal(&b"a/".repeat(222_371), Underflow::Refuse).unwrap_err().status(), Status::Limit);
    }
}
