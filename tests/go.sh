#!/usr/bin/env bash
# The Go module with the newer Go of Debian trixie, and with its checks of pointers. Needs root and mmdebstrap.
# usage: tests/go.sh [TRIXIE]     (tests/trixie.sh)
# shellcheck source=tests/trixie.sh disable=SC2086
. "$(dirname "$0")/trixie.sh"
packages golang-go
library
mkdir -p "$trixie/build/bindings" "$trixie/build/include"
rm -rf "$trixie/build/bindings/go"
cp -r "$root/bindings/go" "$trixie/build/bindings/go"
cp "$root/include/boxlite_images.h" "$trixie/build/include"
mkdir -p "$trixie/build/docs"
cp "$root/README.md" "$trixie/build"
cp "$root/docs/languages.md" "$trixie/build/docs"
in_trixie $found GOFLAGS=-mod=mod GOTOOLCHAIN=local \
  sh -c 'cd /build/bindings/go/boxlite && go version && go vet ./... && go test ./... && GOEXPERIMENT=cgocheck2 go test ./...'
cat "$log"
echo "ok: the Go module"
