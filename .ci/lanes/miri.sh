#!/usr/bin/env bash
# what crosses the C boundary, under miri
# inputs: Cargo.toml Cargo.lock src tests/sanitizers.sh
tests/sanitizers.sh miri
