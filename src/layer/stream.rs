//! The uncompressed stream of a layer, in segments, hashed on the way (the diff_id: OCI image-spec, config.md).
//!
//! Inflating and creating files take about equally long, so where there are two cores a thread of ours reads, hashes
//! and inflates while the caller's thread hashes, parses and creates. Segments of 256 KiB go round between them: few
//! enough to stay in the cache, recycled so that no fresh memory is touched, and bounded, so that neither side runs
//! away. On one core the same source is asked directly. Segments are a multiple of the tar block, so that a header
//! never spans two.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::header::BLOCK;
use super::source::{Source, SourceSummary};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Error, Result, Status};
use crate::sys;

const SEGMENT: usize = 256 << 10;
/// One being filled, one being consumed, the rest as slack between bursts.
const SEGMENTS: usize = 6;

/// Where the parser takes its bytes from.
pub(crate) struct Stream {
    feed: Feed,
    segment: Vec<u8>,
    position: usize,
    hasher: Hasher,
    bytes_out: u64,
    summary: Option<SourceSummary>,
}

/// What is known of a layer once its stream was read to the end.
#[derive(Debug)]
pub(crate) struct StreamSummary {
    pub(crate) source: SourceSummary,
    pub(crate) diff_id: Digest,
    pub(crate) bytes_out: u64,
}

impl Stream {
    /// A stream over `source` whose uncompressed bytes are hashed with `algorithm`.
    pub(crate) fn new(source: Source, algorithm: Algorithm) -> Result<Stream> {
        let parallel = std::thread::available_parallelism().is_ok_and(|n| n.get() > 1);
        let feed =
            if parallel { Feed::Threaded(Threaded::start(source)?) } else { Feed::Inline(Some(Box::new(source))) };
        let hasher = Hasher::new(algorithm);
        Ok(Stream { feed, segment: Vec::new(), position: 0, hasher, bytes_out: 0, summary: None })
    }

    /// The next bytes, as many as lie together but at most `most`; none at the end.
    pub(crate) fn bytes(&mut self, most: u64) -> Result<&[u8]> {
        if self.position == self.segment.len() {
            self.next_segment()?;
        }
        let rest = &self.segment[self.position..];
        Ok(&rest[..rest.len().min(usize::try_from(most).unwrap_or(usize::MAX))])
    }

    /// Marks bytes as used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.position += count;
    }

    /// The next `count` bytes, which [`Stream::bytes`] just showed, marked as used.
    pub(crate) fn take(&mut self, count: usize) -> Result<&[u8]> {
        let start = self.position;
        self.position += count;
        self.segment.get(start..self.position).ok_or_else(|| Error::new(Status::Internal, "bytes taken unseen"))
    }

    /// The next block; `None` at the end of the stream.
    pub(crate) fn block(&mut self) -> Result<Option<&[u8; BLOCK]>> {
        if self.bytes(1)?.is_empty() {
            return Ok(None);
        }
        match self.segment[self.position..].first_chunk::<BLOCK>() {
            Some(block) => {
                self.position += BLOCK;
                Ok(Some(block))
            }
            None => Err(Error::new(Status::Malformed, "tar: ends in the middle of a block")),
        }
    }

    /// Appends the next `count` bytes to `out`.
    pub(crate) fn read_into(&mut self, mut count: u64, out: &mut Vec<u8>) -> Result<()> {
        while count > 0 {
            let bytes = self.bytes(count)?;
            let n = bytes.len();
            if n == 0 {
                return Err(Error::new(Status::Malformed, "tar: ends in the middle of a header"));
            }
            out.extend_from_slice(bytes);
            self.consume(n);
            count -= n as u64;
        }
        Ok(())
    }

    /// What is known after [`Stream::bytes`] gave none; an `INTERNAL` error before.
    pub(crate) fn finish(self) -> Result<StreamSummary> {
        let source = self.summary.ok_or_else(|| Error::new(Status::Internal, "layer stream not read to its end"))?;
        Ok(StreamSummary { source, diff_id: self.hasher.finish(), bytes_out: self.bytes_out })
    }

    fn next_segment(&mut self) -> Result<()> {
        self.position = 0;
        if self.summary.is_some() {
            self.segment.clear();
            return Ok(());
        }
        let used = std::mem::take(&mut self.segment);
        match self.feed.next(used)? {
            Delivery::Segment(segment) => {
                self.hasher.update(&segment);
                self.bytes_out += segment.len() as u64;
                self.segment = segment;
            }
            Delivery::End(summary) => self.summary = Some(summary),
        }
        Ok(())
    }
}

