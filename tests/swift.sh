#!/usr/bin/env bash
# Builds and tests the Swift package on Debian trixie, whose Swift 6.0 lives in a folder here: with a real registry, and once
# more with the thread sanitizer. Needs root, mmdebstrap, docker-registry and skopeo. usage: tests/swift.sh [TRIXIE]
# TRIXIE: a folder to keep between runs, made where it is missing.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trixie=${1:-$work/trixie}
cleanup() {
  [ -z "${registry:-}" ] || kill "$registry"
  ! mountpoint -q "$trixie/proc" || umount "$trixie/proc"
  rm -rf "$work"
}
trap cleanup EXIT

if [ ! -d "$trixie/usr/libexec/swift" ]; then
  mmdebstrap --quiet --variant=minbase --include=swiftlang,libc6-dev,gcc,g++ trixie "$trixie"
fi
mountpoint -q "$trixie/proc" || mount -t proc proc "$trixie/proc"

# The package, what it links, and an image: in the folder, and in a registry.
make -s -C "$root/packaging" install DESTDIR="$work/stage" PREFIX=/usr
mkdir -p "$trixie/work/bindings/swift"
rm -rf "$trixie/work/bindings/swift/"{Sources,Tests} "$trixie/work/stage" "$trixie/work/layout"
cp -r "$root/bindings/swift/." "$trixie/work/bindings/swift"
cp -r "$root/README.md" "$work/stage" "$trixie/work"
# Found as an installed library is, but not there.
sed -i 's|^prefix=.*|prefix=/work/stage/usr|' "$trixie/work/stage/usr/lib/pkgconfig/"*.pc
cargo build -q --release --locked --manifest-path "$root/Cargo.toml" --target-dir "$root/target" --example make-layout
"$root/target/release/examples/make-layout" "$trixie/work/layout" >/dev/null
cat >"$work/registry.yml" <<END
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: "127.0.0.1:5959"}
END
docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
registry=$!
for _ in $(seq 50); do
  ! skopeo copy -q --preserve-digests --dest-tls-verify=false "oci:$trixie/work/layout:demo" docker://127.0.0.1:5959/team/x:1 2>"$work/log" || break
  sleep 0.2
done
skopeo inspect --raw --tls-verify=false docker://127.0.0.1:5959/team/x:1 >/dev/null || { cat "$work/log" "$work/registry.log"; exit 1; }

# A line for each test, and everything of what goes wrong.
in_trixie() {
  chroot "$trixie" env -i PATH=/usr/bin:/bin HOME=/root LANG=C.UTF-8 PKG_CONFIG_PATH=/work/stage/usr/lib/pkgconfig \
    LD_LIBRARY_PATH=/work/stage/usr/lib BL_TEST_LAYOUT=/work/layout BL_TEST_REGISTRY=127.0.0.1:5959 "$@" >"$work/log" 2>&1 ||
    { cat "$work/log"; exit 1; }
}
in_trixie swift build --package-path /work/bindings/swift -Xswiftc -warnings-as-errors
in_trixie swift test --package-path /work/bindings/swift
grep -E "Test Case.*(passed|skipped)|Executed" "$work/log" | sort -u
if grep -q " skipped" "$work/log"; then echo "a test was skipped"; exit 1; fi
echo "ok: the Swift package, Swift 6.0"
in_trixie swift test --package-path /work/bindings/swift --scratch-path /work/tsan --sanitize thread
if grep -q "WARNING: ThreadSanitizer" "$work/log"; then cat "$work/log"; exit 1; fi
grep -E "Executed" "$work/log" | sort -u
echo "ok: the Swift package, with the thread sanitizer"
