//! Who reads, who inflates, who hashes: the work on a layer's bytes before they are parsed.
//!
//! Inflating a layer, hashing it (the file and its uncompressed bytes), and creating its files take
//! about equally long. So there are more threads where there is more than one core. One reads the
//! file and hashes it, one inflates, one hashes what came of that. The caller's thread parses.
//! Inflating is what the others wait for, so its thread does nothing else. Segments of 512 KiB go
//! from it to both the hash and the parser. They are few enough to stay in the cache, and recycled,
//! so that no fresh memory is touched. They are bounded, so that nobody runs away. On one core the
//! same is done in turn.
//!
//! A layer that is a plain tar archive is hashed once: its bytes and its uncompressed bytes are the same. On several cores the
//! reading thread leaves that to the hashing one, since hashing takes longest then. A file that is followed while it is pulled
//! has been hashed already.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::blob_file::{LayerFile, Piece};
use super::buffers::{Segment, SegmentBytes};
use super::decompress::{Decompressor, Pieces};
use super::entry::Anomalies;
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Error, Result, Status};
use crate::fault;
use crate::interrupt::Interrupt;
use crate::queue::{Popped, Queue};
use crate::sys;

/// A multiple of the tar block, so that a header never spans two.
const SEGMENT: usize = 512 << 10;
/// Layers have stretches of small files, which take long to create, and of large ones, which take
/// long to inflate. 8 MiB of slack lets the stages run on through some of that.
const SEGMENTS: usize = 16;
/// Pieces of the file on their way.
const PIECES: usize = 4;
/// How long a caller waits before it looks at its interrupt again, and at the end for a thread that is stuck in a read.
const WAIT_INTERVAL: Duration = Duration::from_millis(50);

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
    Segment(Arc<Segment>),
    End(Totals),
}

/// The uncompressed stream of a source, segment by segment.
pub(super) enum Pipeline {
    Inline(Box<Inline>),
    Threaded(Threaded),
}

impl Pipeline {
    /// `diff_id` is what the uncompressed bytes are to be hashed with.
    pub(super) fn start(source: Decompressor, diff_id: Algorithm, interrupt: Interrupt) -> Result<Pipeline> {
        let is_same = source.is_plain() && source.algorithm() == diff_id;
        let hasher = (!is_same).then(|| Hasher::new(diff_id));
        let producer = Producer { source, is_over: false };
        if sys::has_cores() {
            return Ok(Pipeline::Threaded(Threaded::start(producer, (hasher, diff_id), interrupt)?));
        }
        Ok(Pipeline::Inline(Box::new(Inline { producer, hasher, free: Arc::default(), segments: 0, interrupt })))
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
    /// `None` where the file's digest is the diff_id.
    hasher: Option<Hasher>,
    free: Arc<Queue<SegmentBytes>>,
    /// Segments that were made.
    segments: usize,
    interrupt: Interrupt,
}

impl Inline {
    fn next(&mut self) -> Result<Delivery> {
        let used = self.segment()?;
        if let Some(contents) = self.producer.next(used)? {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&contents.bytes);
            }
            return Ok(Delivery::Segment(Arc::new(Segment::new(contents, &self.free))));
        }
        Ok(Delivery::End(self.producer.ended()?.totals(self.hasher.take().map(Hasher::finish))?))
    }

    /// One to use again, or a new one while there are few.
    fn segment(&mut self) -> Result<SegmentBytes> {
        if let Some(used) = self.free.try_pop() {
            return Ok(used);
        }
        if self.segments < SEGMENTS {
            self.segments += 1;
            return Ok(SegmentBytes::default());
        }
        loop {
            match self.free.pop_within(WAIT_INTERVAL) {
                Popped::Item(used) => return Ok(used),
                Popped::Closed => return Ok(SegmentBytes::default()),
                Popped::TimedOut => self.interrupt.check()?,
            }
        }
    }
}

/// Fills segments.
struct Producer {
    source: Decompressor,
    is_over: bool,
}

/// What a source says at its end.
struct Ended {
    /// `None` where the file's bytes are the uncompressed ones, and hashed as these.
    digest: Option<Digest>,
    bytes_in: u64,
    anomalies: Anomalies,
}

impl Producer {
    /// `None` at the end.
    fn next(&mut self, mut segment: SegmentBytes) -> Result<Option<SegmentBytes>> {
        if self.is_over {
            return Ok(None);
        }
        match segment.bytes.capacity() {
            // Zeros of the system's: a small layer pays for the pages that it fills.
            0 => segment.bytes = vec![0; SEGMENT],
            _ => segment.bytes.resize(SEGMENT, 0),
        }
        let filled = self.source.fill(&mut segment.bytes)?;
        self.is_over = filled.is_end;
        segment.bytes.truncate(filled.bytes);
        segment.bytes_in = self.source.bytes_in();
        Ok(Some(segment))
    }

