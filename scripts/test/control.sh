#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The control tests' part inside the host: run the kernel tree's own tests with
# exclusive mode off, that is without the module, and write one line each to
# /mnt/out/results.
#
#   control.sh LIST SECONDS
#
# LIST is kselftests/control, seen from that directory.  results: pass|fail|skip STATUS NAME SECONDS REASON
set -u
# shellcheck source=scripts/test/lib.sh
. "${0%/*}/lib.sh"

list=$1
limit=$2
out=/mnt/out

mkdir -p "$out/tap"
: >"$out/results"
ulimit -l unlimited
cd kselftests || exit 1
[ -r "$list" ] || exit 1

while read -r name options; do
	case $name in
	'' | '#'* | -*) continue ;;
	esac
	seconds=$limit
	tries=1
	for word in ${options%%#*}; do
		case $word in
		timeout=*) seconds=${word#*=} ;;
		tries=*) tries=${word#*=} ;;
		esac
	done
	echo "$(cut -d ' ' -f 1 /proc/uptime) $name"
	echo "rig: control $name" >/dev/kmsg
	result=fail
	while [ "$result" = fail ] && [ "$tries" -gt 0 ]; do
		run_one "$seconds" "$out/tap/$(tap_name "$name")" "./$name"
		tries=$((tries - 1))
	done
	echo "$result $status $name $took $reason" >>"$out/results"
	tail -n 1 "$out/results"
done <"$list"
echo "end" >>"$out/results"
exit 0
