//! Who a host is to a registry. Nothing here is ever shown, and what we hold is wiped when it goes.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::error::{Error, Result, Status};

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
