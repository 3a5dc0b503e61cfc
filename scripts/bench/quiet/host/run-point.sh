#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# In the emulated host, of "make quiet": one numbered point, or one half of one, in a host
# that was booted for it.  Runs in /mnt/share (the payload).
#
#   run-point.sh kicks|noise-owned|noise-boot|rcu|cycles|cputime|cputime-boot|count SECONDS [ROUNDS]
#
# The host has five CPUs: 0 to 2 stay with it, 2 is the one that is hotplugged, 3
# and 4 are owned.  For rcu it has two, of which 1 is owned.
set -eu
# shellcheck source=scripts/bench/quiet/host/lib.sh
. quiet/lib.sh
# shellcheck source=scripts/bench/quiet/host/kicks.sh
. quiet/kicks.sh
# shellcheck source=scripts/bench/quiet/host/rtla.sh
. quiet/rtla.sh
# shellcheck source=scripts/bench/measure/guest.sh
. measure/guest.sh

what=$1
seconds=$2
rounds=${3:-1000}
hotplug_cpu=2
control=0-2
stress=
vmm=
load=

cleanup() {
	[ -z "$stress" ] || kill "$stress" 2>/dev/null || :
	[ -z "$vmm" ] || kill -9 "$vmm" 2>/dev/null || :
	[ -z "$load" ] || kill "$load" 2>/dev/null || :
	[ -z "$rtla" ] || kill -9 "$rtla" 2>/dev/null || :
	for pid in "${talk_pid[@]}"; do
		kill -9 "$pid" 2>/dev/null || :
	done
}
trap cleanup EXIT

stress_start() {
	: >"$out/stress"
	# What measures must not wait for what stresses.
	renice -n -20 $$ >/dev/null
	nice -n 5 quiet/stress.sh "$out/stress" "$1" $hotplug_cpu >"$out/stress.log" 2>&1 &
	stress=$!
	sleep 5
	kill -0 $stress || fail "the stressors do not start: $(cat "$out/stress.log")"
}

# stress_stop PHASE
stress_stop() {
	kill $stress
	wait $stress || fail "the stressors ended with status $?"
	stress=
	while read -r ss_name ss_count; do
		note_down stress phase="$1" name="$ss_name" count="$ss_count"
	done <"$out/stress"
	cp "$out/stress" "$out/stress.$1"
}

# One guest whose vCPU runs redis and its load in turns, without a host's help.
redis_start() {
	guest_start_served redis "bin/kvm-exclusive run --cpus $1 --" 1 384 host,tsc-deadline=off \
		guest-initramfs.cpio.gz idle=poll
	vmm=$guest_pid
	measure/load.sh /tmp/redis 300 READY >/dev/null ||
		{ guest_said redis; fail "the redis guest does not boot"; }
	measure/load.sh /tmp/redis 300 "PREPARED redis" prepare redis >/dev/null ||
		fail "redis does not start"
}

point_kicks() {
	note "two CPUs with a guest that spins with interrupts off"
	talk_start spin kselftests/quiet_guest spin 3,4
	kicks_prepare 3,4
	stress_start 3,4
	guest_spins spin
	note "counting"
	kicks_start 3,4
	sleep "$seconds"
	kicks_stop spin 3,4
	guest_spins spin
	stress_stop spin
	talk_end spin

	note "one CPU with the spinning guest, one with redis"
	talk_start spin kselftests/quiet_guest spin 3
	redis_start 4
	kicks_prepare 3,4
	stress_start 3,4
	: >/tmp/redis.results
	(
		while measure/load.sh /tmp/redis 300 "DONE redis" run redis 4000 >/dev/null &&
			measure/load.sh /tmp/redis 60 "RESULT redis" >>/tmp/redis.results; do
			:
		done
	) 2>/dev/null &
	load=$!
	sleep 2
	note "counting"
	kicks_start 3,4
	was=$(wc -l </tmp/redis.results)
	sleep "$seconds"
	now=$(wc -l </tmp/redis.results)
	kicks_stop redis 3,4
	guest_spins spin
	note_down loads count=$((now - was))
	stress_stop redis
	# Its child, too, or that keeps the way to the spinning guest open.
	pkill -P "$load" || :
	kill_all $load
	kill -9 "$vmm"
	wait "$vmm" 2>/dev/null || :
	vmm=
	cp /tmp/redis.console "$out/"
	talk_end spin
	:
}

