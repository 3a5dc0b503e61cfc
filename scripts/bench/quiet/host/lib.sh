# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034 # the variables are for the scripts that source this
#
# What the scripts of "make quiet" in the emulated host share.  They run in /mnt/share.  What
# they leave in /mnt/out, and what the records there are, says scripts/results/quiet.py, which
# judges it.
#
# shellcheck source=scripts/bench/measure/records.sh
. measure/records.sh

out=/mnt/out
tracing=/sys/kernel/tracing

note() {
	echo "$(cut -d ' ' -f 1 /proc/uptime) $*"
	echo "rig: quiet: $*" >/dev/kmsg
}

fail() {
	echo "FAIL: $*" | tee -a "$out/failure" >&2
	exit 1
}

# note_down KIND KEY=VALUE...
note_down() {
	record "$out/records.jsonl" "$@"
}

figure() {
	note_down figure name="$1" value="$2"
}

kill_all() {
	for pid; do
		kill "$pid" 2>/dev/null || :
	done
	for pid; do
		wait "$pid" 2>/dev/null || :
	done
}

# What a trace had no room for: the sum of these counters of some CPUs' buffers.
lost() {
	lo_name=$1
	lo_sum=0
	lo_lines=0
	shift
	while read -r _ lo_count; do
		lo_sum=$((lo_sum + lo_count))
		lo_lines=$((lo_lines + 1))
	done < <(cat "$@" | sed -n 's/^\(overrun\|dropped events\):/lost/p')
	[ "$lo_lines" -gt 0 ] || fail "no counters of lost events: $*"
	note_down lost name="$lo_name" count=$lo_sum
}

# A helper that is talked to over its standard input and output:
#   talk_start NAME COMMAND...    waits for "ready"
#   talk NAME WORDS...            sends a line; the answer is in $answer
#   talk_end NAME                 ends its input and waits for it
declare -A talk_in talk_out talk_pid
talk_start() {
	ts_name=$1
	shift
	rm -f "/tmp/$ts_name.in" "/tmp/$ts_name.out"
	mkfifo "/tmp/$ts_name.in" "/tmp/$ts_name.out"
	"$@" <"/tmp/$ts_name.in" >"/tmp/$ts_name.out" 2>"$out/$ts_name.err" &
	talk_pid[$ts_name]=$!
	exec {talk_fd}>"/tmp/$ts_name.in"
	talk_in[$ts_name]=$talk_fd
	exec {talk_fd}<"/tmp/$ts_name.out"
	talk_out[$ts_name]=$talk_fd
	# libkvm says something of its own first.
	while :; do
		read -r -t 120 answer <&"${talk_out[$ts_name]}" ||
			fail "$ts_name does not start: $(cat "$out/$ts_name.err")"
		[ "$answer" != ready ] || break
	done
}

talk() {
	tk_name=$1
	shift
	answer=
	echo "$*" >&"${talk_in[$tk_name]}"
	read -r -t 300 answer <&"${talk_out[$tk_name]}" ||
		fail "$tk_name does not answer \"$*\": $(cat "$out/$tk_name.err")"
}

talk_end() {
	talk_fd=${talk_in[$1]}
	exec {talk_fd}>&-
	# The helper's last words go nowhere, but must not block it.
	cat <&"${talk_out[$1]}" >/dev/null
	wait "${talk_pid[$1]}" || fail "$1 ended with status $?: $(cat "$out/$1.err")"
	talk_fd=${talk_out[$1]}
	exec {talk_fd}<&-
	unset "talk_pid[$1]"
}

# Is the guest going round its loop? Twice, so that it is going now.
guest_spins() {
	talk "$1" spins
	gs_was=$answer
	sleep 0.5
	talk "$1" spins
	[ "$answer" != "$gs_was" ] || fail "the guest of $1 stands still: $answer"
}
