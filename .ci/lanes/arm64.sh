#!/usr/bin/env bash
# arm64 Linux under qemu-user: unit tests, families, both APIs, golden layouts, C examples
# inputs: Cargo.toml Cargo.lock build.rs src include tests/suite examples-c packaging/Makefile tests/golden tests/abi tests/arm64.sh
set -euo pipefail
tests/arm64.sh
