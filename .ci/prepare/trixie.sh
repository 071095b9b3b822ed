# A Debian 13 in a folder, for what Debian 12 does not have.
# for: one at a time
mmdebstrap --quiet --variant=minbase --include=gcc,g++,libc6-dev,pkgconf,binutils,erofs-utils,e2fsprogs trixie "$CI_TRIXIE.new"
mv "$CI_TRIXIE.new" "$CI_TRIXIE"
