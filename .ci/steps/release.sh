#!/usr/bin/env bash
# the README's first command, on the library that is shipped; and the same on a real image
# needs: image
set -euo pipefail
make -C examples-c run
make -C examples-c
make -C examples-c run STORE="$CI_WORK/store" LAYOUT="$CI_IMAGE/img"
.ci/release-checks.sh target/dist 5750000
