#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Prove that a Linux guest in exclusive mode can be a KVM host: it runs a guest of its own
# through EXITS exits by interrupts, timers and IPIs, on two vCPUs (one on amd-bochs), and
# neither its log nor the host's has a splat (the host's is looked at by run.sh).
#
#   nested_linux_test.sh [EXITS]
#
# Each interrupt of that guest (L1) while its own guest (L2) runs is a nested VM exit, and
# from there to where KVM has loaded its own state again, GS first of all, L1 cannot take
# another one: by IF on Intel, by GIF on AMD.
#
# KVM_EXCL_STOCK=1: the same without exclusive mode.
set -u
cd "${0%/*}/.." || exit 1
exits=${1:-1000}
plan=6
# L1's timer.  In Bochs an interrupt's nested exit takes a good part of this.
period_us=500

if [ ! -c /dev/kvm-exclusive ] && [ -z "${KVM_EXCL_STOCK:-}" ]; then
	echo "1..0 # SKIP no /dev/kvm-exclusive"
	exit 4
fi
# shellcheck source=scripts/test/host/linux.sh
. test/linux.sh
# shellcheck source=scripts/bench/measure/pin.sh
. measure/pin.sh

[ "$platform" = amd ] || period_us=4000
# With all its checks the host takes as much longer.
case $(uname -r) in
*-debug*) exits=$((exits / 10)) ;;
esac

# SeaBIOS waits for the other CPUs in a loop that gives a lock away and takes it again.  In
# Bochs both are in one turn of the CPU, so that the others never see the lock free, unless
# PAUSE exits.  It does on Intel; Bochs's AMD CPU cannot.
cpus="2 3"
[ "$platform" != amd-bochs ] || cpus=2
nr=$(echo "$cpus" | wc -w)

launcher="bin/kvm-exclusive run --cpus ${cpus// /,} --"
[ -z "${KVM_EXCL_STOCK:-}" ] || launcher=
# With KVM off until there is a VM, L1 runs attached before and after it, on AMD too.
# shellcheck disable=SC2086 # words
start_linux "$nr" linux/initramfs.cpio kvm.enable_virt_at_load=0 "l2 $exits $period_us" $launcher
if [ -z "$launcher" ]; then
	# shellcheck disable=SC2086 # words
	pin_vcpus "$vmm" $cpus || { echo "Bail out! QEMU does not start"; failed=1; end_tests; }
fi

# The last of what the host says of the VM; it is gone with it.
: >"$tmp/status"
: >"$tmp/json"
until vmm_ended; do
	if [ -n "$launcher" ]; then
		bin/kvm-exclusive status >"$tmp/now" && grep -q ': bound' "$tmp/now" &&
			mv "$tmp/now" "$tmp/status"
		bin/kvm-exclusive status --json >"$tmp/now" && grep -q '"attaches"' "$tmp/now" &&
			mv "$tmp/now" "$tmp/json"
	fi
	sleep 1
done
wait "$vmm"
status=$?
vmm=
sed 's/^/# /' "$tmp/status"
tr -d '\r' <"$console" | sed -n 's/^l2: done/# L2/p'

attached=$nr
[ -z "$launcher" ] || attached=$(grep -cE '"attaches": *[1-9]' "$tmp/json")
check "the Linux guest's vCPUs have been attached" test "$attached" -eq "$nr"
check "it has started its guest" said '^l2: so far, vCPU 0: '
check "the guest's guest has exited $exits times by interrupts" said '^l2: done'
check "the Linux guest came to its end" said '^end$'
check "there is no splat in its log" no_splat
check "its VMM ended well" test "$status" -eq 0
end_tests
