#!/usr/bin/env bash
# arm64 Linux under qemu-user: unit tests, families, both APIs, golden layouts, C examples
# inputs: Cargo.toml Cargo.lock build.rs src include examples-c packaging/Makefile tests/suite tests/golden tests/abi tests/arm64.sh
tests/arm64.sh
