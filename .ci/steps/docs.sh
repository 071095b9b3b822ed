#!/usr/bin/env bash
# the Rust documentation, without a warning
RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked -q
