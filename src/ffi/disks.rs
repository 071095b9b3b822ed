//! Disks of images.

use std::ffi::{CString, c_char, c_void};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::args::{Call, SizedStruct, borrow_handle, call, check_flags, free, into_handle, invalid};
use super::disk_files::bl_disk_file;
use super::extract::{bl_progress_callback, progress_callback};
use super::handles::{bl_cancel, bl_error, bl_status, bl_storage};
use super::images::bl_image;
use super::leases::bl_lease;
use super::limits::bl_layer_limits;
use crate::disk::DiskFormat;
use crate::error::{Error, Result, Status};
use crate::image_disk::{Disk, DiskLayout, DiskOptions, GUEST_DEVICE, KeptDisk};

/// bl_disk_options.format: ext4, which every Linux guest mounts, in one raw file. The default.
pub const BL_DISK_EXT4: u32 = 0;
/// bl_disk_options.format: EROFS, read-only, for Linux 5.4 or newer.
pub const BL_DISK_EROFS: u32 = 1;

/// bl_disk_options.layout: one raw file with everything, in which there is nothing that a layer hides. Where the file
/// system can, it shares blocks with the store. The default.
pub const BL_DISK_LAYOUT_FLAT: u32 = 0;
/// bl_disk_options.layout: a directory, on the store's file system. It has metadata, the layers'
/// own disks as further names of the store's files, and a VMDK descriptor. That puts them one
/// behind the other. What a layer hides is still there for whoever reads the device.
pub const BL_DISK_LAYOUT_MERGED: u32 = 1;

/// bl_disk_options.flags: replace what has the destination's name, a file by a file, a directory by a directory.
pub const BL_DISK_FLAG_REPLACE: u64 = 1;
/// bl_disk_options.flags: refuse a layer with any anomaly, as BL_E_MALFORMED.
pub const BL_DISK_FLAG_STRICT: u64 = 2;

/// bl_disk_options.flags: leave no disks of layers in the store that are not there yet. Another image with the same layers
/// has to read these again.
pub const BL_DISK_FLAG_DIRECT: u64 = 4;

/// bl_disk_options.flags: an ext4 with a journal, for guests that write.
pub const BL_DISK_FLAG_JOURNAL: u64 = 8;
/// bl_disk_options.flags: an ext4 that can grow while it is mounted, to a thousand times its size.
pub const BL_DISK_FLAG_GROWABLE: u64 = 16;
/// bl_disk_options.flags: hashes of all blocks behind the file system, for dm-verity. A guest that knows their root
/// (BL_DISK_TEXT_ROOT_HASH) reads nothing else. In a merged disk they are the last of its files.
pub const BL_DISK_FLAG_VERITY: u64 = 32;

/// bl_disk_text(): the file to attach.
pub const BL_DISK_TEXT_PATH: u32 = 1;
/// bl_disk_text(): what a VMM calls the format of that file: "raw" or "vmdk". No VMM should guess it.
pub const BL_DISK_TEXT_FORMAT: u32 = 2;
/// bl_disk_text(): the file system, as mount(2) calls it: "ext4" or "erofs".
pub const BL_DISK_TEXT_FILE_SYSTEM: u32 = 3;
/// bl_disk_text(): the UUID of the file system.
pub const BL_DISK_TEXT_UUID: u32 = 4;
/// bl_disk_text(): a digest of everything that the disk's bytes depend on: layers, options, the version of the recipe.
pub const BL_DISK_TEXT_KEY: u32 = 5;
/// bl_disk_text(): what a Linux guest is told on its command line, where the disk is its first virtio disk. NULL for a disk of
/// bl_format_disk(), which nothing can be started with.
pub const BL_DISK_TEXT_KERNEL_ARGS: u32 = 6;
/// bl_disk_text(): the root of the hashes, 64 hexadecimal digits; NULL without BL_DISK_FLAG_VERITY.
pub const BL_DISK_TEXT_ROOT_HASH: u32 = 7;
/// bl_disk_text(): the table for dmsetup, where the disk is the guest's first virtio disk; NULL without BL_DISK_FLAG_VERITY.
pub const BL_DISK_TEXT_VERITY_TABLE: u32 = 8;

