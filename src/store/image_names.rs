//! Image names: which manifest `docker.io/library/alpine:3.20` is.
//!
//! One small file for each name, replaced by a rename, so that readers see the old manifest or the
//! new one and nothing between. There is no index over them that could disagree. The file is called
//! by the hash of the name. A name may be longer than a file's may be, and has slashes in it. When
//! an image was used last is the file's modification time, since access times change by a listing
//! too.

use std::fmt;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Stat, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::lock::CollectionLock;
use super::partial::Partial;
use super::small_files::{checksum, read_small};
use super::storage::Storage;
use super::store_dir::Folder;
use crate::digest::Digest;
use crate::error::{Error, Result, Status, quoted};
use crate::interrupt::Interrupt;
use crate::oci::select::INDEX_DEPTH;
use crate::oci::{Document, ImageManifest, Reference};

/// More than a reference can have: 255 bytes of name, 128 of tag, a digest.
const MAX_FILE_BYTES: usize = 4096;

/// What an image is called: a reference as in `docker pull`, in its full form. `alpine` is
/// `docker.io/library/alpine:latest`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName(String);

impl ImageName {
    /// `INVALID_ARGUMENT` for what is no reference (distribution spec, and Docker's short forms).
    pub fn parse(text: &str) -> Result<ImageName> {
        Reference::parse(text).map(|reference| ImageName::from(&reference))
    }

    /// The full form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The short form, which parses to the same: `alpine:3.20`.
    pub fn familiar(&self) -> &str {
        let shorter = ["docker.io/library/", "docker.io/"].into_iter().filter_map(|prefix| self.0.strip_prefix(prefix));
        let mut same = shorter.filter(|short| ImageName::parse(short).is_ok_and(|name| name == *self));
        same.next().unwrap_or(&self.0)
    }

    /// What the name is pinned to: the digest of a manifest, or of the index that leads to it.
    pub fn digest(&self) -> Option<Digest> {
        self.0.split_once('@').and_then(|(_, digest)| Digest::parse(digest).ok())
    }

    fn file_name(&self) -> String {
        format!("{}.json", Digest::of(self.0.as_bytes()).file_stem())
    }
}

