//! One repository on one registry: requests with the right credentials, bounded answers, redirects within limits, and
//! another try where that can help.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, HeaderMap, LOCATION, RANGE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use reqwest::{Client, Response, StatusCode, Url};
use tokio::runtime::Handle;

use super::auth::{Challenge, Credentials, token_of};
use crate::error::{Error, Result, Status, quoted};
use crate::interrupt::Interrupt;
use crate::oci::Reference;
use crate::{limits, runtime};

/// The longest body of an error, and of a token.
const ERROR_BODY: usize = 64 << 10;
const TOKEN_BODY: usize = 1 << 20;
const REDIRECTS: usize = 5;
/// Tries of one request, and the first wait between two.
const TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How patient a pull is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Without a byte for so long, the server is taken for dead.
    pub(super) stall: Duration,
}

pub(super) struct Registry {
    client: Client,
    handle: Handle,
    base: Url,
    repository: String,
    credentials: Option<Credentials>,
    /// What goes into `Authorization`, once the registry asked for it.
    authorization: Mutex<Option<String>>,
    patience: Patience,
    interrupt: Interrupt,
}

impl Registry {
    pub(super) fn new(
        client: Client,
        reference: &Reference,
        is_plain: bool,
        credentials: Option<Credentials>,
        patience: Patience,
        interrupt: Interrupt,
    ) -> Result<Registry> {
        let scheme = if is_plain { "http" } else { "https" };
        let base = format!("{scheme}://{}/v2/{}/", reference.host(), reference.repository);
        let base = Url::parse(&base).map_err(|_| {
            Error::new(Status::InvalidArgument, format!("{} is not a host", quoted(reference.host().as_bytes())))
        })?;
        Ok(Registry {
            client,
            handle: runtime::handle()?,
            base,
            repository: reference.repository.clone(),
            credentials,
            authorization: Mutex::default(),
            patience,
            interrupt,
        })
    }

    /// A document: its bytes, and what the registry says of it.
    pub(super) fn document(&self, path: &str, accept: &str) -> Result<(HeaderMap, Vec<u8>)> {
        let mut last = None;
        for attempt in 0..TRIES {
            self.pause(attempt, last.as_ref())?;
            let response = match self.get(path, accept, 0)? {
                Ok(response) => response,
                Err(failure) => {
                    last = Some(failure);
                    continue;
                }
            };
            let headers = response.headers().clone();
            refuse_encoding(&headers, path)?;
            match self.body(response, limits::DOCUMENT_SIZE.default as usize, path)? {
                Ok(body) => return Ok((headers, body)),
                Err(failure) => last = Some(failure),
            }
        }
        Err(last.map_or_else(|| Error::new(Status::Network, "no answer"), |failure| failure.error))
    }

    /// Begins a blob from an offset on. The inner failure is one that may pass.
    pub(super) fn blob(&self, path: &str, offset: u64) -> Result<Result<Response, Failure>> {
        let response = match self.get(path, "*/*", offset)? {
            Ok(response) => response,
            Err(failure) => return Ok(Err(failure)),
        };
        refuse_encoding(response.headers(), path)?;
        Ok(Ok(response))
    }

    /// The next bytes of a body; `None` at its end.
    pub(super) fn chunk(&self, response: &mut Response, path: &str) -> Result<Result<Option<bytes::Bytes>, Failure>> {
        match runtime::wait(&self.handle, &self.interrupt, self.patience.stall, response.chunk())? {
            Some(Ok(chunk)) => Ok(Ok(chunk)),
            Some(Err(cause)) => Ok(Err(Failure::network(self.describe(path), &cause))),
            None => Ok(Err(Failure::stalled(self.describe(path)))),
        }
    }

    /// Waits before another try, longer each time, and as long as the server asks for.
    pub(super) fn pause(&self, attempt: u32, failure: Option<&Failure>) -> Result<()> {
        let Some(failure) = failure else { return Ok(()) };
        let jitter = u64::from(uuid::Uuid::new_v4().as_bytes()[0]);
        let wait = FIRST_WAIT * 2u32.pow(attempt.saturating_sub(1).min(8));
        let wait = failure.retry_after.unwrap_or(wait + wait * (jitter as u32) / 512).min(LONGEST_WAIT);
        tracing::info!("{}; again in {} ms", failure.error, wait.as_millis());
        runtime::wait(&self.handle, &self.interrupt, wait, std::future::pending::<()>()).map(|_| ())
    }

