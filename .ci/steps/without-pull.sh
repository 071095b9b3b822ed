#!/usr/bin/env bash
# what is shipped without the feature `pull`: its size, and that nothing of HTTP is in it
set -euo pipefail
make -s -C packaging build DEFAULT_FEATURES=no TARGET_DIR="$PWD/target/without-pull"
.ci/release-checks.sh target/without-pull/dist 3200000
tree=$(cargo tree --locked --no-default-features -e normal --prefix none)
if grep -E '^(reqwest|hyper|rustls|tokio|oci-client) ' <<<"$tree"; then
  echo "the core depends on HTTP"; exit 1
fi
