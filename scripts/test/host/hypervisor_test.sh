#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Prove that a host that is a guest of a hypervisor is refused by name: in a guest of KVM
# that runs the patched kernel, nobody gets CPUs, and the reason names KVM.
#
# The hypervisor's own interrupts, KVM's for asynchronous page faults first of all, would be
# taken for the guest's there.
set -u
cd "${0%/*}/.." || exit 1
plan=7
# shellcheck source=scripts/test/host/linux.sh
. test/linux.sh

# The command, with what it is linked to.
mkdir -p "$tmp/root/bin"
cp bin/kvm-exclusive "$tmp/root/bin/"
ldd bin/kvm-exclusive | grep -o '/[^ ]*' | while read -r file; do
	mkdir -p "$tmp/root${file%/*}"
	cp -L "$file" "$tmp/root$file"
done
{
	cat linux/initramfs.cpio
	(cd "$tmp/root" && find . | busybox cpio -o -H newc 2>/dev/null)
} >"$tmp/initrd"

start_linux 2 "$tmp/initrd" "" host
until vmm_ended; do
	sleep 1
done
wait "$vmm"
status=$?
vmm=
tr -d '\r' <"$console" | sed -n '/^host: /,/^end$/s/^/# /p'

check "info says that it is not supported, and names KVM" said '^host: supported 0: .*KVM'
check "a claim fails with EOPNOTSUPP" said '^host: claim: EOPNOTSUPP$'
check "the command says so, too" said '^CPUs for VMs: +not supported: .*KVM'
check "the command gives no CPUs" said '^host: run ended with status 3$'
check "the guest came to its end" said '^end$'
check "there is no splat in its log" no_splat
check "its VMM ended well" test "$status" -eq 0
end_tests
