//! Pulling, in the caller's own time.

use std::ffi::{CString, c_char, c_void};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::args::{Call, SizedStruct, call, check_flags, into_handle, invalid};
use super::callback::HostFunction;
use super::handles::{bl_cancel, bl_error, bl_status, bl_storage};
use super::images::bl_image;
use super::pull_progress::{bl_pull_progress_callback, progress_callback};
use super::tree::{bl_tree_options, tree_options};
use crate::error::{Error, Result, Status};
use crate::oci::Platform;
use crate::pull::{Credentials, CredentialsCallback, PullOptions, PullPolicy, RegistryOptions};

/// bl_pull_options.flags: store the layers and do not unpack them.
pub const BL_PULL_NO_UNPACK: u64 = 1;
/// bl_pull_options.flags: the platform exactly, and not one that runs there too.
pub const BL_PULL_STRICT_PLATFORM: u64 = 2;
/// bl_pull_options.flags: read the files where other tools keep credentials: $REGISTRY_AUTH_FILE, containers/auth.json below
/// $XDG_RUNTIME_DIR and $XDG_CONFIG_HOME, config.json in $DOCKER_CONFIG or ~/.docker.
pub const BL_PULL_AUTH_FILES: u64 = 4;
/// bl_pull_options.flags: do not run the credential helpers that auth_file, or a file of BL_PULL_AUTH_FILES, names.
pub const BL_PULL_NO_CREDENTIAL_HELPERS: u64 = 8;
/// bl_pull_options.flags: use the proxies of the environment: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, in both cases, as
/// they were at the first pull that wanted them.
pub const BL_PULL_PROXY_ENVIRONMENT: u64 = 16;
/// bl_pull_options.flags: never ask the registry itself where its mirrors do not have something.
pub const BL_PULL_MIRRORS_ONLY: u64 = 32;

/// bl_pull_options.policy: ask the registry when the image is not here, or not all of it. The default.
pub const BL_PULL_POLICY_MISSING: u32 = 0;
/// bl_pull_options.policy: always ask; what is here is not fetched again.
pub const BL_PULL_POLICY_ALWAYS: u32 = 1;
/// bl_pull_options.policy: always ask; an image that is here is good enough where the registry does not answer.
pub const BL_PULL_POLICY_NEWER: u32 = 2;
/// bl_pull_options.policy: never ask.
pub const BL_PULL_POLICY_NEVER: u32 = 3;

/// bl_registry_options.flags: it is reached by plain HTTP. Of a mirror its address says so.
pub const BL_REGISTRY_PLAIN_HTTP: u64 = 1;
/// bl_registry_options.flags: whoever answers is believed to be it. Not for production.
pub const BL_REGISTRY_SKIP_VERIFY: u64 = 2;

/// What is special about one registry, or about one mirror. Initialise with BL_REGISTRY_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_registry_options {
    /// sizeof(bl_registry_options).
    pub struct_size: usize,
    /// BL_REGISTRY_* flags.
    pub flags: u64,
    /// Which one, as in references: "ghcr.io", "localhost:5000".
    pub host: *const c_char,
    /// File of certificate authorities (PEM) that are believed beside the system's; may be NULL.
    pub ca_file: *const c_char,
    /// File of our certificate (PEM); may be NULL.
    pub client_certificate: *const c_char,
    /// File of its key (PEM); NULL where that is in the file of the certificate.
    pub client_key: *const c_char,
    /// "Name: value", for each request to it and to nobody else; the last one is NULL. May be NULL.
    pub headers: *const *const c_char,
    /// Who is asked before it, where it is the registry of the reference, in this order:
    /// "https://mirror.example:5000/path", or "http://"; the last one is NULL. May be NULL.
    pub mirrors: *const *const c_char,
}

// SAFETY: integers and pointers.
unsafe impl SizedStruct for bl_registry_options {}

/// A place for a user and a password, during the callback that is asked for them.
pub struct bl_credentials(Mutex<Option<Credentials>>);

