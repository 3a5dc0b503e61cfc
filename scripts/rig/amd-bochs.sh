# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# shellcheck disable=SC2034 # read by intel.sh
#
# An AMD host in Bochs: SVM with nested paging and the next-RIP save, which the
# platform amd has not.  It has no AVIC, no TSC-deadline timer and no IOMMU.  All but
# the CPU is as in intel.sh.
#
#   BOCHS_CPU=MODEL   default: ryzen

BOCHS_CPU=${BOCHS_CPU:-ryzen}
# AMD has it from Zen 2 on, the model is a Zen.
bochs_features=x2apic
# In CPUID, and its MSRs and local vectors are not there: what machine checks need.
bochs_absent=overflow_recov,succor,smca
# shellcheck source=scripts/rig/intel.sh
. "$TOP/scripts/rig/intel.sh"
