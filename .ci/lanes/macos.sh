#!/usr/bin/env bash
# library, tests and C examples built and linked for macOS on arm64 and x86-64; nothing is run
# needs: zig
# inputs: Cargo.toml Cargo.lock build.rs src include tests/suite examples-c benches/tar_flate2.rs tests/golden tests/macos
set -euo pipefail
tests/macos/build.sh
