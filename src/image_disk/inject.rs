//! Files of the host's on top of an image: an agent, a configuration.
//!
//! They become a layer: an archive whose bytes follow from them alone. So the rules of layers are theirs. A path leads through the
//! image's symlinks and never out. The store has that layer's disk once, whichever images it goes on.

use std::fs::File;
use std::io::{BufWriter, Read as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Error, Result, Status, quoted};
use crate::extraction::open_host_file;
use crate::interrupt::Interrupt;
use crate::layer::{LayerFile, WHITEOUT_PREFIX};
use crate::limits::{self, LayerLimits};
use crate::store::{Folder, Partial, Storage};

const BUFFER_BYTES: usize = 256 << 10;
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;

/// Something that a disk has on top of the image. The directories on the way to it are made where they are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskFile {
    /// Where in the image. It leads through the image's symlinks and never out.
    pub path: PathBuf,
    /// What it is.
    pub content: DiskFileContent,
    /// Permission, set-id and sticky bits: 0644 by default, and 0755 of a directory.
    pub mode: Option<u32>,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// When it was modified, in seconds since 1970.
    pub mtime: u64,
}

/// What is put into a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskFileContent {
    /// A file with these bytes.
    Bytes(Vec<u8>),
    /// A file with the content of one of the host's.
    CopyOf(PathBuf),
    /// A directory. What the image has in it stays.
    Directory,
    /// A symlink with this target.
    Symlink(PathBuf),
}

impl DiskFile {
    /// Owned by root, from the beginning of 1970.
    pub fn new(path: impl Into<PathBuf>, content: DiskFileContent) -> DiskFile {
        DiskFile { path: path.into(), content, mode: None, uid: 0, gid: 0, mtime: 0 }
    }

    /// The same with another mode.
    #[must_use]
    pub fn mode(self, mode: u32) -> DiskFile {
        DiskFile { mode: Some(mode), ..self }
    }

    /// The same of somebody else's.
    #[must_use]
    pub fn owner(self, uid: u32, gid: u32) -> DiskFile {
        DiskFile { uid, gid, ..self }
    }

    /// The path below the root; `INVALID_ARGUMENT` for one that cannot be.
    pub(super) fn place(&self) -> Result<PathBuf> {
        let path = quoted(self.path.as_os_str().as_bytes());
        let refuse = |why: &str| Err(Error::new(Status::InvalidArgument, format!("file {path}: {why}")));
        if let DiskFileContent::Symlink(target) = &self.content
            && (target.as_os_str().is_empty() || target.as_os_str().as_bytes().contains(&0))
        {
            return refuse("its target is empty, or has a NUL in it");
        }
        let mut place = PathBuf::new();
        for component in self.path.components() {
            match component {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) if name.as_bytes().starts_with(WHITEOUT_PREFIX) => {
                    return refuse("what begins with .wh. takes files away from layers below, and is none");
                }
                Component::Normal(name) if name.as_bytes().contains(&0) => return refuse("has a NUL in it"),
                Component::Normal(name) => place.push(name),
                Component::ParentDir | Component::Prefix(_) => return refuse("has .. in it"),
            }
        }
        if place.as_os_str().is_empty() { refuse("is the root, or none") } else { Ok(place) }
    }
}

/// A layer that is on top of an image's.
pub(crate) struct TopLayer {
    pub(crate) digest: Digest,
    /// Its archive.
    pub(super) path: PathBuf,
    /// Goes with this, where it is ours.
    _archive: Option<Partial>,
}

impl TopLayer {
    /// An archive of the host's.
    pub(super) fn archive(path: &Path, interrupt: &Interrupt) -> Result<TopLayer> {
        Ok(TopLayer { digest: digest_of(path, interrupt)?, path: path.to_path_buf(), _archive: None })
    }

