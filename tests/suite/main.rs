//! The tests that need more than one module. They see the Rust and the C API, and the shared
//! library as a C program does. They have layers as users and attackers make them, and a file
//! system that fails.
//!
//! Tests that need a program that is missing say so and pass; with `BL_REQUIRE_TOOLS=1` they fail. `BLESS=1` writes the
//! generated and golden files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]
// The tests are the C caller: what makes each call sound is the header's contract, which they keep.
#![allow(clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]
// Elsewhere what only tests of Linux use is left over.
#![cfg_attr(not(target_os = "linux"), allow(unused_imports, dead_code))]

mod abi;
mod api_docs;
mod architecture;
mod archive;
mod archives;
mod bindings;
mod blimg;
mod both;
mod budget;
mod bundles;
mod c_programs;
mod check;
mod check_trees;
mod command_line;
mod commits;
mod cpp;
mod disk_bytes;
mod disk_faults;
mod disk_mount;
mod disks;
mod durability;
mod empty_disks;
mod ext4_disks;
mod ext4_readers;
mod extraction;
mod families;
mod faults;
mod generated;
mod image_files;
mod images;
mod injected_files;
mod kept_disk_checks;
mod kept_disks;
mod loop_disk;
#[path = "../../examples-c/make_layout.rs"]
mod make_layout;
mod null_arguments;
mod peers;
#[cfg(feature = "pull")]
mod pull;
mod readme;
mod real_image;
mod reports;
mod rootfs;
mod seed_store;
mod store_directory;
mod support;
mod taken_places;
mod tree;
mod upkeep;
mod verity_disks;
mod words;
