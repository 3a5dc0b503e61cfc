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
	"$@" env PLATFORM="$platform" FLAVOUR="$flavour" TEST_FULL=$full \
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
! grep -qE '^[^ ]+ wall [0-9]+ [^0]' "$table" || status=1

# A test's seconds are the emulated host's; those of a run, and of what was built for it,
# are real.  A test that runs more than once in a run is one row.
awk -v times="$LOGS/times" '
function minutes(s) { return sprintf("%d:%02d", s / 60, s % 60) }
function row(what,	i, line) {
	line = sprintf("%-34s", what)
	for (i = 1; i <= runs; i++)
		line = line sprintf(" %*s", length(run[i]) > 8 ? length(run[i]) : 8, cell[what, run[i]])
	print line
}
!($1 in known) { known[$1] = 1; run[++runs] = $1; cell["", $1] = $1 }
$2 == "wall" { cell["real time", $1] = minutes($3); next }
NF < 4 { next }
{
	result = $2
	name = $3
	sub(/^control\/.*/, "control", name)
	# Arguments come before the seconds, a suite of KUnit is one.
	seconds = 4
	while (seconds < NF && $seconds !~ /^[0-9]+$/)
		seconds++
	while ($(seconds + 1) ~ /^[0-9]+$/)
		seconds++
	if (name == "kunit")
		name = name " " $4
	if (!(name in row_of)) { row_of[name] = ++rows; title[rows] = name }
	took[name, $1] += $seconds
	result = result == "pass" || result == "skip" ? result : "FAIL"
	seen[name, $1, result] = 1
	count[result, $1]++
}
END {
	row("")
	for (r = 1; r <= rows; r++) {
		t = title[r]
		for (i = 1; i <= runs; i++)
			cell[t, run[i]] = (t, run[i], "FAIL") in seen ? "FAIL" : \
				(t, run[i], "pass") in seen ? took[t, run[i]] " s" : \
				(t, run[i], "skip") in seen ? "skip" : ""
		row(t)
	}
	for (i = 1; i <= runs; i++) {
		cell["passed", run[i]] = count["pass", run[i]] + 0
		cell["failed", run[i]] = count["FAIL", run[i]] + 0
		cell["skipped", run[i]] = count["skip", run[i]] + 0
	}
	row("passed")
	row("failed")
	row("skipped")
	row("real time")
	print ""
	print "What was built for it, in real time:"
	while ((getline <times) > 0) {
		if (!($1 in last))
			step[++steps] = $1
		last[$1] = $2
	}
	for (i = 1; i <= steps; i++)
		printf "%-34s %8s\n", step[i], minutes(last[step[i]])
}' "$table" >"$REPORT/$name.txt"
cat "$REPORT/$name.txt"
exit "$status"
