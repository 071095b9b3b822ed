//! Whether an extracted tree is still what its metadata record says.

mod acl;
mod damage;
mod metadata;
mod tree;

pub(crate) use damage::damage;
pub(crate) use tree::verify_tree;
