//! What a guest's init needs to know.

use std::ffi::{CString, c_char};

use super::args::{SizedStruct, borrow_handle, call, free, into_handle};
use super::handles::{bl_error, bl_status, bl_storage};
use super::images::{bl_image, text};
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::rootfs::Process;

/// bl_process_text(): the command and its arguments, by index.
pub const BL_PROCESS_ARG: u32 = 1;
/// bl_process_text(): variables as "NAME=value", by index; with a PATH where the image has none.
pub const BL_PROCESS_ENV: u32 = 2;
/// bl_process_text(): the directory to start in, absolute.
pub const BL_PROCESS_CWD: u32 = 3;
/// bl_process_text(): the user's home directory; absent where the user is not in the image's /etc/passwd.
pub const BL_PROCESS_HOME: u32 = 4;
/// bl_process_text(): the signal that asks it to stop, such as "SIGTERM"; absent where the image does not say.
pub const BL_PROCESS_STOP_SIGNAL: u32 = 5;
/// bl_process_text(): the process object of an OCI runtime configuration (runtime-spec, config.md), in JSON.
pub const BL_PROCESS_RUNTIME_JSON: u32 = 6;

/// An image's program, as it is to be started. It may be used by several threads at once.
pub struct bl_process {
    /// By field, from 1.
    texts: Vec<Vec<CString>>,
    uid: u32,
    gid: u32,
    additional_gids: Vec<u32>,
}

impl bl_process {
    fn new(process: Process) -> Result<bl_process> {
        let json = process.to_runtime_json();
        let one = |value: String| if value.is_empty() { Vec::new() } else { vec![value] };
        let texts: [(u32, Vec<String>); 6] = [
            (BL_PROCESS_ARG, process.args),
            (BL_PROCESS_ENV, process.env),
            (BL_PROCESS_CWD, one(process.cwd)),
            (BL_PROCESS_HOME, process.user.home.into_iter().collect()),
            (BL_PROCESS_STOP_SIGNAL, one(process.stop_signal)),
            (BL_PROCESS_RUNTIME_JSON, one(json)),
        ];
        let mut by_field = vec![Vec::new()];
        for (field, values) in texts {
            debug_assert_eq!(field as usize, by_field.len());
            by_field.push(values.into_iter().map(text).collect::<Result<_>>()?);
        }
        let (uid, gid, additional_gids) = (process.user.uid, process.user.gid, process.user.additional_gids);
        Ok(bl_process { texts: by_field, uid, gid, additional_gids })
    }
}

/// Who a program runs as, by numbers. The pointer is valid until bl_process_free(). Initialise with
/// BL_PROCESS_USER_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_process_user {
    /// sizeof(bl_process_user); set by the caller.
    pub struct_size: usize,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Further groups; NULL where there are none.
    pub additional_gids: *const u32,
    /// How many those are.
    pub additional_gid_count: usize,
}

// SAFETY: integers, and a pointer for which zero is none.
unsafe impl SizedStruct for bl_process_user {}

/// What a guest's init needs to know to start an image's program. That is the command (entrypoint
/// and cmd), variables, directory and user. The user is looked up in the image's own /etc/passwd
/// and /etc/group. These are read as regular files of at most 1 MiB; symlinks lead nowhere outside
/// the root file system. Nothing else of the config is followed. An image without entrypoint and
/// cmd has no command: no BL_PROCESS_ARG, and an empty list in the JSON. The home directory is
/// BL_PROCESS_HOME, and no variable.
///
/// @param storage where the disks of the image's layers are; may be NULL where rootfs is given.
/// @param rootfs the root file system, assembled or mounted; NULL has the user looked up in the layers' disks.
///
/// @retval BL_OK
/// @retval BL_E_NOT_FOUND for a user or group that is not there by name, and without a config. Without rootfs, also where a layer
///   has no disk in the store
/// @retval BL_E_MALFORMED for files that are none
/// @retval BL_E_STATE where a layer's disk in the store is damaged
/// @retval BL_E_LIMIT for those that are too large and for numbers from 2^31 on
/// @retval BL_E_PERMISSION the system, or a read-only store, refuses
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// Ownership: release *out with bl_process_free().
/// Cost: reads two files; without rootfs the records of all layers, and keeps what they come to in memory.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_image_process(
    storage: *const bl_storage,
    image: *const bl_image,
    rootfs: *const c_char,
    out: *mut *mut bl_process,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let out = c.out(out, "out")?;
            let image = c.handle(image, "image")?;
            let process = if rootfs.is_null() {
                c.handle(storage, "storage")?.0.process(image.image(), &Interrupt::default())?
            } else {
                image.image().process(c.path(rootfs, "rootfs")?)?
            };
            out.set(into_handle(bl_process::new(process)?));
            Ok(())
        })
    }
}

/// A text by its field, BL_PROCESS_ARG and so on, and from 0 the index for those that have several; NULL where there is
/// none. Valid until bl_process_free().
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_process_text(process: *const bl_process, field: u32, index: usize) -> *const c_char {
    // SAFETY: the caller keeps the header's contract on pointers.
    let text = unsafe { borrow_handle(process) }.and_then(|process| process.texts.get(field as usize)?.get(index));
    text.map_or(std::ptr::null(), |text| text.as_ptr())
}

/// How many texts a field has.
///
/// @return 0 for a field that is none, and for NULL.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_process_text_count(process: *const bl_process, field: u32) -> usize {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { borrow_handle(process) }.and_then(|process| process.texts.get(field as usize)).map_or(0, Vec::len)
}

/// Who it runs as.
///
/// @retval BL_OK
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_process_get_user(
    process: *const bl_process,
    user: *mut bl_process_user,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let user = c.required_result(user, "user")?;
            let process = c.handle(process, "process")?;
            let gids = &process.additional_gids;
            user.set(&bl_process_user {
                uid: process.uid,
                gid: process.gid,
                additional_gids: if gids.is_empty() { std::ptr::null() } else { gids.as_ptr() },
                additional_gid_count: gids.len(),
                ..bl_process_user::ZERO
            });
            Ok(())
        })
    }
}

/// Releases a process; NULL is no error.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_process_free(process: *mut bl_process) {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe { free(process) }
}
