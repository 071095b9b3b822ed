//! Compressing a layer while it is written, by several threads where there are processors for them. The bytes do not depend on
//! how many those are.
//!
//! zstd's own workers do that if there is at least one, whatever their number (zstd, `ZSTD_c_nbWorkers`). gzip is cut into pieces, each
//! of which is deflated by itself up to a byte boundary (RFC 1951, an empty stored block). They are one member of a gzip file.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use flate2::{Compress, Compression, Crc, FlushCompress};

use super::options::LayerCompression;
use crate::error::{Error, Result, Status};
use crate::sys;

/// What is deflated by itself.
const GZIP_PIECE: usize = 1 << 20;
/// RFC 1952: magic, deflate, no flags, no time, no hint, an unknown system.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// A last block without content.
const DEFLATE_END: [u8; 2] = [3, 0];
/// Workers that pay: what feeds them is slower than more of them.
const MOST_WORKERS: usize = 4;
/// What each of zstd's workers has at a time, and how much memory it takes: there are some more of them than workers. By default it is
/// four windows. With half a window of 2 MiB, and not a whole one, two cores take 13 MiB less. A blob of 364 MB is larger by 0.6 %.
const ZSTD_JOB: u32 = 1 << 20;
/// Higher ones have windows for which readers have no memory, ours among them.
const MOST_ZSTD_LEVEL: i32 = 19;

/// Something that compressed bytes go to.
pub(super) trait BlobSink {
    fn write(&mut self, bytes: &[u8]) -> Result<()>;
}

/// A layer on its way through a compression.
pub(super) enum Compressor<S: BlobSink> {
    Plain(S),
    Zstd(ZstdPacker<S>),
    Gzip(GzipPacker<S>),
}

impl<S: BlobSink> Compressor<S> {
    pub(super) fn new(compression: LayerCompression, level: Option<i32>, sink: S) -> Result<Compressor<S>> {
        let refuse = |why: String| Err(Error::new(Status::InvalidArgument, why));
        let workers = std::thread::available_parallelism().map_or(1, |n| n.get().min(MOST_WORKERS));
        match (compression, level) {
            (LayerCompression::Plain, None) => Ok(Compressor::Plain(sink)),
            (LayerCompression::Plain, Some(level)) => refuse(format!("level {level}: nothing is compressed")),
            (LayerCompression::Zstd | LayerCompression::ByBase, level) => {
                let level = level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
                if !(1..=MOST_ZSTD_LEVEL).contains(&level) {
                    return refuse(format!("level {level}: zstd has 1 to {MOST_ZSTD_LEVEL}"));
                }
                ZstdPacker::new(level, workers, sink).map(Compressor::Zstd)
            }
            (LayerCompression::Gzip, level) => {
                let level = level.unwrap_or(6);
                match u32::try_from(level) {
                    Ok(level @ 1..=9) => GzipPacker::new(level, workers, sink).map(Compressor::Gzip),
                    _ => refuse(format!("level {level}: gzip has 1 to 9")),
                }
            }
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Compressor::Plain(sink) => sink.write(bytes),
            Compressor::Zstd(zstd) => zstd.write(bytes),
            Compressor::Gzip(gzip) => gzip.write(bytes),
        }
    }

    pub(super) fn finish(self) -> Result<S> {
        match self {
            Compressor::Plain(sink) => Ok(sink),
            Compressor::Zstd(zstd) => zstd.finish(),
            Compressor::Gzip(gzip) => gzip.finish(),
        }
    }
}

type ZstdEncoder<S> = zstd::stream::write::Encoder<'static, SinkWriter<S>>;

/// One zstd frame, made by zstd's own workers.
pub(super) struct ZstdPacker<S: BlobSink> {
    encoder: Box<ZstdEncoder<S>>,
    /// The first bytes start the workers.
    has_begun: bool,
}

impl<S: BlobSink> ZstdPacker<S> {
    fn new(level: i32, workers: usize, sink: S) -> Result<ZstdPacker<S>> {
        let writer = SinkWriter { sink, failed: None };
        let begun = ZstdEncoder::new(writer, level).and_then(|mut encoder| {
            encoder.include_checksum(true)?;
            // One at least, also where there is one processor.
            encoder.multithread(workers as u32)?;
            encoder.set_parameter(zstd::zstd_safe::CParameter::JobSize(ZSTD_JOB))?;
            Ok(encoder)
        });
        let encoder = begun.map_err(|cause| Error::io(&cause, "begin zstd"))?;
        Ok(ZstdPacker { encoder: Box::new(encoder), has_begun: false })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.step(|encoder| encoder.write_all(bytes))
    }

