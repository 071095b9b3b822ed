#!/usr/bin/env bash
# everything that the steps and lanes call, installed
set -euo pipefail
apt-get update -q >/dev/null
# A machine may have qemu-utils of a newer Debian, which this one's emulator does not go with. Both are of one version.
qemu=$(apt-cache policy qemu-system-x86 | sed -n 's/^  Candidate: //p')
apt-get install -q -y --no-install-recommends --allow-downgrades "qemu-utils=$qemu" "qemu-system-x86=$qemu" >/dev/null
apt-get install -q -y --no-install-recommends gcc g++ clang libclang-rt-14-dev make binutils file llvm valgrind strace libarchive-tools mmdebstrap \
  umoci jq python3 python3-venv libssl-dev nasm autoconf automake libtool e2fsprogs util-linux bsdutils docker-registry openssl skopeo \
  xfsprogs erofs-utils cryptsetup-bin dmsetup attr acl libcap2-bin busybox-static cpio kmod golang-go cmake meson ninja-build pkgconf gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static musl-tools >/dev/null
rustup -q target add aarch64-apple-darwin x86_64-apple-darwin aarch64-unknown-linux-gnu x86_64-unknown-linux-musl
rustup -q component add rustfmt clippy
rustup -q component add --toolchain nightly rust-src miri ||
  rustup -q toolchain install nightly --profile minimal --component rust-src --component miri
