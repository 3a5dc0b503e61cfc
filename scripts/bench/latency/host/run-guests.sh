#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# In the emulated host, of "make latency": run the flat guest and the Linux guest, twice for
# each mode given, and leave their records in /mnt/out/MODE.RUN.jsonl.  Runs in /mnt/share
# (the payload).
#
#   run-guests.sh SAMPLES stock|exclusive|exclusive_c...
#
# The host has five CPUs: 0 stays with it, the guests' four run on the others.
set -eu
# shellcheck source=scripts/bench/measure/guest.sh
. measure/guest.sh

samples=$1
shift
vmm=
trap '[ -z "$vmm" ] || kill -9 "$vmm" 2>/dev/null || :' EXIT

fail() {
	echo "$*"
	exit 1
}

# linux MODE ROWS: boot the Linux guest, whose PID 1 measures and ends the VM.
linux() {
	launcher="taskset -c 0"
	[ "$1" = stock ] || launcher="$launcher bin/kvm-exclusive run --cpus 1,2,3,4 --"
	console=$guest_logs/linux-$1.console
	guest_start "linux-$1" "$launcher" 4 128 host linux/bzImage linux/initramfs.cpio "-- $samples"
	vmm=$guest_pid
	[ "$1" != stock ] || pin_vcpus "$vmm" 1 2 3 4 || fail "QEMU does not start: $(guest_said "linux-$1")"
	for _ in $(seq 600); do
		kill -0 "$vmm" 2>/dev/null || break
		sleep 0.5
	done
	# Not while it runs: /mnt/out is an emulated disk.
	cp "$console" /mnt/out/
	! kill -0 "$vmm" 2>/dev/null || fail "the Linux guest does not end: $(guest_said "linux-$1")"
	wait "$vmm" || fail "QEMU ended with status $?: $(guest_said "linux-$1")"
	vmm=
	tr -d '\r' <"$console" | grep -xF '{"kind": "end"}' >/dev/null ||
		fail "the Linux guest has not measured: $(guest_said "linux-$1")"
	tr -d '\r' <"$console" | grep '^{"kind": "row",' >>"$2"
}

apicv=/sys/module/kvm_intel/parameters/enable_apicv
case $* in
*stock*)
	# Stock is KVM as upstream ships it.
	if grep -qw vmx /proc/cpuinfo && [ "$(cat "$apicv")" != Y ]; then
		fail "APICv is off in this host: $apicv"
	fi
	;;
*)
	insmod module/kvm-exclusive.ko
	;;
esac
for run in 1 2; do
	for mode; do
		echo "$mode, run $run"
		case $mode in
		exclusive) echo Y >/sys/module/kvm/parameters/exclusive_ipi_fast ;;
		exclusive_c) echo N >/sys/module/kvm/parameters/exclusive_ipi_fast ;;
		esac
		rows=/mnt/out/$mode.$run.jsonl
		status=0
		kselftests/latency-vm "$mode" "$samples" >/tmp/text || status=$?
		grep '^{"kind": ' /tmp/text >"$rows" || :
		grep -v '^{"kind": ' /tmp/text || :
		[ $status -eq 0 ] || fail "the guest failed in mode $mode, run $run"
		echo "$mode, run $run: Linux"
		linux "$mode" "$rows"
	done
done
