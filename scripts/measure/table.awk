# SPDX-License-Identifier: GPL-2.0
#
# Turn "MODE WORKLOAD KEY..." lines into the table, and into the JSON report named
# by -v json=FILE.  Ends with status 1 and the reason when a request was lost or the
# exclusive column is larger than -v max_share=PERCENT of the stock one.

BEGIN {
	# Why an exit is still there in exclusive mode, by what perf calls it.
	why["npf"] = "nested page fault: first touch of memory, or MMIO of an emulated device"
	why["io"] = "port I/O to a device that the VMM emulates"
	why["msr"] = "MSR that KVM must check or emulate: an IPI (ICR), LVT or clock set-up"
	why["cpuid"] = "CPUID always exits; programs ask it when they start"
	why["hypercall"] = "the guest asked KVM for something (paravirtual IPI, yield)"
	why["hlt"] = "the guest halts"
	why["pause"] = "spinning in the guest for longer than KVM's window"
	why["nmi"] = "a kick: host work for the owned CPU"
	why["physical_nmi"] = why["nmi"]
	why["interrupt"] = "a host interrupt on the guest's CPU"
	why["vintr"] = "interrupt window: KVM waits until the guest takes interrupts"
	why["vmmcall"] = why["hypercall"]
	why["write_cr0_sel"] = "lazy FPU or a mode switch in the guest"
	why["write_cr0"] = why["write_cr0_sel"]
	why["read_cr0"] = "control register that KVM shadows"
	why["write_cr4"] = why["read_cr0"]
	why["write_cr8"] = "task priority kept in software"
	why["read_dr0"] = why["write_dr7"] = "debug registers are switched lazily"
	why["wbinvd"] = "cache write-back is the host's to decide"
	why["shutdown"] = "the guest resets"
	why["xsetbv"] = "XCR0 is checked by KVM"
	why["DB_excp"] = why["read_dr0"]
	# Intel's names for the same.
	why["EPT_VIOLATION"] = "nested page fault: first touch of memory"
	why["EPT_MISCONFIG"] = "MMIO of an emulated device"
	why["IO_INSTRUCTION"] = why["io"]
	why["MSR_WRITE"] = why["msr"]
	why["MSR_READ"] = "MSR that KVM emulates: TSC_ADJUST, which Linux checks now and then"
	why["CPUID"] = why["cpuid"]
	why["VMCALL"] = why["hypercall"]
	why["HLT"] = why["hlt"]
	why["PAUSE_INSTRUCTION"] = why["pause"]
	why["EXCEPTION_NMI"] = why["nmi"]
	why["CR_ACCESS"] = why["read_cr0"]
	why["DR_ACCESS"] = why["read_dr0"]
	why["XSETBV"] = why["xsetbv"]
	why["WBINVD"] = why["wbinvd"]
	register["6e0"] = "TSC_DEADLINE"
	register["80b"] = "EOI"
	register["808"] = "TPR"
	register["830"] = "ICR"
	register["832"] = "LVT_TIMER"
	register["838"] = "TMICT"
	register["839"] = "TMCCT"
	register["83e"] = "TDCR"
	register["83f"] = "SELF_IPI"
	why["avic_incomplete_ipi"] = "hardware could not deliver an IPI"
}

function seen(name) {
	if (!(name in have_load)) {
		have_load[name] = 1
		load[++loads] = name
	}
}

function fail(text) {
	failures[++failed] = text
}

$2 == "beside" {
	beside[$1] = $0
	have[$1] = 1
	next
}

$3 ~ /^requests=/ {
	seen($2)
	have[$1] = 1
	split($3, a, "="); requests[$2] = a[2]
	split($4, a, "="); lost[$1, $2] = a[2]
	split($5, a, "="); ms[$1, $2] = a[2]
	split($6, a, "="); timers[$1, $2] = a[2]
	split($7, a, "="); ipis[$1, $2] = a[2]
	split($8, a, "="); devices[$1, $2] = a[2]
	next
}

$3 == "reason" {
	if (!(($2, $4) in have_reason)) {
		have_reason[$2, $4] = 1
		reason[$2, ++reasons[$2]] = $4
	}
	count[$1, $2, $4] = $5
	total[$1, $2] += $5
}

$3 == "msr" {
	if (!(($2, $4 " " $5) in have_msr)) {
		have_msr[$2, $4 " " $5] = 1
		msr[$2, ++msrs[$2]] = $4 " " $5
	}
	msr_count[$1, $2, $4 " " $5] = $6
}

