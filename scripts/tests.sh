#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Run the tests on every emulated platform and print side by side what passed and where
# the time went; saved as build/report/tests.txt (tests-full.txt).
#
# QEMU has a thread for each CPU and the real clock: it runs alone.  Bochs is one thread
# with a clock of its own, so there are as many at once as CPUs; what they print is in
# build/log/test-*.log.
#
#   tests.sh        what "make test" runs: the patched kernel, each platform's list
#   tests.sh full   what "make test-full" runs: all of each list, on the patched and the
#                   debug kernel, and on every CPU model
#   PLATFORM=NAME   this platform alone
#
# The status is 0 only when every run's is; a run that fails does not stop the others.
set -eu
TOP=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"

# Platform, kernel, CPU model where there is more than one.
runs='amd exclusive
amd-bochs exclusive
intel exclusive'
name=tests
case ${1:-} in
'') full=0 ;;
full)
	full=1
	name=tests-full
	runs="amd exclusive
amd debug
amd-bochs debug
intel debug
intel debug corei7_skylake_x
amd-bochs exclusive
intel exclusive
intel exclusive corei7_skylake_x"
	;;
*) die "usage: tests.sh [full]" ;;
esac
if [ -n "${PLATFORM:-}" ]; then
	runs=$(say "$runs" | grep "^$PLATFORM ") || die "no such platform: $PLATFORM"
fi

# test_run COMMAND...: one run of test.sh by this command, kept as RUN.results.
test_run() {
	tr_start=$(date +%s)
	tr_status=0
	rm -f "$REPORT/test-$run/results"
	"$@" env TEST_PART="$run" PLATFORM="$platform" FLAVOUR="$flavour" TEST_FULL=$full \
		${model:+BOCHS_CPU=$model} "$TOP/scripts/test.sh" </dev/null || tr_status=$?
	{
		sed "s/^/$run /" "$REPORT/test-$run/results" 2>/dev/null ||
			echo "$run fail run 0 no results"
		echo "$run wall $(($(date +%s) - tr_start)) $tr_status"
	} >"$parts/$run"
}

# fewer_than N: wait until fewer than N runs are going on.
fewer_than() {
	while :; do
		going=
		number=0
		for pid in $pids; do
			kill -0 "$pid" 2>/dev/null || continue
			going="$going $pid"
			number=$((number + 1))
		done
		pids=$going
		[ "$number" -ge "$1" ] || break
		sleep 1
	done
}

mkdir -p "$REPORT"
parts=$REPORT/$name.parts
rm -rf "$parts"
mkdir -p "$parts"
order=
pids=
# shellcheck disable=SC2086 # a list of processes
trap '[ -z "$pids" ] || kill -TERM $pids 2>/dev/null || :; exit 130' INT TERM HUP
while read -r platform flavour model; do
	run=$platform-$flavour${model:+-$model}
	order="$order $run"
	if [ "$platform" = amd ]; then
		fewer_than 1
		say "tests: $run"
		test_run command
	else
		fewer_than "$(nproc)"
		test_run follow "test-$run" &
		pids="$pids $!"
	fi
done <<END
$runs
END
fewer_than 1
trap - INT TERM HUP

table=$REPORT/$name.results
: >"$table"
for run in $order; do
	cat "$parts/$run" >>"$table" 2>/dev/null || echo "$run wall 0 1" >>"$table"
done
rm -rf "$parts"
status=0
"$TOP/scripts/results.py" table "$table" "$LOGS/times" >"$REPORT/$name.txt" || status=$?
cat "$REPORT/$name.txt"
exit "$status"
