#!/usr/bin/env bash
# licences, sources and duplicate versions of what the library is built from
# inputs: Cargo.toml Cargo.lock deny.toml
set -euo pipefail
# What it is built with makes it no slower to wait for: it reads a few small files.
command -v cargo-deny >/dev/null || cargo install -q --debug --locked cargo-deny --version 0.20.2
cargo deny --locked check bans licenses sources
