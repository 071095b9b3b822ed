#!/usr/bin/env bash
# each fuzz target for 30 seconds, from what the tests know
BL_WRITE_CORPUS="$PWD/fuzz/corpus" cargo test -q --locked --test suite corpus_for_fuzzing >/dev/null
for target in entries unpack merge; do
  fuzz/run.sh "$target" -max_total_time=30 -timeout=20 2>&1 | tail -3
done
