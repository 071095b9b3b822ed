//! dm-verity: a tree of hashes over the blocks of a disk, so that a guest that knows the root reads nothing else (Linux,
//! Documentation/admin-guide/device-mapper/verity.rst).
//!
//! The hashes of blocks ([`block_hashes`]) are computed once for each layer's disk ([`layer`]). What is copied from it takes its
//! hashes along ([`sink`]), and only metadata is hashed for a disk of its own. The [`tree`] follows from them. The salt is always
//! zeros, since another one would make the hashes a disk's own too.

mod block_hashes;
mod layer;
mod root;
mod sink;
mod tree;

pub(crate) use block_hashes::BlockHashes;
pub(crate) use layer::{hash_blocks, hash_blocks_at_pace};
pub use root::Verity;
pub(crate) use sink::HashedSink;
pub(crate) use tree::HashTree;
