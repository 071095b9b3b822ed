//! From the tar stream to entries: headers, the extensions before them, the end of the archive.
//!
//! This is the one place where a layer's framing is decided, so it prefers an error to a guess wherever readers in the
//! field disagree about where an entry ends or what it is called (families 84 to 105): two readers that see different
//! entries in one archive are how a scanner is fooled.

use super::entry::{Anomalies, Entry, Kind, Timestamp};
use super::header::{BLOCK, Dialect, Header, malformed};
use super::name::{Underflow, normalize};
use super::pax::{self, Extended};
use super::stream::{Stream, StreamSummary};
use super::whiteout::{self, Mark};
use crate::error::{Error, Result, Status, quoted};
use crate::limits;

/// Reads a layer entry by entry.
pub(crate) struct Reader {
    stream: Stream,
    /// Data of the current entry that was not read yet, and the padding after it.
    data_left: u64,
    padding: u64,
    entries: u64,
    file_bytes: u64,
    anomalies: Anomalies,
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
    pub(crate) fn new(stream: Stream) -> Reader {
        Reader { stream, data_left: 0, padding: 0, entries: 0, file_bytes: 0, anomalies: Anomalies::default() }
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
            if self.entries > limits::ENTRIES.default {
                return Err(Error::limit(limits::ENTRIES.name, limits::ENTRIES.default, self.entries, "layer"));
            }
            if self.read_entry(&header, pending, entry)? {
                return Ok(true);
            }
            self.skip_data()?;
            pending = Pending::default();
        }
    }

    /// The next piece of the current entry's data; empty at its end.
    pub(crate) fn data(&mut self) -> Result<&[u8]> {
        if self.data_left == 0 {
            return Ok(&[]);
        }
        // A segment never spans; what it gives is used up here, so that the borrow can last.
        let n = self.stream.bytes(self.data_left)?.len();
        if n == 0 {
            return Err(malformed("ends in the middle of an entry"));
        }
        self.data_left -= n as u64;
        self.stream.take(n)
    }

    /// How many entries were read.
    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }

    /// The digests and counts, once [`Reader::next`] said that the archive is over.
    pub(crate) fn finish(self) -> Result<(StreamSummary, Anomalies)> {
        let mut anomalies = self.anomalies;
        let summary = self.stream.finish()?;
        anomalies.insert(summary.source.anomalies);
        Ok((summary, anomalies))
    }

    /// Consumes `x`, `g`, `L`, `K` and `V` headers; false for everything else.
    fn read_extension(&mut self, header: &Header<'_>, pending: &mut Pending) -> Result<bool> {
        let typeflag = header.typeflag();
        if !matches!(typeflag, b'x' | b'g' | b'L' | b'K' | b'V') {
            return Ok(false);
        }
        pending.headers += 1;
        if pending.headers > limits::STACKED_HEADERS.default {
            let limit = limits::STACKED_HEADERS;
            return Err(Error::limit(limit.name, limit.default, pending.headers, "layer"));
        }
        let wrong_dialect = match typeflag {
            b'x' | b'g' => header.dialect != Dialect::Ustar,
            _ => header.dialect != Dialect::Gnu,
        };
        if wrong_dialect {
            return Err(malformed(format!("header of type {:?} in the wrong dialect", typeflag as char)));
        }
        let size = header.size()?;
        pending.metadata = pending.metadata.saturating_add(size);
        if pending.metadata > limits::HEADER_METADATA.default {
            let limit = limits::HEADER_METADATA;
            return Err(Error::limit(limit.name, limit.default, pending.metadata, "layer"));
        }
        let mut data = Vec::new();
        self.stream.read_into(size, &mut data)?;
        self.data_left = 0;
        self.padding = padding_of(size);
        self.skip_data()?;
        match typeflag {
            b'x' => pax::read_local(&data, pending.pax.get_or_insert_default())?,
            b'g' => {
                pax::check_global(&data)?;
                self.anomalies.insert(Anomalies::IGNORED_HEADER);
            }
            b'L' => pending.gnu_name = Some(until_nul(data)),
            b'K' => pending.gnu_link = Some(until_nul(data)),
            _ => self.anomalies.insert(Anomalies::IGNORED_HEADER),
        }
        Ok(true)
    }

    /// Fills `entry` from its header and extensions. False for what is skipped.
    fn read_entry(&mut self, header: &Header<'_>, pending: Pending, entry: &mut Entry) -> Result<bool> {
        let pax = pending.pax.unwrap_or_default();
        if (pax.path.is_some() && pending.gnu_name.is_some()) || (pax.linkpath.is_some() && pending.gnu_link.is_some())
        {
            return Err(malformed("a name given in both PAX and GNU form"));
        }
        let name = match pax.path.or(pending.gnu_name) {
            Some(name) => name.into(),
            None => header.name(),
        };
        normalize(&name, Underflow::Refuse, &mut entry.path)?;
        let describe = |error: Error| error.context(format_args!("entry {}", quoted(&name)));
        if pax.is_sparse {
            return Err(Error::new(Status::Unsupported, format!("entry {}: sparse files", quoted(&name))));
        }
        let size = pax.size.map_or_else(|| header.size(), Ok).map_err(describe)?;
        if size > limits::LAYER_SIZE.default {
            return Err(Error::limit(limits::LAYER_SIZE.name, limits::LAYER_SIZE.default, size, quoted(&name)));
        }
        let mark = whiteout::classify(&entry.path)?;
        // A whiteout's type is not looked at (D5).
        let kind = if mark == Mark::None { kind_of(header, &name).map_err(describe)? } else { Kind::File };
        let carries_data = matches!(kind, Kind::File | Kind::Hardlink);
        if size > 0 && !carries_data {
            return Err(describe(malformed("data behind a header whose type has none")));
        }
        self.data_left = size;
        self.padding = padding_of(size);
        entry.kind = match mark {
            Mark::None => kind,
            Mark::Marker(kind) => kind,
            Mark::Aufs => {
                self.anomalies.insert(Anomalies::SKIPPED_AUFS);
                return Ok(false);
            }
        };
        if entry.path.is_empty() && entry.kind != Kind::Directory {
            return Err(describe(malformed("the root of a layer can only be a directory")));
        }
        entry.size = if entry.kind == Kind::File { size } else { 0 };
        self.file_bytes = self.file_bytes.saturating_add(entry.size);
        if self.file_bytes > limits::LAYER_SIZE.default {
            let limit = limits::LAYER_SIZE;
            return Err(Error::limit(limit.name, limit.default, self.file_bytes, quoted(&name)));
        }
        let link = match pax.linkpath.or(pending.gnu_link) {
            Some(link) => link.into(),
            None => header.link_name(),
        };
        read_link(&link, entry).map_err(describe)?;
        entry.mode = header.mode();
        entry.uid = id("uid", pax.uid.map_or_else(|| header.uid(), Ok).map_err(describe)?).map_err(describe)?;
        entry.gid = id("gid", pax.gid.map_or_else(|| header.gid(), Ok).map_err(describe)?).map_err(describe)?;
        entry.mtime = clamp(pax.mtime.unwrap_or_else(|| header.mtime()));
        entry.xattrs = pax.xattrs;
        Ok(true)
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
        (self.data_left, self.padding) = (0, 0);
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
        b'1' => Ok(Kind::Hardlink),
        b'2' => Ok(Kind::Symlink),
        b'3' => header.device().map(Kind::CharDevice),
        b'4' => header.device().map(Kind::BlockDevice),
        b'5' => Ok(Kind::Directory),
        b'6' => Ok(Kind::Fifo),
        b'S' => Err(Error::new(Status::Unsupported, "sparse files")),
        other => Err(malformed(format!("type {:?} is not known", other as char))),
    }
}