    fn finish(mut self) -> Result<S> {
        self.step(|encoder| encoder.do_finish())?;
        let ended = self.encoder.finish().map_err(|cause| Error::io(&cause, "compress a layer"))?;
        Ok(ended.sink)
    }

    fn step(&mut self, step: impl FnOnce(&mut ZstdEncoder<S>) -> std::io::Result<()>) -> Result<()> {
        let has_begun = std::mem::replace(&mut self.has_begun, true);
        let encoder = &mut *self.encoder;
        let done = if has_begun { step(encoder) } else { sys::with_signals_blocked(|| step(encoder)) };
        // What the blob said is more than what zstd makes of it.
        match self.encoder.get_mut().failed.take() {
            Some(error) => Err(error),
            None => done.map_err(|cause| Error::io(&cause, "compress a layer")),
        }
    }
}

/// A sink as a writer, which keeps what went wrong.
struct SinkWriter<S> {
    sink: S,
    failed: Option<Error>,
}

impl<S: BlobSink> std::io::Write for SinkWriter<S> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.sink.write(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                self.failed = Some(error);
                Err(std::io::ErrorKind::Other.into())
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A piece that was deflated.
struct Deflated {
    bytes: Vec<u8>,
    crc: Crc,
}

/// A piece to be deflated, and where the result goes.
type GzipJob = (Vec<u8>, SyncSender<Result<Deflated>>);

/// One member, deflated piece by piece.
pub(super) struct GzipPacker<S> {
    sink: S,
    level: u32,
    piece: Vec<u8>,
    crc: Crc,
    /// In the order of their pieces.
    waiting: VecDeque<Receiver<Result<Deflated>>>,
    workers: GzipWorkers,
}

impl<S: BlobSink> GzipPacker<S> {
    fn new(level: u32, workers: usize, mut sink: S) -> Result<GzipPacker<S>> {
        sink.write(&GZIP_HEADER)?;
        let mut gzip = GzipPacker {
            sink,
            level,
            piece: Vec::with_capacity(GZIP_PIECE),
            crc: Crc::new(),
            waiting: VecDeque::new(),
            workers: GzipWorkers::default(),
        };
        if sys::has_cores() {
            let (jobs, queue) = sync_channel::<GzipJob>(workers);
            let queue = Arc::new(Mutex::new(queue));
            for _ in 0..workers {
                let queue = queue.clone();
                gzip.workers.threads.extend(sys::spawn("bl-gzip", move || deflate_all(&queue, level)).ok());
            }
            gzip.workers.jobs = (!gzip.workers.threads.is_empty()).then_some(jobs);
        }
        Ok(gzip)
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(GZIP_PIECE - self.piece.len()));
            self.piece.extend_from_slice(now);
            bytes = later;
            if self.piece.len() == GZIP_PIECE {
                self.end_piece()?;
            }
        }
        Ok(())
    }

    fn end_piece(&mut self) -> Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(GZIP_PIECE));
        let Some(jobs) = &self.workers.jobs else {
            let done = deflate(&piece, self.level)?;
            return self.put(done);
        };
        let (answer, done) = sync_channel(1);
        jobs.send((piece, answer)).map_err(|_| died())?;
        self.waiting.push_back(done);
        if self.waiting.len() > 2 * self.workers.threads.len() { self.put_first() } else { Ok(()) }
    }

    fn put_first(&mut self) -> Result<()> {
        let Some(first) = self.waiting.pop_front() else { return Ok(()) };
        let done = first.recv().map_err(|_| died())??;
        self.put(done)
    }

    fn put(&mut self, Deflated { bytes, crc }: Deflated) -> Result<()> {
        self.crc.combine(&crc);
        self.sink.write(&bytes)
    }

    fn finish(mut self) -> Result<S> {
        if !self.piece.is_empty() {
            self.end_piece()?;
        }
        while !self.waiting.is_empty() {
            self.put_first()?;
        }
        self.sink.write(&DEFLATE_END)?;
        self.sink.write(&self.crc.sum().to_le_bytes())?;
        self.sink.write(&self.crc.amount().to_le_bytes())?;
        self.workers.end();
        Ok(self.sink)
    }
}

/// Threads that deflate. Dropping them waits for what they are at.
#[derive(Default)]
struct GzipWorkers {
    /// None of them where there is one processor.
    threads: Vec<JoinHandle<()>>,
    jobs: Option<SyncSender<GzipJob>>,
}