    fn ended(&self) -> Result<Ended> {
        if !self.source.is_read() {
            return Err(Error::new(Status::Internal, "layer file not read to its end"));
        }
        let digest = self.source.digest().cloned();
        Ok(Ended { digest, bytes_in: self.source.bytes_in(), anomalies: self.source.anomalies() })
    }
}

impl Ended {
    /// `hashed` is the digest of the uncompressed bytes, where these were hashed by themselves.
    fn totals(self, hashed: Option<Digest>) -> Result<Totals> {
        let (digest, diff_id) = match (self.digest, hashed) {
            (Some(digest), Some(diff_id)) => (digest, diff_id),
            (Some(both), None) | (None, Some(both)) => (both.clone(), both),
            (None, None) => return Err(Error::new(Status::Internal, "a layer that nobody hashed")),
        };
        Ok(Totals { digest, bytes_in: self.bytes_in, diff_id, anomalies: self.anomalies })
    }
}

/// A source at work on threads of ours. Dropping it ends them.
pub(super) struct Threaded {
    queues: Arc<Queues>,
    is_hashed: bool,
    threads: Vec<JoinHandle<()>>,
    interrupt: Interrupt,
}

/// Segments go from `free` to `inflated` and `to_hash`, and back when nobody needs them any more.
#[derive(Default)]
struct Queues {
    pieces: Arc<Pieces>,
    free: Arc<Queue<SegmentBytes>>,
    inflated: Queue<Result<InflateOutput>>,
    to_hash: Queue<Arc<Segment>>,
    diff_id: Queue<Digest>,
}

enum InflateOutput {
    Segment(Arc<Segment>),
    End(Ended),
}

impl Threaded {
    fn start(
        mut producer: Producer,
        (mut hasher, diff_id): (Option<Hasher>, Algorithm),
        interrupt: Interrupt,
    ) -> Result<Threaded> {
        let queues = Arc::new(Queues::default());
        let mut file = producer.source.detach(queues.pieces.clone());
        if hasher.is_none() && file.as_mut().is_some_and(LayerFile::leave_hashing) {
            hasher = Some(Hasher::new(diff_id));
        }
        let is_hashed = hasher.is_some();
        let mut threaded = Threaded { queues: queues.clone(), is_hashed, threads: Vec::new(), interrupt };
        (0..SEGMENTS).for_each(|_| queues.free.push(SegmentBytes::default()));
        (0..PIECES).for_each(|_| queues.pieces.free.push(Vec::new()));
        if let Some(file) = file {
            threaded.spawn("bl-read", move |queues| read(file, &queues.pieces))?;
        }
        threaded.spawn("bl-inflate", move |queues| inflate(producer, is_hashed, queues))?;
        if let Some(hasher) = hasher {
            threaded.spawn("bl-hash", move |queues| hash(hasher, &queues.to_hash, &queues.diff_id))?;
        }
        Ok(threaded)
    }

    fn spawn(&mut self, name: &str, body: impl FnOnce(&Queues) + Send + 'static) -> Result<()> {
        let queues = self.queues.clone();
        let thread = sys::spawn(name, move || body(&queues)).map_err(|cause| Error::io(&cause, "start a thread"))?;
        self.threads.push(thread);
        Ok(())
    }

    fn next(&mut self) -> Result<Delivery> {
        match self.wait(&self.queues.inflated)?? {
            InflateOutput::Segment(segment) => Ok(Delivery::Segment(segment)),
            InflateOutput::End(ended) => {
                let diff_id = if self.is_hashed { Some(self.wait(&self.queues.diff_id)?) } else { None };
                Ok(Delivery::End(ended.totals(diff_id)?))
            }
        }
    }

    fn wait<T>(&self, queue: &Queue<T>) -> Result<T> {
        loop {
            match queue.pop_within(WAIT_INTERVAL) {
                Popped::Item(item) => return Ok(item),
                Popped::Closed => return Err(Error::new(Status::Internal, "a thread of the library died")),
                // A file on a slow disk or network keeps the thread that reads it; it need not keep the caller.
                Popped::TimedOut => self.interrupt.check()?,
            }
        }
    }
}

