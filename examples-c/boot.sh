#!/bin/sh
# Boots an image: has blimg make a disk of it, and runs a command in it, in QEMU. The exit status is the command's.
#
#   boot.sh [OPTION]... IMAGE [COMMAND [ARGUMENT...]]
#
# Without COMMAND it is what the image's config says, as root. The disk is an ext4 that the store keeps. It is read-only, and the
# guest puts a file system in memory over it.
#
# --erofs, --merged   the disk is an EROFS, in one file or merged
# --verity            the guest verifies what it reads of the disk, by dm-verity
# --upper FILE        what the guest writes is in FILE, an ext4; one of 1 GiB is made if there is none
# --writable FILE     the disk is FILE, and the guest writes to it; one with 1 GiB free that can grow is made if there is none
#
# BLIMG           blimg; the one beside this script, in build/
# BLIMG_STORE     the store that has the image
# BOOT_DISK       a disk to boot in place of the one that the store keeps, such as a damaged copy
# BOOT_KERNEL     the guest's kernel; the newest in /boot
# BOOT_MODULES    the folder of its modules, made by depmod(8); /lib/modules/VERSION
# BOOT_ACCEL      kvm or tcg; kvm where /dev/kvm can be opened
# BOOT_SECONDS    how long it may take; 120
#
# Debian packages: qemu-system-x86 busybox-static cpio kmod, and a kernel such as linux-image-cloud-amd64; dmsetup for --verity.
# No root.
set -eu

fail() { echo "boot.sh: $*" >&2; exit 125; }
need() { command -v "$1" >/dev/null || fail "$1 is missing: install $2"; }

here=$(cd "$(dirname "$0")" && pwd)
layout='' format=raw fs=ext4 verity='' upper='' writable=''
while :; do
  case ${1-} in
  --erofs) fs=erofs ;;
  --merged) fs=erofs layout=--merged format=vmdk ;;
  --verity) verity=--verity ;;
  --upper) upper=${2:?--upper FILE}; shift ;;
  --writable) writable=${2:?--writable FILE}; shift ;;
  --*) fail "there is no option $1" ;;
  *) break ;;
  esac
  shift
done
[ $# -ge 1 ] || fail "usage: boot.sh [--erofs | --merged] [--verity] [--upper FILE] [--writable FILE] IMAGE [COMMAND [ARGUMENT...]]"
if [ -n "$writable" ] && [ "$fs$verity$upper" != ext4 ]; then fail "--writable is an ext4, without --verity and --upper"; fi
image=$1
shift

PATH=$PATH:/sbin:/usr/sbin
need qemu-system-x86_64 qemu-system-x86
need busybox busybox-static
need cpio cpio
need modprobe kmod
[ -z "$verity" ] || need dmsetup dmsetup
blimg=${BLIMG:-$here/build/blimg}
[ -x "$blimg" ] || fail "$blimg is missing: make -C $here"
kernel=${BOOT_KERNEL:-$(ls -t /boot/vmlinuz-* 2>/dev/null | head -n 1)}
[ -r "$kernel" ] || fail "no kernel that can be read: set BOOT_KERNEL"
version=$(basename "$kernel" | sed 's/^vmlinuz-//')
modules=${BOOT_MODULES:-/lib/modules/$version}
[ -d "$modules" ] || fail "$modules is missing: set BOOT_MODULES"
accel=${BOOT_ACCEL:-$([ -r /dev/kvm ] && [ -w /dev/kvm ] && echo kvm || echo tcg)}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -n "$writable" ]; then
  [ -e "$writable" ] || "$blimg" disk "$image" "$writable" --free 1G --journal --growable >/dev/null
  disk=$writable
else
  "$blimg" disk --cached "$image" --format $fs $layout $verity --json >"$work/disk.json"
  disk=${BOOT_DISK:-$(sed -n 's/^{"path":"\([^"]*\)".*/\1/p' "$work/disk.json")}
fi
[ -z "$upper" ] || [ -e "$upper" ] || "$blimg" disk --empty 1G "$image" "$upper" --journal >/dev/null
"$blimg" config "$image" >"$work/config"

# The initramfs: busybox, the modules that the disk needs in the order in which they load, and what to do.
root=$work/initramfs
mkdir -p "$root/bin" "$root/modules" "$root/proc" "$root/sys" "$root/dev" "$root/disk" "$root/over" "$root/new" "$root/sbin"
cp "$(command -v busybox)" "$root/bin/busybox"
count=100
: >"$work/copied"
mkdir -p "$work/lib/modules"
ln -s "$modules" "$work/lib/modules/$version"
for name in virtio_pci virtio_blk $fs overlay ${upper:+ext4} ${verity:+dm-verity sha256_generic}; do
  # One that the kernel has built in needs no file.
  modprobe -d "$work" -S "$version" --show-depends "$name" 2>/dev/null | sed -n 's/^insmod \([^ ]*\).*/\1/p' >"$work/needed" || :
  while read -r file; do
    ! grep -qxF "$file" "$work/copied" || continue
    echo "$file" >>"$work/copied"
    cp "$file" "$root/modules/$count-$(basename "$file")"
    count=$((count + 1))
  done <"$work/needed"