enum Delivery {
    Segment(Vec<u8>),
    End(SourceSummary),
}

/// Fills a segment, which is full unless the stream ends in it.
fn fill(source: &mut Source, mut segment: Vec<u8>) -> Result<Option<Vec<u8>>> {
    segment.resize(SEGMENT, 0);
    let n = source.fill(&mut segment)?;
    segment.truncate(n);
    Ok((n > 0).then_some(segment))
}

enum Feed {
    Inline(Option<Box<Source>>),
    Threaded(Threaded),
}

impl Feed {
    /// The next segment, or the end. `used` is the one before, for another round.
    fn next(&mut self, used: Vec<u8>) -> Result<Delivery> {
        match self {
            Feed::Inline(source) => {
                let over = || Error::new(Status::Internal, "layer stream read past its end");
                if let Some(segment) = fill(source.as_mut().ok_or_else(over)?, used)? {
                    return Ok(Delivery::Segment(segment));
                }
                Ok(Delivery::End(source.take().ok_or_else(over)?.finish()))
            }
            Feed::Threaded(threaded) => threaded.next(used),
        }
    }
}

/// A source at work on a thread of ours. Dropping it ends the thread.
struct Threaded {
    ring: Arc<Ring>,
    thread: Option<JoinHandle<()>>,
}

impl Threaded {
    fn start(mut source: Source) -> Result<Threaded> {
        let ring = Arc::new(Ring::default());
        ring.lock().free.resize(SEGMENTS, Vec::new());
        let producer = Producer(ring.clone());
        let body = move || {
            while let Some(segment) = producer.free_segment() {
                match fill(&mut source, segment) {
                    Ok(Some(segment)) => producer.deliver(Ok(Delivery::Segment(segment))),
                    Ok(None) => return producer.deliver(Ok(Delivery::End(source.finish()))),
                    Err(error) => return producer.deliver(Err(error)),
                }
            }
        };
        let thread = sys::spawn("bl-inflate", body).map_err(|cause| Error::io(&cause, "start a thread"))?;
        Ok(Threaded { ring, thread: Some(thread) })
    }

    fn next(&mut self, used: Vec<u8>) -> Result<Delivery> {
        let mut state = self.ring.lock();
        if used.capacity() > 0 {
            state.free.push(used);
            self.ring.changed.notify_one();
        }
        loop {
            if let Some(delivery) = state.filled.pop_front() {
                return delivery;
            }
            if state.is_over {
                return Err(Error::new(Status::Internal, "the inflating thread died"));
            }
            state = self.ring.wait(state);
        }
    }
}

impl Drop for Threaded {
    fn drop(&mut self) {
        self.ring.end();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The segments that go round. A mutex and not a channel of the standard library: those leave thread-local memory on
/// the host's thread, which a leak checker reports at exit.
#[derive(Default)]
struct Ring {
    state: Mutex<RingState>,
    /// Only one side can be waiting: there are segments, so they are free, filled, or in the other side's hands.
    changed: Condvar,
}

#[derive(Default)]
struct RingState {
    filled: VecDeque<Result<Delivery>>,
    free: Vec<Vec<u8>>,
    /// One of the two sides is gone.
    is_over: bool,
}

impl Ring {
    fn lock(&self) -> MutexGuard<'_, RingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, RingState>) -> MutexGuard<'a, RingState> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_one();
    }
}

/// The thread's end of the ring; that it is gone is seen however the thread ends.
struct Producer(Arc<Ring>);

impl Producer {
    /// An empty segment; `None` when nobody wants more.
    fn free_segment(&self) -> Option<Vec<u8>> {
        let mut state = self.0.lock();
        loop {
            if state.is_over {
                return None;
            }
            if let Some(segment) = state.free.pop() {
                return Some(segment);
            }
            state = self.0.wait(state);
        }
    }

    fn deliver(&self, delivery: Result<Delivery>) {
        self.0.lock().filled.push_back(delivery);
        self.0.changed.notify_one();
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.0.end();
    }
}
