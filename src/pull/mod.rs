//! Pulling: from a reference to a named image whose layers are stored and unpacked.
//!
//! The order is what makes an interrupted pull harmless: manifest, then config and layers, then the name. Each object is
//! visible when its digest holds; the name comes last, when everything that it leads to is there (invariant I3). A lease
//! holds the parts until then. Layers come in parallel, each in one pass ([`layer`]).
//!
//! The flow is plain code on plain threads, which wait for the network in small steps; the runtime moves bytes and nothing
//! else.

#![forbid(unsafe_code)]

mod auth;
mod layer;
mod plan;
mod registry;
mod transport;

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use self::layer::Wanted;
use self::registry::{Patience, Registry};
use crate::digest::Digest;
use crate::error::{Error, Result, Status};
use crate::image::Image;
use crate::interrupt::{Cancel, Interrupt};
use crate::limits::LayerLimits;
use crate::oci::{Platform, Reference};
use crate::queue::{Popped, Queue};
use crate::store::{ImageName, Lease, Lock, Storage};
use crate::sys;
use crate::unpack::{ExtractOptions, ProgressCallback, TreeForm};

pub use auth::Credentials;

const CONNECT: Duration = Duration::from_secs(10);
const STALL: Duration = Duration::from_secs(30);
const PARALLEL: usize = 4;
/// How long what was stored stays without a name, should we die.
const LEASE: Duration = Duration::from_secs(3600);
/// How long the caller's thread waits between two looks.
const LOOK: Duration = Duration::from_millis(25);

/// When the registry is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// When the image is not here, or not all of it.
    #[default]
    Missing,
    /// Always; what is here is not fetched again.
    Always,
    /// Always; but an image that is here is good enough where the registry does not answer.
    Newer,
    /// Never: `NOT_FOUND` when the image is not here.
    Never,
}

/// How to pull. The default pulls for this host's processor, and unpacks.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct PullOptions {
    /// Which of an index's images; Linux on this host's processor.
    pub platform: Option<Platform>,
    /// That platform exactly, and not one that runs there too.
    pub strict_platform: bool,
    /// When the registry is asked.
    pub policy: PullPolicy,
    /// For the registry; anonymous without.
    pub credentials: Option<Credentials>,
    /// Registries, as in references, that are reached by plain HTTP.
    pub plain_http: Vec<String>,
    /// Layers at a time; 4.
    pub parallel: Option<usize>,
    /// Store the layers and do not unpack them.
    pub no_unpack: bool,
    /// What the trees look like.
    pub form: TreeForm,
    /// What a layer may cost.
    pub limits: LayerLimits,
    /// Is told how far the pull came.
    pub progress: Option<PullProgressCallback>,
    /// How often; 100 ms.
    pub progress_interval: Option<Duration>,
    /// What registries are told of the client; `boxlite-images/<version>`.
    pub user_agent: Option<String>,
    /// How long a connection may take to come about; 10 s.
    pub connect_timeout: Option<Duration>,
    /// How long a server may be silent; 30 s.
    pub stall_timeout: Option<Duration>,
    /// What may end the pull early.
    pub interrupt: Interrupt,
}

/// How far a pull came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PullProgress {
    /// Layers of the image; 0 before they are known.
    pub layers: u64,
    /// Layers that are stored, and unpacked where that was asked for.
    pub layers_done: u64,
    /// Bytes of the blobs that are not in the store.
    pub bytes_to_fetch: u64,
    /// Bytes of them that arrived.
    pub bytes_fetched: u64,
    /// Bytes of the blobs that were in the store.
    pub bytes_present: u64,
    /// Uncompressed bytes that were unpacked.
    pub bytes_unpacked: u64,
}

/// A function that is told of progress, on the thread that called, and that may end the call with `CALLBACK`.
#[derive(Clone)]
pub struct PullProgressCallback(Arc<ProgressFn>);

type ProgressFn = dyn Fn(&PullProgress) -> ControlFlow<()> + Send + Sync;

impl PullProgressCallback {
    /// Wraps the function.
    pub fn new(callback: impl Fn(&PullProgress) -> ControlFlow<()> + Send + Sync + 'static) -> PullProgressCallback {
        PullProgressCallback(Arc::new(callback))
    }
}

impl fmt::Debug for PullProgressCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PullProgressCallback")
    }
}

