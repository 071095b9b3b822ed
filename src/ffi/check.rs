//! Checking a store, and what it holds.

use std::ffi::{CString, c_char, c_void};

use super::args::{SizedStruct, call, check_flags};
use super::handles::{bl_cancel, bl_error, bl_status, bl_storage};
use crate::check::{CheckOptions, CheckReport, Finding, Problem};
use crate::error::{Error, Result, Status};

/// bl_check_options.flags: move what is damaged to the folder quarantine, so that it is absent, and the next commit,
/// pull or extraction replaces it. A tree that is in use loses its path; what a damaged image name or lease protected may be
/// collected.
pub const BL_CHECK_REPAIR: u64 = 1;
/// bl_check_options.flags: do not compare extracted trees, nor the disks that are kept.
pub const BL_CHECK_SKIP_TREES: u64 = 2;

/// bl_finding.problem: the object is there, and is not what it was.
pub const BL_PROBLEM_DAMAGED: u32 = 1;
/// bl_finding.problem: the object is an image name, and something that the image needs is not there.
pub const BL_PROBLEM_MISSING: u32 = 2;

/// Something that is not as it should be. Valid during the callback.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_finding {
    /// sizeof(bl_finding) of the library: what follows a known field may be more than this header has.
    pub struct_size: usize,
    /// The object, by its place in the store: `layers/sha256-<hex>.tar.gz`.
    pub object: *const c_char,
    /// One line for a reader.
    pub message: *const c_char,
    /// BL_PROBLEM_*; treat one that you do not know as damage.
    pub problem: u32,
    /// 1 where it was moved to the folder quarantine.
    pub quarantined: u32,
}

/// After the check, also one that ended early, is told of each finding. Runs on the thread that called.
pub type bl_check_callback = Option<unsafe extern "C" fn(finding: *const bl_finding, user_data: *mut c_void)>;

/// What to check. Zero in a field is its default; initialise with BL_CHECK_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_check_options {
    /// sizeof(bl_check_options).
    pub struct_size: usize,
    /// BL_CHECK_* flags.
    pub flags: u64,
    /// Read no faster than this; 0 is as fast as it goes.
    pub bytes_per_second: u64,
    /// Ends the call early; may be NULL.
    pub cancel: *mut bl_cancel,
    /// Milliseconds after which the call ends with BL_E_TIMEOUT; 0 is never.
    pub timeout_ms: u64,
    /// Is told of each finding; may be NULL.
    pub on_finding: bl_check_callback,
    /// For the callback.
    pub on_finding_data: *mut c_void,
}

// SAFETY: integers and pointers, and a function pointer for which zero is none.
unsafe impl SizedStruct for bl_check_options {}

/// What bl_check() found. Initialise with BL_CHECK_RESULT_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_check_result {
    /// sizeof(bl_check_result); set by the caller.
    pub struct_size: usize,
    /// Objects that were looked at: blobs, trees, disks, names, leases.
    pub objects: u64,
    /// Bytes that were read of them.
    pub bytes: u64,
    /// Trees and disks that could not be compared. Trees are of boxlite 0.9, were not flushed before a start of the machine,
    /// or have directories that this user may not enter. Of disks, the layers have none of their own any more.
    pub skipped: u64,
    /// Objects that are not what they were.
    pub damaged: u64,
    /// Image names that lead to something that is not there.
    pub missing: u64,
    /// Damaged objects that were moved away.
    pub quarantined: u64,
}

// SAFETY: integers only.
unsafe impl SizedStruct for bl_check_result {}

/// What bl_disk_usage() found, in objects and in bytes. Initialise with BL_DISK_USAGE_RESULT_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_disk_usage_result {
    /// sizeof(bl_disk_usage_result); set by the caller.
    pub struct_size: usize,
    /// Manifests and indexes.
    pub manifests: u64,
    /// Sizes of their files.
    pub manifest_bytes: u64,
    /// Image configs.
    pub configs: u64,
    /// Sizes of their files.
    pub config_bytes: u64,
    /// Layer blobs.
    pub layers: u64,
    /// Sizes of their files.
    pub layer_bytes: u64,
    /// Extracted trees.
    pub trees: u64,
    /// Sizes of all files in them, by their metadata records, and of the records.
    pub tree_bytes: u64,
    /// Disks of images, by bl_keep_disk().
    pub disks: u64,
    /// Sizes of their files, but for those of layers' disks, which count as trees.
    pub disk_bytes: u64,
    /// Downloads and extractions that are under way or broke off, and what is about to be deleted.
    pub partials: u64,
    /// Sizes of those that are files, with the room that is reserved for what they do not hold yet.
    pub partial_bytes: u64,
    /// What bl_check() moved away.
    pub quarantined: u64,
    /// Sizes of those that are files.
    pub quarantined_bytes: u64,
    /// Bytes that this process may still write to the file system.
    pub free_bytes: u64,
    /// Bytes of the file system.
    pub total_bytes: u64,
}

