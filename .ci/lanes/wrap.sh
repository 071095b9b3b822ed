#!/usr/bin/env bash
# the Meson wrap, which builds the library from nothing
# inputs: Cargo.toml Cargo.lock build.rs include packaging examples-c tests/packaging/meson tests/packaging/wrap.sh tests/packaging/programs.sh
tests/packaging/wrap.sh
