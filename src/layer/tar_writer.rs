//! Writes a layer as a tar archive: ustar headers (POSIX.1-1988), and PAX records (POSIX.1-2001) for what they cannot say.
//!
//! The same entries are the same bytes. Nothing in them comes from the clock, from names of users, or from the machine.
//! Sparse files have the form 1.0 of GNU tar's PAX records, which Go's archive/tar reads too.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

use super::entry::{Device, Entry, Kind, Timestamp};
use crate::error::{Error, Result, Status, quoted};

/// What an archive consists of.
pub(crate) const TAR_BLOCK: usize = 512;
/// The length of a name, and of a target, in a header.
const NAME: usize = 100;
/// What fits into octal digits of a header.
const MAX_ID: u64 = 0o7_777_777;
const MAX_SIZE: u64 = 0o77_777_777_777;
/// What the name of a header begins with that has PAX records, and that of a sparse file, as GNU tar has it.
const PAX_NAME: &[u8] = b"PaxHeaders.0/";
const SPARSE_NAME: &[u8] = b"GNUSparseFile.0/";

/// Where a file has data: offset and length of each part, in order, none of them empty.
pub(crate) type DataParts = Vec<(u64, u64)>;

/// An archive that is being written, piece by piece, to a function.
pub(crate) struct TarWriter<'w> {
    out: &'w mut dyn FnMut(&[u8]) -> Result<()>,
    /// Bytes of data of the current entry that are missing.
    missing: u64,
    /// Zeros that follow its data.
    padding: usize,
}

impl<'w> TarWriter<'w> {
    pub(crate) fn new(out: &'w mut dyn FnMut(&[u8]) -> Result<()>) -> TarWriter<'w> {
        TarWriter { out, missing: 0, padding: 0 }
    }

    /// Begins an entry. The data of a file follows by [`TarWriter::data`]: all of it, or, if `sparse` says where there is some,
    /// those parts.
    pub(crate) fn entry(&mut self, entry: &Entry, sparse: Option<&DataParts>) -> Result<()> {
        let path = stored_path(entry);
        let map = sparse.map(|parts| sparse_map(parts, entry.size));
        let data: u64 = match sparse {
            Some(parts) => parts.iter().map(|(_, length)| length).sum(),
            None if entry.kind == Kind::File => entry.size,
            None => 0,
        };
        let stored = data + map.as_ref().map_or(0, |map| map.len() as u64);
        let records = pax_records(entry, &path, sparse.is_some(), stored);
        if !records.is_empty() {
            let name = [PAX_NAME, last_component(&path)].concat();
            (self.out)(&header(b'x', &name, b"", (0o644, 0, 0), records.len() as u64, 0, Device::default()))?;
            self.padded(&records)?;
        }
        let name = if sparse.is_some() { Cow::Owned([SPARSE_NAME, last_component(&path)].concat()) } else { path };
        let (kind, device) = type_of(entry)?;
        let owner = (entry.mode, u64::from(entry.uid), u64::from(entry.gid));
        let seconds = u64::try_from(entry.mtime.seconds).unwrap_or(0);
        (self.out)(&header(kind, &name, &entry.link, owner, stored, seconds, device))?;
        if let Some(map) = map {
            (self.out)(&map)?;
        }
        self.missing = data;
        self.padding = (data.next_multiple_of(TAR_BLOCK as u64) - data) as usize;
        Ok(())
    }

    /// Data of the entry that was begun last.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> Result<()> {
        let less = || Error::new(Status::Internal, "a tar entry with more data than it was to have");
        self.missing = self.missing.checked_sub(bytes.len() as u64).ok_or_else(less)?;
        (self.out)(bytes)?;
        if self.missing == 0 {
            (self.out)(&[0; TAR_BLOCK][..std::mem::take(&mut self.padding)])?;
        }
        Ok(())
    }

    /// Ends the archive.
    pub(crate) fn finish(self) -> Result<()> {
        if self.missing > 0 {
            return Err(Error::new(Status::Internal, "a tar entry with less data than it was to have"));
        }
        (self.out)(&[0; 2 * TAR_BLOCK])
    }

    fn padded(&mut self, bytes: &[u8]) -> Result<()> {
        (self.out)(bytes)?;
        (self.out)(&[0; TAR_BLOCK][..bytes.len().next_multiple_of(TAR_BLOCK) - bytes.len()])
    }
}

/// A directory's ends in a slash; the root is `./`.
fn stored_path(entry: &Entry) -> Cow<'_, [u8]> {
    match entry.kind {
        Kind::Directory if entry.path.is_empty() => Cow::Borrowed(b"./"),
        Kind::Directory => Cow::Owned([&entry.path[..], b"/"].concat()),
        _ => Cow::Borrowed(&entry.path),
    }
}

