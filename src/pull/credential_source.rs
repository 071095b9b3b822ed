//! Where the credentials for a host are found: in the call, from the host's callback, in the files that other tools keep.

use std::path::PathBuf;

use super::credential_files::{self, Search};
use super::credentials::Credentials;
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;

/// Where the credentials of one host of a pull come from.
#[derive(Clone, Debug)]
pub(super) enum CredentialSource {
    /// They are known: from the call, or its callback.
    Given(Credentials, &'static str),
    /// In files, when the host asks for some.
    Files { file: Option<PathBuf>, with_helpers: bool },
    /// Nobody has any.
    Anonymous,
}

/// What a source came to, and what it is called in an error.
#[derive(Clone, Debug)]
pub(super) struct FoundCredentials {
    pub(super) credentials: Option<Credentials>,
    pub(super) from: String,
}

impl CredentialSource {
    /// The credentials for a repository on a host.
    pub(super) fn find(&self, host: &str, repository: &str, interrupt: &Interrupt) -> Result<FoundCredentials> {
        match self {
            CredentialSource::Given(credentials, from) => {
                Ok(FoundCredentials { credentials: Some(credentials.clone()), from: (*from).to_owned() })
            }
            CredentialSource::Anonymous => {
                Ok(FoundCredentials { credentials: None, from: "no credentials were given".to_owned() })
            }
            CredentialSource::Files { file, with_helpers } => {
                let files = file.clone().map_or_else(credential_files::well_known, |file| vec![file]);
                if let Some(file) = file.as_ref().filter(|file| !file.exists()) {
                    let why = format!("there is no credential file {}", file.display());
                    return Err(Error::new(Status::InvalidArgument, why));
                }
                let with_helpers = *with_helpers;
                let mut search = Search { host, repository, with_helpers, interrupt, remarks: Vec::new() };
                for path in &files {
                    if let Some(credentials) = search.look_in(path, file.is_some())? {
                        let from = format!("credentials of {}", path.display());
                        return Ok(FoundCredentials { credentials: Some(credentials), from });
                    }
                }
                search.remarks.insert(0, "no credential file has any for it".to_owned());
                Ok(FoundCredentials { credentials: None, from: search.remarks.join("; ") })
            }
        }
    }
}
