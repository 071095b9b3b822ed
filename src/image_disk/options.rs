//! What a disk is to be, and what it came to.

use std::path::PathBuf;
use std::time::Duration;

use super::inject::DiskFile;
use crate::digest::Digest;
use crate::disk::{DiskFormat, DiskId, DiskSpec, Ext4Room, Verity};
use crate::error::{Error, Result, Status, quoted};
use crate::interrupt::Interrupt;
use crate::layer::Anomalies;
use crate::limits::LayerLimits;
use crate::options::options;
use crate::unpack::{ProgressCallback, TreeForm, TreeOptions};

/// What a disk is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DiskLayout {
    /// One raw file with everything, in which there is nothing that a layer hides. Where the file system can, it shares blocks with
    /// the store.
    #[default]
    Flat,
    /// A directory: metadata, the layers' own disks as further names of the store's files, and a VMDK descriptor that puts
    /// them one behind the other. What a layer hides is still there for whoever reads the device.
    Merged,
}

impl DiskLayout {
    pub(super) fn word(self) -> &'static str {
        match self {
            DiskLayout::Flat => "flat",
            DiskLayout::Merged => "merged",
        }
    }
}

/// A guest's first virtio disk.
pub(crate) const GUEST_DEVICE: &str = "/dev/vda";
/// The smallest journal (Linux, fs/jbd2, `JBD2_MIN_JOURNAL_BLOCKS`).
const MIN_JOURNAL_BYTES: u64 = 4 << 20;
/// The largest one that mke2fs makes (e2fsprogs, misc/util.c, `figure_journal_size`): 10,240,000 blocks.
const MAX_JOURNAL_BYTES: u64 = 10_240_000 * 4096;

options! {
    /// How to make a disk.
    #[derive(Clone, Debug, Default)]
    pub struct DiskOptions {
        /// The file system.
        pub format: DiskFormat,
        /// What it is made of.
        pub layout: DiskLayout,
        /// What has the destination's name is replaced: a file by a file, a directory by a directory.
        pub replace: bool,
        /// The label of the file system, at most 16 bytes in ext4 and 15 in EROFS.
        pub label: String,
        /// Bytes of an ext4, in whole blocks of 4,096; 0 is what it needs, and `free_bytes`. `NO_SPACE` where that is too little,
        /// before anything is written.
        pub size_bytes: u64,
        /// Bytes of an ext4 that are to be free, at least. They are a part of `size_bytes`, where that is not 0.
        pub free_bytes: u64,
        /// Inodes of an ext4 that are to be free. One that has free room has one for each 16 KiB at least.
        pub free_inodes: u64,
        /// Bytes of a journal of an ext4, for guests that write: 4,194,304 to 41,943,040,000. 0 is as many as mke2fs takes.
        pub journal_bytes: Option<u64>,
        /// An ext4 that can grow while it is mounted.
        pub is_growable: bool,
        /// Hashes of all blocks behind the file system, so that a guest that knows their root reads nothing else (dm-verity).
        pub verity: bool,
        /// An archive of the host's that goes on top of the image, as a layer would.
        pub top_layer: Option<PathBuf>,
        /// What goes on top of that. A later one takes the place of an earlier one.
        pub files: Vec<DiskFile>,
        /// The UUID of the file system; `None` is one that is made of the layers and the options.
        pub uuid: Option<[u8; 16]>,
        /// What was modified later, in seconds since 1970, has this time.
        pub max_mtime: Option<i64>,
        /// Refuse a layer with any [`Anomalies`].
        pub strict: bool,
        /// Leave no disks of layers in the store that are not there yet. Another image with the same layers has to read these
        /// again.
        pub direct: bool,
        /// How long a disk that the store keeps is held; `None` is a day.
        pub lease_time: Option<Duration>,
        /// What each layer may cost.
        pub limits: LayerLimits,
        /// Is told how far it came in a layer. First while its own disk is made, where that is
        /// missing, and then while it is put on top of the others.
        pub progress: Option<ProgressCallback>,
        /// What may end it early.
        pub interrupt: Interrupt,
    }
}

impl DiskOptions {
    /// `INVALID_ARGUMENT` for a label that cannot be one, and for a layout that the file system cannot have.
    pub(super) fn check(&self) -> Result<()> {
        let (most, format) = (self.format.max_label_bytes(), self.format.word());
        if self.label.len() > most || self.label.contains('\0') {
            let label = quoted(self.label.as_bytes());
            let why = format!("label {label}: {format} has labels of at most {most} bytes");
            return Err(Error::new(Status::InvalidArgument, why));
        }
        if self.format != DiskFormat::Ext4 && self.is_for_writing() {
            let why = format!("{format} is read-only: it has no free room, no journal, and does not grow");
            return Err(Error::new(Status::InvalidArgument, why));
        }
        if self.verity && self.is_for_writing() {
            let why = "what is verified cannot be written to: dm-verity is without free room, a journal, and growth";
            return Err(Error::new(Status::InvalidArgument, why));
        }
        let journals = MIN_JOURNAL_BYTES..=MAX_JOURNAL_BYTES;
        if self.journal_bytes.is_some_and(|bytes| bytes > 0 && !journals.contains(&bytes)) {
            let why = format!("a journal has {MIN_JOURNAL_BYTES} to {MAX_JOURNAL_BYTES} bytes");
            return Err(Error::new(Status::InvalidArgument, why));
        }
        if self.uuid == Some([0; 16]) {
            return Err(Error::new(
                Status::InvalidArgument,
                "a UUID of zeros is none; leave it out for one of our own",
            ));
        }
        self.files.iter().try_for_each(|file| file.place().map(|_| ()))?;
        if self.layout == DiskLayout::Merged && self.format != DiskFormat::Erofs {
            let why = format!("a merged disk is EROFS, and cannot be {format}");
            return Err(Error::new(Status::InvalidArgument, why));
        }
        Ok(())
    }