impl GzipWorkers {
    fn end(&mut self) {
        drop(self.jobs.take());
        // One that panicked has given no answer, which was told.
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

impl Drop for GzipWorkers {
    fn drop(&mut self) {
        self.end();
    }
}

fn died() -> Error {
    Error::new(Status::Internal, "a thread that compresses has died")
}

fn deflate_all(jobs: &Mutex<Receiver<GzipJob>>, level: u32) {
    loop {
        let job = jobs.lock().map(|jobs| jobs.recv());
        let Ok(Ok((piece, answer))) = job else { return };
        // Whoever asked may have gone.
        let _ = answer.send(deflate(&piece, level));
    }
}

fn deflate(piece: &[u8], level: u32) -> Result<Deflated> {
    let mut crc = Crc::new();
    crc.update(piece);
    let mut compress = Compress::new(Compression::new(level), false);
    // What cannot be made smaller is stored, with five bytes for each 16 KiB.
    let mut bytes = Vec::with_capacity(piece.len() + piece.len() / 1024 + 64);
    let failed = |cause: flate2::CompressError| Error::new(Status::Internal, format!("deflate: {cause}"));
    loop {
        let done = compress.total_in() as usize;
        compress.compress_vec(&piece[done..], &mut bytes, FlushCompress::Sync).map_err(failed)?;
        // With room left over, all of it is out.
        if compress.total_in() as usize == piece.len() && bytes.len() < bytes.capacity() {
            return Ok(Deflated { bytes, crc });
        }
        bytes.reserve(64 << 10);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    impl BlobSink for Vec<u8> {
        fn write(&mut self, bytes: &[u8]) -> Result<()> {
            self.extend_from_slice(bytes);
            Ok(())
        }
    }

    fn content() -> Vec<u8> {
        let mut state = 7u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        // Some that can be made smaller, and some that cannot.
        (0..5 << 20).map(|at| if at % (3 << 20) < 1 << 20 { next() } else { (at / 100) as u8 }).collect()
    }

    #[test]
    fn what_is_packed_unpacks_and_pieces_do_not_matter() {
        let content = content();
        for (compression, level) in [
            (LayerCompression::Plain, None),
            (LayerCompression::Gzip, None),
            (LayerCompression::Gzip, Some(1)),
            (LayerCompression::Zstd, None),
            (LayerCompression::Zstd, Some(1)),
        ] {
            let pack = |step: usize| {
                let mut compressor = Compressor::new(compression, level, Vec::new()).unwrap();
                content.chunks(step).for_each(|piece| compressor.write(piece).unwrap());
                compressor.finish().unwrap()
            };
            let packed = pack(1 << 20);
            assert!(pack(12_345) == packed, "{compression:?}");
            let mut unpacked = Vec::new();
            match compression {
                LayerCompression::Plain => unpacked = packed,
                LayerCompression::Gzip => {
                    flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
                }
                _ => unpacked = zstd::decode_all(&packed[..]).unwrap(),
            }
            assert!(unpacked == content, "{compression:?}");
        }
    }

    #[test]
    fn nothing_is_packed_too() {
        for compression in [LayerCompression::Gzip, LayerCompression::Zstd] {
            let packed = Compressor::new(compression, None, Vec::new()).unwrap().finish().unwrap();
            assert!(!packed.is_empty());
        }
    }

    #[test]
    fn levels_that_are_none_are_refused() {
        for (compression, level) in [
            (LayerCompression::Plain, 1),
            (LayerCompression::Gzip, 0),
            (LayerCompression::Gzip, 10),
            (LayerCompression::Gzip, -1),
            (LayerCompression::Zstd, 0),
            (LayerCompression::Zstd, 99),
        ] {
            let error = Compressor::new(compression, Some(level), Vec::new()).err().unwrap();
            assert_eq!(error.status(), Status::InvalidArgument, "{compression:?} {level}");
        }
    }

    /// The sink's own error is what is told, not what an encoder makes of it.
    #[test]
    fn an_error_of_the_blob_is_the_error() {
        struct Full;
        impl BlobSink for Full {
            fn write(&mut self, bytes: &[u8]) -> Result<()> {
                // Headers still fit.
                if bytes.len() < 20 { Ok(()) } else { Err(Error::no_space("full".into())) }
            }
        }
        for compression in [LayerCompression::Plain, LayerCompression::Gzip, LayerCompression::Zstd] {
            let mut compressor = Compressor::new(compression, None, Full).unwrap();
            let written = content().chunks(1 << 20).try_for_each(|piece| compressor.write(piece));
            let error = written.and_then(|()| compressor.finish().map(|_| ())).unwrap_err();
            assert_eq!(error.status(), Status::NoSpace, "{compression:?}");
        }
    }
}
