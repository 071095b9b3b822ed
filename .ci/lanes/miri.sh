#!/usr/bin/env bash
# what crosses the C boundary, under miri
# inputs: Cargo.toml Cargo.lock build.rs src include tests/sanitizers.sh
set -euo pipefail
tests/sanitizers.sh miri
