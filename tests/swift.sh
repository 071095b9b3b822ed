#!/usr/bin/env bash
# Builds and tests the Swift package on Debian trixie, which has Swift 6.0: with a real registry, and once more with the thread
# sanitizer. Needs root, mmdebstrap, docker-registry and skopeo. usage: tests/swift.sh [TRIXIE]     (tests/trixie.sh)
# shellcheck source=tests/trixie.sh disable=SC2086
. "$(dirname "$0")/trixie.sh"
packages swiftlang
library
layout
mkdir -p "$trixie/build/bindings/swift"
rm -rf "$trixie/build/bindings/swift/"{Sources,Tests}
cp -r "$root/bindings/swift/." "$trixie/build/bindings/swift"
mkdir -p "$trixie/build/docs"
cp "$root/README.md" "$trixie/build"
cp "$root/docs/languages.md" "$trixie/build/docs"

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >"$work/registry.yml" <<END
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: "127.0.0.1:$port"}
END
docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
registry=$!
at_end='eval kill $registry 2>/dev/null || :'
for _ in $(seq 50); do
  kill -0 "$registry" || { cat "$work/registry.log"; exit 1; }
  ! skopeo copy -q --preserve-digests --dest-tls-verify=false "oci:$trixie/build/layout:demo" "docker://127.0.0.1:$port/team/x:1" 2>"$log" || break
  sleep 0.2
done
skopeo inspect --raw --tls-verify=false "docker://127.0.0.1:$port/team/x:1" >/dev/null || { cat "$log" "$work/registry.log"; exit 1; }

swift() { in_trixie $found BL_TEST_LAYOUT=/build/layout BL_TEST_REGISTRY="127.0.0.1:$port" swift "$@" --package-path /build/bindings/swift; }
swift build -Xswiftc -warnings-as-errors
swift test
grep -E "Test Case.*(passed|skipped)|Executed" "$log" | sort -u
if grep -q " skipped" "$log"; then echo "a test was skipped"; exit 1; fi
echo "ok: the Swift package, Swift 6.0"
swift test --scratch-path /build/tsan --sanitize thread
if grep -q "WARNING: ThreadSanitizer" "$log"; then cat "$log"; exit 1; fi
grep -E "Executed" "$log" | sort -u
echo "ok: the Swift package, with the thread sanitizer"
