//! One host of a repository: requests with the right credentials, bounded answers, redirects within limits.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, LOCATION, RANGE,
    WWW_AUTHENTICATE,
};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use zeroize::Zeroizing;

use super::auth::{Challenge, token_of};
use super::credential_source::{CredentialSource, FoundCredentials};
use super::credentials::{Credentials, joined};
use super::host::Host;
use super::ip_scope::IpScope;
use super::retry::{Failure, is_retryable, registry_error, retry_after, shown};
use super::transport::Transport;
use crate::error::{Error, Result, Status, quoted};
use crate::interrupt::Interrupt;
use crate::runtime::Network;

/// The longest body of an error, and of a token; all headers together.
const ERROR_BODY: usize = 64 << 10;
const TOKEN_BODY: usize = 1 << 20;
const HEADERS: usize = 64 << 10;
const REDIRECTS: usize = 5;
/// How long a document, a token or an error may take in all, however it drips.
const WHOLE_BODY: Duration = Duration::from_secs(60);
/// As whom we ask for a token in exchange for an identity token.
const CLIENT_ID: &str = "boxlite-images";

/// What a request comes to: a final error, a failure that may pass, or an answer.
pub(super) type Answer<T> = Result<Result<T, Failure>>;

/// Which bytes of something are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ByteRange {
    pub(super) from: u64,
    /// Up to and without this one; to the end without.
    pub(super) to: Option<u64>,
}

impl ByteRange {
    /// The value of a `Range` header (RFC 9110, 14.2); none for all of it.
    fn range(self) -> Option<String> {
        match (self.from, self.to) {
            (0, None) => None,
            (from, None) => Some(format!("bytes={from}-")),
            (from, Some(to)) => Some(format!("bytes={from}-{}", to.saturating_sub(1))),
        }
    }
}

/// What a pull's requests have in common.
#[derive(Clone)]
pub(super) struct RequestContext {
    pub(super) network: Arc<Network>,
    pub(super) interrupt: Interrupt,
    /// Without a byte for so long, a server is taken for dead.
    pub(super) stall: Duration,
}

pub(super) struct Endpoint {
    pub(super) host: Host,
    transport: Transport,
    /// The repository on this host.
    repository: String,
    source: CredentialSource,
    found: OnceCell<FoundCredentials>,
    /// What goes into `Authorization`, once the host asked for it.
    authorization: Mutex<Option<HeaderValue>>,
}

impl Endpoint {
    pub(super) fn new(host: Host, transport: Transport, repository: &str, source: CredentialSource) -> Endpoint {
        let repository = repository.to_owned();
        let (found, authorization) = (OnceCell::new(), Mutex::default());
        Endpoint { host, transport, repository, source, found, authorization }
    }

    /// What a request for a path of the repository is called in an error.
    pub(super) fn describe(&self, path: &str) -> String {
        shown(&self.url(path).unwrap_or_else(|_| self.host.base.clone()))
    }

