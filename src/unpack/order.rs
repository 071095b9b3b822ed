//! What a layer has done so far to the layers below it, and whether the order of its entries may be trusted.
//!
//! A layer hides what the layers below have: nothing of its own, and that whatever the order of its entries (families 56 to 58).
//! An archive comes once, so it must be known which paths are the layer's own; what it hides is taken out around them.
//!
//! An entry can come too late for that. A name may lead through a symlink of a lower layer, which a
//! later entry replaces. Then it has led to where the layer by itself would not have put it. Then
//! the layer is out of order, and whoever assembles begins again with its extracted tree, which is
//! in order.
//!
//! Paths are kept by their hashes: a layer can have millions.

use std::collections::{BTreeSet, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use crate::error::{Error, Result, Status};
use crate::layer::split_parent;

/// Where a layer is in the tree that is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// The tree is this layer's, and its whiteouts stay in it.
    Alone,
    /// Layers will be put on top of it.
    Lowest,
    /// There are layers below it.
    Above,
}

/// How the entries of a layer come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Once, in the order of the archive.
    Archive,
    /// From a record, which can be read twice.
    Record,
}

/// The layer that is being written.
pub(super) struct LayerOrder {
    position: Position,
    arrival: Arrival,
    hasher: RandomState,
    /// Paths that the layer has made, and the directories that lead to them.
    ours: HashSet<u64>,
    /// Directories that it has an entry for.
    explicit: HashSet<u64>,
    /// Directories that have nothing of lower layers in them.
    clean: HashSet<u64>,
    /// What an entry of the layer took the place of.
    replaced: HashSet<u64>,
    /// Symlinks of lower layers that led somewhere.
    followed: BTreeSet<Vec<u8>>,
    /// What goes at this moment would have gone before all entries.
    is_hiding: bool,
    is_out_of_order: bool,
}

impl LayerOrder {
    pub(super) fn new(position: Position, arrival: Arrival, hasher: RandomState) -> LayerOrder {
        LayerOrder {
            position,
            arrival,
            hasher,
            ours: HashSet::new(),
            explicit: HashSet::new(),
            clean: HashSet::new(),
            replaced: HashSet::new(),
            followed: BTreeSet::new(),
            is_hiding: false,
            is_out_of_order: false,
        }
    }

    /// Layers go on top of each other: whiteouts take away instead of staying.
    pub(super) fn is_stacked(&self) -> bool {
        self.position != Position::Alone
    }

    pub(super) fn is_lowest(&self) -> bool {
        self.position == Position::Lowest
    }

    /// Its entries come once and there are layers below: only then is anything kept here.
    pub(super) fn is_tracked(&self) -> bool {
        self.position == Position::Above && self.arrival == Arrival::Archive
    }

    /// The layer cannot be put on top of the others as it comes.
    pub(super) fn is_out_of_order(&self) -> bool {
        self.is_out_of_order
    }

    fn hash(&self, path: &[u8]) -> u64 {
        self.hasher.hash_one(path)
    }

    pub(super) fn is_ours(&self, real_path: &[u8]) -> bool {
        self.ours.contains(&self.hash(real_path))
    }

    pub(super) fn is_explicit(&self, real_path: &[u8]) -> bool {
        self.explicit.contains(&self.hash(real_path))
    }

    pub(super) fn is_known_clean(&self, real_path: &[u8]) -> bool {
        self.clean.contains(&self.hash(real_path))
    }

    /// Whether a directory, or one above it, has nothing of lower layers.
    pub(super) fn is_clean(&self, real_path: &[u8]) -> bool {
        let mut at = real_path;
        loop {
            if self.is_known_clean(at) {
                return true;
            }
            if at.is_empty() {
                return false;
            }
            at = split_parent(at).0;
        }
    }

    pub(super) fn mark_clean(&mut self, real_path: &[u8]) {
        let hash = self.hash(real_path);
        self.clean.insert(hash);
    }

    pub(super) fn mark_ours(&mut self, real_path: &[u8]) {
        if !self.is_tracked() {
            return;
        }
        let mut at = real_path;
        while self.ours.insert(self.hasher.hash_one(at)) && !at.is_empty() {
            at = split_parent(at).0;
        }
    }

    /// What is removed from now on would have gone before all entries of the layer.
    pub(super) fn set_hiding(&mut self, is_hiding: bool) {
        self.is_hiding = is_hiding;
    }

    /// A walk went through these symlinks.
    pub(super) fn note_followed(&mut self, symlinks: Vec<Vec<u8>>) {
        if !self.is_tracked() {
            return;
        }
        for symlink in symlinks {
            if !self.is_ours(&symlink) {
                self.followed.insert(symlink);
            }
        }
    }

    /// A directory with an entry of its own.
    pub(super) fn note_directory(&mut self, real_path: &[u8], is_new: bool) -> Result<()> {
        if !self.is_tracked() {
            return Ok(());
        }
        let hash = self.hash(real_path);
        self.explicit.insert(hash);
        if is_new { self.note_new_directory(real_path) } else { Ok(()) }
    }

