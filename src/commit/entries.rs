//! Entries of a source on their way into the archive of a layer: counted, limited, and with their content.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::fs::Stat;

use super::content::{PIECE_BYTES, SourceContent};
use super::node::{changed, clamped};
use super::options::CommitOptions;
use super::pack::LayerPacker;
use crate::error::{Result, quoted};
use crate::extraction::EntryTree;
use crate::layer::{Entry, Kind, OPAQUE_MARKER, Progress, TarWriter, Timestamp, WHITEOUT_PREFIX};
use crate::limits;
use crate::store::CallLease;
use crate::unpack::ContentSum;

/// What a PAX record takes at most besides its value and the attribute's name.
const RECORD_BYTES: usize = 40;

/// What a source came to, and what was left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SourceCounts {
    pub(super) entries: u64,
    pub(super) sockets: u64,
    pub(super) other_file_systems: u64,
    bytes: u64,
}

/// What was written of a layer.
pub(super) struct WrittenLayer<'s> {
    pub(super) counts: SourceCounts,
    /// Its extracted tree.
    pub(super) tree: Option<EntryTree<'s>>,
}

/// The archive of a layer, and its extracted tree if that can be made beside it.
pub(super) struct EntryWriter<'a, 's> {
    packer: &'a mut LayerPacker,
    /// `None` also from the first file on that it could not share blocks with.
    tree: Option<EntryTree<'s>>,
    /// Holds the base, as long as that takes.
    pub(super) lease: &'a mut CallLease,
    options: &'a CommitOptions,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Directories that are in the layer.
    folders: HashSet<Vec<u8>>,
    pub(super) counts: SourceCounts,
    /// Bytes of files that are in the archive.
    written: u64,
}

impl<'a, 's> EntryWriter<'a, 's> {
    pub(super) fn new(
        packer: &'a mut LayerPacker,
        tree: Option<EntryTree<'s>>,
        lease: &'a mut CallLease,
        options: &'a CommitOptions,
    ) -> EntryWriter<'a, 's> {
        let (links, folders, counts) = (HashMap::new(), HashSet::new(), SourceCounts::default());
        EntryWriter { packer, tree, lease, options, links, folders, counts, written: 0 }
    }

    /// Ends the archive.
    pub(super) fn finish(self) -> Result<WrittenLayer<'s>> {
        let EntryWriter { packer, tree, counts, .. } = self;
        TarWriter::new(&mut |bytes: &[u8]| packer.write(bytes)).finish()?;
        Ok(WrittenLayer { counts, tree })
    }

    /// The directories on the way to a path that are not in the layer yet, as `folder` has them. A reader that finds none of them
    /// would make them as it likes (OCI image-spec, layer.md).
    pub(super) fn put_parents(&mut self, path: &[u8], mut folder: impl FnMut(&[u8]) -> Result<Entry>) -> Result<()> {
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            if !self.folders.contains(&path[..at]) {
                self.put(&folder(&path[..at])?)?;
            }
        }
        Ok(())
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
                self.put_file(&entry, &SourceContent::new(file, stat, &path))
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
        if entry.kind == Kind::Directory {
            self.folders.insert(entry.path.clone());
        }
        let EntryWriter { packer, tree, .. } = self;
        TarWriter::new(&mut |bytes: &[u8]| packer.write(bytes)).entry(entry, None)?;
        tree.as_mut().map_or(Ok(()), |tree| tree.take_node(entry))
    }

    /// What readers refuse, ours among them, is not written.
    fn count(&mut self, entry: &Entry) -> Result<()> {
        self.counts.entries += 1;
        self.counts.bytes = self.counts.bytes.saturating_add(entry.size);
        let (limits, name) = (&self.options.limits, || quoted(&entry.path));
        limits::ENTRIES.check(limits, self.counts.entries, name)?;
        limits::PATH_LENGTH.check(limits, entry.path.len() as u64, name)?;
        limits::DEPTH.check(limits, entry.path.split(|&byte| byte == b'/').count() as u64, name)?;
        limits::XATTRS.check(limits, entry.xattrs.len() as u64, name)?;
        let (mut values, mut metadata) = (0, entry.path.len() + entry.link.len());
        for (key, value) in &entry.xattrs {
            limits::XATTR_VALUE.check(limits, value.len() as u64, name)?;
            values += value.len();
            metadata += key.len() + value.len() + RECORD_BYTES;
        }
        limits::XATTRS_SIZE.check(limits, values as u64, name)?;
        limits::HEADER_METADATA.check(limits, metadata as u64, name)?;
        limits::LAYER_SIZE.check(limits, self.counts.bytes.max(self.packer.bytes()), name)?;
        self.tell()
    }

    /// A file with its content, which is as long as the entry says.
    pub(super) fn put_file(&mut self, entry: &Entry, content: &SourceContent<'_>) -> Result<()> {
        self.count(entry)?;
        if content.size() != entry.size {
            return Err(changed(&entry.path));
        }
        let Some(tree) = self.tree.take() else { return self.pack_file(entry, content, None) };
        let mut sum = tree.content_sum();
        if entry.size == 0 {
            self.pack_file(entry, content, None)?;
            return self.tree.insert(tree).take_file(entry, None, sum);
        }
        let Some(clone) = content.clone_beside(&tree)? else {
            drop(tree);
            return self.pack_file(entry, content, None);
        };
        self.pack_file(entry, &clone, Some(&mut sum))?;
        self.tree.insert(tree).take_file(entry, Some(clone.into_file()), sum)
    }

    fn pack_file(
        &mut self,
        entry: &Entry,
        content: &SourceContent<'_>,
        mut sum: Option<&mut ContentSum>,
    ) -> Result<()> {
        let interrupt = &self.options.interrupt;
        let parts = content.data_parts(|_| interrupt.check())?;
        let all = [(0, entry.size)];
        let mut buffer = vec![0; (entry.size as usize).min(PIECE_BYTES)];
        let EntryWriter { packer, .. } = self;
        let mut write = |bytes: &[u8]| packer.write(bytes);
        let mut tar = TarWriter::new(&mut write);
        tar.entry(entry, parts.as_ref())?;
        for &(begin, length) in parts.as_deref().unwrap_or(&all) {
            let mut done = 0;
            while done < length {
                let piece = (length - done).min(buffer.len() as u64) as usize;
                content.read(begin + done, &mut buffer[..piece])?;
                tar.data(&buffer[..piece])?;
                if let Some(sum) = &mut sum {
                    sum.update(begin + done, &buffer[..piece]);
                }
                done += piece as u64;
                self.written += piece as u64;
                tell(self.options, self.lease, self.counts.entries, self.written)?;
            }
        }
        content.check_same()
    }

    fn tell(&mut self) -> Result<()> {
        tell(self.options, self.lease, self.counts.entries, self.written)
    }
}

/// Says how far it came, and that it goes on.
fn tell(options: &CommitOptions, lease: &mut CallLease, entries: u64, bytes_out: u64) -> Result<()> {
    options.interrupt.check()?;
    lease.extend_in_time(Instant::now())?;
    let progress = Progress { entries, bytes_out, ..Progress::default() };
    options.progress.as_ref().map_or(Ok(()), |callback| callback.tell(&progress))
}
