//! What was changed as an image: commit, squash, edit.

use std::collections::BTreeMap;
use std::ffi::{c_char, c_void};

use super::args::{Call, Out, ResultOut, SizedStruct, call, check_flags, into_handle, invalid};
use super::extract::{bl_progress_callback, progress_callback};
use super::handles::{bl_cancel, bl_error, bl_status, bl_storage};
use super::images::bl_image;
use super::limits::bl_layer_limits;
use super::tree::{bl_tree_options, tree_options};
use crate::commit::{CommitOptions, CommitSource, CommittedImage, ConfigChanges, LayerCompression, OverlayXattrs};
use crate::error::{Error, Result, Status};
use crate::store::ImageName;

/// bl_commit_source.kind: the upper directory of an overlay, in which nobody writes any more.
pub const BL_COMMIT_UPPER: u32 = 0;
/// bl_commit_source.kind: a directory with all of the image, which is compared with what the base's records say.
pub const BL_COMMIT_TREE: u32 = 1;
/// bl_commit_source.kind: the archive of a layer, plain or compressed, in a file or a pipe. The image has what the base and it come to.
pub const BL_COMMIT_ARCHIVE: u32 = 2;

/// bl_commit_options.flags: epoch_seconds counts, also as 0.
pub const BL_COMMIT_FLAG_EPOCH: u64 = 1;
/// bl_commit_options.flags: go into other file systems that are mounted below.
pub const BL_COMMIT_FLAG_CROSS_FILE_SYSTEMS: u64 = 2;
/// bl_commit_options.flags: the overlay was mounted with `userxattr`. By default that is what the root of the upper directory says or,
/// where it says nothing, so if the process may not read `trusted.overlay.*`.
pub const BL_COMMIT_FLAG_USERXATTR: u64 = 4;
/// bl_commit_options.flags: read the files of a tree that look as they were, too. What has another content, and the same size and
/// time, is found.
pub const BL_COMMIT_FLAG_COMPARE_CONTENT: u64 = 8;

/// bl_commit_options.compression: zstd, and gzip on a base with Docker's media types, which have no zstd.
pub const BL_COMPRESSION_DEFAULT: u32 = 0;
/// bl_commit_options.compression: zstd.
pub const BL_COMPRESSION_ZSTD: u32 = 1;
/// bl_commit_options.compression: gzip.
pub const BL_COMPRESSION_GZIP: u32 = 2;
/// bl_commit_options.compression: none.
pub const BL_COMPRESSION_NONE: u32 = 3;

/// What was changed. Initialise with BL_COMMIT_SOURCE_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_commit_source {
    /// sizeof(bl_commit_source).
    pub struct_size: usize,
    /// BL_COMMIT_*.
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
    /// The directory, or the archive; "/dev/stdin" and "/dev/fd/N" are pipes that are open already.
    pub path: *const c_char,
}

// SAFETY: integers and a pointer.
unsafe impl SizedStruct for bl_commit_source {}

/// What of a config is to be another than the base's. NULL, or a list that ends at once, leaves it. Initialise with
/// BL_CONFIG_CHANGES_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_config_changes {
    /// sizeof(bl_config_changes).
    pub struct_size: usize,
    /// The command's first words; ends with NULL. A list without words is none.
    pub entrypoint: *const *const c_char,
    /// The arguments; ends with NULL. A list without words is none.
    pub cmd: *const *const c_char,
    /// Variables as "NAME=value", in place of those of the same name; ends with NULL.
    pub env: *const *const c_char,
    /// Names of variables that go; ends with NULL.
    pub unset_env: *const *const c_char,
    /// The directory to start in.
    pub working_dir: *const c_char,
    /// "user", "uid", "user:group" or "uid:gid".
    pub user: *const c_char,
    /// Labels as "key=value", in place of those of the same key; ends with NULL.
    pub labels: *const *const c_char,
    /// Keys of labels that go; ends with NULL.
    pub unset_labels: *const *const c_char,
    /// Further ports, as "8080/tcp"; ends with NULL.
    pub exposed_ports: *const *const c_char,
    /// Further directories with data of their own; ends with NULL.
    pub volumes: *const *const c_char,
    /// The signal that asks it to stop.
    pub stop_signal: *const c_char,
}

// SAFETY: an integer and pointers.
unsafe impl SizedStruct for bl_config_changes {}