    /// By itself the layer would have had this directory alone, and not what it replaced, so that one of a lower layer
    /// would have stayed.
    pub(super) fn note_new_directory(&mut self, real_path: &[u8]) -> Result<()> {
        if !self.is_tracked() {
            return Ok(());
        }
        let hash = self.hash(real_path);
        self.clean.insert(hash);
        if self.replaced.contains(&hash) { self.out_of_order() } else { Ok(()) }
    }

    /// What was at a path is gone.
    pub(super) fn note_gone(&mut self, gone: &[u8]) -> Result<()> {
        if !self.is_tracked() {
            return Ok(());
        }
        if !self.is_hiding {
            let hash = self.hash(gone);
            self.replaced.insert(hash);
        }
        let below = [gone, b"/"].concat();
        let has_led_somewhere = self.followed.contains(gone)
            || self.followed.range(below.clone()..).next().is_some_and(|path| path.starts_with(&below));
        if has_led_somewhere { self.out_of_order() } else { Ok(()) }
    }

    /// A hard link whose target is not the layer's own waits for the layer's end when that is
    /// unpacked by itself. What it leads to may be another thing by then.
    pub(super) fn note_link(&mut self, real_target: Option<&[u8]>) -> Result<()> {
        let is_ours = real_target.is_some_and(|target| self.is_ours(target));
        if self.is_tracked() && !is_ours { self.out_of_order() } else { Ok(()) }
    }

    /// A link to itself, for which there may have been directories made that nothing is in.
    pub(super) fn note_self_link(&mut self) -> Result<()> {
        if self.is_stacked() && self.arrival == Arrival::Archive { self.out_of_order() } else { Ok(()) }
    }

    pub(super) fn out_of_order(&mut self) -> Result<()> {
        self.is_out_of_order = true;
        let why = "the order of its entries takes the extracted layer to understand, which cannot be had in whole";
        Err(Error::new(Status::Unsupported, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(position: Position, arrival: Arrival) -> LayerOrder {
        LayerOrder::new(position, arrival, RandomState::new())
    }

    #[test]
    fn nothing_is_kept_of_a_layer_that_is_alone_lowest_or_read_twice() {
        for (position, arrival) in [
            (Position::Alone, Arrival::Archive),
            (Position::Lowest, Arrival::Archive),
            (Position::Above, Arrival::Record),
        ] {
            let mut order = order(position, arrival);
            order.mark_ours(b"a/b");
            order.note_directory(b"a", true).unwrap();
            order.note_followed(vec![b"a".to_vec()]);
            order.note_gone(b"a").unwrap();
            order.note_new_directory(b"a").unwrap();
            assert!(!order.is_ours(b"a/b") && !order.is_clean(b"a") && !order.is_out_of_order(), "{position:?}");
        }
    }

    #[test]
    fn what_leads_to_the_layers_own_is_its_own_and_a_new_directory_is_clean() {
        let mut order = order(Position::Above, Arrival::Archive);
        order.mark_ours(b"a/b/c");
        for path in [&b"a/b/c"[..], b"a/b", b"a", b""] {
            assert!(order.is_ours(path));
        }
        assert!(!order.is_ours(b"a/c"));
        order.note_directory(b"a/b", true).unwrap();
        assert!(order.is_clean(b"a/b/x") && !order.is_clean(b"a"));
        assert!(order.is_explicit(b"a/b") && !order.is_explicit(b"a"));
    }

    #[test]
    fn an_order_that_matters_is_found() {
        type Step = fn(&mut LayerOrder) -> Result<()>;
        let cases: [(&str, Step, bool); 6] = [
            ("a directory where the layer replaced something", |o| o.note_new_directory(b"gone"), true),
            ("a directory elsewhere", |o| o.note_new_directory(b"other"), false),
            ("a symlink that led somewhere goes", |o| o.note_gone(b"links"), true),
            ("a symlink that led nowhere goes", |o| o.note_gone(b"other"), false),
            ("a link to what a lower layer has", |o| o.note_link(Some(b"lower")), true),
            ("a link to what the layer has", |o| o.note_link(Some(b"own/file")), false),
        ];
        for (name, step, is_found) in cases {
            let mut order = order(Position::Above, Arrival::Archive);
            order.note_gone(b"gone").unwrap();
            order.set_hiding(true);
            order.note_gone(b"other").unwrap();
            order.set_hiding(false);
            order.note_followed(vec![b"links/to".to_vec()]);
            order.mark_ours(b"own/file");
            assert_eq!(step(&mut order).is_err(), is_found, "{name}");
            assert_eq!(order.is_out_of_order(), is_found, "{name}");
        }
        assert!(order(Position::Lowest, Arrival::Archive).note_self_link().is_err());
        assert!(order(Position::Alone, Arrival::Archive).note_self_link().is_ok());
    }
}