    /// An archive of the host's, which may come by a pipe: then the store has it as long as this. `each` is called with each piece of
    /// that.
    pub(crate) fn archive_or_pipe(
        path: &Path,
        storage: &Storage,
        (limits, interrupt): (&LayerLimits, &Interrupt),
        each: &mut dyn FnMut() -> Result<()>,
    ) -> Result<TopLayer> {
        let failed = |errno| Error::os(errno, format_args!("open {}", path.display()));
        let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
            .map_err(failed)?;
        match FileType::from_raw_mode(rustix::fs::fstat(&file).map_err(failed)?.st_mode) {
            FileType::Fifo | FileType::Socket => {}
            _ => return TopLayer::archive(path, interrupt),
        }
        TopLayer::in_store(storage, |out| {
            let mut bytes = 0;
            let file = LayerFile::of_host(file, Algorithm::Sha256, interrupt.clone());
            file.copy_to(|piece| {
                each()?;
                bytes += piece.len() as u64;
                limits::LAYER_SIZE.check(limits, bytes, || path.display())?;
                out.write_all(piece).map_err(|cause| Error::io(&cause, "keep an archive"))
            })
            .map(drop)
        })
    }

    /// One with these files, which the store has as long as this.
    pub(super) fn of_files(files: &[DiskFile], storage: &Storage, interrupt: &Interrupt) -> Result<TopLayer> {
        // It is the store's for a moment.
        storage.directory.check_writable()?;
        let places = files.iter().map(DiskFile::place).collect::<Result<Vec<PathBuf>>>()?;
        TopLayer::in_store(storage, |out| write_archive(files, &places, out, interrupt))
    }

    fn in_store(storage: &Storage, write: impl FnOnce(&mut HashedFile<'_>) -> Result<()>) -> Result<TopLayer> {
        // Until its digest is known: one that nothing else has.
        let stem = Digest::of(uuid::Uuid::new_v4().as_bytes()).file_stem();
        let mut partial = Partial::create_file(&storage.directory, Folder::Layers, &stem)?;
        let (path, hasher) = (partial.path(), Hasher::new(Algorithm::Sha256));
        let mut out = HashedFile { partial: &mut partial, hasher, failed: None };
        let written = write(&mut out);
        let HashedFile { hasher, failed, .. } = out;
        // What the file said is more than what the archive makes of it.
        failed.map_or(written, Err)?;
        Ok(TopLayer { digest: hasher.finish(), path, _archive: Some(partial) })
    }
}

/// A file that is hashed while it is written.
struct HashedFile<'a> {
    partial: &'a mut Partial,
    hasher: Hasher,
    /// Why it could not be written.
    failed: Option<Error>,
}

impl Write for HashedFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.hasher.update(bytes);
        match self.partial.write_all(bytes) {
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

fn write_archive(
    files: &[DiskFile],
    places: &[PathBuf],
    out: &mut HashedFile<'_>,
    interrupt: &Interrupt,
) -> Result<()> {
    let mut builder = tar::Builder::new(BufWriter::with_capacity(BUFFER_BYTES, out));
    for (file, place) in files.iter().zip(places) {
        interrupt.check()?;
        append(&mut builder, file, place, interrupt)?;
    }
    let buffered = builder.into_inner().map_err(|cause| Error::io(&cause, "write an archive"))?;
    buffered.into_inner().map(|_| ()).map_err(|cause| Error::io(cause.error(), "write an archive"))
}

fn append<W: Write>(builder: &mut tar::Builder<W>, file: &DiskFile, place: &Path, interrupt: &Interrupt) -> Result<()> {
    let failed = |cause: std::io::Error| Error::io(&cause, format_args!("put {} into an archive", file.path.display()));
    let mut header = tar::Header::new_gnu();
    let is_directory = file.content == DiskFileContent::Directory;
    header.set_mode(file.mode.unwrap_or(if is_directory { DIRECTORY_MODE } else { FILE_MODE }) & 0o7777);
    header.set_uid(file.uid.into());
    header.set_gid(file.gid.into());
    header.set_mtime(file.mtime);
    header.set_size(0);
    match &file.content {
        DiskFileContent::Bytes(bytes) => {
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, place, &bytes[..]).map_err(failed)
        }
        DiskFileContent::CopyOf(source) => {
            let mut source = Source::open(source, interrupt)?;
            header.set_size(source.size);
            let appended = builder.append_data(&mut header, place, &mut source);
            source.check()?;
            appended.map_err(failed)
        }
        DiskFileContent::Directory => {
            header.set_entry_type(tar::EntryType::Directory);
            builder.append_data(&mut header, place, std::io::empty()).map_err(failed)
        }
        DiskFileContent::Symlink(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            // The header's own field would lose what a path does not need, and a target is any text.
            let target = target.as_os_str().as_bytes();
            builder.append_pax_extensions([("linkpath", target)]).map_err(failed)?;
            builder.append_data(&mut header, place, std::io::empty()).map_err(failed)
        }
    }
}