/// What became of a source. Initialise with BL_COMMIT_COUNTS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_commit_counts {
    /// sizeof(bl_commit_counts); set by the caller.
    pub struct_size: usize,
    /// Entries of the new layer.
    pub entries: u64,
    /// Sockets that were left out.
    pub sockets: u64,
    /// Directories on which another file system is mounted. What is there is left out.
    pub other_file_systems: u64,
}

// SAFETY: integers.
unsafe impl SizedStruct for bl_commit_counts {}

/// How to make an image of another one. Zero in a field is its default; initialise with BL_COMMIT_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_commit_options {
    /// sizeof(bl_commit_options).
    pub struct_size: usize,
    /// BL_COMMIT_FLAG_*, or 0.
    pub flags: u64,
    /// A reference to call it by ("app:1" is "docker.io/library/app:1"). NULL is no name: then a collection may take it, unless a
    /// lease holds it.
    pub name: *const c_char,
    /// BL_COMPRESSION_*.
    pub compression: u32,
    /// How hard it tries: zstd 1 to 19, gzip 1 to 9; 0 is 3 for zstd, and 6 for gzip.
    pub level: i32,
    /// With BL_COMMIT_FLAG_EPOCH: when it was made, in seconds since 1970, and the latest time of any file. The same changes are the
    /// same image then.
    pub epoch_seconds: i64,
    /// Who made it; may be NULL.
    pub author: *const c_char,
    /// What was done, for the history; may be NULL.
    pub message: *const c_char,
    /// By what, for the history; may be NULL.
    pub created_by: *const c_char,
    /// What the config says otherwise; may be NULL.
    pub changes: *const bl_config_changes,
    /// What the manifest says besides, as "key=value"; ends with NULL, and may be NULL.
    pub annotations: *const *const c_char,
    /// Is set to what became of the source; may be NULL.
    pub counts: *mut bl_commit_counts,
    /// The new layer is extracted too, in this form, so that what is started next need not wait for that. Its files share the
    /// source's blocks where both are on one file system that can do that (XFS, btrfs). Elsewhere, and for a disk, the packed layer
    /// is unpacked. Its limits do not count: those of this struct do. NULL: it is not extracted. bl_edit_image() makes no layer.
    pub extract: *const bl_tree_options,
    /// What the layer may cost. NULL is the defaults.
    pub limits: *const bl_layer_limits,
    /// Ends the call early; may be NULL.
    pub cancel: *mut bl_cancel,
    /// Milliseconds after which the call ends with BL_E_TIMEOUT; 0 is never.
    pub timeout_ms: u64,
    /// Is told how many entries and bytes were written; may be NULL.
    pub progress: bl_progress_callback,
    /// Handed to every call of progress.
    pub progress_data: *mut c_void,
}

// SAFETY: integers, pointers, and a function pointer for which zero is none. The caller vouches that
// one which is not zero is a function.
unsafe impl SizedStruct for bl_commit_options {}

