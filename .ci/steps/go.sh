#!/usr/bin/env bash
# the Go module with this Debian's Go: format, vet, the race detector, checks of pointers
# after: release
set -euo pipefail
make -s -C packaging install DESTDIR="$CI_WORK/stage" PREFIX=/usr
cd bindings/go/boxlite
# Go does not see that pkg-config says something else than at an earlier run.
export GOCACHE=$CI_WORK/go-cache GOFLAGS=-mod=mod GOTOOLCHAIN=local
export PKG_CONFIG_PATH=$CI_WORK/stage/usr/lib/pkgconfig LD_LIBRARY_PATH=$CI_WORK/stage/usr/lib
[ -z "$(gofmt -l .)" ] || { gofmt -d .; exit 1; }
go vet ./...
go test -race ./...
GOGC=1 GODEBUG=cgocheck=2 go test ./... || GOEXPERIMENT=cgocheck2 go test ./...
go test -run '^$' -bench . -benchtime 1x -count 1 .
