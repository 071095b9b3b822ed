//! How to open a store.

use std::time::Duration;

use crate::interrupt::Interrupt;
use crate::options::options;

/// How far a commit goes before it returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// File and directory are on the disk before the object is visible: it survives power loss.
    #[default]
    Full,
    /// Nothing is flushed. Kills and crashes of processes are still harmless; after power loss a visible object may be
    /// wrong. For stores that are thrown away.
    None,
}

options! {
    /// How to open a store. The default is a durable one, for reading and writing.
    #[derive(Clone, Debug, Default)]
    pub struct StorageOptions {
        /// What a commit guarantees.
        pub durability: Durability,
        /// Nothing is created, removed or changed; works on a read-only file system and without write permission.
        pub read_only: bool,
        /// No other process opens the store as long as this one has it open. Only for file systems where file locks
        /// (`flock`) do not work, in which a store is not opened otherwise.
        pub single_process: bool,
        /// Bytes of the file system that are left free. A blob or an extraction that would take of
        /// them is refused with `NO_SPACE` before it begins.
        pub min_free_bytes: u64,
        /// The store is collected before a layer that would bring it above so many bytes, or has no room. It is done
        /// as by [`Storage::collect`](crate::Storage::collect) with its defaults.
        pub gc_above_bytes: Option<u64>,
        /// The age below which that collection leaves things alone; an hour.
        pub gc_min_age: Option<Duration>,
        /// Largest layer blob in bytes; `None` is 50 GiB.
        pub max_blob_bytes: Option<u64>,
    }
}

options! {
    /// How to verify a layer.
    #[derive(Clone, Debug, Default)]
    pub struct VerifyOptions {
        /// What may end it early.
        pub interrupt: Interrupt,
    }
}
