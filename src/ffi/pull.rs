//! Pulling.

use std::ffi::{c_char, c_void};
use std::ops::ControlFlow;
use std::time::Duration;

use super::args::{Call, SizedStruct, call, check_flags, into_handle};
use super::cancel::bl_cancel;
use super::error::{bl_error, bl_status};
use super::extract::{bl_extract_options, tree_form};
use super::images::bl_image;
use super::limits::bl_layer_limits;
use super::storage::bl_storage;
use crate::error::{Error, Result, Status};
use crate::oci::Platform;
use crate::pull::{Credentials, PullOptions, PullPolicy, PullProgress, PullProgressCallback};

/// bl_pull_options.flags: store the layers and do not unpack them.
pub const BL_PULL_NO_UNPACK: u64 = 1;
/// bl_pull_options.flags: the platform exactly, and not one that runs there too.
pub const BL_PULL_STRICT_PLATFORM: u64 = 2;

/// bl_pull_options.policy: ask the registry when the image is not here, or not all of it. The default.
pub const BL_PULL_MISSING: u32 = 0;
/// bl_pull_options.policy: always ask; what is here is not fetched again.
pub const BL_PULL_ALWAYS: u32 = 1;
/// bl_pull_options.policy: always ask; an image that is here is good enough where the registry does not answer.
pub const BL_PULL_NEWER: u32 = 2;
/// bl_pull_options.policy: never ask.
pub const BL_PULL_NEVER: u32 = 3;

/// How far a pull came. Valid during the callback.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_pull_progress {
    /// sizeof(bl_pull_progress) of the library.
    pub struct_size: usize,
    /// Layers of the image.
    pub layers: u64,
    /// Layers that are stored, and unpacked where that was asked for.
    pub layers_done: u64,
    /// Bytes of the blobs that were not in the store.
    pub bytes_to_fetch: u64,
    /// Bytes of them that arrived.
    pub bytes_fetched: u64,
    /// Bytes of the blobs that were in the store.
    pub bytes_present: u64,
    /// Uncompressed bytes that were unpacked.
    pub bytes_unpacked: u64,
}

/// Is told how far a pull came, on the thread that called. Anything but 0 ends the pull with BL_E_CALLBACK.
pub type bl_pull_callback =
    Option<unsafe extern "C" fn(progress: *const bl_pull_progress, user_data: *mut c_void) -> i32>;

/// How to pull. Zero in a field is its default; initialise with BL_PULL_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_pull_options {
    /// sizeof(bl_pull_options).
    pub struct_size: usize,
    /// BL_PULL_* flags.
    pub flags: u64,
    /// BL_PULL_MISSING, BL_PULL_ALWAYS, BL_PULL_NEWER or BL_PULL_NEVER.
    pub policy: u32,
    /// Layers at a time; 0 is 4.
    pub parallel: u32,
    /// `os/architecture[/variant]`; NULL is Linux on this host's processor.
    pub platform: *const c_char,
    /// For the registry; NULL is anonymous.
    pub user: *const c_char,
    /// The user's password or access token. Never logged, never in an error, sent to the registry and its token server.
    pub password: *const c_char,
    /// Registries, as in references ("localhost:5000"), that are reached by plain HTTP; the last one is NULL. May be NULL.
    pub plain_http: *const *const c_char,
    /// What the trees look like and may cost; of these options only those that make a tree a different one and the
    /// limits count. NULL is the defaults.
    pub extract: *const bl_extract_options,
    /// What registries are told of the client; NULL is the library's name and version.
    pub user_agent: *const c_char,
    /// Milliseconds for a connection to come about; 0 is 10 s.
    pub connect_timeout_ms: u64,
    /// Milliseconds for which a server may be silent; 0 is 30 s.
    pub stall_timeout_ms: u64,
    /// Ends the call early; may be NULL.
    pub cancel: *mut bl_cancel,
    /// Milliseconds after which the call ends with BL_E_TIMEOUT; 0 is never.
    pub timeout_ms: u64,
    /// Is told of progress; may be NULL.
    pub progress: bl_pull_callback,
    /// Handed to every call of progress.
    pub progress_data: *mut c_void,
    /// Milliseconds between two of them; 0 is 100.
    pub progress_interval_ms: u64,
}

// SAFETY: integers, pointers, and a function pointer for which zero is none.
unsafe impl SizedStruct for bl_pull_options {
    const ZERO: Self = Self {
        struct_size: 0,
        flags: 0,
        policy: 0,
        parallel: 0,
        platform: std::ptr::null(),
        user: std::ptr::null(),
        password: std::ptr::null(),
        plain_http: std::ptr::null(),
        extract: std::ptr::null(),
        user_agent: std::ptr::null(),
        connect_timeout_ms: 0,
        stall_timeout_ms: 0,
        cancel: std::ptr::null_mut(),
        timeout_ms: 0,
        progress: None,
        progress_data: std::ptr::null_mut(),
        progress_interval_ms: 0,
    };
}

