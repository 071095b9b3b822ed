//! The bytes of one blob, on their way into the store. They come from the offset where the last
//! request ended, and from whichever host has them. They come in one stream, or in parts where one
//! stream is slow.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT_RANGES, CONTENT_RANGE, ETAG, HeaderValue};
use reqwest::{Response, StatusCode};

use super::context::Pull;
use super::endpoint::{Answer, ByteRange};
use super::progress::LayerCounts;
use super::registry::BlobHosts;
use super::retry::Failure;
use crate::error::{Error, Result, Status};
use crate::interrupt::Cancel;
use crate::layer::GrowingBlob;
use crate::oci::Descriptor;
use crate::store::Staged;
use crate::sys;

/// Tries that bring next to nothing before the download is given up, and what is more than that.
const FRUITLESS: u32 = 5;
const FRUIT: u64 = 16 << 10;
/// A stream that brings less than that a second, for so many times as long as one may be silent, is
/// as good as silent. Others may be waiting for this blob.
const TRICKLE: u64 = 1 << 10;
const TRICKLE_STALLS: u32 = 2;
/// HTTP's word of who does not know ranges, which is no failure that passes.
const NOT_IMPLEMENTED: u16 = 501;
/// Below so many bytes a second a stream is slow, once it was watched for a while.
const SLOW: u64 = 16 << 20;
const WATCHED: Duration = Duration::from_millis(1500);
/// With less than that missing, parts are not worth their requests.
const WORTHWHILE: u64 = 4 * PART;
/// Bytes of a part, and how many are on their way at a time. All of them are held in memory.
const PART: u64 = 1 << 20;
const CONNECTIONS: usize = 4;

/// Why a layer did not arrive.
pub(super) enum FetchError {
    /// The way to it, or whoever is at its end; what arrived is good.
    Transport(Error),
    /// What the server has is not what it had, or it gives no more of it from where we are: only from its start.
    ContentChanged(Error),
    /// The bytes, our disk, or the caller's wish.
    Permanent(Error),
    /// It arrived, and was not to be unpacked.
    Unpacking(Error),
    /// Unpacking ended before.
    Cancelled,
}

impl From<Error> for FetchError {
    fn from(error: Error) -> FetchError {
        FetchError::Permanent(error)
    }
}

impl FetchError {
    /// The same for whoever follows.
    pub(super) fn copy(&self) -> Error {
        match self {
            FetchError::Transport(error)
            | FetchError::ContentChanged(error)
            | FetchError::Permanent(error)
            | FetchError::Unpacking(error) => error.clone(),
            FetchError::Cancelled => Error::new(Status::Cancelled, "unpacking ended"),
        }
    }

    pub(super) fn into_error(self) -> Error {
        match self {
            FetchError::Transport(error)
            | FetchError::ContentChanged(error)
            | FetchError::Permanent(error)
            | FetchError::Unpacking(error) => error,
            FetchError::Cancelled => Error::new(Status::Cancelled, "unpacking ended"),
        }
    }

    /// Whether what arrived is worth keeping for another pull.
    pub(super) fn is_of_the_way(&self) -> bool {
        match self {
            FetchError::Transport(_) => true,
            FetchError::Permanent(error) => {
                matches!(error.status(), Status::Cancelled | Status::Timeout | Status::Callback)
            }
            _ => false,
        }
    }
}

/// A download on its way into a staged blob. Whoever reads `growing` follows.
pub(super) struct BlobFetcher<'a, 's> {
    pub(super) sources: &'a mut BlobHosts<'s>,
    pub(super) layer: &'a Descriptor,
    pub(super) staged: &'a mut Staged,
    pub(super) growing: &'a GrowingBlob,
    pub(super) counts: &'a LayerCounts,
    pub(super) stop: &'a Cancel,
    /// In one request at a time.
    pub(super) is_single: bool,
    /// The last host that is left refuses to go on from the middle.
    pub(super) refuses_ranges: bool,
}

