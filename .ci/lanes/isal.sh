#!/usr/bin/env bash
# hostile and awkward layers with the other inflate, ISA-L
# inputs: Cargo.toml Cargo.lock src/layer src/sys src/unpack tests/suite/families
cargo clippy --features isal --locked -- -D warnings
cargo test --locked --features isal --test suite families
