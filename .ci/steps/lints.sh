#!/usr/bin/env bash
# format, clippy for each set of features, C that compiles without a warning, and where unsafe code may be
set -euo pipefail
cargo fmt --check
cargo fmt --check --manifest-path fuzz/Cargo.toml
cargo clippy -q --all-targets --locked -- -D warnings
cargo clippy -q --no-default-features --all-targets --locked -- -D warnings
for file in examples-c/*.c benches/*.c; do
  clang -fsyntax-only -std=gnu11 -Wall -Wextra -Werror -Iinclude -Iexamples-c "$file"
done
# 1 is that there is none.
unsafe=$(git grep -nE '\bunsafe\b' -- src ':!src/sys' ':!src/ffi') || [ $? = 1 ]
if [ -n "$unsafe" ] && grep -vE 'unsafe_code|//' <<<"$unsafe"; then
  echo "unsafe outside src/sys and src/ffi"; exit 1
fi
