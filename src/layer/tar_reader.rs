//! From the tar stream to entries: headers, the extensions before them, the end of the archive.
//!
//! This is the one place where a layer's framing is decided. Two readers that see different entries
//! in one archive are how a scanner is fooled (families 84 to 105). The readers of the field may
//! disagree about where an entry ends or what it is called. There this one reads as Go does, by
//! which layers are written and read, or refuses.

use std::borrow::Cow;

use super::buffers::SharedBytes;
use super::entry::{Anomalies, Entry, Kind};
use super::entry_path::{Underflow, normalize};
use super::header::{BLOCK, Dialect, Header, malformed};
use super::pax::{self, Extended};
use super::pipeline::Totals;
use super::sparse::{self, Chunk};
use super::tar_stream::Stream;
use super::whiteout::{self, NameClass};
use crate::error::{Error, Result, quoted};
use crate::limits::{self, LayerLimits};

/// Reads a layer entry by entry.
pub(crate) struct Reader {
    stream: Stream,
    /// Data of the current entry that was not read yet, and the padding after it.
    data_left: u64,
    padding: u64,
    /// Where in the file the next byte of data belongs, and the chunks after the one that it is in.
    offset: u64,
    chunk_left: u64,
    chunks: std::vec::IntoIter<Chunk>,
    entries: u64,
    file_bytes: u64,
    anomalies: Anomalies,
    limits: LayerLimits,
}

/// Some of an entry's data.
pub(crate) struct Data {
    /// Where in the file it belongs.
    pub(crate) offset: u64,
    pub(crate) bytes: SharedBytes,
    /// There is no more.
    pub(crate) is_last: bool,
}

/// How far a layer was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes of the layer's file.
    pub bytes_in: u64,
    /// Bytes of the uncompressed tar stream.
    pub bytes_out: u64,
    /// Entries.
    pub entries: u64,
}

/// The extensions collected before an entry.
#[derive(Default)]
struct Pending {
    pax: Option<Extended>,
    gnu_name: Option<Vec<u8>>,
    gnu_link: Option<Vec<u8>>,
    headers: u64,
    metadata: u64,
}

impl Reader {
    pub(crate) fn new(stream: Stream, limits: LayerLimits) -> Reader {
        Reader {
            stream,
            data_left: 0,
            padding: 0,
            offset: 0,
            chunk_left: 0,
            chunks: Vec::new().into_iter(),
            entries: 0,
            file_bytes: 0,
            anomalies: Anomalies::default(),
            limits,
        }
    }

    /// Reads the next entry into `entry`, skipping what is left of the one before. False at the end of the archive;
    /// then everything that follows it has been read and hashed too.
    pub(crate) fn next(&mut self, entry: &mut Entry) -> Result<bool> {
        self.skip_data()?;
        let mut pending = Pending::default();
        loop {
            let Some(block) = self.stream.block()? else { return self.end(&pending) };
            if block.iter().all(|&b| b == 0) {
                self.finish_archive()?;
                return self.end(&pending);
            }
            let block = *block;
            let header = Header::parse(&block)?;
            if self.read_extension(&header, &mut pending)? {
                continue;
            }
            self.entries += 1;
            limits::ENTRIES.check(&self.limits, self.entries, || "layer")?;
            if self.read_entry(&header, pending, entry)? {
                return Ok(true);
            }
            self.skip_data()?;
            pending = Pending::default();
        }
    }

    /// The next piece of the current entry's data; `None` at its end.
    pub(crate) fn data(&mut self) -> Result<Option<Data>> {
        if !self.seek_data() {
            return Ok(None);
        }
        let n = self.stream.bytes(self.chunk_left)?.len();
        if n == 0 {
            return Err(malformed("ends in the middle of an entry"));
        }
        let offset = self.offset;
        self.data_left -= n as u64;
        self.chunk_left -= n as u64;
        self.offset += n as u64;
        Ok(Some(Data { offset, bytes: self.stream.take(n), is_last: !self.seek_data() }))
    }

    /// Goes on to the next chunk that has data; false where there is none.
    fn seek_data(&mut self) -> bool {
        while self.chunk_left == 0 {
            let Some(chunk) = self.chunks.next() else { return false };
            (self.offset, self.chunk_left) = (chunk.offset, chunk.length);
        }
        true
    }