impl Storage {
    /// Pulls an image, and gives it its name: the reference in full.
    ///
    /// `NOT_FOUND`, `UNAUTHORIZED`, `DENIED`, `RATE_LIMITED`, `REGISTRY` for what the registry says; `NETWORK`, `TIMEOUT`
    /// where it cannot be reached; `DIGEST_MISMATCH`, `SIZE_MISMATCH`, `MALFORMED`, `UNSUPPORTED`, `LIMIT` for what it
    /// sends. What was fetched stays for the next try.
    pub fn pull(&self, reference: &str, options: &PullOptions) -> Result<Image> {
        self.directory.check_writable()?;
        let name = ImageName::parse(reference)?;
        let reference = Reference::parse(reference)?;
        let present = self.open_image(&name).ok().filter(|image| image.missing.is_empty());
        match (options.policy, present) {
            (PullPolicy::Missing | PullPolicy::Never, Some(image)) => {
                self.unpack_all(&image, options)?;
                Ok(image)
            }
            (PullPolicy::Never, None) => {
                Err(Error::new(Status::NotFound, format!("{name} is not in the store, and is not to be pulled")))
            }
            (PullPolicy::Newer, Some(image)) => match self.pull_new(&name, &reference, options) {
                Err(error) if matches!(error.status(), Status::Network | Status::Timeout) => {
                    tracing::warn!("{name}: the one in the store is used: {error}");
                    self.unpack_all(&image, options)?;
                    Ok(image)
                }
                other => other,
            },
            _ => self.pull_new(&name, &reference, options),
        }
        .map_err(|error| error.context(format_args!("pull {name}")))
    }

    fn unpack_all(&self, image: &Image, options: &PullOptions) -> Result<()> {
        if options.no_unpack {
            return Ok(());
        }
        for (layer, diff_id) in image.layers() {
            self.extract_layer(&layer.digest, &extract_options(options, diff_id, &options.interrupt))?;
        }
        Ok(())
    }

    fn pull_new(&self, name: &ImageName, reference: &Reference, options: &PullOptions) -> Result<Image> {
        let client = transport::client(options)?;
        let patience = Patience { stall: options.stall_timeout.unwrap_or(STALL) };
        let is_plain = options.plain_http.contains(&reference.registry);
        // One that fails ends the others.
        let stop = Cancel::new();
        let interrupt = options.interrupt.also(&stop);
        let credentials = options.credentials.clone();
        let registry = Registry::new(client, reference, is_plain, credentials, patience, interrupt.clone())?;
        let held = Held(self.create_lease(LEASE)?);
        let (digest, manifest) = plan::resolve(self, &registry, reference, options, &held.0)?;
        let config = plan::config(self, &registry, &manifest)?;
        let wanted = plan::layers(&manifest, &config)?;
        let pull = Arc::new(Pull {
            storage: self.clone(),
            registry,
            options: options.clone(),
            interrupt,
            counts: Counts::default(),
        });
        pull.run(wanted, &stop)?;
        self.tag_image(name, &digest)?;
        self.open_image(name)
    }
}

/// A lease for the time of a call.
struct Held(Lease);

impl Drop for Held {
    fn drop(&mut self) {
        if let Err(error) = self.0.release() {
            tracing::warn!("{error}");
        }
    }
}

/// What the threads of a pull share.
struct Pull {
    storage: Storage,
    registry: Registry,
    options: PullOptions,
    interrupt: Interrupt,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    layers: AtomicU64,
    done: AtomicU64,
    to_fetch: AtomicU64,
    fetched: AtomicU64,
    present: AtomicU64,
    unpacked: AtomicU64,
}