    fn url(&self, path: &str) -> Result<Url> {
        let mut url = self
            .host
            .base
            .join(&format!("{}/{path}", self.repository))
            .map_err(|_| Error::new(Status::Internal, format!("{} is no path", quoted(path.as_bytes()))))?;
        if let Some(namespace) = self.host.namespace.as_ref().filter(|namespace| **namespace != self.host.name()) {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        Ok(url)
    }

    /// A success of a GET, of all of it or of a part.
    pub(super) fn get(&self, with: &RequestContext, path: &str, accept: &str, part: ByteRange) -> Answer<Response> {
        let url = self.url(path)?;
        let authorization = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let response = match self.follow(with, url.clone(), accept, part, authorization.as_ref())? {
            Ok(response) => response,
            Err(failure) => return Ok(Err(failure)),
        };
        if response.status() != StatusCode::UNAUTHORIZED || !is_same_origin(response.url(), &self.host.base) {
            return self.answer(with, response);
        }
        // Once: a registry that asks again after it was answered does not mean us.
        let authorization = match self.authorize(with, &response, authorization.is_some())? {
            Ok(authorization) => authorization,
            Err(failure) => return Ok(Err(failure)),
        };
        match self.follow(with, url, accept, part, Some(&authorization))? {
            Ok(response) => self.answer(with, response),
            Err(failure) => Ok(Err(failure)),
        }
    }

    /// The next bytes of a body; `None` at its end.
    pub(super) fn chunk(&self, with: &RequestContext, response: &mut Response) -> Answer<Option<bytes::Bytes>> {
        match with.network.wait(&with.interrupt, with.stall, response.chunk())? {
            Some(Ok(chunk)) => Ok(Ok(chunk)),
            Some(Err(cause)) => Ok(Err(Failure::network(shown(response.url()), &cause))),
            None => Ok(Err(Failure::stalled(shown(response.url())))),
        }
    }

    /// A whole body, bounded.
    pub(super) fn body(&self, with: &RequestContext, mut response: Response, most: usize) -> Answer<Vec<u8>> {
        let too_long = |length: u64, response: &Response| {
            Err(Error::limit("response size", most as u64, length, shown(response.url())))
        };
        if let Some(length) = response.content_length().filter(|&length| length > most as u64) {
            return too_long(length, &response);
        }
        // A token in it is copied once: room that grows leaves what it had behind.
        let mut body = Vec::with_capacity(response.content_length().unwrap_or(0) as usize);
        let started = Instant::now();
        loop {
            if started.elapsed() >= WHOLE_BODY.max(with.stall) {
                return Ok(Err(Failure::stalled(shown(response.url()))));
            }
            match self.chunk(with, &mut response)? {
                Ok(Some(chunk)) if body.len() + chunk.len() > most => {
                    return too_long((body.len() + chunk.len()) as u64, &response);
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(Ok(body)),
                Err(failure) => return Ok(Err(failure)),
            }
        }
    }

    /// A request and what it is redirected to. Credentials, and what is said in headers, are for this host alone.
    fn follow(
        &self,
        with: &RequestContext,
        mut url: Url,
        accept: &str,
        part: ByteRange,
        authorization: Option<&HeaderValue>,
    ) -> Answer<Response> {
        // Who was sent away once comes back as a stranger: whoever sent us back chose where to.
        let mut is_own = true;
        for _ in 0..=REDIRECTS {
            is_own &= is_same_origin(&url, &self.host.base);
            let client = if is_own { self.transport.own()? } else { self.transport.stranger()? };
            let mut request = client.get(url.clone()).header(ACCEPT, accept).header(ACCEPT_ENCODING, "identity");
            if let Some(range) = part.range() {
                request = request.header(RANGE, range);
            }
            if is_own {
                request = request.headers(self.host.settings.headers.clone());
                if let Some(authorization) = authorization {
                    request = request.header(AUTHORIZATION, authorization);
                }
            }
            let shown = shown(&url);
            let response = match self.send(with, request, &shown)? {
                Ok(response) => response,
                Err(failure) => return Ok(Err(failure)),
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
                Some(target) if matches!(target.scheme(), "http" | "https") && has_no_user(&target) => url = target,
                _ => return refuse("redirected to nowhere"),
            }
        }
        Err(Error::new(Status::Registry, format!("{}: redirected more than {REDIRECTS} times", shown(&url))))
    }

    fn send(&self, with: &RequestContext, request: RequestBuilder, shown: &str) -> Answer<Response> {
        let response = match with.network.run(&with.interrupt, with.stall, request.send())? {
            Some(Ok(response)) => response,
            Some(Err(cause)) => return Ok(Err(self.by_way_of(Failure::network(shown.to_owned(), &cause)))),
            None => return Ok(Err(self.by_way_of(Failure::stalled(shown.to_owned())))),
        };
        let length: usize = response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if length > HEADERS {
            return Err(Error::limit("response headers", HEADERS as u64, length, shown));
        }
        Ok(Ok(response))
    }

    /// A failure that says whose it may be too.
    fn by_way_of(&self, failure: Failure) -> Failure {
        if !self.transport.has_proxies() {
            return failure;
        }
        let error = failure.error.detail(format_args!("by way of the proxy {}", self.transport.proxy_names()));
        Failure { error, ..failure }
    }

    /// Who we are here; looked up once, when the host asks.
    fn found(&self, interrupt: &Interrupt) -> Result<&FoundCredentials> {
        self.found.get_or_try_init(|| self.source.find(&self.host.credential_name(), &self.repository, interrupt))
    }

    /// Answers a challenge; gives what to send, and keeps it for later requests.
    fn authorize(&self, with: &RequestContext, response: &Response, was_sent: bool) -> Answer<HeaderValue> {
        let found = self.found(&with.interrupt)?;
        let shown = shown(response.url());
        let refuse = |why: &str| {
            let why = format!("{shown}: {why} ({})", found.from);
            Error::new(Status::Unauthorized, why).with_http_status(401)
        };
        let headers = response.headers().get_all(WWW_AUTHENTICATE);
        let challenge = Challenge::parse(headers.iter().filter_map(|header| header.to_str().ok()));
        let authorization = match challenge.ok_or_else(|| refuse("asks for credentials, and not how"))? {
            Challenge::Basic => {
                let basic = found.credentials.as_ref().and_then(Credentials::basic);
                let basic = basic.ok_or_else(|| refuse("asks for a user and a password"))?;
                if was_sent {
                    return Err(refuse("the user or the password is wrong"));
                }
                secret(basic)
            }
            Challenge::Bearer { realm, service, scope } => {
                match self.token(with, found, &realm, service.as_deref(), scope.as_deref(), response.remote_addr())? {
                    Ok(token) => secret(joined(&["Bearer ", &token])),
                    Err(failure) => return Ok(Err(failure)),
                }
            }
        };
        let authorization = authorization.ok_or_else(|| refuse("the credentials fit into no header"))?;
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(authorization.clone());
        Ok(Ok(authorization))
    }

    fn token(
        &self,
        with: &RequestContext,
        found: &FoundCredentials,
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
        asked_by: Option<SocketAddr>,
    ) -> Answer<Zeroizing<String>> {
        let refuse = |why: &str| {
            let realm = quoted(realm.as_bytes());
            Error::new(Status::Registry, format!("{}: token server {realm}: {why}", shown(&self.host.base)))
        };
        let from = self.reach(asked_by);
        let url = self.token_server(realm, from).map_err(refuse)?;
        let default = format!("repository:{}:pull", self.repository);
        let client = self.transport.token(from)?;
        let request = token_request(client, url.clone(), found, service, scope.unwrap_or(&default));
        let shown = shown(&url);
        let response = match self.send(with, request.header(ACCEPT_ENCODING, "identity"), &shown)? {
            Ok(response) => response,
            Err(failure) if failure.error.message().contains("inside this machine or network") => {
                return Err(refuse("is an address inside this machine or network"));
            }
            Err(failure) => return Ok(Err(failure)),
        };
        match response.status() {
            StatusCode::OK => {}
            // It may not send us, and our password, on.
            status if status.is_redirection() => return Err(refuse("redirects")),
            status if is_retryable(status) => {
                let retry_after = retry_after(&response);
                return Ok(Err(Failure { error: registry_error(status, &shown, None), retry_after }));
            }
            status => {
                let is_refusal =
                    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST);
                let kind = if is_refusal { Status::Unauthorized } else { Status::Registry };
                let why = format!("{shown}: HTTP {} for a token ({})", status.as_u16(), found.from);
                return Err(Error::new(kind, why).with_http_status(status.as_u16()));
            }
        }
        match self.body(with, response, TOKEN_BODY)? {
            Ok(body) => token_of(&Zeroizing::new(body), realm).map(Ok),
            Err(failure) => Ok(Err(failure)),
        }
    }

    /// The address of a token server that this host may name, or why it may not.
    fn token_server(&self, realm: &str, from: IpScope) -> Result<Url, &'static str> {
        let url = Url::parse(realm).map_err(|_| "is no address")?;
        if url.scheme() != "https" && (url.scheme() != "http" || self.host.base.scheme() != "http") {
            return Err("is not reached by https");
        }
        if !has_no_user(&url) {
            return Err("has a user in its address");
        }
        if literal(&url).is_some_and(|ip| !from.may_name(IpScope::of(ip))) {
            return Err("is an address inside this machine or network");
        }
        Ok(url)
    }