// SAFETY: integers only.
unsafe impl SizedStruct for bl_disk_usage_result {}

/// Reads everything in the store and compares it with what it should be. Blobs are compared with their digests, and
/// image names with what they need. Extracted trees are compared with their metadata records: names, types, sizes,
/// contents, links, owners, modes, times, extended attributes. Disks that are kept are compared with what their layers come
/// to. A finding is no failure of the call. What could not be
/// set, by the file system or the user who extracted, is not compared. Owners are not where that user is seen under
/// another number, as from outside a user namespace. Attributes are not on macOS. The manifests of boxlite 0.9, which
/// do not hash to their names, are findings: they count as absent.
///
/// @param options NULL for the defaults.
/// @param result may be NULL.
///
/// @retval BL_OK also with findings
/// @retval BL_E_PERMISSION to repair a read-only store
/// @retval BL_E_CANCELLED the token was triggered
/// @retval BL_E_TIMEOUT the time was over
/// @retval BL_E_IO for what says nothing of the store, such as too many open files
///
/// Cost: reads the whole store; memory of 8 bytes or so for each path of a tree.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_check(
    storage: *mut bl_storage,
    options: *const bl_check_options,
    result: *mut bl_check_result,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let result = c.result(result, "result")?;
            let storage = c.handle(storage, "storage")?;
            let options = c.options(options, "options")?;
            check_flags(options.flags, BL_CHECK_REPAIR | BL_CHECK_SKIP_TREES, "options.flags")?;
            let mut report = CheckReport::default();
            let options_of_check = CheckOptions {
                repair: options.flags & BL_CHECK_REPAIR != 0,
                skip_trees: options.flags & BL_CHECK_SKIP_TREES != 0,
                bytes_per_second: (options.bytes_per_second > 0).then_some(options.bytes_per_second),
                interrupt: c.interrupt(options.cancel, options.timeout_ms),
            };
            let checked = storage.0.check_into(&options_of_check, &mut report);
            if let Some(function) = options.on_finding {
                report.findings.iter().try_for_each(|finding| tell(function, options.on_finding_data, finding))?;
            }
            checked?;
            if let Some(result) = result {
                let count = |is: fn(&Finding) -> bool| report.findings.iter().filter(|finding| is(finding)).count();
                result.set(&bl_check_result {
                    struct_size: 0,
                    objects: report.objects,
                    bytes: report.bytes,
                    skipped: report.skipped,
                    damaged: count(|finding| finding.problem == Problem::Damaged) as u64,
                    missing: count(|finding| finding.problem == Problem::Missing) as u64,
                    quarantined: count(|finding| finding.quarantined) as u64,
                });
            }
            Ok(())
        })
    }
}

fn tell(
    function: unsafe extern "C" fn(*const bl_finding, *mut c_void),
    user_data: *mut c_void,
    finding: &Finding,
) -> Result<()> {
    let text = |text: &str| CString::new(text).map_err(|_| Error::new(Status::Internal, "a finding with a NUL"));
    let (object, message) = (text(&finding.object)?, text(&finding.message)?);
    let finding = bl_finding {
        struct_size: size_of::<bl_finding>(),
        object: object.as_ptr(),
        message: message.as_ptr(),
        problem: match finding.problem {
            Problem::Damaged => BL_PROBLEM_DAMAGED,
            Problem::Missing => BL_PROBLEM_MISSING,
        },
        quarantined: finding.quarantined.into(),
    };
    // SAFETY: the host vouches for its callback; the finding and its texts live until it returns.
    unsafe { function(&raw const finding, user_data) };
    Ok(())
}

/// Adds up what the store holds, by kind. What of it a collection would remove, bl_gc() with BL_GC_DRY_RUN says.
///
/// @retval BL_OK
/// @retval BL_E_PERMISSION the system, or a read-only store, refuses
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// Cost: looks at every object, and reads the heads of the metadata records.
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_disk_usage(
    storage: *const bl_storage,
    result: *mut bl_disk_usage_result,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let result = c.required_result(result, "result")?;
            let usage = c.handle(storage, "storage")?.0.disk_usage()?;
            result.set(&bl_disk_usage_result {
                struct_size: 0,
                manifests: usage.manifests.objects,
                manifest_bytes: usage.manifests.bytes,
                configs: usage.configs.objects,
                config_bytes: usage.configs.bytes,
                layers: usage.layers.objects,
                layer_bytes: usage.layers.bytes,
                trees: usage.trees.objects,
                tree_bytes: usage.trees.bytes,
                disks: usage.disks.objects,
                disk_bytes: usage.disks.bytes,
                partials: usage.partials.objects,
                partial_bytes: usage.partials.bytes,
                quarantined: usage.quarantined.objects,
                quarantined_bytes: usage.quarantined.bytes,
                free_bytes: usage.free_bytes,
                total_bytes: usage.total_bytes,
            });
            Ok(())
        })
    }
}
