#!/usr/bin/env bash
# the Swift package on Debian trixie, with a real registry, and with the thread sanitizer
# needs: trixie
# inputs: bindings/swift Cargo.toml Cargo.lock build.rs src include packaging examples-c README.md docs/languages.md tests/trixie.sh tests/swift.sh
set -euo pipefail
tests/swift.sh "$CI_TRIXIE"