    /// Where this host is: where its answer came from, unless that was a proxy's.
    fn reach(&self, asked_by: Option<SocketAddr>) -> IpScope {
        let asked_by = asked_by.filter(|_| !self.transport.has_proxies()).map(|address| address.ip());
        literal(&self.host.base).or(asked_by).map_or(IpScope::Everywhere, IpScope::of)
    }

    /// A success, or what the registry says is wrong.
    fn answer(&self, with: &RequestContext, response: Response) -> Answer<Response> {
        let status = response.status();
        let shown = shown(response.url());
        if matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            // A body in another form than was asked for would be hashed as something else.
            return match response.headers().get(CONTENT_ENCODING) {
                Some(encoding) if encoding != "identity" => {
                    Err(Error::new(Status::Registry, format!("{shown}: the answer has a Content-Encoding")))
                }
                _ => Ok(Ok(response)),
            };
        }
        let retry_after = retry_after(&response);
        // What it says is worth a little waiting and nothing more.
        let body = self.body(with, response, ERROR_BODY);
        with.interrupt.check()?;
        let mut error = registry_error(status, &shown, body.ok().and_then(Result::ok).as_deref());
        if matches!(error.status(), Status::Unauthorized | Status::Denied)
            && let Some(found) = self.found.get()
        {
            error = error.detail(&found.from);
        }
        if is_retryable(status) { Ok(Err(Failure { error, retry_after })) } else { Err(error) }
    }
}

