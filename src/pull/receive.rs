//! The bytes of one blob, on their way into the store: from the offset where the last request ended, from whichever host
//! has them, in one stream, or in parts where one stream is slow.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT_RANGES, CONTENT_RANGE, ETAG, HeaderValue};
use reqwest::{Response, StatusCode};

use super::context::Pull;
use super::endpoint::{Answer, Part};
use super::failure::Failure;
use super::progress::LayerCounts;
use super::registry::Sources;
use crate::error::{Error, Result, Status};
use crate::interrupt::Cancel;
use crate::layer::Growing;
use crate::oci::Descriptor;
use crate::store::Staged;
use crate::sys;

/// Tries that bring next to nothing before the download is given up, and what is more than that.
const FRUITLESS: u32 = 5;
const FRUIT: u64 = 16 << 10;
/// A stream that brings less than that a second, for so many times as long as one may be silent, is as good as silent:
/// others may be waiting for this blob.
const TRICKLE: u64 = 1 << 10;
const PATIENCE: u32 = 2;
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
pub(super) enum Trouble {
    /// The way to it, or whoever is at its end; what arrived is good.
    Way(Error),
    /// What the server has is not what it had, or it gives no more of it from where we are: only from its start.
    Changed(Error),
    /// The bytes, our disk, or the caller's wish.
    Final(Error),
    /// It arrived, and was not to be unpacked.
    Unpacking(Error),
    /// Unpacking ended before.
    Stopped,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Final(error)
    }
}

impl Trouble {
    /// The same for whoever follows.
    pub(super) fn copy(&self) -> Error {
        match self {
            Trouble::Way(error) | Trouble::Changed(error) | Trouble::Final(error) | Trouble::Unpacking(error) => {
                error.clone()
            }
            Trouble::Stopped => Error::new(Status::Cancelled, "unpacking ended"),
        }
    }

    pub(super) fn into_error(self) -> Error {
        match self {
            Trouble::Way(error) | Trouble::Changed(error) | Trouble::Final(error) | Trouble::Unpacking(error) => error,
            Trouble::Stopped => Error::new(Status::Cancelled, "unpacking ended"),
        }
    }

    /// Whether what arrived is worth keeping for another pull.
    pub(super) fn is_of_the_way(&self) -> bool {
        match self {
            Trouble::Way(_) => true,
            Trouble::Final(error) => {
                matches!(error.status(), Status::Cancelled | Status::Timeout | Status::Callback)
            }
            _ => false,
        }
    }
}

/// A download on its way into a staged blob. Whoever reads `growing` follows.
pub(super) struct Receiver<'a, 's> {
    pub(super) sources: &'a mut Sources<'s>,
    pub(super) layer: &'a Descriptor,
    pub(super) staged: &'a mut Staged,
    pub(super) growing: &'a Growing,
    pub(super) counts: &'a LayerCounts,
    pub(super) stop: &'a Cancel,
    /// In one request at a time.
    pub(super) is_single: bool,
    /// The last host that is left refuses to go on from the middle.
    pub(super) refuses_ranges: bool,
}