done

# A line each, as blimg prints them: `arg: "sh"`.
values() { sed -n "s/^$1: \"\(.*\)\"\$/\1/p" "$work/config" | sed 's/\\\(["\\]\)/\1/g'; }
values env >"$root/env"
values cwd >"$root/cwd"
# By which the guest's own words are told from the command's.
mark=$(od -An -N 8 -t x8 /dev/urandom | tr -d ' ')
echo "$mark" >"$root/mark"
echo "$fs" >"$root/fs"
[ -z "$writable" ] || : >"$root/is-writable"
[ -z "$upper" ] || : >"$root/has-upper"
if [ -n "$verity" ]; then
  sed -n 's/.*"verity_table":"\([^"]*\)".*/\1/p' "$work/disk.json" >"$root/table"
  # dmsetup comes with the libraries that it is linked to.
  dmsetup=$(command -v dmsetup)
  cp "$dmsetup" "$root/sbin/"
  ldd "$dmsetup" | sed -n 's/^[^/]*\(\/[^ ]*\) (.*/\1/p' | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
  done
fi
for word in "$@"; do
  case $word in *"
"*) fail "an argument has a newline in it: the guest reads one from each line" ;; esac
done
if [ $# -gt 0 ]; then printf '%s\n' "$@" >"$root/args"; else values arg >"$root/args"; fi
[ -s "$root/args" ] || fail "the image has no command: give one"

cat >"$root/init" <<'END'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in /modules/*; do [ ! -e "$module" ] || insmod "$module"; done
tries=100
while [ ! -b /dev/vda ] && [ $tries -gt 0 ]; do sleep 0.1; tries=$((tries - 1)); done
# The root file system of the image, at /new.
mount_root() {
  device=/dev/vda
  if [ -f /table ]; then
    /sbin/dmsetup create root --readonly --noudevsync --table "$(cat /table)" || return 1
    device=/dev/dm-0
  fi
  if [ -f /is-writable ]; then
    mount -t ext4 "$device" /new
    return
  fi
  mount -t "$(cat /fs)" -o ro "$device" /disk || return 1
  if [ -f /has-upper ]; then
    mount -t ext4 /dev/vdb /over || return 1
  else
    mount -t tmpfs tmpfs /over && mkdir /over/upper /over/work || return 1
  fi
  mount -t overlay -o lowerdir=/disk,upperdir=/over/upper,workdir=/over/work overlay /new
}
status=125
if mount_root; then
  for folder in proc sys dev; do
    [ -d "/new/$folder" ] || mkdir "/new/$folder"
    mount --bind "/$folder" "/new/$folder"
  done
  set --
  while IFS= read -r word; do set -- "$@" "$word"; done </args
  # The image need not have a shell, which starts the command in its directory.
  set -- /busybox-boot sh -c 'cd "$0" && /busybox-boot rm /busybox-boot && exec "$@"' "$(cat /cwd)" "$@"
  # Variables may have names that no shell has.
  while IFS= read -r variable; do
    case $variable in *=*) set -- "$variable" "$@" ;; esac
  done </env
  cp /bin/busybox /new/busybox-boot
  echo
  echo "begins $(cat /mark)"
  chroot /new /busybox-boot env -i "$@"
  status=$?
  rm -f /new/busybox-boot
fi
echo
echo "ends $(cat /mark) $status"
# What was written is on its disk when the guest ends, whatever the command has left running.
kill -9 -1
for folder in proc sys dev; do umount "/new/$folder"; done
umount /new /over 2>/dev/null
sync
poweroff -f
END
chmod 755 "$root/init"
(cd "$root" && find . | cpio -o -H newc 2>/dev/null | gzip -1) >"$work/initramfs.gz"

# QEMU has a comma as a separator.
drive() { printf 'file=%s,format=%s,if=virtio,readonly=%s' "$(printf '%s' "$1" | sed 's/,/,,/g')" "$2" "$3"; }
set -- -drive "$(drive "$disk" $format "$([ -n "$writable" ] && echo off || echo on)")"
[ -z "$upper" ] || set -- "$@" -drive "$(drive "$upper" raw off)"
timeout "${BOOT_SECONDS:-120}" qemu-system-x86_64 -accel "$accel" -cpu max -m 512 -smp 1 -nodefaults -nographic -no-reboot \
  -serial stdio -kernel "$kernel" -initrd "$work/initramfs.gz" -append "console=ttyS0 quiet panic=-1" \
  "$@" </dev/null >"$work/console" 2>"$work/errors" || :
tr -d '\r' <"$work/console" >"$work/text"
if ! grep -q "^begins $mark\$" "$work/text"; then
  cat "$work/text" "$work/errors" >&2
  fail "the guest did not come as far as the command"
fi
status=$(sed -n "s/^ends $mark //p" "$work/text")
sed -n "/^begins $mark\$/,/^ends $mark /p" "$work/text" | sed '1d;$d' | sed '${/^$/d;}'
[ -n "$status" ] || fail "the guest ended without a word: see above"
exit "$status"
