#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Measure how quiet owned CPUs are, and what the series costs when no CPU is owned:
# six numbered points, each in emulated hosts booted for it.  Prints a table, writes
# build/report/quiet.json (quiet-debug.json for the debug kernel) and fails when a
# point does.  Documentation/measuring.md says what each point measures and how.
#
#   QUIET=1,3          only these points
#   FLAVOUR=debug      the debug kernel
#   QUIET_SECONDS=60   length of a measurement of point 1
#   QUIET_CYCLES=1000  rounds of point 4
#   QUIET_OBJ=DIR      another build of the kernel, with QUIET_MODULE=DIR, the module
#                      built against it
set -eu
TOP=$(cd "$(dirname "$0")/../../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"

flavour=${FLAVOUR:-exclusive}
points=1,2,3,4,5,6
seconds=${QUIET_SECONDS:-60}
cycles=${QUIET_CYCLES:-1000}
module=$BUILD/module
slow=1
name=quiet
case $flavour in
exclusive) obj=$OBJ ;;
debug)
	obj=$DEBUG_OBJ
	module=$BUILD/module-debug
	# Of the time limits.
	slow=4
	# What the instruments of a debug kernel execute is not what point 6 is about.
	points=1,2,3,4,5
	name=quiet-debug
	;;
*) die "no such kernel: $flavour" ;;
esac
points=$(printf '%s' "${QUIET:-$points}" | tr ',' ' ')
obj=${QUIET_OBJ:-$obj}
module=${QUIET_MODULE:-$module}
kernel=${KERNEL:-$obj/arch/x86/boot/bzImage}
stock=$STOCK_OBJ/arch/x86/boot/bzImage

payload=$BUILD/payload-$name
"$TOP/scripts/rig/payload.sh" "$payload" "$module" "${TEST_DIR:-$BUILD/kselftests}"
cp -r "$TOP/scripts/bench/quiet/host" "$payload/quiet"
[ -x "$payload/kselftests/quiet_guest" ] || die "no programs; \"make kselftests\" builds them"
[ -r "$payload/module/kvm-exclusive.ko" ] || die "no module; \"make module\" builds it"
cp "$obj/lib/test_static_key_base.ko" "$payload/module/"
[ -r "$payload/guest-bzImage" ] || die "no kernel for the guest; \"make kernel-stock\" builds it"

mkdir -p "$REPORT"
# What happened to hosts, for the report.
failures=$REPORT/$name.failures.jsonl
: >"$failures"
rm -rf "${BUILD:?}/rig-$name"
# As they were called before.
rm -rf "${BUILD:?}/rig-$name"-kicks "$BUILD/rig-$name"-noise-* "$BUILD/rig-$name"-rcu \
	"$BUILD/rig-$name"-cycles "$BUILD/rig-$name"-cputime* "$BUILD/rig-$name"-count-*

# boot POINT NAME LIMIT OPTIONS... -- ARGS...: one emulated host.  A warning fails the point
# but leaves the host alive, for some tell afterwards what they are about.
boot() {
	b_point=$1
	b_out=$BUILD/rig-$name/$2
	b_limit=$(($3 * slow))
	shift 3
	mkdir -p "$b_out"
	b_status=0
	b_options=
	while [ "$1" != -- ]; do
		case $1 in
		--append) b_append=$2; shift 2 ;;
		*) b_options="$b_options $1"; shift ;;
		esac
	done
	shift
	# shellcheck disable=SC2086 # a list of words
	"$TOP/scripts/rig/run.sh" --no-panic-on-warn --kernel "$b_kernel" --timeout "$b_limit" --mem 3072 \
		--share "$payload" --out "$b_out" --append "$b_append" $b_options \
		-- ./quiet/run-point.sh "$@" || b_status=$?
	if [ "$b_status" -ne 0 ]; then
		b_text="$(tail -n 1 "$b_out/verdict"); $(cat "$b_out/failure" 2>/dev/null || tail -n 1 "$b_out/output.log")"
		# As text in JSON.
		b_text=$(say "$b_text" | tr '[:cntrl:]' ' ' | sed 's/["\]//g')
		printf '{"point": %d, "text": "%s"}\n' "$b_point" "$b_text" >>"$failures"
	fi
	b_append=
	b_kernel=$kernel
	return "$b_status"
}
b_append=
b_kernel=$kernel
# What CPU 3 is compared with: a CPU that is isolated from boot on.
isolated="isolcpus=nohz,domain,managed_irq,3 nohz_full=3 rcu_nocbs=3 irqaffinity=0-2"

point_1() {
	boot 1 kicks $((seconds * 2 + 400)) --cpus 5 -- kicks "$seconds" || :
}

point_2() {
	boot 2 noise-owned 600 --cpus 5 -- noise-owned 30 || return 0
	b_append=$isolated
	boot 2 noise-boot 600 --cpus 5 -- noise-boot 30 || :
}

# Polling, an idle CPU costs the emulator as much as one that runs a guest.  Else the
# guest would slow everything down, and that is no property of the kernel.  Both loops
# PAUSE, after which QEMU's TCG takes its big lock and looks for work.  Two CPUs: with more
# of them than the machine has, what is measured is when the machine lets each run.
point_3() {
	b_append=idle=poll
	boot 3 rcu 900 --cpus 2 -- rcu 15 60 || :
}

point_4() {
	boot 4 cycles $((cycles * 4 + 600)) --cpus 5 -- cycles 60 "$cycles" || :
}

# A debug kernel does so much between the end of an idle period and the time that is taken
# as the beginning of the interrupt, and behind its end, that the loss can be seen on CPU
# 0, which keeps its tick while a CPU is nohz_full.  The same kernel with boot parameters
# loses some, too, and is the reference.
point_5() {
	p5_seconds=20
	if [ "$flavour" = debug ]; then
		p5_seconds=60
		b_append=$isolated
		boot 5 cputime-boot 300 --cpus 4 -- cputime-boot $p5_seconds || return 0
	fi
	boot 5 cputime 300 --cpus 4 -- cputime $p5_seconds || :
}

# The same programs on the kernel with and without the series.  Without x2APIC: the
# emulator cannot tell the time, and so not count, within a write to an MSR.
point_6() {
	p6_options="--cpus 2 --icount --iommu none"
	[ -r "$stock" ] || die "no unpatched kernel; \"make kernel-stock\" builds it"
	b_append=nox2apic
	# shellcheck disable=SC2086 # a list of words
	boot 6 count-patched 900 $p6_options -- count 0 1000 || return 0
	b_kernel=$stock
	b_append=nox2apic
	mv "$payload/module/kvm-exclusive.ko" "$payload/module/off"
	# shellcheck disable=SC2086 # a list of words
	boot 6 count-stock 900 $p6_options -- count 0 1000 || :
	mv "$payload/module/off" "$payload/module/kvm-exclusive.ko"
}

for point in $points; do
	say "quiet: point $point"
	case $point in
	1) point_1 ;;
	2) point_2 ;;
	3) point_3 ;;
	4) point_4 ;;
	5) point_5 ;;
	6) point_6 ;;
	*) die "no such point: $point" ;;
	esac
done

status=0
"$TOP/scripts/results.py" quiet "$BUILD/rig-$name" "$points" "$flavour" \
	"$TOP/scripts/bench/quiet/broadcast.conf" "$failures" "$REPORT/$name.json" \
	>"$REPORT/$name.txt" || status=$?
cat "$REPORT/$name.txt"
say "Saved as ${REPORT#"$TOP"/}/$name.json and $name.txt"
exit "$status"
