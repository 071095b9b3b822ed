//! An OCI layout that is a folder: only what is needed of it is read. Nothing in it is followed out of it; a symlink where a
//! file should be is refused.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::Deserialize;

use super::{Blobs, ImportOptions, path_of, tell};
use crate::error::{Error, Result, Status, quoted};
use crate::layer::Progress;
use crate::limits;
use crate::oci::Descriptor;
use crate::store::{Storage, is_regular};

const MARKER: &str = "oci-layout";
const PIECE: usize = 256 << 10;

pub(super) struct Folder<'a> {
    storage: &'a Storage,
    root: OwnedFd,
    options: &'a ImportOptions,
    progress: std::cell::Cell<Progress>,
}

#[derive(Deserialize)]
struct Marker {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

impl<'a> Folder<'a> {
    pub(super) fn open(storage: &'a Storage, root: OwnedFd, options: &'a ImportOptions) -> Result<Folder<'a>> {
        let folder = Folder { storage, root, options, progress: Default::default() };
        let bytes = match folder.file(MARKER) {
            Err(error) if error.status() == Status::NotFound => {
                return Err(Error::new(Status::Malformed, "the folder is no OCI layout: it has no oci-layout"));
            }
            other => other?,
        };
        let marker: Option<Marker> = serde_json::from_slice(&bytes).ok();
        match marker {
            Some(marker) if marker.version.starts_with("1.") => Ok(folder),
            Some(marker) => {
                let why = format!("OCI layout of version {}", quoted(marker.version.as_bytes()));
                Err(Error::new(Status::Unsupported, why))
            }
            None => Err(Error::new(Status::Malformed, "oci-layout says no version")),
        }
    }

    fn open_file(&self, path: &str) -> Result<(OwnedFd, u64)> {
        let failed = |errno| match errno {
            Errno::LOOP | Errno::NOTDIR => {
                Error::new(Status::UnsafePath, format!("{} is no plain file of the layout", quoted(path.as_bytes())))
            }
            Errno::NOENT => Error::new(Status::NotFound, format!("{} is not in the layout", quoted(path.as_bytes()))),
            errno => Error::os(errno, format_args!("open {}", quoted(path.as_bytes()))),
        };
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut at: Option<OwnedFd> = None;
        for folder in folders.split('/').filter(|folder| !folder.is_empty()) {
            let from = at.as_ref().unwrap_or(&self.root);
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            at = Some(rustix::fs::openat(from, folder, flags, Mode::empty()).map_err(failed)?);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let from = at.as_ref().unwrap_or(&self.root);
        let file = rustix::fs::openat(from, name, flags, Mode::empty()).map_err(failed)?;
        let stat = rustix::fs::fstat(&file).map_err(failed)?;
        if !is_regular(&stat) {
            return Err(failed(Errno::LOOP));
        }
        Ok((file, stat.st_size as u64))
    }

    fn small(&self, path: &str) -> Result<Vec<u8>> {
        let (file, size) = self.open_file(path)?;
        let most = limits::DOCUMENT_SIZE;
        if size > most.default {
            return Err(Error::limit(most.name, most.default, size, quoted(path.as_bytes())));
        }
        let (mut bytes, mut read) = (vec![0; size as usize], 0);
        while read < bytes.len() {
            match rustix::io::read(file.as_fd(), &mut bytes[read..]) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::os(errno, format_args!("read {}", quoted(path.as_bytes())))),
            }
        }
        bytes.truncate(read);
        Ok(bytes)
    }
}

impl Blobs for Folder<'_> {
    fn file(&self, name: &str) -> Result<Vec<u8>> {
        self.small(name)
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let bytes = self.small(&path_of(&descriptor.digest))?;
        descriptor.verify(&bytes)?;
        Ok(bytes)
    }

    fn layer(&self, descriptor: &Descriptor) -> Result<()> {
        if self.storage.has_layer_of_size(&descriptor.digest, descriptor.size)? {
            return Ok(());
        }
        let path = path_of(&descriptor.digest);
        let (file, _) = self.open_file(&path)?;
        let mut staged = self.storage.stage_layer(&descriptor.digest, Some(descriptor.size))?;
        let mut buffer = vec![0; PIECE];
        loop {
            self.options.interrupt.check()?;
            match rustix::io::read(&file, &mut buffer[..]) {
                Ok(0) => break,
                Ok(n) => {
                    staged.write(&buffer[..n])?;
                    let mut progress = self.progress.get();
                    progress.bytes_in += n as u64;
                    self.progress.set(progress);
                    tell(self.options, &progress)?;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::os(errno, format_args!("read {path}"))),
            }
        }
        staged.commit_within(&self.options.interrupt)
    }
}
