#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Prove that a host that does I/O goes on doing it while CPUs are given away: disks with an
# interrupt for each CPU's queue, and a network card of several queues.  Interrupts whose
# affinity is owned CPUs alone come to control CPUs and back, whatever is written from
# owned CPUs is read again, and a guest whose memory is a file on such a disk boots, which
# its own page faults on its own CPUs read.
#
#   managed_irq_test.sh [CLAIMS]
#
# The devices are the emulated host's: TEST_HOSTS=disks in scripts/test/groups.sh;
# rig_iperf=PORT on the command line of its kernel is where the outer machine listens.  What
# fio, iperf3 and churn_test record is left beside the TAP output, for scripts/results.py.
set -u
cd "${0%/*}/.." || exit 1
claims=${1:-100}
plan=10
# shellcheck source=scripts/test/host/linux.sh
. test/linux.sh

disks="vda nvme0n1"
# It has a file system with the file ram, which becomes a guest's memory.
memory=/dev/vdb
for disk in $disks vdb; do
	[ -b "/dev/$disk" ] || { echo "Bail out! no /dev/$disk"; exit 1; }
done
cpus=2,3
mask='^[23](-3|,3)?$'

# irqs: the number of every interrupt of the disks' queues.
irqs() {
	sed -nE 's/^ *([0-9]+):.*(virtio[0-9]+-req\.[0-9]|nvme[0-9]+q[1-9]).*/\1/p' /proc/interrupts
}

# affinities KIND: "IRQ LIST" of each; KIND is smp_affinity_list or effective_affinity_list.
affinities() {
	local irq

	for irq in $(irqs); do
		echo "$irq $(cat "/proc/irq/$irq/$1")"
	done
}

# on_owned: those that may come to the CPUs that are given away.
on_owned() {
	affinities effective_affinity_list | grep -E ' .*[23]'
}

# What the threads of interrupt handlers do on the CPUs that are given away.  On PREEMPT_RT,
# or with "threadirqs", nearly every handler has one.
trace=/sys/kernel/tracing/instances/irq_threads
trace_threads() {
	mkdir "$trace" && echo c >"$trace/tracing_cpumask" &&
		echo 'next_comm ~ "irq/*"' >"$trace/events/sched/sched_switch/filter" &&
		echo 1 >"$trace/events/sched/sched_switch/enable"
}

# What is written is read again.
verify=(--size=1M --bs=4k --rw=randwrite --direct=1 --verify=crc32c --do_verify=1
	--verify_fatal=1 --verify_state_save=0)

# bound: whether a VM has the CPUs.
bound() {
	bin/kvm-exclusive status 2>/dev/null | grep -q ': bound'
}

# use_disks CPU: write and verify a part of each, from that CPU.
use_disks() {
	local disk

	for disk in $disks; do
		taskset -c "$1" fio --name="cpu$1" --filename="/dev/$disk" --offset="$((32 + 8 * $1))M" \
			"${verify[@]}" --ioengine=psync --output=/dev/null || return 1
	done
}

# load_disks CPU: the same over and over, 16 requests at a time, until it is interrupted.
load_disks() {
	local disk

	for disk in $disks; do
		taskset -c "$1" fio --name="cpu$1" --filename="/dev/$disk" --offset="$((128 + 8 * $1))M" \
			"${verify[@]}" --ioengine=libaio --iodepth=16 --loops=1000000 \
			--output-format=json --output="/mnt/out/tap/fio-$disk-$1.json" &
		load="$load $!"
	done
}

# load_net CPU: send to the outer machine, over and over.
load_net() {
	while [ -e "$tmp/churn" ]; do
		taskset -c "$1" iperf3 -c 10.0.2.2 -p "$port" -t 5 -J >"$tmp/iperf" ||
			echo "iperf3 on CPU $1 failed"
		tr -d '\n' <"$tmp/iperf" >>/mnt/out/tap/iperf.jsonl
		echo >>/mnt/out/tap/iperf.jsonl
	done >>"$tmp/errors" 2>&1
}

