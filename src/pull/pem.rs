//! PEM files that the caller, or a `hosts.toml`, names: certificates and keys.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::error::{Error, Result, Status};

/// A file that the caller names; that it is not there is not "the registry does not have it".
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|cause| match cause.kind() {
        std::io::ErrorKind::NotFound => {
            Error::new(Status::InvalidArgument, format!("there is no file {}", path.display()))
        }
        _ => Error::io(&cause, format_args!("read {}", path.display())),
    })
}

/// The certificates in a PEM file; at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bad = |cause: &dyn std::fmt::Display| {
        Error::new(Status::Malformed, format!("certificates in {}: {cause}", path.display()))
    };
    let bytes = read(path)?;
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(|cause| bad(&cause))?;
    if found.is_empty() { Err(bad(&"there are none")) } else { Ok(found) }
}
