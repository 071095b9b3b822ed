#!/usr/bin/env bash
# the static library for musl, linked into a program that needs nothing else, which runs
# inputs: Cargo.toml Cargo.lock build.rs src include packaging/Makefile examples-c
set -euo pipefail
target=x86_64-unknown-linux-musl
export CC_x86_64_unknown_linux_musl=musl-gcc
# Without what makes the release small and slow to build: what is asked is whether it links and runs.
export CARGO_PROFILE_DIST_LTO=off CARGO_PROFILE_DIST_CODEGEN_UNITS=16
make -s -C packaging build TARGET=$target
cargo build -q --locked --example make-layout
# The unwinder that comes with Rust's target; musl's own compiler has none.
unwinder=$(rustc --print target-libdir --target $target)/self-contained/libunwind.a
# shellcheck disable=SC2046
musl-gcc -static -std=c11 -D_POSIX_C_SOURCE=200809L -Wall -Wextra -Werror -Iinclude examples-c/quickstart.c examples-c/layout.c \
  target/$target/dist/libboxlite_images.a $(sed "s|-lunwind|$unwinder|" target/$target/dist/native-static-libs) -o "$CI_WORK/quickstart"
file "$CI_WORK/quickstart" | grep -E 'static(-pie|ally) linked'
target/debug/examples/make-layout "$CI_WORK/musl-layout"
"$CI_WORK/quickstart" "$CI_WORK/musl-store" "$CI_WORK/musl-layout"
