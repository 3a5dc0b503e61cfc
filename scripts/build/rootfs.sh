#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The tool box of the rig: a small Debian 13 root file system.  It holds the
# emulators, it is the root of the emulated host (read-only), and the programs of
# the Linux guest are taken from it, so that the rig is the same whatever release
# the machine itself runs.
#
# QEMU comes from Debian 13's backports.  Debian 12's has no x2APIC in its emulation,
# and Debian 13's own loses NMIs: see "What the emulator does differently" in
# Documentation/testing.md.  rtla does, too: Debian 13's own saves a trace only when a
# latency was too long.
set -eu
TOP=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"

SUITE=trixie
BACKPORTED='qemu-* seabios rtla'
PACKAGES=qemu-system-x86,seabios,bochs,bochs-term,bochsbios,vgabios,linux-perf,rtla,bpftrace,redis-server,redis-tools,nginx-light,apache2-utils,stress-ng,kmod,iproute2,procps,busybox-static,libjson-c5,psmisc,util-linux,socat,python3-minimal,pciutils,strace,gdb,iperf3,fio

key=$(printf '%s %s %s\n' "$SUITE" "$BACKPORTED" "$PACKAGES" | sha256sum | cut -d ' ' -f 1)
if [ "$(cat "$ROOTFS.key" 2>/dev/null)" = "$key" ] && [ -x "$ROOTFS/usr/bin/perf" ]; then
	exit 0
fi

need mmdebstrap
[ "$(id -u)" -eq 0 ] || die "making the root file system needs root"

mirror=$(debian_mirror)
mkdir -p "$CACHE"
rm -rf "$ROOTFS.tmp"
pin=$(printf 'Package: %s\\nPin: release n=%s\\nPin-Priority: 990\\n' "$BACKPORTED" "$SUITE-backports")
run_logged rootfs mmdebstrap --variant=apt --include="$PACKAGES" \
	--setup-hook="printf '$pin' >\"\$1/etc/apt/preferences.d/backports\"" "$SUITE" \
	"$ROOTFS.tmp" "deb $mirror $SUITE main" "deb $mirror $SUITE-backports main"
rm -rf "$ROOTFS"
mv "$ROOTFS.tmp" "$ROOTFS"
printf '%s\n' "$key" >"$ROOTFS.key"
