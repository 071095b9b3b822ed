#!/usr/bin/env bash
# licences, sources and duplicate versions of what the library is built from
# inputs: Cargo.toml Cargo.lock deny.toml
set -euo pipefail
command -v cargo-deny >/dev/null || cargo install -q --locked cargo-deny --version 0.20.2
cargo deny --locked check bans licenses sources
