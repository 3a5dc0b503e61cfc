#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Run the parts of a tier of tests (scripts/test/parts.sh), and print side by side what passed
# and where the time went, last of all how many; saved as build/report/tests.txt
# (tests-full.txt, soak.txt).  What each part prints is in build/log/test-*.log.
#
#   tiers.sh        what "make test" runs: every kind of test, one kernel
#   tiers.sh full   "make test-full": all of each group, on the patched and the debug kernel,
#                   and on every CPU model.  A part that passed is remembered and left out
#                   until something that goes into it changes; FORCE=1 runs it again.
#   tiers.sh soak   "make soak": the same for long, SOAK_ROUNDS (10) of the groups soak-*; each
#                   part adds a line to build/report/soak.jsonl
#   tiers.sh test|full|soak args   only see whether there is what was asked for
#
#   PART=NAME[,NAME...]  these parts alone; PART=list prints them
#   PLATFORM=NAME        those of this platform alone
#   SEEDS="N..."         seeds of silicon, instead of the tier's own
#
# The parts of full and soak have built what they need when they need it.  The status is 0
# only when every part's is; one that fails does not stop the others.
set -eu
TOP=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"
# shellcheck source=scripts/test/parts.sh
. "$TOP/scripts/test/parts.sh"

tier=${1:-test}
case $tier in
test) name=tests ;;
full) name=tests-full ;;
soak) name=soak ;;
*) die "usage: tiers.sh [test|full|soak [args]]" ;;
esac
rounds=${SOAK_ROUNDS:-10}
results=$TOP/scripts/results.py
# How each part of test-full ended.
records=$REPORT/parts
force=${FORCE:-}
only=$(say "${PART:-}" | tr ',' ' ')
platform=${PLATFORM:-}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pids=
# shellcheck disable=SC2086 # a list of processes
trap '[ -z "$pids" ] || kill -TERM $pids 2>/dev/null || :; exit 130' INT TERM HUP

# look DIR PARTS: what goes now into each part that is in the file PARTS, in DIR/PART.
look() {
	mkdir -p "$1"
	inputs "$1/.files" >"$1/.all"
	while read -r l_part l_line; do
		part_inputs "$l_part $l_line" "$1/.all" >"$1/$l_part"
	done <"$2"
}

# chosen PART LINE: whether it was asked for.
chosen() {
	if [ -n "$only" ]; then
		case " $only " in
		*" $1 "*) ;;
		*) return 1 ;;
		esac
	fi
	[ -n "$platform" ] || return 0
	case "$2 " in
	*" PLATFORM=$platform "*) ;;
	# It runs on the two in Bochs, or the one that PLATFORM says; of test-full, that
	# would not be the part.
	*" silicon/silicon.sh "*) [ "$tier" != full ] && [ "$platform" != amd ] ;;
	*) return 1 ;;
	esac
}

parts "$tier" >"$work/parts"
[ "${2:-}" = args ] || need git python3
if [ "$only" = list ]; then
	case $tier in
	test)
		cut -d ' ' -f 1 "$work/parts"
		;;
	full)
		look "$work/now" "$work/parts"
		"$results" parts "$records" "$work/now" <"$work/parts"
		;;
	soak)
		say "Minutes of a round, of which SOAK_ROUNDS=$rounds are run:"
		while read -r part minutes _; do
			printf '%-20s %3s  %s\n' "$part" "$minutes" \
				"$(grep -F "\"part\": \"$part\"" "$REPORT/soak.jsonl" 2>/dev/null | tail -n 1)"
		done <"$work/parts"
		;;
	esac
	exit 0
fi
for part in $only; do
	grep -q "^$part " "$work/parts" || die "no such part: $part (PART=list prints them)"
done
[ -z "$platform" ] || sed 's/$/ /' "$work/parts" | grep -qF " PLATFORM=$platform " ||
	die "no such platform: $platform (amd, intel or amd-bochs)"
while read -r part line; do
	! chosen "$part" "$line" || say "$part $line"
done <"$work/parts" >"$work/chosen"
[ -s "$work/chosen" ] || die "no part of $only is for the platform $platform"
[ "${2:-}" != args ] || exit 0

# Those that need not run again, and what the others need.
: >"$work/kept"
cp "$work/chosen" "$work/run"
if [ "$tier" = full ]; then
	look "$work/before" "$work/chosen"
	: >"$work/run"
	"$results" states "$records" "$work/before" <"$work/chosen" >"$work/states"
	while read -r part state more; do
		if [ "$state" = passed ] && [ -z "$force" ]; then
			say "$part: passed $more, and nothing of it has changed: not run (FORCE=1 runs it)"
			say "$part $more" >>"$work/kept"
		else
			say "$part: $state${more:+ ($more)}: runs"
			grep "^$part " "$work/chosen" >>"$work/run"
		fi
	done <"$work/states"
