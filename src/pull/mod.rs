//! Pulling: from a reference to a named image whose layers are stored and unpacked.
//!
//! The order is what makes an interrupted pull harmless: manifest, then config and layers, then the name. Each object is
//! visible when its digest holds; the name comes last, when everything that it leads to is there (invariant I3). A lease
//! holds the parts until then. Layers come in parallel, each in one pass ([`layer`]).
//!
//! The flow is plain code on plain threads, which wait for the network in small steps; the runtime moves bytes and nothing
//! else.

#![forbid(unsafe_code)]

mod auth;
mod context;
mod credential_files;
mod credential_helper;
mod credential_source;
mod credentials;
mod endpoint;
mod fetch_blob;
mod host;
mod hosts;
mod hosts_dir;
mod image;
mod ip_scope;
mod layer;
mod no_proxy;
mod operation;
mod options;
mod pem;
mod progress;
mod registry;
mod resolve;
mod retry;
mod transport;
mod verifier;

pub use credentials::{Credentials, CredentialsCallback};
pub use operation::PullOperation;
pub use options::{PullOptions, PullPolicy, RegistryOptions};
pub use progress::{LayerProgress, PullPhase, PullProgress, PullProgressCallback, PullTracker};
