# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# For scripts that start QEMU: its vCPUs' threads, each on a CPU of its own.

vcpu_threads() {
	grep -l '^CPU [0-9]*/KVM$' "/proc/$1/task"/*/comm 2>/dev/null | cut -d / -f 5
}

# pin_vcpus PID CPU...: as many as vCPUs.  QEMU runs with -name NAME,debug-threads=on.
# Fails when it does not start as many threads within 20 s.
pin_vcpus() {
	pv_pid=$1
	shift
	for _ in $(seq 200); do
		[ "$(vcpu_threads "$pv_pid" | wc -l)" -ge $# ] && break
		sleep 0.1
	done
	for pv_tid in $(vcpu_threads "$pv_pid"); do
		taskset -pc "$1" "$pv_tid" >/dev/null || return
		shift
	done
	[ $# -eq 0 ]
}
