//! What comes of an answer that is no success, or of none.

use std::time::{Duration, SystemTime};

use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode, Url};

use crate::error::{Error, Status, quoted};

/// A request that failed in a way that may pass.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// How long the server asks us to wait.
    pub(super) retry_after: Option<Duration>,
}

impl Failure {
    pub(super) fn network(object: String, cause: &reqwest::Error) -> Failure {
        let mut causes = cause.to_string();
        let mut at = std::error::Error::source(cause);
        while let Some(error) = at {
            causes = error.to_string();
            at = error.source();
        }
        let status = if cause.is_timeout() { Status::Timeout } else { Status::Network };
        Failure { error: Error::new(status, format!("{object}: {}", quoted(causes.as_bytes()))), retry_after: None }
    }

    pub(super) fn stalled(object: String) -> Failure {
        let error = Error::new(Status::Timeout, format!("{object}: the server went silent"));
        Failure { error, retry_after: None }
    }

    pub(super) fn broken(why: String) -> Failure {
        Failure { error: Error::new(Status::Network, why), retry_after: None }
    }
}

/// Whether the same request may get another answer later.
pub(super) fn may_pass(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

/// How long a server asks us to wait: seconds, or until a date (RFC 9110, 10.2.3).
pub(super) fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(httpdate::parse_http_date(value).ok()?.duration_since(SystemTime::now()).unwrap_or_default()),
    }
}

/// What an answer of a registry comes to (distribution spec, error codes).
pub(super) fn registry_error(status: StatusCode, shown: &str, body: Option<&[u8]>) -> Error {
    let told = body.and_then(|body| serde_json::from_slice::<oci_client::errors::OciEnvelope>(body).ok());
    let told = told.and_then(|envelope| envelope.errors.into_iter().next());
    let code = told.as_ref().and_then(|told| serde_json::to_value(&told.code).ok()?.as_str().map(str::to_owned));
    let kind = match status {
        StatusCode::UNAUTHORIZED => Status::Unauthorized,
        StatusCode::FORBIDDEN => Status::Denied,
        StatusCode::NOT_FOUND => Status::NotFound,
        StatusCode::TOO_MANY_REQUESTS => Status::RateLimited,
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => Status::Timeout,
        _ => Status::Registry,
    };
    let mut message = format!("{shown}: HTTP {}", status.as_u16());
    if let Some(told) = &told {
        message.push_str(&format!(", {} {}", code.as_deref().unwrap_or(""), quoted(told.message.as_bytes())));
    }
    Error::new(kind, message).with_http_status(status.as_u16()).with_registry_code(code)
}

/// An address without what may be secret in it.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}
