//! Hard links that wait: for a target that comes later in the archive, or that only a lower layer can have.

use std::collections::BTreeMap;

/// Links that are not made yet.
pub(super) struct Links<I> {
    /// By the real path of the link.
    pub(super) pending: BTreeMap<Vec<u8>, PendingLink>,
    pub(super) count: u64,
    /// For targets that can have no more names: where their latest copy is.
    pub(super) copies: BTreeMap<Vec<u8>, (Vec<u8>, I)>,
    pub(super) copied_bytes: u64,
}

pub(super) struct PendingLink {
    /// As the layer names it.
    pub(super) target: Vec<u8>,
    pub(super) order: u64,
}

impl<I> Default for Links<I> {
    fn default() -> Links<I> {
        Links { pending: BTreeMap::new(), count: 0, copies: BTreeMap::new(), copied_bytes: 0 }
    }
}

impl<I> Links<I> {
    /// Something else has the name now.
    pub(super) fn forget(&mut self, real_path: &[u8]) {
        self.pending.remove(real_path);
    }

    /// Whether a link is to be made there.
    pub(super) fn is_pending(&self, real_path: &[u8]) -> bool {
        self.pending.contains_key(real_path)
    }

    pub(super) fn forget_below(&mut self, prefix: &[u8]) {
        remove_range(&mut self.pending, prefix);
    }
}

/// Removes everything whose path begins like this.
pub(super) fn remove_range<V>(map: &mut BTreeMap<Vec<u8>, V>, prefix: &[u8]) {
    while let Some((key, _)) = map.range(prefix.to_vec()..).next().filter(|(key, _)| key.starts_with(prefix)) {
        let key = key.clone();
        map.remove(&key);
    }
}
