//! Whiteouts by their names (OCI image-spec, layer.md, "Whiteouts"; families 47 to 51, decision D5).
//!
//! The name alone decides: some builders deliver whiteouts as hard links or devices, some with a
//! body. What is refused are the names that a later merge could take for something else. They are
//! an empty one, `.` and `..`, a whiteout of a whiteout, and marker names as directories.

use super::entry::Kind;
use super::path::split_parent;
use crate::error::{Error, Result, Status, quoted};

pub(crate) const WHITEOUT_PREFIX: &[u8] = b".wh.";
pub(crate) const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";
/// AUFS keeps its own books in layers made from its branches. They mean nothing to anybody else.
const AUFS: [&[u8]; 3] = [b".wh..wh.aufs", b".wh..wh.plnk", b".wh..wh.orph"];

/// What an entry's name makes of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NameClass {
    /// Nothing: the entry is what its type says.
    None,
    /// A whiteout or an opaque marker, whatever its type says.
    Marker(Kind),
    /// AUFS bookkeeping, to be left out.
    Aufs,
}

/// Classifies a normalised path.
pub(super) fn classify(path: &[u8]) -> Result<NameClass> {
    // Nearly every path: no component begins like a marker.
    if !path.windows(WHITEOUT_PREFIX.len()).any(|window| window == WHITEOUT_PREFIX) {
        return Ok(NameClass::None);
    }
    let (parent, name) = split_parent(path);
    for component in parent.split(|&b| b == b'/') {
        if AUFS.contains(&component) {
            return Ok(NameClass::Aufs);
        }
        if component.starts_with(WHITEOUT_PREFIX) {
            return Err(refused(path, "a whiteout marker is not a directory"));
        }
    }
    let Some(target) = name.strip_prefix(WHITEOUT_PREFIX) else { return Ok(NameClass::None) };
    match target {
        _ if name == OPAQUE_MARKER => Ok(NameClass::Marker(Kind::Opaque)),
        _ if AUFS.contains(&name) => Ok(NameClass::Aufs),
        b"" => Err(refused(path, "a whiteout of nothing")),
        b"." | b".." => Err(refused(path, "a whiteout of the directory itself or its parent")),
        _ if target.starts_with(WHITEOUT_PREFIX) => Err(refused(path, "a whiteout of a whiteout")),
        _ => Ok(NameClass::Marker(Kind::Whiteout)),
    }
}

fn refused(path: &[u8], why: &str) -> Error {
    Error::new(Status::Malformed, format!("entry {}: {why}", quoted(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_47_to_51_the_name_decides() {
        for (path, mark) in [
            (&b"etc/passwd"[..], NameClass::None),
            (b"a/x.wh.y", NameClass::None),
            (b"a/.whx", NameClass::None),
            (b".wh.x", NameClass::Marker(Kind::Whiteout)),
            (b"a/b/.wh.x", NameClass::Marker(Kind::Whiteout)),
            (b"a/.wh....", NameClass::Marker(Kind::Whiteout)),
            (b".wh..wh..opq", NameClass::Marker(Kind::Opaque)),
            (b"a/.wh..wh..opq", NameClass::Marker(Kind::Opaque)),
            (b".wh..wh.aufs", NameClass::Aufs),
            (b".wh..wh.plnk/12.34", NameClass::Aufs),
            (b".wh..wh.orph", NameClass::Aufs),
        ] {
            assert_eq!(classify(path).unwrap(), mark, "{}", quoted(path));
        }
        for path in [
            &b".wh."[..],
            b"a/.wh.",
            b".wh..",
            b"a/.wh..",
            b".wh...",
            b"a/.wh...",
            b".wh.x/file",
            b"a/.wh.x/b/c",
            b".wh..wh..opq/file",
            b".wh..wh.foo",
            b"a/.wh..wh.",
        ] {
            assert_eq!(classify(path).unwrap_err().status(), Status::Malformed, "{}", quoted(path));
        }
    }
}