$3 == "counter" && $4 == "exits" { counted[$1, $2] = $5 }
$3 == "host_irqs" { host_irqs[$1, $2] = $4; assigned[$2] = 1 }
$3 == "unseen" { unseen[$1, $2] = $4 }
$3 == "kick" {
	kick[$1, $2, $4] = $5
	cause[$1, $2, ++causes[$1, $2]] = $4
}

function per_thousand(n, name) {
	return requests[name] ? n * 1000 / requests[name] : 0
}

function row(label, name, key,	s, e) {
	s = count["stock", name, key] + 0
	e = count["exclusive", name, key] + 0
	print_row(label, s, e, name)
}

function print_row(label, s, e, name) {
	printf "  %-22s", label
	if ("stock" in have)
		printf " %10d %12.2f", s, per_thousand(s, name)
	if ("exclusive" in have)
		printf " %10d %12.2f", e, per_thousand(e, name)
	if (("stock" in have) && ("exclusive" in have))
		printf " %9s", s ? sprintf("%.2f%%", (s - e) * 100 / s) : "-"
	printf "\n"
}

# An MSR by the name that the manuals use; the local APIC has its x2APIC name.
function msr_name(key,	a) {
	split(key, a, " ")
	sub(/^0x/, "", a[2])
	return a[1] " " ((a[2] in register) ? register[a[2]] : "0x" a[2])
}

# Exits that exclusive mode is there to remove: not one may be left.
function must_be_none(name, what, n) {
	if (n + 0)
		fail(sprintf("%s: %d exits in exclusive mode for %s", name, n, what))
}

function table(name,	i, j, key, modes, m, n, best, used) {
	printf "%s, %d requests\n\n  %-22s", name, requests[name], "exit reason"
	if ("stock" in have)
		printf " %10s %12s", "stock", "per 1000 req"
	if ("exclusive" in have)
		printf " %10s %12s", "exclusive", "per 1000 req"
	if (("stock" in have) && ("exclusive" in have))
		printf " %9s", "reduction"
	printf "\n"
	# Largest first.
	n = reasons[name]
	for (i = 1; i <= n; i++) {
		best = 0
		for (j = 1; j <= n; j++) {
			key = reason[name, j]
			if (!((name, key) in used) && (!best ||
			    count["stock", name, key] + count["exclusive", name, key] > \
			    count["stock", name, reason[name, best]] + count["exclusive", name, reason[name, best]]))
				best = j
		}
		used[name, reason[name, best]] = 1
		row(reason[name, best], name, reason[name, best])
	}
	print_row("total", total["stock", name] + 0, total["exclusive", name] + 0, name)
	for (i = 1; i <= msrs[name]; i++) {
		key = msr[name, i]
		print_row("msr: " msr_name(key), msr_count["stock", name, key] + 0,
			  msr_count["exclusive", name, key] + 0, name)
	}
	print_row("not seen by perf", unseen["stock", name] + 0, unseen["exclusive", name] + 0, name)
	printf "\n"
	for (m = 1; m <= 2; m++) {
		modes = m == 1 ? "stock" : "exclusive"
		if (!(modes in have))
			continue
		printf "  %s: %d of %d requests succeeded in %.1f s of the guest's time;", modes, \
			requests[name] - lost[modes, name], requests[name], ms[modes, name] / 1000
		printf " KVM's own exit counter: %d; NMI kicks:", counted[modes, name]
		for (i = 1; i <= causes[modes, name]; i++)
			if (kick[modes, name, cause[modes, name, i]])
				printf " %s %d", cause[modes, name, i], kick[modes, name, cause[modes, name, i]]
		print (causes[modes, name] ? "" : " none")
		printf "    in the guest meanwhile: %d timer interrupts, %d IPIs taken\n", \
			timers[modes, name], ipis[modes, name]
		if (name in assigned) {
			printf "    from assigned devices: %d interrupts in the guest, %d in the host; %.3f exits for each\n", \
				devices[modes, name], host_irqs[modes, name], \
				devices[modes, name] ? total[modes, name] / devices[modes, name] : 0
			if (devices[modes, name] + 0 == 0)
				fail(name ": no interrupt from the assigned device in " modes " mode")
		}
		if (lost[modes, name] != 0)
			fail(name " lost " lost[modes, name] " requests in " modes " mode")
		if (total[modes, name] + 0 == 0 && modes == "stock")
			fail("no exits were counted for " name " in stock mode")
	}
	if ("exclusive" in have) {
		# The first of each is AMD's name, the others are Intel's.
		must_be_none(name, "external interrupts", count["exclusive", name, "interrupt"])
		must_be_none(name, "external interrupts", count["exclusive", name, "EXTERNAL_INTERRUPT"])
		must_be_none(name, "interrupt windows", count["exclusive", name, "vintr"])
		must_be_none(name, "interrupt windows", count["exclusive", name, "INTERRUPT_WINDOW"])
		must_be_none(name, "timer expiry", count["exclusive", name, "PREEMPTION_TIMER"])
		must_be_none(name, "EOI", count["exclusive", name, "EOI_INDUCED"])
		must_be_none(name, "APIC writes", count["exclusive", name, "APIC_WRITE"])
		for (i = 1; i <= msrs[name]; i++)
			if (msr_name(msr[name, i]) ~ /^write (TMICT|TSC_DEADLINE|EOI)$/)
				must_be_none(name, msr_name(msr[name, i]), msr_count["exclusive", name, msr[name, i]])
		if (host_irqs["exclusive", name] + 0)
			fail(sprintf("%s: the host took %d of the device's interrupts in exclusive mode", \
				name, host_irqs["exclusive", name]))
		if (timers["exclusive", name] + 0 == 0)
			fail(name ": the guest took no timer interrupt in exclusive mode")
	}
	if (("stock" in have) && ("exclusive" in have)) {
		print "\n  What remains in exclusive mode:"
		for (i = 1; i <= n; i++) {
			key = reason[name, i]
			if (count["exclusive", name, key])
				printf "    %-20s %s\n", key, ((key in why) ? why[key] : "not explained yet")
		}
		if (max_share != "" && (total["exclusive", name] + unseen["exclusive", name]) * 100 >= \
		    max_share * total["stock", name])
			fail(sprintf("%s: %d exits in exclusive mode are not under %s%% of %d", name, \
				total["exclusive", name] + unseen["exclusive", name], max_share, total["stock", name]))
	}
	print ""
}

