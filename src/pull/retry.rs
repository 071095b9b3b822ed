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
        let last = causes(cause).last().map_or_else(String::new, ToString::to_string);
        let status = if cause.is_timeout() { Status::Timeout } else { Status::Network };
        let mut why = format!("{object}: {}", quoted(last.as_bytes()));
        if let Some(advice) = advice(cause, object.starts_with("http:")) {
            why = format!("{why}: {advice}");
        }
        Failure { error: Error::new(status, why), retry_after: None }
    }

    pub(super) fn stalled(object: String) -> Failure {
        let error = Error::new(Status::Timeout, format!("{object}: the server went silent"));
        Failure { error, retry_after: None }
    }

    pub(super) fn broken(why: String) -> Failure {
        Failure { error: Error::new(Status::Network, why), retry_after: None }
    }
}

/// An error and what it came of, the deepest last. An `io::Error` hides what it carries.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        match error.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref()) {
            Some(inner) => Some(inner),
            None => error.source(),
        }
    })
}

/// What the caller may do about a connection that failed.
fn advice(cause: &reqwest::Error, is_plain: bool) -> Option<&'static str> {
    use rustls::{AlertDescription, CertificateError, Error as Tls, PeerIncompatible};
    const KEYS: &str =
        "its keys and ours have nothing in common; RSA, P-256, P-384 and Ed25519 are known, P-521 is not";
    let tls = causes(cause).find_map(|error| error.downcast_ref::<Tls>());
    match tls {
        Some(Tls::InvalidMessage(_)) => Some("the server speaks plain HTTP: mark it with BL_REGISTRY_PLAIN_HTTP"),
        Some(Tls::InvalidCertificate(
            CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
        ))
        | Some(Tls::AlertReceived(AlertDescription::HandshakeFailure))
        | Some(Tls::PeerIncompatible(PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon)) => Some(KEYS),
        Some(Tls::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            Some("name the authority that signed its certificate by ca_file, a hosts.toml or SSL_CERT_FILE")
        }
        Some(Tls::InvalidCertificate(CertificateError::Other(other)))
            if matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity)) =>
        {
            Some(
                "its certificate is that of an authority: name that very certificate by ca_file, a hosts.toml or SSL_CERT_FILE",
            )
        }
        Some(Tls::AlertReceived(AlertDescription::CertificateRequired)) => {
            Some("the server wants to know who we are: give it a client_certificate")
        }
        Some(_) => None,
        // What TLS answers to a request in plain HTTP is no HTTP.
        None if causes(cause).any(|error| error.to_string() == "tls handshake eof") => {
            Some("the server may speak plain HTTP: then mark it with BL_REGISTRY_PLAIN_HTTP")
        }
        None if is_plain && cause.is_request() && is_no_http(cause) => Some(SPEAKS_TLS),
        None => None,
    }
}

const SPEAKS_TLS: &str = "the server may speak TLS: do not mark it with BL_REGISTRY_PLAIN_HTTP";

fn is_no_http(cause: &reqwest::Error) -> bool {
    causes(cause).any(|error| error.to_string().contains("invalid HTTP"))
}

/// Whether the same request may get another answer later.
pub(super) fn is_retryable(status: StatusCode) -> bool {
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
    // The words of Go's servers, and of nginx.
    let is_for_tls = |body: &[u8]| {
        let body = String::from_utf8_lossy(body);
        body.contains("HTTP request to an HTTPS server") || body.contains("plain HTTP request was sent to HTTPS port")
    };
    if status == StatusCode::BAD_REQUEST && shown.starts_with("http:") && body.is_some_and(is_for_tls) {
        message = format!("{message}: {SPEAKS_TLS}");
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
