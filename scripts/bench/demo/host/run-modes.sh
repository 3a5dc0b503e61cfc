#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# In the emulated host, of "make demo": one guest, the same load in it in each mode,
# and its exits counted for exactly the load.  Runs in /mnt/share (the payload).
#
#   run-modes.sh MODES CONNECTIONS LOAD REQUESTS [LOAD REQUESTS...]
#
# LOAD is redis, nginx, or one that needs assigned devices: nic, vf, nvme.
#
# The environment says what differs between the platforms, demo.sh sets it:
#
#   GUEST_CPU      for QEMU's -cpu
#   BOOT_LIMIT     seconds for a guest to boot
#   ANSWER_LIMIT   seconds for it to answer
#
# Raw records are left in /mnt/out; scripts/results/exits.py, which judges them, says what
# they are. Beside them are the guests' consoles and what perf printed.
set -eu

modes=$1
connections=$2
shift 2
loads=$*

share=/mnt/share
out=/mnt/out
# The guest's CPUs.  What else runs in the host, the VMMs' other threads and the
# ordinary VM included, is kept on the others, so that stock mode competes with
# nothing either.
guest_cpus="2 3"
other_cpus=0-1
# No vCPU runs on the first one: see scripts/rig/host/init.
vmm_cpus=1
# Every step in the guest has a limit of its own, so that a hang is named.
load_limit=600
initrd=$(echo "$share"/guest-initramfs.cpio*)
guest_initrd=$initrd

vmm_pid=
beat_pid=

cleanup() {
	[ -z "$vmm_pid" ] || kill -9 "$vmm_pid" 2>/dev/null || :
	[ -z "$beat_pid" ] || kill -9 "$beat_pid" 2>/dev/null || :
}
trap cleanup EXIT

# The watcher of run_mode() tells that a VMM has ended.
vmm_ended() {
	for pid in $vmm_pid $beat_pid; do
		kill -0 "$pid" 2>/dev/null && continue
		status=0
		wait "$pid" || status=$?
		note "process $pid ended with status $status" | tee -a "$out/failure"
	done
	exit 1
}
trap vmm_ended TERM

fail() {
	echo "FAIL: $*" | tee -a "$out/failure"
	exit 1
}

note() {
	echo "$(cut -d ' ' -f 1 /proc/uptime) $*"
}

# Assigned devices, if a load needs some.
assigned=
# shellcheck source=scripts/bench/demo/host/devices.sh
. demo/devices.sh
# shellcheck source=scripts/bench/measure/guest.sh
. measure/guest.sh
# shellcheck source=scripts/bench/measure/records.sh
. measure/records.sh
guest_logs=$out

ask() {
	./measure/load.sh "$@"
}

