//! One repository, on all hosts that answer for it. There is another try where that can help,
//! another host where one does not have something, and no more of one that gave wrong bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::header::{CONTENT_RANGE, HeaderMap};
use reqwest::{Response, StatusCode};

use super::credential_source::CredentialSource;
use super::endpoint::{Answer, ByteRange, Endpoint, RequestContext};
use super::hosts;
use super::options::PullOptions;
use super::retry::Failure;
use super::transport::Transport;
use crate::error::{Error, Result, Status};
use crate::interrupt::{Cancel, Interrupt};
use crate::limits;
use crate::oci::Reference;
use crate::runtime::Network;

const STALL: Duration = Duration::from_secs(30);
/// Tries of one request, and the first wait between two.
const TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

pub(super) struct Registry {
    /// In the order in which they are asked.
    endpoints: Vec<Endpoint>,
    /// Those that gave wrong bytes.
    dropped: Vec<AtomicBool>,
    with: RequestContext,
}

/// What a host must be good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Capability {
    Resolve,
    Pull,
}

impl Registry {
    /// Asks the host for its credentials, where it has a callback for that.
    pub(super) fn new(
        reference: &Reference,
        options: &PullOptions,
        network: Network,
        interrupt: Interrupt,
    ) -> Result<Registry> {
        let mut endpoints = Vec::new();
        for host in hosts::of(reference, options)? {
            let transport = Transport::new(&host, options)?;
            let source = source(&host.credential_name(), host.is_own(reference), reference, options)?;
            endpoints.push(Endpoint::new(host, transport, &reference.repository, source));
        }
        let dropped = endpoints.iter().map(|_| AtomicBool::new(false)).collect();
        let stall = options.stall_timeout.unwrap_or(STALL);
        Ok(Registry { endpoints, dropped, with: RequestContext { network: Arc::new(network), interrupt, stall } })
    }

    /// How long a server may be silent.
    pub(super) fn stall(&self) -> Duration {
        self.with.stall
    }

    /// What may end the pull early.
    pub(super) fn interrupt(&self) -> &Interrupt {
        &self.with.interrupt
    }

    /// A document that `check` accepts, from the first host that has one.
    pub(super) fn document<T>(
        &self,
        path: &str,
        accept: &str,
        wanted: Capability,
        check: impl Fn(&HeaderMap, &[u8]) -> Result<T>,
    ) -> Result<T> {
        let usable = self.usable(wanted);
        let mut tried = Vec::new();
        for (nth, &at) in usable.iter().enumerate() {
            let is_last = nth + 1 == usable.len();
            let endpoint = &self.endpoints[at];
            let tries = if is_last { TRIES } else { 1 };
            let result =
                self.document_from(endpoint, path, accept, tries).and_then(|(headers, body)| check(&headers, &body));
            match result {
                Ok(found) => return Ok(found),
                Err(error) if is_last || is_refused(endpoint, &error) => return Err(explain(error, &tried)),
                Err(error) => {
                    self.with.interrupt.check()?;
                    tracing::info!("mirror {}: {error}", endpoint.host.name());
                    if is_wrong_content(&error) {
                        self.drop_mirror(at);
                    }
                    tried.push(brief(endpoint, &error));
                }
            }
        }
        Err(explain(nobody(path), &tried))
    }

    fn document_from(&self, endpoint: &Endpoint, path: &str, accept: &str, tries: u32) -> Result<(HeaderMap, Vec<u8>)> {
        let mut last = None;
        for attempt in 0..tries {
            self.pause(attempt, last.as_ref())?;
            let response = match endpoint.get(&self.with, path, accept, ByteRange::default())? {
                Ok(response) => response,
                Err(failure) => {
                    last = Some(failure);
                    continue;
                }
            };
            let headers = response.headers().clone();
            match endpoint.body(&self.with, response, limits::DOCUMENT_SIZE.default as usize)? {
                Ok(body) => return Ok((headers, body)),
                Err(failure) => last = Some(failure),
            }
        }
        Err(last.map_or_else(|| Error::new(Status::Network, "no answer"), |failure| failure.error))
    }

    /// The hosts that may give a blob.
    pub(super) fn sources(&self) -> BlobHosts<'_> {
        let left = self.usable(Capability::Pull);
        BlobHosts { registry: self, left, used: Vec::new(), tried: Vec::new() }
    }

    /// A part of a blob, from one of the hosts.
    pub(super) fn part(&self, at: usize, path: &str, part: ByteRange, cancel: &Cancel) -> Answer<Vec<u8>> {
        let endpoint = &self.endpoints[at];
        let with = RequestContext { interrupt: self.with.interrupt.also(cancel), ..self.with.clone() };
        let response = match endpoint.get(&with, path, "*/*", part)? {
            Ok(response) => response,
            Err(failure) => return Ok(Err(failure)),
        };
        let length = part.to.unwrap_or(part.from).saturating_sub(part.from);
        let expected = format!("bytes {}-{}/", part.from, part.from + length.saturating_sub(1));
        let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
        if response.status() != StatusCode::PARTIAL_CONTENT || !range.is_some_and(|range| range.starts_with(&expected))
        {
            return Ok(Err(Failure::broken(format!("{}: gives no ranges", endpoint.describe(path)))));
        }
        match endpoint.body(&with, response, length as usize)? {
            Ok(body) if body.len() as u64 == length => Ok(Ok(body)),
            Ok(_) => Ok(Err(Failure::broken(format!("{}: a part is too short", endpoint.describe(path))))),
            Err(failure) => Ok(Err(failure)),
        }
    }

    /// Leaves the mirrors among these hosts out from now on; false where there was none.
    pub(super) fn drop_mirrors(&self, hosts: &[usize]) -> bool {
        hosts.iter().filter(|&&at| self.drop_mirror(at)).count() > 0
    }

    /// False for the registry itself.
    fn drop_mirror(&self, at: usize) -> bool {
        let endpoint = &self.endpoints[at];
        if endpoint.host.is_origin {
            return false;
        }
        if !self.dropped[at].swap(true, Ordering::Relaxed) {
            tracing::warn!("mirror {} gave wrong bytes and is not asked again", endpoint.host.name());
        }
        true
    }

    fn usable(&self, wanted: Capability) -> Vec<usize> {
        let is_usable = |at: &usize| {
            let host = &self.endpoints[*at].host;
            let can = if wanted == Capability::Resolve { host.can_resolve() } else { host.can_pull() };
            can && !self.dropped[*at].load(Ordering::Relaxed)
        };
        (0..self.endpoints.len()).filter(is_usable).collect()
    }

    /// Waits before another try, longer each time, and as long as the server asks for.
    pub(super) fn pause(&self, attempt: u32, failure: Option<&Failure>) -> Result<()> {
        let Some(failure) = failure else { return Ok(()) };
        let jitter = u32::from(uuid::Uuid::new_v4().as_bytes()[0]);
        let wait = FIRST_WAIT * 2u32.pow(attempt.saturating_sub(1).min(8));
        let wait = failure.retry_after.unwrap_or(wait + wait * jitter / 512).min(LONGEST_WAIT);
        tracing::info!("{}; again in {} ms", failure.error, wait.as_millis());
        self.with.network.wait(&self.with.interrupt, wait, std::future::pending::<()>()).map(|_| ())
    }
}