    /// How far it came.
    pub(crate) fn progress(&self) -> Progress {
        let (bytes_in, bytes_out) = self.stream.progress();
        Progress { bytes_in, bytes_out, entries: self.entries }
    }

    /// The digests and counts, once [`Reader::next`] said that the archive is over.
    pub(crate) fn finish(self) -> Result<(Totals, Progress, Anomalies)> {
        let progress = self.progress();
        let mut anomalies = self.anomalies;
        let totals = self.stream.finish()?;
        anomalies.insert(totals.anomalies);
        Ok((totals, progress, anomalies))
    }

    /// Consumes `x`, `g`, `L`, `K` and `V` headers; false for everything else.
    fn read_extension(&mut self, header: &Header<'_>, pending: &mut Pending) -> Result<bool> {
        let typeflag = header.typeflag();
        if !matches!(typeflag, b'x' | b'g' | b'L' | b'K' | b'V') {
            return Ok(false);
        }
        pending.headers += 1;
        limits::STACKED_HEADERS.check(&self.limits, pending.headers, || "layer")?;
        let size = header.size()?;
        pending.metadata = pending.metadata.saturating_add(size);
        limits::HEADER_METADATA.check(&self.limits, pending.metadata, || "layer")?;
        let mut data = Vec::new();
        self.stream.read_into(size, &mut data)?;
        self.data_left = 0;
        self.padding = padding_of(size);
        self.skip_data()?;
        match typeflag {
            // The later of two takes the earlier's place.
            b'x' => pending.pax = Some(pax::read_local(&data, &self.limits)?),
            b'L' => pending.gnu_name = Some(until_nul(data)),
            b'K' => pending.gnu_link = Some(until_nul(data)),
            _ => {
                if typeflag == b'g' {
                    pax::check_global(&data)?;
                }
                // It is an entry by itself: what was said before it was said of it.
                (pending.pax, pending.gnu_name, pending.gnu_link) = (None, None, None);
                self.anomalies.insert(Anomalies::IGNORED_HEADER);
            }
        }
        Ok(true)
    }

    /// Fills `entry` from its header and extensions. False for what is skipped.
    fn read_entry(&mut self, header: &Header<'_>, pending: Pending, entry: &mut Entry) -> Result<bool> {
        let mut pax = pending.pax.unwrap_or_default();
        if (pax.path.is_some() && pending.gnu_name.is_some()) || (pax.linkpath.is_some() && pending.gnu_link.is_some())
        {
            return Err(malformed("a name given in both PAX and GNU form"));
        }
        let sparse_name = pax.sparse.as_mut().and_then(|sparse| sparse.name.take());
        let name = match sparse_name.or(pax.path.take()).or(pending.gnu_name) {
            Some(name) => name.into(),
            None => header.name(),
        };
        normalize(&name, Underflow::Refuse, &self.limits, &mut entry.path)?;
        let describe = |error: Error| error.context(format_args!("entry {}", quoted(&name)));
        let mark = whiteout::classify(&entry.path)?;
        // A whiteout's type is not looked at (D5).
        let kind = if mark == NameClass::None { kind_of(header, &name).map_err(describe)? } else { Kind::File };
        // Readers who do not know markers would take its map and its name for a file's.
        if mark != NameClass::None && (pax.sparse.is_some() || header.typeflag() == b'S') {
            return Err(describe(malformed("a whiteout marker with a sparse map")));
        }
        let is_old_directory = header.typeflag() == 0 && name.ends_with(b"/");
        let size = if header.is_without_data() || is_old_directory {
            header.check_size().map_err(describe)?;
            0
        } else {
            pax.size.map_or_else(|| header.size(), Ok).map_err(describe)?
        };
        limits::LAYER_SIZE.check(&self.limits, size, || quoted(&name))?;
        if i64::try_from(size).is_err() {
            return Err(describe(malformed("a size beyond 63 bits")));
        }
        self.data_left = size;
        self.padding = padding_of(size);
        entry.kind = match mark {
            NameClass::None => kind,
            NameClass::Marker(kind) => kind,
            NameClass::Aufs => {
                self.anomalies.insert(Anomalies::SKIPPED_AUFS);
                return Ok(false);
            }
        };
        if entry.path.is_empty() && entry.kind != Kind::Directory {
            return Err(describe(malformed("the root of a layer can only be a directory")));
        }
        entry.size = self.read_extent(header, entry, pax.sparse.take(), mark == NameClass::None).map_err(describe)?;
        self.file_bytes = self.file_bytes.saturating_add(entry.size);
        limits::LAYER_SIZE.check(&self.limits, self.file_bytes, || quoted(&name))?;
        let link = match pax.linkpath.take().or(pending.gnu_link) {
            Some(link) => Cow::Owned(link),
            None => Cow::Borrowed(header.link_name()),
        };
        self.read_link(&link, entry).map_err(describe)?;
        entry.mode = header.mode();
        entry.uid = id("uid", pax.uid.map_or_else(|| header.uid(), Ok).map_err(describe)?).map_err(describe)?;
        entry.gid = id("gid", pax.gid.map_or_else(|| header.gid(), Ok).map_err(describe)?).map_err(describe)?;
        entry.mtime = pax.mtime.unwrap_or_else(|| header.mtime()).clamped();
        if pax.has_skipped {
            self.anomalies.insert(Anomalies::SKIPPED_XATTR);
        }
        entry.xattrs = pax.take_xattrs(&self.limits).map_err(describe)?;
        Ok(true)
    }

