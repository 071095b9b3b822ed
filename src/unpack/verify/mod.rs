//! Whether an extracted tree is still what its metadata record says.

mod acl;
mod damage;
mod metadata;
mod sum;
mod tree;

pub(crate) use damage::{Verdict, damage};
pub(crate) use sum::{Spend, sum_of_bytes};
pub(crate) use tree::verify_tree;