/// Is asked for the credentials for a repository on a registry ("docker.io", "localhost:5000") or mirror. It is
/// called on the thread of the pull, once for each host that may be asked, before the first request. It is not called
/// for the registry where bl_pull_options has a user, nor where the image is in the store already. It answers by
/// bl_credentials_set(), or not at all. Anything but 0 ends the pull with BL_E_CALLBACK. All arguments are valid
/// until it returns.
pub type bl_credentials_callback = Option<
    unsafe extern "C" fn(
        host: *const c_char,
        repository: *const c_char,
        answer: *mut bl_credentials,
        user_data: *mut c_void,
    ) -> i32,
>;

/// Answers a bl_credentials_callback. The strings are copied.
///
/// @param user "<token>" where the other is an identity token, which a token server exchanges.
///
/// @retval BL_OK
/// @retval BL_E_INVALID_ARGUMENT an argument that cannot be
///
/// @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bl_credentials_set(
    answer: *mut bl_credentials,
    user: *const c_char,
    password: *const c_char,
    err: *mut *mut bl_error,
) -> bl_status {
    // SAFETY: the caller keeps the header's contract on pointers.
    unsafe {
        call(err, |c| {
            let credentials = Credentials::new(c.text(user, "user")?, c.text(password, "password")?);
            let answer = c.handle(answer, "answer")?;
            *answer.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(credentials);
            Ok(())
        })
    }
}

/// How to pull. Zero in a field is its default; initialise with BL_PULL_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bl_pull_options {
    /// sizeof(bl_pull_options).
    pub struct_size: usize,
    /// BL_PULL_* flags.
    pub flags: u64,
    /// BL_PULL_POLICY_MISSING, BL_PULL_POLICY_ALWAYS, BL_PULL_POLICY_NEWER or BL_PULL_POLICY_NEVER.
    pub policy: u32,
    /// Layers at a time; 0 is 4.
    pub parallel: u32,
    /// `os/architecture[/variant]`; NULL is Linux on this host's processor, or what the store has under the name.
    pub platform: *const c_char,
    /// For the registry, and for no mirror nor what a hosts.toml puts in its place; NULL is anonymous, unless one of the
    /// following knows somebody.
    pub user: *const c_char,
    /// The user's password or access token; an identity token where the user is "<token>". Never logged, never in an
    /// error, sent to the registry and its token server.
    pub password: *const c_char,
    /// Is asked for credentials, of mirrors too; may be NULL.
    pub credentials: bl_credentials_callback,
    /// Handed to every call of credentials.
    pub credentials_data: *mut c_void,
    /// A file of credentials (containers-auth.json(5), or Docker's config.json), instead of those of BL_PULL_AUTH_FILES; the
    /// helpers that it names are run, unless BL_PULL_NO_CREDENTIAL_HELPERS. May be NULL.
    pub auth_file: *const c_char,
    /// What is special about single registries and mirrors, one for each; the last one is NULL. May be NULL.
    pub registries: *const *const bl_registry_options,
    /// A folder of `<registry>/hosts.toml`, as containerd's certs.d; may be NULL.
    pub hosts_dir: *const c_char,
    /// A proxy for all requests, "http://host:port"; may be NULL.
    pub proxy: *const c_char,
    /// What the trees look like, and what a layer may cost; NULL is the defaults.
    pub tree: *const bl_tree_options,
    /// What registries are told of the client; NULL is the library's name and version.
    pub user_agent: *const c_char,
    /// Most bytes of the image's layers together, compressed; 0 is no limit but the store's for each blob.
    pub max_bytes: u64,
    /// Milliseconds for a connection to come about; 0 is 10 s.
    pub connect_timeout_ms: u64,
    /// Milliseconds for which a server may be silent; 0 is 30 s.
    pub stall_timeout_ms: u64,
    /// Ends the call early; may be NULL.
    pub cancel: *mut bl_cancel,
    /// Milliseconds after which the call ends with BL_E_TIMEOUT; 0 is never.
    pub timeout_ms: u64,
    /// Is told of progress; may be NULL.
    pub progress: bl_pull_progress_callback,
    /// Handed to every call of progress.
    pub progress_data: *mut c_void,
    /// Milliseconds between two of them; 0 is 100.
    pub progress_interval_ms: u64,
}