/// What disk it is to be. Zero in a field is its default; initialise with BL_DISK_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_disk_options {
    /// sizeof(bl_disk_options).
    pub struct_size: usize,
    /// BL_DISK_FLAG_*, or 0.
    pub flags: u64,
    /// BL_DISK_EXT4 or BL_DISK_EROFS.
    pub format: u32,
    /// BL_DISK_LAYOUT_*: what it is made of. ext4 has one layout.
    pub layout: u32,
    /// Bytes of an ext4; 0 is what it needs, and free_bytes. BL_E_NO_SPACE says how many it takes, where these are too few.
    pub size_bytes: u64,
    /// Bytes of an ext4 that are to be free. They are a part of size_bytes, where that is not 0.
    pub free_bytes: u64,
    /// Inodes of an ext4 that are to be free. One that has free room has one for each 16 KiB at least.
    pub free_inodes: u64,
    /// Bytes of the journal with BL_DISK_FLAG_JOURNAL, 4,194,304 to 41,943,040,000; 0 is as many as mke2fs takes.
    pub journal_bytes: u64,
    /// An archive of the host's, packed or not, that goes on top of the image as a layer would; may be NULL.
    pub top_layer_path: *const c_char,
    /// What goes on top of that, each taking the place of those before it; ends with NULL, and may be NULL. It becomes a layer,
    /// whose disk the store has once, whichever images it goes on.
    pub files: *const *const bl_disk_file,
    /// The label of the file system, at most 16 bytes in ext4 and 15 in EROFS; NULL is none.
    pub label: *const c_char,
    /// The UUID of the file system, as text; NULL is one that is made of the layers and the options.
    pub uuid: *const c_char,
    /// What was modified later than this, in seconds since 1970, has this time; 0 is not to change any.
    pub max_mtime_seconds: i64,
    /// Seconds for which bl_keep_disk() has the disk held; 0 is a day.
    pub lease_seconds: u64,
    /// What each layer may cost. NULL is the defaults.
    pub limits: *const bl_layer_limits,
    /// Ends the call early; may be NULL.
    pub cancel: *mut bl_cancel,
    /// Milliseconds after which the call ends with BL_E_TIMEOUT; 0 is never.
    pub timeout_ms: u64,
    /// Is told of progress. First of each layer that has no disk yet, while that is made. Then of
    /// all layers, while they are put on top of each other. May be NULL.
    pub progress: bl_progress_callback,
    /// Handed to every call of progress.
    pub progress_data: *mut c_void,
}

// SAFETY: integers, pointers, and a function pointer for which zero is none. The caller vouches that
// one which is not zero is a function.
unsafe impl SizedStruct for bl_disk_options {}

/// What a disk came to. Initialise with BL_DISK_INFO_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_disk_info {
    /// sizeof(bl_disk_info); set by the caller.
    pub struct_size: usize,
    /// Bytes of the device that a guest sees.
    pub size_bytes: u64,
    /// Bytes that its files take in their file system, when it was made; what they share with others counts too.
    pub allocated_bytes: u64,
    /// Entries of all layers.
    pub entries: u64,
    /// BL_ANOMALY_* bits: what was odd and yet accepted.
    pub anomalies: u64,
    /// How many files it has, for bl_disk_get_part().
    pub parts: u64,
    /// 1 when the store kept it already.
    pub cached: u32,
    /// Zero.
    pub reserved: u32,
}

// SAFETY: integers only.
unsafe impl SizedStruct for bl_disk_info {}

/// A file that is a part of a disk, or all of it. Initialise with BL_DISK_PART_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_disk_part {
    /// sizeof(bl_disk_part); set by the caller.
    pub struct_size: usize,
    /// The file. Valid until bl_disk_free().
    pub path: *const c_char,
    /// Where on the device it begins, in bytes.
    pub offset_bytes: u64,
    /// Bytes of the device that it has, from the beginning of the file on.
    pub length_bytes: u64,
}

// SAFETY: integers and a pointer.
unsafe impl SizedStruct for bl_disk_part {}

/// A disk that was made. It may be used by several threads at once. Freeing it leaves the disk where it is.
pub struct bl_disk {
    disk: Disk,
    /// By field, from 1.
    texts: Vec<Option<CString>>,
    paths: Vec<CString>,
}

