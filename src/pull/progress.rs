//! How far a pull came: counted by the threads that do the work, read by whoever wants to know.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::digest::Digest;
use crate::extraction::Extraction;
use crate::oci::Descriptor;

/// What a pull is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum PullPhase {
    /// It finds out what the image is.
    #[default]
    Resolving,
    /// It fetches and unpacks layers.
    Fetching,
    /// All is there.
    Done,
}

/// How far a pull came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PullProgress {
    /// What it is at.
    pub phase: PullPhase,
    /// Layers of the image, each counted once; 0 before they are known.
    pub layers: u64,
    /// Layers that are stored, and unpacked where that was asked for.
    pub layers_done: u64,
    /// Bytes of the layers that are not in the store.
    pub bytes_to_fetch: u64,
    /// Bytes of them that arrived.
    pub bytes_fetched: u64,
    /// Bytes of the layers that were in the store.
    pub bytes_present: u64,
    /// Uncompressed bytes that were unpacked.
    pub bytes_unpacked: u64,
    /// Entries of layers that were unpacked.
    pub entries_unpacked: u64,
}

/// How far one layer came.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerProgress {
    /// Which one.
    pub digest: Digest,
    /// Its size in bytes, compressed.
    pub bytes: u64,
    /// Bytes of it that are in the store, those that arrived just now too.
    pub bytes_stored: u64,
    /// Uncompressed bytes that were unpacked.
    pub bytes_unpacked: u64,
    /// It is stored, and unpacked where that was asked for.
    pub is_done: bool,
}

/// A function that is told of progress, on the thread that called, and that may end the call with `CALLBACK`.
#[derive(Clone)]
pub struct PullProgressCallback(Arc<PullProgressFn>);

type PullProgressFn = dyn Fn(&PullTracker) -> ControlFlow<()> + Send + Sync;

impl PullProgressCallback {
    /// Wraps the function.
    pub fn new(callback: impl Fn(&PullTracker) -> ControlFlow<()> + Send + Sync + 'static) -> PullProgressCallback {
        PullProgressCallback(Arc::new(callback))
    }

    pub(super) fn tell(&self, tracker: &PullTracker) -> ControlFlow<()> {
        (self.0)(tracker)
    }
}

impl fmt::Debug for PullProgressCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PullProgressCallback")
    }
}

/// A pull's counts, which go on while it runs. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct PullTracker(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    phase: AtomicU32,
    layers: OnceLock<Vec<Arc<LayerCounts>>>,
}

/// The counts of one layer.
#[derive(Debug)]
pub(super) struct LayerCounts {
    digest: Digest,
    bytes: u64,
    was_present: AtomicU64,
    fetched: AtomicU64,
    unpacked: AtomicU64,
    entries: AtomicU64,
    is_done: AtomicBool,
}

impl PullTracker {
    /// The whole pull.
    pub fn progress(&self) -> PullProgress {
        let mut progress = PullProgress { phase: self.phase(), ..PullProgress::default() };
        for layer in self.0.layers.get().into_iter().flatten() {
            let present = layer.was_present.load(Ordering::Relaxed);
            progress.layers += 1;
            progress.layers_done += u64::from(layer.is_done.load(Ordering::Relaxed));
            progress.bytes_present = progress.bytes_present.saturating_add(present);
            progress.bytes_to_fetch = progress.bytes_to_fetch.saturating_add(layer.bytes.saturating_sub(present));
            progress.bytes_fetched += layer.fetched.load(Ordering::Relaxed);
            progress.bytes_unpacked += layer.unpacked.load(Ordering::Relaxed);
            progress.entries_unpacked += layer.entries.load(Ordering::Relaxed);
        }
        progress
    }

    /// One layer, of as many as [`PullProgress::layers`].
    pub fn layer(&self, index: usize) -> Option<LayerProgress> {
        let layer = self.0.layers.get()?.get(index)?;
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Some(LayerProgress {
            digest: layer.digest.clone(),
            bytes: layer.bytes,
            bytes_stored: of(&layer.was_present).saturating_add(of(&layer.fetched)),
            bytes_unpacked: of(&layer.unpacked),
            is_done: layer.is_done.load(Ordering::Relaxed),
        })
    }

    fn phase(&self) -> PullPhase {
        match self.0.phase.load(Ordering::Relaxed) {
            0 => PullPhase::Resolving,
            1 => PullPhase::Fetching,
            _ => PullPhase::Done,
        }
    }

    pub(super) fn enter(&self, phase: PullPhase) {
        self.0.phase.store(phase as u32, Ordering::Relaxed);
    }

    /// Says which layers there are; once.
    pub(super) fn begin<'a>(&self, layers: impl Iterator<Item = &'a Descriptor>) -> Vec<Arc<LayerCounts>> {
        let counts = |layer: &Descriptor| {
            Arc::new(LayerCounts {
                digest: layer.digest.clone(),
                bytes: layer.size,
                was_present: AtomicU64::new(0),
                fetched: AtomicU64::new(0),
                unpacked: AtomicU64::new(0),
                entries: AtomicU64::new(0),
                is_done: AtomicBool::new(false),
            })
        };
        self.0.layers.get_or_init(|| layers.map(counts).collect()).clone()
    }
}

impl LayerCounts {
    pub(super) fn set_present(&self, bytes: u64) {
        self.was_present.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn fetched(&self, bytes: u64) {
        self.fetched.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn unpacked(&self, bytes: u64, entries: u64) {
        self.unpacked.store(bytes, Ordering::Relaxed);
        self.entries.store(entries, Ordering::Relaxed);
    }

    /// One that was unpacked before has cost nothing.
    pub(super) fn finished(&self, extraction: &Extraction) {
        self.unpacked(extraction.bytes_out, extraction.entries);
    }

    /// What was fetched was no good.
    pub(super) fn begin_again(&self) {
        self.set_present(0);
        self.fetched.store(0, Ordering::Relaxed);
        self.unpacked(0, 0);
    }

    pub(super) fn done(&self) {
        self.is_done.store(true, Ordering::Relaxed);
    }
}
