#!/usr/bin/env bash
# the C and C++ tests under the address, leak, undefined behaviour and thread sanitizers
# inputs: Cargo.toml Cargo.lock src include tests/c tests/cpp tests/suite/c_programs.rs tests/suite/cpp.rs tests/suite/support.rs tests/suite/pull tests/sanitizers.sh
tests/sanitizers.sh address
tests/sanitizers.sh thread
