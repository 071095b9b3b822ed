//! Images out of files, in place, and into files.

use std::ffi::{c_char, c_int, c_void};

use super::args::{Call, SizedStruct, call, check_flags, into_handle, invalid};
use super::extract::{bl_progress_callback, progress_callback};
use super::handles::{bl_cancel, bl_error, bl_status, bl_storage};
use super::images::{bl_image, bl_names, text};
use super::tree::{bl_tree_options, tree_options};
use crate::archive::{ExportOptions, ExportTarget, ImportOptions, ImportSource, Imported};
use crate::error::Result;
use crate::oci::Platform;
use crate::store::{ImageName, Storage};
use crate::sys;

/// bl_import_options.flags: do not unpack. Then layers are read once more, to compare them with the config's diff_ids.
pub const BL_IMPORT_NO_UNPACK: u64 = 1;
/// bl_import_options.flags: no variant of the platform below the one that is wanted.
pub const BL_IMPORT_STRICT_PLATFORM: u64 = 2;
/// bl_import_options.flags: a layout's folder on the store's file system gives its layers by hard links. Whoever can
/// write to the folder's files can then change a layer. What cannot be linked is copied.
pub const BL_IMPORT_HARD_LINK: u64 = 4;

/// How to import images. Zero in a field is its default; initialise with BL_IMPORT_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_import_options {
    /// sizeof(bl_import_options).
    pub struct_size: usize,
    /// BL_IMPORT_*, or 0.
    pub flags: u64,
    /// Only the image of this name, tag or digest, as the archive has it; NULL is all of them.
    pub select: *const c_char,
    /// A reference to give it instead of its own ("app:1" is "docker.io/library/app:1"); only where there is one image. NULL: the
    /// names that the archive has.
    pub name: *const c_char,
    /// "linux/arm64/v8": which of the images of an index; NULL is this machine's.
    pub platform: *const c_char,
    /// What the trees look like, and what each layer, and the archive, may cost; NULL is the defaults.
    pub tree: *const bl_tree_options,
    /// Ends the call early; may be NULL.
    pub cancel: *mut bl_cancel,
    /// Milliseconds after which the call ends with BL_E_TIMEOUT; 0 is never.
    pub timeout_ms: u64,
    /// Is told how far reading came; may be NULL.
    pub progress: bl_progress_callback,
    /// Handed to every call of progress.
    pub progress_data: *mut c_void,
}

// SAFETY: integers, pointers, and a function pointer for which zero is none. The caller vouches that
// one which is not zero is a function.
unsafe impl SizedStruct for bl_import_options {}

/// Stores the images of a file, verified, unpacks them, and gives them their names. It takes an OCI layout (a folder,
/// or a tar archive of one) and what docker save writes, plain or compressed with gzip or zstd. The content tells
/// which. Every blob is compared with its digest, and every layer with the config's diff_ids. An archive is read
/// once, from its beginning to its end.
///
/// @param options NULL for the defaults.
/// @param out what bl_image_open() takes for each image: a name, or the manifest's digest.
///
/// @retval BL_OK
/// @retval BL_E_NOT_FOUND without a file, an image of the name or for the platform, or a blob
/// @retval BL_E_MALFORMED for what is no archive of images
/// @retval BL_E_DIGEST_MISMATCH for what is in it
/// @retval BL_E_SIZE_MISMATCH for what is in it
/// @retval BL_E_UNSAFE_PATH for what is in it
/// @retval BL_E_UNSUPPORTED for what is in it
/// @retval BL_E_LIMIT for what is in it
/// @retval BL_E_CANCELLED the token was triggered
/// @retval BL_E_TIMEOUT the time was over
/// @retval BL_E_CALLBACK the callback ended it
/// @retval BL_E_NO_SPACE the disk is full
/// @retval BL_E_PERMISSION the system, or a read-only store, refuses
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// @note After an error there is no name, and what was stored goes with the next collection.
///
/// Ownership: release *out with bl_names_free().
/// Cost: reads all of it, and writes it.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_import(
    storage: *mut bl_storage,
    path: *const c_char,
    options: *const bl_import_options,
    out: *mut *mut bl_names,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let out = c.out(out, "out")?;
            let storage = c.handle(storage, "storage")?;
            let source = ImportSource::Path(c.path(path, "path")?.to_path_buf());
            let options = import_options(c, c.options(options, "options")?)?;
            out.set(into_handle(names_of(storage.0.import(source, &options)?)?));
            Ok(())
        })
    }
}

