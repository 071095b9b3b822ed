//! Images: names, and what an image says of itself.

use std::ffi::{CString, c_char};

use super::args::{SizedStruct, borrow_handle, call, free, into_handle, invalid};
use super::handles::{bl_error, bl_status, bl_storage};
use crate::digest::Digest;
use crate::error::{Error, Result, Status};
use crate::image::Image;
use crate::store::ImageName;

/// bl_image_text(): the full name that the image was opened by; absent where it was opened by digest.
pub const BL_IMAGE_NAME: u32 = 1;
/// bl_image_text(): the digest of the manifest.
pub const BL_IMAGE_MANIFEST_DIGEST: u32 = 2;
/// bl_image_text(): the digest of the config.
pub const BL_IMAGE_CONFIG_DIGEST: u32 = 3;
/// bl_image_text(): the config as it is, in JSON; absent where it is missing in the store.
pub const BL_IMAGE_CONFIG_JSON: u32 = 4;
/// bl_image_text(): when the image was made, as its maker wrote it (RFC 3339).
pub const BL_IMAGE_CREATED: u32 = 5;
/// bl_image_text(): the processor, as in GOARCH: "amd64", "arm64".
pub const BL_IMAGE_ARCHITECTURE: u32 = 6;
/// bl_image_text(): which kind of that processor, such as "v8".
pub const BL_IMAGE_VARIANT: u32 = 7;
/// bl_image_text(): the operating system, as in GOOS: "linux".
pub const BL_IMAGE_OS: u32 = 8;
/// bl_image_text(): the first words of the command, by index.
pub const BL_IMAGE_ENTRYPOINT: u32 = 9;
/// bl_image_text(): the arguments, or without an entrypoint the whole command, by index.
pub const BL_IMAGE_CMD: u32 = 10;
/// bl_image_text(): variables as "NAME=value", by index.
pub const BL_IMAGE_ENV: u32 = 11;
/// bl_image_text(): the directory to start in.
pub const BL_IMAGE_WORKING_DIR: u32 = 12;
/// bl_image_text(): "user", "uid", "user:group" or "uid:gid", to be looked up in the image.
pub const BL_IMAGE_USER: u32 = 13;
/// bl_image_text(): the signal that asks it to stop, such as "SIGTERM".
pub const BL_IMAGE_STOP_SIGNAL: u32 = 14;
/// bl_image_text(): ports that it listens on, such as "8080/tcp", by index.
pub const BL_IMAGE_EXPOSED_PORT: u32 = 15;
/// bl_image_text(): directories with data of its own, by index.
pub const BL_IMAGE_VOLUME: u32 = 16;
/// bl_image_text(): keys of the labels, sorted, by index.
pub const BL_IMAGE_LABEL_KEY: u32 = 17;
/// bl_image_text(): the label of the key with the same index.
pub const BL_IMAGE_LABEL_VALUE: u32 = 18;
/// bl_image_text(): digests of its config and layers that are not in the store, by index.
pub const BL_IMAGE_MISSING: u32 = 19;

/// bl_image_text(): the digest of the index that led to the image, where a pull came by one.
pub const BL_IMAGE_INDEX_DIGEST: u32 = 20;

/// bl_image_text(): the name in its short form, to be shown: "alpine:3.20".
pub const BL_IMAGE_FAMILIAR_NAME: u32 = 21;

/// A layer of an image. The pointers are valid until bl_image_free(). Initialise with BL_IMAGE_LAYER_INFO_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_image_layer_info {
    /// sizeof(bl_image_layer_info); set by the caller.
    pub struct_size: usize,
    /// The digest, by which it is stored and extracted.
    pub digest: *const c_char,
    /// The digest of its uncompressed bytes, for bl_extract_options.diff_id; NULL where the config does not say it.
    pub diff_id: *const c_char,
    /// The media type as the manifest has it; "" for none.
    pub media_type: *const c_char,
    /// Bytes, as it is stored.
    pub size_bytes: u64,
}

// SAFETY: integers and pointers only.
unsafe impl SizedStruct for bl_image_layer_info {}

