//! One layer: downloaded, hashed and written on one thread, and inflated, verified and unpacked on others while it
//! arrives. The blob is visible when its digest holds, the tree when both do.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::JoinHandle;

use reqwest::header::{CONTENT_RANGE, ETAG, HeaderValue};
use reqwest::{Response, StatusCode};

use super::Pull;
use super::failure::Failure;
use super::plan::Wanted;
use super::progress::LayerCounts;
use super::registry::{Sources, is_of_wrong_bytes};
use crate::error::{Error, Result, Status};
use crate::interrupt::Cancel;
use crate::layer::Growing;
use crate::oci::Descriptor;
use crate::store::{Lock, Staged, download_lock};
use crate::sys;
use crate::unpack::{ExtractOptions, Extraction, ProgressCallback};

/// Tries that bring no byte before the download is given up.
const FRUITLESS: u32 = 5;
/// How often a layer whose bytes changed in the middle, or were wrong, is begun again.
const AGAIN: u32 = 3;

impl Pull {
    /// A layer, stored, and unpacked where that was asked for.
    pub(super) fn layer(self: &Arc<Pull>, wanted: &Wanted, counts: &Arc<LayerCounts>) -> Result<()> {
        let digest = &wanted.descriptor.digest;
        // Who wants the same blob, in whatever process, waits and finds it.
        let lock = Lock::acquire(&self.storage.directory, download_lock(digest), &self.interrupt)?;
        if self.storage.has_layer(digest)? {
            drop(lock);
            counts.set_present(wanted.descriptor.size);
            if !self.options.no_unpack {
                counts.finished(&self.storage.extract_layer(digest, &self.unpacking(wanted, counts))?);
            }
        } else {
            self.fetch(wanted, counts)?;
            drop(lock);
        }
        counts.done();
        Ok(())
    }

    /// Fetches a layer; once more where what it went on from, or what a mirror gave, was wrong.
    fn fetch(self: &Arc<Pull>, wanted: &Wanted, counts: &Arc<LayerCounts>) -> Result<()> {
        let descriptor = &wanted.descriptor;
        for again in 0.. {
            let mut sources = self.registry.sources();
            let staged = self.storage.resume_layer(&descriptor.digest, descriptor.size, &self.interrupt)?;
            let resumed = staged.bytes_written();
            counts.set_present(resumed);
            let error = match self.fetch_once(wanted, counts, staged, &mut sources) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            self.interrupt.check()?;
            let is_helped = match &error {
                Trouble::Changed(_) => again < AGAIN,
                Trouble::Final(error) if is_of_wrong_bytes(error) => {
                    resumed > 0 && again < AGAIN || self.registry.drop_mirrors(sources.used())
                }
                _ => false,
            };
            if !is_helped {
                return Err(sources.explain(error.into_error()));
            }
            tracing::info!("layer {}: begun again", descriptor.digest);
            counts.begin_again();
        }
        Ok(())
    }

    fn fetch_once(
        self: &Arc<Pull>,
        wanted: &Wanted,
        counts: &Arc<LayerCounts>,
        mut staged: Staged,
        sources: &mut Sources<'_>,
    ) -> Result<(), Trouble> {
        let descriptor = &wanted.descriptor;
        let growing = Arc::new(Growing::default());
        growing.grow(staged.bytes_written());
        // Unpacking that failed for a reason of its own ends the download.
        let stop = Cancel::new();
        let unpacking = match self.options.no_unpack {
            true => None,
            false => Some(self.follow(wanted, counts, &staged, &growing, &stop)?),
        };
        let mut receiver =
            Receiver { sources, layer: descriptor, staged: &mut staged, growing: &growing, counts, stop: &stop };
        let fetched = receiver.receive(self).and_then(|()| Ok(staged.commit()?));
        growing.finish(match &fetched {
            Ok(()) => Ok(descriptor.digest.clone()),
            Err(trouble) => Err(trouble.copy()),
        });
        let unpacked = match unpacking.map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result.map(|extraction| counts.finished(&extraction)),
            Some(Err(_)) => Err(Error::new(Status::Internal, "a thread of a pull died")),
        };
        if let Err(trouble) = &fetched
            && trouble.is_of_the_way()
        {
            staged.keep();
        }
        match (fetched, unpacked) {
            (Err(Trouble::Stopped), Err(error)) => Err(Trouble::Final(error)),
            (Err(trouble), _) => Err(trouble),
            (Ok(()), unpacked) => unpacked.map_err(Trouble::Unpacking),
        }
    }

    /// Unpacks what is being written, on a thread of its own.
    fn follow(
        self: &Arc<Pull>,
        wanted: &Wanted,
        counts: &Arc<LayerCounts>,
        staged: &Staged,
        growing: &Arc<Growing>,
        stop: &Cancel,
    ) -> Result<JoinHandle<Result<Extraction>>> {
        let (pull, wanted, growing, stop) = (self.clone(), wanted.clone(), growing.clone(), stop.clone());
        let (file, options) = (staged.reader()?, self.unpacking(&wanted, counts));
        let body = move || {
            let result = pull.storage.extract_following(&wanted.descriptor.digest, file, growing, &options);
            if result.as_ref().is_err_and(|error| !is_of_content(error)) {
                stop.trigger();
            }
            result
        };
        sys::spawn("bl-unpack", body).map_err(|cause| Error::io(&cause, "start a thread"))
    }

    fn unpacking(self: &Arc<Pull>, wanted: &Wanted, counts: &Arc<LayerCounts>) -> ExtractOptions {
        let mut options = super::extract_options(&self.options, wanted.diff_id.as_ref(), &self.interrupt);
        let counts = counts.clone();
        options.progress = Some(ProgressCallback::new(move |progress| {
            counts.unpacked(progress.bytes_out, progress.entries);
            ControlFlow::Continue(())
        }));
        options
    }
}

