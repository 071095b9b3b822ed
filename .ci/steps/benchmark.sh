#!/usr/bin/env bash
# that the benchmarks run: nothing is asserted of what they print
# after: release
set -euo pipefail
make -s -C packaging build
python3 benches/measure.py --quick -n 1 --mib 32
