#!/usr/bin/env bash
# Boots an image from each kind of disk, and compares what the guest sees with the assembled root file system.
#   boot.sh LAYOUT KERNEL      LAYOUT: an OCI image layout with the tag dev; KERNEL: boot/ and lib/modules/ of a Linux kernel
# Needs root, so that the root file system has the image's owners, and blimg built in examples-c.
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
for how in "" --erofs --merged; do
  begun=$SECONDS
  # shellcheck disable=SC2086
  BOOT_SECONDS=600 "$here/examples-c/boot.sh" $how boot:dev /bin/bash -c "($look) && ($sums)" look / >"$work/seen"
  diff "$work/expected" "$work/seen" >"$work/differences" || { head -n 20 "$work/differences"; exit 1; }
  echo "boots, ${how:---ext4}: $(wc -l <"$work/seen") lines are as in the root file system, $((SECONDS - begun)) s"
done
if "$here/examples-c/boot.sh" boot:dev /bin/false; then echo "the status of the command is lost"; exit 1; fi
