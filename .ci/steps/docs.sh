#!/usr/bin/env bash
# the Rust documentation, without a warning
set -euo pipefail
RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked -q
