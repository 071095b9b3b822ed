#!/bin/sh
# Boots an image: has blimg keep a disk of it in the store, and runs a command in it, in QEMU. The disk is read-only; the guest puts
# a file system in memory over it. The exit status is the command's.
#
#   boot.sh [--erofs | --merged] IMAGE [COMMAND [ARGUMENT...]]
#
# Without COMMAND it is what the image's config says, as root. The disk is an ext4, or an EROFS in one file or merged.
#
# BLIMG           blimg; the one beside this script, in build/
# BLIMG_STORE     the store that has the image
# BOOT_KERNEL     the guest's kernel; the newest in /boot
# BOOT_MODULES    the folder of its modules, made by depmod(8); /lib/modules/VERSION
# BOOT_ACCEL      kvm or tcg; kvm where /dev/kvm can be opened
# BOOT_SECONDS    how long it may take; 120
#
# Debian packages: qemu-system-x86 busybox-static cpio kmod, and a kernel such as linux-image-cloud-amd64. No root.
set -eu

fail() { echo "boot.sh: $*" >&2; exit 125; }
need() { command -v "$1" >/dev/null || fail "$1 is missing: install $2"; }

here=$(cd "$(dirname "$0")" && pwd)
layout='' format=raw fs=ext4
case ${1-} in
--erofs) fs=erofs; shift ;;
--merged) fs=erofs layout=--merged format=vmdk; shift ;;
esac
[ $# -ge 1 ] || fail "usage: boot.sh [--erofs | --merged] IMAGE [COMMAND [ARGUMENT...]]"
image=$1
shift

PATH=$PATH:/sbin:/usr/sbin
need qemu-system-x86_64 qemu-system-x86
need busybox busybox-static
need cpio cpio
need modprobe kmod
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
disk=$("$blimg" disk --cached "$image" --format $fs $layout)
"$blimg" config "$image" >"$work/config"

# The initramfs: busybox, the modules that the disk needs in the order in which they load, and what to do.
root=$work/initramfs
mkdir -p "$root/bin" "$root/modules" "$root/proc" "$root/sys" "$root/dev" "$root/disk" "$root/over" "$root/new"
cp "$(command -v busybox)" "$root/bin/busybox"
count=100
: >"$work/copied"
mkdir -p "$work/lib/modules"
ln -s "$modules" "$work/lib/modules/$version"
for name in virtio_pci virtio_blk $fs overlay; do
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
status=125
if mount -t "$(cat /fs)" -o ro /dev/vda /disk && mount -t tmpfs tmpfs /over && mkdir /over/upper /over/work &&
  mount -t overlay -o lowerdir=/disk,upperdir=/over/upper,workdir=/over/work overlay /new; then
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
fi
echo
echo "ends $(cat /mark) $status"
poweroff -f
END
chmod 755 "$root/init"
(cd "$root" && find . | cpio -o -H newc 2>/dev/null | gzip -1) >"$work/initramfs.gz"

# QEMU has a comma as a separator.
file=$(printf '%s' "$disk" | sed 's/,/,,/g')
timeout "${BOOT_SECONDS:-120}" qemu-system-x86_64 -accel "$accel" -cpu max -m 512 -smp 1 -nodefaults -nographic -no-reboot \
  -serial stdio -kernel "$kernel" -initrd "$work/initramfs.gz" -append "console=ttyS0 quiet panic=-1" \
  -drive "file=$file,format=$format,if=virtio,readonly=on" </dev/null >"$work/console" 2>"$work/errors" || :
tr -d '\r' <"$work/console" >"$work/text"
if ! grep -q "^begins $mark\$" "$work/text"; then
  cat "$work/text" "$work/errors" >&2
  fail "the guest did not come as far as the command"
fi
status=$(sed -n "s/^ends $mark //p" "$work/text")
sed -n "/^begins $mark\$/,/^ends $mark /p" "$work/text" | sed '1d;$d' | sed '${/^$/d;}'
[ -n "$status" ] || fail "the guest ended without a word: see above"
exit "$status"
