#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The tests' part inside the host: run every test of a list, one after the other,
# keep each one's TAP output, and write one line each to /mnt/out/results.
#
#   host.sh LIST SECONDS
#
# A line of LIST: NAME [ARGS...] [required] [platform=NAME] [timeout=S] [# REASON]
# results: pass|fail|skip|required-skip NAME SECONDS REASON
set -u

list=$1
limit=$2
out=/mnt/out
platform=$(sed -n 's/.*\bkvm_excl_platform=\([^ ]*\).*/\1/p' /proc/cmdline)

mkdir -p "$out/tap"
: >"$out/results"
if [ -r module/kvm-exclusive.ko ]; then
	insmod module/kvm-exclusive.ko || exit 1
fi
ulimit -l unlimited
cd kselftests || exit 1

while read -r line; do
	line=${line%%#*}
	required=
	only=
	seconds=$limit
	words=()
	for word in $line; do
		case $word in
		required) required=required- ;;
		platform=*) only=${word#*=} ;;
		timeout=*) seconds=${word#*=} ;;
		*) words+=("$word") ;;
		esac
	done
	[ ${#words[@]} -gt 0 ] || continue
	[ -z "$only" ] || [ "$only" = "$platform" ] || continue
	name=${words[*]}
	tap=$out/tap/${name//[^A-Za-z0-9_.-]/_}.tap
	echo "$(cut -d ' ' -f 1 /proc/uptime) $name"
	echo "rig: test $name" >/dev/kmsg
	start=$SECONDS
	if [ -x "./${words[0]}" ]; then
		timeout -k 5 "$seconds" "./${words[0]}" "${words[@]:1}" >"$tap" 2>&1 </dev/null
		status=$?
	else
		echo "not there" >"$tap"
		status=127
	fi
	took=$((SECONDS - start))
	# KSFT_SKIP is 4, and a TAP plan of nothing is a skip too.
	if [ $status -eq 4 ] || { [ $status -eq 0 ] && grep -qE '^1\.\.0 # SKIP' "$tap"; }; then
		echo "${required}skip $name $took $(grep -m 1 -i skip "$tap")" >>"$out/results"
	elif [ $status -eq 0 ] && ! grep -q '^not ok' "$tap"; then
		echo "pass $name $took" >>"$out/results"
	elif [ $status -eq 124 ] || [ $status -eq 137 ]; then
		echo "fail $name $took no end within $seconds s" >>"$out/results"
	else
		echo "fail $name $took status $status: $(tail -n 1 "$tap")" >>"$out/results"
	fi
	tail -n 1 "$out/results"
done <"$list"

cd ..
if [ -r module/kvm-exclusive.ko ]; then
	rmmod kvm_exclusive || { echo "fail rmmod 0 the module does not unload" >>"$out/results"; }
fi
echo "end" >>"$out/results"
exit 0