/// Times and sizes of an image. Initialise with BL_IMAGE_USAGE_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_image_usage {
    /// sizeof(bl_image_usage); set by the caller.
    pub struct_size: usize,
    /// When the name was given to the image, in seconds since 1970; 0 where it was opened by digest.
    pub tagged_seconds: i64,
    /// When the image was last opened by this name before now, in seconds since 1970; 0 where it was opened by digest.
    pub last_used_seconds: i64,
    /// Bytes of its config and layers as they are stored, each counted once.
    pub compressed_bytes: u64,
    /// Bytes of the files in those of its layers that are extracted with default options, and of the disks of others.
    pub extracted_bytes: u64,
    /// The part of compressed_bytes that other images with a name use too.
    pub shared_bytes: u64,
    /// The rest of compressed_bytes.
    pub unique_bytes: u64,
}

// SAFETY: integers only.
unsafe impl SizedStruct for bl_image_usage {}

/// An image as it was when it was opened. It may be used by several threads at once.
pub struct bl_image {
    image: Image,
    /// By field, from 1.
    texts: Vec<Vec<CString>>,
    layers: Vec<LayerTexts>,
}

struct LayerTexts {
    digest: CString,
    diff_id: Option<CString>,
    media_type: CString,
    size: u64,
}

impl bl_image {
    pub(super) fn image(&self) -> &Image {
        &self.image
    }

    pub(super) fn new(image: Image) -> Result<bl_image> {
        let layers = image.layers().map(|(layer, diff_id)| {
            let diff_id = diff_id.map(|diff_id| text(diff_id.to_string())).transpose()?;
            let (digest, media_type) = (text(layer.digest.to_string())?, text(layer.media_type.clone())?);
            Ok(LayerTexts { digest, diff_id, media_type, size: layer.size })
        });
        let layers = layers.collect::<Result<_>>()?;
        let config = &image.config;
        let one = |value: &str| if value.is_empty() { Vec::new() } else { vec![value.to_owned()] };
        let digests = |digests: &[Digest]| digests.iter().map(Digest::to_string).collect();
        let json = String::from_utf8(image.config_bytes.clone()).map_err(|_| {
            Error::new(Status::Malformed, format!("{}: config: not UTF-8", image.manifest.config.digest))
        })?;
        let index = image.name.iter().filter_map(|tagged| tagged.index.as_ref()).map(Digest::to_string).collect();
        let texts: [(u32, Vec<String>); 21] = [
            (BL_IMAGE_NAME, image.name.iter().map(|tagged| tagged.name.to_string()).collect()),
            (BL_IMAGE_MANIFEST_DIGEST, one(&image.manifest_digest.to_string())),
            (BL_IMAGE_CONFIG_DIGEST, one(&image.manifest.config.digest.to_string())),
            (BL_IMAGE_CONFIG_JSON, one(&json)),
            (BL_IMAGE_CREATED, one(&config.created)),
            (BL_IMAGE_ARCHITECTURE, one(&config.architecture)),
            (BL_IMAGE_VARIANT, one(&config.variant)),
            (BL_IMAGE_OS, one(&config.os)),
            (BL_IMAGE_ENTRYPOINT, config.entrypoint.clone()),
            (BL_IMAGE_CMD, config.cmd.clone()),
            (BL_IMAGE_ENV, config.env.clone()),
            (BL_IMAGE_WORKING_DIR, one(&config.working_dir)),
            (BL_IMAGE_USER, one(&config.user)),
            (BL_IMAGE_STOP_SIGNAL, one(&config.stop_signal)),
            (BL_IMAGE_EXPOSED_PORT, config.exposed_ports.clone()),
            (BL_IMAGE_VOLUME, config.volumes.clone()),
            (BL_IMAGE_LABEL_KEY, config.labels.keys().cloned().collect()),
            (BL_IMAGE_LABEL_VALUE, config.labels.values().cloned().collect()),
            (BL_IMAGE_MISSING, digests(&image.missing)),
            (BL_IMAGE_INDEX_DIGEST, index),
            (BL_IMAGE_FAMILIAR_NAME, image.name.iter().map(|tagged| tagged.name.familiar().to_owned()).collect()),
        ];
        let mut by_field = vec![Vec::new()];
        for (field, values) in texts {
            debug_assert_eq!(field as usize, by_field.len());
            by_field.push(values.into_iter().map(text).collect::<Result<_>>()?);
        }
        Ok(bl_image { image, texts: by_field, layers })
    }
}

