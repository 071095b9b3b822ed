#!/usr/bin/env bash
# Builds the fuzz targets, with coverage and AddressSanitizer, and runs one. It is what `cargo fuzz run` does, without having to
# install that. Needs nightly Rust and a C++ compiler.
# usage: fuzz/run.sh TARGET [OPTIONS OF LIBFUZZER]
set -euo pipefail
: "${1:?usage: fuzz/run.sh TARGET [OPTIONS OF LIBFUZZER]}"
cd "$(dirname "$0")"
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
flags="--cfg fuzzing -Zsanitizer=address -Cdebug-assertions -Ccodegen-units=1 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
flags="$flags -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
flags="$flags -Cllvm-args=-sanitizer-coverage-trace-compares"
RUSTFLAGS=$flags cargo +nightly build -q --release --locked --target "$host" --target-dir target
mkdir -p "corpus/$1" "artifacts/$1"
exec "target/$host/release/$1" -artifact_prefix="artifacts/$1/" -max_len=16384 "${@:2}" "corpus/$1"
