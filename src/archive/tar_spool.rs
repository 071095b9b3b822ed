//! What is in an archive, read once: blobs are in the store by then, documents in a file that goes with this.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::blobs::Blobs;
use super::options::ImportOptions;
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Error, Result, Status, quoted};
use crate::layer::{Data, Decompressor, Entry, Kind, LayerFile, Reader, Stream};
use crate::limits;
use crate::oci::Descriptor;
use crate::store::{CallLease, Folder, Partial, Storage, path_of};

/// How many names may lead to one file.
const HOPS: usize = 8;

/// How a layer is packed, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// A blob that is in the store.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) packing: Packing,
}

pub(super) struct TarSpool<'a> {
    storage: &'a Storage,
    documents: BTreeMap<Vec<u8>, (u64, usize)>,
    /// The documents, one after the other.
    spool: Partial,
    spooled: u64,
    blobs: BTreeMap<Vec<u8>, Stored>,
    /// Symlinks and hard links: older archives have a layer once and links to it.
    links: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl<'a> TarSpool<'a> {
    pub(super) fn read(
        storage: &'a Storage,
        file: OwnedFd,
        options: &ImportOptions,
        lease: &mut CallLease,
    ) -> Result<TarSpool<'a>> {
        let stem = Digest::of(uuid::Uuid::new_v4().as_bytes()).file_stem();
        let mut contents = TarSpool {
            storage,
            documents: BTreeMap::new(),
            spool: Partial::create_file(&storage.directory, Folder::Configs, &stem)?,
            spooled: 0,
            blobs: BTreeMap::new(),
            links: BTreeMap::new(),
        };
        let file = LayerFile::of_host(file, Algorithm::Sha256, options.interrupt.clone());
        let source = Decompressor::open(file, Algorithm::Sha256, options.interrupt.clone(), &options.tree.limits)?;
        let stream = Stream::new(source, Algorithm::Sha256, options.interrupt.clone())?;
        let mut reader = Reader::new(stream, options.tree.limits.clone());
        let mut entry = Entry::default();
        while reader.next(&mut entry)? {
            options.interrupt.check()?;
            lease.extend_in_time(std::time::Instant::now())?;
            match entry.kind {
                Kind::File => contents.take_file(&entry, &mut reader, options, lease)?,
                Kind::Symlink | Kind::Hardlink => {
                    let target = match entry.kind {
                        Kind::Hardlink => entry.link.clone(),
                        _ => beside(&entry.path, &entry.link)?,
                    };
                    contents.links.insert(entry.path.clone(), target);
                }
                _ => {}
            }
            options.tell(&reader.progress())?;
        }
        reader.finish()?;
        Ok(contents)
    }

    fn take_file(
        &mut self,
        entry: &Entry,
        reader: &mut Reader,
        options: &ImportOptions,
        lease: &CallLease,
    ) -> Result<()> {
        if entry.is_sparse {
            let why = format!("{} is a sparse file", quoted(&entry.path));
            return Err(Error::new(Status::Unsupported, why));
        }
        // What came later under a name is what the name means.
        self.documents.remove(&entry.path);
        self.blobs.remove(&entry.path);
        let expected = digest_of_path(&entry.path);
        let first = reader.data()?;
        let start = first.as_ref().map_or(&[][..], |data| &data.bytes[..]);
        let is_document = entry.size <= limits::DOCUMENT_SIZE.default
            && start.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| matches!(byte, b'{' | b'['));
        if is_document {
            return self.document_of(entry, first, reader, expected.as_ref());
        }
        // Whatever else lies about in an archive (`VERSION`, a README) is nobody's.
        if expected.is_none() && !entry.path.ends_with(b".tar") && !entry.path.ends_with(b".tar.gz") {
            return Ok(());
        }
        let packing = match start {
            [0x1f, 0x8b, ..] => Packing::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Packing::Zstd,
            _ => Packing::Plain,
        };
        let algorithm = expected.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let mut staged = self.storage.stage_unnamed(algorithm, Some(entry.size), &options.interrupt)?;
        let mut data = first;
        while let Some(Data { bytes, .. }) = data {
            staged.write(&bytes)?;
            options.interrupt.check()?;
            options.tell(&reader.progress())?;
            data = reader.data()?;
        }
        let digest = staged.commit(&options.interrupt, |actual| {
            as_called(&entry.path, expected.as_ref(), actual)?;
            lease.lease().hold_unless(actual, &options.interrupt)
        })?;
        self.blobs.insert(entry.path.clone(), Stored { digest, size: entry.size, packing });
        Ok(())
    }

    fn document_of(
        &mut self,
        entry: &Entry,
        first: Option<Data>,
        reader: &mut Reader,
        expected: Option<&Digest>,
    ) -> Result<()> {
        let mut bytes = Vec::with_capacity(entry.size as usize);
        let mut data = first;
        while let Some(Data { bytes: piece, .. }) = data {
            bytes.extend_from_slice(&piece);
            data = reader.data()?;
        }
        let mut hasher = Hasher::new(expected.map_or(Algorithm::Sha256, Digest::algorithm));
        hasher.update(&bytes);
        as_called(&entry.path, expected, &hasher.finish())?;
        self.spool.write_all(&bytes)?;
        self.documents.insert(entry.path.clone(), (self.spooled, bytes.len()));
        self.spooled += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.documents.contains_key(name.as_bytes())
    }

    /// Where a name leads.
    fn follow(&self, path: &[u8]) -> Result<Vec<u8>> {
        let mut at = path.to_vec();
        for _ in 0..HOPS {
            match self.links.get(&at) {
                Some(target) if !self.documents.contains_key(&at) && !self.blobs.contains_key(&at) => {
                    at = target.clone()
                }
                _ => return Ok(at),
            }
        }
        Err(Error::new(Status::Malformed, format!("{} leads through too many links", quoted(path))))
    }

    /// A document by its name, as another document has it.
    pub(super) fn named_document(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.follow(&plain(name)?)?;
        let absent = || Error::new(Status::NotFound, format!("{} is not in the archive", quoted(name.as_bytes())));
        let &(offset, length) = self.documents.get(&path).ok_or_else(absent)?;
        let (mut bytes, mut read) = (vec![0; length], 0);
        while read < length {
            match rustix::io::pread(self.spool.handle(), &mut bytes[read..], offset + read as u64) {
                Ok(0) => return Err(Error::new(Status::Internal, "documents of an archive are gone")),
                Ok(n) => read += n,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::os(errno, "read a document of an archive")),
            }
        }
        Ok(bytes)
    }

    /// A blob by its name, as a document has it.
    pub(super) fn named_blob(&self, name: &str) -> Result<&Stored> {
        let path = self.follow(&plain(name)?)?;
        let absent = || Error::new(Status::NotFound, format!("{} is not in the archive", quoted(name.as_bytes())));
        self.blobs.get(&path).ok_or_else(absent)
    }
}

