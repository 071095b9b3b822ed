//! Images into files: an OCI layout, as a folder or as a tar archive. An archive has what older readers look for beside it
//! (`manifest.json`), so that one form serves `docker load`, `podman load` and everybody who reads layouts. Blobs are what they
//! are in the store, byte for byte, and hashed again on their way out.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;
use tar::{Builder, EntryType, Header};

use crate::destination::{Destination, PendingOutput};
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result, Status};
use crate::image::Image;
use crate::interrupt::Interrupt;
use crate::layer::Progress;
use crate::oci::media_type;
use crate::options::options;
use crate::store::{CallLease, Storage, path_of};
use crate::unpack::ProgressCallback;

const COPY_BUFFER_BYTES: usize = 256 << 10;

/// Where images go.
#[derive(Debug)]
pub enum ExportTarget {
    /// A folder that becomes an OCI layout.
    Folder(PathBuf),
    /// A tar archive at this path.
    Archive(PathBuf),
    /// A tar archive into a file or a pipe.
    File(OwnedFd),
}

options! {
    /// How to export.
    #[derive(Clone, Debug, Default)]
    pub struct ExportOptions {
        /// Replace what is at the target: a file by an archive, a folder by a folder.
        pub replace: bool,
        /// Is told how many bytes went out.
        pub progress: Option<ProgressCallback>,
        /// What may end it early.
        pub interrupt: Interrupt,
    }
}

#[derive(Serialize)]
struct Index<'a> {
    #[serde(rename = "schemaVersion")]
    schema_version: u32,
    #[serde(rename = "mediaType")]
    media_type: &'a str,
    manifests: Vec<LayoutEntry>,
}

#[derive(Serialize)]
struct LayoutEntry {
    #[serde(rename = "mediaType")]
    media_type: String,
    digest: String,
    size: usize,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<BTreeMap<&'static str, String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

impl Storage {
    /// Writes images to a layout or an archive: manifests, configs and layers as they are, under the names that the images
    /// were opened by. A path gets what is written when it is whole.
    ///
    /// `NOT_FOUND` where the store lacks a part, `DIGEST_MISMATCH` where it is damaged, `EXISTS` where the target is taken,
    /// `INVALID_ARGUMENT` for no images.
    pub fn export(&self, images: &[&Image], target: ExportTarget, options: &ExportOptions) -> Result<()> {
        self.directory.check_not_forked()?;
        options.interrupt.check()?;
        if images.is_empty() {
            return Err(Error::new(Status::InvalidArgument, "no images to export"));
        }
        if let Some(digest) = images.iter().find_map(|image| image.missing.first()) {
            return Err(Error::new(Status::NotFound, format!("{digest} is not in the store")));
        }
        let mut lease = None;
        if self.directory.check_writable().is_ok() {
            let held = CallLease::new(self)?;
            for image in images {
                held.lease().hold_unless(&image.manifest_digest, &options.interrupt)?;
            }
            lease = Some(held);
        }
        let mut export = Export { storage: self, options, lease, progress: Progress::default() };
        match target {
            ExportTarget::File(file) => export.archive(images, File::from(file)).map(drop),
            ExportTarget::Archive(path) => {
                let place = Destination::new(&path, &self.directory)?;
                place.check_free_for_file(options.replace)?;
                place.sweep();
                let work = PendingOutput::file(&place)?;
                export.archive(images, File::from(work.open()?))?;
                work.publish_file(options.replace)
            }
            ExportTarget::Folder(path) => {
                let place = Destination::new(&path, &self.directory)?;
                // A mount point is filled where it is.
                let inside = place.inside(false)?;
                if inside.is_none() {
                    place.check_free(options.replace)?;
                }
                place.sweep();
                let work = PendingOutput::directory(inside.as_ref().unwrap_or(&place))?;
                export.folder(images, &work)?;
                if inside.is_some() { work.publish_inside() } else { work.publish_directory(options.replace) }
            }
        }
    }
}

struct Export<'a> {
    storage: &'a Storage,
    options: &'a ExportOptions,
    lease: Option<CallLease>,
    progress: Progress,
}

