#!/usr/bin/env bash
# the README's second command, with a real image, peers and the release build at hand
# after: release
# needs: image peers
set -euo pipefail
make -s -C packaging build
export BL_TEST_LAYOUT=$CI_IMAGE/img BL_TEST_PEERS=$CI_PEERS BL_TEST_RELEASE=$PWD/target/dist/libboxlite_images.so
status=0
cargo test --locked 2>&1 | tee "$CI_WORK/tests.log" || status=$?
# Its own count, for the end of the run.
awk '/^test result:/ { passed += $4; failed += $6; skipped += $8 } END { printf "tests: %d passed, %d failed, %d skipped\n", passed, failed, skipped }' \
  "$CI_WORK/tests.log" >"$CI_WORK/tests.count"
[ "$status" = 0 ] && grep -qE '^tests: [1-9][0-9]+ passed, 0 failed' "$CI_WORK/tests.count"
