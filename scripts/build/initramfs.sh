#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Initramfs images out of the tool box: a tiny one that boots the emulated host, and
# the Linux guest with its servers and load generators.  (A guest with
# its root on 9p takes more than twice as long to boot.)
set -eu
TOP=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"

key=$(cat "$ROOTFS.key" "$0" "$TOP/scripts/build/cpio.sh" "$TOP/scripts/rig/host/init" \
	"$TOP"/scripts/bench/guest/* | sha256sum)
if [ -s "$GUEST_INITRAMFS" ] && [ "$(cat "$BUILD/.initramfs" 2>/dev/null)" = "$key" ]; then
	exit 0
fi
need gzip
mkdir -p "$BUILD"
work=$(mktemp -d "$BUILD/initramfs.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

pack() {
	"$TOP/scripts/build/cpio.sh" "$1" "$1.cpio"
	gzip -6 -n <"$1.cpio" >"$2.tmp"
	mv "$2.tmp" "$2"
}

skeleton() {
	mkdir -p "$1/bin" "$1/proc" "$1/sys" "$1/tmp" "$1/run" "$1/root" "$1/etc"
	cp "$ROOTFS/bin/busybox" "$1/bin/busybox"
	ln -s busybox "$1/bin/sh"
}

skeleton "$work/host"
cp "$TOP/scripts/rig/host/init" "$work/host/init"
chmod 755 "$work/host/init"
pack "$work/host" "$RIG_INITRAMFS"

skeleton "$work/guest"
cp "$TOP/scripts/bench/guest/init" "$work/guest/init"
chmod 755 "$work/guest/init"
cp "$TOP/scripts/bench/guest/nginx.conf" "$work/guest/etc/nginx-guest.conf"
echo 'root:x:0:0:root:/root:/bin/sh' >"$work/guest/etc/passwd"
echo 'root:x:0:' >"$work/guest/etc/group"
# install DIR PROGRAM...: with what they need.  The loader of the tool box, not the
# machine's, says what that is.
install() {
	in_dir=$1
	shift
	for program; do
		{
			echo "$program"
			chroot "$ROOTFS" ldd "$program" | grep -o '/[^ ]*'
		} | sort -u | while read -r file; do
			mkdir -p "$in_dir$(dirname "$file")"
			cp -L "$ROOTFS$file" "$in_dir$file"
		done
	done
}

install "$work/guest" /usr/bin/redis-server /usr/bin/redis-cli /usr/bin/redis-benchmark \
	/usr/sbin/nginx /usr/bin/ab
pack "$work/guest" "$GUEST_INITRAMFS"

# What a guest with assigned devices has besides; appended to the other.
mkdir "$work/devices"
install "$work/devices" /usr/bin/iperf3 /usr/bin/fio
pack "$work/devices" "$BUILD/guest-devices.cpio.gz"

# What nginx serves, as the content of the guest's virtio disk: a page of 32 KiB.
mkdir "$work/www"
{
	echo '<!doctype html><title>guest</title><pre>'
	seq 1 10000
} | head -c 32768 >"$work/www/index.html"
tar -C "$work/www" --owner=0 --group=0 --mtime=@0 -b 128 -cf "$BUILD/guest-disk.img" .

printf '%s\n' "$key" >"$BUILD/.initramfs"
say "initramfs: $(du -h "$RIG_INITRAMFS" | cut -f 1) host, $(du -h "$GUEST_INITRAMFS" | cut -f 1) guest"
