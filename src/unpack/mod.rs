//! From a layer's entries to a directory tree, whole or not at all, and never outside its root.

#![forbid(unsafe_code)]

mod apply;
mod confined;
mod content;
mod copy;
mod files;
mod form;
mod hardlink;
mod hide;
mod links;
mod lower;
mod metadata;
mod order;
mod progress;
mod root;
mod trash;
mod tree;
mod verify;
mod write;

pub(crate) use apply::Assembler;
pub(crate) use confined::read_confined;
pub use form::{TreeForm, TreeOptions, WhiteoutForm};
pub(crate) use lower::Taking;
pub(crate) use metadata::born_in;
pub use progress::ProgressCallback;
pub(crate) use trash::{Bin, Trash};
pub(crate) use tree::TreeWriter;
pub(crate) use verify::{damage, verify_tree};
