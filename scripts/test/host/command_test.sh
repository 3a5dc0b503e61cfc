#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Prove that the command does what its --help says: info, attach to a VM that runs, status,
# and every way in which attach ends.  What it refuses it refuses with its documented exit
# status and a message that names the culprit, and changes nothing.
#
# The VM is a Linux guest that runs a guest of its own all the time, so that its progress can
# be seen on its console.
#
# shellcheck disable=SC2317 # what check and within call
set -u
cd "${0%/*}/.." || exit 1
plan=18
# shellcheck source=scripts/test/host/linux.sh
. test/linux.sh
# shellcheck source=scripts/bench/measure/pin.sh
. measure/pin.sh

command=bin/kvm-exclusive
attach=

# refused STATUS REGEX ARGS...: the command ends so, and says that on its standard error.
refused() {
	local status=$1 said=$2

	shift 2
	"$command" "$@" >"$tmp/out" 2>"$tmp/err"
	if [ $? -eq "$status" ] && grep -qE "$said" "$tmp/err" && nobody_has_cpus; then
		return 0
	fi
	echo "# kvm-exclusive $*: $(cat "$tmp/out" "$tmp/err")"
	return 1
}

nobody_has_cpus() {
	! "$command" status | grep -qE ': (bound|armed|claimed)'
}

# within SECONDS COMMAND...: it succeeds before they are over.
within() {
	local end=$((SECONDS + $1))

	shift
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.3
	done
}

# progress: how many lines the guest has printed.
progress() {
	tr -d '\r' <"$console" | grep -c '^l2: so far'
}

goes_on() {
	local was

	was=$(progress)
	moved() { [ "$(progress)" -gt "$was" ]; }
	within 60 moved
}

# masks: what the vCPUs' threads are allowed.
masks() {
	local tid

	for tid in $(vcpu_threads "$vmm"); do
		grep Cpus_allowed_list "/proc/$vmm/task/$tid/status"
	done
}

# attach_to CPUS: give them to the VM, in the background.
attach_to() {
	"$command" attach --pid "$vmm" --cpus "$1" >"$tmp/attach" 2>&1 &
	attach=$!
}

both_attached() {
	[ "$("$command" status --json | grep -cE '"attaches": *[1-9]')" -eq 2 ]
}

# threads_on CPU CPU: where the vCPUs' threads may run.
threads_on() {
	[ "$(masks | sed 's/.*\t//' | sort | tr '\n' ' ')" = "$1 $2 " ]
}

# ended PID: of a child, which is a zombie then.
ended() {
	[ ! -e "/proc/$1" ] || grep -qE '^State:.*(zombie|dead)' "/proc/$1/status" 2>/dev/null
}

# ends STATUS: attach does, so, within 20 s.
ends() {
	local status

	within 20 ended "$attach"
	wait "$attach"
	status=$?
	attach=
	[ "$status" -eq "$1" ] || sed "s/^/# attach ended with $status: /" "$tmp/attach"
	[ "$status" -eq "$1" ]
}

check "info: this host can" sh -c "$command info | grep -qE 'CPUs for VMs: +supported'"
check "info --json says so, too" sh -c "$command info --json | grep -qE '\"supported\": ?true'"
check "an unknown option: status 2" refused 2 'unrecognized option' info --nonsense
check "attach to nobody" refused 1 'there is no process 999999' attach --pid 999999 --cpus 2
check "attach to a process without a VM" refused 1 'has no KVM VM' attach --pid $$ --cpus 2
check "a list that is none: status 2" refused 2 'nonsense' attach --pid $$ --cpus nonsense

start_linux 2 linux/initramfs.cpio kvm.enable_virt_at_load=0 "l2 100000000 500"
within 60 said '^l2: so far' || { echo "Bail out! the guest does not start its guest"; failed=1; end_tests; }
was=$(masks)

check "CPU 0 stays with the host" refused 1 'CPU 0 stays with the host' attach --pid "$vmm" --cpus 0,2
check "a CPU that is none" refused 1 'CPU 99 does not exist' attach --pid "$vmm" --cpus 2,99

attach_to 2,3
check "attach: both vCPUs come to be attached" within 60 both_attached
check "their threads are on their CPUs" threads_on 2 3
check "status names the VMM's process" sh -c "$command status | grep -qE ': bound, .*VM of process $vmm\b'"
check "its CPUs are nobody else's" sh -c \
	"! $command run --cpus 2 -- true 2>'$tmp/err' && grep -q 'belongs to another context' '$tmp/err'"
kill -INT "$attach"
check "interrupted it ends well" ends 0
check "and gives back the CPUs and the threads' masks" within 20 sh -c \
	"! $command status | grep -q ': bound'"
check "the guest goes on as an ordinary one" goes_on
[ "$(masks)" = "$was" ] || { check "its threads' masks are what they were" false; end_tests; }

attach_to 3,2
within 60 both_attached
kill -KILL "$attach"
check "killed it gives back the CPUs, too" within 20 nobody_has_cpus
wait "$attach" 2>/dev/null

attach_to 2,3
within 60 both_attached
kill -TERM "$vmm"
check "it ends well when its VM does" ends 0
check "and the CPUs are the host's" nobody_has_cpus
wait "$vmm" 2>/dev/null
vmm=
end_tests