impl BlobFetcher<'_, '_> {
    pub(super) fn receive(&mut self, pull: &Arc<Pull>) -> Result<(), FetchError> {
        let path = format!("blobs/{}", self.layer.digest);
        let mut etag = None;
        let mut fruitless = 0;
        let mut last: Option<Failure> = None;
        while self.staged.bytes_written() < self.layer.size {
            pull.registry.pause(fruitless, last.as_ref())?;
            let before = self.staged.bytes_written();
            let failure = match self.attempt(pull, &path, &mut etag) {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(failure)) => failure,
                Err(FetchError::Transport(error)) => {
                    if self.sources.pass_on(&error) {
                        (etag, last) = (None, None);
                        continue;
                    }
                    if self.refuses_the_rest(&error) {
                        return Err(FetchError::ContentChanged(error));
                    }
                    return Err(FetchError::Transport(error));
                }
                Err(trouble) => return Err(trouble),
            };
            if self.sources.pass_on(&failure.error) {
                (etag, last) = (None, None);
                continue;
            }
            if self.refuses_the_rest(&failure.error) {
                return Err(FetchError::ContentChanged(failure.error));
            }
            // A byte now and then is no progress.
            fruitless = if self.staged.bytes_written() >= before + FRUIT { 1 } else { fruitless + 1 };
            if fruitless >= FRUITLESS {
                return Err(FetchError::Transport(failure.error));
            }
            last = Some(failure);
        }
        Ok(())
    }

    /// Whether an answer to a request for the rest is a definite no. It says nothing of a request for all of it, and asking
    /// for the same rest again would bring the same (registry.k8s.io#333).
    fn refuses_the_rest(&mut self, error: &Error) -> bool {
        let is_refusal = error.http_status().is_some_and(|status| {
            (400..500).contains(&status) && !matches!(status, 401 | 407 | 408 | 429) || status == NOT_IMPLEMENTED
        });
        self.refuses_ranges |= is_refusal && self.staged.bytes_written() > 0;
        self.refuses_ranges
    }

    /// One request, from where the one before ended.
    fn attempt(
        &mut self,
        pull: &Arc<Pull>,
        path: &str,
        etag: &mut Option<HeaderValue>,
    ) -> Result<Result<(), Failure>, FetchError> {
        let offset = self.staged.bytes_written();
        let mut response = match self.sources.begin(path, offset) {
            Ok(Ok(response)) => response,
            Ok(Err(failure)) => return Ok(Err(failure)),
            Err(error) if error.http_status() == Some(416) => return Err(FetchError::ContentChanged(error)),
            // Ours, and not of whom we asked.
            Err(error) if matches!(error.status(), Status::Cancelled | Status::Internal) => {
                return Err(FetchError::Permanent(error));
            }
            Err(error) => return Err(FetchError::Transport(error)),
        };
        // A server that ignores the range sends all of it; what is there already is passed over.
        let mut skip = if response.status() == StatusCode::PARTIAL_CONTENT { 0 } else { offset };
        self.check_range(path, offset, &response)?;
        self.check_same(path, etag, &response)?;
        let gives_ranges = response.status() == StatusCode::PARTIAL_CONTENT
            || response.headers().get(ACCEPT_RANGES).is_some_and(|ranges| ranges == "bytes");
        let mut pace = StreamSpeed::new();
        let mut trickle = (Instant::now(), self.staged.bytes_written());
        loop {
            let watched = trickle.0.elapsed();
            if watched >= pull.registry.stall() * TRICKLE_STALLS {
                let brought = self.staged.bytes_written() - trickle.1;
                if (brought as f64) < TRICKLE as f64 * watched.as_secs_f64() && skip == 0 {
                    return Ok(Err(Failure::stalled(self.sources.describe(path))));
                }
                trickle = (Instant::now(), self.staged.bytes_written());
            }
            if gives_ranges && skip == 0 && !self.is_single && pace.is_slow() && self.missing() > WORTHWHILE {
                // This one is slow; several together may not be.
                drop(response);
                return self.in_parts(pull, path);
            }
            if self.stop.is_triggered() {
                return Err(FetchError::Cancelled);
            }
            let chunk = match self.sources.chunk(path, &mut response)? {
                Ok(Some(chunk)) => chunk,
                Ok(None) if self.missing() == 0 => return Ok(Ok(())),
                Ok(None) => {
                    let (written, size) = (self.staged.bytes_written(), self.layer.size);
                    let why = format!("{}: ended after {written} of {size} bytes", self.sources.describe(path));
                    return Ok(Err(Failure::broken(why)));
                }
                Err(failure) => return Ok(Err(failure)),
            };
            let passed = (chunk.len() as u64).min(skip);
            skip -= passed;
            let bytes = &chunk[passed as usize..];
            pace.note(chunk.len() as u64);
            self.take(bytes)?;
            if self.missing() == 0 {
                return Ok(Ok(()));
            }
        }
    }

    /// That it is what was asked for before: of the declared size, and with the same tag.
    fn check_same(&self, path: &str, etag: &mut Option<HeaderValue>, response: &Response) -> Result<(), FetchError> {
        if let Some(length) = response.content_length().filter(|_| response.status() == StatusCode::OK)
            && length != self.layer.size
        {
            let (what, size) = (self.sources.describe(path), self.layer.size);
            let why = format!("{what}: declared as {size} bytes, the server has {length}");
            return Err(FetchError::Permanent(Error::new(Status::SizeMismatch, why)));
        }
        let tag = response.headers().get(ETAG).cloned();
        if let (Some(before), Some(tag)) = (etag.as_ref(), &tag)
            && before != tag
        {
            let why = format!("{}: it changed in the middle of the download", self.sources.describe(path));
            return Err(FetchError::ContentChanged(Error::new(Status::Registry, why)));
        }
        *etag = tag;
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self.staged.write(bytes)?;
        self.growing.grow(bytes.len() as u64);
        self.counts.fetched(bytes.len() as u64);
        Ok(())
    }

    fn missing(&self) -> u64 {
        self.layer.size.saturating_sub(self.staged.bytes_written())
    }

    /// The rest, in several requests at a time, whose parts are written in their order.
    fn in_parts(&mut self, pull: &Arc<Pull>, path: &str) -> Result<Result<(), Failure>, FetchError> {
        let Some(at) = self.sources.current() else { return Ok(Ok(())) };
        tracing::info!("{}: slow, from here in parts", self.sources.describe(path));
        // Whatever becomes of it: after a failure one connection does.
        self.is_single = true;
        let mut next = self.staged.bytes_written();
        let mut parts = PartsInFlight::default();
        loop {
            while parts.threads.len() < CONNECTIONS && next < self.layer.size {
                let part = ByteRange { from: next, to: Some((next + PART).min(self.layer.size)) };
                next = (next + PART).min(self.layer.size);
                let (pull, path, cancel) = (pull.clone(), path.to_owned(), parts.cancel.clone());
                let body = move || pull.registry.part(at, &path, part, &cancel);
                let thread = sys::spawn("bl-part", body).map_err(|cause| Error::io(&cause, "start a thread"))?;
                parts.threads.push_back(thread);
            }
            let Some(part) = parts.threads.pop_front() else { return Ok(Ok(())) };
            while !part.is_finished() && !self.stop.is_triggered() {
                std::thread::sleep(Duration::from_millis(1));
            }
            if self.stop.is_triggered() {
                parts.threads.push_front(part);
                return Err(FetchError::Cancelled);
            }
            match part.join() {
                Ok(Ok(Ok(bytes))) => self.take(&bytes)?,
                Ok(Ok(Err(failure))) => return Ok(Err(failure)),
                Ok(Err(error)) if error.status() == Status::Cancelled => return Err(FetchError::Permanent(error)),
                Ok(Err(error)) => return Err(FetchError::Transport(error)),
                Err(_) => return Err(Error::new(Status::Internal, "a thread of a pull died").into()),
            }
        }
    }

    /// That a part is the part that was asked for (RFC 9110, 14.4).
    fn check_range(&self, path: &str, offset: u64, response: &Response) -> Result<(), FetchError> {
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok(());
        }
        let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok()).unwrap_or_default();
        let begins = range.strip_prefix("bytes ").and_then(|range| range.split_once('-')?.0.parse().ok());
        let total = range.rsplit_once('/').map(|(_, total)| total);
        let is_total = total.is_some_and(|total| total == "*" || total.parse() == Ok(self.layer.size));
        if begins == Some(offset) && offset > 0 && is_total {
            return Ok(());
        }
        let why = format!("{}: another range than was asked for", self.sources.describe(path));
        Err(FetchError::ContentChanged(Error::new(Status::Registry, why)))
    }
}

/// Parts that are on their way. However it ends, none of them is left behind.
#[derive(Default)]
struct PartsInFlight {
    threads: VecDeque<JoinHandle<Answer<Vec<u8>>>>,
    cancel: Cancel,
}

impl Drop for PartsInFlight {
    fn drop(&mut self) {
        self.cancel.trigger();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// How fast a stream is.
struct StreamSpeed {
    since: Instant,
    bytes: u64,
}

impl StreamSpeed {
    fn new() -> StreamSpeed {
        StreamSpeed { since: Instant::now(), bytes: 0 }
    }

    fn note(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Whether it was slow for a while; then another while begins.
    fn is_slow(&mut self) -> bool {
        let time = self.since.elapsed();
        if time < WATCHED {
            return false;
        }
        let is_slow = (self.bytes as f64) < SLOW as f64 * time.as_secs_f64();
        *self = StreamSpeed::new();
        is_slow
    }
}