/// The same from a descriptor of the host's: an archive in a file, from where that stands, or in a pipe or socket.
///
/// @param fd stays the host's, and is read to its end.
///
/// @return as bl_import()
/// @retval BL_E_INVALID_ARGUMENT for what is no descriptor
///
/// Ownership: release *out with bl_names_free().
/// Cost: reads all of it, and writes it.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_import_fd(
    storage: *mut bl_storage,
    fd: c_int,
    options: *const bl_import_options,
    out: *mut *mut bl_names,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let out = c.out(out, "out")?;
            let storage = c.handle(storage, "storage")?;
            let options = import_options(c, c.options(options, "options")?)?;
            let file = sys::duplicate(fd).map_err(|_| invalid("fd", "is no open descriptor"))?;
            out.set(into_handle(names_of(storage.0.import(ImportSource::File(file), &options)?)?));
            Ok(())
        })
    }
}

/// Opens an OCI layout's folder where it is, without copying its layers. The result is a store in the folder that
/// bl_local_bundle_cache_dir() names, with the image's documents and trees. A layer is read in the bundle when it is
/// needed, and compared with its digest each time. The image is used as any other, with *out as its store. If the
/// bundle's index says something else the next time, that is another store. The host removes the folders of those
/// that it no longer needs, when no process has them open.
///
/// @param storage open for writing; need not stay open.
/// @param options as for bl_import(), and with them one image must be left. With BL_IMPORT_NO_UNPACK layers are looked
///   for, and read when they are needed. NULL for the defaults.
/// @param names what bl_image_open() takes for the image; may be NULL.
///
/// @return as bl_import()
/// @retval BL_E_INVALID_ARGUMENT for several images, and for BL_IMPORT_HARD_LINK
/// @retval BL_E_UNSUPPORTED for an archive, which bl_import() takes
///
/// Ownership: release *out with bl_storage_close(), *names with bl_names_free().
/// Cost: the documents; reads the layers that are to be unpacked and are not yet.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_bundle_open(
    storage: *mut bl_storage,
    bundle_path: *const c_char,
    options: *const bl_import_options,
    out: *mut *mut bl_storage,
    names: *mut *mut bl_names,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let out = c.out(out, "out")?;
            let names = if names.is_null() { None } else { Some(c.out(names, "names")?) };
            let storage = c.handle(storage, "storage")?;
            let path = c.path(bundle_path, "bundle_path")?;
            let options = import_options(c, c.options(options, "options")?)?;
            if options.hard_link {
                return Err(invalid("options.flags", "BL_IMPORT_HARD_LINK is for what is copied"));
            }
            let (bundle, image) = storage.0.open_bundle(path, &options)?;
            if let Some(names) = names {
                names.set(into_handle(names_of(vec![image])?));
            }
            out.set(into_handle(bl_storage(bundle)));
            Ok(())
        })
    }
}

fn names_of(images: Vec<Imported>) -> Result<bl_names> {
    let mut names = Vec::new();
    for image in images {
        if image.names.is_empty() {
            names.push(text(image.manifest.to_string())?);
        }
        for name in image.names {
            names.push(text(name.to_string())?);
        }
    }
    Ok(bl_names::new(names))
}

fn import_options(c: &Call<'_>, options: bl_import_options) -> Result<ImportOptions> {
    const KNOWN: u64 = BL_IMPORT_NO_UNPACK | BL_IMPORT_STRICT_PLATFORM | BL_IMPORT_HARD_LINK;
    check_flags(options.flags, KNOWN, "options.flags")?;
    let has = |flag: u64| options.flags & flag != 0;
    let given = |text: *const c_char, name: &str| (!text.is_null()).then(|| c.text(text, name)).transpose();
    Ok(ImportOptions {
        select: given(options.select, "options.select")?.map(str::to_owned),
        name: given(options.name, "options.name")?.map(ImageName::parse).transpose()?,
        platform: given(options.platform, "options.platform")?.map(Platform::parse).transpose()?,
        strict_platform: has(BL_IMPORT_STRICT_PLATFORM),
        no_unpack: has(BL_IMPORT_NO_UNPACK),
        hard_link: has(BL_IMPORT_HARD_LINK),
        tree: tree_options(c, options.tree, "options.tree")?,
        progress: options.progress.map(|function| progress_callback(function, options.progress_data)),
        interrupt: c.interrupt(options.cancel, options.timeout_ms),
    })
}

