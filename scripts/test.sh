#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Run every kselftest of kselftests/list in the emulated host and say how many
# passed.  FLAVOUR=debug runs them on the debug kernel.  The status is 0 only when
# nothing failed and nothing that is required was skipped.
set -eu
TOP=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"

flavour=${FLAVOUR:-exclusive}
platform=${PLATFORM:-amd}
list=${TEST_LIST:-$TOP/kselftests/list}
module=$BUILD/module
limit=60
total=${TEST_TIMEOUT:-1500}
case $flavour in
exclusive) kernel=$OBJ/arch/x86/boot/bzImage ;;
stock) kernel=$STOCK_OBJ/arch/x86/boot/bzImage ;;
debug)
	kernel=$DEBUG_OBJ/arch/x86/boot/bzImage
	module=$BUILD/module-debug
	limit=300
	total=${TEST_TIMEOUT:-3000}
	;;
*) die "no such kernel: $flavour" ;;
esac
kernel=${KERNEL:-$kernel}
[ -r "$list" ] || die "no list of tests at $list"

payload=$BUILD/payload-test
out=$BUILD/rig-test-$flavour
report=$REPORT/test-$platform-$flavour
rm -rf "$out" "$report"
mkdir -p "$out" "$report"
"$TOP/scripts/payload.sh" "$payload" "$module" "${TEST_DIR:-$BUILD/kselftests}"
[ "$flavour" != stock ] || rm -f "$payload/module/kvm-exclusive.ko"
cp "$list" "$payload/kselftests/list"

status=0
"$TOP/scripts/rig/run.sh" --platform "$platform" --kernel "$kernel" --timeout "$total" \
	--share "$payload" --out "$out" --append "kvm_excl_platform=$platform ${APPEND:-}" \
	-- ./test/host.sh list "$limit" || status=$?

cp -r "$out/tap" "$out/console.log" "$out/output.log" "$report/" 2>/dev/null || :
touch "$out/results"
cp "$out/results" "$report/results"

passed=$(grep -c '^pass ' "$out/results" || :)
failed=$(grep -c -E '^(fail|required-skip) ' "$out/results" || :)
skipped=$(grep -c '^skip ' "$out/results" || :)
grep -E '^(fail|required-skip|skip) ' "$out/results" || :
# A host that went down took a test with it, and those after it.
if [ "$status" -ne 0 ] || ! grep -qx end "$out/results"; then
	say "FAIL: the host: $(tail -n 1 "$out/verdict")"
	say "      during: $(tail -n 1 "$out/output.log")"
	failed=$((failed + 1))
fi
say "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
