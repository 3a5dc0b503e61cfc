#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Count a VM's exits by reason while a command runs, with perf kvm stat.  Works on
# a real host as well.
#
#   exits.sh PID OUTDIR -- COMMAND [ARGS...]
#
# PID is the VMM.  Leaves in OUTDIR: by_reason ("REASON COUNT" lines), report.txt
# (what perf printed), counters ("NAME COUNT", KVM's own statistics over the same
# span) and msr ("read|write MSR COUNT", of this VM's vCPUs).  The status is the command's.
#
# perf starts disabled and is switched on and off through its control pipe, which
# it acknowledges, so that it covers the command and nothing else.
set -eu

pid=$1
dir=$2
shift 3
mkdir -p "$dir"
tmp=$(mktemp -d)
perf=
tracing=/sys/kernel/tracing
[ -d "$tracing/events" ] || tracing=/sys/kernel/debug/tracing
hist=$tracing/events/kvm/kvm_msr

# shellcheck disable=SC2317 # by the trap
cleanup() {
	[ -z "$perf" ] || kill "$perf" 2>/dev/null || :
	rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

die() {
	echo "exits.sh: $*" >&2
	exit 1
}

# VM-wide counters are the sum over the vCPUs.
counters() {
	grep -s '^[0-9]' /sys/kernel/debug/kvm/"$pid"-*/[a-z]* | sed 's|.*/\([^/]*\):|\1 |' | sort
}

step() {
	echo "$(cut -d ' ' -f 1 /proc/uptime) $*" >>"$dir/steps"
}

# control COMMAND: have perf do it.
control() {
	echo "$1" >&8
	ack=
	for ((waited = 0; waited < 300; waited++)); do
		# perf sends the terminating zero byte too; bash drops it.
		read -r -t 1 ack <&9 && break
		# The shell has reaped it by now.
		kill -0 "$perf" 2>/dev/null || die "perf has ended: $(cat "$dir/record.log")"
	done
	case $ack in
	*ack*) ;;
	*) die "perf did not acknowledge $1: $(cat "$dir/record.log")" ;;
	esac
}

mkfifo "$tmp/ctl" "$tmp/ack"
exec 8<>"$tmp/ctl" 9<>"$tmp/ack"
step "perf starts"
# Unless told not to, perf notes each thread's name after it has opened its events, and
# ends with status 255 and no word when one has gone meanwhile: a VMM's idle workers do.
perf kvm stat record --synth no -p "$pid" -o "$tmp/perf.data" \
	--delay=-1 --control "fifo:$tmp/ctl,$tmp/ack" >"$dir/record.log" 2>&1 &
perf=$!
# Already so; it answers when it has started, which may take a while.
control disable

# A histogram in the kernel tells MSR exits apart, which perf kvm stat does not.
if [ -e "$hist/hist" ]; then
	echo 'hist:keys=common_pid,write,ecx.hex:size=4096' >"$hist/trigger" || :
fi
counters >"$tmp/before"
control enable
step "load starts"
status=0
"$@" || status=$?
step "load ended"
control disable
counters >"$tmp/after"
if [ -e "$hist/hist" ]; then
	# Other VMs are counted there too: keep what this VMM's threads did.
	find "/proc/$pid/task" -mindepth 1 -maxdepth 1 -printf '%f\n' >"$tmp/threads"
	awk 'NR == FNR { ours[$1] = 1; next }
	/ecx:/ {
		gsub(/[{},:]/, " ")
		for (i = 1; i < NF; i++) {
			if ($i == "common_pid") t = $(i + 1)
			if ($i == "write") w = $(i + 1)
			if ($i == "ecx") m = $(i + 1)
			if ($i == "hitcount") n = $(i + 1)
		}
		if (t in ours)
			count[(w ? "write" : "read") " " m] += n
	}
	END { for (key in count) print key, count[key] }' "$tmp/threads" "$hist/hist" |
		sort >"$dir/msr"
	echo '!hist:keys=common_pid,write,ecx.hex:size=4096' >"$hist/trigger" || :
fi

step "perf ends"
kill -INT "$perf"
wait "$perf" || :
perf=
exec 8>&- 9>&-
step "report starts"

# perf kvm prints its table where it prints its warnings.
perf kvm -i "$tmp/perf.data" stat report --stdio >"$dir/report.txt" 2>&1 ||
	die "perf cannot read what it recorded: $(cat "$dir/report.txt")"
if grep -qiE 'lost [0-9]+ (events|chunks)' "$dir/report.txt" "$dir/record.log"; then
	die "perf lost events: $(cat "$dir/report.txt")"
fi
awk '{
	for (i = 3; i <= NF; i++)
		if ($i ~ /^[0-9.]+%$/) {
			name = $1
			for (j = 2; j < i - 1; j++)
				name = name "_" $j
			print name, $(i - 1)
			next
		}
}' "$dir/report.txt" | sort -k 2,2nr >"$dir/by_reason"
awk 'NR == FNR { before[$1] = $2; next } $2 != before[$1] { print $1, $2 - before[$1] }' \
	"$tmp/before" "$tmp/after" >"$dir/counters"
step "report ended"
exit "$status"
