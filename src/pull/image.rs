//! One image: what the store has of it, what the registry says it is, its layers at the same time, its name last.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::context::{Pull, extract_options};
use super::options::{PullOptions, PullPolicy};
use super::progress::{LayerCounts, PullPhase, PullTracker};
use super::registry::Registry;
use super::resolve::{self, Resolved, WantedLayer};
use crate::error::{Error, Result, Status};
use crate::fault;
use crate::image::Image;
use crate::interrupt::Cancel;
use crate::oci::select::WantedPlatform;
use crate::oci::{ImageConfig, Reference};
use crate::queue::{Popped, Queue};
use crate::runtime::Network;
use crate::store::{CallLease, ImageName, Storage};
use crate::sys;

/// Layers at a time.
const PARALLEL: usize = 4;
const MAX_PARALLEL: usize = 64;
/// How long a call that is to end waits for its threads.
const GRACE: Duration = Duration::from_millis(50);
/// How long the caller's thread waits between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(15);
/// How often a host is told of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

impl Storage {
    /// Pulls an image, and gives it its name: the reference in full.
    ///
    /// `NOT_FOUND`, `UNAUTHORIZED`, `DENIED`, `RATE_LIMITED`, `REGISTRY` for what the registry
    /// says. `NETWORK`, `TIMEOUT` where it cannot be reached. `DIGEST_MISMATCH`, `SIZE_MISMATCH`,
    /// `MALFORMED`, `UNSUPPORTED`, `LIMIT` for what it sends. What was fetched stays for the next
    /// try.
    pub fn pull(&self, reference: &str, options: &PullOptions) -> Result<Image> {
        self.prepare_pull(reference, options.clone(), PullTracker::default())?.run()
    }

    /// What of a pull belongs on the caller's thread: finding out whether there is anything to do, and asking the caller
    /// for credentials.
    pub(super) fn prepare_pull(&self, reference: &str, options: PullOptions, tracker: PullTracker) -> Result<Prepared> {
        self.directory.check_writable()?;
        let reference = Reference::parse(reference)?;
        let name = ImageName::from(&reference);
        let context = |error: Error| error.context(format_args!("pull {name}"));
        let is_it = |image: &Image| image.missing.is_empty() && is_for(&image.config, &options);
        let present = self.open_image(&name).ok().filter(is_it);
        let is_enough = matches!(options.policy, PullPolicy::Missing | PullPolicy::Never) && present.is_some();
        if options.policy == PullPolicy::Never && !is_enough {
            let why = format!("{name} is not in the store, and is not to be pulled");
            return Err(Error::new(Status::NotFound, why));
        }
        let stop = Cancel::new();
        let registry = if is_enough {
            None
        } else {
            let network = Network::enter()?;
            let interrupt = options.interrupt.also(&stop).also(network.stop());
            Some(Registry::new(&reference, &options, network, interrupt).map_err(context)?)
        };
        Ok(Prepared { storage: self.clone(), name, reference, options, tracker, present, registry, stop })
    }
}

/// A pull that is about to begin.
pub(super) struct Prepared {
    storage: Storage,
    name: ImageName,
    reference: Reference,
    options: PullOptions,
    tracker: PullTracker,
    /// What the store has under the name, if it has all of it.
    present: Option<Image>,
    /// `None` where that is enough.
    registry: Option<Registry>,
    /// Ends all threads of the pull when one fails.
    stop: Cancel,
}

impl Prepared {
    pub(super) fn run(self) -> Result<Image> {
        let Prepared { storage, name, reference, options, tracker, present, registry, stop } = self;
        let result = match (registry, present) {
            (Some(registry), present) => {
                let is_good_enough = options.policy == PullPolicy::Newer;
                match fetch(&storage, registry, &name, &reference, &options, &tracker, &stop) {
                    Err(error) if is_good_enough && matches!(error.status(), Status::Network | Status::Timeout) => {
                        match present {
                            Some(image) if options.interrupt.check().is_ok() => {
                                tracing::warn!("{name}: the one in the store is used: {error}");
                                unpack_all(&storage, &image, &options).map(|()| image)
                            }
                            _ => Err(error),
                        }
                    }
                    other => other,
                }
            }
            (None, Some(image)) => unpack_all(&storage, &image, &options).map(|()| image),
            (None, None) => Err(Error::new(Status::Internal, "nothing to pull from")),
        };
        let result = result.and_then(|image| {
            tracker.enter(PullPhase::Done);
            tell(&options, &tracker).map(|()| image)
        });
        result.map_err(|error| error.context(format_args!("pull {name}")))
    }
}

/// Whether an image is for the platform that is wanted; where none is named, what has the name is what is wanted.
fn is_for(config: &ImageConfig, options: &PullOptions) -> bool {
    WantedPlatform::new(options.platform.as_ref(), options.strict_platform).check(config, "").is_ok()
}

fn unpack_all(storage: &Storage, image: &Image, options: &PullOptions) -> Result<()> {
    if options.no_unpack {
        return Ok(());
    }
    for (layer, diff_id) in image.layers() {
        storage.extract_layer(&layer.digest, &extract_options(options, diff_id, &options.interrupt))?;
    }
    Ok(())
}