fn last_component(path: &[u8]) -> &[u8] {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

fn type_of(entry: &Entry) -> Result<(u8, Device)> {
    let device = |kind, device: Device| {
        if u64::from(device.major) > MAX_ID || u64::from(device.minor) > MAX_ID {
            let why = format!("{}: a device whose numbers a tar archive cannot say", quoted(&entry.path));
            return Err(Error::new(Status::Unsupported, why));
        }
        Ok((kind, device))
    };
    match entry.kind {
        Kind::File | Kind::Whiteout | Kind::Opaque => Ok((b'0', Device::default())),
        Kind::Hardlink => Ok((b'1', Device::default())),
        Kind::Symlink => Ok((b'2', Device::default())),
        Kind::CharDevice(number) => device(b'3', number),
        Kind::BlockDevice(number) => device(b'4', number),
        Kind::Directory => Ok((b'5', Device::default())),
        Kind::Fifo => Ok((b'6', Device::default())),
    }
}

/// A header. Texts that do not fit are cut, and numbers zero: PAX records say them.
fn header(
    kind: u8,
    name: &[u8],
    link: &[u8],
    (mode, uid, gid): (u32, u64, u64),
    size: u64,
    mtime: u64,
    device: Device,
) -> [u8; TAR_BLOCK] {
    let mut block = [0; TAR_BLOCK];
    let mut text = |at: usize, value: &[u8]| {
        let length = value.len().min(NAME);
        block[at..at + length].copy_from_slice(&value[..length]);
    };
    text(0, name);
    text(157, link);
    let mut octal = |at: usize, digits: usize, value: u64, most: u64| {
        let value = if value > most { 0 } else { value };
        block[at..at + digits].copy_from_slice(format!("{value:0digits$o}").as_bytes());
    };
    octal(100, 7, mode.into(), MAX_ID);
    octal(108, 7, uid, MAX_ID);
    octal(116, 7, gid, MAX_ID);
    octal(124, 11, size, MAX_SIZE);
    octal(136, 11, mtime, MAX_SIZE);
    octal(329, 7, device.major.into(), MAX_ID);
    octal(337, 7, device.minor.into(), MAX_ID);
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    // The checksum counts as spaces while it is computed.
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

/// What a header cannot say, by its keys.
fn pax_records(entry: &Entry, path: &[u8], is_sparse: bool, stored: u64) -> Vec<u8> {
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut add = |key: &[u8], value: Vec<u8>| records.push((key.to_vec(), value));
    if is_sparse {
        add(b"GNU.sparse.major", b"1".to_vec());
        add(b"GNU.sparse.minor", b"0".to_vec());
        add(b"GNU.sparse.name", path.to_vec());
        add(b"GNU.sparse.realsize", entry.size.to_string().into());
    } else if path.len() > NAME {
        add(b"path", path.to_vec());
    }
    if entry.link.len() > NAME {
        add(b"linkpath", entry.link.clone());
    }
    for (key, id) in [(&b"uid"[..], entry.uid), (b"gid", entry.gid)] {
        if u64::from(id) > MAX_ID {
            add(key, id.to_string().into());
        }
    }
    if stored > MAX_SIZE {
        add(b"size", stored.to_string().into());
    }
    let Timestamp { seconds, nanoseconds } = entry.mtime;
    if nanoseconds > 0 || !(0..=MAX_SIZE as i64).contains(&seconds) {
        add(b"mtime", decimal(entry.mtime).into());
    }
    for (name, value) in &entry.xattrs {
        // A name with an equals sign would end the key.
        if name.contains(&b'=') {
            let name = percent_encode(name, NON_ALPHANUMERIC).to_string();
            add(format!("LIBARCHIVE.xattr.{name}").as_bytes(), STANDARD_NO_PAD.encode(value).into());
        } else {
            add(&[b"SCHILY.xattr.", &name[..]].concat(), value.clone());
        }
    }
    records.sort_unstable();
    records.iter().flat_map(|(key, value)| record(key, value)).collect()
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself too.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = 1 + key.len() + 1 + value.len() + 1;
    let digits = |number: usize| number.to_string().len();
    let mut length = rest + digits(rest);
    if rest + digits(length) != length {
        length = rest + digits(length);
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// Seconds with their fraction, without zeros at its end: half a second before 1970 is `-0.5`.
fn decimal(time: Timestamp) -> String {
    let total = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
    let (sign, total) = (if total < 0 { "-" } else { "" }, total.unsigned_abs());
    let (seconds, fraction) = (total / 1_000_000_000, total % 1_000_000_000);
    if fraction == 0 {
        return format!("{sign}{seconds}");
    }
    format!("{sign}{seconds}.{}", format!("{fraction:09}").trim_end_matches('0'))
}

/// Where data is, in front of it, in whole blocks. A hole at the end is an empty part there.
fn sparse_map(parts: &DataParts, size: u64) -> Vec<u8> {
    let ends_in_hole = parts.last().is_none_or(|(offset, length)| offset + length < size);
    let end = ends_in_hole.then_some((size, 0));
    let mut map = format!("{}\n", parts.len() + usize::from(ends_in_hole));
    for (offset, length) in parts.iter().copied().chain(end) {
        map.push_str(&format!("{offset}\n{length}\n"));
    }
    let mut map = map.into_bytes();
    map.resize(map.len().next_multiple_of(TAR_BLOCK), 0);
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(entry: &Entry, sparse: Option<&DataParts>, data: &[u8]) -> Vec<u8> {
        let mut archive = Vec::new();
        let mut write = |bytes: &[u8]| {
            archive.extend_from_slice(bytes);
            Ok(())
        };
        let mut writer = TarWriter::new(&mut write);
        writer.entry(entry, sparse).unwrap();
        if !data.is_empty() {
            writer.data(data).unwrap();
        }
        writer.finish().unwrap();
        archive
    }

    fn entry(path: &str, kind: Kind) -> Entry {
        Entry { path: path.into(), kind, mode: 0o644, ..Entry::default() }
    }

    /// The tar crate reads what is written, and says the same. It has no values with line ends, which the families have.
    #[test]
    fn another_reader_reads_it() {
        let long = "d".repeat(90) + "/" + &"f".repeat(90);
        let mut file = Entry { size: 5, uid: 3_000_000_000, gid: 7, ..entry(&long, Kind::File) };
        file.mtime = Timestamp { seconds: 77, nanoseconds: 500_000_000 };
        file.xattrs.push((b"user.x".to_vec(), b"a\0=".to_vec()));
        let archive = written(&file, None, b"bytes");
        assert!(archive.len().is_multiple_of(TAR_BLOCK));
        let mut reader = tar::Archive::new(&archive[..]);
        let mut found = reader.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(found.path_bytes(), long.as_bytes());
        let records: Vec<(String, Vec<u8>)> = found
            .pax_extensions()
            .unwrap()
            .unwrap()
            .map(|record| record.unwrap())
            .map(|record| (record.key().unwrap().to_owned(), record.value_bytes().to_vec()))
            .collect();
        let text = |key: &str| records.iter().find(|(found, _)| found == key).map(|(_, value)| value.clone());
        assert_eq!(text("uid").as_deref(), Some(&b"3000000000"[..]));
        assert_eq!(text("mtime").as_deref(), Some(&b"77.5"[..]));
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut found, &mut content).unwrap();
        assert_eq!(content, b"bytes");
    }

    #[test]
    fn what_fits_needs_no_records() {
        for (kind, path, stored) in [
            (Kind::Directory, "", "./"),
            (Kind::Directory, "d", "d/"),
            (Kind::File, "d/f", "d/f"),
            (Kind::Whiteout, "d/.wh.f", "d/.wh.f"),
        ] {
            let archive = written(&entry(path, kind), None, b"");
            assert_eq!(archive.len(), 3 * TAR_BLOCK, "{path}");
            assert!(archive.starts_with(stored.as_bytes()) && archive[stored.len()] == 0, "{path}");
        }
    }

    #[test]
    fn a_length_counts_itself() {
        for length in [1, 90, 91, 92, 93, 94, 95, 96, 985, 990, 991, 992, 993, 9980, 9990] {
            let record = record(b"k", &vec![b'v'; length]);
            let said: usize = String::from_utf8_lossy(&record).split(' ').next().unwrap().parse().unwrap();
            assert_eq!(said, record.len(), "{length}");
        }
    }

    #[test]
    fn times_before_1970_have_a_sign() {
        for (seconds, nanoseconds, text) in [
            (0, 0, "0"),
            (-1, 500_000_000, "-0.5"),
            (-2, 0, "-2"),
            (12, 40, "12.00000004"),
            (-1, 999_999_999, "-0.000000001"),
        ] {
            assert_eq!(decimal(Timestamp { seconds, nanoseconds }), text);
        }
    }

    #[test]
    fn a_map_ends_where_the_file_does() {
        let text = |parts: &DataParts, size| {
            let map = sparse_map(parts, size);
            assert_eq!(map.len(), TAR_BLOCK);
            String::from_utf8(map).unwrap().trim_end_matches('\0').to_owned()
        };
        assert_eq!(text(&vec![], 9000), "1\n9000\n0\n");
        assert_eq!(text(&vec![(4096, 10)], 4106), "1\n4096\n10\n");
        assert_eq!(text(&vec![(0, 4096), (8192, 4096)], 20_000), "3\n0\n4096\n8192\n4096\n20000\n0\n");
    }
}
