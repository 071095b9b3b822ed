//! Who inflates, who hashes: the work on a layer's bytes before they are parsed.
//!
//! Inflating a layer, hashing it (the file and its uncompressed bytes), and creating its files take about equally long.
//! So where there is more than one core a thread of ours inflates, another one hashes, and the caller's thread parses
//! and creates. Segments of 256 KiB go round between them, and take along the pieces of the file that they were made
//! of: few enough of them to stay in the cache, recycled so that no fresh memory is touched, and bounded, so that nobody
//! runs away. On one core the same is done in turn.
//!
//! A layer that is a plain tar archive is hashed once: its bytes and its uncompressed bytes are the same.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::entry::Anomalies;
use super::segment::{Contents, Segment};
use super::source::{Piece, Source};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;
use crate::queue::{Popped, Queue};
use crate::sys;

/// A multiple of the tar block, so that a header never spans two.
const SEGMENT: usize = 256 << 10;
/// Layers have stretches of small files, which take long to create, and of large ones, which take long to inflate: 8 MiB
/// of slack lets the stages run on through some of that.
const SEGMENTS: usize = 32;
/// How long a caller waits before it looks at its interrupt again, and at the end for a thread that is stuck in a read.
const PATIENCE: Duration = Duration::from_millis(50);

/// What is known at the end.
#[derive(Debug)]
pub(crate) struct Totals {
    /// Of the file.
    pub(crate) digest: Digest,
    pub(crate) bytes_in: u64,
    /// Of the uncompressed bytes.
    pub(crate) diff_id: Digest,
    pub(crate) anomalies: Anomalies,
}

pub(super) enum Delivery {
    Segment(Segment),
    End(Totals),
}

/// Which digests a stream is to be hashed for.
#[derive(Clone, Copy)]
pub(crate) struct Algorithms {
    /// Of the file.
    pub(crate) file: Algorithm,
    /// Of the uncompressed bytes.
    pub(crate) diff_id: Algorithm,
}

/// The uncompressed stream of a source, segment by segment.
pub(super) enum Pipeline {
    Inline(Box<Inline>),
    Threaded(Threaded),
}

impl Pipeline {
    pub(super) fn start(source: Source, algorithms: Algorithms, interrupt: Interrupt) -> Result<Pipeline> {
        let hashers = Hashers::new(&source, algorithms);
        let spent = Arc::new(Queue::new([]));
        let producer = Producer { source, spent, partial: Vec::new(), filled: 0, is_over: false };
        if sys::has_cores() {
            return Ok(Pipeline::Threaded(Threaded::start(producer, hashers, interrupt)?));
        }
        Ok(Pipeline::Inline(Box::new(Inline { producer, hashers: Some(hashers), free: Arc::new(Queue::new([])) })))
    }

    /// The next segment, or the end.
    pub(super) fn next(&mut self) -> Result<Delivery> {
        match self {
            Pipeline::Inline(inline) => inline.next(),
            Pipeline::Threaded(threaded) => threaded.next(),
        }
    }
}

/// Everything on the caller's thread.
pub(super) struct Inline {
    producer: Producer,
    hashers: Option<Hashers>,
    free: Arc<Queue<Contents>>,
}

impl Inline {
    fn next(&mut self) -> Result<Delivery> {
        let over = || Error::new(Status::Internal, "layer stream read past its end");
        let used = self.free.try_pop().unwrap_or_default();
        if let Some(mut contents) = self.producer.next(used)? {
            self.hashers.as_mut().ok_or_else(over)?.update(&mut contents, &self.producer.spent);
            return Ok(Delivery::Segment(Segment::new(contents, &self.free)));
        }
        let hashers = self.hashers.take().ok_or_else(over)?;
        Ok(Delivery::End(hashers.finish(self.producer.ended())))
    }
}

/// The first stage: fills segments.
pub(super) struct Producer {
    source: Source,
    /// Pieces to use again.
    spent: Arc<Queue<Piece>>,
    /// A segment's bytes that are not complete yet, and how many of them there are.
    partial: Vec<u8>,
    filled: usize,
    is_over: bool,
}

/// What a source says at its end.
struct Ended {
    bytes_in: u64,
    anomalies: Anomalies,
}

impl Producer {
    /// `None` at the end. A segment may be empty but for the pieces that go with it.
    fn next(&mut self, mut segment: Contents) -> Result<Option<Contents>> {
        if self.is_over {
            return Ok(None);
        }
        if self.partial.is_empty() {
            self.partial = std::mem::take(&mut segment.bytes);
            self.partial.resize(SEGMENT, 0);
        }
        while let Some(piece) = self.spent.try_pop() {
            self.source.reuse(piece);
        }
        let filled = self.source.fill(&mut self.partial[self.filled..])?;
        self.source.take_pieces(&mut segment.pieces);
        self.filled += filled.bytes;
        self.is_over = filled.is_end;
        segment.bytes.clear();
        if self.filled == SEGMENT || self.is_over {
            self.partial.truncate(self.filled);
            std::mem::swap(&mut segment.bytes, &mut self.partial);
            self.partial.clear();
            self.filled = 0;
        }
        segment.bytes_in = self.source.bytes_in();
        Ok(Some(segment))
    }

