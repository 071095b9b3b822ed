//! What an extracted layer holds, entry by entry.

use std::ffi::{CString, c_char};
use std::sync::{Mutex, TryLockError};

use super::args::{SizedStruct, call, free, into_handle};
use super::handles::{bl_error, bl_status, bl_storage};
use super::tree::{bl_tree_options, tree_options};
use crate::error::{Error, Result, Status};
use crate::record::{LayerEntries, LayerEntry, LayerEntryKind};

/// bl_layer_entry.kind: there are no more entries.
pub const BL_ENTRY_END: u32 = 0;
/// bl_layer_entry.kind: a regular file.
pub const BL_ENTRY_FILE: u32 = 1;
/// bl_layer_entry.kind: a directory.
pub const BL_ENTRY_DIRECTORY: u32 = 2;
/// bl_layer_entry.kind: a symbolic link.
pub const BL_ENTRY_SYMLINK: u32 = 3;
/// bl_layer_entry.kind: another name of the file at the path in link, which has the metadata.
pub const BL_ENTRY_HARDLINK: u32 = 4;
/// bl_layer_entry.kind: a hard link to a path that the layer does not have; a lower one may. It is not in the tree.
pub const BL_ENTRY_LOWER_LINK: u32 = 5;
/// bl_layer_entry.kind: a named pipe.
pub const BL_ENTRY_FIFO: u32 = 6;
/// bl_layer_entry.kind: a character device.
pub const BL_ENTRY_CHAR_DEVICE: u32 = 7;
/// bl_layer_entry.kind: a block device.
pub const BL_ENTRY_BLOCK_DEVICE: u32 = 8;
/// bl_layer_entry.kind: the path, in lower layers, is gone.
pub const BL_ENTRY_WHITEOUT: u32 = 9;
/// bl_layer_entry.kind: everything in the directory, in lower layers, is gone.
pub const BL_ENTRY_OPAQUE: u32 = 10;

/// bl_layer_entry.flags: a directory that the layer uses without an entry for it.
pub const BL_ENTRY_FLAG_IMPLIED: u32 = 1;

/// An extended attribute.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_xattr {
    /// The full name, such as "user.mime_type".
    pub name: *const c_char,
    /// Any bytes.
    pub value: *const u8,
    /// How many.
    pub value_len: usize,
}

/// One path of a layer and everything that the layer says of it, however much of that the file system could be told.
/// The pointers are valid until the next bl_layer_entries_next() or bl_layer_entries_free(). Initialise with
/// BL_LAYER_ENTRY_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_layer_entry {
    /// sizeof(bl_layer_entry); set by the caller.
    pub struct_size: usize,
    /// BL_ENTRY_* kind.
    pub kind: u32,
    /// BL_ENTRY_FLAG_IMPLIED, or 0.
    pub flags: u32,
    /// Relative to the root of the layer, without a leading slash and without symlinks in it, any bytes but NUL; "" for
    /// the root. For BL_ENTRY_WHITEOUT the path that is gone, for BL_ENTRY_OPAQUE the directory.
    pub path: *const c_char,
    /// Target of a symlink as written, of a hard link as a path like the one above; "" for the rest.
    pub link: *const c_char,
    /// Permission, set-id and sticky bits: at most 07777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Nanoseconds after mtime_seconds.
    pub mtime_nanoseconds: u32,
    /// Seconds since 1970 of the last modification.
    pub mtime_seconds: i64,
    /// Bytes of a file.
    pub size_bytes: u64,
    /// Major number of a device.
    pub device_major: u32,
    /// Minor number of a device.
    pub device_minor: u32,
    /// Extended attributes, xattr_count of them; NULL for none.
    pub xattrs: *const bl_xattr,
    /// How many extended attributes there are.
    pub xattr_count: usize,
}

// SAFETY: integers and pointers only.
unsafe impl SizedStruct for bl_layer_entry {
    /// Attributes are there with their count or not at all.
    fn cut_to(mut self, size: usize) -> Self {
        if size < size_of::<Self>() {
            self.xattrs = std::ptr::null();
        }
        self
    }
}

/// The entries of an extracted layer, one after the other.
pub struct bl_layer_entries(Mutex<Cursor>);

struct Cursor {
    entries: LayerEntries,
    current: Option<Current>,
}

// SAFETY: the pointers in it point into itself.
unsafe impl Send for Cursor {}

/// What the pointers of an entry point to.
struct Current {
    entry: LayerEntry,
    path: CString,
    link: CString,
    // The C form of `names` and of the values in `entry`.
    xattrs: Vec<bl_xattr>,
    _names: Vec<CString>,
}

