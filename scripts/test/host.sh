#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The tests' part inside the host: run every test of a list, one after the other,
# keep each one's TAP output, and write one line each to /mnt/out/results.
#
#   host.sh LIST SECONDS [SLOW]
#
# SLOW multiplies the limits that LIST gives; SECONDS is for tests without.
#
# A line of LIST: NAME [ARGS...] [required] [platform=NAME] [kernel=KIND] [timeout=S] [# REASON]
# KIND is rig (one of the rig's own) or plain (that without the debug kernel's checks).
# A NAME is a program, or a script beside this one without its ".sh": "kunit" says how the
# KUnit suite ended that is its argument.
# On another kernel than the rig's own, what says that it is not in this kernel may be skipped.
# results: pass|fail|skip|required-skip NAME SECONDS REASON
set -u
# shellcheck source=scripts/test/lib.sh
. "${0%/*}/lib.sh"

list=$1
limit=$2
slow=${3:-1}
out=/mnt/out
platform=$(sed -n 's/.*\bkvm_excl_platform=\([^ ]*\).*/\1/p' /proc/cmdline)

release=$(uname -r)
# What may be skipped of a required test.
allowed=^$
[[ $release == *-rig* ]] || allowed='not in this kernel'

mkdir -p "$out/tap"
: >"$out/results"
if [ -r module/kvm-exclusive.ko ]; then
	insmod module/kvm-exclusive.ko || exit 1
fi
ulimit -l unlimited
cd kselftests || exit 1
[ -r "$list" ] || exit 1

while read -r line; do
	line=${line%%#*}
	required=
	only=
	kernel=
	seconds=$limit
	words=()
	for word in $line; do
		case $word in
		required) required=required- ;;
		platform=*) only=${word#*=} ;;
		kernel=*) kernel=${word#*=} ;;
		timeout=*) seconds=$((${word#*=} * slow)) ;;
		*) words+=("$word") ;;
		esac
	done
	[ ${#words[@]} -gt 0 ] || continue
	[ -z "$only" ] || [ "$only" = "$platform" ] || continue
	case $kernel in
	rig) [[ $release == *-rig* ]] || continue ;;
	plain) [[ $release == *-rig* && $release != *-debug* ]] || continue ;;
	esac
	name=${words[*]}
	echo "$(cut -d ' ' -f 1 /proc/uptime) $name"
	echo "rig: test $name" >/dev/kmsg
	if [ -x "../test/${words[0]}.sh" ]; then
		words[0]=../test/${words[0]}.sh
	else
		words[0]=./${words[0]}
	fi
	# The same test again keeps what it printed before.
	tap=$out/tap/$(tap_name "$name")
	again=1
	while [ -e "$tap" ]; do
		again=$((again + 1))
		tap=$out/tap/$(tap_name "$name.$again")
	done
	run_one "$seconds" "$tap" "${words[@]}"
	# What is required is all of it: one part that skips is a skip.
	if [ -n "$required" ] && [ "$result" = pass ] &&
		part=$(grep -E '^ *ok .*# SKIP' "$tap" | grep -v -m 1 "$allowed"); then
		result=skip
		reason=$part
	fi
	[ "$result" = skip ] || required=
	echo "$required$result $name $took $reason" >>"$out/results"
	tail -n 1 "$out/results"
done <"$list"

cd ..
if [ -r module/kvm-exclusive.ko ]; then
	rmmod kvm_exclusive || { echo "fail rmmod 0 the module does not unload" >>"$out/results"; }
fi
# Nothing of exclusive mode holds KVM, or is left behind by it.
if [ -r kernel/kvm.ko ]; then
	rmmod "kvm-${platform%-bochs}" kvm || { echo "fail rmmod 0 KVM does not unload" >>"$out/results"; }
fi
echo "end" >>"$out/results"
exit 0
