#!/usr/bin/env bash
# Builds for arm64 Linux and runs it on another CPU, under qemu-user: the unit tests, the families' layers, both APIs, the golden layouts,
# and the C examples. Needs root (for binfmt_misc), gcc-aarch64-linux-gnu and qemu-user-static.
# usage: tests/arm64.sh
set -euo pipefail
cd "$(dirname "$0")/.."
target=aarch64-unknown-linux-gnu
work=$(mktemp -d)
binfmt=/proc/sys/fs/binfmt_misc
is_registered=
trap '[ -z "$is_registered" ] || echo -1 >$binfmt/qemu-aarch64; rm -rf "$work"' EXIT
for tool in aarch64-linux-gnu-gcc qemu-aarch64-static; do
  command -v $tool >/dev/null || { echo "$tool is missing: apt-get install gcc-aarch64-linux-gnu qemu-user-static"; exit 1; }
done

# The kernel starts arm64 programs by qemu, also those that a test starts.
[ -e $binfmt/register ] || mount -t binfmt_misc none $binfmt
if [ ! -e $binfmt/qemu-aarch64 ]; then
  magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
  mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
  echo ":qemu-aarch64:M::$magic:$mask:$(command -v qemu-aarch64-static):F" >$binfmt/register
  is_registered=yes
fi
export QEMU_LD_PREFIX=/usr/aarch64-linux-gnu
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
# What the tests compile C with; of other compilers there is none for arm64 here.
export BL_TEST_CC=aarch64-linux-gnu-gcc

tests() {
  # Whatever is not optimised takes ten times as long there as here.
  cargo test --locked --target $target --config 'profile.dev.package.boxlite-images.opt-level=1' "$@" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
  grep -E '^test result: ok. [1-9]' "$work/log" || { cat "$work/log"; exit 1; }
}

tests --lib
# Not what takes ten minutes there: layers on top of each other, sparse files, and mounting what golden digests compare. Nor what has the kernel forbid system calls, which
# qemu does not pass on, and what bounds processor time, of which qemu takes some itself.
tests --test suite -- families:: both:: extraction:: abi:: disk_bytes:: \
  --skip families::assembly --skip families::model --skip families::sandboxes --skip families::sparse_files \
  --skip family_134_a_cancel --skip families::disks::each_layer
for name in families both extraction abi; do
  grep -qE "^test $name::.* ok$" "$work/log" || { echo "no test of $name was run"; exit 1; }
done

# Without what makes the release small and slow to build: what is asked is whether it links and runs.
export CARGO_PROFILE_DIST_LTO=off CARGO_PROFILE_DIST_CODEGEN_UNITS=16
make -s -C packaging build TARGET=$target
make -s -C examples-c TARGET=$target CC=aarch64-linux-gnu-gcc B="$work/examples"
file "$work/examples/quickstart" target/$target/dist/libboxlite_images.so | grep aarch64
cargo run -q --locked --example make-layout -- "$work/layout"
"$work/examples/quickstart" "$work/store" "$work/layout"
"$work/examples/blimg" --store "$work/blimg" import "$work/layout" --name example.org/demo:1
"$work/examples/blimg" --store "$work/blimg" ls | grep example.org/demo:1
# The CPU's own instructions for SHA-256 and CRC-32 are in the library, and are taken where the CPU has them.
aarch64-linux-gnu-objdump -d target/$target/dist/libboxlite_images.so >"$work/code"
for instruction in sha256h sha512h crc32x; do
  echo "$instruction: $(grep -cw "$instruction" "$work/code")"
  grep -qw "$instruction" "$work/code" || { echo "no $instruction in the library"; exit 1; }
done
echo "ok: arm64"