run_mode() {
	mode=$1
	case $mode in
	stock)
		launcher="taskset -c $vmm_cpus"
		;;
	exclusive)
		launcher="bin/kvm-exclusive run --cpus ${guest_cpus// /,} --"
		;;
	esac
	note "$mode: starting the guest and an ordinary one beside it"
	# shellcheck disable=SC2086 # words, two for each device
	guest_start_served "guest-$mode" "$launcher" 2 384 "$GUEST_CPU" "$guest_initrd" \
		"idle=poll CONNECTIONS=$connections" $assigned
	vmm_pid=$guest_pid
	guest_start_served "beside-$mode" "taskset -c $vmm_cpus" 1 192 "$GUEST_CPU" "$initrd" heartbeat
	beat_pid=$guest_pid
	# shellcheck disable=SC2086 # a list of CPUs
	[ "$mode" = exclusive ] || pin_vcpus "$vmm_pid" $guest_cpus ||
		fail "the VMM did not start its vCPU threads: $(cat /tmp/*.log)"

	# A VMM that ends is told at once, not when a limit runs out.
	(
		while kill -0 "$vmm_pid" 2>/dev/null && kill -0 "$beat_pid" 2>/dev/null; do sleep 1; done
		[ ! -e "/tmp/quitting-$mode" ] || exit 0
		kill -0 "$vmm_pid" 2>/dev/null || guest_said "guest-$mode"
		kill -0 "$beat_pid" 2>/dev/null || guest_said "beside-$mode"
		echo "FAIL: $mode: a VMM ended on its own" | tee -a "$out/failure"
		kill -TERM $$
	) &
	ask "/tmp/guest-$mode" "$BOOT_LIMIT" READY >/dev/null ||
		{ guest_said "guest-$mode"; fail "$mode: the guest did not boot within $BOOT_LIMIT s"; }
	note "$mode: the guest is up"
	ask "/tmp/beside-$mode" "$BOOT_LIMIT" 'BEAT {"beat": 1,' >/dev/null ||
		{ guest_said "beside-$mode"; fail "$mode: the ordinary VM did not boot"; }
	# From here on its beats are collected, to be judged at the end.
	cat <"/tmp/beside-$mode.out" >"/tmp/beats-$mode" &
	beats_cat=$!

	# shellcheck disable=SC2086 # words, two for each
	set -- $loads
	while [ $# -gt 0 ]; do
		[ -z "$assigned" ] || devices_serve "$1"
		ask "/tmp/guest-$mode" $load_limit "PREPARED $1" prepare "$1" >/dev/null ||
			{ guest_said "guest-$mode"; fail "$mode: $1 did not start"; }
		note "$mode: $1, $2 requests"
		dir=$out/$mode-$1
		mkdir -p "$dir"
		record "$out/loads.jsonl" load mode="$mode" load="$1" requests="$2" \
			assigned=$((${#assigned} > 0))
		host_irqs=$(devices_host_irqs)
		began=$SECONDS
		status=0
		./measure/exits.py "$vmm_pid" "$dir" -- \
			./measure/load.sh "/tmp/guest-$mode" $load_limit "DONE $1" run "$1" "$2" \
			>/dev/null || status=$?
		case $status in
		0) ;;
		1)
			guest_said "guest-$mode"
			fail "$mode: $1 had not ended after $((SECONDS - began)) s"
			;;
		*) fail "$mode: the exits of $1 were not counted, status $status" ;;
		esac
		ask "/tmp/guest-$mode" "$ANSWER_LIMIT" "RESULT $1" >/tmp/result || fail "$mode: no result of $1"
		note "$mode: $(cat /tmp/result)"
		sed 's/^RESULT [a-z]* //' /tmp/result >"$dir/result.jsonl"
		[ -z "$assigned" ] ||
			record "$dir/result.jsonl" host_irqs count=$(($(devices_host_irqs) - host_irqs))
		kill -0 "$vmm_pid" 2>/dev/null || fail "$mode: the VMM died during $1"
		kill -0 "$beat_pid" 2>/dev/null || fail "$mode: the ordinary VM died during $1"
		shift 2
	done

	touch "/tmp/quitting-$mode"
	ask "/tmp/guest-$mode" "$ANSWER_LIMIT" BYE quit >/dev/null || fail "$mode: the guest did not shut down"
	kill "$beats_cat"
	ask "/tmp/beside-$mode" "$ANSWER_LIMIT" BYE quit >/dev/null || fail "$mode: the ordinary VM did not shut down"
	wait "$vmm_pid" || fail "$mode: the VMM ended with status $?"
	vmm_pid=
	wait "$beat_pid" || fail "$mode: the ordinary VM's VMM ended with status $?"
	beat_pid=
	[ -z "$assigned" ] || devices_released
	# The ordinary VM counts its own seconds and its timer's ticks.
	tr -d '\r' <"/tmp/beats-$mode" | sed -n 's/^BEAT \({.*}\)$/\1/p' >"$out/beats-$mode.jsonl"
}

rm -f "$out/loads.jsonl" "$out/failure"
# The host's own threads stay off the guest's CPUs in both modes.
taskset -pc "$other_cpus" $$ >/dev/null
if [ -r module/kvm-exclusive.ko ]; then
	insmod module/kvm-exclusive.ko || fail "the module does not load"
fi
case " $loads " in
*" nic "* | *" vf "* | *" nvme "*)
	devices_prepare
	assigned=$(devices_arguments)
	guest_initrd=/tmp/initrd
	cat "$initrd" "$share/guest-devices.cpio.gz" >$guest_initrd
	;;
esac
for mode in $modes; do
	run_mode "$mode"
done
[ -z "$assigned" ] || devices_returned
if [ -r module/kvm-exclusive.ko ]; then
	rmmod kvm_exclusive || fail "the module does not unload"
fi
note "done"
