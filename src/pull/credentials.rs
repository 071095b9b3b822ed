//! Who a host is to a registry, and where that is found: in the call, from the host's callback, in the files that other
//! tools keep. Nothing here is ever shown, and what we hold is wiped when it goes.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::credential_files::{self, Search};
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;

/// What tells the secret of an identity token from a password: the user that Docker's tools give with one.
const TOKEN_USER: &str = "<token>";

/// What a host knows of itself. Neither is ever shown.
#[derive(Clone)]
pub struct Credentials {
    /// The user's name; empty for an identity token.
    user: String,
    secret: Arc<Zeroizing<String>>,
    is_token: bool,
}

impl Credentials {
    /// A user and a password, or an access token that stands for one. The user `<token>` makes the other an identity
    /// token, which a token server exchanges (OAuth2 refresh grant).
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Credentials {
        let (user, secret) = (user.into(), Arc::new(Zeroizing::new(password.into())));
        if user == TOKEN_USER {
            return Credentials { user: String::new(), secret, is_token: true };
        }
        Credentials { user, secret, is_token: false }
    }

    /// An identity token.
    pub(super) fn identity_token(token: String) -> Credentials {
        Credentials::new(TOKEN_USER, token)
    }

    /// What is exchanged for an access token, where it is that.
    pub(super) fn as_identity_token(&self) -> Option<&str> {
        self.is_token.then_some(self.secret.as_str())
    }

    /// The value of an `Authorization` header (RFC 7617), for a user and a password.
    pub(super) fn basic(&self) -> Option<Zeroizing<String>> {
        use base64::Engine as _;
        if self.is_token {
            return None;
        }
        let pair = joined(&[&self.user, ":", &self.secret]);
        let encoded = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(pair.as_bytes()));
        Some(joined(&["Basic ", &encoded]))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// A text with a secret in it, made without copies that stay behind.
pub(super) fn joined(parts: &[&str]) -> Zeroizing<String> {
    // This allocates once.
    Zeroizing::new(parts.concat())
}

/// A function that knows credentials, called on the thread that called, once for each host of a pull and before that is
/// asked anything. `None` is for somebody who has none there; an error ends the call with `CALLBACK`.
#[derive(Clone)]
pub struct CredentialsCallback(Arc<AskFn>);

type AskFn = dyn Fn(&str, &str) -> Result<Option<Credentials>, ()> + Send + Sync;

impl CredentialsCallback {
    /// Wraps a function of the registry's host (`ghcr.io`, `localhost:5000`, the host of a mirror) and the repository.
    pub fn new(
        callback: impl Fn(&str, &str) -> Result<Option<Credentials>, ()> + Send + Sync + 'static,
    ) -> CredentialsCallback {
        CredentialsCallback(Arc::new(callback))
    }

    pub(super) fn ask(&self, host: &str, repository: &str) -> Result<Option<Credentials>> {
        let why = || Error::new(Status::Callback, format!("{host}: the credentials callback ended the call"));
        (self.0)(host, repository).map_err(|()| why())
    }
}

impl fmt::Debug for CredentialsCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialsCallback")
    }
}

/// Where the credentials of one host of a pull come from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// They are known: from the call, or its callback.
    Given(Credentials, &'static str),
    /// In files, when the host asks for some.
    Files { file: Option<PathBuf>, with_helpers: bool },
    /// Nobody has any.
    Anonymous,
}

/// What a source came to, and what it is called in an error.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) credentials: Option<Credentials>,
    pub(super) from: String,
}

impl Source {
    /// The credentials for a repository on a host.
    pub(super) fn find(&self, host: &str, repository: &str, interrupt: &Interrupt) -> Result<Found> {
        match self {
            Source::Given(credentials, from) => {
                Ok(Found { credentials: Some(credentials.clone()), from: (*from).to_owned() })
            }
            Source::Anonymous => Ok(Found { credentials: None, from: "no credentials were given".to_owned() }),
            Source::Files { file, with_helpers } => {
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
                        return Ok(Found { credentials: Some(credentials), from });
                    }
                }
                search.remarks.insert(0, "no credential file has any for it".to_owned());
                Ok(Found { credentials: None, from: search.remarks.join("; ") })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let secret = Credentials::new("me", "secret");
        assert_eq!(format!("{secret:?}"), "Credentials");
        assert_eq!(secret.basic().unwrap().as_str(), "Basic bWU6c2VjcmV0");
        assert_eq!(secret.as_identity_token(), None);
        let token = Credentials::new("<token>", "abc");
        assert_eq!((token.as_identity_token(), token.basic().is_none()), (Some("abc"), true));
    }
}
