#!/usr/bin/env bash
# the Go module with the newer Go of Debian trixie
# needs: trixie
# inputs: bindings/go Cargo.toml Cargo.lock build.rs src include packaging README.md docs/languages.md tests/trixie.sh tests/go.sh
set -euo pipefail
tests/go.sh "$CI_TRIXIE"