pub(super) fn text(value: String) -> Result<CString> {
    CString::new(value).map_err(|_| Error::new(Status::Malformed, "image: a text with a NUL in it"))
}

/// Texts owned by the caller. Release them with bl_names_free().
pub struct bl_names(Vec<CString>);

impl bl_names {
    pub(super) fn new(names: Vec<CString>) -> bl_names {
        bl_names(names)
    }
}

/// Gives an image a name. The manifest, its config and all its layers must be in the store. A name that stands for
/// another image changes over at once; an image may have any number of names.
///
/// @param name a reference as in "docker pull"; "alpine" is "docker.io/library/alpine:latest".
///
/// @retval BL_OK
/// @retval BL_E_INVALID_ARGUMENT for what is no reference
/// @retval BL_E_NOT_FOUND naming what is missing
/// @retval BL_E_UNSUPPORTED for an index
/// @retval BL_E_NO_SPACE the disk is full
/// @retval BL_E_PERMISSION the system, or a read-only store, refuses
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// Cost: one small file, synced.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_tag_image(
    storage: *mut bl_storage,
    name: *const c_char,
    manifest_digest: *const c_char,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let storage = c.handle(storage, "storage")?;
            let name = ImageName::parse(c.text(name, "name")?)?;
            storage.0.tag_image(&name, &c.digest(manifest_digest, "manifest_digest")?)
        })
    }
}

/// Takes a name away. What it stood for stays in the store.
///
/// @retval BL_OK
/// @retval BL_E_NOT_FOUND it is not there
/// @retval BL_E_INVALID_ARGUMENT for what is no reference
/// @retval BL_E_PERMISSION the system, or a read-only store, refuses
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// Cost: one file, synced.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_remove_image(
    storage: *mut bl_storage,
    name: *const c_char,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let storage = c.handle(storage, "storage")?;
            storage.0.remove_image(&ImageName::parse(c.text(name, "name")?)?)
        })
    }
}

/// The names of all images, in full and sorted.
///
/// @retval BL_OK
/// @retval BL_E_PERMISSION the system, or a read-only store, refuses
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// Ownership: release *out with bl_names_free().
/// Cost: reads a small file for each name.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_image_list(
    storage: *const bl_storage,
    out: *mut *mut bl_names,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let out = c.out(out, "out")?;
            let images = c.handle(storage, "storage")?.0.images()?;
            let names = images.into_iter().map(|tagged| text(tagged.name.to_string())).collect::<Result<_>>()?;
            out.set(into_handle(bl_names(names)));
            Ok(())
        })
    }
}

/// How many names there are; 0 for NULL.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_names_count(names: *const bl_names) -> usize {
    // SAFETY: the caller passes NULL or a live handle.
    unsafe { borrow_handle(names) }.map_or(0, |names| names.0.len())
}

/// A name. Valid until bl_names_free().
///
/// @return NULL from bl_names_count() on.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_names_get(names: *const bl_names, index: usize) -> *const c_char {
    // SAFETY: the caller passes NULL or a live handle.
    unsafe { borrow_handle(names) }.and_then(|names| names.0.get(index)).map_or(std::ptr::null(), |name| name.as_ptr())
}

/// Frees the names. NULL is a no-op.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_names_free(names: *mut bl_names) {
    // SAFETY: the caller passes NULL or a handle of its own.
    unsafe { free(names) }
}

