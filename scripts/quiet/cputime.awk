# SPDX-License-Identifier: GPL-2.0
#
#   awk -v phase=NAME -v answer=WORDS -v reference=PERCENT -f cputime.awk BEFORE AFTER SWITCHES
#
# What point 5 of "make quiet" judges: lines of figures from what the vCPU's thread says
# of itself (answer), two readings of /proc/stat and the wall clock, and a trace of
# sched_switch on the control CPUs with the monotonic clock.  Phase "boot" has no vCPU and
# is not judged: CPU 0's idle time in it is the reference.

# By more than "slack" percent of the wall clock it may not be off; 1 if there is none.
function off(what, got, want, text, slack,	p) {
	p = 100 * (got - want) / wall
	if (p < 0)
		p = -p
	if (phase == "boot")
		printf "figure 5 %s.%s_off_percent %.2f\n", phase, what, p
	else
		printf "check 5 %s.%s_off_percent %.2f <= %s %s\n", phase, what, p, (slack ? slack : 1), text
}

function figure(what, ms) {
	printf "figure 5 %s.%s_ms %.0f\n", phase, what, ms
}

# The value behind "NAME=" in a line of the trace.
function field(name) {
	if (!match($0, name "=[0-9]+"))
		return -1
	return substr($0, RSTART + length(name) + 1, RLENGTH - length(name) - 1)
}

# From time "from" to "to" a CPU has run somebody, or nobody.
function ran(cpu, pid, from, to) {
	if (pid != 0 && to > from)
		run[cpu] += (to - from) * 1000
}

FNR == 1 { file++ }

# Columns in ticks of 10 ms: user nice system idle iowait irq softirq steal guest
file == 1 && $1 == "now" { begin = $2; next }
file == 1 { for (i = 2; i <= NF; i++) was[$1, i] = $i; next }
file == 2 && $1 == "now" { end = $2; next }
file == 2 { for (i = 2; i <= NF; i++) d[$1, i] = ($i - was[$1, i]) * 10; cpus[n++] = $1; next }

/ sched_switch: / {
	match($0, /\[[0-9]+\]/)
	cpu = "cpu" substr($0, RSTART + 1, RLENGTH - 2) + 0
	match($0, /[0-9]+\.[0-9]+: sched_switch/)
	time = substr($0, RSTART, RLENGTH) + 0
	if (time >= begin && time <= end)
		ran(cpu, field("prev_pid"), (cpu in last) && last[cpu] > begin ? last[cpu] : begin, time)
	last[cpu] = time
	current[cpu] = field("next_pid")
	switches++
}

END {
	split(answer, words, " ")
	for (i in words)
		if (split(words[i], part, "=") == 2)
			thread[part[1]] = part[2] / 1e6
	stat_wall = (end - begin) * 1000
	wall = thread["wall"]
	# What interrupts take of a thread's time is not the thread's.
	irqs = d["cpu3", 7] + d["cpu3", 8]
	figure("stat_wall", stat_wall)
	printf "figure 5 %s.switches_traced %d\n", phase, switches
	if (answer != "") {
		figure("wall", wall)
		for (i = split("user system guest run", name, " "); i; i--)
			figure("thread." name[i], thread[name[i]])
		# User time includes the guest, as everywhere in Linux.
		off("thread.user", thread["user"], phase == "system" ? 0 : wall - irqs, "against wall time less interrupts")
		off("thread.system", thread["system"], phase == "system" ? wall - irqs : 0, "against wall time less interrupts")
		off("thread.guest", thread["guest"], phase == "guest" ? wall : 0, "against wall time")
		off("thread.run", thread["run"], wall - irqs, "against wall time less interrupts")
	}

	# The answer comes as soon as the phase is over; the readings are further apart.
	wall = stat_wall
	for (k = 0; k < n; k++) {
		c = cpus[k]
		idle = d[c, 5] + d[c, 6]
		irqs = d[c, 7] + d[c, 8]
		sum = 0
		for (i = 2; i <= 9; i++)
			sum += d[c, i]
		figure(c ".idle", idle)
		figure(c ".interrupts", irqs)
		figure(c ".sum", sum)
		if (c == "cpu3") {
			off("cpu3.all", sum, wall, "against wall time")
			continue
		}
		if ((c in last) && end > last[c])
			ran(c, current[c], last[c] > begin ? last[c] : begin, end)
		figure(c ".tasks", run[c])
		off(c ".idle", idle, wall - irqs - run[c], "against wall time less interrupts and traced tasks",
			c == "cpu0" ? 1 + reference : 1)
	}
	irqs = d["cpu3", 7] + d["cpu3", 8]
	if (phase == "guest")
		off("cpu3.guest", d["cpu3", 10], wall, "against wall time")
	if (phase == "user")
		off("cpu3.user", d["cpu3", 2], wall - irqs, "against wall time less interrupts")
	if (phase == "system")
		off("cpu3.system", d["cpu3", 4], wall - irqs, "against wall time less interrupts")
}