impl bl_disk {
    fn new(disk: Disk) -> Result<bl_disk> {
        let path = |path: &PathBuf| bytes(path.clone().into_os_string().into_vec());
        let texts = [
            None,
            Some(disk.path.clone().into_os_string().into_vec()),
            Some(disk.image_format().into()),
            Some(disk.file_system().into()),
            Some(uuid::Uuid::from_bytes(disk.uuid).to_string().into()),
            Some(disk.key.as_str().into()),
            disk.kernel_args().map(String::into_bytes),
            disk.verity.as_ref().map(|verity| verity.root_hash_hex().into()),
            disk.verity.as_ref().map(|verity| verity.table(GUEST_DEVICE).into()),
        ];
        Ok(bl_disk {
            texts: texts.into_iter().map(|text| text.map(bytes).transpose()).collect::<Result<_>>()?,
            paths: disk.parts.iter().map(|part| path(&part.path)).collect::<Result<_>>()?,
            disk,
        })
    }
}

fn bytes(value: Vec<u8>) -> Result<CString> {
    CString::new(value).map_err(|_| Error::new(Status::Internal, "disk: a path with a NUL in it"))
}

/// Makes a disk of an image that a guest mounts, as an ext4 or a read-only EROFS. It has all
/// layers in turn, with what later ones hide left out. Root is not needed: owners, devices and
/// attributes are the layers'. Each layer becomes a disk of its own in the store first, as with
/// BL_LAYER_EROFS, unless it is one. Another image with the same layers needs only the others. The
/// same layers and options give the same bytes. The disk appears at destination when it is whole, a
/// file or, with BL_DISK_LAYOUT_MERGED, a directory; its folder must be there. While it is made it
/// lies beside the destination, as `.<name>.<random>.assembling`. It is not flushed to the disk.
/// docs/disks.md says how VMMs attach it.
///
/// @param options NULL is the defaults.
///
/// @retval BL_OK
/// @retval BL_E_NOT_FOUND where the store lacks a layer, or there is no folder
/// @retval BL_E_EXISTS where the destination is taken
/// @retval BL_E_UNSUPPORTED for BL_DISK_LAYOUT_MERGED on another file system than the store,
///   and for what is in a layer
/// @retval BL_E_STATE where a layer's disk in the store is damaged, which bl_check() mends. Also where a source of
///   options.files is changed while it is read
/// @retval BL_E_INVALID_ARGUMENT for a label that is too long, a UUID that is none, or a path of options.files that cannot be
/// @retval BL_E_MALFORMED for what is in a layer
/// @retval BL_E_UNSAFE_PATH for what is in a layer
/// @retval BL_E_LIMIT for what is in a layer, or a disk of more than 16 TiB
/// @retval BL_E_DIGEST_MISMATCH for what is in a layer
/// @retval BL_E_CANCELLED the token was triggered
/// @retval BL_E_TIMEOUT the time was over
/// @retval BL_E_CALLBACK the callback ended it
/// @retval BL_E_NO_SPACE the host's disk is full, or options.size_bytes are too few: the message says how many it takes
/// @retval BL_E_PERMISSION the system, or a read-only store that lacks a layer's disk, refuses
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// @note After an error the destination is as it was.
///
/// Ownership: release *out with bl_disk_free().
/// Cost: reads each layer that has no disk yet once; then reads the layers' records, and writes the metadata. A flat disk
/// is copied or shares its blocks. Threads as in bl_extract_layer().
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_create_disk(
    storage: *mut bl_storage,
    image: *const bl_image,
    destination: *const c_char,
    options: *const bl_disk_options,
    out: *mut *mut bl_disk,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let out = c.out(out, "out")?;
            let storage = c.handle(storage, "storage")?;
            let image = c.handle(image, "image")?;
            let destination = c.path(destination, "destination")?;
            let options = disk_options(c, c.options(options, "options")?)?;
            let disk = storage.0.create_disk(image.image(), destination, &options)?;
            out.set(into_handle(bl_disk::new(disk)?));
            Ok(())
        })
    }
}

