# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# For tests in the emulated host whose guest is a Linux that has KVM itself: the patched
# kernel of the rig with nested-init as PID 1 (kselftests/nested/init.c).  Sourced in the
# payload's directory by NAME_test.sh, with the number of its checks in $plan.
#
# shellcheck disable=SC2034,SC2154 # shared with the scripts that source this

name=${0##*/}
name=${name%.sh}
platform=$(sed -n 's/.*\bkvm_excl_platform=\([^ ]*\).*/\1/p' /proc/cmdline)
tmp=$(mktemp -d)
mkdir -p /mnt/out/tap
console=/mnt/out/tap/$name${1:+_$1}.console
number=0
failed=0
vmm=

# As in the demo: KVM would emulate a TSC-deadline timer where there is none.
guest_cpu=host
[ "$platform" != amd ] || guest_cpu=host,tsc-deadline=off

# check WHAT COMMAND...: one line of TAP.
check() {
	local what=$1

	shift
	number=$((number + 1))
	if "$@"; then
		echo "ok $number $what"
	else
		echo "not ok $number $what"
		failed=1
	fi
}

# said REGEX: whether the guest has printed such a line.
said() {
	tr -d '\r' <"$console" | grep -qE -e "$1"
}

# no_splat: nothing in the guest's log is wrong.  What is, is printed.
no_splat() {
	! tr -d '\r' <"$console" | grep -aE -f test/splat -m 5 | sed 's/^/# /' | grep .
}

# vmm_ended: also when it says that a vCPU cannot go on, where it would stay.
vmm_ended() {
	! grep -qE 'KVM: entry failed|KVM internal error' "$tmp/vmm.log" || kill -9 "$vmm" 2>/dev/null || :
	[ ! -e "/proc/$vmm" ] || grep -qE '^State:.*(zombie|dead)' "/proc/$vmm/status" 2>/dev/null
}

# start_linux CPUS INITRD APPEND ARGUMENTS [LAUNCHER...]: a VM of that many vCPUs, whose memory
# is the backend "memory" that $vmm_memory describes, if that is set.
start_linux() {
	local cpus=$1 initrd=$2 append=$3 arguments=$4

	shift 4
	: >"$console"
	"$@" qemu-system-x86_64 -name "$name,debug-threads=on" \
		-nodefaults -no-user-config -display none -no-reboot \
		-M "q35${vmm_memory:+,memory-backend=memory}" ${vmm_memory:+-object "$vmm_memory"} \
		-accel kvm -cpu "$guest_cpu" -smp "$cpus" -m 256 \
		-kernel linux/bzImage -initrd "$initrd" \
		-append "console=ttyS0 rdinit=/init panic=-1 panic_on_warn=1 loglevel=5 kunit.enable=0 $append -- $arguments" \
		-chardev "file,id=console,path=$console" -serial chardev:console \
		>"$tmp/vmm.log" 2>&1 &
	vmm=$!
}

# end_tests: the plan, and what there is to see when something has failed.
end_tests() {
	if [ "$failed" -ne 0 ]; then
		echo "# --- the guest's console"
		tail -n 40 "$console" | tr -d '\r' | sed 's/^/# /'
		sed 's/^/# VMM: /' "$tmp/vmm.log"
	fi
	exit "$failed"
}

# The caller's limit has run out: what was not reached has failed.
too_late() {
	while [ "$number" -lt "$plan" ]; do
		check "no end in time" false
	done
	end_tests
}

clean_up() {
	[ -z "$vmm" ] || kill -9 "$vmm" 2>/dev/null || :
	rm -rf "$tmp"
}
trap clean_up EXIT
trap too_late TERM

for file in linux/bzImage linux/initramfs.cpio test/splat; do
	[ -r "$file" ] || { echo "Bail out! $file is not in the payload"; exit 1; }
done
echo "TAP version 13"
echo "1..$plan"
