# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# What the timerlat tracer has written in an emulated host, into lines of "figures";
# sourced by quiet.sh, because the files are large and emulated CPUs slow.

# latencies FILE PREFIX: samples, median, percentiles, maximum, for each context.
latencies() {
	for context in irq thread; do
		sed -n "s/.*context *$context timer_latency *\([0-9]*\) ns.*/\1/p" "$1" | sort -n |
			awk -v prefix="figure $2.$context" '{ v[NR] = $1 } END {
				print prefix "_samples", NR
				if (!NR)
					exit
				print prefix "_median_ns", v[int((NR + 1) / 2)]
				print prefix "_p99_ns", v[int(NR * 0.99 + 0.5)]
				print prefix "_p999_ns", v[int(NR * 0.999 + 0.5)]
				print prefix "_max_ns", v[NR]
			}'
	done
}

# interference FILE PREFIX: what has interrupted timerlat's CPU, its own timer's interrupts
# and its thread's runs apart.  What comes before the third second is the tracer's start.
interference() {
	awk -v prefix="figure $2." '
	{
		for (i = 1; i <= NF && $i !~ /^[0-9]+\.[0-9]+:$/; i++)
			;
		if (i > NF)
			next
		t = $i + 0
		if (!first)
			first = t
		if (t < first + 2)
			next
		what = $(i + 1)
	}
	what ~ /_noise:$/ { sub(/_noise:/, "", what); n[what]++; next }
	/context *irq timer_latency/ { own_irqs++ }
	/context *thread timer_latency/ { own_runs++ }
	END {
		split("nmi irq softirq thread", kinds, " ")
		for (k = 1; k <= 4; k++)
			print prefix kinds[k], n[kinds[k]] + 0
		irqs = n["nmi"] + n["irq"] - own_irqs
		threads = n["thread"] - own_runs
		print prefix "own_interrupts", own_irqs + 0
		print prefix "own_runs", own_runs + 0
		print prefix "interference", (irqs > 0 ? irqs : 0) + n["softirq"] + (threads > 0 ? threads : 0)
	}' "$1"
}

# spikes FILE CONTEXT MAX: how often a latency was above MAX.  Samples within 20 ms of each
# other are one event.
spikes() {
	grep "context *$2 timer_latency" "$1" | awk -v max="$3" '{
		for (i = 1; i <= NF; i++) {
			if ($i ~ /^[0-9]+\.[0-9]+:$/) t = $i + 0
			if ($i == "timer_latency" && $(i + 1) > max && (!n || t > last + 0.02 || t < last)) { n++; last = t }
		}
	} END { print n + 0 }'
}
