#!/usr/bin/env bash
# disks are clean for the fsck.erofs and the e2fsck of Debian trixie too, which know more than those of bookworm
# needs: trixie
# inputs: Cargo.toml Cargo.lock build.rs src include tests/suite tests/golden examples-c
set -euo pipefail
mkdir -p "$CI_WORK/fsck"
# They run outside of that folder, with their own libraries.
for program in usr/bin/fsck.erofs usr/sbin/e2fsck; do
  name=$CI_WORK/fsck/$(basename $program)
  cat >"$name" <<END
#!/bin/sh
exec $CI_TRIXIE/lib64/ld-linux-x86-64.so.2 --library-path $CI_TRIXIE/usr/lib/x86_64-linux-gnu $CI_TRIXIE/$program "\$@"
END
  chmod +x "$name"
done
"$CI_WORK/fsck/fsck.erofs" --version
"$CI_WORK/fsck/e2fsck" -V 2>&1 | tee "$CI_WORK/fsck/version"
grep -q '^e2fsck 1\.47\.2' "$CI_WORK/fsck/version"
PATH=$CI_WORK/fsck:$PATH cargo test --locked --test suite -- disks:: injected_files::