/// Makes an ext4 without content, for a guest that writes. Without lower it is a scratch disk. With it, it is the writable
/// layer over a disk of that image: it has the directories `upper` and `work` for an overlay mount. The overlay shows owner, mode, time
/// and attributes of `upper` as those of its root, so that they are those of the image's root. What is free are holes.
///
/// @param lower may be NULL.
/// @param options with size_bytes or free_bytes.
///
/// @retval BL_OK
/// @retval BL_E_INVALID_ARGUMENT without a size, or for BL_DISK_EROFS
/// @retval BL_E_NO_SPACE options.size_bytes are too few: the message says how many it takes
/// @return otherwise as bl_create_disk()
///
/// Ownership: release *out with bl_disk_free().
/// Cost: some milliseconds; with an image whose layers have no disks yet as bl_create_disk().
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_format_disk(
    storage: *mut bl_storage,
    lower: *const bl_image,
    destination: *const c_char,
    options: *const bl_disk_options,
    out: *mut *mut bl_disk,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let out = c.out(out, "out")?;
            let storage = c.handle(storage, "storage")?;
            let lower = c.optional_handle(lower);
            let destination = c.path(destination, "destination")?;
            let options = disk_options(c, c.options(options, "options")?)?;
            let disk = storage.0.format_disk(lower.map(bl_image::image), destination, &options)?;
            out.set(into_handle(bl_disk::new(disk)?));
            Ok(())
        })
    }
}

/// Makes a disk of an image as bl_create_disk() does, and keeps it in the store, in `disks`. A disk that is there for the same
/// layers and options is found again in a moment, and made anew with BL_DISK_FLAG_REPLACE. A collection keeps it as long as it
/// keeps all of the image's layers, or the lease lives. After a restart of the machine a disk that was not flushed before is
/// gone: ask again, and do not note its path.
///
/// @param options NULL is the defaults.
/// @param lease keeps a collection from taking the disk. It is the host's to extend (bl_lease_extend) as long as a guest has the
///   disk, and to end (bl_lease_release) after that.
///
/// @retval BL_OK
/// @retval BL_E_NOT_FOUND where the store lacks a layer, and the disk is not there
/// @retval BL_E_PERMISSION for a read-only store, or the system refuses
/// @return otherwise as bl_create_disk()
///
/// Ownership: release *out with bl_disk_free() and *lease with bl_lease_free(), which does not end it.
/// Cost: for a disk that is there a few small reads, and the lease, which is flushed. What options.files and
/// options.top_layer_path name is read each time. Otherwise as bl_create_disk().
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_keep_disk(
    storage: *mut bl_storage,
    image: *const bl_image,
    options: *const bl_disk_options,
    out: *mut *mut bl_disk,
    lease: *mut *mut bl_lease,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            // Both are reset, whichever is wrong.
            let (out, lease) = (c.out(out, "out"), c.out(lease, "lease"));
            let (out, lease) = (out?, lease?);
            let storage = c.handle(storage, "storage")?;
            let image = c.handle(image, "image")?;
            let options = disk_options(c, c.options(options, "options")?)?;
            let KeptDisk { disk, lease: held, .. } = storage.0.keep_disk(image.image(), &options)?;
            let disk = bl_disk::new(disk)?;
            lease.set(into_handle(bl_lease::new(held)?));
            out.set(into_handle(disk));
            Ok(())
        })
    }
}

/// What a disk says of itself. Valid until bl_disk_free().
///
/// @param field BL_DISK_TEXT_*.
///
/// @return NULL for a field that is none, and for NULL.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_disk_text(disk: *const bl_disk, field: u32) -> *const c_char {
    // SAFETY: the caller passes NULL or a live handle.
    let disk = unsafe { borrow_handle(disk) };
    let found = disk.and_then(|disk| disk.texts.get(field as usize)).and_then(Option::as_ref);
    found.map_or(std::ptr::null(), |text| text.as_ptr())
}

/// How large a disk is, and what it came to.
///
/// @retval BL_OK
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_disk_get_info(
    disk: *const bl_disk,
    info: *mut bl_disk_info,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let info = c.required_result(info, "info")?;
            let disk = &c.handle(disk, "disk")?.disk;
            info.set(&bl_disk_info {
                struct_size: 0,
                size_bytes: disk.size,
                allocated_bytes: disk.allocated,
                entries: disk.entries,
                anomalies: disk.anomalies.bits(),
                parts: disk.parts.len() as u64,
                cached: disk.cached.into(),
                reserved: 0,
            });
            Ok(())
        })
    }
}