/// A header's value that is wiped when the last request that has it is gone.
fn secret(text: Zeroizing<String>) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_maybe_shared(wiped(text)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn wiped(text: Zeroizing<String>) -> bytes::Bytes {
    bytes::Bytes::from_owner(text)
}

fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        url::Host::Domain(_) => None,
        url::Host::Ipv4(ip) => Some(IpAddr::V4(ip)),
        url::Host::Ipv6(ip) => Some(IpAddr::V6(ip)),
    }
}

fn has_no_user(url: &Url) -> bool {
    url.username().is_empty() && url.password().is_none()
}

fn is_same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host() == other.host()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// What asks for a token: an identity token is exchanged (OAuth2 refresh grant), a user and a password are shown.
fn token_request(
    client: &Client,
    mut url: Url,
    found: &FoundCredentials,
    service: Option<&str>,
    scope: &str,
) -> RequestBuilder {
    if let Some(identity) = found.credentials.as_ref().and_then(Credentials::as_identity_token) {
        // Room for all of it, escaped.
        let room = 3 * (identity.len() + scope.len() + service.map_or(0, str::len)) + 128;
        let mut form = url::form_urlencoded::Serializer::new(String::with_capacity(room));
        form.append_pair("grant_type", "refresh_token").append_pair("client_id", CLIENT_ID);
        form.append_pair("service", service.unwrap_or_default()).append_pair("scope", scope);
        form.append_pair("refresh_token", identity);
        let body = wiped(form.finish().into());
        return client.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
    }
    {
        let mut query = url.query_pairs_mut();
        service.into_iter().for_each(|service| _ = query.append_pair("service", service));
        query.append_pair("scope", scope);
    }
    let basic = found.credentials.as_ref().and_then(Credentials::basic);
    let request = client.get(url);
    match basic.and_then(secret) {
        Some(basic) => request.header(AUTHORIZATION, basic),
        None => request,
    }
}
