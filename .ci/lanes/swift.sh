#!/usr/bin/env bash
# the Swift package on Debian trixie, with a real registry, and with the thread sanitizer
# needs: trixie
# inputs: bindings/swift include packaging src/ffi README.md tests/trixie.sh tests/swift.sh
tests/swift.sh "$CI_TRIXIE"
