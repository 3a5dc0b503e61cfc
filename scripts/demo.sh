#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The demo: one Linux guest under load in an emulated host, in stock and in exclusive
# mode, and its VM exits side by side.
#
#   PLATFORM=amd|intel      which emulated host (default: amd)
#   FLAVOUR=exclusive|stock which kernel it runs (default: exclusive)
#   MODE="stock exclusive"  which columns
#   KERNEL=bzImage          the host's kernel, instead of FLAVOUR
#   REDIS=N NGINX=N         requests
#   CONNECTIONS=1           over so many connections at once
#   MAX_SHARE=1             exclusive exits allowed, in percent of stock (empty: any)
set -eu
TOP=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"

# The load is long enough that what its programs cost by starting (some hundred
# CPUID exits, whatever the mode) is small beside it.
modes=${MODE:-stock exclusive}
platform=${PLATFORM:-amd}
kernel=${KERNEL:-$(host_image "${FLAVOUR:-exclusive}" "$platform")}
case $platform in
intel)
	# Bochs does some twenty million instructions a second, on all CPUs together.
	redis=${REDIS:-2000}
	nginx=${NGINX:-1000}
	;;
*)
	redis=${REDIS:-80000}
	nginx=${NGINX:-80000}
	;;
esac
payload=$BUILD/payload-demo
out=$BUILD/rig-demo-$platform
mkdir -p "$REPORT"

rm -rf "$out"
"$TOP/scripts/payload.sh" "$payload"
# Unpacking it twice would take Bochs half a minute.
[ "$platform" != intel ] || gzip -d "$payload/guest-initramfs.cpio.gz"
case $modes in
*exclusive*)
	[ -x "$payload/bin/kvm-exclusive" ] || die "no kvm-exclusive command; \"make tools\" builds it"
	[ -r "$payload/module/kvm-exclusive.ko" ] || die "no module; \"make module\" builds it"
	;;
*)
	rm -f "$payload/module/kvm-exclusive.ko"
	;;
esac
"$TOP/scripts/rig/run.sh" --platform "$platform" --kernel "$kernel" --timeout "${TIMEOUT:-2400}" \
	--share "$payload" --out "$out" -- ./demo/host.sh "$modes" "$redis" "$nginx" "${CONNECTIONS:-1}" || {
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
awk -v platform="$platform" -v kernel="$release" -v json="$REPORT/demo-$platform.json" \
	-v max_share="${MAX_SHARE-1}" -f "$TOP/scripts/measure/table.awk" \
	"$out/results.txt" >"$REPORT/demo-$platform.txt" || status=$?
cat "$REPORT/demo-$platform.txt"
say
say "Saved as ${REPORT#"$TOP"/}/demo-$platform.json and demo-$platform.txt"
exit "$status"
