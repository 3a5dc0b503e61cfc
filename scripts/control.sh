#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
#   control.sh PAYLOAD REPORT
#
# The control: with exclusive mode off, the kernel tree's own KVM selftests
# (kselftests/control) give the same results on the patched kernel as on the
# unpatched one.  Boots each of the two once, runs the tests there without the
# module, compares result and exit status of each, and leaves in REPORT/results:
#
#   pass|fail|skip control/NAME SECONDS REASON
#
# A test that ends the same way on both kernels passes, also when it fails on both;
# one that skips on both says nothing and is a skip.
set -eu
TOP=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"

payload=$1
report=$2
platform=${PLATFORM:-amd}
limit=60

rm -rf "$report"
mkdir -p "$report"
cp "$TOP/kselftests/control" "$payload/kselftests/control"

# one NAME KERNEL: what the tests say on one kernel, in REPORT/NAME.
one() {
	out=$BUILD/rig-control-$1
	rm -rf "$out"
	mkdir -p "$out"
	status=0
	"$TOP/scripts/rig/run.sh" --platform "$platform" --kernel "$2" \
		--timeout "${CONTROL_TIMEOUT:-600}" --share "$payload" --out "$out" \
		--append "${APPEND:-}" -- ./test/control.sh control "$limit" || status=$?
	touch "$out/results"
	mkdir -p "$report/$1"
	cp -r "$out/tap" "$out/console.log" "$out/output.log" "$out/results" "$report/$1/" \
		2>/dev/null || :
	if [ "$status" -ne 0 ] || ! grep -qx end "$out/results"; then
		echo "fail control/host-$1 0 $(tail -n 1 "$out/verdict"), during:" \
			"$(tail -n 1 "$out/output.log")" >>"$report/results"
	fi
}

say "control: the unpatched kernel"
one stock "$(host_image stock "$platform")"
say "control: the patched kernel"
one patched "${KERNEL:-$(host_image exclusive "$platform")}"

"$TOP/scripts/results.py" control "$TOP/kselftests/control" "$report/stock/results" \
	"$report/patched/results" >>"$report/results"
say "control: $(grep -c '^pass ' "$report/results" || :) the same," \
	"$(grep -c '^skip ' "$report/results" || :) skipped on both," \
	"$(grep -c '^fail ' "$report/results" || :) differ"