/// One of the files of a disk, in the order of the device: for hosts that put parts together themselves.
///
/// @param index from 0; below bl_disk_info.parts.
///
/// @retval BL_OK
/// @retval BL_E_INVALID_ARGUMENT for an index that is none
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_disk_get_part(
    disk: *const bl_disk,
    index: usize,
    part: *mut bl_disk_part,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let out = c.required_result(part, "part")?;
            let disk = c.handle(disk, "disk")?;
            let none = || invalid("index", &format!("is {index}, of {} parts", disk.paths.len()));
            let (path, part) = disk.paths.get(index).zip(disk.disk.parts.get(index)).ok_or_else(none)?;
            out.set(&bl_disk_part {
                struct_size: 0,
                path: path.as_ptr(),
                offset_bytes: part.offset,
                length_bytes: part.length,
            });
            Ok(())
        })
    }
}

/// Releases it; NULL is no error. The disk stays where it is.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_disk_free(disk: *mut bl_disk) {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { free(disk) }
}

fn disk_options(c: &Call<'_>, options: bl_disk_options) -> Result<DiskOptions> {
    let for_writing = BL_DISK_FLAG_JOURNAL | BL_DISK_FLAG_GROWABLE;
    let flags = BL_DISK_FLAG_REPLACE | BL_DISK_FLAG_STRICT | BL_DISK_FLAG_DIRECT | BL_DISK_FLAG_VERITY | for_writing;
    check_flags(options.flags, flags, "options.flags")?;
    let format = match options.format {
        BL_DISK_EXT4 => DiskFormat::Ext4,
        BL_DISK_EROFS => DiskFormat::Erofs,
        other => {
            let why = format!("options.format is {other}, not one of BL_DISK_EXT4 and BL_DISK_EROFS");
            return Err(Error::new(Status::Unsupported, why));
        }
    };
    let layout = match options.layout {
        BL_DISK_LAYOUT_FLAT => DiskLayout::Flat,
        BL_DISK_LAYOUT_MERGED => DiskLayout::Merged,
        other => {
            let why = format!("options.layout is {other}, not one of BL_DISK_LAYOUT_*");
            return Err(Error::new(Status::Unsupported, why));
        }
    };
    let given = |text: *const c_char, name| (!text.is_null()).then(|| c.text(text, name)).transpose();
    let uuid = given(options.uuid, "options.uuid")?.map(|text| {
        let parsed = uuid::Uuid::parse_str(text);
        parsed.map(uuid::Uuid::into_bytes).map_err(|_| invalid("options.uuid", "is no UUID"))
    });
    let has = |flag: u64| options.flags & flag != 0;
    let files = c.list(options.files, "options.files")?.into_iter().enumerate();
    let files = files.map(|(i, file)| file.to_disk_file(c, &format!("options.files[{i}]")));
    let top_layer =
        (!options.top_layer_path.is_null()).then(|| c.path(options.top_layer_path, "options.top_layer_path"));
    if options.journal_bytes > 0 && !has(BL_DISK_FLAG_JOURNAL) {
        return Err(invalid("options.journal_bytes", "is for BL_DISK_FLAG_JOURNAL"));
    }
    Ok(DiskOptions {
        format,
        layout,
        size_bytes: options.size_bytes,
        free_bytes: options.free_bytes,
        free_inodes: options.free_inodes,
        journal_bytes: has(BL_DISK_FLAG_JOURNAL).then_some(options.journal_bytes),
        is_growable: has(BL_DISK_FLAG_GROWABLE),
        verity: has(BL_DISK_FLAG_VERITY),
        top_layer: top_layer.transpose()?.map(Path::to_path_buf),
        files: files.collect::<Result<_>>()?,
        replace: has(BL_DISK_FLAG_REPLACE),
        label: given(options.label, "options.label")?.unwrap_or_default().to_owned(),
        uuid: uuid.transpose()?,
        max_mtime: (options.max_mtime_seconds != 0).then_some(options.max_mtime_seconds),
        strict: has(BL_DISK_FLAG_STRICT),
        direct: has(BL_DISK_FLAG_DIRECT),
        lease_time: (options.lease_seconds > 0).then(|| Duration::from_secs(options.lease_seconds)),
        limits: c.options::<bl_layer_limits>(options.limits, "options.limits")?.to_limits(),
        progress: options.progress.map(|function| progress_callback(function, options.progress_data)),
        interrupt: c.interrupt(options.cancel, options.timeout_ms),
    })
}
