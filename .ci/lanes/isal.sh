#!/usr/bin/env bash
# hostile and awkward layers with the other inflate, ISA-L
# inputs: Cargo.toml Cargo.lock build.rs src include tests/suite examples-c clippy.toml
set -euo pipefail
cargo clippy --features isal --locked -- -D warnings
# What becomes of entries does not depend on who inflates.
cargo test --locked --features isal --test suite families -- --skip families::disks::each_layer