// SAFETY: integers, pointers, and function pointers for which zero is none.
unsafe impl SizedStruct for bl_pull_options {}

/// Pulls an image from a registry. What the store lacks is fetched and verified, and layers are
/// unpacked while they arrive. The image's name, the reference in full, comes last. A pull that
/// fails leaves what was fetched and verified, until a collection. What arrived of a layer stays
/// for a day, for the next pull to go on with.
///
/// @param reference as for `docker pull`: "debian:12", "ghcr.io/owner/image@sha256:...".
/// @param options NULL for the defaults.
///
/// @retval BL_OK
/// @retval BL_E_INVALID_ARGUMENT for what is no reference, and for files that the options name
/// @retval BL_E_NOT_FOUND where the registry, or with BL_PULL_POLICY_NEVER the store, does not have it, or not for the
///   platform
/// @retval BL_E_UNAUTHORIZED with bl_error_http_status() and bl_error_registry_code()
/// @retval BL_E_DENIED with bl_error_http_status() and bl_error_registry_code()
/// @retval BL_E_RATE_LIMITED with bl_error_http_status() and bl_error_registry_code()
/// @retval BL_E_REGISTRY with bl_error_http_status() and bl_error_registry_code()
/// @retval BL_E_NETWORK where it cannot be reached or goes silent, after several tries
/// @retval BL_E_TIMEOUT where it cannot be reached or goes silent, after several tries
/// @retval BL_E_DIGEST_MISMATCH for what it sends
/// @retval BL_E_SIZE_MISMATCH for what it sends
/// @retval BL_E_MALFORMED for what it sends, and for files that the options name
/// @retval BL_E_UNSUPPORTED for what it sends
/// @retval BL_E_LIMIT for what it sends
/// @retval BL_E_UNSAFE_PATH for what it sends
/// @retval BL_E_CANCELLED the token was triggered
/// @retval BL_E_CALLBACK the callback ended it
/// @retval BL_E_NO_SPACE the disk is full
/// @retval BL_E_PERMISSION the system, or a read-only store, refuses
/// @retval BL_E_IO the system failed; bl_error_os_errno()
///
/// Ownership: release *out with bl_image_free().
/// Cost: the network; the threads of an extraction and two more for each layer at a time, up to four where a connection
/// is slow.
///
/// @since 0.1.0
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

pub(super) fn pull_options(c: &Call<'_>, options: bl_pull_options) -> Result<PullOptions> {
    let known = BL_PULL_NO_UNPACK
        | BL_PULL_STRICT_PLATFORM
        | BL_PULL_AUTH_FILES
        | BL_PULL_NO_CREDENTIAL_HELPERS
        | BL_PULL_PROXY_ENVIRONMENT
        | BL_PULL_MIRRORS_ONLY;
    check_flags(options.flags, known, "options.flags")?;
    let has = |flag: u64| options.flags & flag != 0;
    let text = |text: *const c_char, name: &str| {
        if text.is_null() { Ok(None) } else { c.text(text, name).map(|text| Some(text.to_owned())) }
    };
    let milliseconds = |n: u64| (n > 0).then(|| Duration::from_millis(n));
    let credentials = match (text(options.user, "options.user")?, text(options.password, "options.password")?) {
        (Some(user), Some(password)) => Some(Credentials::new(user, password)),
        (None, None) => None,
        _ => return Err(Error::new(Status::InvalidArgument, "options.user and options.password go together")),
    };
    let registries = c.list(options.registries, "options.registries")?;
    Ok(PullOptions {
        platform: text(options.platform, "options.platform")?.map(|text| Platform::parse(&text)).transpose()?,
        strict_platform: has(BL_PULL_STRICT_PLATFORM),
        policy: match options.policy {
            BL_PULL_POLICY_MISSING => PullPolicy::Missing,
            BL_PULL_POLICY_ALWAYS => PullPolicy::Always,
            BL_PULL_POLICY_NEWER => PullPolicy::Newer,
            BL_PULL_POLICY_NEVER => PullPolicy::Never,
            other => {
                return Err(Error::new(Status::Unsupported, format!("options.policy is {other}, which is unknown")));
            }
        },
        credentials,
        ask_credentials: options.credentials.map(|function| credentials_callback(function, options.credentials_data)),
        auth_file: optional_path(c, options.auth_file, "options.auth_file")?,
        well_known_auth_files: has(BL_PULL_AUTH_FILES),
        no_credential_helpers: has(BL_PULL_NO_CREDENTIAL_HELPERS),
        registries: registries.into_iter().map(|registry| registry_options(c, registry)).collect::<Result<_>>()?,
        hosts_dir: optional_path(c, options.hosts_dir, "options.hosts_dir")?,
        mirrors_only: has(BL_PULL_MIRRORS_ONLY),
        proxy: text(options.proxy, "options.proxy")?,
        proxy_from_environment: has(BL_PULL_PROXY_ENVIRONMENT),
        parallel: (options.parallel > 0).then_some(options.parallel as usize),
        max_bytes: (options.max_bytes > 0).then_some(options.max_bytes),
        no_unpack: has(BL_PULL_NO_UNPACK),
        tree: tree_options(c, options.tree, "options.tree")?,
        progress: options.progress.map(|function| progress_callback(function, options.progress_data)),
        progress_interval: milliseconds(options.progress_interval_ms),
        user_agent: text(options.user_agent, "options.user_agent")?,
        connect_timeout: milliseconds(options.connect_timeout_ms),
        stall_timeout: milliseconds(options.stall_timeout_ms),
        interrupt: c.interrupt(options.cancel, options.timeout_ms),
    })
}