/// Why a layer did not arrive.
enum Trouble {
    /// The way to it, or whoever is at its end; what arrived is good.
    Way(Error),
    /// What the server has is not what it had.
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
    fn copy(&self) -> Error {
        match self {
            Trouble::Way(error) | Trouble::Changed(error) | Trouble::Final(error) | Trouble::Unpacking(error) => {
                Error::new(error.status(), error.message())
            }
            Trouble::Stopped => Error::new(Status::Cancelled, "unpacking ended"),
        }
    }

    fn into_error(self) -> Error {
        match self {
            Trouble::Way(error) | Trouble::Changed(error) | Trouble::Final(error) | Trouble::Unpacking(error) => error,
            Trouble::Stopped => Error::new(Status::Cancelled, "unpacking ended"),
        }
    }

    /// Whether what arrived is worth keeping for another pull.
    fn is_of_the_way(&self) -> bool {
        match self {
            Trouble::Way(_) => true,
            Trouble::Final(error) => {
                matches!(error.status(), Status::Cancelled | Status::Timeout | Status::Callback)
            }
            _ => false,
        }
    }
}

/// Whether other bytes could have been unpacked.
fn is_of_content(error: &Error) -> bool {
    use Status::*;
    matches!(error.status(), Malformed | Limit | UnsafePath | Unsupported | DigestMismatch | SizeMismatch)
}

/// A download on its way into a staged blob. Whoever reads `growing` follows.
struct Receiver<'a, 's> {
    sources: &'a mut Sources<'s>,
    layer: &'a Descriptor,
    staged: &'a mut Staged,
    growing: &'a Growing,
    counts: &'a LayerCounts,
    stop: &'a Cancel,
}

impl Receiver<'_, '_> {
    fn receive(&mut self, pull: &Pull) -> Result<(), Trouble> {
        let path = format!("blobs/{}", self.layer.digest);
        let mut etag = None;
        let mut fruitless = 0;
        let mut last: Option<Failure> = None;
        while self.staged.bytes_written() < self.layer.size {
            pull.registry.pause(fruitless, last.as_ref())?;
            let before = self.staged.bytes_written();
            let failure = match self.attempt(&path, &mut etag) {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(failure)) => failure,
                Err(Trouble::Way(error)) => {
                    if !self.sources.pass_on(&error) {
                        return Err(Trouble::Way(error));
                    }
                    (etag, last) = (None, None);
                    continue;
                }
                Err(trouble) => return Err(trouble),
            };
            if self.sources.pass_on(&failure.error) {
                (etag, last) = (None, None);
                continue;
            }
            fruitless = if self.staged.bytes_written() > before { 1 } else { fruitless + 1 };
            if fruitless >= FRUITLESS {
                return Err(Trouble::Way(failure.error));
            }
            last = Some(failure);
        }
        Ok(())
    }

    /// One request, from where the one before ended.
    fn attempt(&mut self, path: &str, etag: &mut Option<HeaderValue>) -> Result<Result<(), Failure>, Trouble> {
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
        loop {
            if self.stop.is_triggered() {
                return Err(Trouble::Stopped);
            }
            let chunk = match self.sources.chunk(path, &mut response)? {
                Ok(Some(chunk)) => chunk,
                Ok(None) if self.staged.bytes_written() == self.layer.size => return Ok(Ok(())),
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
            self.staged.write(bytes)?;
            self.growing.grow(bytes.len() as u64);
            self.counts.fetched(bytes.len() as u64);
            if self.staged.bytes_written() == self.layer.size {
                return Ok(Ok(()));
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
