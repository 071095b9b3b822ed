#!/usr/bin/env bash
# What holds for a build that is shipped: it went through link-time optimisation, exports nothing but bl_*, and is small.
# usage: .ci/release-checks.sh FOLDER MOST_BYTES
set -euo pipefail
library=$1/libboxlite_images.so
# Without LTO each dependency is some objects of its own in the archive: 400 in all.
objects=$(ar t "$1/libboxlite_images.a" | grep rcgu | grep -vc compiler_builtins || :)
[ "$objects" -ge 1 ] || { echo "nothing of ours in the archive"; exit 1; }
[ "$objects" -le 4 ] || { echo "$objects objects in the archive: it was built without link-time optimisation"; exit 1; }
names=$(nm -D --defined-only "$library")
if grep -v ' bl_' <<<"$names"; then
  echo "a name that is not bl_* is exported"; exit 1
fi
stripped=$(mktemp)
trap 'rm -f "$stripped"' EXIT
strip -o "$stripped" "$library"
size=$(stat -c %s "$stripped")
echo "$library: $size bytes stripped, $objects objects in the archive"
[ "$size" -le "$2" ] || { echo "more than $2 bytes"; exit 1; }