function json_mode(mode, name,	i, sep, key) {
	printf "      \"%s\": {\n        \"total\": %d,\n", mode, total[mode, name] >json
	if (name in assigned)
		printf "        \"device_irqs\": %d,\n        \"host_irqs\": %d,\n", \
			devices[mode, name], host_irqs[mode, name] >json
	printf "        \"by_reason\": {" >json
	sep = ""
	for (i = 1; i <= reasons[name]; i++) {
		key = reason[name, i]
		if (!((mode, name, key) in count))
			continue
		printf "%s\n          \"%s\": %d", sep, key, count[mode, name, key] >json
		sep = ","
	}
	printf "%s},\n        \"unseen_by_perf\": %d,\n        \"kicks\": {", (sep == "" ? "" : "\n        "), unseen[mode, name] >json
	sep = ""
	for (i = 1; i <= causes[mode, name]; i++) {
		key = cause[mode, name, i]
		printf "%s\n          \"%s\": %d", sep, key, kick[mode, name, key] >json
		sep = ","
	}
	printf "%s}\n      }", (sep == "" ? "" : "\n        ") >json
}

END {
	printf "VM exits, %s host, linux %s, counted by perf kvm stat over exactly the load\n\n", platform, kernel
	for (l = 1; l <= loads; l++)
		table(load[l])
	for (mode in beside) {
		text = beside[mode]
		sub(/^[a-z]+ beside /, "", text)
		printf "The ordinary VM beside the %s one: %s\n", mode, text
	}

	printf "{\n  \"platform\": \"%s\",\n  \"kernel\": \"%s\",\n  \"workloads\": [", platform, kernel >json
	for (l = 1; l <= loads; l++) {
		name = load[l]
		failed_requests = lost["stock", name] + lost["exclusive", name]
		printf "%s\n    {\n      \"name\": \"%s\",\n      \"requests\": %d,\n      \"failed\": %d", \
			(l > 1 ? "," : ""), name, requests[name], failed_requests >json
		if ("stock" in have) {
			print "," >json
			json_mode("stock", name)
		}
		if ("exclusive" in have) {
			print "," >json
			json_mode("exclusive", name)
		}
		printf "\n    }" >json
	}
	printf "\n  ]\n}\n" >json
	close(json)

	for (i = 1; i <= failed; i++)
		print "FAIL: " failures[i]
	exit failed > 0
}
