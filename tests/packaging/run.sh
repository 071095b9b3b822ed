#!/usr/bin/env bash
# Installs the library, moves what was installed, and builds the examples with everything that finds libraries: pkg-config, CMake
# and Meson, shared and static. Needs cmake, meson, ninja and pkg-config. usage: tests/packaging/run.sh
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# shellcheck source=tests/packaging/programs.sh
. "$root/tests/packaging/programs.sh"

make -s -C "$root/packaging" install DESTDIR="$work/stage" PREFIX=/opt/boxlite LIBDIR=lib/somewhere
mv "$work/stage/opt/boxlite" "$work/moved"
lib=$work/moved/lib/somewhere
layout=$work/layout
make_layout "$layout"

export PKG_CONFIG_PATH=$lib/pkgconfig
flags="-std=c11 -D_POSIX_C_SOURCE=200809L -Wall -Wextra -Werror"
sources="$root/examples-c/quickstart.c $root/examples-c/layout.c"
pkg-config --print-errors --exists 'boxlite_images >= 0.1.0'
# shellcheck disable=SC2046,SC2086
cc $flags $sources $(pkg-config --cflags --libs boxlite_images) -Wl,-rpath,"$lib" -o "$work/shared"
runs pkg-config-shared "$work/shared" 1
# shellcheck disable=SC2046,SC2086
cc $flags $sources $(pkg-config --cflags --libs boxlite_images-static) -o "$work/static"
runs pkg-config-static "$work/static" 0

"${CLANG:-clang}" -fmodules -fmodules-cache-path="$work/modules" -fmodule-map-file="$work/moved/include/boxlite_images/module.modulemap" \
  -x objective-c -std=c11 -fsyntax-only -Werror - <<'EOF'
@import CBoxliteImages;
int main(void) { bl_storage_options options = bl_storage_options_init(); return (int)options.flags; }
EOF
echo "ok: module map"

cmake -S "$root/tests/packaging/cmake" -B "$work/cmake" -DCMAKE_PREFIX_PATH="$lib/cmake" -DEXAMPLES="$root/examples-c" \
  -DTOUR="$root/tests/cpp/tour.cpp" >"$work/log" || { cat "$work/log"; exit 1; }
cmake --build "$work/cmake" >"$work/log" || { cat "$work/log"; exit 1; }
runs cmake-shared "$work/cmake/quickstart-shared" 1
runs cmake-static "$work/cmake/quickstart-static" 0
# One that is newer is not found.
sed 's/boxlite_images 0.1/boxlite_images 0.99/' "$root/tests/packaging/cmake/CMakeLists.txt" >"$work/CMakeLists.txt"
mkdir "$work/newer" && mv "$work/CMakeLists.txt" "$work/newer"
if cmake -S "$work/newer" -B "$work/newer/build" -DCMAKE_PREFIX_PATH="$lib/cmake" >/dev/null 2>&1; then
  echo "CMake takes an older library than was asked for"; exit 1
fi
echo "ok: cmake-version"

meson setup "$work/meson" "$root/tests/packaging/meson" -Dexamples="$root/examples-c" >"$work/log" || { cat "$work/log"; exit 1; }
ninja -C "$work/meson" >"$work/log" || { cat "$work/log"; exit 1; }
LD_LIBRARY_PATH=$lib runs meson-shared "$work/meson/quickstart" 1

make -s -C "$root/packaging" uninstall DESTDIR="" PREFIX="$work/moved" LIBDIR=lib/somewhere
[ -z "$(find "$work/moved" -type f -o -type l)" ] || { echo "something stays installed"; exit 1; }
echo "ok: uninstall"
