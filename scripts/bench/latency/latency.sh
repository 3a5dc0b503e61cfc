#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Measure what timers, IPIs, EOI and TPR take in a guest on an emulated host, and a Linux
# guest's own broadcast: under stock KVM, in exclusive mode with the guest's IPIs sent in C
# and in assembly, and by the same images on the bare machine.  Prints a table, writes
# build/report/latency-PLATFORM.json, and fails when two runs differ or a bound is not met.
# Documentation/measuring.md says what each row is.
#
#   PLATFORM=intel         or amd-bochs
#   LATENCY_SAMPLES=600    for each row, from 500 to 4096
#   LATENCY_REPORT=1       only the report of what was measured last
#
# Bochs runs one instruction of each CPU in turn, so that its time stamp counter counts
# instructions.
set -eu
TOP=$(cd "$(dirname "$0")/../../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"

samples=${LATENCY_SAMPLES:-600}
if [ "$samples" -lt 500 ] || [ "$samples" -gt 4096 ]; then
	die "LATENCY_SAMPLES is to be from 500 to 4096"
fi
platform=${PLATFORM:-intel}
# The function that runs an attached vCPU.
case $platform in
intel) run=__vmx_vcpu_run_exclusive ;;
amd-bochs) run=__svm_vcpu_run_exclusive ;;
*) die "PLATFORM is to be intel or amd-bochs" ;;
esac
cpus=5
rows=$BUILD/latency-$platform
payload=$BUILD/payload-latency-$platform
image=$BUILD/kselftests/latency-guest.bin
export BOCHS_QUANTUM=1

# host KERNEL MODE...: both runs of these modes, in one boot.
host() {
	h_kernel=$1
	shift
	[ -r "$h_kernel" ] || die "no kernel at $h_kernel; \"make kernel kernel-stock-rig\" builds it"
	h_out=$BUILD/rig-latency-$platform
	rm -rf "$h_out"
	say "latency: $*"
	"$TOP/scripts/rig/run.sh" --platform "$platform" --cpus $cpus --mem 1024 --timeout 3600 \
		--append kunit.enable=0 \
		--kernel "$h_kernel" --share "$payload" --out "$h_out" \
		-- latency/run-guests.sh "$samples" "$@" ||
		die "$* failed; the output is in $h_out/output.log"
	for h_mode; do
		cp "$h_out/$h_mode.1.jsonl" "$h_out/$h_mode.2.jsonl" "$rows/"
	done
}

if [ -z "${LATENCY_REPORT:-}" ]; then
	rm -rf "$payload" "$rows"
	mkdir -p "$payload/module" "$payload/kselftests" "$payload/bin" "$payload/linux/root" "$rows"
	cp -r "$TOP/scripts/bench/measure" "$payload/"
	cp -r "$TOP/scripts/bench/latency/host" "$payload/latency"
	cp "$BUILD/module/kvm-exclusive.ko" "$payload/module/" || die "no module; \"make module\" builds it"
	cp "$BUILD/kselftests/latency-vm" "$BUILD/kselftests/latency-broadcast" "$payload/kselftests/" ||
		die "no program; \"make kselftests\" builds it"
	cp "$BUILD/tools/kvm-exclusive" "$payload/bin/" || die "no command; \"make tools\" builds it"
	# The Linux guest, and the same kernel on the bare machine, where it needs what works
	# round the emulator.
	linux=$(host_image stock "$platform")
	cp "$linux" "$payload/linux/bzImage" || die "no kernel; \"make kernel-stock-rig\" builds it"
	cp "$BUILD/kselftests/latency-broadcast" "$payload/linux/root/init"
	"$TOP/scripts/build/cpio.sh" "$payload/linux/root" "$payload/linux/initramfs.cpio"
	rm -rf "$payload/linux/root"
	bare=$BUILD/rig-latency-$platform-bare
	for n in 1 2; do
		say "latency: bare, run $n"
		"$TOP/scripts/rig/bare.sh" "$platform" "$image" "$bare" $cpus 1800
		say "latency: bare, Linux, run $n"
		"$TOP/scripts/rig/run.sh" --platform "$platform" --cpus 4 --mem 512 --timeout 1800 \
			--append kunit.enable=0 --kernel "$linux" --share "$payload" --out "$bare-linux" \
			-- kselftests/latency-broadcast "$samples" ||
			die "Linux failed on the bare machine; the output is in $bare-linux/output.log"
		{
			grep '^{"kind": ' "$bare/text"
			tr -d '\r' <"$bare-linux/output.log" | grep '^{"kind": "row",'
		} >"$rows/bare.$n.jsonl" || die "no rows of the bare machine; see $bare and $bare-linux"
	done
	host "$(host_image stock "$platform")" stock
	host "$(host_image exclusive "$platform")" exclusive_c exclusive
fi
for mode in bare stock exclusive_c exclusive; do
	for n in 1 2; do
		[ -r "$rows/$mode.$n.jsonl" ] || die "nothing measured in mode $mode, run $n; run \"make latency\""
	done
done

mkdir -p "$REPORT"
# The way of an IPI through the host, as disassembled, beside the number that was measured.
: >"$rows/disassembly"
[ ! -r "$OBJ/vmlinux" ] ||
	objdump -d --no-show-raw-insn --disassemble=$run "$OBJ/vmlinux" >"$rows/disassembly"
exec "$TOP/scripts/results.py" latency "$rows" "$platform" "$samples" \
	"$REPORT/latency-$platform.json"