# What the kernel's own tracers see on CPU 3, in $seconds each.
noise() {
	note "osnoise"
	rtla_start osnoise "$1" 3 1000000 off --runtime 1000000
	sleep "$seconds"
	rtla_stop "osnoise.$1"
	note "timerlat"
	rtla_start timerlat "$1" 3 1000 on --kernel-threads
	sleep "$seconds"
	rtla_stop "timerlat.$1"
}

point_noise_owned() {
	talk_start claim kselftests/quiet_guest claim 3
	noise owned
	talk_end claim
}

# The host was booted with the parameters that this series does without.
isolated_by_boot() {
	grep -q 3 /sys/devices/system/cpu/nohz_full || fail "CPU 3 is not nohz_full"
	grep -q 3 /sys/devices/system/cpu/isolated || fail "CPU 3 is not isolated"
}

point_noise_boot() {
	isolated_by_boot
	noise boot
}

# rcu_phase TURN STATE: time a quarter of the rounds with CPU 1 in that state.
phases=0
rcu_phase() {
	phases=$((phases + 1))
	note "turn $1: CPU 1: $2"
	[ "$2" != spin ] || guest_spins spin
	sleep 1
	kselftests/quiet_rcu $((rounds / 4)) >/tmp/rcu || fail "quiet_rcu"
	sed -n "s/^\(normal\|expedited\) \([0-9]*\)\$/{\"kind\": \"grace\", \"state\": \"$2\", \"phase\": $phases, \"grace\": \"\1\", \"ns\": \2}/p" \
		/tmp/rcu >>"$out/records.jsonl"
}

point_rcu() {
	taskset -pc 0 $$ >/dev/null
	# A stall warning comes after five seconds instead of a minute.
	echo 5 >/sys/module/rcupdate/parameters/rcu_cpu_stall_timeout
	echo 5000 >/sys/module/rcupdate/parameters/rcu_exp_cpu_stall_timeout
	# How fast the emulator is differs from phase to phase. The ends of a turn against
	# its middle, so that what changes slowly meets both.
	turns=12
	for ((turn = 1; turn <= turns; turn++)); do
		rcu_phase $turn idle
		talk_start spin kselftests/quiet_guest spin 1
		rcu_phase $turn spin
		rcu_phase $turn spin
		# Longer than the stall time, all of it in the guest.
		[ $turn != $turns ] || sleep "$seconds"
		guest_spins spin
		talk_end spin
		rcu_phase $turn idle
	done
	note "kicks of a guest that spins on CPU 1"
	talk_start spin kselftests/quiet_guest spin 1
	# The probes take time themselves, so these rounds are not timed.
	kicks_prepare 1
	guest_spins spin
	kicks_start 1
	kselftests/quiet_rcu "$rounds" >/dev/null || fail "quiet_rcu"
	kicks_stop spin 1
	guest_spins spin
	talk_end spin
	note_down stalls count="$(dmesg | grep -c 'rcu: INFO: .*stall' || :)"
}

# timerlat_start MODE
timerlat_start() {
	rtla_start timerlat "$1" 0,1 2000 off --kernel-threads
}

point_cycles() {
	tasks=60
	talk_start tasks kselftests/quiet_tasks 3 $tasks
	threads=$(ps -eL --no-headers | wc -l)
	stress_start 3
	timerlat_start with
	note "$rounds times claim and release"
	was=$SECONDS
	(
		set -o pipefail
		kselftests/quiet_guest cycle 3 "$rounds" 2>&1 | tee /tmp/cycle |
			while read -r line; do
				[[ $line != *" of "* ]] || note "$line"
			done
	) || fail "$(cat /tmp/cycle)"
	took=$((SECONDS - was))
	rtla_stop with
	read -ra words < <(grep cycles= /tmp/cycle) || fail "quiet_guest has not said what it did"
	for word in "${words[@]}"; do
		figure "${word%%=*}" "${word#*=}"
	done
	figure seconds $took
	# What is judged below allows for runs of different length.
	[ $took -le 300 ] || took=300
	# The program that claims is never idle; in its place there is one that computes.
	note "without, for $took s"
	timerlat_start without
	while :; do :; done &
	load=$!
	sleep $took
	kill_all $load
	rtla_stop without
	stress_stop cycles
	note "who is still there"
	talk tasks check
	# shellcheck disable=SC2086 # words
	set -- $answer
	note_down tasks alive="$2" all="$4" home="$6" tied="$8"
	talk_end tasks
	figure threads_before "$threads"
	figure threads_after "$(ps -eL --no-headers | wc -l)"
}