impl Blobs for TarSpool<'_> {
    fn file(&self, name: &str) -> Result<Vec<u8>> {
        self.named_document(name)
    }

    fn has_blob(&self, digest: &Digest) -> bool {
        let path = path_of(digest);
        self.documents.contains_key(path.as_bytes())
            || self.blobs.contains_key(path.as_bytes())
            || self.links.contains_key(path.as_bytes())
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let bytes = self.named_document(&path_of(&descriptor.digest))?;
        descriptor.verify(&bytes)?;
        Ok(bytes)
    }

    fn layer(&self, storage: &Storage, descriptor: &Descriptor) -> Result<()> {
        let path = path_of(&descriptor.digest);
        match self.named_blob(&path) {
            Ok(stored) if stored.size == descriptor.size => Ok(()),
            Ok(stored) => {
                let (digest, size) = (&descriptor.digest, descriptor.size);
                let why = format!("{digest}: declared as {size} bytes, has {}", stored.size);
                Err(Error::new(Status::SizeMismatch, why))
            }
            // The layer of an artifact may be a document; the store may have what the archive has not.
            Err(absent) => match self.named_document(&path) {
                Ok(bytes) => {
                    descriptor.verify(&bytes)?;
                    let mut staged = storage.stage_layer(&descriptor.digest, Some(descriptor.size))?;
                    staged.write(&bytes)?;
                    staged.commit()
                }
                Err(_) if storage.has_layer_of_size(&descriptor.digest, descriptor.size)? => Ok(()),
                Err(_) => Err(absent),
            },
        }
    }
}

/// What a blob of a layout must hash to. `None` for what is none. Files of the tools that packed it
/// (`._x`, `.DS_Store`, `.nfs…`) lie beside blobs too, and blobs by algorithms that we do not know.
fn digest_of_path(path: &[u8]) -> Option<Digest> {
    let (algorithm, hex) = std::str::from_utf8(path.strip_prefix(b"blobs/")?).ok()?.split_once('/')?;
    Digest::parse(&format!("{algorithm}:{hex}")).ok()
}

fn as_called(path: &[u8], expected: Option<&Digest>, actual: &Digest) -> Result<()> {
    match expected.filter(|expected| *expected != actual) {
        Some(expected) => Err(Error::digest_mismatch(quoted(path), expected, actual)),
        None => Ok(()),
    }
}

/// A name in a document: a path inside the archive and nothing else. What is put before it is cut off as from the names of
/// entries.
fn plain(name: &str) -> Result<Vec<u8>> {
    let mut name = name;
    while let Some(rest) = name.strip_prefix("./").or_else(|| name.strip_prefix('/')) {
        name = rest;
    }
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(Error::new(Status::UnsafePath, format!("{} is no path in an archive", quoted(name.as_bytes()))));
    }
    Ok(name.as_bytes().to_vec())
}

/// Where a symlink leads, inside the archive.
fn beside(link: &[u8], target: &[u8]) -> Result<Vec<u8>> {
    let unsafe_path = || {
        let why = format!("symlink {} leads out of the archive", quoted(link));
        Error::new(Status::UnsafePath, why)
    };
    if target.starts_with(b"/") {
        return Err(unsafe_path());
    }
    let mut parts: Vec<&[u8]> = link.split(|&b| b == b'/').collect();
    parts.pop();
    for part in target.split(|&b| b == b'/').filter(|part| !matches!(*part, b"" | b".")) {
        match part {
            b".." => drop(parts.pop().ok_or_else(unsafe_path)?),
            part => parts.push(part),
        }
    }
    Ok(parts.join(&b'/'))
}