/// What goes out, in its order: the small before the large.
struct ExportParts {
    documents: Vec<(String, Vec<u8>)>,
    layers: BTreeMap<Digest, u64>,
}

impl Export<'_> {
    fn parts(&self, images: &[&Image], with_saved: bool) -> Result<ExportParts> {
        let (mut manifests, mut saved) = (Vec::new(), Vec::new());
        let mut documents: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut layers = BTreeMap::new();
        for image in images {
            let bytes = self.storage.load_manifest(&image.manifest_digest)?;
            manifests.push(entry(image, &bytes));
            let config = &image.manifest.config;
            saved.push(DockerImage {
                config: path_of(&config.digest),
                repo_tags: image.name.iter().map(|tagged| tagged.name.familiar().to_owned()).collect(),
                layers: image.manifest.layers.iter().map(|layer| path_of(&layer.digest)).collect(),
            });
            documents.insert(path_of(&image.manifest_digest), bytes);
            documents.insert(path_of(&config.digest), self.storage.load_config(&config.digest)?);
            layers.extend(image.manifest.layers.iter().map(|layer| (layer.digest.clone(), layer.size)));
        }
        let index = Index { schema_version: 2, media_type: media_type::OCI_INDEX, manifests };
        let json =
            |made: serde_json::Result<Vec<u8>>| made.map_err(|cause| Error::new(Status::Internal, cause.to_string()));
        let mut all = vec![
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".to_owned(), json(serde_json::to_vec(&index))?),
        ];
        if with_saved {
            all.push(("manifest.json".to_owned(), json(serde_json::to_vec(&saved))?));
        }
        all.extend(documents);
        Ok(ExportParts { documents: all, layers })
    }

    fn archive(&mut self, images: &[&Image], file: File) -> Result<File> {
        let parts = self.parts(images, true)?;
        let failed = |cause: io::Error| {
            // Our own errors come out as they went in.
            cause.downcast::<Error>().unwrap_or_else(|cause| Error::io(&cause, "write an archive"))
        };
        let mut builder = Builder::new(io::BufWriter::with_capacity(COPY_BUFFER_BYTES, file));
        let mut folders: Vec<String> = vec!["blobs/".to_owned()];
        let algorithms = parts.documents.iter().map(|(name, _)| name.clone());
        for name in algorithms.chain(parts.layers.keys().map(path_of)) {
            if let Some((folder, _)) = name.rsplit_once('/')
                && !folders.contains(&format!("{folder}/"))
            {
                folders.push(format!("{folder}/"));
            }
        }
        for folder in folders {
            let mut head = header(EntryType::Directory, 0o755, 0);
            builder.append_data(&mut head, &folder, io::empty()).map_err(failed)?;
        }
        for (name, bytes) in &parts.documents {
            let mut head = header(EntryType::Regular, 0o644, bytes.len() as u64);
            builder.append_data(&mut head, name, &bytes[..]).map_err(failed)?;
            self.count(bytes.len())?;
        }
        for (digest, size) in &parts.layers {
            let mut layer = self.layer(digest, *size)?;
            let mut head = header(EntryType::Regular, 0o644, *size);
            builder.append_data(&mut head, path_of(digest), &mut layer).map_err(failed)?;
            layer.finish()?;
        }
        let writer = builder.into_inner().map_err(failed)?;
        writer.into_inner().map_err(|error| failed(error.into_error()))
    }

    fn folder(&mut self, images: &[&Image], work: &PendingOutput) -> Result<()> {
        let parts = self.parts(images, false)?;
        let root = work.open()?;
        for (name, bytes) in &parts.documents {
            let mut file = create(&root, name)?;
            io::copy(&mut &bytes[..], &mut file).map_err(|cause| Error::io(&cause, format_args!("write {name}")))?;
            self.count(bytes.len())?;
        }
        for (digest, size) in &parts.layers {
            let name = path_of(digest);
            let mut file = create(&root, &name)?;
            let mut layer = self.layer(digest, *size)?;
            io::copy(&mut layer, &mut file).map_err(|cause| {
                cause.downcast::<Error>().unwrap_or_else(|cause| Error::io(&cause, format_args!("write {name}")))
            })?;
            layer.finish()?;
        }
        // Made for us alone while it was not whole.
        rustix::fs::fchmod(&root, rustix::fs::Mode::from_raw_mode(0o755))
            .map_err(|errno| Error::os(errno, "set the mode of a layout"))
    }

    fn layer(&mut self, digest: &Digest, size: u64) -> Result<Layer<'_>> {
        if let Some(lease) = &mut self.lease {
            lease.extend_in_time(std::time::Instant::now())?;
        }
        let file = self.storage.open_layer(digest)?;
        let hasher = Hasher::new(digest.algorithm());
        Ok(Layer {
            file: File::from(file),
            left: size,
            digest: digest.clone(),
            hasher,
            options: self.options,
            progress: &mut self.progress,
        })
    }

    fn count(&mut self, bytes: usize) -> Result<()> {
        count(self.options, &mut self.progress, bytes)
    }
}

