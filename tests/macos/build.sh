#!/usr/bin/env bash
# Compiles and links for macOS on another system: the library, the tests, the quickstart and blimg. Nothing of it is run. The linker
# and the system's own library are zig's (`pip install ziglang cargo-zigbuild`). Apple's frameworks cannot be had here, so stubs of
# them are made that export what the library asks of them: that those names exist is not checked.
# usage: tests/macos/build.sh [TARGET]...     aarch64-apple-darwin, x86_64-apple-darwin: both by default
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for tool in cargo-zigbuild python3 llvm-nm; do
  command -v "$tool" >/dev/null || command -v "$tool-14" >/dev/null || { echo "$tool is missing"; exit 1; }
done
nm=$(command -v llvm-nm || command -v llvm-nm-14)
export SDKROOT=${CARGO_TARGET_DIR:-$PWD/target}/macos-sdk
mkdir -p "$SDKROOT/usr/lib"
frameworks=$SDKROOT/System/Library/Frameworks

stub() { # a framework, and the beginnings of its names
  mkdir -p "$frameworks/$1.framework"
  {
    echo "--- !tapi-tbd"
    echo "tbd-version: 4"
    echo "targets: [ x86_64-macos, arm64-macos ]"
    echo "install-name: '/System/Library/Frameworks/$1.framework/Versions/A/$1'"
    echo "exports:"
    echo "  - targets: [ x86_64-macos, arm64-macos ]"
    echo "    symbols: [ $(grep -E "^_($2)" "$work/undefined" | sort -u | paste -sd, | sed 's/,/, /g') ]"
    echo "..."
  } >"$frameworks/$1.framework/$1.tbd"
}

# Nothing of it is debugged. What this system's own tests are is asked for below, of how they were built before.
build() {
  CARGO_PROFILE_DEV_DEBUG=false cargo-zigbuild "$@"
}

is_mach_o() {
  file "$1" | sed "s|$work/||" | grep -E 'Mach-O 64-bit.*(arm64|x86_64)' || { file "$1"; exit 1; }
}

[ $# -gt 0 ] || set -- aarch64-apple-darwin x86_64-apple-darwin
for target; do
  built=${CARGO_TARGET_DIR:-target}/$target/debug
  # An archive is not linked, so it tells what the frameworks are asked for.
  build rustc -q --locked --target "$target" --lib --crate-type staticlib
  { "$nm" -u "$built/libboxlite_images.a" 2>/dev/null || :; } | awk '{ print $NF }' >"$work/undefined"
  stub Security 'Sec|kSec|SSL|CMS|Authorization'
  stub CoreFoundation 'CF|kCF|__CF'
  build rustc -q --locked --target "$target" --lib --crate-type cdylib
  library=$built/libboxlite_images.dylib
  is_mach_o "$library"
  "$nm" --extern-only --defined-only "$library" | sed -n 's/.* _//p' | sort >"$work/exported"
  # zig's linker does not know lists of what is to be exported, as Apple's does, so more than these are.
  cut -d' ' -f1 tests/golden/exports.txt | comm -23 - "$work/exported" >"$work/missing"
  [ ! -s "$work/missing" ] || { echo "$library does not export:"; cat "$work/missing"; exit 1; }
  echo "$library exports all $(grep -c ^bl_ "$work/exported") functions of the header"
  for program in quickstart blimg fork epoll_pull; do
    case $program in
      quickstart) sources="examples-c/quickstart.c examples-c/layout.c" ;;
      blimg) sources="examples-c/blimg.c $(echo examples-c/blimg_*.c) examples-c/options.c examples-c/layout.c" ;;
      fork) sources=examples-c/fork.c ;;
      epoll_pull) continue ;; # epoll is Linux's
    esac
    # shellcheck disable=SC2086
    cargo-zigbuild zig cc -- -target "${target%%-*}-macos" -std=c11 -Wall -Wextra -Wpedantic -Werror -D_DARWIN_C_SOURCE -Iinclude $sources \
      "$library" -o "$work/$program"
    is_mach_o "$work/$program"
  done
  build test -q --locked --target "$target" --no-run --message-format=json >"$work/tests.json"
  python3 - "$work/tests.json" "$nm" <<'END'
import json, re, subprocess, sys
# A test is a function of the program. Which functions are tests is what this system's own tests say; those of Linux alone are not
# among the functions.
seen = set()
for line in open(sys.argv[1]):
    message = json.loads(line)
    if not message.get("executable") or not message["profile"]["test"] or message["target"]["kind"] == ["example"]:
        continue
    crate = message["target"]["name"].replace("-", "_")
    which = ["--lib"] if message["target"]["kind"] != ["test"] else ["--test", crate]
    listed = subprocess.run(["cargo", "test", "-q", "--locked", *which, "--", "--list"], capture_output=True, text=True, check=True).stdout
    names = {line.removesuffix(": test") for line in listed.splitlines() if line.endswith(": test")}
    symbols = subprocess.run([sys.argv[2], "-C", message["executable"]], capture_output=True, text=True).stdout
    linked = names & set(re.findall(rf"\b{crate}::([\w:]+)::h[0-9a-f]{{16}}$", symbols, re.M))
    print(f"{crate}: {len(linked)} of {len(names)} tests are linked")
    seen.add(crate)
    if len(names) < 50 or len(linked) < 0.8 * len(names):
        sys.exit("too few")
if seen != {"boxlite_images", "suite"}:
    sys.exit(f"not all tests were built: {seen}")
END
done
echo "ok: built and linked for macOS, not run"
