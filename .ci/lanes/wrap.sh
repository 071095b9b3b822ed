#!/usr/bin/env bash
# the Meson wrap, which builds the library from nothing
# inputs: Cargo.toml Cargo.lock build.rs src include packaging examples-c tests/packaging/meson tests/packaging/wrap.sh tests/packaging/programs.sh
set -euo pipefail
tests/packaging/wrap.sh
