#!/usr/bin/env bash
# Builds a Meson project with the wrap, as where the library is not installed: from a repository of this work tree, from nothing.
# Needs meson and ninja. usage: tests/packaging/wrap.sh
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
# What is here now, committed or not. The checkout may be somebody else's.
printf '[safe]\n\tdirectory = *\n[user]\n\tname = test\n\temail = test@localhost\n' >"$work/gitconfig"
export GIT_CONFIG_GLOBAL=$work/gitconfig
mkdir "$work/source"
(cd "$root" && git ls-files -z --cached --others --exclude-standard | xargs -0 sh -c 'for file; do [ -f "$file" ] && printf "%s\0" "$file"; done' _ |
  tar --null -T - -cf -) | tar -xf - -C "$work/source"
git -C "$work/source" init -q
git -C "$work/source" add -A
git -C "$work/source" commit -qm "the work tree"
sed -i -e "s|^url = .*|url = file://$work/source|" -e 's|^revision = .*|revision = HEAD|' -e '/^depth/d' \
  "$work/wrapped/subprojects/boxlite-images.wrap"
# Only to see that it is built: without what makes the release small and slow to build.
export CARGO_PROFILE_DIST_LTO=off CARGO_PROFILE_DIST_CODEGEN_UNITS=16
DESTDIR=/nowhere LIBDIR=lib64 meson setup "$work/wrapped/build" "$work/wrapped" -Dexamples="$root/examples-c" >"$work/log" || { cat "$work/log"; exit 1; }
ninja -C "$work/wrapped/build" >"$work/log" || { cat "$work/log"; exit 1; }
runs meson-wrap "$work/wrapped/build/quickstart" 0