impl Current {
    fn new(entry: LayerEntry) -> Result<Current> {
        let text = |bytes: &[u8]| {
            CString::new(bytes).map_err(|_| Error::new(Status::Malformed, "a metadata record is damaged"))
        };
        let names = entry.xattrs.iter().map(|(name, _)| text(name)).collect::<Result<Vec<_>>>()?;
        let xattrs = names
            .iter()
            .zip(&entry.xattrs)
            .map(|(name, (_, value))| bl_xattr { name: name.as_ptr(), value: value.as_ptr(), value_len: value.len() })
            .collect();
        Ok(Current { path: text(&entry.path)?, link: text(&entry.link)?, entry, xattrs, _names: names })
    }

    fn to_c(&self) -> bl_layer_entry {
        let Current { entry, path, link, xattrs, .. } = self;
        bl_layer_entry {
            struct_size: 0,
            kind: kind_of(entry.kind),
            flags: if entry.is_implied { BL_ENTRY_FLAG_IMPLIED } else { 0 },
            path: path.as_ptr(),
            link: link.as_ptr(),
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime_nanoseconds: entry.mtime.nanoseconds,
            mtime_seconds: entry.mtime.seconds,
            size_bytes: entry.size,
            device_major: entry.device.major,
            device_minor: entry.device.minor,
            xattrs: if xattrs.is_empty() { std::ptr::null() } else { xattrs.as_ptr() },
            xattr_count: xattrs.len(),
        }
    }
}

fn kind_of(kind: LayerEntryKind) -> u32 {
    match kind {
        LayerEntryKind::File => BL_ENTRY_FILE,
        LayerEntryKind::Directory => BL_ENTRY_DIRECTORY,
        LayerEntryKind::Symlink => BL_ENTRY_SYMLINK,
        LayerEntryKind::Hardlink => BL_ENTRY_HARDLINK,
        LayerEntryKind::LowerLink => BL_ENTRY_LOWER_LINK,
        LayerEntryKind::Fifo => BL_ENTRY_FIFO,
        LayerEntryKind::CharDevice => BL_ENTRY_CHAR_DEVICE,
        LayerEntryKind::BlockDevice => BL_ENTRY_BLOCK_DEVICE,
        LayerEntryKind::Whiteout => BL_ENTRY_WHITEOUT,
        LayerEntryKind::Opaque => BL_ENTRY_OPAQUE,
    }
}

/// Begins to list what an extracted layer holds, from the metadata record beside the tree. Every
/// path comes once, whiteouts included, in the order of the archive. The tree itself is not looked
/// at.
///
/// @param tree as the layer was extracted; NULL for the defaults.
///
/// @retval BL_OK
/// @retval BL_E_NOT_FOUND for a layer that was not extracted like this, or by boxlite 0.9
/// @retval BL_E_PERMISSION the system, or a read-only store, refuses
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// Ownership: release *out with bl_layer_entries_free().
/// Cost: opens a file.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_layer_entries_open(
    storage: *const bl_storage,
    digest: *const c_char,
    tree: *const bl_tree_options,
    out: *mut *mut bl_layer_entries,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let out = c.out(out, "out")?;
            let storage = c.handle(storage, "storage")?;
            let digest = c.digest(digest, "digest")?;
            let form = tree_options(c, tree, "tree")?.form;
            let entries = storage.0.layer_entries(&digest, form)?;
            out.set(into_handle(bl_layer_entries(Mutex::new(Cursor { entries, current: None }))));
            Ok(())
        })
    }
}

/// The next entry. After the last one, entry->kind is BL_ENTRY_END.
///
/// @retval BL_OK
/// @retval BL_E_MALFORMED for a damaged record
/// @retval BL_E_BUSY while another thread is in a call with the handle
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// Cost: a line of text.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_layer_entries_next(
    entries: *mut bl_layer_entries,
    entry: *mut bl_layer_entry,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let entry = c.required_result(entry, "entry")?;
            let mut cursor = match c.handle(entries, "entries")?.0.try_lock() {
                Ok(cursor) => cursor,
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::new(Status::Busy, "layer entries: in use by another thread"));
                }
                Err(TryLockError::Poisoned(_)) => {
                    return Err(Error::new(Status::State, "layer entries: an earlier call ended in an internal error"));
                }
            };
            cursor.current = cursor.entries.next().transpose()?.map(Current::new).transpose()?;
            entry.set(&cursor.current.as_ref().map_or(bl_layer_entry::ZERO, Current::to_c));
            Ok(())
        })
    }
}

/// Ends the list. NULL is a no-op.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_layer_entries_free(entries: *mut bl_layer_entries) {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { free(entries) }
}
