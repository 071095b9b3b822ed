//! Files of the host's that a disk has on top of its image.

use std::ffi::{c_char, c_void};

use super::args::{Call, SizedStruct, invalid};
use crate::error::{Error, Result, Status};
use crate::image_disk::{DiskFile, DiskFileContent};

/// bl_disk_file.kind: a file with the bytes of data, or with the content of source.
pub const BL_DISK_FILE_REGULAR: u32 = 0;
/// bl_disk_file.kind: a directory. What the image has in it stays.
pub const BL_DISK_FILE_DIRECTORY: u32 = 1;
/// bl_disk_file.kind: a symlink that leads to target.
pub const BL_DISK_FILE_SYMLINK: u32 = 2;

/// Something that a disk has on top of its image. Directories on the way to it are made where they are missing. Initialise with
/// BL_DISK_FILE_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_disk_file {
    /// sizeof(bl_disk_file).
    pub struct_size: usize,
    /// BL_DISK_FILE_*.
    pub kind: u32,
    /// Permission, set-id and sticky bits; 0 is 0644, and 0755 of a directory.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// When it was modified, in seconds since 1970.
    pub mtime_seconds: u64,
    /// Where in the image. It leads through the image's symlinks and never out; `..` is refused.
    pub path: *const c_char,
    /// A regular file of the host's whose content it gets; NULL is to take data. Only for BL_DISK_FILE_REGULAR.
    pub source: *const c_char,
    /// The content; may be NULL where there is none.
    pub data: *const c_void,
    /// Length of data.
    pub data_len: usize,
    /// Where a symlink leads to; NULL for anything else.
    pub target: *const c_char,
}

// SAFETY: integers and pointers.
unsafe impl SizedStruct for bl_disk_file {}

impl bl_disk_file {
    /// `name` is what it is called in messages.
    pub(super) fn to_disk_file(self, c: &Call<'_>, name: &str) -> Result<DiskFile> {
        let field = |field: &str| format!("{name}.{field}");
        if ![BL_DISK_FILE_REGULAR, BL_DISK_FILE_DIRECTORY, BL_DISK_FILE_SYMLINK].contains(&self.kind) {
            let why = format!("{} is {}, not one of BL_DISK_FILE_*", field("kind"), self.kind);
            return Err(Error::new(Status::Unsupported, why));
        }
        // A kind that was forgotten is that of a file.
        if self.kind != BL_DISK_FILE_SYMLINK && !self.target.is_null() {
            return Err(invalid(&field("target"), "is for BL_DISK_FILE_SYMLINK"));
        }
        if self.kind != BL_DISK_FILE_REGULAR && !(self.source.is_null() && self.data.is_null() && self.data_len == 0) {
            return Err(invalid(&field("kind"), "is of something without content, and there is some"));
        }
        let content = match self.kind {
            BL_DISK_FILE_REGULAR if !self.source.is_null() => {
                if !self.data.is_null() {
                    return Err(invalid(&field("data"), "is there, and source too"));
                }
                DiskFileContent::CopyOf(c.path(self.source, &field("source"))?.to_path_buf())
            }
            BL_DISK_FILE_REGULAR => {
                DiskFileContent::Bytes(c.bytes(self.data.cast(), self.data_len, &field("data"))?.to_vec())
            }
            BL_DISK_FILE_DIRECTORY => DiskFileContent::Directory,
            _ => DiskFileContent::Symlink(c.path(self.target, &field("target"))?.to_path_buf()),
        };
        let file = DiskFile::new(c.path(self.path, &field("path"))?, content).owner(self.uid, self.gid);
        let file = DiskFile { mtime: self.mtime_seconds, ..file };
        Ok(if self.mode == 0 { file } else { file.mode(self.mode) })
    }
}