    fn ended(&self) -> Ended {
        Ended { bytes_in: self.source.bytes_in(), anomalies: self.source.anomalies() }
    }
}

/// The second stage: hashes segments and the pieces that they were made of.
pub(super) struct Hashers {
    file: Hasher,
    /// `None` where the file's digest is the diff_id.
    diff_id: Option<Hasher>,
}

impl Hashers {
    fn new(source: &Source, algorithms: Algorithms) -> Hashers {
        let is_same = source.is_plain() && algorithms.file == algorithms.diff_id;
        Hashers { file: Hasher::new(algorithms.file), diff_id: (!is_same).then(|| Hasher::new(algorithms.diff_id)) }
    }

    /// Pieces that are hashed go back at once, so that few of them are in use.
    fn update(&mut self, segment: &mut Contents, spent: &Queue<Piece>) {
        for piece in segment.pieces.drain(..) {
            self.file.update(piece.bytes());
            spent.push_front(piece);
        }
        if let Some(diff_id) = &mut self.diff_id {
            diff_id.update(&segment.bytes);
        }
    }

    fn finish(self, ended: Ended) -> Totals {
        let digest = self.file.finish();
        let diff_id = self.diff_id.map_or_else(|| digest.clone(), Hasher::finish);
        Totals { digest, bytes_in: ended.bytes_in, diff_id, anomalies: ended.anomalies }
    }
}

/// A source at work on threads of ours. Dropping it ends them.
pub(super) struct Threaded {
    queues: Arc<Queues>,
    threads: Vec<JoinHandle<()>>,
    interrupt: Interrupt,
}

/// Segments go from `free` to `inflated` to `hashed`, and back when nobody needs them any more.
struct Queues {
    free: Arc<Queue<Contents>>,
    inflated: Queue<Result<Inflated>>,
    hashed: Queue<Result<Delivery>>,
}

enum Inflated {
    Segment(Contents),
    End(Ended),
}

impl Threaded {
    fn start(producer: Producer, hashers: Hashers, interrupt: Interrupt) -> Result<Threaded> {
        let queues = Arc::new(Queues {
            free: Arc::new(Queue::new((0..SEGMENTS).map(|_| Contents::default()))),
            inflated: Queue::new([]),
            hashed: Queue::new([]),
        });
        let mut threaded = Threaded { queues, threads: Vec::new(), interrupt };
        let spent = producer.spent.clone();
        threaded.spawn("bl-inflate", move |queues| inflate(producer, &queues.free, &queues.inflated))?;
        threaded.spawn("bl-hash", move |queues| hash(hashers, &spent, queues))?;
        Ok(threaded)
    }

    fn spawn(&mut self, name: &str, body: impl FnOnce(&Queues) + Send + 'static) -> Result<()> {
        let queues = self.queues.clone();
        let thread = sys::spawn(name, move || body(&queues)).map_err(|cause| Error::io(&cause, "start a thread"))?;
        self.threads.push(thread);
        Ok(())
    }

    fn next(&mut self) -> Result<Delivery> {
        loop {
            match self.queues.hashed.pop_within(PATIENCE) {
                Popped::Item(delivery) => return delivery,
                Popped::Closed => return Err(Error::new(Status::Internal, "a thread of the library died")),
                // A file on a slow disk or network keeps the thread that reads it; it need not keep the caller.
                Popped::TimedOut => self.interrupt.check()?,
            }
        }
    }
}

impl Drop for Threaded {
    fn drop(&mut self) {
        self.queues.free.abandon();
        self.queues.inflated.abandon();
        self.queues.hashed.abandon();
        let started = Instant::now();
        for thread in self.threads.drain(..) {
            // At most one read or segment away from its end. Where that read does not come back the thread is left to
            // itself: it holds nothing but its file and its buffers.
            while !thread.is_finished() && started.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_micros(100));
            }
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
    }
}

/// The body of the first thread: until the source is at its end, fails, or nobody wants more.
fn inflate(mut producer: Producer, free: &Queue<Contents>, out: &Queue<Result<Inflated>>) {
    let _closed_at_end = CloseAtEnd(out);
    while let Some(segment) = free.pop() {
        let result = producer.next(segment);
        let is_last = !matches!(result, Ok(Some(_)));
        out.push(result.map(|segment| segment.map_or_else(|| Inflated::End(producer.ended()), Inflated::Segment)));
        if is_last {
            return;
        }
    }
}

/// The body of the second thread.
fn hash(mut hashers: Hashers, spent: &Queue<Piece>, queues: &Queues) {
    let (inflated, out) = (&queues.inflated, &queues.hashed);
    let _closed_at_end = CloseAtEnd(out);
    while let Some(result) = inflated.pop() {
        match result {
            Ok(Inflated::Segment(mut segment)) => {
                hashers.update(&mut segment, spent);
                out.push(Ok(Delivery::Segment(Segment::new(segment, &queues.free))));
            }
            Ok(Inflated::End(ended)) => return out.push(Ok(Delivery::End(hashers.finish(ended)))),
            Err(error) => return out.push(Err(error)),
        }
    }
}

/// However a thread ends, by a panic too, the next one sees it.
struct CloseAtEnd<'a, T>(&'a Queue<T>);

impl<T> Drop for CloseAtEnd<'_, T> {
    fn drop(&mut self) {
        self.0.close();
    }
}