    /// Where the data of an entry belongs; gives the size of the file. What the data of markers and hard links would be
    /// is not looked at.
    fn read_extent(
        &mut self,
        header: &Header<'_>,
        entry: &mut Entry,
        pax: Option<sparse::PaxSparse>,
        is_plain: bool,
    ) -> Result<u64> {
        (self.offset, self.chunk_left, self.chunks) = (0, 0, Vec::new().into_iter());
        entry.is_sparse = false;
        let is_old_sparse = header.typeflag() == b'S';
        if !is_plain || !(pax.is_some() || is_old_sparse) {
            self.chunk_left = if entry.kind == Kind::File { self.data_left } else { 0 };
            return Ok(self.chunk_left);
        }
        if entry.kind != Kind::File || (pax.is_some() && is_old_sparse) {
            return Err(malformed("a sparse map for what is no file, or two maps"));
        }
        let (size, chunks) = match pax {
            Some(pax) => pax.resolve(&mut self.stream, &mut self.data_left, &self.limits)?,
            None => sparse::read_old(header.block(), &mut self.stream, self.data_left, &self.limits)?,
        };
        // The blocks of a map in the data are whole ones.
        self.padding = padding_of(self.data_left);
        self.chunks = chunks.into_iter();
        entry.is_sparse = true;
        Ok(size)
    }

