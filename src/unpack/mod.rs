//! From a layer's entries to a directory tree, whole or not at all, and never outside its root.

#![forbid(unsafe_code)]

mod confined;
mod content;
mod copy;
mod extract;
mod files;
mod form;
mod links;
mod merge;
mod metadata;
mod record;
mod root;
mod trash;
mod tree;
mod verify;

pub(crate) use confined::read_confined;
pub use extract::{ExtractOptions, Extraction, ProgressCallback};
pub use form::{TreeForm, WhiteoutForm};
pub(crate) use merge::{Assembler, Taking};
pub(crate) use record::RecordFile;
pub use record::{LayerEntries, LayerEntry, LayerEntryKind};
pub(crate) use verify::{damage, verify_tree};