impl Drop for Threaded {
    fn drop(&mut self) {
        let Queues { pieces, free, inflated, to_hash, diff_id } = &*self.queues;
        pieces.free.abandon();
        pieces.read.abandon();
        free.abandon();
        inflated.abandon();
        to_hash.abandon();
        diff_id.abandon();
        let started = Instant::now();
        for thread in self.threads.drain(..) {
            // At most one read or segment away from its end. Where that read does not come back the thread is left to
            // itself: it holds nothing but its file and its buffers.
            while !thread.is_finished() && started.elapsed() < WAIT_INTERVAL {
                std::thread::sleep(Duration::from_micros(100));
            }
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
    }
}

/// The body of the first thread: until the file is at its end, cannot be read, or nobody wants more.
fn read(mut file: LayerFile, pieces: &Pieces) {
    let _closed_at_end = CloseAtEnd(&pieces.read);
    while let Some(buffer) = pieces.free.pop() {
        fault::at("bl-read");
        let piece = file.read(buffer);
        let is_last = !matches!(piece, Ok(Piece::Bytes(_)));
        pieces.read.push(piece);
        if is_last {
            return;
        }
    }
}

/// The body of the second thread.
fn inflate(mut producer: Producer, is_hashed: bool, queues: &Queues) {
    let Queues { free, inflated, to_hash, .. } = queues;
    let _closed_at_end = (CloseAtEnd(inflated), CloseAtEnd(to_hash));
    while let Some(segment) = free.pop() {
        fault::at("bl-inflate");
        match producer.next(segment) {
            Ok(Some(contents)) => {
                let segment = Arc::new(Segment::new(contents, free));
                inflated.push(Ok(InflateOutput::Segment(segment.clone())));
                if is_hashed {
                    to_hash.push(segment);
                }
            }
            Ok(None) => return inflated.push(producer.ended().map(InflateOutput::End)),
            Err(error) => return inflated.push(Err(error)),
        }
    }
}

/// The body of the third thread. A plain archive that is followed has none: its writer knows the one digest.
fn hash(mut hasher: Hasher, segments: &Queue<Arc<Segment>>, diff_id: &Queue<Digest>) {
    // Segments that wait for a hash that will not come would never go round again.
    let _closed_at_end = (CloseAtEnd(diff_id), AbandonAtEnd(segments));
    while let Some(segment) = segments.pop() {
        fault::at("bl-hash");
        hasher.update(&segment.bytes);
    }
    diff_id.push(hasher.finish());
}

/// However a thread ends, by a panic too, the next one sees it.
struct CloseAtEnd<'a, T>(&'a Queue<T>);

impl<T> Drop for CloseAtEnd<'_, T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The same for the queue that a thread takes from.
struct AbandonAtEnd<'a, T>(&'a Queue<T>);

impl<T> Drop for AbandonAtEnd<'_, T> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use super::*;
    use crate::limits::LayerLimits;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    fn archive(size: usize) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_path("f").unwrap();
        header.set_size(size as u64);
        header.set_cksum();
        let content: Vec<u8> = (0..size).map(|n| (n >> 7) as u8).collect();
        builder.append(&header, &content[..]).unwrap();
        builder.into_inner().unwrap()
    }

    /// Whoever hashes what: the digest is that of the file, and the diff_id that of what comes of it.
    #[test]
    fn each_digest_is_that_of_its_bytes() {
        let contents = [archive(5), archive(3 << 20), [archive(700), b"more".to_vec()].concat()];
        let algorithms = [Algorithm::Sha256, Algorithm::Sha512];
        for content in &contents {
            for (file, is_plain) in
                [(content.clone(), true), (gzip(content), false), ([gzip(content), vec![0; 700]].concat(), false)]
            {
                for (of_file, of_content) in algorithms.iter().flat_map(|&a| algorithms.map(|b| (a, b))) {
                    let mut backing = tempfile::tempfile().unwrap();
                    backing.write_all(&file).unwrap();
                    backing.rewind().unwrap();
                    let (limits, interrupt) = (LayerLimits::default(), Interrupt::default());
                    let layer = LayerFile::new(backing.into(), of_file);
                    let source = Decompressor::open(layer, of_file, interrupt.clone(), &limits).unwrap();
                    assert_eq!(source.is_plain(), is_plain);
                    let mut pipeline = Pipeline::start(source, of_content, interrupt).unwrap();
                    let mut found = Vec::new();
                    let totals = loop {
                        match pipeline.next().unwrap() {
                            Delivery::Segment(segment) => found.extend_from_slice(&segment.bytes),
                            Delivery::End(totals) => break totals,
                        }
                    };
                    let digest = |algorithm, bytes: &[u8]| {
                        let mut hasher = Hasher::new(algorithm);
                        hasher.update(bytes);
                        hasher.finish()
                    };
                    assert!(found == *content);
                    assert_eq!((totals.digest, totals.bytes_in), (digest(of_file, &file), file.len() as u64));
                    assert_eq!(totals.diff_id, digest(of_content, content));
                }
            }
        }
    }
}
