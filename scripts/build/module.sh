#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
#   module.sh OBJ OUT [MAKE-ARGS...]
#
# Build the companion module against one built kernel, from a copy, so that the
# source directory stays clean and two kernels' builds do not meet.
set -eu
TOP=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"

obj=$1
out=$2
shift 2
[ -f "$TOP/module/Kbuild" ] || [ -f "$TOP/module/Makefile" ] || {
	say "module: no sources yet"
	exit 0
}
mkdir -p "$out"
rsync -a --exclude=/tools/ "$TOP/module/" "$out/"
unset MAKEFLAGS MFLAGS MAKELEVEL O
# Its type information is made of the kernel's, and no other kernel takes it.
find "$out" -maxdepth 1 -name '*.ko' ! -newer "$obj/vmlinux" -delete
export CCACHE_DIR="$CACHE/ccache"
make -s -C "$obj" M="$out" CC="ccache gcc" -j "$JOBS" "$@" modules
# KVM goes with it where it is not built in, and what else the rig loads.
rm -rf "$out/kernel"
mkdir "$out/kernel"
for path in $(modules_of "$obj"); do
	cp "$obj/$path.ko" "$out/kernel/"
	echo "${path##*/}" >>"$out/kernel/order"
done
