#!/usr/bin/env bash
# what cargo-c installs, built with Debian trixie's
# needs: trixie
# inputs: Cargo.toml Cargo.lock build.rs include packaging examples-c tests/trixie.sh tests/packaging/cargo-c.sh
tests/packaging/cargo-c.sh "$CI_TRIXIE"
