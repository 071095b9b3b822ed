#!/usr/bin/env bash
# a guest with Debian's 6.1 kernel boots the small image from each kind of disk, verified, written to, and grown
# inputs: Cargo.toml Cargo.lock build.rs src include examples-c packaging/Makefile tests/boot.sh
# needs: image kernel
set -euo pipefail
make -s -C examples-c
tests/boot.sh "$CI_IMAGE/img" "$CI_KERNEL"
