#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# What the exclusive mode itself counted between two flattened status files:
#
#   status-delta.sh MODE WORKLOAD BEFORE AFTER
#
# Prints "MODE WORKLOAD unseen N" and "MODE WORKLOAD kick CAUSE N" lines, the sums
# over all VMs shown.  Both are kept per VM; a vCPU's own share, deeper in the
# document, is not counted again.
set -eu
awk -v prefix="$1 $2" '
FNR == 1 { file++ }
{
	sign = file == 1 ? -1 : 1
	if ($1 ~ /vcpus/)
		next
	if ($1 ~ /(^|\.)unseen_by_perf$/)
		unseen += sign * $2
	else if ($1 ~ /(^|\.)kicks\.[^.]+$/) {
		cause = $1
		sub(/.*\./, "", cause)
		kick[cause] += sign * $2
	}
}
END {
	print prefix, "unseen", unseen + 0
	for (cause in kick)
		print prefix, "kick", cause, kick[cause]
}' "$3" "$4"
