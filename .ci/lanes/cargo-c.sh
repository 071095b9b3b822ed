#!/usr/bin/env bash
# what cargo-c installs, built with Debian trixie's
# needs: trixie
# inputs: Cargo.toml Cargo.lock build.rs src include packaging examples-c tests/trixie.sh tests/packaging/cargo-c.sh
set -euo pipefail
tests/packaging/cargo-c.sh "$CI_TRIXIE"