fn optional_path(c: &Call<'_>, path: *const c_char, name: &str) -> Result<Option<PathBuf>> {
    if path.is_null() { Ok(None) } else { c.path(path, name).map(|path| Some(path.to_owned())) }
}

fn registry_options(c: &Call<'_>, options: bl_registry_options) -> Result<RegistryOptions> {
    let name = |field: &str| format!("options.registries: {field}");
    check_flags(options.flags, BL_REGISTRY_PLAIN_HTTP | BL_REGISTRY_SKIP_VERIFY, &name("flags"))?;
    let mut registry = RegistryOptions::new(c.text(options.host, &name("host"))?);
    registry.plain_http = options.flags & BL_REGISTRY_PLAIN_HTTP != 0;
    registry.skip_verify = options.flags & BL_REGISTRY_SKIP_VERIFY != 0;
    registry.authorities.extend(optional_path(c, options.ca_file, &name("ca_file"))?);
    let certificate = optional_path(c, options.client_certificate, &name("client_certificate"))?;
    let key = optional_path(c, options.client_key, &name("client_key"))?;
    registry.client_certificate = match (certificate, key) {
        (Some(certificate), key) => {
            let key = key.unwrap_or_else(|| certificate.clone());
            Some((certificate, key))
        }
        (None, None) => None,
        (None, Some(_)) => return Err(invalid(&name("client_key"), "is without a client_certificate")),
    };
    for header in c.texts(options.headers, &name("headers"))? {
        let Some((name, value)) = header.split_once(':') else {
            // It may be a secret.
            return Err(invalid(&name("headers"), "has one that is not of the form \"Name: value\""));
        };
        registry.headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    registry.mirrors = c.texts(options.mirrors, &name("mirrors"))?;
    Ok(registry)
}

type AskFunction = unsafe extern "C" fn(*const c_char, *const c_char, *mut bl_credentials, *mut c_void) -> i32;

fn credentials_callback(function: AskFunction, user_data: *mut c_void) -> CredentialsCallback {
    let callback = HostFunction { function, user_data };
    CredentialsCallback::new(move |host, repository| {
        let HostFunction { function, user_data } = &callback;
        let (Ok(host), Ok(repository)) = (CString::new(host), CString::new(repository)) else { return Err(()) };
        let mut answer = bl_credentials(Mutex::new(None));
        // SAFETY: the host vouches for its callback; the strings and the place live until it returns.
        match unsafe { function(host.as_ptr(), repository.as_ptr(), &raw mut answer, *user_data) } {
            0 => Ok(answer.0.into_inner().unwrap_or_else(PoisonError::into_inner)),
            _ => Err(()),
        }
    })
}
