//! The HTTP client: rustls with ring and the system's roots, HTTP/1.1, no proxy and no redirects of its own.

use std::sync::Arc;

use reqwest::Client;
use reqwest::redirect::Policy;
use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt as _;

use super::{CONNECT, PullOptions};
use crate::error::{Error, Result, Status};

pub(super) fn client(options: &PullOptions) -> Result<Client> {
    let fail = |cause: &dyn std::error::Error| Error::new(Status::Internal, format!("cannot set up TLS: {cause}"));
    // The provider is ours alone: which one the process has is for the host to say.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|cause| fail(&cause))?
        .with_platform_verifier()
        .map_err(|cause| fail(&cause))?
        .with_no_client_auth();
    let agent = options.user_agent.clone();
    Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(agent.unwrap_or_else(|| concat!("boxlite-images/", env!("CARGO_PKG_VERSION")).to_owned()))
        .redirect(Policy::none())
        .no_proxy()
        .http1_only()
        .connect_timeout(options.connect_timeout.unwrap_or(CONNECT))
        .build()
        .map_err(|cause| fail(&cause))
}