/// A file of the host's, of which exactly that is read which it had when it was opened.
struct Source<'a> {
    file: File,
    path: &'a Path,
    size: u64,
    left: u64,
    /// When it was changed last.
    changed: (i64, i64),
    interrupt: &'a Interrupt,
    failed: Option<Error>,
}

impl<'a> Source<'a> {
    fn open(path: &'a Path, interrupt: &'a Interrupt) -> Result<Source<'a>> {
        let failed = |cause: std::io::Error| Error::io(&cause, format_args!("open {}", path.display()));
        let file = File::from(open_host_file(path)?);
        let metadata = file.metadata().map_err(failed)?;
        let (size, changed) = (metadata.size(), (metadata.ctime(), metadata.ctime_nsec()));
        Ok(Source { file, path, size, left: size, changed, interrupt, failed: None })
    }

    /// Whether it was read whole, and is what it was.
    fn check(self) -> Result<()> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let now =
            self.file.metadata().map_err(|cause| Error::io(&cause, format_args!("look at {}", self.path.display())))?;
        if self.left > 0 || now.size() != self.size || (now.ctime(), now.ctime_nsec()) != self.changed {
            let why = format!("{} was changed while it was read", self.path.display());
            return Err(Error::new(Status::State, why));
        }
        Ok(())
    }
}

impl std::io::Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if let Err(error) = self.interrupt.check() {
            self.failed = Some(error);
            return Err(std::io::ErrorKind::Other.into());
        }
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        match self.file.read(&mut buffer[..most]) {
            Ok(n) => {
                self.left -= n as u64;
                Ok(n)
            }
            Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => Err(cause),
            Err(cause) => {
                self.failed = Some(Error::io(&cause, format_args!("read {}", self.path.display())));
                Err(cause)
            }
        }
    }
}

/// The digest of an archive of the host's.
fn digest_of(path: &Path, interrupt: &Interrupt) -> Result<Digest> {
    let mut source = Source::open(path, interrupt)?;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => hasher.update(&buffer[..n]),
            Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => {}
            Err(cause) => {
                let failed = || Error::io(&cause, format_args!("read {}", path.display()));
                return Err(source.failed.unwrap_or_else(failed));
            }
        }
    }
    source.check()?;
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// A read error is no change of the source.
    #[test]
    fn a_source_that_cannot_be_read_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let (path, interrupt) = (dir.path().join("source"), Interrupt::default());
        std::fs::write(&path, b"content").unwrap();
        let good = Source::open(&path, &interrupt).unwrap();
        let mut source = Source { file: File::options().write(true).open(&path).unwrap(), ..good };
        source.read(&mut [0; 4]).unwrap_err();
        let error = source.check().unwrap_err();
        assert_eq!(error.os_errno(), Some(rustix::io::Errno::BADF.raw_os_error()), "{error}");
        assert!(error.message().contains("source"), "{error}");
    }

    #[test]
    fn a_source_that_is_changed_while_it_is_read_says_that() {
        let dir = tempfile::tempdir().unwrap();
        let (path, interrupt) = (dir.path().join("source"), Interrupt::default());
        for change in [&b"longer than it was"[..], b"", b"changed"] {
            std::fs::write(&path, b"content").unwrap();
            let mut source = Source::open(&path, &interrupt).unwrap();
            // The clock of a file system has steps.
            std::thread::sleep(std::time::Duration::from_millis(20));
            std::fs::write(&path, change).unwrap();
            let mut read = Vec::new();
            source.read_to_end(&mut read).unwrap();
            assert!(read.len() <= 7);
            assert_eq!(source.check().unwrap_err().status(), Status::State);
        }
    }
}
