#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
#   payload.sh DIR [MODULE_DIR [KSELFTESTS_DIR]]
#
# Collect in DIR what an emulated host sees as /mnt/share: programs, guests, and of scripts/
# what runs there, each host/ under the name of its concern.  Copies, because a 9p share does
# not follow links out of itself.
set -eu
TOP=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"

dir=$1
module=${2:-$BUILD/module}
tests=${3:-$BUILD/kselftests}

rm -rf "$dir"
mkdir -p "$dir/bin" "$dir/module" "$dir/kselftests"
cp -r "$TOP/scripts/bench/measure" "$dir/"
cp -r "$TOP/scripts/bench/demo/host" "$dir/demo"
cp -r "$TOP/scripts/test/host" "$dir/test"
cp "$GUEST_INITRAMFS" "$BUILD/guest-devices.cpio.gz" "$BUILD/guest-disk.img" "$dir/"
[ ! -f "$STOCK_OBJ/arch/x86/boot/bzImage" ] ||
	cp "$STOCK_OBJ/arch/x86/boot/bzImage" "$dir/guest-bzImage"
[ ! -f "$module/kvm-exclusive.ko" ] || cp "$module/kvm-exclusive.ko" "$dir/module/"
[ ! -d "$module/kernel" ] || cp -r "$module/kernel" "$dir/"
[ ! -f "$BUILD/tools/kvm-exclusive" ] || cp "$BUILD/tools/kvm-exclusive" "$dir/bin/"
if [ -d "$tests" ]; then
	find "$tests" -type f -perm -u+x ! -name '*.o' -exec cp {} "$dir/kselftests/" \;
fi