/// Opens an image: reads its manifest and config. By name it also notes that the image was used.
///
/// @param name a name, or the digest of a manifest.
///
/// @retval BL_OK also where blobs are missing, which BL_IMAGE_MISSING lists
/// @retval BL_E_NOT_FOUND for the name or the manifest
/// @retval BL_E_INVALID_ARGUMENT for what is neither a reference nor a digest
/// @retval BL_E_UNSUPPORTED for an index
/// @retval BL_E_MALFORMED for a config that is none
/// @retval BL_E_PERMISSION the system, or a read-only store, refuses
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// Ownership: release *out with bl_image_free().
/// Cost: reads and hashes two documents.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_image_open(
    storage: *mut bl_storage,
    name: *const c_char,
    out: *mut *mut bl_image,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let out = c.out(out, "out")?;
            let storage = c.handle(storage, "storage")?;
            let name = c.text(name, "name")?;
            let image = match Digest::parse(name) {
                Ok(digest) => storage.0.open_image_by_digest(&digest)?,
                Err(_) => storage.0.open_image(&ImageName::parse(name)?)?,
            };
            out.set(into_handle(bl_image::new(image)?));
            Ok(())
        })
    }
}

/// What an image says: a text, or one of several, of which an index past the last gives NULL. Valid until
/// bl_image_free().
///
/// @param field BL_IMAGE_*.
/// @param index 0 for those that are one text.
///
/// @return NULL where there is none, or no more.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_image_text(image: *const bl_image, field: u32, index: usize) -> *const c_char {
    // SAFETY: the caller passes NULL or a live handle.
    let image = unsafe { borrow_handle(image) };
    let found = image.and_then(|image| image.texts.get(field as usize)?.get(index));
    found.map_or(std::ptr::null(), |text| text.as_ptr())
}

/// How many texts a field has.
///
/// @return 0 for a field that is none, and for NULL.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_image_text_count(image: *const bl_image, field: u32) -> usize {
    // SAFETY: the caller passes NULL or a live handle.
    unsafe { borrow_handle(image) }.and_then(|image| image.texts.get(field as usize)).map_or(0, Vec::len)
}

/// How many layers an image has; 0 for NULL.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_image_layer_count(image: *const bl_image) -> usize {
    // SAFETY: the caller passes NULL or a live handle.
    unsafe { borrow_handle(image) }.map_or(0, |image| image.layers.len())
}

/// A layer of an image, the lowest first.
///
/// @retval BL_OK
/// @retval BL_E_INVALID_ARGUMENT for an index from bl_image_layer_count() on
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_image_layer(
    image: *const bl_image,
    index: usize,
    layer: *mut bl_image_layer_info,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let out = c.required_result(layer, "layer")?;
            let image = c.handle(image, "image")?;
            let count = image.layers.len();
            let none = || invalid("index", &format!("is {index}, of {count} layers"));
            let layer = image.layers.get(index).ok_or_else(none)?;
            out.set(&bl_image_layer_info {
                struct_size: 0,
                digest: layer.digest.as_ptr(),
                diff_id: layer.diff_id.as_ref().map_or(std::ptr::null(), |diff_id| diff_id.as_ptr()),
                media_type: layer.media_type.as_ptr(),
                size_bytes: layer.size,
            });
            Ok(())
        })
    }
}

/// When an image was used, and how much room it takes.
///
/// @retval BL_OK
/// @retval BL_E_PERMISSION the system, or a read-only store, refuses
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// Cost: reads the manifests of all images that have a name.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_image_get_usage(
    storage: *const bl_storage,
    image: *const bl_image,
    usage: *mut bl_image_usage,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let out = c.required_result(usage, "usage")?;
            let storage = c.handle(storage, "storage")?;
            let image = &c.handle(image, "image")?.image;
            let sizes = storage.0.image_sizes(image)?;
            let (tagged_seconds, last_used_seconds) = image.name.as_ref().map_or((0, 0), |tagged| tagged.unix_times());
            out.set(&bl_image_usage {
                struct_size: 0,
                tagged_seconds,
                last_used_seconds,
                compressed_bytes: sizes.compressed,
                extracted_bytes: sizes.extracted,
                shared_bytes: sizes.shared,
                unique_bytes: sizes.unique,
            });
            Ok(())
        })
    }
}

/// Frees an image. NULL is a no-op.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_image_free(image: *mut bl_image) {
    // SAFETY: the caller passes NULL or a handle of its own.
    unsafe { free(image) }
}