# Columns of /proc/stat in ticks of 10 ms: user nice system idle iowait irq softirq steal guest
# One process reads both clocks, so that nothing comes between.
cpu_times() {
	awk '/^cpu[0-9]/ { print } FILENAME ~ /uptime/ { print "now", $1 }' /proc/uptime /proc/stat
}

# cputime_phase NAME COMMAND...: the CPUs' times while the command runs.
cputime_phase() {
	phase=$1
	where=$out/cputime-$1
	shift
	mkdir -p "$where"
	note "CPU 3: $phase"
	echo >$tracing/trace
	echo 1 >$tracing/tracing_on
	cpu_times >"$where/stat.before"
	answer=
	"$@"
	cpu_times >"$where/stat.after"
	echo 0 >$tracing/tracing_on
	note "$answer"
	lost "$phase.trace_lost" $tracing/per_cpu/cpu[012]/stats
	cat $tracing/trace >"$where/switches"
	# Of the answer those words that are NAME=VALUE.
	words=()
	for word in $answer; do
		[[ $word != *=* ]] || words+=("$word")
	done
	note_down cputime phase="$phase" "${words[@]}"
}

cputime_trace_start() {
	# Ticks miss tasks that are shorter than a tick and begin with one; the trace on
	# the control CPUs does not.
	echo 7 >$tracing/tracing_cpumask
	echo 16384 >$tracing/buffer_size_kb
	echo mono >$tracing/trace_clock
	echo 1 >$tracing/events/sched/sched_switch/enable
}

cputime_trace_end() {
	echo 0 >$tracing/events/sched/sched_switch/enable
}

point_cputime() {
	talk_start spin kselftests/quiet_guest spin 3
	guest_spins spin
	cputime_trace_start
	for mode in guest user system; do
		cputime_phase $mode talk spin $mode $((seconds * 1000))
	done
	cputime_trace_end
	talk_end spin
}

# The same duties of the control CPUs without any of this series: CPU 3 is nohz_full by
# boot parameter and one task never leaves it.
point_cputime_boot() {
	isolated_by_boot
	taskset -c 3 sh -c 'while :; do :; done' &
	load=$!
	cputime_trace_start
	cputime_phase boot sleep "$seconds"
	cputime_trace_end
	kill_all $load
}

# In the emulator that counts instructions; on the kernel with and without the series.
point_count() {
	kselftests/quiet_count "$rounds" >/tmp/count || fail "quiet_count ended with status $?"
	# libkvm has a line of its own.
	while read -r what words; do
		# shellcheck disable=SC2086 # words
		[[ $words != n=* ]] || note_down count what="$what" $words
	done </tmp/count
}

rm -f "$out/records.jsonl" "$out/failure"
: >"$out/records.jsonl"
if [ -r module/kvm-exclusive.ko ]; then
	insmod module/kvm-exclusive.ko || fail "the module does not load"
fi
# What is no part of a measurement stays on the control CPUs.
[ "$(nproc --all)" -lt 4 ] || taskset -pc $control $$ >/dev/null
case $what in
kicks) point_kicks ;;
noise-owned) point_noise_owned ;;
noise-boot) point_noise_boot ;;
rcu) point_rcu ;;
cycles) point_cycles ;;
cputime) point_cputime ;;
cputime-boot) point_cputime_boot ;;
count) point_count ;;
*) fail "no such point: $what" ;;
esac
if [ -r module/kvm-exclusive.ko ]; then
	rmmod kvm_exclusive || fail "the module does not unload"
fi
note_down end
note "done"