own=$(affinities smp_affinity_list | grep -cE " ${mask#^}")
before=$(affinities effective_affinity_list)
# shellcheck disable=SC2001 # the start of each line
echo "$before" | sed 's/^/# IRQ and CPU: /'
check "each disk has interrupts of CPUs 2 and 3 alone" test "$own" -ge 4

# Every CPU's queue has been used, or nothing would be under way.
for cpu in 0 1 2 3; do
	use_disks "$cpu" || echo "# CPU $cpu: fio failed"
done

# Every claim and release meets requests that are under way, from the CPUs that come and go
# and from others.
touch "$tmp/churn"
load=
: >"$tmp/errors"
for cpu in 1 2 3; do
	load_disks "$cpu"
done
port=$(sed -n 's/.*\brig_iperf=\([0-9]*\).*/\1/p' /proc/cmdline)
for card in /sys/class/net/*/device; do
	if [ -z "$port" ] || [ ! -e "$card" ]; then
		continue
	fi
	card=${card%/device}
	ip addr add 10.0.2.15/24 dev "${card##*/}"
	ip link set "${card##*/}" up
	load_net 2 &
	break
done
kselftests/churn_test "$claims" "/mnt/out/tap/churn.jsonl" >"$tmp/tap"
status=$?
rm -f "$tmp/churn"
# shellcheck disable=SC2086 # process IDs
kill -INT $load
wait
# Its header and plan are not of this test.
sed 's/^[^#]/# &/' "$tmp/tap"
grep -HE '"(error|total_err)" : [^0]' /mnt/out/tap/fio-*.json >>"$tmp/errors"
sed 's/^/# /' "$tmp/errors"
check "no interrupt is on an owned CPU ($claims claims)" test "$status" -eq 0
check "what was written meanwhile is read again" test ! -s "$tmp/errors"
errors=0

# A move that has not ended does with the next interrupt.
for cpu in 0 1 2 3 0 1 2 3; do
	use_disks "$cpu" || errors=$((errors + 1))
done
after=$(affinities effective_affinity_list)
# shellcheck disable=SC2001
[ "$after" = "$before" ] || echo "$after" | sed 's/^/# IRQ and CPU after: /'
check "afterwards each is where it was" test "$after" = "$before"
check "and works there" test "$errors" -eq 0

# Every page of the guest is read from the disk by its vCPUs' threads, on their CPUs.
mkdir -p "$tmp/disk"
mount -t ext4 "$memory" "$tmp/disk" || echo "# $memory cannot be mounted"
echo 3 >/proc/sys/vm/drop_caches
vmm_memory="memory-backend-file,id=memory,size=256M,mem-path=$tmp/disk/ram,share=on"
echo "# threads of interrupt handlers: $(grep -l '^irq/' /proc/[0-9]*/comm | grep -c .)"
# Before the claim none has anything to do there any more.
trace_threads || { echo "Bail out! no trace of the threads of interrupts"; exit 1; }
start_linux 2 linux/initramfs.cpio "" host bin/kvm-exclusive run --cpus "$cpus" --
bad=0
bad_threads=none
until vmm_ended; do
	# They come back when it ends, which may be between two looks.
	if bound; then
		there=$(on_owned)
		grep -o 'next_comm=irq.*' "$trace/trace" >"$tmp/threads"
		if bound; then
			if [ -n "$there" ]; then
				bad=$((bad + 1))
				echo "# on an owned CPU: $there"
			fi
			bad_threads=$(grep -c . "$tmp/threads")
		fi
	fi
	sleep 0.5
done
sed 's/^/# on an owned CPU: /' "$tmp/threads" | head -n 5
wait "$vmm"
status=$?
vmm=
umount "$tmp/disk" 2>/dev/null
rmdir "$trace" 2>/dev/null
check "a guest whose memory is on such a disk comes to its end" said '^end$'
check "its VMM ended well" test "$status" -eq 0
check "no interrupt was on an owned CPU meanwhile" test "$bad" -eq 0
check "no interrupt's thread ran on one" test "$bad_threads" = 0
check "nothing of the host's came to an owned CPU" \
	sh -c '! dmesg | grep -E "came to owned CPU|cpu_ownership: .* not taken"'
end_tests
