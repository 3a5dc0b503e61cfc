# SPDX-License-Identifier: GPL-2.0
#
# Histograms of the IPIs that were sent to owned CPUs into lines of "figures".
#
#   awk -v point=N -v phase=NAME -v owned=3,4 -v seconds=60 -f kicks.awk
#	broadcast.conf post_3 send_self_3 ... on-cpu.kvm_exit
#
# The CPU that was sent to is the end of the file's name.

BEGIN {
	n_owned = split(owned, list, ",")
	for (i = 1; i <= n_owned; i++)
		is_owned[list[i]] = 1
	name[2] = "NMI"
	name[236] = "LOCAL_TIMER"
	name[240] = "POSTED_INTR_NESTED"
	name[241] = "POSTED_INTR_WAKEUP"
	name[242] = "POSTED_INTR"
	name[246] = "IRQ_WORK"
	name[247] = "PLATFORM_IPI"
	name[248] = "REBOOT"
	name[251] = "CALL_FUNCTION_SINGLE"
	name[252] = "CALL_FUNCTION"
	name[253] = "RESCHEDULE"
	# How an IPI is sent, not why.
	# Of the probe itself, too.
	n = split("ipi_nmi_post ipi_nmi_send ipi_nmi_send_mask ipi_nmi_send_mask_allbutself " \
		"ipi_nmi_send_allbutself ipi_nmi_send_all ipi_nmi_send_self ipi_nmi_send_split " \
		"ftrace_trampoline kprobe_ftrace_handler aggr_pre_handler opt_pre_handler optimized_callback " \
		"kprobe_dispatcher kprobe_trace_func native_smp_send_reschedule " \
		"native_send_call_func_single_ipi native_send_call_func_ipi " \
		"arch_irq_work_raise __smp_call_single_queue send_call_function_single_ipi " \
		"smp_call_function_many_cond generic_exec_single smp_call_function_single " \
		"smp_call_function_single_async on_each_cpu_cond_mask smp_call_function_many " \
		"smp_call_function __apic_send_IPI __apic_send_IPI_mask __apic_send_IPI_self " \
		"irq_work_queue_on __irq_work_queue_local irq_work_queue", plumbing_list, " ")
	for (i = 1; i <= n; i++)
		plumbing[plumbing_list[i]] = 1
}

FILENAME ~ /broadcast/ {
	if ($1 !~ /^#/ && NF)
		everyone[$1] = 1
	next
}

FNR == 1 {
	probe = FILENAME
	sub(/.*\//, "", probe)
	in_entry = 0
	target = probe
	sub(/.*_/, "", target)
}

function value(line, key) {
	if (!match(line, "(^|[^a-z_])" key ": *[0-9a-fx]+"))
		return ""
	line = substr(line, RSTART, RLENGTH)
	sub(/.*: */, "", line)
	return line
}

function count(cpu, sender, vector, n,    key) {
	key = cpu " " (vector in name ? name[vector] : vector) " " sender " " class " " \
		site " " stack
	kicks[key] += n
	if (class != "self")
		sent[cpu] += n
	sum[class, cpu] += n
}

# The guests' exits: SVM's code for an NMI is 0x61, VMX's reason is 0.
probe == "on-cpu.kvm_exit" {
	if (/exit_reason:/) {
		reason = value($0, "exit_reason")
		cpu = value($0, "common_cpu")
		if (reason == 97)
			nmi_exits[cpu] += value($0, "hitcount")
		exits[cpu] += value($0, "hitcount")
	}
	next
}

/Dropped: *[1-9]/ {
	dropped += $2
}

/^{ / {
	sender = value($0, "common_cpu")
	vector = value($0, "vector")
	stack = site = ""
	interrupted = 0
	class = "beyond"
	in_entry = 1
	next
}

in_entry && /^ *[A-Za-z_]/ && !/hitcount/ {
	symbol = $1
	sub(/[.+].*/, "", symbol)
	# What an interrupt has interrupted is no cause.
	if (interrupted || symbol ~ /^asm_(sysvec|common_interrupt|exc)/) {
		interrupted = 1
		next
	}
	if (symbol in everyone)
		class = "everyone"
	if (symbol in plumbing)
		next
	if (site == "")
		site = symbol
	stack = stack (stack == "" ? "" : "<") symbol
	next
}

in_entry && /hitcount:/ {
	n = value($0, "hitcount")
	in_entry = 0
	if (site == "")
		site = stack = "unknown"
	if (probe ~ /self_/)
		class = "self"
	count(target, sender, vector, n)
}

END {
	for (key in kicks)
		print "kick", point, phase, kicks[key], key
	print "figure", point, phase ".seconds", seconds
	for (i = 1; i <= n_owned; i++) {
		cpu = list[i]
		print "figure", point, phase ".cpu" cpu ".directed_at_every_cpu", sum["everyone", cpu] + 0
		print "figure", point, phase ".cpu" cpu ".self", sum["self", cpu] + 0
		print "figure", point, phase ".cpu" cpu ".nmi_exits", nmi_exits[cpu] + 0
		print "figure", point, phase ".cpu" cpu ".exits", exits[cpu] + 0
		if (point == 1)
			print "check", point, phase ".cpu" cpu ".kicks_beyond", sum["beyond", cpu] + 0, \
				"<=", seconds, "one a second, those directed at every CPU apart"
		else
			print "figure", point, phase ".cpu" cpu ".kicks_beyond", sum["beyond", cpu] + 0
		# An exit that no send explains is one that was missed.
		print "check", point, phase ".cpu" cpu ".nmi_exits_attributed", nmi_exits[cpu] + 0, \
			"<=", sent[cpu] + 0, "every NMI exit has a send that was seen"
	}
	print "check", point, phase ".sends_not_recorded", dropped + 0, "=", 0, "histogram full"
}
