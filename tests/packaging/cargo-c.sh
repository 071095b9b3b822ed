#!/usr/bin/env bash
# What `cargo cinstall` installs: built with Debian trixie's cargo-c and the Rust that is here, and linked, shared and static. Needs
# root and mmdebstrap, and the sources of the dependencies, which any build brings. usage: tests/packaging/cargo-c.sh [TRIXIE]
# shellcheck source=tests/trixie.sh
. "$(dirname "$0")/../trixie.sh"
packages cargo-c
layout
read_only() {
  mkdir -p "$trixie/$2"
  mount --bind -o ro "$1" "$trixie/$2"
  mount -o remount,bind,ro "$trixie/$2"
}
read_only "$(rustc --print sysroot)" rust
read_only "${CARGO_HOME:-$HOME/.cargo}" cargo
read_only "$root" source
# However it ends, before anything is removed.
at_end='eval umount -l "$trixie/rust" "$trixie/cargo" "$trixie/source" || :'

# Without what makes the release small and slow to build.
in_trixie CARGO_HOME=/cargo CARGO_NET_OFFLINE=true CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
  cargo-cinstall cinstall --release --locked --manifest-path /source/Cargo.toml --target-dir /build/cargo-c --destdir /build/c \
  --prefix /usr --libdir /usr/lib
for file in include/boxlite_images.h include/boxlite_images.hpp include/boxlite_images/module.modulemap lib/libboxlite_images.so; do
  test -e "$trixie/build/c/usr/$file" || { echo "$file is not installed"; exit 1; }
done
cat >"$trixie/build/link.sh" <<'END'
set -eux
export PKG_CONFIG_PATH=/build/c/usr/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=/build/c
flags="-std=c11 -D_POSIX_C_SOURCE=200809L -Wall -Wextra -Werror /source/examples-c/quickstart.c /source/examples-c/layout.c"
gcc $flags $(pkg-config --cflags --libs boxlite_images) -Wl,-rpath,/build/c/usr/lib -o /build/with-shared
gcc $flags $(pkg-config --cflags boxlite_images) /build/c/usr/lib/libboxlite_images.a \
  $(pkg-config --static --libs-only-l boxlite_images | sed 's/-lboxlite_images//') -o /build/with-static
for program in with-shared with-static; do
  rm -rf "/build/store-$program"
  "/build/$program" "/build/store-$program" /build/layout
done
[ "$(readelf -d /build/with-shared | grep -c 'NEEDED.*libboxlite_images.so.0')" = 1 ]
[ "$(readelf -d /build/with-static | grep -c 'NEEDED.*libboxlite_images.so.0')" = 0 ]
END
in_trixie sh /build/link.sh
echo "ok: cargo-c, shared and static"
