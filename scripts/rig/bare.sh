#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Boot a Multiboot image on the emulated machine of a platform that is Bochs, with no
# Linux below it, and keep what it writes to port 0xe9.  It ends by writing "Shutdown" to
# port 0x8900.
#
#   bare.sh intel|amd-bochs IMAGE DIR [CPUS [SECONDS]]
#
# The text is left in DIR/text.  The status is 0 when the image came to its end.
set -eu
TOP=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"
need xorriso setpriv timeout

platform=$1
image=$2
out=$3
cpus=${4:-4}
limit=${5:-300}
mem=64
append=
[ -r "$image" ] || die "no image at $image"
modules=/usr/lib/syslinux/modules/bios
for file in /usr/lib/ISOLINUX/isolinux.bin $modules/mboot.c32 $modules/libcom32.c32; do
	[ -r "$file" ] || die "$file is missing; \"make deps\" installs it"
done
rm -rf "$out"
mkdir -p "$out/.cd"
out=$(cd "$out" && pwd)
console=$out/console.log
# shellcheck source=scripts/rig/intel.sh
. "$TOP/scripts/rig/$platform.sh"
[ -x "$BOCHS" ] || die "no Bochs at $BOCHS; \"make bochs\" builds it"

cp "$image" "$out/.cd/image"
cp $modules/mboot.c32 $modules/libcom32.c32 "$out/.cd/"
printf 'DEFAULT bare\nPROMPT 0\nLABEL bare\nKERNEL mboot.c32\nAPPEND image\n' >"$out/.cd/isolinux.cfg"
boot_cd "$out/.boot.iso" "$out/.cd"
{
	bochs_machine
	echo "ata0-master: type=cdrom, path=\"$out/.boot.iso\", status=inserted"
	echo "port_e9_hack: enabled=1"
} >"$out/.bochsrc"

start=$(date +%s)
status=0
setpriv --pdeathsig TERM timeout -k 1 "$limit" setpriv --pdeathsig KILL \
	"$BOCHS" -q -f "$out/.bochsrc" >"$out/output.log" 2>&1 </dev/null || status=$?
rm -rf "$out/.cd" "$out/.boot.iso"
# Bochs writes its banners to the same place.
sed -n '/^\(overhead\|timer\|error\|exception\|{"kind": \)/p' "$out/output.log" | tr -d '\r' >"$out/text"
# A switched off Bochs says so in its log, as a panic, and ends with status 1.
if grep -q 'Shutdown port: shutdown requested' "$bochs_log" && grep -qxF '{"kind": "end"}' "$out/text"; then
	say "bare: done in $(elapsed "$start")"
	exit 0
fi
tail -n 5 "$out/text" >&2
[ "$status" -lt 124 ] || die "no end within $limit seconds; see $out/output.log and $bochs_log"
die "the image failed; see $out/output.log and $bochs_log"
