//! What a caller may wish of a pull.

use std::path::PathBuf;
use std::time::Duration;

use super::credentials::{Credentials, CredentialsCallback};
use super::progress::PullProgressCallback;
use crate::interrupt::Interrupt;
use crate::oci::Platform;
use crate::options::options;
use crate::unpack::TreeOptions;

/// When the registry is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// When the image is not here, or not all of it.
    #[default]
    Missing,
    /// Always; what is here is not fetched again.
    Always,
    /// Always; but an image that is here is good enough where the registry does not answer.
    Newer,
    /// Never: `NOT_FOUND` when the image is not here.
    Never,
}

options! {
    /// How to pull. The default pulls for this host's processor, anonymously, from the registry itself, and unpacks.
    #[derive(Clone, Debug, Default)]
    pub struct PullOptions {
        /// Which of an index's images; Linux on this host's processor.
        pub platform: Option<Platform>,
        /// That platform exactly, and not one that runs there too.
        pub strict_platform: bool,
        /// When the registry is asked.
        pub policy: PullPolicy,
        /// For the registry. They go before all that follow.
        pub credentials: Option<Credentials>,
        /// Knows credentials, of mirrors too.
        pub ask_credentials: Option<CredentialsCallback>,
        /// A file of credentials (containers-auth.json(5), or Docker's config.json), instead of the well-known ones. Its helpers
        /// are run, unless the next but one says no.
        pub auth_file: Option<PathBuf>,
        /// Read the files where other tools keep credentials, and the environment that says where they are.
        pub well_known_auth_files: bool,
        /// Do not run the credential helpers that a file names.
        pub no_credential_helpers: bool,
        /// What is special about single registries and mirrors.
        pub registries: Vec<RegistryOptions>,
        /// A folder of `<registry>/hosts.toml` (containerd's `certs.d`).
        pub hosts_dir: Option<PathBuf>,
        /// Never ask the registry itself where mirrors do not have something.
        pub mirrors_only: bool,
        /// A proxy (`http://host:port`) for all requests.
        pub proxy: Option<String>,
        /// Use the proxies that the environment names (`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, in both cases), as
        /// they were at the first pull that wanted them.
        pub proxy_from_environment: bool,
        /// Layers at a time; 4.
        pub parallel: Option<usize>,
        /// Most bytes of an image's layers together, compressed; without a limit of its own the store's for each blob holds.
        pub max_bytes: Option<u64>,
        /// Store the layers and do not unpack them.
        pub no_unpack: bool,
        /// What the trees look like, and what a layer may cost.
        pub tree: TreeOptions,
        /// Is told how far the pull came.
        pub progress: Option<PullProgressCallback>,
        /// How often; 100 ms.
        pub progress_interval: Option<Duration>,
        /// What registries are told of the client; `boxlite-images/<version>`.
        pub user_agent: Option<String>,
        /// How long a connection may take to come about; 10 s.
        pub connect_timeout: Option<Duration>,
        /// How long a server may be silent; 30 s.
        pub stall_timeout: Option<Duration>,
        /// What may end the pull early.
        pub interrupt: Interrupt,
    }
}

options! {
    /// What is special about one registry, or about one mirror.
    #[derive(Clone, Debug, Default)]
    pub struct RegistryOptions {
        /// Which one, as in references: `ghcr.io`, `localhost:5000`.
        pub host: String,
        /// It is reached by plain HTTP. Of a mirror its address says so.
        pub plain_http: bool,
        /// Whoever answers is believed to be it.
        pub skip_verify: bool,
        /// Files of certificate authorities (PEM) that are believed beside the system's.
        pub authorities: Vec<PathBuf>,
        /// Files of our certificate and its key (PEM).
        pub client_certificate: Option<(PathBuf, PathBuf)>,
        /// Headers for each request to it, and to nobody else.
        pub headers: Vec<(String, String)>,
        /// Who is asked before it, where it is the registry of the reference, in this order: `https://mirror.example[:port][/path]`, or `http://` and so on.
        pub mirrors: Vec<String>,
    }
}

impl RegistryOptions {
    /// For a registry.
    pub fn new(host: impl Into<String>) -> RegistryOptions {
        RegistryOptions { host: host.into(), ..RegistryOptions::default() }
    }
}
