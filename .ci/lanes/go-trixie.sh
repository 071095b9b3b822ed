#!/usr/bin/env bash
# the Go module with the newer Go of Debian trixie
# needs: trixie
# inputs: bindings/go include packaging src/ffi README.md tests/trixie.sh tests/go.sh
tests/go.sh "$CI_TRIXIE"