impl From<&Reference> for ImageName {
    fn from(reference: &Reference) -> ImageName {
        ImageName(reference.to_string())
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaggedImage {
    /// The name.
    pub name: ImageName,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// The digest of the index that led to it, where a pull came by one.
    pub index: Option<Digest>,
    /// When the name was given to this manifest.
    pub tagged: SystemTime,
    /// When [`Storage::open_image`] found it last by this name.
    pub used: SystemTime,
}

#[derive(Serialize, Deserialize)]
struct NameFile {
    name: String,
    manifest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    index: Option<String>,
    /// Seconds since 1970.
    tagged: u64,
    /// Of the rest: [`NameFile::sum_of`].
    sum: String,
}

impl NameFile {
    fn new(name: &ImageName, manifest: &Digest, index: Option<&Digest>, tagged: u64) -> NameFile {
        let (name, manifest, index) = (name.0.clone(), manifest.to_string(), index.map(Digest::to_string));
        let mut file = NameFile { name, manifest, index, tagged, sum: String::new() };
        file.sum = file.sum_of();
        file
    }

    fn sum_of(&self) -> String {
        let tagged = self.tagged.to_string();
        let mut parts = vec![self.name.as_str(), &self.manifest, &tagged];
        parts.extend(self.index.as_deref());
        checksum(&parts)
    }
}

impl Storage {
    /// Gives a name to a manifest that is in the store with its config and all layers. A name that
    /// was another's changes over at once. `NOT_FOUND` names what is missing (invariant I3).
    /// `UNSUPPORTED` for an index, which has no layers. `DIGEST_MISMATCH` for a name with a digest
    /// that is neither the manifest's nor that of an index in the store that leads to it.
    pub fn tag_image(&self, name: &ImageName, manifest: &Digest) -> Result<()> {
        self.tag_image_of(name, manifest, None, &Interrupt::default())
    }

    /// The same, with the index that led to the manifest, which is in the store too.
    pub(crate) fn tag_image_of(
        &self,
        name: &ImageName,
        manifest: &Digest,
        index: Option<&Digest>,
        interrupt: &Interrupt,
    ) -> Result<()> {
        self.directory.check_writable()?;
        // What is found here stays until the name reaches it.
        let _collection = CollectionLock::shared(&self.directory, interrupt)?;
        let document = self.load_image_manifest(manifest)?;
        let missing = self.missing_blobs(&document)?;
        if !missing.is_empty() {
            let missing: Vec<String> = missing.iter().map(Digest::to_string).collect();
            let why = format!("{name}: {manifest} is not complete: {} not in the store", missing.join(", "));
            return Err(Error::new(Status::NotFound, why));
        }
        self.check_pin(name, manifest, index)?;
        // The index of a pinned name is kept as long as the name.
        let pinned = name.digest().filter(|digest| digest != manifest);
        let index = index.or(pinned.as_ref());
        let tagged = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let file = NameFile::new(name, manifest, index, tagged);
        let bytes = serde_json::to_vec(&file).map_err(|cause| Error::new(Status::Internal, cause.to_string()))?;
        let mut partial =
            Partial::create_file(&self.directory, Folder::Names, &Digest::of(name.0.as_bytes()).file_stem())?;
        partial.write_all(&bytes)?;
        // What is there is the same, or it is replaced.
        partial.publish(&name.file_name(), interrupt, |existing| {
            Ok(parse(existing).is_ok_and(|found| {
                (&found.name, &found.manifest, &found.index) == (&file.name, &file.manifest, &file.index)
            }))
        })
    }

    /// Refuses a manifest that a name with a digest does not stand for. `index` is what is known to have led to it. A name
    /// is only what somebody wrote, and whoever pins one trusts the digest in it (podman#27323).
    pub(crate) fn check_pin(&self, name: &ImageName, manifest: &Digest, index: Option<&Digest>) -> Result<()> {
        match name.digest() {
            Some(pin) if pin != *manifest && index != Some(&pin) && !self.leads_to(&pin, manifest, INDEX_DEPTH) => {
                Err(Error::digest_mismatch(format_args!("image name {name}"), &pin, manifest))
            }
            _ => Ok(()),
        }
    }

    /// Whether an index that is in the store has a manifest, by way of further ones.
    fn leads_to(&self, index: &Digest, manifest: &Digest, depth: usize) -> bool {
        let document = self.load_manifest(index).and_then(|bytes| Document::parse(&bytes));
        let Ok(Document::Index(index)) = document else { return false };
        let digests = || index.manifests.iter().map(|entry| &entry.descriptor.digest);
        digests().any(|digest| digest == manifest)
            || (depth > 0 && digests().any(|digest| self.leads_to(digest, manifest, depth - 1)))
    }

    /// Takes a name away; what it stood for stays until the next collection. `NOT_FOUND` where nothing has the name.
    pub fn remove_image(&self, name: &ImageName) -> Result<()> {
        self.directory.check_writable()?;
        let file_name = name.file_name();
        match rustix::fs::unlinkat(self.directory.area(Folder::Names)?, file_name.as_str(), AtFlags::empty()) {
            Ok(()) => self.directory.sync_area(Folder::Names),
            Err(Errno::NOENT) => Err(no_image(name)),
            Err(errno) => {
                let path = self.directory.object_path(Folder::Names, &file_name);
                Err(Error::os(errno, format_args!("remove {}", path.display())))
            }
        }
    }

    /// All names, in order. What is damaged is no image.
    pub fn images(&self) -> Result<Vec<TaggedImage>> {
        let mut images = Vec::new();
        for (_, image) in self.name_files()? {
            match image {
                Ok(image) => images.push(image),
                Err(damaged) => tracing::warn!("{damaged}"),
            }
        }
        images.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(images)
    }

    /// The files of all names, and what they say or why they cannot be understood.
    pub(crate) fn name_files(&self) -> Result<Vec<(String, Result<TaggedImage>)>> {
        self.directory.check_not_forked()?;
        let mut files = Vec::new();
        for (file_name, _) in self.objects(Folder::Names)? {
            // Without one that was removed a moment ago.
            if let Some(image) = self.read_name(&file_name).transpose() {
                files.push((file_name, image));
            }
        }
        Ok(files)
    }

    /// A name's file, by which file it is, and what it says or why it cannot be understood; `None` where there is none.
    pub(crate) fn name_file(&self, file_name: &str) -> Result<Option<(Stat, Result<TaggedImage>)>> {
        let Some(file) = self.directory.open_file(Folder::Names, file_name)? else { return Ok(None) };
        let stat = rustix::fs::fstat(&file).map_err(|errno| Error::os(errno, format_args!("look at {file_name}")))?;
        Ok(Some((stat, self.parse_name(&file, file_name))))
    }

    /// What a name stands for; `NOT_FOUND`, and `DIGEST_MISMATCH` where that is not what the name is pinned to.
    pub fn image(&self, name: &ImageName) -> Result<TaggedImage> {
        self.directory.check_not_forked()?;
        let image = self.read_name(&name.file_name())?.ok_or_else(|| no_image(name))?;
        // Stores of older versions may have names that nobody checked.
        self.check_pin(name, &image.manifest, image.index.as_ref())?;
        Ok(image)
    }

    /// Notes that an image was used now.
    pub(crate) fn mark_used(&self, name: &ImageName) {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        // In a store that is read-only, or somebody else's, it is not noted.
        if self.directory.check_writable().is_ok()
            && let Ok(folder) = self.directory.area(Folder::Names)
        {
            let _ = rustix::fs::utimensat(folder, name.file_name(), &times, AtFlags::SYMLINK_NOFOLLOW);
        }
    }

    fn read_name(&self, file_name: &str) -> Result<Option<TaggedImage>> {
        let Some(file) = self.directory.open_file(Folder::Names, file_name)? else { return Ok(None) };
        let path = self.directory.object_path(Folder::Names, file_name);
        self.parse_name(&file, file_name).map_err(|error| error.context(path.display())).map(Some)
    }

    fn parse_name(&self, file: &OwnedFd, file_name: &str) -> Result<TaggedImage> {
        let malformed = |why: String| Error::new(Status::Malformed, why);
        let NameFile { name, manifest, index, tagged, .. } = parse(file.as_fd())?;
        let digest = |text: &str| Digest::parse(text).map_err(|error| malformed(error.message().to_owned()));
        let name = ImageName::parse(&name).map_err(|error| malformed(error.message().to_owned()))?;
        if name.file_name() != file_name {
            return Err(malformed(format!("is not where {} belongs", quoted(name.0.as_bytes()))));
        }
        let stat = rustix::fs::fstat(file).map_err(|errno| Error::os(errno, "look at it"))?;
        Ok(TaggedImage {
            name,
            manifest: digest(&manifest)?,
            index: index.as_deref().map(digest).transpose()?,
            tagged: SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(tagged)).unwrap_or(SystemTime::UNIX_EPOCH),
            used: time(stat.st_mtime, stat.st_mtime_nsec as i64),
        })
    }

    pub(crate) fn load_image_manifest(&self, digest: &Digest) -> Result<ImageManifest> {
        match Document::parse(&self.load_manifest(digest)?).map_err(|error| error.context(digest))? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => {
                let why = format!("{digest} is an index of images for several platforms, not an image");
                Err(Error::new(Status::Unsupported, why))
            }
        }
    }

