//! What holds for every JSON document, before it is parsed.

use crate::digest::Digest;
use crate::error::{Error, Result, Status};
use crate::limits;

/// A digest in a document: `UNSUPPORTED` for another algorithm, `MALFORMED` for what is none.
pub(super) fn digest(text: &str, what: &str) -> Result<Digest> {
    Digest::parse(text).map_err(|error| match error.status() {
        Status::Unsupported => error,
        _ => Error::new(Status::Malformed, format!("{what}: {}", error.message())),
    })
}

/// Runs before the JSON parser so that a bomb costs one pass over its bytes and nothing else.
pub(crate) fn check_size_and_depth(bytes: &[u8], what: &str) -> Result<()> {
    if bytes.len() as u64 > limits::DOCUMENT_SIZE.default {
        return Err(Error::limit(limits::DOCUMENT_SIZE.name, limits::DOCUMENT_SIZE.default, bytes.len(), what));
    }
    // The parser looks at what it keeps; two readers of the rest would take it differently.
    if std::str::from_utf8(bytes).is_err() {
        return Err(Error::new(Status::Malformed, format!("{what}: not in UTF-8")));
    }
    let (mut depth, mut in_string, mut escaped) = (0u64, false, false);
    for &byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limits::JSON_DEPTH.default {
            return Err(Error::limit(limits::JSON_DEPTH.name, limits::JSON_DEPTH.default, depth, what));
        }
    }
    Ok(())
}
