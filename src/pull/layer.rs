//! One layer: downloaded, hashed and written on one thread, and inflated, verified and unpacked on others while it
//! arrives. The blob is visible when its digest holds, the tree when both do.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::context::{Pull, extract_options};
use super::fetch_blob::{BlobFetcher, FetchError};
use super::progress::LayerCounts;
use super::registry::{BlobHosts, is_wrong_content};
use super::resolve::WantedLayer;
use crate::digest::Digest;
use crate::error::{Error, Result, Status};
use crate::extraction::{ExtractOptions, Extraction};
use crate::fault;
use crate::interrupt::Cancel;
use crate::layer::GrowingBlob;
use crate::store::{Lock, Staged, VerifyOptions, download_lock};
use crate::sys;
use crate::unpack::ProgressCallback;

/// How often a layer whose bytes changed in the middle, or were wrong, is begun again.
const AGAIN: u32 = 3;

impl Pull {
    /// A layer, stored, and unpacked where that was asked for.
    pub(super) fn layer(self: &Arc<Pull>, wanted: &WantedLayer, counts: &Arc<LayerCounts>) -> Result<()> {
        let digest = &wanted.descriptor.digest;
        // Who wants the same blob, in whatever process, waits and finds it.
        let lock = Lock::acquire(&self.storage.directory, download_lock(digest), &self.interrupt)?;
        if self.storage.owns_layer_of_size(digest, wanted.descriptor.size)? {
            counts.set_present(wanted.descriptor.size);
            if self.options.no_unpack {
                counts.done();
                return Ok(());
            }
            match self.storage.extract_layer(digest, &self.unpacking(wanted, counts)) {
                // Decayed, perhaps; what is fetched takes its place.
                Err(error) if is_of_content(&error) && self.has_decayed(digest) => {
                    tracing::warn!("{error}; it is fetched again");
                    counts.begin_again();
                }
                other => {
                    counts.finished(&other?);
                    counts.done();
                    return Ok(());
                }
            }
        }
        self.fetch(wanted, counts)?;
        drop(lock);
        counts.done();
        Ok(())
    }

    /// Whether a stored layer is not what it was.
    fn has_decayed(&self, digest: &Digest) -> bool {
        let verified = self.storage.verify_layer(digest, &VerifyOptions::default().interrupt(self.interrupt.clone()));
        verified.is_err_and(|error| error.status() == Status::DigestMismatch)
    }

    /// Fetches a layer; once more where what it went on from, or what a mirror gave, was wrong.
    fn fetch(self: &Arc<Pull>, wanted: &WantedLayer, counts: &Arc<LayerCounts>) -> Result<()> {
        let descriptor = &wanted.descriptor;
        let mut refuses_ranges = false;
        for again in 0.. {
            let mut sources = self.registry.sources();
            let staged = self.storage.resume_layer(&descriptor.digest, descriptor.size, &self.interrupt)?;
            let resumed = staged.bytes_written();
            counts.set_present(resumed);
            let error = match self.fetch_once(wanted, counts, staged, &mut sources, &mut refuses_ranges) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            self.interrupt.check()?;
            let is_helped = match &error {
                FetchError::ContentChanged(_) => again < AGAIN || self.registry.drop_mirrors(sources.used()),
                FetchError::Permanent(error) if is_wrong_content(error) => {
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
        wanted: &WantedLayer,
        counts: &Arc<LayerCounts>,
        mut staged: Staged,
        sources: &mut BlobHosts<'_>,
        refuses_ranges: &mut bool,
    ) -> Result<(), FetchError> {
        let descriptor = &wanted.descriptor;
        let growing = Arc::new(GrowingBlob::default());
        growing.grow(staged.bytes_written());
        let _end = End(&growing);
        // Unpacking that failed for a reason of its own ends the download.
        let stop = Cancel::new();
        let unpacking = match self.options.no_unpack {
            true => None,
            false => Some(self.follow(wanted, counts, &staged, &growing, &stop)?),
        };
        let mut receiver = BlobFetcher {
            sources,
            layer: descriptor,
            staged: &mut staged,
            growing: &growing,
            counts,
            stop: &stop,
            is_single: false,
            refuses_ranges: *refuses_ranges,
        };
        let received = receiver.receive(self);
        *refuses_ranges = receiver.refuses_ranges;
        let fetched = match received {
            Ok(()) => staged.commit_within(&self.interrupt).map_err(FetchError::from),
            Err(trouble) => {
                // What nobody would go on from is not worth its place, and would be asked for again in vain.
                if trouble.is_of_the_way() && !*refuses_ranges && staged.bytes_written() > 0 {
                    staged.keep();
                }
                Err(trouble)
            }
        };
        growing.finish(match &fetched {
            Ok(()) => Ok(descriptor.digest.clone()),
            Err(trouble) => Err(trouble.copy()),
        });
        let unpacked = match unpacking.map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result.map(|extraction| counts.finished(&extraction)),
            Some(Err(_)) => Err(Error::new(Status::Internal, "a thread of a pull died")),
        };
        match (fetched, unpacked) {
            (Err(FetchError::Cancelled), Err(error)) => Err(FetchError::Permanent(error)),
            (Err(trouble), _) => Err(trouble),
            (Ok(()), unpacked) => unpacked.map_err(FetchError::Unpacking),
        }
    }

    /// Unpacks what is being written, on a thread of its own.
    fn follow(
        self: &Arc<Pull>,
        wanted: &WantedLayer,
        counts: &Arc<LayerCounts>,
        staged: &Staged,
        growing: &Arc<GrowingBlob>,
        stop: &Cancel,
    ) -> Result<JoinHandle<Result<Extraction>>> {
        let (pull, wanted, growing, stop) = (self.clone(), wanted.clone(), growing.clone(), stop.clone());
        let (file, options) = (staged.reader()?, self.unpacking(&wanted, counts));
        let body = move || {
            fault::at("bl-unpack");
            let result = pull.storage.extract_following(&wanted.descriptor.digest, file, growing, &options);
            if result.as_ref().is_err_and(|error| !is_of_content(error)) {
                stop.trigger();
            }
            result
        };
        sys::spawn("bl-unpack", body).map_err(|cause| Error::io(&cause, "start a thread"))
    }

    fn unpacking(self: &Arc<Pull>, wanted: &WantedLayer, counts: &Arc<LayerCounts>) -> ExtractOptions {
        let mut options = extract_options(&self.options, wanted.diff_id.as_ref(), &self.interrupt);
        let counts = counts.clone();
        options.progress = Some(ProgressCallback::new(move |progress| {
            counts.unpacked(progress.bytes_out, progress.entries);
            ControlFlow::Continue(())
        }));
        options
    }
}

/// However a download ends, also by a panic: whoever follows it is told.
struct End<'a>(&'a GrowingBlob);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.finish(Err(Error::new(Status::Internal, "the download died")));
    }
}

/// Whether other bytes could have been unpacked.
fn is_of_content(error: &Error) -> bool {
    use Status::*;
    matches!(error.status(), Malformed | Limit | UnsafePath | Unsupported | DigestMismatch | SizeMismatch)
}
