# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# shellcheck disable=SC2034 # read by run.sh
#
# An AMD host: QEMU's TCG emulates SVM with nested paging, x2APIC and, beside it,
# either vendor's IOMMU with interrupt remapping.  It has no TSC-deadline timer,
# no AVIC and no next-RIP save.

PLATFORM_MACHINE="-M q35,kernel-irqchip=off -accel tcg,thread=multi -cpu EPYC-Rome,+svm,+x2apic"

case $RIG_IOMMU in
intel)
	PLATFORM_IOMMU="-device intel-iommu,intremap=on,eim=on"
	;;
amd)
	PLATFORM_IOMMU="-device amd-iommu,intremap=on,xtsup=on"
	;;
none)
	PLATFORM_IOMMU=
	;;
*)
	die "no such IOMMU: $RIG_IOMMU (intel, amd or none)"
	;;
esac

# On a busy machine the emulated timers are late: the boot-time check that the PIT
# ticks through the I/O APIC then panics, and the clock watchdog rejects the TSC.
PLATFORM_APPEND="no_timer_check tsc=reliable"
