//! The status table: one list from which the Rust enum, the C constants, the header text, `docs/errors.md` and the
//! tests come. A number, once released, is never given to another status; a status is never removed.

#![forbid(unsafe_code)]

use std::ffi::CStr;

macro_rules! status_table {
    ($($variant:ident = $code:literal, $name:literal, $doc:literal;)*) => {
        /// What went wrong, in one word. The numbers are the C ABI's `bl_status` and never change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(i32)]
        pub enum Status {
            $(#[doc = $doc] $variant = $code,)*
        }

        impl Status {
            /// Every failure status, in the order of its number.
            pub const ALL: &'static [Status] = &[$(Status::$variant),*];

            /// The status's name as the C header spells it, without the `BL_E_` prefix: `"DIGEST_MISMATCH"`.
            pub const fn name(self) -> &'static str {
                match self { $(Status::$variant => $name),* }
            }

            /// [`Status::name`] for C.
            pub(crate) const fn c_name(self) -> &'static CStr {
                let bytes = match self { $(Status::$variant => concat!($name, "\0").as_bytes()),* };
                match CStr::from_bytes_with_nul(bytes) {
                    Ok(name) => name,
                    Err(_) => c"",
                }
            }

            /// What the status means, as the header and `docs/errors.md` say it.
            pub const fn description(self) -> &'static str {
                match self { $(Status::$variant => $doc),* }
            }

            /// The status with this C number; `None` for 0 (`BL_OK`) and for numbers of a newer library.
            pub const fn from_code(code: i32) -> Option<Status> {
                match code { $($code => Some(Status::$variant),)* _ => None }
            }
        }
    };
}

status_table! {
    InvalidArgument = -1, "INVALID_ARGUMENT", "An argument is NULL where it may not be, malformed, or out of range.";
    Unsupported = -2, "UNSUPPORTED", "Well formed, but not something this version or this file system can do.";
    NotFound = -3, "NOT_FOUND", "The object is not in the store, or the path does not exist.";
    Busy = -4, "BUSY", "Another thread is using this handle right now, or what it stands for is not over.";
    State = -5, "STATE", "Not now: the handle is past this call, as for a write after a commit.";
    Exists = -6, "EXISTS", "There is something at the destination that is not to be replaced.";
    Io = -7, "IO", "The operating system reported an error that has no status of its own; see the errno.";
    NoSpace = -8, "NO_SPACE", "The disk, the inode table or the quota is full.";
    Permission = -9, "PERMISSION", "The operating system refused access, or the file system or the store is read-only.";
    DigestMismatch = -10, "DIGEST_MISMATCH", "The bytes do not hash to the digest they were promised to have.";
    SizeMismatch = -11, "SIZE_MISMATCH", "There are more or fewer bytes than declared.";
    Malformed = -12, "MALFORMED", "The input violates its format: JSON, tar, gzip, zstd or the OCI specification.";
    UnsafePath = -13, "UNSAFE_PATH", "A name in the input would leave the directory it belongs to.";
    Limit = -14, "LIMIT", "A limit would be exceeded; the message names it with both values.";
    Unauthorized = -15, "UNAUTHORIZED", "The registry wants credentials, or does not accept the ones given.";
    Denied = -16, "DENIED", "The registry knows the caller and refuses.";
    Network = -17, "NETWORK", "The registry could not be reached, or the connection broke.";
    Timeout = -18, "TIMEOUT", "The deadline of the call passed.";
    RateLimited = -19, "RATE_LIMITED", "The registry asks to come back later.";
    Registry = -20, "REGISTRY", "The registry answered with an error or against its protocol.";
    Cancelled = -21, "CANCELLED", "The call's cancel token was triggered.";
    Callback = -22, "CALLBACK", "A callback of the host answered non-zero.";
    Forked = -23, "FORKED", "The handle was made before a fork() and is used in the child.";
    Internal = -24, "INTERNAL", "A bug in this library; the process lives on. Please report the message.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_run_down_from_minus_one_and_map_back() {
        for (i, &status) in Status::ALL.iter().enumerate() {
            let code = status as i32;
            assert_eq!(code, -1 - i as i32, "{}", status.name());
            assert_eq!(Status::from_code(code), Some(status));
        }
        assert_eq!(Status::from_code(0), None);
        assert_eq!(Status::from_code(-(Status::ALL.len() as i32) - 1), None);
    }
}