/// bl_export_options.flags: bl_export() makes a folder that is an OCI layout, and not a tar archive.
pub const BL_EXPORT_FOLDER: u64 = 1;
/// bl_export_options.flags: replace what is at the path: a file by an archive, a folder by a folder.
pub const BL_EXPORT_REPLACE: u64 = 2;

/// How to export images. Zero in a field is its default; initialise with BL_EXPORT_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_export_options {
    /// sizeof(bl_export_options).
    pub struct_size: usize,
    /// BL_EXPORT_*, or 0.
    pub flags: u64,
    /// Ends the call early; may be NULL.
    pub cancel: *mut bl_cancel,
    /// Milliseconds after which the call ends with BL_E_TIMEOUT; 0 is never.
    pub timeout_ms: u64,
    /// Is told how many bytes went out; may be NULL.
    pub progress: bl_progress_callback,
    /// Handed to every call of progress.
    pub progress_data: *mut c_void,
}

// SAFETY: integers, pointers, and a function pointer for which zero is none. The caller vouches that
// one which is not zero is a function.
unsafe impl SizedStruct for bl_export_options {}

/// Writes images to a tar archive, or with BL_EXPORT_FOLDER to a folder. It is an OCI layout: manifests, configs and
/// layers as they are, under the names that the images were opened by. An archive has a manifest.json too, so that it
/// is also what docker load and podman load take. Every layer is compared with its digest on the way. The path gets
/// what is written when it is whole; until then it lies beside, as `.<name>.<random>.assembling`. Not flushed to the
/// disk.
///
/// @param images count of them, 1 or more.
/// @param options NULL for the defaults.
///
/// @retval BL_OK
/// @retval BL_E_INVALID_ARGUMENT for no images
/// @retval BL_E_EXISTS where the path is taken
/// @retval BL_E_NOT_FOUND where the store lacks a part
/// @retval BL_E_DIGEST_MISMATCH where one is damaged
/// @retval BL_E_SIZE_MISMATCH where one is damaged
/// @retval BL_E_CANCELLED the token was triggered
/// @retval BL_E_TIMEOUT the time was over
/// @retval BL_E_CALLBACK the callback ended it
/// @retval BL_E_NO_SPACE the disk is full
/// @retval BL_E_PERMISSION the system, or a read-only store, refuses
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// @note After an error the path is as it was.
///
/// Cost: reads and writes all of it.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_export(
    storage: *const bl_storage,
    images: *const *mut bl_image,
    count: usize,
    path: *const c_char,
    options: *const bl_export_options,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let storage = c.handle(storage, "storage")?;
            let images = c.handles(images, count, "images")?;
            let path = c.path(path, "path")?.to_path_buf();
            let options = c.options(options, "options")?;
            let is_folder = options.flags & BL_EXPORT_FOLDER != 0;
            let target = if is_folder { ExportTarget::Folder(path) } else { ExportTarget::Archive(path) };
            export(c, &storage.0, &images, target, options)
        })
    }
}

/// The same into a descriptor of the host's: a file, from where that stands, a pipe or a socket. A host that has not
/// said otherwise dies of a SIGPIPE when nobody reads.
///
/// @param fd stays the host's. After a failure it has a part of the archive.
/// @param options NULL for the defaults; without BL_EXPORT_FOLDER and BL_EXPORT_REPLACE.
///
/// @return as bl_export()
///
/// Cost: reads and writes all of it; waits for whoever reads.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_export_fd(
    storage: *const bl_storage,
    images: *const *mut bl_image,
    count: usize,
    fd: c_int,
    options: *const bl_export_options,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let storage = c.handle(storage, "storage")?;
            let images = c.handles(images, count, "images")?;
            let options = c.options(options, "options")?;
            check_flags(options.flags, 0, "options.flags")?;
            let file = sys::duplicate(fd).map_err(|_| invalid("fd", "is no open descriptor"))?;
            export(c, &storage.0, &images, ExportTarget::File(file), options)
        })
    }
}

fn export(
    c: &Call<'_>,
    storage: &Storage,
    images: &[&bl_image],
    target: ExportTarget,
    options: bl_export_options,
) -> Result<()> {
    check_flags(options.flags, BL_EXPORT_FOLDER | BL_EXPORT_REPLACE, "options.flags")?;
    let images: Vec<_> = images.iter().map(|image| image.image()).collect();
    let options = ExportOptions {
        replace: options.flags & BL_EXPORT_REPLACE != 0,
        progress: options.progress.map(|function| progress_callback(function, options.progress_data)),
        interrupt: c.interrupt(options.cancel, options.timeout_ms),
    };
    storage.export(&images, target, &options)
}
