//! The one error type. Every failure names the object it is about, and reads as one line. It
//! carries what a host needs to decide what to do next: status, errno, both digests. There is one
//! type, as the C side has one `bl_error`. There is not one per module, because a host acts on the
//! status, never on where in the library it arose.
//!
//! Names from layers, manifests and registries are hostile input: they reach a message only through [`quoted`].

#![forbid(unsafe_code)]

use std::fmt::{self, Display};

use rustix::io::Errno;

pub use crate::status::Status;

/// A `Result` with this library's [`Error`], unless another is named.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What failed, on which object, and why. `Display` is one line with the whole cause.
#[derive(Clone, Debug)]
pub struct Error {
    // Boxed so that the many `Result`s on the hot paths stay one word wide.
    details: Box<Details>,
}

#[derive(Clone, Debug)]
struct Details {
    status: Status,
    message: String,
    errno: Option<Errno>,
    expected: Option<String>,
    actual: Option<String>,
    http_status: Option<u16>,
    registry_code: Option<String>,
}

impl Error {
    /// An error with this status and message. The message names the object and is one line.
    pub(crate) fn new(status: Status, message: impl Into<String>) -> Error {
        Error {
            details: Box::new(Details {
                status,
                message: message.into(),
                errno: None,
                expected: None,
                actual: None,
                http_status: None,
                registry_code: None,
            }),
        }
    }

    /// What the operating system answered when we tried to `action` (such as `create /x/y`). It has
    /// the status that fits the errno, the action, and the system's own words.
    pub(crate) fn os(errno: Errno, action: impl Display) -> Error {
        let cause = std::io::Error::from(errno);
        let mut error = Error::new(status_of(errno), format!("cannot {action}: {cause}"));
        error.details.errno = Some(errno);
        error
    }

    /// [`Error::os`] for an error out of `std::io`; one without an errno is reported as `IO`.
    pub(crate) fn io(cause: &std::io::Error, action: impl Display) -> Error {
        match Errno::from_io_error(cause) {
            Some(errno) => Error::os(errno, action),
            None => Error::new(Status::Io, format!("cannot {action}: {cause}")),
        }
    }

    /// `object` (`"layer"`, `"diff_id of layer sha256:…"`) was to hash to `expected` and hashes to `actual`.
    pub(crate) fn digest_mismatch(object: impl Display, expected: impl Display, actual: impl Display) -> Error {
        let mut error =
            Error::new(Status::DigestMismatch, format!("{object}: expected {expected}, the bytes hash to {actual}"));
        error.details.expected = Some(expected.to_string());
        error.details.actual = Some(actual.to_string());
        error
    }

    /// A limit from the limits table was reached: `what` is its name there, `object` whom it hit.
    pub(crate) fn limit(what: &str, limit: u64, found: impl Display, object: impl Display) -> Error {
        Error::new(Status::Limit, format!("{object}: {what} limit is {limit}, found {found}"))
    }

    /// A disk that is known to be too full before anything is written.
    pub(crate) fn no_space(message: String) -> Error {
        let mut error = Error::new(Status::NoSpace, message);
        error.details.errno = Some(Errno::NOSPC);
        error
    }

    /// What a server answered.
    #[cfg(feature = "pull")]
    pub(crate) fn with_http_status(mut self, status: u16) -> Error {
        self.details.http_status = Some(status);
        self
    }

    /// The registry's own word for what is wrong.
    #[cfg(feature = "pull")]
    pub(crate) fn with_registry_code(mut self, code: Option<String>) -> Error {
        self.details.registry_code = code;
        self
    }

    /// Puts more behind the message, in brackets.
    #[cfg(feature = "pull")]
    pub(crate) fn detail(mut self, detail: impl Display) -> Error {
        self.details.message = format!("{} ({detail})", self.details.message);
        self
    }

    /// Puts `context: ` before the message, for callers that know more about the object.
    pub(crate) fn context(mut self, context: impl Display) -> Error {
        self.details.message = format!("{context}: {}", self.details.message);
        self
    }

    /// The status to act on.
    pub fn status(&self) -> Status {
        self.details.status
    }

    /// One line: the object, what went wrong, and the cause.
    pub fn message(&self) -> &str {
        &self.details.message
    }

    /// The operating system's error number, where one was the cause.
    pub fn os_errno(&self) -> Option<i32> {
        self.details.errno.map(Errno::raw_os_error)
    }

    /// The HTTP status of a registry's answer, where one was the cause.
    pub fn http_status(&self) -> Option<u16> {
        self.details.http_status
    }

    /// The registry's own code (`MANIFEST_UNKNOWN`), where it gave one.
    pub fn registry_code(&self) -> Option<&str> {
        self.details.registry_code.as_deref()
    }

