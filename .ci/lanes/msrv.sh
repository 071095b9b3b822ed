#!/usr/bin/env bash
# the oldest Rust that the manifest names builds the library, with and without pulling
# inputs: Cargo.toml Cargo.lock build.rs src
set -euo pipefail
oldest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
rustup -q toolchain install "$oldest" --profile minimal
cargo "+$oldest" check --locked --lib --target-dir target/msrv
cargo "+$oldest" check --locked --lib --no-default-features --target-dir target/msrv
