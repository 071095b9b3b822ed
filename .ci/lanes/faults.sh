#!/usr/bin/env bash
# all faults: killed at every system call, each refused in turn, power lost at any moment, many processes, corruption
# inputs: Cargo.toml Cargo.lock build.rs src include tests/suite examples-c
set -euo pipefail
BL_FAULTS=full cargo test --locked --test suite faults:: -- --nocapture
