#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The inside part of "make latency": run the guest in a VM, twice for each mode given,
# and leave what it reports in /mnt/out/MODE.RUN.  Runs in /mnt/share (the payload).
#
#   host.sh SAMPLES stock|exclusive|exclusive_c...
#
# The host has five CPUs: 0 stays with it, the guest's four run on the others.
set -eu
samples=$1
shift

apicv=/sys/module/kvm_intel/parameters/enable_apicv
case $* in
*stock*)
	# Stock is KVM as upstream ships it.
	if grep -qw vmx /proc/cpuinfo && [ "$(cat "$apicv")" != Y ]; then
		echo "APICv is off in this host: $apicv"
		exit 1
	fi
	;;
*)
	insmod module/kvm-exclusive.ko
	;;
esac
for run in 1 2; do
	for mode; do
		echo "$mode, run $run"
		rows=/mnt/out/$mode.$run
		status=0
		kselftests/latency-vm "$mode" "$samples" >"$rows" || status=$?
		grep -v '^row ' "$rows" || :
		if [ $status -ne 0 ]; then
			echo "the guest failed in mode $mode, run $run"
			exit 1
		fi
	done
done