/// The hosts that are left for one blob.
pub(super) struct BlobHosts<'a> {
    registry: &'a Registry,
    left: Vec<usize>,
    used: Vec<usize>,
    tried: Vec<String>,
}

impl BlobHosts<'_> {
    /// Begins the blob from an offset on, at the host whose turn it is.
    pub(super) fn begin(&mut self, path: &str, offset: u64) -> Answer<Response> {
        let at = self.at(path)?;
        let part = ByteRange { from: offset, to: None };
        let answer = self.registry.endpoints[at].get(&self.registry.with, path, "*/*", part)?;
        if answer.is_ok() && !self.used.contains(&at) {
            self.used.push(at);
        }
        Ok(answer)
    }

    /// Whose turn it is, for [`Registry::part`].
    pub(super) fn current(&self) -> Option<usize> {
        self.left.first().copied()
    }

    /// The next bytes of what [`BlobHosts::begin`] gave.
    pub(super) fn chunk(&self, path: &str, response: &mut Response) -> Answer<Option<bytes::Bytes>> {
        self.registry.endpoints[self.at(path)?].chunk(&self.registry.with, response)
    }

    /// What a request for the blob is called in an error.
    pub(super) fn describe(&self, path: &str) -> String {
        self.at(path).map_or_else(|_| path.to_owned(), |at| self.registry.endpoints[at].describe(path))
    }

    /// The host failed: whether it is somebody else's turn now. The last one keeps it.
    pub(super) fn pass_on(&mut self, error: &Error) -> bool {
        if self.left.len() < 2 {
            return false;
        }
        let endpoint = &self.registry.endpoints[self.left[0]];
        if is_refused(endpoint, error) {
            return false;
        }
        self.left.remove(0);
        tracing::info!("mirror {}: {error}", endpoint.host.name());
        self.tried.push(brief(endpoint, error));
        true
    }

    /// Who gave bytes, or was to.
    pub(super) fn used(&self) -> &[usize] {
        &self.used
    }

    /// An error that says who was asked before.
    pub(super) fn explain(&self, error: Error) -> Error {
        explain(error, &self.tried)
    }

    fn at(&self, path: &str) -> Result<usize> {
        self.left.first().copied().ok_or_else(|| nobody(path))
    }
}

/// Where credentials for a host come from. What the call gives is for the registry alone.
fn source(name: &str, is_own: bool, reference: &Reference, options: &PullOptions) -> Result<CredentialSource> {
    if let Some(credentials) = options.credentials.as_ref().filter(|_| is_own) {
        return Ok(CredentialSource::Given(credentials.clone(), "credentials of the call"));
    }
    if let Some(callback) = &options.ask_credentials
        && let Some(credentials) = callback.ask(name, &reference.repository)?
    {
        return Ok(CredentialSource::Given(credentials, "credentials of the callback"));
    }
    if options.auth_file.is_some() || options.well_known_auth_files {
        let with_helpers = !options.no_credential_helpers;
        return Ok(CredentialSource::Files { file: options.auth_file.clone(), with_helpers });
    }
    Ok(CredentialSource::Anonymous)
}

/// Whether an error says that bytes are not those that were wanted.
pub(super) fn is_wrong_content(error: &Error) -> bool {
    matches!(error.status(), Status::DigestMismatch | Status::SizeMismatch | Status::Malformed)
}

/// The registry's own refusal is final, also where others could be asked after it.
fn is_refused(endpoint: &Endpoint, error: &Error) -> bool {
    endpoint.host.is_origin && matches!(error.status(), Status::Unauthorized | Status::Denied)
}

fn nobody(path: &str) -> Error {
    let why = "no host is left to ask; which may answer what is said by capabilities in a hosts.toml";
    Error::new(Status::NotFound, format!("{path}: {why}"))
}

fn brief(endpoint: &Endpoint, error: &Error) -> String {
    let what = error.http_status().map_or_else(|| error.status().name().to_owned(), |status| format!("HTTP {status}"));
    format!("{} ({what})", endpoint.host.name())
}

fn explain(error: Error, tried: &[String]) -> Error {
    if tried.is_empty() { error } else { error.detail(format_args!("mirrors tried: {}", tried.join(", "))) }
}
