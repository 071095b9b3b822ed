#!/usr/bin/env bash
# The Go module with the newer Go of Debian trixie, and with its checks of pointers. Needs root and mmdebstrap. usage: tests/go.sh [TRIXIE]
# TRIXIE: a folder to keep between runs, such as that of tests/swift.sh; made where it is missing.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trixie=${1:-$work/trixie}
cleanup() {
  ! mountpoint -q "$trixie/proc" || umount "$trixie/proc"
  rm -rf "$work"
}
trap cleanup EXIT

[ -d "$trixie/usr" ] || mmdebstrap --quiet --variant=minbase --include=gcc,libc6-dev trixie "$trixie"
mountpoint -q "$trixie/proc" || mount -t proc proc "$trixie/proc"
cp /etc/resolv.conf "$trixie/etc/resolv.conf"
in_trixie() { chroot "$trixie" env -i PATH=/usr/bin:/bin:/usr/sbin:/sbin HOME=/root DEBIAN_FRONTEND=noninteractive "$@"; }
in_trixie sh -c 'apt-get update -q && apt-get install -q -y --no-install-recommends golang-go pkgconf' >"$work/log" 2>&1 ||
  { cat "$work/log"; exit 1; }

make -s -C "$root/packaging" install DESTDIR="$work/stage" PREFIX=/usr
mkdir -p "$trixie/work/bindings" "$trixie/work/include"
rm -rf "$trixie/work/bindings/go" "$trixie/work/stage"
cp -r "$root/bindings/go" "$trixie/work/bindings/go"
cp "$root/include/boxlite_images.h" "$trixie/work/include"
cp -r "$root/README.md" "$work/stage" "$trixie/work"
sed -i 's|^prefix=.*|prefix=/work/stage/usr|' "$trixie/work/stage/usr/lib/pkgconfig/"*.pc
in_trixie PKG_CONFIG_PATH=/work/stage/usr/lib/pkgconfig LD_LIBRARY_PATH=/work/stage/usr/lib GOFLAGS=-mod=mod GOTOOLCHAIN=local \
  sh -c 'cd /work/bindings/go && go version && go vet ./... && go test ./... && GOEXPERIMENT=cgocheck2 go test ./...'
echo "ok: the Go module"