    fn describe(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn get(&self, path: &str, accept: &str, offset: u64) -> Result<Result<Response, Failure>> {
        let url = self
            .base
            .join(path)
            .map_err(|_| Error::new(Status::Internal, format!("{} is no path", quoted(path.as_bytes()))))?;
        let authorization = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let response = match self.follow(url.clone(), accept, offset, authorization.as_deref())? {
            Ok(response) => response,
            Err(failure) => return Ok(Err(failure)),
        };
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.answer(response, path);
        }
        // Once: a registry that asks again after it was answered does not mean us.
        let authorization = match self.authorize(&response, authorization.is_some())? {
            Ok(authorization) => authorization,
            Err(failure) => return Ok(Err(failure)),
        };
        match self.follow(url, accept, offset, Some(&authorization))? {
            Ok(response) => self.answer(response, path),
            Err(failure) => Ok(Err(failure)),
        }
    }

    /// A request and what it is redirected to. Credentials go to the registry alone.
    fn follow(
        &self,
        mut url: Url,
        accept: &str,
        offset: u64,
        authorization: Option<&str>,
    ) -> Result<Result<Response, Failure>> {
        for _ in 0..=REDIRECTS {
            let mut request = self.client.get(url.clone()).header(ACCEPT, accept).header(ACCEPT_ENCODING, "identity");
            if offset > 0 {
                request = request.header(RANGE, format!("bytes={offset}-"));
            }
            if let Some(authorization) = authorization.filter(|_| is_same_origin(&url, &self.base)) {
                request = request.header(AUTHORIZATION, authorization);
            }
            let shown = shown(&url);
            let response = match runtime::wait(&self.handle, &self.interrupt, self.patience.stall, request.send())? {
                Some(Ok(response)) => response,
                Some(Err(cause)) => return Ok(Err(Failure::network(shown, &cause))),
                None => return Ok(Err(Failure::stalled(shown))),
            };
            if !response.status().is_redirection() {
                return Ok(Ok(response));
            }
            let target = response.headers().get(LOCATION).and_then(|target| target.to_str().ok());
            let target = target.and_then(|target| url.join(target).ok());
            let refuse = |why: &str| Err(Error::new(Status::Registry, format!("{shown}: {why}")));
            match target {
                Some(target) if url.scheme() == "https" && target.scheme() != "https" => {
                    return refuse("redirected from https to plain http");
                }
                Some(target) if matches!(target.scheme(), "http" | "https") => url = target,
                _ => return refuse("redirected to nowhere"),
            }
        }
        Err(Error::new(Status::Registry, format!("{}: redirected more than {REDIRECTS} times", shown(&url))))
    }

    /// Answers a challenge; gives what to send, and keeps it for later requests.
    fn authorize(&self, response: &Response, was_sent: bool) -> Result<Result<String, Failure>> {
        let shown = shown(response.url());
        let refuse = |why: &str| Error::new(Status::Unauthorized, format!("{shown}: {why}")).with_http_status(401);
        let headers = response.headers().get_all(WWW_AUTHENTICATE);
        let challenge = Challenge::parse(headers.iter().filter_map(|header| header.to_str().ok()));
        let authorization = match challenge.ok_or_else(|| refuse("asks for credentials, and not how"))? {
            Challenge::Basic => {
                let credentials = self.credentials.as_ref().ok_or_else(|| refuse("asks for a user and a password"))?;
                if was_sent {
                    return Err(refuse("the user or the password is wrong"));
                }
                basic(credentials)
            }
            Challenge::Bearer { realm, service, scope } => {
                match self.token(&realm, service.as_deref(), scope.as_deref())? {
                    Ok(token) => format!("Bearer {token}"),
                    Err(failure) => return Ok(Err(failure)),
                }
            }
        };
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(authorization.clone());
        Ok(Ok(authorization))
    }

