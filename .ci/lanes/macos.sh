#!/usr/bin/env bash
# library, tests and C examples built and linked for macOS on arm64 and x86-64; nothing is run
# needs: zig
# inputs: Cargo.toml Cargo.lock build.rs src include examples-c tests/suite tests/golden tests/macos
tests/macos/build.sh
