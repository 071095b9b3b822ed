#!/usr/bin/env bash
# Builds a Meson project with the wrap, as where the library is not installed: from a clone of this checkout, from nothing. Needs
# meson and ninja. usage: tests/packaging/wrap.sh
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# shellcheck source=tests/packaging/programs.sh
. "$root/tests/packaging/programs.sh"

make_layout "$work/layout"
cp -r "$root/tests/packaging/meson" "$work/wrapped"
mkdir "$work/wrapped/subprojects"
cp -r "$root/packaging/meson/." "$work/wrapped/subprojects"
# The checkout may be somebody else's.
printf '[safe]\n\tdirectory = *\n' >"$work/gitconfig"
export GIT_CONFIG_GLOBAL=$work/gitconfig
sed -i -e "s|^url = .*|url = file://$root|" -e 's|^revision = .*|revision = HEAD|' -e '/^depth/d' \
  "$work/wrapped/subprojects/boxlite-images.wrap"
# Only to see that it is built: without what makes the release small and slow to build.
export CARGO_PROFILE_DIST_LTO=off CARGO_PROFILE_DIST_CODEGEN_UNITS=16
DESTDIR=/nowhere LIBDIR=lib64 meson setup "$work/wrapped/build" "$work/wrapped" -Dexamples="$root/examples-c" >"$work/log" || { cat "$work/log"; exit 1; }
ninja -C "$work/wrapped/build" >"$work/log" || { cat "$work/log"; exit 1; }
runs meson-wrap "$work/wrapped/build/quickstart" 0