    /// Whether a guest has been given a reason to write.
    pub(super) fn is_for_writing(&self) -> bool {
        self.room() != Ext4Room::default()
    }

    /// What an ext4 has besides its content.
    pub(super) fn room(&self) -> Ext4Room {
        Ext4Room {
            size_bytes: self.size_bytes,
            free_bytes: self.free_bytes,
            free_inodes: self.free_inodes,
            journal_bytes: self.journal_bytes,
            is_growable: self.is_growable,
        }
    }

    /// What a disk of this id is to be.
    pub(super) fn spec<'a>(&self, id: &'a DiskId) -> DiskSpec<'a> {
        DiskSpec { format: self.format, id, room: self.room(), has_verity: self.verity }
    }

    /// Of layers.
    pub(super) fn tree(&self) -> TreeOptions {
        TreeOptions { form: TreeForm::EROFS, strict: false, limits: self.limits.clone() }
    }

    /// What of them the bytes depend on.
    pub(super) fn words(&self) -> String {
        let (format, layout) = (self.format.word(), self.layout.word());
        let uuid = self.uuid.map_or_else(String::new, |uuid| uuid::Uuid::from_bytes(uuid).to_string());
        let max_mtime = self.max_mtime.map_or_else(String::new, |seconds| seconds.to_string());
        let room = self.room().words();
        let verity = if self.verity { "\nverity" } else { "" };
        format!(
            "format {format}{room}{verity}\nlayout {layout}\nlabel {}\nuuid {uuid}\nmax_mtime {max_mtime}",
            self.label
        )
    }
}

/// A file that is a part of a disk, or all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskPart {
    /// The file.
    pub path: PathBuf,
    /// Where on the disk it begins, in bytes.
    pub offset: u64,
    /// Bytes of the disk that it has; it begins with the file.
    pub length: u64,
}

/// A disk that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Disk {
    /// The file to attach: raw, or a VMDK descriptor.
    pub path: PathBuf,
    /// The file system.
    pub format: DiskFormat,
    /// What it is made of.
    pub layout: DiskLayout,
    /// What its bytes depend on: the layers, the options, and the version of the recipe.
    pub key: Digest,
    /// The UUID of the file system.
    pub uuid: [u8; 16],
    /// Bytes of the device that a guest sees.
    pub size: u64,
    /// Bytes that its files take in their file system; what they share with others counts too.
    pub allocated: u64,
    /// Entries of all layers.
    pub entries: u64,
    /// What was odd.
    pub anomalies: Anomalies,
    /// The store kept it already, as an earlier call made it.
    pub cached: bool,
    /// A guest can write to it: there is free room, a journal, or what it may grow by.
    pub is_writable: bool,
    /// It has nothing of an image, as one of [`crate::Storage::format_disk`].
    pub is_empty: bool,
    /// How a guest verifies it, where that was asked for.
    pub verity: Option<Verity>,
    /// The files, in the order of the device; of a flat disk one.
    pub parts: Vec<DiskPart>,
}

impl Disk {
    /// What a VMM calls the form of [`Disk::path`]; it should never have to guess.
    pub fn image_format(&self) -> &'static str {
        match self.layout {
            DiskLayout::Flat => "raw",
            DiskLayout::Merged => "vmdk",
        }
    }

    /// The file system, as mount(2) calls it.
    pub fn file_system(&self) -> &'static str {
        self.format.word()
    }

    /// What a Linux guest is told on its command line, where this is its first virtio disk. With [`Disk::verity`] its kernel has to
    /// have `CONFIG_DM_INIT`. `None` for an empty disk, which nothing can be started with.
    pub fn kernel_args(&self) -> Option<String> {
        if self.is_empty {
            return None;
        }
        let (device, mode) = (GUEST_DEVICE, if self.is_writable { "rw" } else { "ro" });
        let rest = format!("rootfstype={} {mode}", self.format.word());
        Some(match &self.verity {
            None => format!("root={device} {rest}"),
            Some(verity) => format!("dm-mod.create=\"root,,,ro,{}\" root=/dev/dm-0 {rest}", verity.table(device)),
        })
    }
}
