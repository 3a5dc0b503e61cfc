#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The demo: one Linux guest under load in an emulated host, in stock and in exclusive
# mode, and its VM exits side by side.
#
#   PLATFORM=amd|intel      which emulated host (default: amd)
#   FLAVOUR=exclusive|stock which kernel it runs (default: exclusive)
#   MODE="stock exclusive"  which columns
#   KERNEL=bzImage          the host's kernel, instead of FLAVOUR
#   REDIS=N NGINX=N         requests
#   DEVICES=1               instead: a NIC, a virtual function and an NVMe disk assigned to
#                           the guest (platform amd), with IOMMU="intel amd" and
#                           NIC=N VF=N requests of 64 KiB and NVME=N of 4 KiB
#   CONNECTIONS=1           over so many connections at once
#   MAX_SHARE=1             exclusive exits allowed, in percent of stock (empty: any, as
#                           with DEVICES=1; 2 on amd, see below)
set -eu
TOP=$(cd "$(dirname "$0")/../../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"

# The load is long enough that what its programs cost by starting (some hundred
# CPUID exits, whatever the mode) is small beside it.
modes=${MODE:-stock exclusive}
platform=${PLATFORM:-amd}
kernel=${KERNEL:-$(host_image "${FLAVOUR:-exclusive}" "$platform")}
# All that differs between the platforms.  Times are in seconds of the host's clock,
# TIMEOUT in real ones: a busy second of Bochs lasts several of these.
case $platform in
amd | intel) ;;
*) die "no demo on the platform $platform, but on amd or intel" ;;
esac
case $platform in
intel)
	redis=${REDIS:-5000}
	nginx=${NGINX:-4000}
	timeout=${TIMEOUT:-3600}
	guest_cpu=host
	boot_limit=600
	answer_limit=120
	share=1
	# Unpacking it in each VM takes longer than reading it.
	unpacked=1
	append=
	;;
*)
	redis=${REDIS:-80000}
	nginx=${NGINX:-80000}
	timeout=${TIMEOUT:-2400}
	# QEMU's TCG has no TSC-deadline timer, and KVM would emulate one.
	guest_cpu=host,tsc-deadline=off
	boot_limit=180
	answer_limit=60
	# QEMU emulates no processor that saves the next RIP, so each IPI of the guest is an
	# exit in either mode.  How many of stock's that is depends on the machine: a quick one
	# has fewer ticks for as many requests (measured: 0.2 to 1.7%).
	share=2
	unpacked=
	# QEMU's local APIC timer counts at 1 GHz.  On a busy machine the kernel's
	# calibration is off by more than is taken for the same, and the guest's timer
	# would be assisted.
	append=kvm.exclusive_lapic_hz=1000000000
	;;
esac
# The tests of "make test" run when the host boots; not here.
append="kunit.enable=0 $append"
max_share=${MAX_SHARE-$share}
payload=$BUILD/payload-demo-$platform
mkdir -p "$REPORT"
"$TOP/scripts/rig/payload.sh" "$payload"
[ -z "$unpacked" ] || gzip -d "$payload/guest-initramfs.cpio.gz"
case $modes in
*exclusive*)
	[ -x "$payload/bin/kvm-exclusive" ] || die "no kvm-exclusive command; \"make tools\" builds it"
	[ -r "$payload/module/kvm-exclusive.ko" ] || die "no module; \"make module\" builds it"
	;;
*)
	rm -f "$payload/module/kvm-exclusive.ko"
	;;
esac

# demo NAME LOADS RIG_OPTIONS...: one emulated host and its table, report/NAME.{json,txt}.
demo() {
	d_name=$1
	d_loads=$2
	d_out=$BUILD/rig-$1
	shift 2
	rm -rf "$d_out"
	# shellcheck disable=SC2086 # loads are words
	"$TOP/scripts/rig/run.sh" --platform "$platform" --kernel "$kernel" --append "$append" \
		--timeout "$timeout" --share "$payload" --out "$d_out" "$@" -- env \
		GUEST_CPU="$guest_cpu" BOOT_LIMIT="$boot_limit" ANSWER_LIMIT="$answer_limit" \
		./demo/run-modes.sh "$modes" "${CONNECTIONS:-1}" $d_loads || {
		[ ! -s "$d_out/failure" ] || cat "$d_out/failure"
		die "the demo failed: $(tail -n 1 "$d_out/verdict")"
	}
	for d_mode in $modes; do
		for d_vm in guest beside; do
			if d_line=$(splat "$d_out/$d_vm-$d_mode.console"); then
				die "the demo failed: kernel log of the $d_vm VM in $d_mode mode: $d_line"
			fi
		done
	done

	# The table goes to the terminal even where a check fails after it.
	d_status=0
	"$TOP/scripts/results.py" exits "$d_out" "$platform" "$max_share" "$REPORT/$d_name.json" \
		>"$REPORT/$d_name.txt" || d_status=$?
	cat "$REPORT/$d_name.txt"
	say
	say "Saved as ${REPORT#"$TOP"/}/$d_name.json and $d_name.txt; \"make report\" draws it"
	return "$d_status"
}

if [ -z "${DEVICES:-}" ]; then
	demo "demo-$platform" "redis $redis nginx $nginx"
	exit
fi

[ "$platform" = amd ] || die "DEVICES=1 needs PLATFORM=amd: Bochs has no IOMMU"
# What remains is the same for a load of any length, and these are short.
max_share=${MAX_SHARE-}
disk=$BUILD/nvme.img
rm -f "$disk"
truncate -s 256M "$disk"
status=0
for iommu in ${IOMMU:-intel amd}; do
	case $iommu in
	intel) name=devices-vtd ;;
	amd) name=devices-amdvi ;;
	*) die "no such IOMMU: $iommu (intel, amd)" ;;
	esac
	say "demo: assigned devices behind the IOMMU of $iommu"
	# The e1000e is assigned; what it sends comes out of a virtio NIC of the host.
	demo $name "nic ${NIC:-4000} vf ${VF:-4000} nvme ${NVME:-20000}" --iommu "$iommu" \
		--mem 3072 --netdev hubport,id=there,hubid=0 --netdev hubport,id=here,hubid=0 \
		--device e1000e,netdev=there --device virtio-net-pci,netdev=here,disable-legacy=on \
		--device pcie-root-port,id=slot1,slot=1,chassis=1 --device igb,bus=slot1 \
		--drive "file=$disk,format=raw,if=none,id=disk" --device nvme,drive=disk,serial=demo ||
		status=$?
done
exit "$status"