fn read_link(link: &[u8], entry: &mut Entry) -> Result<()> {
    entry.link.clear();
    match entry.kind {
        Kind::Symlink => {
            if link.is_empty() || link.contains(&0) {
                return Err(malformed(format!("symlink target {}", quoted(link))));
            }
            if link.len() as u64 > limits::SYMLINK_TARGET.default {
                let limit = limits::SYMLINK_TARGET;
                return Err(Error::limit(limit.name, limit.default, link.len(), "symlink"));
            }
            entry.link.extend_from_slice(link);
            Ok(())
        }
        Kind::Hardlink => {
            normalize(link, Underflow::Clamp, &mut entry.link)?;
            if entry.link.is_empty() {
                return Err(malformed("hard link to the root"));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Owner ids up to 2^32 - 2: the last one means "leave as it is" to the kernel (family 74).
fn id(field: &str, value: u64) -> Result<u32> {
    u32::try_from(value)
        .ok()
        .filter(|&id| id != u32::MAX)
        .ok_or_else(|| malformed(format!("{field} {value} is out of range")))
}

/// Into what file systems can hold without the kernel refusing: about the years -10,000 to 10,000 (family 81).
fn clamp(time: Timestamp) -> Timestamp {
    const MOST: i64 = 253_402_300_799;
    match time.seconds {
        s if s > MOST => Timestamp { seconds: MOST, nanoseconds: 0 },
        s if s < -MOST => Timestamp { seconds: -MOST, nanoseconds: 0 },
        _ => time,
    }
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
