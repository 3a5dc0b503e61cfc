#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The demo: one Linux guest under load in an emulated AMD host, in stock and in
# exclusive mode, and its VM exits side by side.
#
#   MODE="stock exclusive"  which columns
#   KERNEL=bzImage          the host's kernel
#   REDIS=N NGINX=N         requests
#   MAX_SHARE=1             exclusive exits allowed, in percent of stock (empty: any)
set -eu
TOP=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"

# The load is long enough that what its programs cost by starting (some hundred
# CPUID exits, whatever the mode) is small beside it.
modes=${MODE:-stock exclusive}
kernel=${KERNEL:-$OBJ/arch/x86/boot/bzImage}
redis=${REDIS:-300000}
nginx=${NGINX:-200000}
payload=$BUILD/payload-demo
out=$BUILD/rig-demo
mkdir -p "$REPORT"

rm -rf "$out"
"$TOP/scripts/payload.sh" "$payload"
case $modes in
*exclusive*)
	[ -x "$payload/bin/kvm-exclusive" ] || die "no kvm-exclusive command; \"make tools\" builds it"
	[ -r "$payload/module/kvm-exclusive.ko" ] || die "no module; \"make module\" builds it"
	;;
*)
	rm -f "$payload/module/kvm-exclusive.ko"
	;;
esac
"$TOP/scripts/rig/run.sh" --platform amd --kernel "$kernel" --timeout "${TIMEOUT:-2400}" \
	--share "$payload" --out "$out" -- ./demo/host.sh "$modes" "$redis" "$nginx" || {
	[ ! -s "$out/failure" ] || cat "$out/failure"
	die "the demo failed: $(tail -n 1 "$out/verdict")"
}
for mode in $modes; do
	for vm in guest beside; do
		if line=$(splat "$out/$vm-$mode.console"); then
			die "the demo failed: kernel log of the $vm VM in $mode mode: $line"
		fi
	done
done

release=$(sed -n 's/.*Linux version \([^ ]*\) .*/\1/p' "$out/console.log" | head -n 1)
# The table goes to the terminal even where a check fails after it.
status=0
awk -v platform=amd -v kernel="$release" -v json="$REPORT/demo-amd.json" \
	-v max_share="${MAX_SHARE-1}" -f "$TOP/scripts/measure/table.awk" \
	"$out/results.txt" >"$REPORT/demo-amd.txt" || status=$?
cat "$REPORT/demo-amd.txt"
say
say "Saved as ${REPORT#"$TOP"/}/demo-amd.json and demo-amd.txt"
exit "$status"