/// Makes an image of what was changed: the base's layers, and one layer more. The same changes are the same layer, on any file
/// system, for root and for an ordinary user. With BL_COMMIT_FLAG_EPOCH they are the same image. Whiteouts, opaque directories,
/// hard links, holes, attributes and capabilities come along. Overlayfs' own attributes, labels of the host's and sockets do not. What
/// an ordinary user has made is root's in the image. docs/commit.md says more.
///
/// @param base NULL is none: the layer is the first.
/// @param options NULL is the defaults.
///
/// @retval BL_OK
/// @retval BL_E_NOT_FOUND without a source, or the base's config; with a name, where the store lacks a layer of the base
/// @retval BL_E_INVALID_ARGUMENT for a directory that is none, an archive that is one, or what is in options
/// @retval BL_E_STATE the source is changed while it is read
/// @retval BL_E_UNSUPPORTED for what a layer cannot say, such as a name that begins with .wh.
/// @retval BL_E_UNSUPPORTED for what only the layers below, or the work directory, have (redirect_dir, metacopy, index)
/// @retval BL_E_UNSAFE_PATH for what is in an archive
/// @retval BL_E_DIGEST_MISMATCH for a layer of the base that had to be extracted
/// @retval BL_E_LIMIT for more than options.limits, or more layers than an image may have
/// @retval BL_E_MALFORMED for an archive that is none, a base whose documents are none, and what is odd with BL_TREE_STRICT
/// @retval BL_E_CANCELLED the token was triggered
/// @retval BL_E_TIMEOUT the time was over
/// @retval BL_E_CALLBACK the callback ended it
/// @retval BL_E_NO_SPACE the disk is full
/// @retval BL_E_PERMISSION something cannot be read, or the store is read-only
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// @note After an error there is no name, and what was stored goes with the next collection.
///
/// Ownership: release *out with bl_image_free().
/// Cost: one pass over the source, which is hashed, compressed and written. Several threads compress.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_commit_image(
    storage: *mut bl_storage,
    base: *const bl_image,
    source: *const bl_commit_source,
    options: *const bl_commit_options,
    out: *mut *mut bl_image,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let out = c.out(out, "out")?;
            let storage = c.handle(storage, "storage")?;
            let base = c.optional_handle(base);
            if source.is_null() {
                return Err(invalid("source", "is NULL"));
            }
            let source = c.options(source, "source")?;
            if source.reserved != 0 {
                return Err(invalid("source.reserved", "is not 0"));
            }
            let path = c.path(source.path, "source.path")?.to_path_buf();
            let source = match source.kind {
                BL_COMMIT_UPPER => CommitSource::Upper(path),
                BL_COMMIT_TREE => CommitSource::Tree(path),
                BL_COMMIT_ARCHIVE => CommitSource::Archive(path),
                other => {
                    let why = format!("source.kind is {other}, not one of BL_COMMIT_*");
                    return Err(Error::new(Status::Unsupported, why));
                }
            };
            let given = c.options(options, "options")?;
            let counts = c.result(given.counts, "options.counts")?;
            let made = storage.0.commit_image(base.map(bl_image::image), &source, &commit_options(c, given)?)?;
            give(made, out, counts)
        })
    }
}

/// Makes one layer of an image's layers from one on. What the image comes to stays. What lower ones of them had and later ones hide
/// is not in it any more.
///
/// @param from_layer from 0 on, the lowest; 0 is all of them.
/// @param options NULL is the defaults.
///
/// @retval BL_OK
/// @retval BL_E_INVALID_ARGUMENT where there is no such layer, or for what is in options
/// @retval BL_E_NOT_FOUND where the store lacks a layer
/// @return otherwise as bl_commit_image()
///
/// Ownership: release *out with bl_image_free().
/// Cost: reads the layers' records, and the content of what is left; first each layer that has no disk in the store, once.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_squash_image(
    storage: *mut bl_storage,
    image: *const bl_image,
    from_layer: usize,
    options: *const bl_commit_options,
    out: *mut *mut bl_image,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let out = c.out(out, "out")?;
            let storage = c.handle(storage, "storage")?;
            let image = c.handle(image, "image")?;
            let given = c.options(options, "options")?;
            let counts = c.result(given.counts, "options.counts")?;
            let made = storage.0.squash_image(image.image(), from_layer, &commit_options(c, given)?)?;
            give(made, out, counts)
        })
    }
}

/// Makes an image with the same layers, and another config or annotations.
///
/// @param options NULL is the defaults; those of a layer do not count.
///
/// @retval BL_OK
/// @return otherwise as bl_commit_image(), but for what is about a source
///
/// Ownership: release *out with bl_image_free().
/// Cost: two small documents.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_edit_image(
    storage: *mut bl_storage,
    image: *const bl_image,
    options: *const bl_commit_options,
    out: *mut *mut bl_image,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let out = c.out(out, "out")?;
            let storage = c.handle(storage, "storage")?;
            let image = c.handle(image, "image")?;
            let given = c.options(options, "options")?;
            let counts = c.result(given.counts, "options.counts")?;
            let made = storage.0.edit_image(image.image(), &commit_options(c, given)?)?;
            give(made, out, counts)
        })
    }
}

fn give(
    made: CommittedImage,
    out: Out<'_, *mut bl_image>,
    counts: Option<ResultOut<'_, bl_commit_counts>>,
) -> Result<()> {
    let CommittedImage { image, entries, sockets, other_file_systems, .. } = made;
    out.set(into_handle(bl_image::new(image)?));
    if let Some(counts) = counts {
        counts.set(&bl_commit_counts {
            struct_size: size_of::<bl_commit_counts>(),
            entries,
            sockets,
            other_file_systems,
        });
    }
    Ok(())
}

