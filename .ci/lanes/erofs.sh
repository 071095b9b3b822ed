#!/usr/bin/env bash
# disks are clean for the fsck.erofs of Debian trixie too, which knows more than that of bookworm
# needs: trixie
# inputs: Cargo.toml Cargo.lock build.rs src include tests/suite tests/golden examples-c
set -euo pipefail
mkdir -p "$CI_WORK/erofs"
# It runs outside of that folder, with its own libraries.
cat >"$CI_WORK/erofs/fsck.erofs" <<END
#!/bin/sh
exec $CI_TRIXIE/lib64/ld-linux-x86-64.so.2 --library-path $CI_TRIXIE/usr/lib/x86_64-linux-gnu $CI_TRIXIE/usr/bin/fsck.erofs "\$@"
END
chmod +x "$CI_WORK/erofs/fsck.erofs"
"$CI_WORK/erofs/fsck.erofs" --version
PATH=$CI_WORK/erofs:$PATH cargo test --locked --test suite -- disks::
