//! Disks that the store keeps, by their keys: made once for each image and set of options, and found again in a moment.

use std::time::Duration;

use super::create::{PreparedDisk, attached};
use super::options::{Disk, DiskLayout, DiskOptions, DiskPart};
use crate::digest::Digest;
use crate::disk::{DiskId, disk_key};
use crate::error::Result;
use crate::image::Image;
use crate::layer::Anomalies;
use crate::store::{DISK_LOCK, DescribedLayer, DescribedPart, DiskDescription, Folder, Lease, Lock, Partial, Storage};

/// The file of a kept flat disk.
pub(super) const FLAT: &str = "disk.erofs";

/// How long a disk is held unless the caller says otherwise.
const LEASE: Duration = Duration::from_secs(24 * 3600);

/// A disk that the store keeps.
#[derive(Debug)]
#[non_exhaustive]
pub struct KeptDisk {
    /// The disk.
    pub disk: Disk,
    /// Keeps a collection from taking it. To be released when no guest has the disk any more; it outlives the process until its
    /// time.
    pub lease: Lease,
}

impl Storage {
    /// A disk of an image, as [`Storage::create_disk`] makes it, which the store keeps in `disks/<key>`. It is made unless it is
    /// there; `options.replace` has it made anew.
    ///
    /// A collection keeps it as long as it keeps all of the image's layers, or the lease that comes with it lives.
    ///
    /// Errors are those of [`Storage::create_disk`], but for those of a destination.
    pub fn keep_disk(&self, image: &Image, options: &DiskOptions) -> Result<KeptDisk> {
        self.check_disk(options)?;
        self.directory.check_writable()?;
        let kept = self.find_or_make(image, options);
        kept.map_err(|error| error.context(format_args!("disk of {}", image.manifest_digest)))
    }

    fn find_or_make(&self, image: &Image, options: &DiskOptions) -> Result<KeptDisk> {
        // Where the config does not say what the layers are, they do.
        let known: Option<Vec<&Digest>> = image.layers().map(|(_, diff_id)| diff_id).collect();
        let (key, prepared) = match known {
            Some(diff_ids) => (disk_key(&options.words(), diff_ids.into_iter()), None),
            None => {
                let prepared = self.prepare(image, options)?;
                (prepared.key.clone(), Some(prepared))
            }
        };
        // Before anybody looks: what is found is held then.
        let lease = self.create_lease(options.lease_time.unwrap_or(LEASE))?;
        let held = lease.hold_unless(&key, &options.interrupt);
        match held.and_then(|()| self.kept_or_new(image, options, &key, prepared)) {
            Ok(disk) => Ok(KeptDisk { disk, lease }),
            Err(error) => {
                if let Err(second) = lease.release() {
                    tracing::warn!("{second}");
                }
                Err(error)
            }
        }
    }

    fn kept_or_new(
        &self,
        image: &Image,
        options: &DiskOptions,
        key: &Digest,
        prepared: Option<PreparedDisk<'_>>,
    ) -> Result<Disk> {
        let find = || if options.replace { Ok(None) } else { self.find_kept(key, image, options) };
        if let Some(disk) = find()? {
            return Ok(disk);
        }
        let name = key.file_stem();
        let _lock = Lock::acquire(&self.directory, format!("{DISK_LOCK}{name}"), &options.interrupt)?;
        // Whoever had the lock before may have done the work.
        if let Some(disk) = find()? {
            return Ok(disk);
        }
        let prepared = prepared.map_or_else(|| self.prepare(image, options), Ok)?;
        let partial = Partial::create_tree(&self.directory, Folder::Disks, &name)?;
        let (output, path) = (prepared.output(options), partial.path());
        let written = match options.layout {
            DiskLayout::Flat => output.flat_in(partial.handle(), &path, FLAT)?,
            DiskLayout::Merged => output.merged_in(partial.handle(), &path)?,
        };
        let place = self.directory.object_path(Folder::Disks, &name);
        let disk = prepared.disk(&place, written, options);
        let description = describe(&prepared, &disk, options);
        self.publish_kept_disk(partial, &name, description, &options.interrupt)?;
        Ok(disk)
    }

    /// The disk that the store keeps by a key.
    fn find_kept(&self, key: &Digest, image: &Image, options: &DiskOptions) -> Result<Option<Disk>> {
        let name = key.file_stem();
        let Some(found) = self.kept_disk_for_use(&name)? else { return Ok(None) };
        let place = self.directory.object_path(Folder::Disks, &name);
        let mut offset = 0;
        let part = |described: &DescribedPart| {
            let part = DiskPart { path: place.join(&described.name), offset, length: described.bytes };
            offset += described.bytes;
            part
        };
        let parts: Vec<DiskPart> = found.parts.iter().map(part).collect();
        let disk = Disk {
            path: attached(&place, options.layout, &parts),
            layout: options.layout,
            key: key.clone(),
            uuid: DiskId::of_image(key, options.uuid, &options.label).uuid,
            size: offset,
            allocated: found.allocated_bytes,
            entries: found.entries,
            anomalies: Anomalies::from_bits(found.anomalies),
            cached: true,
            parts,
        };
        options.check_strict(disk.anomalies, &image.manifest_digest)?;
        Ok(Some(disk))
    }
}

fn describe(prepared: &PreparedDisk<'_>, disk: &Disk, options: &DiskOptions) -> DiskDescription {
    let name_of = |part: &DiskPart| part.path.file_name().map(|name| name.to_string_lossy().into_owned());
    DiskDescription {
        recipe: crate::record::DISK_RECIPE,
        key: disk.key.to_string(),
        layers: prepared
            .layers
            .stack
            .iter()
            .map(|layer| DescribedLayer { digest: layer.digest.to_string(), diff_id: layer.diff_id.to_string() })
            .collect(),
        layout: options.layout.word().to_owned(),
        label: options.label.clone(),
        uuid: options.uuid.map(|uuid| uuid::Uuid::from_bytes(uuid).to_string()),
        max_mtime_seconds: options.max_mtime,
        allocated_bytes: disk.allocated,
        entries: disk.entries,
        anomalies: disk.anomalies.bits(),
        parts: disk
            .parts
            .iter()
            .map(|part| DescribedPart { name: name_of(part).unwrap_or_default(), bytes: part.length })
            .collect(),
        ..DiskDescription::default()
    }
}
