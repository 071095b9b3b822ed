//! An OCI layout that is a folder: only what is needed of it is read.

use std::os::fd::AsFd as _;

use rustix::io::Errno;
use serde::Deserialize;

use super::blobs::Blobs;
use super::options::ImportOptions;
use crate::digest::Digest;
use crate::error::{Error, Result, Status, quoted};
use crate::layer::Progress;
use crate::limits;
use crate::oci::Descriptor;
use crate::store::{LayoutFolder, Storage, path_of};

const MARKER: &str = "oci-layout";
const COPY_BUFFER_BYTES: usize = 256 << 10;

pub(super) struct LayoutBlobs<'a> {
    bundle: &'a LayoutFolder,
    options: &'a ImportOptions,
    progress: std::cell::Cell<Progress>,
}

#[derive(Deserialize)]
struct LayoutMarker {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

impl<'a> LayoutBlobs<'a> {
    pub(super) fn open(bundle: &'a LayoutFolder, options: &'a ImportOptions) -> Result<LayoutBlobs<'a>> {
        let folder = LayoutBlobs { bundle, options, progress: Default::default() };
        let bytes = match folder.file(MARKER) {
            Err(error) if error.status() == Status::NotFound => {
                return Err(Error::new(Status::Malformed, "the folder is no OCI layout: it has no oci-layout"));
            }
            other => other?,
        };
        let marker: Option<LayoutMarker> = serde_json::from_slice(&bytes).ok();
        match marker {
            Some(marker) if marker.version.starts_with("1.") => Ok(folder),
            Some(marker) => {
                let why = format!("OCI layout of version {}", quoted(marker.version.as_bytes()));
                Err(Error::new(Status::Unsupported, why))
            }
            None => Err(Error::new(Status::Malformed, "oci-layout says no version")),
        }
    }

    fn count(&self, bytes: usize) -> Result<()> {
        let mut progress = self.progress.get();
        progress.bytes_in += bytes as u64;
        self.progress.set(progress);
        self.options.tell(&progress)
    }
}

impl Blobs for LayoutBlobs<'_> {
    fn file(&self, name: &str) -> Result<Vec<u8>> {
        let opened = self.bundle.open(name)?;
        let most = limits::DOCUMENT_SIZE;
        if opened.size > most.default {
            return Err(Error::limit(most.name, most.default, opened.size, quoted(name.as_bytes())));
        }
        let (mut bytes, mut read) = (vec![0; opened.size as usize], 0);
        while read < bytes.len() {
            match rustix::io::read(opened.file.as_fd(), &mut bytes[read..]) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::os(errno, format_args!("read {}", quoted(name.as_bytes())))),
            }
        }
        bytes.truncate(read);
        Ok(bytes)
    }

    fn has_blob(&self, digest: &Digest) -> bool {
        // What cannot be opened is for whoever opens it.
        !self.bundle.open(&path_of(digest)).is_err_and(|error| error.status() == Status::NotFound)
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let bytes = self.file(&path_of(&descriptor.digest))?;
        descriptor.verify(&bytes)?;
        Ok(bytes)
    }

    fn layer(&self, storage: &Storage, descriptor: &Descriptor) -> Result<()> {
        let (digest, size) = (&descriptor.digest, descriptor.size);
        storage.check_blob_size(digest, size)?;
        if storage.has_layer_of_size(digest, size)? {
            return Ok(());
        }
        let path = path_of(digest);
        let (opened, interrupt) = (self.bundle.open(&path)?, &self.options.interrupt);
        let from = (self.bundle, &opened);
        if storage.take_layer(digest, size, from, self.options.hard_link, interrupt, |bytes| self.count(bytes))? {
            return Ok(());
        }
        let mut staged = storage.stage_layer(digest, Some(size))?;
        let mut buffer = vec![0; COPY_BUFFER_BYTES];
        loop {
            interrupt.check()?;
            match rustix::io::read(&opened.file, &mut buffer[..]) {
                Ok(0) => break,
                Ok(n) => {
                    staged.write(&buffer[..n])?;
                    self.count(n)?;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::os(errno, format_args!("read {path}"))),
            }
        }
        staged.commit_within(interrupt)
    }
}