    /// The digest that was promised (`DIGEST_MISMATCH`).
    pub fn expected_digest(&self) -> Option<&str> {
        self.details.expected.as_deref()
    }

    /// The digest that the bytes have (`DIGEST_MISMATCH`).
    pub fn actual_digest(&self) -> Option<&str> {
        self.details.actual.as_deref()
    }

    /// True where the same call may succeed later, though the caller changes nothing but its
    /// surroundings. The handle was busy, the disk was full, file descriptors had run out.
    pub fn is_retryable(&self) -> bool {
        use Status::*;
        match self.details.status {
            Busy | NoSpace | Network | Timeout | RateLimited => true,
            Io => matches!(self.details.errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN)),
            _ => false,
        }
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.details.message)
    }
}

impl std::error::Error for Error {
    /// What the operating system answered, where that was the cause. The message has it too.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.details.errno.as_ref().map(|errno| errno as _)
    }
}

/// `std::io::Write` for a staged download, and other places that must speak `std::io`, keep the whole error inside.
impl From<Error> for std::io::Error {
    fn from(error: Error) -> std::io::Error {
        let kind = match error.status() {
            Status::NotFound => std::io::ErrorKind::NotFound,
            Status::Permission => std::io::ErrorKind::PermissionDenied,
            Status::NoSpace => std::io::ErrorKind::StorageFull,
            Status::Timeout => std::io::ErrorKind::TimedOut,
            Status::Malformed | Status::DigestMismatch | Status::SizeMismatch => std::io::ErrorKind::InvalidData,
            Status::InvalidArgument => std::io::ErrorKind::InvalidInput,
            _ => std::io::ErrorKind::Other,
        };
        std::io::Error::new(kind, error)
    }
}

/// The status that an errno comes to. `docs/errors.md` carries this table for hosts.
fn status_of(errno: Errno) -> Status {
    match errno {
        Errno::NOENT => Status::NotFound,
        Errno::NOSPC | Errno::DQUOT => Status::NoSpace,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => Status::Permission,
        // RLIMIT_FSIZE, or the largest file that the file system can hold.
        Errno::FBIG => Status::Limit,
        Errno::NOTSUP | Errno::NOSYS => Status::Unsupported,
        _ => Status::Io,
    }
}

/// Bytes from hostile input made fit for a message. Text stays readable. Control and
/// bidirectional-override characters and invalid UTF-8 are escaped. More than 512 bytes are cut
/// with an ellipsis (layer rules, family 135).
pub(crate) fn quoted(bytes: &[u8]) -> String {
    const MAX_QUOTED_BYTES: usize = 512;
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_plain(c) {
                out.push(c);
            } else {
                out.extend(c.escape_default());
            }
            if out.len() > MAX_QUOTED_BYTES {
                return truncated(out);
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
        if out.len() > MAX_QUOTED_BYTES {
            return truncated(out);
        }
    }
    out.push('"');
    out
}

fn truncated(mut out: String) -> String {
    out.push_str("…\"");
    out
}

fn is_plain(c: char) -> bool {
    let bidi = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !(c.is_control() || bidi || matches!(c, '"' | '\\' | '\u{2028}' | '\u{2029}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn family_135_names_in_messages_are_escaped_and_bounded() {
        for (name, shown) in [
            (&b"etc/passwd"[..], "\"etc/passwd\""),
            (b"a\nb", "\"a\\nb\""),
            (b"\x1b[31m", "\"\\u{1b}[31m\""),
            (b"%n\xff", "\"%n\\xff\""),
            ("ä\u{202e}x".as_bytes(), "\"ä\\u{202e}x\""),
        ] {
            assert_eq!(quoted(name), shown);
        }
        assert!(quoted(&[b'x'; 5000]).len() < 530);
        assert!(quoted(&[0xff; 5000]).len() < 530);
        assert!(!quoted(&[b'\n'; 5000]).contains('\n'));
    }

    #[test]
    fn errno_decides_status_and_retry() {
        for (errno, status, retry) in [
            (Errno::NOSPC, Status::NoSpace, true),
            (Errno::DQUOT, Status::NoSpace, true),
            (Errno::ROFS, Status::Permission, false),
            (Errno::FBIG, Status::Limit, false),
            (Errno::MFILE, Status::Io, true),
            (Errno::IO, Status::Io, false),
            (Errno::NOENT, Status::NotFound, false),
        ] {
            let error = Error::os(errno, "open x");
            assert_eq!((error.status(), error.is_retryable()), (status, retry), "{error}");
            assert_eq!(error.os_errno(), Some(errno.raw_os_error()));
            let source = std::error::Error::source(&error).unwrap().downcast_ref::<Errno>();
            assert_eq!(source, Some(&errno));
            assert!(error.message().starts_with("cannot open x: "), "{error}");
        }
    }
}
