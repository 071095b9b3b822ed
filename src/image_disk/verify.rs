//! Whether a disk that the store keeps is still what was made: it is compared with what would be made now.

use std::collections::HashSet;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};

use super::hashes::Hashes;
use super::kept::{flat_name, kept_id};
use super::layers::Layers;
use super::options::{DiskLayout, DiskOptions};
use super::output::{DESCRIPTOR, METADATA, MergedFiles, VERITY, part_name, write_tree};
use crate::digest::Digest;
use crate::disk::{DiskComparison, DiskFormat, DiskId, Verity, VmdkPart, WrittenDisk, disk_key, vmdk_descriptor};
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::limits::LayerLimits;
use crate::store::{Described, DescribedPart, DescribedVerity, DiskDescription, Folder, Storage, has_size};
use crate::sys;
use crate::unpack::{Spend, TreeForm, Verdict};

/// What a look at a kept disk came to.
pub(crate) enum KeptDiskVerdict {
    Good,
    Damaged(String),
    /// Its description is not what was written, or it has none.
    NoDescription,
    /// The disks of its layers are not in the store, so that there is nothing to compare with.
    Unknown,
}

impl From<Verdict> for KeptDiskVerdict {
    fn from(verdict: Verdict) -> KeptDiskVerdict {
        verdict.map_or(KeptDiskVerdict::Good, KeptDiskVerdict::Damaged)
    }
}

impl Storage {
    /// Compares a kept disk, whose directory is given. What is of damaged trees is no measure for it.
    pub(crate) fn verify_kept_disk(
        &self,
        (name, folder): (&str, BorrowedFd<'_>),
        damaged_trees: &HashSet<String>,
        interrupt: &Interrupt,
        spend: &mut Spend<'_>,
    ) -> Result<KeptDiskVerdict> {
        let damaged = |why: &str| Ok(KeptDiskVerdict::Damaged(why.to_owned()));
        let description = match self.describe_kept_disk(folder)? {
            Described::Good(description) => description,
            Described::Stale => return Ok(KeptDiskVerdict::Unknown),
            Described::Damaged => return Ok(KeptDiskVerdict::NoDescription),
        };
        let Some(options) = options_of(&description).filter(|options| options.check().is_ok()) else {
            return damaged("its description is of another kind");
        };
        let digests = |text: &str| Digest::parse(text).ok();
        let layers = description.layers.iter().map(|layer| Some((digests(&layer.digest)?, digests(&layer.diff_id)?)));
        let Some(stack) = layers.collect::<Option<Vec<(Digest, Digest)>>>() else {
            return damaged("its description has no digests");
        };
        let key = disk_key(&options.words(), stack.iter().map(|(_, diff_id)| diff_id));
        if key.as_str() != description.key || kept_name(&description, &stack, &options) != name {
            return damaged("its description is of another disk");
        }
        let kept = KeptFiles { folder, path: &self.directory.object_path(Folder::Disks, name) };
        if let Some(why) = kept.compare_files(&description, &options, &key)? {
            return Ok(KeptDiskVerdict::Damaged(why));
        }
        if stack.iter().any(|(layer, _)| damaged_trees.contains(&TreeForm::EROFS.tree_name(layer))) {
            return Ok(KeptDiskVerdict::Unknown);
        }
        let Some(layers) = Layers::stored(self, stack)? else { return Ok(KeptDiskVerdict::Unknown) };
        let options = DiskOptions { interrupt: interrupt.clone(), ..options };
        let id = DiskId::of_image(&key, options.uuid, &options.label);
        let described = description.verity.as_ref();
        let verdict = match options.layout {
            DiskLayout::Flat => kept.compare_flat(&layers, (&id, described), &options, spend),
            DiskLayout::Merged => kept.compare_merged(&layers, (&id, described), &options, spend),
        };
        Ok(verdict?.into())
    }
}

/// The name that a disk of this description has.
fn kept_name(description: &DiskDescription, stack: &[(Digest, Digest)], options: &DiskOptions) -> String {
    let claims = description.layers.iter().map(|layer| layer.is_claimed);
    let layers =
        stack.iter().zip(claims).map(|((digest, diff_id), is_claimed)| (digest, is_claimed.then_some(diff_id)));
    kept_id(layers, options).file_stem()
}

/// The options that a kept disk was made with; `None` for what this version does not make.
fn options_of(description: &DiskDescription) -> Option<DiskOptions> {
    let formats = [DiskFormat::Ext4, DiskFormat::Erofs];
    let layouts = [DiskLayout::Flat, DiskLayout::Merged];
    let uuid = description.uuid.as_deref().map(|text| uuid::Uuid::parse_str(text).map(uuid::Uuid::into_bytes));
    Some(DiskOptions {
        format: formats.into_iter().find(|format| format.word() == description.format)?,
        layout: layouts.into_iter().find(|layout| layout.word() == description.layout)?,
        size_bytes: description.size_bytes,
        free_bytes: description.free_bytes,
        free_inodes: description.free_inodes,
        journal_bytes: description.journal_bytes,
        is_growable: description.is_growable,
        verity: description.verity.is_some(),
        label: description.label.clone(),
        uuid: uuid.transpose().ok()?,
        max_mtime: description.max_mtime_seconds,
        // What was within limits when it was made is within them now, whatever they are.
        limits: LayerLimits::unlimited(),
        ..DiskOptions::default()
    })
}

/// What is wrong with the root that a description has.
fn other_root(described: Option<&DescribedVerity>, found: Option<&Verity>) -> Verdict {
    let is_same = described.map(|of| of.root_hash.as_str()) == found.map(Verity::root_hash_hex).as_deref();
    (!is_same).then(|| "its description has another root of hashes".to_owned())
}

/// The files of a kept disk.
struct KeptFiles<'a> {
    folder: BorrowedFd<'a>,
    path: &'a Path,
}

