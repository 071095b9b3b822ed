//! What the threads of a pull share.

use super::options::PullOptions;
use super::registry::Registry;
use crate::digest::Digest;
use crate::extraction::ExtractOptions;
use crate::interrupt::Interrupt;
use crate::store::Storage;

/// A pull of one image.
pub(super) struct Pull {
    pub(super) storage: Storage,
    pub(super) registry: Registry,
    pub(super) options: PullOptions,
    /// Also ends when one of the threads fails.
    pub(super) interrupt: Interrupt,
}

/// How a layer is unpacked.
pub(super) fn extract_options(
    options: &PullOptions,
    diff_id: Option<&Digest>,
    interrupt: &Interrupt,
) -> ExtractOptions {
    ExtractOptions {
        diff_id: diff_id.cloned(),
        tree: options.tree.clone(),
        interrupt: interrupt.clone(),
        ..ExtractOptions::default()
    }
}
