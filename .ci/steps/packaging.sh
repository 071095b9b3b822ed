#!/usr/bin/env bash
# installed: pkg-config, CMake, Meson, the module map, shared and static, C and C++
tests/packaging/run.sh
