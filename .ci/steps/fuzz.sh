#!/usr/bin/env bash
# each fuzz target for 30 seconds, from what the tests know
set -euo pipefail
BL_WRITE_CORPUS="$PWD/fuzz/corpus" cargo test -q --locked --test suite corpus_for_fuzzing >"$CI_WORK/corpus.log" 2>&1 ||
  { cat "$CI_WORK/corpus.log"; exit 1; }
[ -n "$(find fuzz/corpus -type f -print -quit)" ] || { echo "the corpus is empty"; exit 1; }
for target in entries unpack merge; do
  fuzz/run.sh "$target" -max_total_time=30 -timeout=20 2>&1 | tail -3
done