    /// Which of an image's config and layers are not in the store.
    pub(crate) fn missing_blobs(&self, manifest: &ImageManifest) -> Result<Vec<Digest>> {
        let mut missing = Vec::new();
        if !self.has_config(&manifest.config.digest)? {
            missing.push(manifest.config.digest.clone());
        }
        for layer in &manifest.layers {
            if !self.has_layer_of_size(&layer.digest, layer.size)? && !missing.contains(&layer.digest) {
                missing.push(layer.digest.clone());
            }
        }
        Ok(missing)
    }
}

fn parse(file: std::os::fd::BorrowedFd<'_>) -> Result<NameFile> {
    let malformed = |why: String| Error::new(Status::Malformed, format!("not an image name: {why}"));
    let file: NameFile =
        serde_json::from_slice(&read_small(file, MAX_FILE_BYTES)?).map_err(|cause| malformed(cause.to_string()))?;
    if file.sum != file.sum_of() {
        return Err(malformed("its checksum does not match".into()));
    }
    Ok(file)
}

fn no_image(name: &ImageName) -> Error {
    Error::new(Status::NotFound, format!("no image is called {name}"))
}

fn time(seconds: i64, nanoseconds: i64) -> SystemTime {
    let fraction = Duration::from_nanos(nanoseconds.clamp(0, 999_999_999) as u64);
    match u64::try_from(seconds) {
        Ok(seconds) => SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + fraction,
        Err(_) => SystemTime::UNIX_EPOCH,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn familiar_names_are_the_same_names() {
        for (full, familiar) in [
            ("docker.io/library/alpine:latest", "alpine:latest"),
            ("docker.io/user/tool:1", "user/tool:1"),
            ("docker.io/library/a/b:1", "library/a/b:1"),
            ("docker.io/x.y/z:1", "docker.io/x.y/z:1"),
            ("docker.io/localhost/z:1", "docker.io/localhost/z:1"),
            ("ghcr.io/a/b:1", "ghcr.io/a/b:1"),
        ] {
            let name = ImageName::parse(full).unwrap();
            assert_eq!((name.as_str(), name.familiar()), (full, familiar));
            assert_eq!(ImageName::parse(familiar).unwrap(), name);
        }
    }
}