    fn read_link(&self, link: &[u8], entry: &mut Entry) -> Result<()> {
        entry.link.clear();
        match entry.kind {
            Kind::Symlink => {
                if link.is_empty() || link.contains(&0) {
                    return Err(malformed(format!("symlink target {}", quoted(link))));
                }
                limits::SYMLINK_TARGET.check(&self.limits, link.len() as u64, || "symlink")?;
                entry.link.extend_from_slice(link);
                Ok(())
            }
            Kind::Hardlink => {
                normalize(link, Underflow::Clamp, &self.limits, &mut entry.link)?;
                if entry.link.is_empty() {
                    return Err(malformed("hard link to the root"));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn skip_data(&mut self) -> Result<()> {
        let mut left = self.data_left + self.padding;
        while left > 0 {
            let n = self.stream.bytes(left)?.len();
            if n == 0 {
                return Err(malformed("ends in the middle of an entry"));
            }
            self.stream.consume(n);
            left -= n as u64;
        }
        (self.data_left, self.padding, self.chunk_left) = (0, 0, 0);
        Ok(())
    }

    /// After one block of zeros: another one, or nothing, ends the archive; what follows that is only hashed (D9).
    fn finish_archive(&mut self) -> Result<()> {
        if let Some(block) = self.stream.block()?
            && block.iter().any(|&b| b != 0)
        {
            return Err(malformed("data after a single block of zeros"));
        }
        loop {
            let rest = self.stream.bytes(u64::MAX)?;
            if rest.is_empty() {
                return Ok(());
            }
            let n = rest.len();
            if rest.iter().any(|&b| b != 0) {
                self.anomalies.insert(Anomalies::TRAILING_ARCHIVE);
            }
            self.stream.consume(n);
        }
    }

    fn end(&self, pending: &Pending) -> Result<bool> {
        if pending.headers > 0 && (pending.pax.is_some() || pending.gnu_name.is_some() || pending.gnu_link.is_some()) {
            return Err(malformed("an extension header without an entry"));
        }
        Ok(false)
    }
}

fn kind_of(header: &Header<'_>, name: &[u8]) -> Result<Kind> {
    match header.typeflag() {
        // Before POSIX a directory was a file whose name ends in a slash.
        0 if name.ends_with(b"/") => Ok(Kind::Directory),
        0 | b'0' | b'7' => Ok(Kind::File),
        b'S' if header.dialect == Dialect::Gnu => Ok(Kind::File),
        b'1' => Ok(Kind::Hardlink),
        b'2' => Ok(Kind::Symlink),
        b'3' => header.device().map(Kind::CharDevice),
        b'4' => header.device().map(Kind::BlockDevice),
        b'5' => Ok(Kind::Directory),
        b'6' => Ok(Kind::Fifo),
        other => Err(malformed(format!("type {:?} is not known", other as char))),
    }
}

/// Owner ids up to 2^32 - 2: the last one means "leave as it is" to the kernel (family 74).
fn id(field: &str, value: u64) -> Result<u32> {
    u32::try_from(value)
        .ok()
        .filter(|&id| id != u32::MAX)
        .ok_or_else(|| malformed(format!("{field} {value} is out of range")))
}

fn until_nul(mut data: Vec<u8>) -> Vec<u8> {
    if let Some(end) = data.iter().position(|&b| b == 0) {
        data.truncate(end);
    }
    data
}

fn padding_of(size: u64) -> u64 {
    size.next_multiple_of(BLOCK as u64) - size
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::Duration;

    use super::*;
    use crate::digest::{Algorithm, Digest};
    use crate::error::Status;
    use crate::interrupt::{Cancel, Interrupt};
    use crate::layer::Decompressor;

    fn archive() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for i in 0..20 {
            let mut header = tar::Header::new_ustar();
            header.set_size(700);
            header.set_mode(0o644);
            builder.append_data(&mut header, format!("f{i}"), &[b'x'; 700][..]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn reader(source: std::io::PipeReader, interrupt: &Interrupt) -> Result<Reader> {
        let limits = LayerLimits::default();
        let source = Decompressor::open(
            crate::layer::LayerFile::new(source.into(), Algorithm::Sha256),
            Algorithm::Sha256,
            interrupt.clone(),
            &limits,
        )?;
        Ok(Reader::new(Stream::new(source, Algorithm::Sha256, interrupt.clone())?, limits))
    }

    #[test]
    fn family_103_a_source_that_trickles_gives_the_same() {
        let tar = archive();
        for piece in [1, 7, 511, 513] {
            let (source, mut sink) = std::io::pipe().unwrap();
            let bytes = tar.clone();
            let writer = std::thread::spawn(move || {
                for piece in bytes.chunks(piece) {
                    sink.write_all(piece).unwrap();
                }
            });
            let mut reader = reader(source, &Interrupt::default()).unwrap();
            let mut entry = Entry::default();
            let mut data = 0;
            while reader.next(&mut entry).unwrap() {
                while let Some(piece) = reader.data().unwrap() {
                    data += piece.bytes.len();
                }
            }
            let (totals, progress, _) = reader.finish().unwrap();
            writer.join().unwrap();
            assert_eq!((progress.entries, data, totals.diff_id), (20, 20 * 700, Digest::of(&tar)), "{piece}");
        }
    }

    #[test]
    fn family_133_a_source_that_stops_does_not_hold_the_caller() {
        if !crate::sys::has_cores() {
            // On one core the caller reads by itself; a regular file always answers.
            return;
        }
        let (source, mut sink) = std::io::pipe().unwrap();
        sink.write_all(&archive()[..5000]).unwrap();
        let cancel = Cancel::new();
        let mut reader = reader(source, &Interrupt::new(Some(cancel.clone()), None)).unwrap();
        let (done, is_done) = std::sync::mpsc::channel::<()>();
        let canceller = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            cancel.trigger();
            // A caller that is held all the same gets an end after a minute, which is another error.
            let _ = is_done.recv_timeout(Duration::from_secs(60));
            drop(sink);
        });
        let mut entry = Entry::default();
        let error = loop {
            match reader.next(&mut entry) {
                Ok(true) => {}
                Ok(false) => panic!("read to an end that is not there"),
                Err(error) => break error,
            }
        };
        drop(reader);
        assert_eq!(error.status(), Status::Cancelled);
        drop(done);
        canceller.join().unwrap();
    }
}