fi
if [ "$tier" != test ] && [ -s "$work/run" ]; then
	targets=$(while read -r line; do
		part_needs "$line"
	done <"$work/run" | tr ' ' '\n' | sort -u)
	# Nothing of the make that called this, its job server least of all.  What depends
	# on what is the Makefile's.
	# shellcheck disable=SC2086 # a list of words
	(unset MAKEFLAGS MFLAGS MAKELEVEL PART PLATFORM FORCE && make -C "$TOP" --no-print-directory $targets)
fi

# run_part PART MINUTES SCRIPT [VAR=VALUE...]: as PART.part, what the table is made of.
run_part() {
	rp_part=$1
	rp_minutes=$2
	rp_script=$3
	shift 3
	rp_out=$REPORT/test-$rp_part
	rm -rf "$rp_out"
	mkdir -p "$rp_out"
	rp_start=$(date +%s)
	rp_status=0
	case $rp_script in
	test/groups.sh)
		unset PLATFORM
		TEST_PART=$rp_part
		export TEST_PART
		;;
	check/check.sh)
		RESULTS=$rp_out/results.jsonl
		export RESULTS
		;;
	silicon/silicon.sh)
		# With SEED it leaves what others have left.
		rm -rf "$REPORT/silicon"
		case $tier in
		test)
			SEEDS=${SEEDS:-1}
			export SEEDS
			;;
		soak)
			SEEDS=${SEEDS:-$(seq -s ' ' 101 $((100 + rounds)))}
			SILICON_SECONDS=${SILICON_SECONDS:-$((rp_minutes * rounds * 60 * 4))}
			export SEEDS SILICON_SECONDS
			;;
		esac
		;;
	esac
	case " $* " in
	*" TEST_LIST="*)
		TEST_ROUNDS=$rounds
		# More than all of them take on a busy machine.
		TEST_TIMEOUT=${TEST_TIMEOUT:-$((rp_minutes * rounds * 60 * 4 + 600))}
		export TEST_ROUNDS TEST_TIMEOUT
		;;
	esac
	follow "test-$rp_part" env "$@" "$TOP/scripts/$rp_script" </dev/null || rp_status=$?
	# It leaves those of each seed and platform.
	[ "$rp_script" != silicon/silicon.sh ] ||
		cat "$REPORT"/silicon/*/results.jsonl >"$rp_out/results.jsonl" 2>/dev/null || :
	[ -s "$rp_out/results.jsonl" ] ||
		result fail "${rp_script%%/*}" "status $rp_status, and no results" >"$rp_out/results.jsonl"
	"$results" run "$rp_part" "$(($(date +%s) - rp_start))" "$rp_status" "$rp_out/results.jsonl" \
		>"$work/$rp_part.part"
	case $tier in
	full)
		# What changed while it ran may have gone into it or not.
		grep "^$rp_part " "$work/chosen" >"$work/$rp_part.line"
		look "$work/$rp_part.after" "$work/$rp_part.line"
		if cmp -s "$work/before/$rp_part" "$work/$rp_part.after/$rp_part"; then
			"$results" record "$records" "$rp_part" "$work/before/$rp_part" "$work/$rp_part.part"
		else
			say "$rp_part: not remembered, something of it changed while it ran"
		fi
		;;
	soak)
		"$results" log "$REPORT/soak.jsonl" "$work/$rp_part.part" rounds="$rounds" \
			commit="$(git -C "$TOP" rev-parse --short HEAD)"
		;;
	esac
}

# fewer_than N: wait until fewer than N parts are going on.
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
while read -r part minutes how command; do
	case $how in
	alone) fewer_than 1 ;;
	*) fewer_than "$(nproc)" ;;
	esac
	# shellcheck disable=SC2086 # a list of words
	run_part "$part" "$minutes" $command &
	pids="$pids $!"
	[ "$how" != alone ] || fewer_than 1
done <"$work/run"
fewer_than 1

while read -r part _; do
	if [ -f "$work/$part.part" ]; then
		cat "$work/$part.part"
	elif grep -q "^$part " "$work/kept"; then
		"$results" show "$records" "$part"
	else
		"$results" run "$part" 0 1 /dev/null
	fi
done <"$work/chosen" >"$REPORT/$name.results.jsonl"
status=0
"$results" table "$REPORT/$name.results.jsonl" "$LOGS/times" >"$work/table" || status=$?
{
	sed '$d' "$work/table"
	if [ -s "$work/kept" ]; then
		say "Not run again, as nothing of them has changed since they passed:"
		sed 's/^/  /' "$work/kept"
		say ""
	fi
	tail -n 1 "$work/table"
} >"$REPORT/$name.txt"
cat "$REPORT/$name.txt"
exit "$status"