impl Receiver<'_, '_> {
    pub(super) fn receive(&mut self, pull: &Arc<Pull>) -> Result<(), Trouble> {
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
                Err(Trouble::Way(error)) => {
                    if self.sources.pass_on(&error) {
                        (etag, last) = (None, None);
                        continue;
                    }
                    if self.refuses_the_rest(&error) {
                        return Err(Trouble::Changed(error));
                    }
                    return Err(Trouble::Way(error));
                }
                Err(trouble) => return Err(trouble),
            };
            if self.sources.pass_on(&failure.error) {
                (etag, last) = (None, None);
                continue;
            }
            if self.refuses_the_rest(&failure.error) {
                return Err(Trouble::Changed(failure.error));
            }
            // A byte now and then is no progress.
            fruitless = if self.staged.bytes_written() >= before + FRUIT { 1 } else { fruitless + 1 };
            if fruitless >= FRUITLESS {
                return Err(Trouble::Way(failure.error));
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
    ) -> Result<Result<(), Failure>, Trouble> {
        let offset = self.staged.bytes_written();
        let mut response = match self.sources.begin(path, offset) {
            Ok(Ok(response)) => response,
            Ok(Err(failure)) => return Ok(Err(failure)),
            Err(error) if error.http_status() == Some(416) => return Err(Trouble::Changed(error)),
            // Ours, and not of whom we asked.
            Err(error) if matches!(error.status(), Status::Cancelled | Status::Internal) => {
                return Err(Trouble::Final(error));
            }
            Err(error) => return Err(Trouble::Way(error)),
        };
        // A server that ignores the range sends all of it; what is there already is passed over.
        let mut skip = if response.status() == StatusCode::PARTIAL_CONTENT { 0 } else { offset };
        self.check_range(path, offset, &response)?;
        self.check_same(path, etag, &response)?;
        let gives_ranges = response.status() == StatusCode::PARTIAL_CONTENT
            || response.headers().get(ACCEPT_RANGES).is_some_and(|ranges| ranges == "bytes");
        let mut pace = Pace::new();
        let mut trickle = (Instant::now(), self.staged.bytes_written());
        loop {
            let watched = trickle.0.elapsed();
            if watched >= pull.registry.stall() * PATIENCE {
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
                return Err(Trouble::Stopped);
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
    fn check_same(&self, path: &str, etag: &mut Option<HeaderValue>, response: &Response) -> Result<(), Trouble> {
        if let Some(length) = response.content_length().filter(|_| response.status() == StatusCode::OK)
            && length != self.layer.size
        {
            let (what, size) = (self.sources.describe(path), self.layer.size);
            let why = format!("{what}: declared as {size} bytes, the server has {length}");
            return Err(Trouble::Final(Error::new(Status::SizeMismatch, why)));
        }
        let tag = response.headers().get(ETAG).cloned();
        if let (Some(before), Some(tag)) = (etag.as_ref(), &tag)
            && before != tag
        {
            let why = format!("{}: it changed in the middle of the download", self.sources.describe(path));
            return Err(Trouble::Changed(Error::new(Status::Registry, why)));
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
    fn in_parts(&mut self, pull: &Arc<Pull>, path: &str) -> Result<Result<(), Failure>, Trouble> {
        let Some(at) = self.sources.current() else { return Ok(Ok(())) };
        tracing::info!("{}: slow, from here in parts", self.sources.describe(path));
        // Whatever becomes of it: after a failure one connection does.
        self.is_single = true;
        let mut next = self.staged.bytes_written();
        let mut parts = Parts::default();
        loop {
            while parts.threads.len() < CONNECTIONS && next < self.layer.size {
                let part = Part { from: next, to: Some((next + PART).min(self.layer.size)) };
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
                return Err(Trouble::Stopped);
            }
            match part.join() {
                Ok(Ok(Ok(bytes))) => self.take(&bytes)?,
                Ok(Ok(Err(failure))) => return Ok(Err(failure)),
                Ok(Err(error)) if error.status() == Status::Cancelled => return Err(Trouble::Final(error)),
                Ok(Err(error)) => return Err(Trouble::Way(error)),
                Err(_) => return Err(Error::new(Status::Internal, "a thread of a pull died").into()),
            }
        }
    }

    /// That a part is the part that was asked for (RFC 9110, 14.4).
    fn check_range(&self, path: &str, offset: u64, response: &Response) -> Result<(), Trouble> {
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
        Err(Trouble::Changed(Error::new(Status::Registry, why)))
    }
}

/// Parts that are on their way. However it ends, none of them is left behind.
#[derive(Default)]
struct Parts {
    threads: VecDeque<JoinHandle<Answer<Vec<u8>>>>,
    cancel: Cancel,
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.cancel.trigger();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// How fast a stream is.
struct Pace {
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn new() -> Pace {
        Pace { since: Instant::now(), bytes: 0 }
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
        *self = Pace::new();
        is_slow
    }
}
