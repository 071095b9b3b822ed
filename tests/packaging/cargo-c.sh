#!/usr/bin/env bash
# What `cargo cinstall` installs: built with Debian trixie's cargo-c and the Rust that is here, and linked, shared and static. Needs
# root and mmdebstrap, and the sources of the dependencies, which any build brings. usage: tests/packaging/cargo-c.sh [TRIXIE]
# TRIXIE: a folder to keep between runs, such as that of tests/swift.sh; made where it is missing.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trixie=${1:-$work/trixie}
cleanup() {
  for place in rust cargo source proc; do
    ! mountpoint -q "$trixie/$place" || umount "$trixie/$place"
  done
  rm -rf "$work"
}
trap cleanup EXIT
in_trixie() {
  chroot "$trixie" env -i PATH=/rust/bin:/usr/bin:/bin:/usr/sbin:/sbin HOME=/root DEBIAN_FRONTEND=noninteractive "$@" >"$work/log" 2>&1 ||
    { cat "$work/log"; exit 1; }
}

[ -d "$trixie/usr" ] || mmdebstrap --quiet --variant=minbase --include=gcc,libc6-dev trixie "$trixie"
mkdir -p "$trixie/rust" "$trixie/cargo" "$trixie/source" "$trixie/work"
mountpoint -q "$trixie/proc" || mount -t proc proc "$trixie/proc"
# Read-only: whoever removes the folder while they are mounted must not reach what they are of.
read_only() { mount --bind "$1" "$trixie/$2" && mount -o remount,bind,ro "$trixie/$2"; }
read_only "$(rustc --print sysroot)" rust
read_only "${CARGO_HOME:-$HOME/.cargo}" cargo
read_only "$root" source
cp /etc/resolv.conf "$trixie/etc/resolv.conf"
in_trixie sh -c 'apt-get update -q && apt-get install -q -y --no-install-recommends cargo-c pkgconf binutils'

# Without what makes the release small and slow to build.
in_trixie CARGO_HOME=/cargo CARGO_NET_OFFLINE=true CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
  cargo-cinstall cinstall --release --locked --manifest-path /source/Cargo.toml --target-dir /work/cargo-c --destdir /work/c \
  --prefix /usr --libdir /usr/lib
for file in include/boxlite_images.h include/boxlite_images.hpp include/boxlite_images/module.modulemap lib/libboxlite_images.so; do
  test -e "$trixie/work/c/usr/$file" || { echo "$file is not installed"; exit 1; }
done
cargo build -q --release --locked --manifest-path "$root/Cargo.toml" --target-dir "$root/target" --example make-layout
rm -rf "$trixie/work/layout"
"$root/target/release/examples/make-layout" "$trixie/work/layout" >/dev/null
cat >"$trixie/work/link.sh" <<'EOF'
set -eu
export PKG_CONFIG_PATH=/work/c/usr/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=/work/c
flags="-std=c11 -D_POSIX_C_SOURCE=200809L -Wall -Wextra -Werror /source/examples-c/quickstart.c /source/examples-c/layout.c"
gcc $flags $(pkg-config --cflags --libs boxlite_images) -Wl,-rpath,/work/c/usr/lib -o /work/with-shared
gcc $flags $(pkg-config --cflags boxlite_images) /work/c/usr/lib/libboxlite_images.a \
  $(pkg-config --static --libs-only-l boxlite_images | sed 's/-lboxlite_images//') -o /work/with-static
for program in with-shared with-static; do
  rm -rf "/work/store-$program"
  "/work/$program" "/work/store-$program" /work/layout
done
[ "$(readelf -d /work/with-shared | grep -c 'NEEDED.*libboxlite_images.so.0')" = 1 ]
[ "$(readelf -d /work/with-static | grep -c 'NEEDED.*libboxlite_images.so.0')" = 0 ]
EOF
in_trixie sh -x /work/link.sh
echo "ok: cargo-c, shared and static"
