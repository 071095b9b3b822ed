# Debian trixie in a folder, for what Debian bookworm does not have. To be sourced, with the folder in $1: made where it is missing,
# kept between runs where it was given. Needs root, mmdebstrap and the right to mount.
#
#   in_trixie COMMAND...   runs there, with a line for each test on standard output and everything where it fails
#   packages NAME...       installs them
set -euo pipefail
# In a mount namespace of our own: nobody else sees what is mounted here, and it goes with us.
[ -n "${BL_MOUNTS:-}" ] || BL_MOUNTS=1 exec unshare --mount --propagation private "$0" "$@"
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
trixie=${1:-$work/trixie}
at_end=:
trap '$at_end; umount -l "$trixie/proc" || :; rm -rf --one-file-system "$work"' EXIT

if [ ! -d "$trixie" ]; then
  mmdebstrap --quiet --variant=minbase --include=gcc,g++,libc6-dev,pkgconf,binutils trixie "$trixie.new"
  mv "$trixie.new" "$trixie"
fi
mount -t proc proc "$trixie/proc"
cp /etc/resolv.conf "$trixie/etc/resolv.conf"
mkdir -p "$trixie/build"
log=$work/log

in_trixie() {
  chroot "$trixie" env -i PATH=/rust/bin:/usr/bin:/bin:/usr/sbin:/sbin HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@" >"$log" 2>&1 ||
    { cat "$log"; exit 1; }
}

packages() { in_trixie sh -c "apt-get update -q && apt-get install -q -y --no-install-recommends $*"; }

# The library, installed into /build/stage there, and found by pkg-config.
library() {
  make -s -C "$root/packaging" install DESTDIR="$work/stage" PREFIX=/usr
  rm -rf "$trixie/build/stage"
  cp -r "$work/stage" "$trixie/build"
  sed -i 's|^prefix=.*|prefix=/build/stage/usr|' "$trixie/build/stage/usr/lib/pkgconfig/"*.pc
}
found="PKG_CONFIG_PATH=/build/stage/usr/lib/pkgconfig LD_LIBRARY_PATH=/build/stage/usr/lib"

# A small image's layout, in /build/layout there.
layout() {
  rm -rf "$trixie/build/layout"
  cargo run -q --locked --manifest-path "$root/Cargo.toml" --target-dir "$root/target" --example make-layout -- "$trixie/build/layout" >/dev/null
}
