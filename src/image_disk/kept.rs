//! Disks that the store keeps: made once for each stack of layers and set of options, and found again in a moment.

use super::create::{PreparedDisk, attached, in_order};
use super::inject::TopLayer;
use super::options::{Disk, DiskLayout, DiskOptions};
use super::output::WrittenPart;
use crate::digest::Digest;
use crate::disk::{DiskFormat, DiskId, Verity};
use crate::error::Result;
use crate::image::Image;
use crate::layer::Anomalies;
use crate::record::DISK_RECIPE;
use crate::store::{
    DISK_LOCK, DescribedLayer, DescribedPart, DescribedVerity, DiskDescription, Folder, Lease, Lock, Partial, Storage,
};

/// The file of a kept flat disk.
pub(super) fn flat_name(format: DiskFormat) -> String {
    format!("disk.{}", format.word())
}

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
    /// A disk of an image, as [`Storage::create_disk`] makes it, which the store keeps in `disks`. It is made unless it is there;
    /// `options.replace` has it made anew.
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
        let tops = self.top_layers(options)?;
        let of_image = image.layers().map(|(layer, diff_id)| (&layer.digest, diff_id));
        let id = kept_id(of_image.chain(tops.iter().map(|top| (&top.digest, None))), options);
        if !options.replace
            && let Some(kept) = self.find_and_hold(&id, image, &tops, options)?
        {
            return Ok(kept);
        }
        // As long as this is held, no collection takes the disk.
        let lock = format!("{DISK_LOCK}{}", id.file_stem());
        let _lock = Lock::acquire(&self.directory, lock, &options.interrupt)?;
        // Whoever had the lock before may have done the work.
        if !options.replace
            && let Some(kept) = self.find_and_hold(&id, image, &tops, options)?
        {
            return Ok(kept);
        }
        let disk = self.make_kept(&id, image, &tops, options)?;
        Ok(KeptDisk { disk, lease: self.hold_disk(&id, options)? })
    }

    /// The lease comes first: what is found then stays.
    fn find_and_hold(
        &self,
        id: &Digest,
        image: &Image,
        tops: &[TopLayer],
        options: &DiskOptions,
    ) -> Result<Option<KeptDisk>> {
        if self.directory.stat(Folder::Disks, &id.file_stem())?.is_none() {
            return Ok(None);
        }
        let lease = self.hold_disk(id, options)?;
        match self.find_kept(id, image, tops, options) {
            Ok(Some(disk)) => Ok(Some(KeptDisk { disk, lease })),
            other => {
                lease.release_or_warn();
                other.map(|_| None)
            }
        }
    }

    fn hold_disk(&self, id: &Digest, options: &DiskOptions) -> Result<Lease> {
        let held = self.held_by_lease(options.lease_time, |lease| lease.hold_unless(id, &options.interrupt));
        held.map(|((), lease)| lease)
    }

    fn make_kept(&self, id: &Digest, image: &Image, tops: &[TopLayer], options: &DiskOptions) -> Result<Disk> {
        let prepared = self.prepare(image, tops, options)?;
        let name = id.file_stem();
        let partial = Partial::create_tree(&self.directory, Folder::Disks, &name)?;
        let (output, path) = (prepared.output(options), partial.path());
        let written = match options.layout {
            DiskLayout::Flat => output.flat_in(partial.handle(), &path, &flat_name(options.format))?,
            DiskLayout::Merged => output.merged_in(partial.handle(), &path)?,
        };
        let parts = written.parts.iter().map(describe_part).collect();
        let descriptor = written.descriptor.as_ref().map(describe_part);
        let disk = prepared.disk(&self.directory.object_path(Folder::Disks, &name), written, options);
        let claims = image.layers().map(|(_, claimed)| claimed.is_some()).chain(tops.iter().map(|_| false));
        let description = DiskDescription { parts, descriptor, ..describe(&prepared, claims, &disk, options) };
        self.publish_kept_disk(partial, &name, description, &options.interrupt)?;
        Ok(disk)
    }

    /// A kept disk of the very layers that the image has, and of what its config claims of them.
    fn find_kept(&self, id: &Digest, image: &Image, tops: &[TopLayer], options: &DiskOptions) -> Result<Option<Disk>> {
        let name = id.file_stem();
        let Some(found) = self.kept_disk_for_use(&name)? else { return Ok(None) };
        let Ok(key) = Digest::parse(&found.key) else { return Ok(None) };
        let of_image = image.layers().map(|(layer, claimed)| (&layer.digest, claimed, false));
        let mut layers = of_image.chain(tops.iter().map(|top| (&top.digest, None, true)));
        let is_of = |described: &DescribedLayer, (layer, claimed, is_injected): (&Digest, Option<&Digest>, bool)| {
            layer.as_str() == described.digest
                && is_injected == described.is_injected
                && claimed.is_none_or(|claimed| claimed.as_str() == described.diff_id)
                && claimed.is_some() == described.is_claimed
        };
        let are_same = found.layers.iter().all(|described| layers.next().is_some_and(|layer| is_of(described, layer)));
        if !are_same || layers.next().is_some() {
            return Ok(None);
        }
        let verity = found.verity.as_ref().and_then(|of| Verity::from_hex(&of.root_hash, of.data_blocks));
        if verity.is_some() != options.verity {
            return Ok(None);
        }
        let place = self.directory.object_path(Folder::Disks, &name);
        let (parts, size) = in_order(found.parts.iter().map(|part| (place.join(&part.name), part.bytes)));
        let disk = Disk {
            path: attached(&place, options.layout, &parts),
            format: options.format,
            layout: options.layout,
            uuid: DiskId::of_image(&key, options.uuid, &options.label).uuid,
            key,
            size,
            allocated: found.allocated_bytes,
            entries: found.entries,
            anomalies: Anomalies::from_bits(found.anomalies),
            cached: true,
            is_writable: options.is_for_writing(),
            is_empty: found.layers.is_empty(),
            verity,
            parts,
        };
        options.check_strict(disk.anomalies, &image.manifest_digest)?;
        Ok(Some(disk))
    }
}

