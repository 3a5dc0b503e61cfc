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
TOP=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"
# shellcheck source=scripts/quiet/timerlat.sh
. "$TOP/scripts/quiet/timerlat.sh"

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
"$TOP/scripts/payload.sh" "$payload" "$module" "${TEST_DIR:-$BUILD/kselftests}"
cp -r "$TOP/scripts/quiet" "$payload/"
[ -x "$payload/kselftests/quiet_guest" ] || die "no programs; \"make kselftests\" builds them"
[ -r "$payload/module/kvm-exclusive.ko" ] || die "no module; \"make module\" builds it"
cp "$obj/lib/test_static_key_base.ko" "$payload/module/"
[ -r "$payload/guest-bzImage" ] || die "no kernel for the guest; \"make kernel-stock\" builds it"

mkdir -p "$REPORT"
figures=$REPORT/$name.figures
: >"$figures"

# boot POINT NAME LIMIT OPTIONS... -- ARGS...: one emulated host.  A warning fails the point
# but leaves the host alive, for some tell afterwards what they are about.
boot() {
	b_point=$1
	b_out=$BUILD/rig-$name-$2
	b_limit=$(($3 * slow))
	shift 3
	rm -rf "$b_out"
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
		-- ./quiet/host.sh "$@" || b_status=$?
	[ ! -f "$b_out/figures" ] || cat "$b_out/figures" >>"$figures"
	if [ "$b_status" -ne 0 ]; then
		say "failure $b_point $(tail -n 1 "$b_out/verdict" | tr -d '\r'); $(cat "$b_out/failure" 2>/dev/null || tail -n 1 "$b_out/output.log")" |
			tr '\n' ' ' >>"$figures"
		echo >>"$figures"
	fi
	b_append=
	b_kernel=$kernel
	return "$b_status"
}
b_append=
b_kernel=$kernel
# What CPU 3 is compared with: a CPU that is isolated from boot on.
isolated="isolcpus=nohz,domain,managed_irq,3 nohz_full=3 rcu_nocbs=3 irqaffinity=0-2"

# "check" lines from figures of two boots.
value() {
	sed -n "s/^figure $1 $2 //p" "$figures" | tail -n 1
}

point_1() {
	boot 1 kicks $((seconds * 2 + 400)) --cpus 5 -- kicks "$seconds" || return 0
	say "figure 1 end 1" >>"$figures"
}

# Counts of the same thing in the same time: higher is what chance does not explain,
# three standard deviations of a count.
not_higher() {
	nh_owned=$(value 2 "$1.owned.interference")
	nh_boot=$(value 2 "$1.boot.interference")
	[ -n "$nh_owned" ] && [ -n "$nh_boot" ] || return 0
	nh_bound=$(awk -v n="$nh_boot" 'BEGIN { printf "%d", n + 3 * sqrt(n + 1) }')
	say "check 2 $1.interference $nh_owned <= $nh_bound NMIs, interrupts, softirqs and threads, against $nh_boot with boot parameters" >>"$figures"
}

point_2() {
	boot 2 noise-owned 300 --cpus 5 -- noise-owned 30 || return 0
	b_append=$isolated
	boot 2 noise-boot 300 --cpus 5 -- noise-boot 30 || return 0
	for p2_mode in owned boot; do
		p2_file=$BUILD/rig-$name-noise-$p2_mode/timerlat.$p2_mode
		latencies "$p2_file" "2 timerlat.$p2_mode" >>"$figures"
		interference "$p2_file" "2 timerlat.$p2_mode" >>"$figures"
	done
	not_higher osnoise
	not_higher timerlat
	say "figure 2 end 1" >>"$figures"
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
	boot 4 cycles $((cycles * 4 + 600)) --cpus 5 -- cycles 60 "$cycles" || return 0
	p4_out=$BUILD/rig-$name-cycles
	for p4_mode in with without; do
		latencies "$p4_out/timerlat.$p4_mode" "4 $p4_mode" >>"$figures"
	done
	# With both distributions the same and as many samples of each, each further one
	# above the other's maximum is half as likely: more than ten is one in a thousand.
	for p4_context in irq thread; do
		p4_max=$(value 4 "without.${p4_context}_max_ns")
		[ -n "$p4_max" ] || return 0
		p4_allowed=$(awk -v a="$(value 4 "with.${p4_context}_samples")" \
			-v b="$(value 4 "without.${p4_context}_samples")" \
			'BEGIN { print int(10 * a / b + 0.999) }')
		p4_spikes=$(spikes "$p4_out/timerlat.with" "$p4_context" "$p4_max")
		say "check 4 ${p4_context}_spikes $p4_spikes <= $p4_allowed latencies with above the maximum without" >>"$figures"
	done
	say "figure 4 end 1" >>"$figures"
}

# A debug kernel does so much between the end of an idle period and the time that is taken
# as the beginning of the interrupt, and behind its end, that the loss can be seen on CPU
# 0, which keeps its tick while a CPU is nohz_full.  The same kernel with boot parameters
# loses some, too, and is the reference.
point_5() {
	p5_seconds=20
	p5_reference=
	if [ "$flavour" = debug ]; then
		p5_seconds=60
		b_append=$isolated
		boot 5 cputime-boot 300 --cpus 4 -- cputime-boot $p5_seconds || return 0
		p5_reference=$(value 5 boot.cpu0.idle_off_percent)
	fi
	boot 5 cputime 300 --cpus 4 -- cputime $p5_seconds "$p5_reference" || :
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
	p6_status=0
	# shellcheck disable=SC2086 # a list of words
	boot 6 count-stock 900 $p6_options -- count 0 1000 || p6_status=$?
	mv "$payload/module/off" "$payload/module/kvm-exclusive.ko"
	[ "$p6_status" -eq 0 ] || return 0
	awk 'function of(word) { sub(/.*=/, "", word); return word }
		# libkvm has a line of its own.
		$2 !~ /^n=/ { next }
		NR == FNR { stock[$1] = $0; next }
		{
			split(stock[$1], was, " ")
			for (i = 2; i <= NF; i++) {
				split($i, part, "=")
				print "figure 6 " $1 ".stock." part[1], of(was[i])
				print "figure 6 " $1 ".patched." part[1], part[2]
			}
			printf "check 6 %s.more_percent %.3f <= 0.5 the mean of the middle half, of the patched kernel against the unpatched\n", $1,
				100 * (of($7) - of(was[7])) / of(was[7])
		}' "$BUILD/rig-$name-count-stock/count" "$BUILD/rig-$name-count-patched/count" >>"$figures"
	say "figure 6 end 1" >>"$figures"
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

release=$(sed -n 's/.*Linux version \([^ ]*\) .*/\1/p' "$BUILD/rig-$name"-*/console.log | head -n 1)
status=0
awk -v json="$REPORT/$name.json" -v points="$points" -v flavour="$flavour" -v kernel="$release" \
	-f "$TOP/scripts/quiet/report.awk" "$figures" >"$REPORT/$name.txt" || status=$?
cat "$REPORT/$name.txt"
say "Saved as ${REPORT#"$TOP"/}/$name.json and $name.txt"
exit "$status"
