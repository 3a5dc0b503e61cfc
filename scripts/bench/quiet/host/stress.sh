#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Keep the control CPUs busy with everything that tends to disturb other CPUs, until
# it is told to stop by SIGTERM; then write how often each was done to OUT, as
# "NAME COUNT" lines.
#
#   stress.sh OUT OWNED_CPUS HOTPLUG_CPU
#
# Writes that name owned CPUs are among them: refused or ignored, they have to
# leave the owned CPUs alone.
set -u

result=$1
owned=$2
hotplug_cpu=$3
nr=$(nproc --all)
last=$((nr - 1))
work=$(mktemp -d)
pids=()

# repeat NAME SECONDS FUNCTION: call it for ever, that long apart, and count.
repeat() {
	trap 'stop=1' TERM
	stop=
	rp_n=0
	while [ -z "$stop" ]; do
		if "$3" "$rp_n" >>"$work/$1.log" 2>&1; then
			rp_n=$((rp_n + 1))
			echo "$rp_n" >"$work/$1.count"
		else
			echo failed >>"$work/$1.log"
			echo failed >>"$work/failed.$1"
		fi
		sleep "$2"
	done
}

module() {
	insmod module/test_static_key_base.ko && rmmod test_static_key_base
}

cpuset_group=/sys/fs/cgroup/quiet
cpuset() {
	case $(($1 % 4)) in
	0) echo "0-$last" >$cpuset_group/cpuset.cpus ;;
	1) echo "$owned" >$cpuset_group/cpuset.cpus ;;
	2) echo 0 >$cpuset_group/cpuset.cpus ;;
	3) echo "0,$owned" >$cpuset_group/cpuset.cpus ;;
	esac
}

# A mask of owned CPUs alone is refused, as documented; the others are taken.
affinity() {
	taskset -pc "0-$last" "$victim" || return
	taskset -pc "$owned" "$victim"
	taskset -pc 0 "$victim" && taskset -pc "0,$owned" "$victim"
}

sysctl_writes() {
	for file in kernel/watchdog_thresh vm/stat_interval vm/dirty_ratio kernel/timer_migration \
		kernel/sched_rt_runtime_us kernel/printk net/core/netdev_budget; do
		[ -w "/proc/sys/$file" ] || continue
		value=$(cat "/proc/sys/$file") && echo "$value" >"/proc/sys/$file" || return
	done
	# Values that change, so that what depends on them is done anew. Not
	# timer_migration: it patches the busiest code there is, which QEMU gets wrong
	# sooner or later (Documentation/testing.md).
	echo $((10 + $1 % 2)) >/proc/sys/kernel/watchdog_thresh &&
		echo $((1 + $1 % 2)) >/proc/sys/vm/stat_interval &&
		echo 3 >/proc/sys/vm/drop_caches &&
		echo 1 >/proc/sys/vm/stat_refresh
}

irq_affinity() {
	written=0
	for file in /proc/irq/[0-9]*/smp_affinity_list; do
		case $(($1 % 3)) in
		0) list=0-$last ;;
		1) list=$owned ;;
		2) list=0 ;;
		esac
		# Some interrupts cannot be moved at all.
		echo "$list" >"$file" 2>/dev/null && written=$((written + 1))
	done
	[ $written -gt 0 ]
}

hotplug() {
	echo 0 >"/sys/devices/system/cpu/cpu$hotplug_cpu/online" || return
	sleep 0.5
	echo 1 >"/sys/devices/system/cpu/cpu$hotplug_cpu/online"
}

finish() {
	[ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null
	wait "${pids[@]}" 2>/dev/null
	kill "$victim" 2>/dev/null
	kill "$stress_ng" 2>/dev/null
	wait "$stress_ng" 2>/dev/null
	echo 1 >"/sys/devices/system/cpu/cpu$hotplug_cpu/online" 2>/dev/null
	echo 10 >/proc/sys/kernel/watchdog_thresh
	# Before the group goes, its only task must.
	wait "$victim" 2>/dev/null
	rmdir $cpuset_group 2>/dev/null
	for name in module cpuset affinity sysctl irq_affinity hotplug; do
		echo "$name $(cat "$work/$name.count" 2>/dev/null || echo 0)"
	done >"$result"
	# stress-ng: metrc: [PID] NAME BOGO-OPS SECONDS ...
	awk '$2 == "metrc:" && $4 ~ /^(cpu|fork|mmap|timer|switch)$/ && $5 ~ /^[0-9]+$/ {
		print "stress_ng_" $4, $5 }' "$work/stress-ng.log" >>"$result"
	for log in "$work"/*.log; do
		name=${log##*/}
		cp "$log" "$result.$name"
	done
	rm -rf "$work"
	exit 0
}

echo +cpuset >/sys/fs/cgroup/cgroup.subtree_control
mkdir -p $cpuset_group
sleep infinity &
victim=$!
(
	while :; do sleep 0.2; done
) &
group_task=$!
echo $group_task >$cpuset_group/cgroup.procs
pids+=("$group_task")

stress-ng --cpu 1 --fork 1 --mmap 1 --mmap-bytes 32m --timer 1 --timer-freq 1000 --switch 1 \
	--timeout 0 --metrics --temp-path "$work" >"$work/stress-ng.log" 2>&1 &
stress_ng=$!
trap finish TERM INT

while read -r name seconds function; do
	repeat "$name" "$seconds" "$function" &
	pids+=($!)
done <<END
module 0.5 module
cpuset 0.2 cpuset
affinity 0.2 affinity
sysctl 1 sysctl_writes
irq_affinity 0.5 irq_affinity
hotplug 2 hotplug
END
while :; do
	sleep 1 &
	wait $!
done
