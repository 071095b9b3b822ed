#!/usr/bin/env bash
# The C and C++ tests under sanitizers, with a library and a standard library that were built with the same: `address` is addresses,
# leaks and undefined behaviour, `thread` races. `miri` is what crosses the C boundary under miri. Needs clang, and nightly Rust with
# rust-src and miri.
# usage: tests/sanitizers.sh [address|thread|miri]...
set -euo pipefail
cd "$(dirname "$0")/.."
target=x86_64-unknown-linux-gnu
source=$(rustc +nightly --print sysroot)/lib/rustlib/src/rust/library
[ -d "$source" ] || { echo "rust-src is missing: rustup component add --toolchain nightly rust-src"; exit 1; }
work=$(mktemp -d)
mkdir -p target
trap 'rm -rf "$work"' EXIT

sanitized() { # a sanitizer of rustc's, its runtime, clang's flags, a program that it must refuse, and the tests
  local folder=$PWD/target/sanitized-$1 log=$PWD/target/sanitized-$1.log runtime flags
  # The standard library and the C code of dependencies too.
  CC_x86_64_unknown_linux_gnu=clang CFLAGS_x86_64_unknown_linux_gnu="-fsanitize=$1 -g" RUSTFLAGS="-Zsanitizer=$1" \
    CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_PROFILE_DEV_DEBUG=line-tables-only \
    cargo +nightly rustc --locked --lib --crate-type staticlib -Zbuild-std --target "$target" --target-dir "$folder" \
    --config 'profile.dev.package."*".opt-level=1' -- --print native-static-libs="$folder/native-static-libs" >"$log" 2>&1 ||
    { cat "$log"; exit 1; }
  # The runtime of the compiler that built the library, which may be newer than clang's.
  runtime=$(rustc +nightly --print sysroot)/lib/rustlib/$target/lib/librustc-nightly_rt.$2.a
  flags="$3 -fno-sanitize-link-runtime -fno-sanitize-recover=all -fno-omit-frame-pointer"
  flags="$flags $folder/$target/debug/libboxlite_images.a -Wl,--whole-archive $runtime -Wl,--no-whole-archive"
  flags="$flags -Wl,--export-dynamic $(cat "$folder/native-static-libs") -lresolv"
  export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1 TSAN_OPTIONS=halt_on_error=1
  echo "$4" >"$work/wrong.c"
  # shellcheck disable=SC2086
  clang -g "$work/wrong.c" $flags -pthread -o "$work/wrong"
  if "$work/wrong" >"$work/out" 2>&1; then echo "$3 refuses nothing"; exit 1; fi
  grep -q Sanitizer "$work/out" || { cat "$work/out"; exit 1; }
  BL_TEST_SANITIZED=$flags cargo test --locked --test suite -- "${@:5}" >"$log" 2>&1 || { cat "$log"; exit 1; }
  grep -E "^test .* ok$" "$log"
  for name in "${@:5}"; do
    grep -qE "^test $name.* ok$" "$log" || { echo "there is no test $name"; exit 1; }
  done
  echo "ok: $3"
}

address() {
  sanitized address asan "-fsanitize=address,undefined -fno-sanitize=vptr,function" '#include <stdlib.h>
int main(void) { volatile char *lost = malloc(9); lost[0] = 1; lost = NULL; return 0; }' \
    c_programs:: cpp::the_header pull::programs::the_c_api
}

thread() {
  sanitized thread tsan -fsanitize=thread '#include <pthread.h>
static int shared;
static void *add(void *_) { for (int i = 0; i < 100000; i++) shared++; return _; }
int main(void) { pthread_t a, b; pthread_create(&a, 0, add, 0); pthread_create(&b, 0, add, 0);
  pthread_join(a, 0); pthread_join(b, 0); return 0; }' \
    c_programs::hammer c_programs::threads c_programs::lifecycle pull::programs::the_c_api
}

miri() {
  cargo +nightly miri --version >/dev/null 2>&1 || { echo "miri is missing: rustup component add --toolchain nightly miri"; exit 1; }
  # Without the network, which miri does not know: errors, tokens, bytes, callbacks, and what every function makes of its arguments.
  MIRIFLAGS=-Zmiri-strict-provenance cargo +nightly miri test --locked --lib --no-default-features --target-dir target/miri ffi:: >target/miri.log 2>&1 ||
    { cat target/miri.log; exit 1; }
  grep -E "^test " target/miri.log
  grep -qE "^test result: ok. [1-9]" target/miri.log
  echo "ok: miri"
}

[ $# -gt 0 ] || set -- address thread miri
for what; do
  case $what in
    address | thread | miri) "$what" ;;
    *) echo "$what: not one of address, thread, miri"; exit 2 ;;
  esac
done
