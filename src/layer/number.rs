//! Numbers as PAX headers have them: decimal text (POSIX.1-2001, pax, "ustar Interchange Format").

use crate::error::{Error, Result, Status, quoted};

/// Digits only: no sign, no space, no other base, no overflow.
pub(super) fn decimal(key: &[u8], value: &[u8]) -> Result<u64> {
    let digits_only = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value)
        .ok()
        .filter(|_| digits_only)
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| malformed(format!("{} is {}, not a number", quoted(key), quoted(value))))
}

pub(super) fn malformed(why: impl std::fmt::Display) -> Error {
    Error::new(Status::Malformed, format!("PAX header: {why}"))
}
