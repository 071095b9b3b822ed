//! Entries of a source on their way into the archive of a layer: counted, limited, and with their content.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use rustix::fs::Stat;

use super::content::{FileContent, PIECE_BYTES};
use super::node::{changed, clamped};
use super::options::CommitOptions;
use super::pack::LayerPacker;
use crate::error::{Result, quoted};
use crate::layer::{Entry, Kind, OPAQUE_MARKER, Progress, TarWriter, Timestamp, WHITEOUT_PREFIX};
use crate::limits;

/// What a source came to, and what was left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SourceCounts {
    pub(super) entries: u64,
    pub(super) sockets: u64,
    pub(super) other_file_systems: u64,
    bytes: u64,
}

/// The archive of a layer.
pub(super) struct EntryWriter<'a> {
    packer: &'a mut LayerPacker,
    options: &'a CommitOptions,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    pub(super) counts: SourceCounts,
}

impl<'a> EntryWriter<'a> {
    pub(super) fn new(packer: &'a mut LayerPacker, options: &'a CommitOptions) -> EntryWriter<'a> {
        EntryWriter { packer, options, links: HashMap::new(), counts: SourceCounts::default() }
    }

    /// Ends the archive.
    pub(super) fn finish(self) -> Result<SourceCounts> {
        let EntryWriter { packer, counts, .. } = self;
        TarWriter::new(|bytes: &[u8]| packer.write(bytes)).finish()?;
        Ok(counts)
    }

    /// Something that is there, with its content where it is a file. A further name of what was written is a hard link.
    pub(super) fn put_node(&mut self, entry: Entry, stat: &Stat, id: (u64, u64), file: Option<OwnedFd>) -> Result<()> {
        if entry.kind != Kind::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&id) {
                let link = first.clone();
                return self.put(&Entry { kind: Kind::Hardlink, link, size: 0, xattrs: Vec::new(), ..entry });
            }
            self.links.insert(id, entry.path.clone());
        }
        match file {
            Some(file) if entry.kind == Kind::File => {
                let path = entry.path.clone();
                self.put_file(&entry, &FileContent::new(file, stat, &path))
            }
            _ => self.put(&entry),
        }
    }

    /// That a name of lower layers is gone.
    pub(super) fn put_whiteout(&mut self, path: &[u8]) -> Result<()> {
        let (folder, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => path.split_at(slash + 1),
            None => (&b""[..], path),
        };
        self.put_marker([folder, WHITEOUT_PREFIX, name].concat(), Kind::Whiteout)
    }

    /// That what lower layers have in a directory is gone.
    pub(super) fn put_opaque(&mut self, path: &[u8]) -> Result<()> {
        self.put_marker([path, b"/", OPAQUE_MARKER].concat(), Kind::Opaque)
    }

    /// It has no metadata of its own.
    fn put_marker(&mut self, path: Vec<u8>, kind: Kind) -> Result<()> {
        let mtime = clamped(Timestamp::default(), self.options);
        self.put(&Entry { path, kind, mtime, ..Entry::default() })
    }

    /// An entry without content.
    pub(super) fn put(&mut self, entry: &Entry) -> Result<()> {
        self.count(entry)?;
        let EntryWriter { packer, .. } = self;
        TarWriter::new(|bytes: &[u8]| packer.write(bytes)).entry(entry, None)
    }

    fn count(&mut self, entry: &Entry) -> Result<()> {
        self.counts.entries += 1;
        self.counts.bytes = self.counts.bytes.saturating_add(entry.size);
        let (limits, name) = (&self.options.limits, || quoted(&entry.path));
        limits::ENTRIES.check(limits, self.counts.entries, name)?;
        limits::PATH_LENGTH.check(limits, entry.path.len() as u64, name)?;
        limits::LAYER_SIZE.check(limits, self.counts.bytes, name)?;
        self.tell()
    }

    /// A file with its content, which is as long as the entry says.
    pub(super) fn put_file(&mut self, entry: &Entry, content: &FileContent<'_>) -> Result<()> {
        self.count(entry)?;
        if content.size() != entry.size {
            return Err(changed(&entry.path));
        }
        let interrupt = &self.options.interrupt;
        let parts = content.data_parts(|_| interrupt.check())?;
        let all = [(0, entry.size)];
        let mut buffer = vec![0; (entry.size as usize).min(PIECE_BYTES)];
        let EntryWriter { packer, .. } = self;
        let mut tar = TarWriter::new(|bytes: &[u8]| packer.write(bytes));
        tar.entry(entry, parts.as_ref())?;
        for &(begin, length) in parts.as_deref().unwrap_or(&all) {
            let mut done = 0;
            while done < length {
                interrupt.check()?;
                let piece = (length - done).min(buffer.len() as u64) as usize;
                content.read(begin + done, &mut buffer[..piece])?;
                tar.data(&buffer[..piece])?;
                done += piece as u64;
            }
        }
        content.check_same()
    }

    fn tell(&self) -> Result<()> {
        self.options.interrupt.check()?;
        let SourceCounts { entries, bytes, .. } = self.counts;
        let progress = Progress { entries, bytes_out: bytes, ..Progress::default() };
        self.options.progress.as_ref().map_or(Ok(()), |callback| callback.tell(&progress))
    }
}
