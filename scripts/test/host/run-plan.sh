#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# In the emulated host: run a plan of tests, one test after the other, keep what each
# prints, and leave raw records in /mnt/out/records.jsonl, whose form is in
# scripts/results/judge.py.  Nothing is judged here.
#
#   run-plan.sh PLAN [MODULE]
#
# A line of PLAN (scripts/results/lists.py writes it): SECONDS, TRIES, NAME with its arguments,
# with tabs between them.  A test is run again, up to TRIES times, while its exit status is
# bad.  A NAME is a program, or a script beside this one without its ".sh".  MODULE is loaded
# before the tests, and unloaded behind them.
set -u

plan=$1
module=${2:-}
out=/mnt/out
records=$out/records.jsonl
platform=$(sed -n 's/.*\bkvm_excl_platform=\([^ ]*\).*/\1/p' /proc/cmdline)

# step WHAT COMMAND...: one of those that are no tests.
step() {
	local what=$1 status

	shift
	"$@"
	status=$?
	printf '{"step": "%s", "status": %d}\n' "$what" "$status" >>"$records"
	return "$status"
}

mkdir -p "$out/tap"
: >"$records"
if [ -n "$module" ]; then
	step "load the module" insmod "$module" || exit 1
fi
ulimit -l unlimited
cd kselftests || exit 1

while IFS=$'\t' read -r seconds tries name; do
	echo "$(cut -d ' ' -f 1 /proc/uptime) $name"
	echo "rig: test $name" >/dev/kmsg
	# shellcheck disable=SC2206 # words, and no patterns among them
	words=($name)
	if [ -x "../test/${words[0]}.sh" ]; then
		words[0]=../test/${words[0]}.sh
	else
		words[0]=./${words[0]}
	fi
	# The same test again keeps what it printed before.
	file=tap/${name//[^A-Za-z0-9_.-]/_}
	tap=$file.tap
	again=1
	while [ -e "$out/$tap" ]; do
		again=$((again + 1))
		tap=$file.$again.tap
	done
	while :; do
		start=$SECONDS
		status=127
		if [ -x "${words[0]}" ]; then
			timeout -k 5 "$seconds" "${words[@]}" >"$out/$tap" 2>&1 </dev/null
			status=$?
		else
			echo "not there" >"$out/$tap"
		fi
		took=$((SECONDS - start))
		tries=$((tries - 1))
		case $status in
		0 | 4) break ;; # KSFT_SKIP is 4
		esac
		[ "$tries" -gt 0 ] || break
	done
	# It is killed when it does not end by itself then.
	late=false
	if [ "$status" -eq 124 ] || { [ "$status" -eq 137 ] && [ "$took" -ge "$seconds" ]; }; then
		late=true
	fi
	printf '{"test": "%s", "status": %d, "seconds": %d, "timeout": %s, "tap": "%s"}\n' \
		"$name" "$status" "$took" "$late" "$tap" >>"$records"
done <"../$plan"

cd ..
[ -z "$module" ] || step "unload the module" rmmod kvm_exclusive
# Nothing of exclusive mode holds KVM, or is left behind by it.
if [ -r kernel/kvm.ko ]; then
	step "unload KVM" rmmod "kvm-${platform%-bochs}" kvm
fi
echo '{"end": true}' >>"$records"
exit 0