    fn token(&self, realm: &str, service: Option<&str>, scope: Option<&str>) -> Result<Result<String, Failure>> {
        let refuse = |why: &str| {
            Error::new(Status::Registry, format!("{}: token server {}: {why}", self.base, quoted(realm.as_bytes())))
        };
        let mut url = Url::parse(realm).map_err(|_| refuse("is no address"))?;
        if url.scheme() != "https" && (url.scheme() != "http" || self.base.scheme() != "http") {
            return Err(refuse("is not reached by https"));
        }
        if url.host().is_some_and(is_inside) && url.host() != self.base.host() {
            return Err(refuse("is an address inside this machine or network"));
        }
        let default = format!("repository:{}:pull", self.repository);
        {
            let mut query = url.query_pairs_mut();
            service.into_iter().for_each(|service| _ = query.append_pair("service", service));
            query.append_pair("scope", scope.unwrap_or(&default));
        }
        let mut request = self.client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
        if let Some(credentials) = &self.credentials {
            request = request.header(AUTHORIZATION, basic(credentials));
        }
        let shown = shown(&url);
        let response = match runtime::wait(&self.handle, &self.interrupt, self.patience.stall, request.send())? {
            Some(Ok(response)) => response,
            Some(Err(cause)) => return Ok(Err(Failure::network(shown, &cause))),
            None => return Ok(Err(Failure::stalled(shown))),
        };
        match response.status() {
            StatusCode::OK => {}
            // It may not send us, and our password, on.
            status if status.is_redirection() => return Err(refuse("redirects")),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let who =
                    if self.credentials.is_some() { "the credentials were refused" } else { "credentials are needed" };
                return Err(Error::new(Status::Unauthorized, format!("{shown}: {who}"))
                    .with_http_status(response.status().as_u16()));
            }
            _ => return Ok(Err(Failure::of(&response, shown, None))),
        }
        match self.body(response, TOKEN_BODY, &shown)? {
            Ok(body) => token_of(&body, realm).map(Ok),
            Err(failure) => Ok(Err(failure)),
        }
    }

    /// A whole body, bounded.
    fn body(&self, mut response: Response, most: usize, path: &str) -> Result<Result<Vec<u8>, Failure>> {
        let mut body = Vec::new();
        loop {
            match self.chunk(&mut response, path)? {
                Ok(Some(chunk)) if body.len() + chunk.len() > most => {
                    return Err(Error::limit("response size", most as u64, body.len() + chunk.len(), path));
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(Ok(body)),
                Err(failure) => return Ok(Err(failure)),
            }
        }
    }

    /// A success, or what the registry says is wrong.
    fn answer(&self, response: Response, path: &str) -> Result<Result<Response, Failure>> {
        let status = response.status();
        if matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            return Ok(Ok(response));
        }
        let shown = shown(response.url());
        let mut failure = Failure::of(&response, shown.clone(), None);
        // What it says is worth a little waiting and nothing more.
        if let Ok(Ok(body)) = self.body(response, ERROR_BODY, path) {
            failure = Failure { error: registry_error(status, &shown, Some(&body)), ..failure };
        }
        if failure.may_pass { Ok(Err(failure)) } else { Err(failure.error) }
    }
}

/// A request that failed in a way that may pass.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    retry_after: Option<Duration>,
    may_pass: bool,
}

impl Failure {
    fn network(object: String, cause: &reqwest::Error) -> Failure {
        let mut causes = String::new();
        let mut at: Option<&dyn std::error::Error> = Some(cause);
        while let Some(error) = at {
            causes = error.to_string();
            at = error.source();
        }
        let status = if cause.is_timeout() { Status::Timeout } else { Status::Network };
        let error = Error::new(status, format!("{object}: {}", quoted(causes.as_bytes())));
        Failure { error, retry_after: None, may_pass: true }
    }

    pub(super) fn stalled(object: String) -> Failure {
        let error = Error::new(Status::Timeout, format!("{object}: the server went silent"));
        Failure { error, retry_after: None, may_pass: true }
    }

    pub(super) fn broken(why: String) -> Failure {
        Failure { error: Error::new(Status::Network, why), retry_after: None, may_pass: true }
    }

    fn of(response: &Response, shown: String, body: Option<&[u8]>) -> Failure {
        let status = response.status();
        let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let may_pass =
            status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        Failure { error: registry_error(status, &shown, body), retry_after: seconds.map(Duration::from_secs), may_pass }
    }
}

/// What an answer of a registry comes to (distribution spec, error codes).
fn registry_error(status: StatusCode, shown: &str, body: Option<&[u8]>) -> Error {
    let told = body.and_then(|body| serde_json::from_slice::<oci_client::errors::OciEnvelope>(body).ok());
    let told = told.and_then(|envelope| envelope.errors.into_iter().next());
    let code = told.as_ref().and_then(|told| serde_json::to_value(&told.code).ok()?.as_str().map(str::to_owned));
    let kind = match status {
        StatusCode::UNAUTHORIZED => Status::Unauthorized,
        StatusCode::FORBIDDEN => Status::Denied,
        StatusCode::NOT_FOUND => Status::NotFound,
        StatusCode::TOO_MANY_REQUESTS => Status::RateLimited,
        _ => Status::Registry,
    };
    let mut message = format!("{shown}: HTTP {}", status.as_u16());
    if let Some(told) = &told {
        message.push_str(&format!(", {} {}", code.as_deref().unwrap_or(""), quoted(told.message.as_bytes())));
    }
    Error::new(kind, message).with_http_status(status.as_u16()).with_registry_code(code)
}

/// A body in another form than was asked for would be hashed as something else.
fn refuse_encoding(headers: &HeaderMap, path: &str) -> Result<()> {
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            Err(Error::new(Status::Registry, format!("{path}: the answer has a Content-Encoding")))
        }
        _ => Ok(()),
    }
}

fn basic(credentials: &Credentials) -> String {
    use base64::Engine as _;
    let Credentials { user, password } = credentials;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

fn is_same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host() == other.host()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// An address that only this machine or its network can reach.
fn is_inside(host: url::Host<&str>) -> bool {
    match host {
        url::Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
        url::Host::Ipv4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified(),
        url::Host::Ipv6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => is_inside(url::Host::Ipv4(ip)),
            None => ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local(),
        },
    }
}

/// An address without what may be secret in it.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}