impl Pull {
    /// All layers, some at a time. The caller's thread tells of progress.
    fn run(self: &Arc<Pull>, wanted: Vec<Wanted>, stop: &Cancel) -> Result<()> {
        self.counts.layers.store(wanted.len() as u64, Ordering::Relaxed);
        for wanted in &wanted {
            let is_there = self.storage.has_layer(&wanted.descriptor.digest)?;
            let count = if is_there { &self.counts.present } else { &self.counts.to_fetch };
            count.fetch_add(wanted.descriptor.size, Ordering::Relaxed);
        }
        let parallel = self.options.parallel.unwrap_or(PARALLEL).clamp(1, 64).min(wanted.len());
        let todo = Arc::new(Queue::new(wanted));
        todo.close();
        let results: Arc<Queue<Result<()>>> = Arc::default();
        let mut threads = Vec::new();
        let mut first = Ok(());
        for _ in 0..parallel {
            let (pull, todo, results) = (self.clone(), todo.clone(), results.clone());
            let body = move || {
                while let Some(wanted) = todo.pop() {
                    let result = pull.layer(&wanted);
                    let is_over = result.is_err();
                    results.push(result);
                    if is_over {
                        return;
                    }
                }
                results.push(Ok(()));
            };
            match sys::spawn("bl-pull", body) {
                Ok(thread) => threads.push(thread),
                Err(cause) if threads.is_empty() => return Err(Error::io(&cause, "start a thread")),
                Err(_) => break,
            }
        }
        let interval = self.options.progress_interval.unwrap_or(Duration::from_millis(100));
        let mut told = Instant::now();
        while threads.iter().any(|thread| !thread.is_finished()) {
            if let Popped::Item(Err(error)) = results.pop_within(LOOK) {
                first = first.and(Err(error));
                stop.trigger();
            }
            if first.is_ok() && told.elapsed() >= interval {
                told = Instant::now();
                first = self.tell();
                if first.is_err() {
                    stop.trigger();
                }
            }
        }
        for thread in threads {
            if thread.join().is_err() {
                first = first.and(Err(Error::new(Status::Internal, "a thread of a pull died")));
            }
        }
        while let Some(result) = results.try_pop() {
            first = first.and(result);
        }
        // The caller's own wish goes before what it brought about.
        self.options.interrupt.check()?;
        first?;
        self.tell()
    }

    fn tell(&self) -> Result<()> {
        let Some(callback) = &self.options.progress else { return Ok(()) };
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let progress = PullProgress {
            layers: of(&self.counts.layers),
            layers_done: of(&self.counts.done),
            bytes_to_fetch: of(&self.counts.to_fetch),
            bytes_fetched: of(&self.counts.fetched),
            bytes_present: of(&self.counts.present),
            bytes_unpacked: of(&self.counts.unpacked),
        };
        match (callback.0)(&progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::new(Status::Callback, "the progress callback ended the call")),
        }
    }

    fn layer(self: &Arc<Pull>, wanted: &Wanted) -> Result<()> {
        let digest = &wanted.descriptor.digest;
        let directory = &self.storage.directory;
        // Who wants the same blob, in whatever process, waits and finds it.
        let lock = Lock::acquire(directory, crate::store::download_lock(digest), &self.interrupt)?;
        if self.storage.has_layer(digest)? {
            drop(lock);
            if !self.options.no_unpack {
                self.storage.extract_layer(digest, &self.extract_options(wanted))?;
            }
        } else {
            self.fetch(wanted)?;
            drop(lock);
        }
        self.counts.done.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn fetch(self: &Arc<Pull>, wanted: &Wanted) -> Result<()> {
        let descriptor = &wanted.descriptor;
        let mut staged = self.storage.stage_layer(&descriptor.digest, Some(descriptor.size))?;
        let (file, growing) = layer::follow(&staged)?;
        let unpacking = if self.options.no_unpack {
            None
        } else {
            let (pull, wanted, growing) = (self.clone(), wanted.clone(), growing.clone());
            let body = move || {
                let options = pull.extract_options(&wanted);
                pull.storage.extract_following(&wanted.descriptor.digest, file, growing, &options)
            };
            Some(sys::spawn("bl-unpack", body).map_err(|cause| Error::io(&cause, "start a thread"))?)
        };
        let fetched = layer::download(&self.registry, descriptor, &mut staged, &growing, |bytes| {
            self.counts.fetched.fetch_add(bytes, Ordering::Relaxed);
        });
        growing.abandon();
        let unpacked = match unpacking.map(std::thread::JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result.map(|_| ()),
            Some(Err(_)) => Err(Error::new(Status::Internal, "a thread of a pull died")),
        };
        fetched.and(unpacked)
    }

    fn extract_options(self: &Arc<Pull>, wanted: &Wanted) -> ExtractOptions {
        let mut options = extract_options(&self.options, wanted.diff_id.as_ref(), &self.interrupt);
        let (pull, before) = (self.clone(), AtomicU64::new(0));
        options.progress = Some(ProgressCallback::new(move |progress| {
            let before = before.swap(progress.bytes_out, Ordering::Relaxed);
            pull.counts.unpacked.fetch_add(progress.bytes_out.saturating_sub(before), Ordering::Relaxed);
            ControlFlow::Continue(())
        }));
        options
    }
}

fn extract_options(options: &PullOptions, diff_id: Option<&Digest>, interrupt: &Interrupt) -> ExtractOptions {
    ExtractOptions {
        diff_id: diff_id.cloned(),
        form: options.form,
        limits: options.limits.clone(),
        interrupt: interrupt.clone(),
        ..ExtractOptions::default()
    }
}