fn count(options: &ExportOptions, progress: &mut Progress, bytes: usize) -> Result<()> {
    options.interrupt.check()?;
    progress.bytes_out += bytes as u64;
    options.progress.as_ref().map_or(Ok(()), |callback| callback.tell(progress))
}

/// A layer on its way out, of exactly its size.
struct Layer<'a> {
    file: File,
    left: u64,
    digest: Digest,
    hasher: Hasher,
    options: &'a ExportOptions,
    progress: &'a mut Progress,
}

impl Read for Layer<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len()).min(COPY_BUFFER_BYTES);
        if most == 0 {
            return Ok(0);
        }
        let n = self.file.read(&mut buffer[..most])?;
        if n == 0 {
            let why = format!("{}: the stored layer is {} bytes short", self.digest, self.left);
            return Err(io::Error::other(Error::new(Status::SizeMismatch, why)));
        }
        self.hasher.update(&buffer[..n]);
        self.left -= n as u64;
        count(self.options, self.progress, n).map_err(io::Error::other)?;
        Ok(n)
    }
}

impl Layer<'_> {
    fn finish(self) -> Result<()> {
        let actual = self.hasher.finish();
        if actual == self.digest { Ok(()) } else { Err(Error::digest_mismatch("stored layer", &self.digest, &actual)) }
    }
}

fn entry(image: &Image, manifest: &[u8]) -> LayoutEntry {
    let said = serde_json::from_slice::<Value>(manifest).ok();
    let media_type = said.as_ref().and_then(|said| said.get("mediaType")?.as_str()).unwrap_or(media_type::OCI_MANIFEST);
    let mut annotations = BTreeMap::new();
    if let Some(tagged) = &image.name {
        let name = tagged.name.to_string();
        let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag).to_owned();
        annotations.insert("io.containerd.image.name", name);
        annotations.insert("org.opencontainers.image.ref.name", tag);
    }
    let config = &image.config;
    let mut platform = BTreeMap::new();
    for (key, value) in [("architecture", &config.architecture), ("os", &config.os), ("variant", &config.variant)] {
        if !value.is_empty() {
            platform.insert(key, value.clone());
        }
    }
    LayoutEntry {
        media_type: media_type.to_owned(),
        digest: image.manifest_digest.to_string(),
        size: manifest.len(),
        annotations,
        // It takes both to be one (image-spec, image-index.md).
        platform: (platform.contains_key("os") && platform.contains_key("architecture")).then_some(platform),
    }
}

/// The same content makes the same archive.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

/// A file in a folder that nobody else can enter, with the folders that lead to it.
fn create(root: &OwnedFd, name: &str) -> Result<File> {
    use rustix::fs::{Mode, OFlags};
    use rustix::io::Errno;
    let failed = |errno| Error::os(errno, format_args!("create {name}"));
    let mut at: Option<OwnedFd> = None;
    let (folders, file) = name.rsplit_once('/').unwrap_or(("", name));
    for folder in folders.split('/').filter(|folder| !folder.is_empty()) {
        let from = at.as_ref().unwrap_or(root);
        match rustix::fs::mkdirat(from, folder, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        at = Some(rustix::fs::openat(from, folder, flags, Mode::empty()).map_err(failed)?);
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(at.as_ref().unwrap_or(root), file, flags, Mode::from_raw_mode(0o644));
    Ok(File::from(made.map_err(failed)?))
}