fn fetch(
    storage: &Storage,
    registry: Registry,
    name: &ImageName,
    reference: &Reference,
    options: &PullOptions,
    tracker: &PullTracker,
    stop: &Cancel,
) -> Result<Image> {
    tell(options, tracker)?;
    let mut held = CallLease::new(storage)?;
    let Resolved { digest, manifest, config, index } =
        resolve::resolve(storage, &registry, reference, options, held.lease())?;
    let wanted = resolve::layers(&manifest, &config, options.max_bytes)?;
    let interrupt = registry.interrupt().clone();
    let pull = Arc::new(Pull { storage: storage.clone(), registry, options: options.clone(), interrupt });
    pull.run(wanted, tracker, stop, &mut held)?;
    storage.tag_image_of(name, &digest, index.as_ref(), &options.interrupt)?;
    storage.open_image(name)
}

impl Pull {
    /// All layers, some at a time. The caller's thread tells of progress.
    fn run(
        self: &Arc<Pull>,
        wanted: Vec<WantedLayer>,
        tracker: &PullTracker,
        stop: &Cancel,
        held: &mut CallLease,
    ) -> Result<()> {
        let counts = tracker.begin(wanted.iter().map(|wanted| &wanted.descriptor));
        tracker.enter(PullPhase::Fetching);
        for (wanted, counts) in wanted.iter().zip(&counts) {
            if self.storage.owns_layer_of_size(&wanted.descriptor.digest, wanted.descriptor.size)? {
                counts.set_present(wanted.descriptor.size);
            }
        }
        let mut wanted: Vec<(WantedLayer, Arc<LayerCounts>)> = wanted.into_iter().zip(counts).collect();
        // The largest first: what takes longest is not to begin last.
        wanted.sort_by_key(|(wanted, _)| std::cmp::Reverse(wanted.descriptor.size));
        let workers = self.start_workers(wanted)?;
        let mut first = self.watch(&workers, tracker, stop, held)?;
        for thread in workers.threads {
            if thread.join().is_err() {
                first = first.and(Err(Error::new(Status::Internal, "a thread of a pull died")));
            }
        }
        while let Some(result) = workers.results.try_pop() {
            first = first.and(result.unwrap_or(Ok(())));
        }
        // The caller's own wish goes before what it brought about.
        self.options.interrupt.check()?;
        first
    }

    fn start_workers(self: &Arc<Pull>, wanted: Vec<(WantedLayer, Arc<LayerCounts>)>) -> Result<Workers> {
        let parallel = self.options.parallel.unwrap_or(PARALLEL).clamp(1, MAX_PARALLEL).min(wanted.len());
        let todo = Arc::new(Queue::new(wanted));
        todo.close();
        let mut workers = Workers { threads: Vec::new(), results: Arc::default() };
        for _ in 0..parallel {
            let (pull, todo, results) = (self.clone(), todo.clone(), workers.results.clone());
            let body = move || {
                let mut is_well = true;
                while let Some((wanted, counts)) = todo.pop().filter(|_| is_well) {
                    fault::at("bl-pull");
                    let result = pull.layer(&wanted, &counts);
                    is_well = result.is_ok();
                    results.push(Some(result));
                }
                results.push(None);
            };
            match sys::spawn("bl-pull", body) {
                Ok(thread) => workers.threads.push(thread),
                Err(cause) if workers.threads.is_empty() => return Err(Error::io(&cause, "start a thread")),
                Err(_) => break,
            }
        }
        Ok(workers)
    }

    /// Waits for the threads, and says what the first that failed said. An error of this itself leaves them to themselves.
    fn watch(
        &self,
        workers: &Workers,
        tracker: &PullTracker,
        stop: &Cancel,
        held: &mut CallLease,
    ) -> Result<Result<()>> {
        let interval = self.options.progress_interval.unwrap_or(PROGRESS_INTERVAL);
        let mut told = Instant::now();
        let mut running = workers.threads.len();
        let mut interrupted: Option<Instant> = None;
        let mut first = Ok(());
        while running > 0 {
            if interrupted.is_none() && self.options.interrupt.check().is_err() {
                interrupted = Some(Instant::now());
            }
            if interrupted.is_some_and(|since| since.elapsed() >= GRACE) {
                // Stuck in a flush, say. It ends by itself, and nothing of the caller's is used by it.
                self.options.interrupt.check()?;
            }
            held.extend_in_time(Instant::now())?;
            match workers.results.pop_within(POLL_INTERVAL) {
                Popped::Item(Some(Ok(()))) => {}
                Popped::Item(Some(Err(error))) => {
                    first = first.and(Err(error));
                    stop.trigger();
                }
                Popped::Item(None) => running -= 1,
                // One that died has said nothing.
                _ if workers.threads.iter().all(JoinHandle::is_finished) => running = 0,
                _ => {}
            }
            if first.is_ok() && told.elapsed() >= interval {
                told = Instant::now();
                first = tell(&self.options, tracker);
                if first.is_err() {
                    stop.trigger();
                }
            }
        }
        Ok(first)
    }
}

/// The threads of a pull.
struct Workers {
    threads: Vec<JoinHandle<()>>,
    /// What came of a layer; nothing at the end of a thread.
    results: Arc<Queue<Option<Result<()>>>>,
}

fn tell(options: &PullOptions, tracker: &PullTracker) -> Result<()> {
    let Some(callback) = &options.progress else { return Ok(()) };
    match callback.tell(tracker) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::new(Status::Callback, "the progress callback ended the call")),
    }
}