impl KeptFiles<'_> {
    /// What can be said without the layers: whether all files are there, as long as they were, and the descriptor.
    fn compare_files(&self, description: &DiskDescription, options: &DiskOptions, key: &Digest) -> Result<Verdict> {
        if let Some(file) = description.files().find(|file| !has_size(self.folder, &file.name, file.bytes)) {
            return Ok(Some(format!("{} is missing, or not as long as it was", file.name)));
        }
        if options.layout == DiskLayout::Flat {
            return Ok(None);
        }
        let file = match self.open(DESCRIPTOR)? {
            Ok(file) => file,
            Err(why) => return Ok(Some(why)),
        };
        let part = |part: &DescribedPart| VmdkPart { name: part.name.clone(), bytes: part.bytes };
        let text = vmdk_descriptor(&description.parts.iter().map(part).collect::<Vec<_>>(), key);
        let found = sys::read_start(file.as_fd(), text.len() + 1);
        let found = found.map_err(|errno| Error::os(errno, format_args!("read {}", self.path.display())))?;
        Ok((found != text.as_bytes()).then(|| format!("{DESCRIPTOR} is not what was written")))
    }

    fn compare_flat(
        &self,
        layers: &Layers<'_>,
        (id, described): (&DiskId, Option<&DescribedVerity>),
        options: &DiskOptions,
        spend: &mut Spend<'_>,
    ) -> Result<Verdict> {
        let tree = layers.merge(options)?;
        let file = match self.open(&flat_name(options.format))? {
            Ok(file) => file,
            Err(why) => return Ok(Some(why)),
        };
        let hashes = if options.verity { layers.computed_hashes(spend)? } else { Vec::new() };
        let wanted = if options.verity { Hashes::Given(&hashes) } else { Hashes::Unwanted };
        let open = |number: u16| layers.open_with(number, wanted, &options.interrupt);
        let mut comparison = DiskComparison::new(file.as_fd(), spend);
        let parts = (&layers.sizes[..], &open as _);
        let spec = options.spec(id);
        let WrittenDisk { verity, .. } = spec.write(&tree, parts, &mut comparison, &|_| Ok(()), &options.interrupt)?;
        Ok(comparison.finish()?.or_else(|| other_root(described, verity.as_ref())))
    }

    fn compare_merged(
        &self,
        layers: &Layers<'_>,
        (id, described): (&DiskId, Option<&DescribedVerity>),
        options: &DiskOptions,
        spend: &mut Spend<'_>,
    ) -> Result<Verdict> {
        let tree = layers.merge(options)?;
        let file = match self.open(METADATA)? {
            Ok(file) => file,
            Err(why) => return Ok(Some(why)),
        };
        let hashes = if options.verity { layers.computed_hashes(spend)? } else { Vec::new() };
        let mut comparison = DiskComparison::new(file.as_fd(), spend);
        let merged = MergedFiles::write(
            layers,
            &tree,
            &options.spec(id),
            &mut comparison,
            Hashes::Given(&hashes),
            &options.interrupt,
        )?;
        if let Some(why) = comparison.finish()? {
            return Ok(Some(format!("{METADATA} {why}")));
        }
        if let Some(hashes) = &merged.tree {
            let file = match self.open(VERITY)? {
                Ok(file) => file,
                Err(why) => return Ok(Some(why)),
            };
            let mut comparison = DiskComparison::new(file.as_fd(), spend);
            write_tree(hashes, &mut comparison)?;
            let verity = hashes.verity();
            let verdict = comparison.finish()?.map(|why| format!("{VERITY} {why}"));
            if let Some(why) = verdict.or_else(|| other_root(described, Some(&verity))) {
                return Ok(Some(why));
            }
        }
        for (number, bytes) in merged.disk.parts {
            let name = part_name(number);
            if let Some(why) = self.compare_part(layers, (number, &name), bytes, spend)? {
                return Ok(Some(format!("{name} {why}")));
            }
        }
        Ok(None)
    }

    /// A part that is the layer's own disk is as good as that is, which is looked at by itself.
    fn compare_part(
        &self,
        layers: &Layers<'_>,
        (number, name): (usize, &str),
        bytes: u64,
        spend: &mut Spend<'_>,
    ) -> Result<Verdict> {
        let file = match self.open(name)? {
            Ok(file) => file,
            Err(why) => return Ok(Some(why)),
        };
        let (layer, _) = layers.open(number as u16)?;
        let stat = |file: &OwnedFd| {
            rustix::fs::fstat(file)
                .map(|stat| sys::file_id(&stat))
                .map_err(|errno| Error::os(errno, format_args!("look at {}", self.path.join(name).display())))
        };
        if stat(&file)? == stat(&layer.file)? {
            return Ok(None);
        }
        let mut comparison = DiskComparison::new(file.as_fd(), spend);
        comparison.all_of(&layer, bytes)?;
        comparison.finish()
    }

    fn open(&self, name: &str) -> Result<Result<OwnedFd, String>> {
        let missing = || Ok(Err(format!("{name} is missing")));
        match rustix::fs::statat(self.folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if sys::is_regular(&stat) => {}
            _ => return missing(),
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.folder, name, flags, Mode::empty());
        file.map(Ok).map_err(|errno| Error::os(errno, format_args!("open {}", self.path.join(name).display())))
    }
}