/// What a kept disk is called by: the options, and each layer as it is stored, with the diff_id that the config claims for it. That
/// is proved before the disk is there.
pub(super) fn kept_id<'a>(
    layers: impl Iterator<Item = (&'a Digest, Option<&'a Digest>)>,
    options: &DiskOptions,
) -> Digest {
    let mut text = format!("boxlite-images kept disk {DISK_RECIPE}\n{}\n", options.words());
    layers.for_each(|(digest, diff_id)| {
        text.push_str(&format!("layer {digest} {}\n", diff_id.map_or("-", Digest::as_str)));
    });
    Digest::of(text.as_bytes())
}

fn describe_part(part: &WrittenPart) -> DescribedPart {
    DescribedPart { name: part.name.clone(), bytes: part.bytes, tree: part.tree.clone() }
}

fn describe_verity(verity: &Verity) -> DescribedVerity {
    DescribedVerity { root_hash: verity.root_hash_hex(), data_blocks: verity.data_blocks }
}

/// Without the files.
fn describe(
    prepared: &PreparedDisk<'_>,
    claims: impl Iterator<Item = bool>,
    disk: &Disk,
    options: &DiskOptions,
) -> DiskDescription {
    let layers = prepared.layers.stack.iter().zip(claims).map(|(layer, is_claimed)| DescribedLayer {
        digest: layer.digest.to_string(),
        diff_id: layer.diff_id.to_string(),
        is_claimed,
        is_injected: layer.is_injected,
    });
    DiskDescription {
        recipe: DISK_RECIPE,
        key: disk.key.to_string(),
        layers: layers.collect(),
        format: options.format.word().to_owned(),
        layout: options.layout.word().to_owned(),
        size_bytes: options.size_bytes,
        free_bytes: options.free_bytes,
        free_inodes: options.free_inodes,
        journal_bytes: options.journal_bytes,
        is_growable: options.is_growable,
        verity: disk.verity.as_ref().map(describe_verity),
        label: options.label.clone(),
        uuid: options.uuid.map(|uuid| uuid::Uuid::from_bytes(uuid).to_string()),
        max_mtime_seconds: options.max_mtime,
        allocated_bytes: disk.allocated,
        entries: disk.entries,
        anomalies: disk.anomalies.bits(),
        ..DiskDescription::default()
    }
}