fn commit_options(c: &Call<'_>, options: bl_commit_options) -> Result<CommitOptions> {
    let flags = BL_COMMIT_FLAG_EPOCH
        | BL_COMMIT_FLAG_CROSS_FILE_SYSTEMS
        | BL_COMMIT_FLAG_USERXATTR
        | BL_COMMIT_FLAG_COMPARE_CONTENT;
    check_flags(options.flags, flags, "options.flags")?;
    let has = |flag: u64| options.flags & flag != 0;
    let given = |text: *const c_char, name| (!text.is_null()).then(|| c.text(text, name)).transpose();
    let text = |text, name| Ok::<_, Error>(given(text, name)?.unwrap_or_default().to_owned());
    if options.epoch_seconds != 0 && !has(BL_COMMIT_FLAG_EPOCH) {
        return Err(invalid("options.epoch_seconds", "is for BL_COMMIT_FLAG_EPOCH"));
    }
    let compression = match options.compression {
        BL_COMPRESSION_DEFAULT => LayerCompression::ByBase,
        BL_COMPRESSION_ZSTD => LayerCompression::Zstd,
        BL_COMPRESSION_GZIP => LayerCompression::Gzip,
        BL_COMPRESSION_NONE => LayerCompression::Plain,
        other => {
            let why = format!("options.compression is {other}, not one of BL_COMPRESSION_*");
            return Err(Error::new(Status::Unsupported, why));
        }
    };
    let mut changes = ConfigChanges::default();
    if !options.changes.is_null() {
        changes = config_changes(c, c.options(options.changes, "options.changes")?)?;
    }
    Ok(CommitOptions {
        name: given(options.name, "options.name")?.map(ImageName::parse).transpose()?,
        compression,
        level: (options.level != 0).then_some(options.level),
        epoch: has(BL_COMMIT_FLAG_EPOCH).then_some(options.epoch_seconds),
        author: text(options.author, "options.author")?,
        message: text(options.message, "options.message")?,
        created_by: text(options.created_by, "options.created_by")?,
        changes,
        annotations: pairs(c, options.annotations, "options.annotations")?,
        overlay_xattrs: if has(BL_COMMIT_FLAG_USERXATTR) { OverlayXattrs::User } else { OverlayXattrs::ByRoot },
        compares_content: has(BL_COMMIT_FLAG_COMPARE_CONTENT),
        crosses_file_systems: has(BL_COMMIT_FLAG_CROSS_FILE_SYSTEMS),
        extract: (!options.extract.is_null())
            .then(|| tree_options(c, options.extract, "options.extract"))
            .transpose()?,
        limits: c.options::<bl_layer_limits>(options.limits, "options.limits")?.to_limits(),
        progress: options.progress.map(|function| progress_callback(function, options.progress_data)),
        interrupt: c.interrupt(options.cancel, options.timeout_ms),
    })
}

fn config_changes(c: &Call<'_>, changes: bl_config_changes) -> Result<ConfigChanges> {
    let name = |field: &str| format!("options.changes.{field}");
    let words =
        |list: *const *const c_char, field: &str| (!list.is_null()).then(|| c.texts(list, &name(field))).transpose();
    let list = |list: *const *const c_char, field: &str| c.texts(list, &name(field));
    let text = |text: *const c_char, field: &str| {
        (!text.is_null()).then(|| c.text(text, &name(field)).map(str::to_owned)).transpose()
    };
    Ok(ConfigChanges {
        entrypoint: words(changes.entrypoint, "entrypoint")?,
        cmd: words(changes.cmd, "cmd")?,
        env: list(changes.env, "env")?,
        unset_env: list(changes.unset_env, "unset_env")?,
        working_dir: text(changes.working_dir, "working_dir")?,
        user: text(changes.user, "user")?,
        labels: pairs(c, changes.labels, &name("labels"))?,
        unset_labels: list(changes.unset_labels, "unset_labels")?,
        exposed_ports: list(changes.exposed_ports, "exposed_ports")?,
        volumes: list(changes.volumes, "volumes")?,
        stop_signal: text(changes.stop_signal, "stop_signal")?,
    })
}

/// Texts as "key=value".
fn pairs(c: &Call<'_>, list: *const *const c_char, name: &str) -> Result<BTreeMap<String, String>> {
    let pair = |text: String| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(invalid(name, &format!("has {text:?}, which is not key=value"))),
    };
    c.texts(list, name)?.into_iter().map(pair).collect()
}
