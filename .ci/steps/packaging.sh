#!/usr/bin/env bash
# installed: pkg-config, CMake, Meson, the module map, shared and static, C and C++
# after: release
set -euo pipefail
tests/packaging/run.sh
