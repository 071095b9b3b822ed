#!/usr/bin/env bash
# the C and C++ tests under the address, leak, undefined behaviour and thread sanitizers
# inputs: Cargo.toml Cargo.lock build.rs src include tests/suite examples-c tests/c tests/cpp tests/sanitizers.sh
set -euo pipefail
tests/sanitizers.sh address
tests/sanitizers.sh thread