/// Pulls an image from a registry: fetches what the store has not, verifies it, unpacks its layers while they arrive, and
/// then gives the image its name, which is the reference in full. A pull that fails leaves what was fetched and verified
/// for the next one, until a collection.
///
/// reference: as for `docker pull`: "debian:12", "ghcr.io/owner/image@sha256:...".
/// options: NULL for the defaults.
///
/// Returns: BL_OK; BL_E_INVALID_ARGUMENT for what is no reference; BL_E_NOT_FOUND where the registry, or with
/// BL_PULL_NEVER the store, does not have it, or not for the platform; BL_E_UNAUTHORIZED, BL_E_DENIED,
/// BL_E_RATE_LIMITED, BL_E_REGISTRY, with bl_error_http_status() and bl_error_registry_code(); BL_E_NETWORK and
/// BL_E_TIMEOUT where it cannot be reached or goes silent, after several tries; BL_E_DIGEST_MISMATCH,
/// BL_E_SIZE_MISMATCH, BL_E_MALFORMED, BL_E_UNSUPPORTED, BL_E_LIMIT, BL_E_UNSAFE_PATH for what it sends; BL_E_CANCELLED,
/// BL_E_CALLBACK; BL_E_NO_SPACE, BL_E_PERMISSION, BL_E_IO. Ownership: release *out with bl_image_free(). Cost: the
/// network; the threads of an extraction and two more for each layer at a time. Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_pull(
    storage: *mut bl_storage,
    reference: *const c_char,
    options: *const bl_pull_options,
    out: *mut *mut bl_image,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let out = c.out(out, "out")?;
            let storage = c.handle(storage, "storage")?;
            let reference = c.text(reference, "reference")?;
            let options = pull_options(c, c.options(options, "options")?)?;
            let image = storage.0.pull(reference, &options)?;
            out.set(into_handle(bl_image::new(image)?));
            Ok(())
        })
    }
}

fn pull_options(c: &Call<'_>, options: bl_pull_options) -> Result<PullOptions> {
    check_flags(options.flags, BL_PULL_NO_UNPACK | BL_PULL_STRICT_PLATFORM, "options.flags")?;
    let text = |text: *const c_char, name: &str| {
        if text.is_null() { Ok(None) } else { c.text(text, name).map(|text| Some(text.to_owned())) }
    };
    let milliseconds = |n: u64| (n > 0).then(|| Duration::from_millis(n));
    let extract: bl_extract_options = c.options(options.extract, "options.extract")?;
    let credentials = match (text(options.user, "options.user")?, text(options.password, "options.password")?) {
        (Some(user), Some(password)) => Some(Credentials { user, password }),
        (None, None) => None,
        _ => return Err(Error::new(Status::InvalidArgument, "options.user and options.password go together")),
    };
    Ok(PullOptions {
        platform: text(options.platform, "options.platform")?.map(|text| Platform::parse(&text)).transpose()?,
        strict_platform: options.flags & BL_PULL_STRICT_PLATFORM != 0,
        policy: match options.policy {
            BL_PULL_MISSING => PullPolicy::Missing,
            BL_PULL_ALWAYS => PullPolicy::Always,
            BL_PULL_NEWER => PullPolicy::Newer,
            BL_PULL_NEVER => PullPolicy::Never,
            other => {
                return Err(Error::new(Status::Unsupported, format!("options.policy is {other}, which is unknown")));
            }
        },
        credentials,
        plain_http: c.texts(options.plain_http, "options.plain_http")?,
        parallel: (options.parallel > 0).then_some(options.parallel as usize),
        no_unpack: options.flags & BL_PULL_NO_UNPACK != 0,
        form: tree_form(&extract)?,
        limits: c.options::<bl_layer_limits>(extract.limits, "options.extract->limits")?.to_limits(),
        progress: options.progress.map(|function| progress_callback(function, options.progress_data)),
        progress_interval: milliseconds(options.progress_interval_ms),
        user_agent: text(options.user_agent, "options.user_agent")?,
        connect_timeout: milliseconds(options.connect_timeout_ms),
        stall_timeout: milliseconds(options.stall_timeout_ms),
        interrupt: c.interrupt(options.cancel, options.timeout_ms),
    })
}

struct HostCallback {
    function: unsafe extern "C" fn(*const bl_pull_progress, *mut c_void) -> i32,
    user_data: *mut c_void,
}

// SAFETY: it is called on the thread of the host's own call only, which outlives all other owners.
unsafe impl Send for HostCallback {}
// SAFETY: as above.
unsafe impl Sync for HostCallback {}

impl HostCallback {
    fn call(&self, progress: &PullProgress) -> ControlFlow<()> {
        let progress = bl_pull_progress {
            struct_size: size_of::<bl_pull_progress>(),
            layers: progress.layers,
            layers_done: progress.layers_done,
            bytes_to_fetch: progress.bytes_to_fetch,
            bytes_fetched: progress.bytes_fetched,
            bytes_present: progress.bytes_present,
            bytes_unpacked: progress.bytes_unpacked,
        };
        // SAFETY: the host vouches for its callback; the struct lives until it returns.
        match unsafe { (self.function)(&raw const progress, self.user_data) } {
            0 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    }
}

fn progress_callback(
    function: unsafe extern "C" fn(*const bl_pull_progress, *mut c_void) -> i32,
    user_data: *mut c_void,
) -> PullProgressCallback {
    let callback = HostCallback { function, user_data };
    PullProgressCallback::new(move |progress| callback.call(progress))
}
