#!/usr/bin/env bash
# Boots an image from each kind of disk, and compares what the guest sees with the assembled root file system. Then it boots one whose
# blocks are verified, one with a writable disk over it, and one that grows.
#   boot.sh LAYOUT KERNEL      LAYOUT: an OCI image layout with the tag dev; KERNEL: boot/ and lib/modules/ of a Linux kernel
# Needs root, so that the root file system has the image's owners, blimg built in examples-c, dmsetup, and e2fsprogs, here and in the image.
set -euo pipefail
layout=$1 kernel=$2
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export BLIMG_STORE=$work/store BLIMG=$here/examples-c/build/blimg
BOOT_KERNEL=$(ls "$kernel"/boot/vmlinuz-*)
BOOT_MODULES=$kernel/lib/modules/$(basename "$BOOT_KERNEL" | sed 's/^vmlinuz-//')
export BOOT_KERNEL BOOT_MODULES BOOT_ACCEL=tcg

"$BLIMG" --quiet import "$layout" --form erofs --name boot:dev >/dev/null
"$BLIMG" --quiet rootfs boot:dev "$work/root" --mode direct
# Everything but what the guest mounts: types, modes, owners, times, targets; then the content of each file.
look='cd "$1" && find . -xdev \( -path ./proc -o -path ./sys -o -path ./dev -o -path ./lost+found \) -prune -o ! -path . -printf "%y %m %U %G %Ts %l %P\n" | LC_ALL=C sort'
sums='cd "$1" && find . -xdev \( -path ./proc -o -path ./sys -o -path ./dev -o -path ./lost+found \) -prune -o -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum'
bash -c "$look" look "$work/root" >"$work/expected"
bash -c "$sums" sums "$work/root" >>"$work/expected"
[ "$(wc -l <"$work/expected")" -gt 1000 ] || { echo "the root file system is not what it should be"; exit 1; }
export BOOT_SECONDS=600
boot() { "$here/examples-c/boot.sh" "$@"; }
fail() { echo "boot.sh: $*"; exit 1; }
# Boots with options, and compares. What comes last in the guest is one line more.
compare() {
  local begun=$SECONDS more=$1
  shift
  boot "$@" boot:dev /bin/bash -c "($look) && ($sums) && ($more)" look / >"$work/seen"
  sed '$d' "$work/seen" | diff "$work/expected" - >"$work/differences" || { head -n 20 "$work/differences"; fail "differences: $*"; }
  echo "boots${*:+, $*}: $(wc -l <"$work/expected") lines are as in the root file system, $((SECONDS - begun)) s"
}
is_clean() { e2fsck -fn "$1" >"$work/checked" 2>&1 || { cat "$work/checked"; fail "$1 is not clean"; }; }

for how in "" --erofs --merged; do
  # shellcheck disable=SC2086
  compare "echo end" $how
done
if boot boot:dev /bin/false; then fail "the status of the command is lost"; fi

# The guest reads through dm-verity, and not a block that is something else than what was hashed.
for how in "" --merged; do
  # shellcheck disable=SC2086
  compare "cat /sys/block/dm-0/dm/name" $how --verity
  [ "$(tail -n 1 "$work/seen")" = root ] || fail "there is no device of dm-verity"
done
cp "$("$BLIMG" disk --cached boot:dev --verity)" "$work/flipped"
block=$(debugfs -R "blocks /usr/bin/bash" "$work/flipped" 2>/dev/null | cut -d ' ' -f 40)
at=$((block * 4096 + 100))
byte=$(od -An -t u1 -j $at -N 1 "$work/flipped")
printf "\\$(printf %o $((byte ^ 1)))" | dd of="$work/flipped" bs=1 seek=$at conv=notrunc status=none
if BOOT_DISK=$work/flipped boot --verity boot:dev /usr/bin/sha256sum /usr/bin/bash >"$work/seen" 2>&1; then fail "a flipped byte was read"; fi
grep -q 'Input/output error' "$work/seen" || { cat "$work/seen"; fail "a flipped byte is told otherwise"; }
BOOT_DISK=$work/flipped boot boot:dev /usr/bin/sha256sum /usr/bin/bash >/dev/null || fail "without dm-verity it is read"
echo "boots, --verity: a flipped byte of /usr/bin/bash is not read"

# What is written is there at the next boot.
compare 'echo kept >/root/kept && chmod 711 / && echo end' --upper "$work/upper"
is_clean "$work/upper"
[ "$(boot --upper "$work/upper" boot:dev /bin/bash -c 'cat /root/kept; stat -c %a /')" = $'kept\n711' ] || fail "what was written is lost"
is_clean "$work/upper"
[ "$(boot boot:dev /bin/bash -c 'ls /root/kept 2>/dev/null || stat -c %a /')" = 755 ] || fail "the shared disk was written to"
echo "boots, --upper: what was written is there at the next boot"

# It grows while it is mounted, with files that were written before and after.
boot --writable "$work/writable" boot:dev /bin/true
truncate -s 12G "$work/writable"
grow='set -e; mkdir /w; for i in $(seq 5000); do echo $i >/w/$i; done; resize2fs /dev/vda >/dev/null 2>&1; for i in $(seq 5001 10000); do echo $i >/w/$i; done; cat /w/* | sort -n | cksum; df -B 1G --output=size / | tail -n 1'
seen=$(boot --writable "$work/writable" boot:dev /bin/bash -c "$grow")
[ "$(head -n 1 <<<"$seen")" = "$(seq 10000 | cksum)" ] && [ "$(tail -n 1 <<<"$seen")" -ge 11 ] || fail "it did not grow: $seen"
is_clean "$work/writable"
echo "boots, --writable: 10,000 files were written, and it grew to $(tail -n 1 <<<"$seen") GiB"
