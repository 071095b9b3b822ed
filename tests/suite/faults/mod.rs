//! What the store comes to when everything goes wrong. It is killed at any system call, refused by
//! any, out of power at any moment, used by many at once, and damaged. Each prints how much of that
//! it did. The short forms are part of `cargo test`; for the long ones
//!
//! ```sh
//! BL_FAULTS=full cargo test --test suite faults:: -- --nocapture
//! ```

mod calls;
mod corruption;
mod errors;
mod kills;
mod operations;
#[cfg(target_os = "linux")]
mod power;
mod soak;

use std::path::Path;

use boxlite_images::{CheckOptions, Finding, Storage, StorageOptions};

use super::support::{leftovers, names_in};

fn is_full() -> bool {
    std::env::var_os("BL_FAULTS").is_some_and(|value| value == "full")
}

/// So many of something, evenly spread; all of them in the long form.
fn some_of<T>(all: Vec<T>, most: usize) -> Vec<T> {
    let step = if is_full() { 1 } else { all.len().div_ceil(most).max(1) };
    all.into_iter().step_by(step).collect()
}

/// The store's invariants, after whatever happened. It opens, nothing is left over, no name is one
/// that nobody gives, and everything that is visible is what it should be. Gives what is not.
fn findings(store: &Path) -> Vec<Finding> {
    let storage = Storage::open(store, &StorageOptions::default()).unwrap();
    assert_eq!(leftovers(store), [""; 0]);
    let known = [
        "boot",
        "configs",
        "disks",
        "extracted",
        "format-version",
        "layers",
        "leases",
        "links",
        "local",
        "locks",
        "manifests",
        "names",
    ];
    let unknown: Vec<_> =
        names_in(store).into_iter().filter(|name| !known.contains(&name.as_str()) && name != "quarantine").collect();
    assert_eq!(unknown, [""; 0]);
    for folder in ["manifests", "configs", "layers", "extracted", "disks", "names"] {
        for name in names_in(&store.join(folder)) {
            assert!(name.starts_with("sha256-"), "{folder}/{name}");
        }
    }
    storage.check(&CheckOptions::default()).unwrap().findings
}

/// A source of chance that is the same in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        // xorshift64* (Vigna, 2014).
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 11) as usize % limit.max(1)
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}
