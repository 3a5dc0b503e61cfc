# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154 # out and tracing are lib.sh's
#
# Count and attribute what the host sends to owned CPUs.
#
# While a CPU is owned the kernel sends its IPIs through the functions of
# arch/x86/kernel/apic/ipi_nmi.c, and those to owned CPUs through two of them.  Probes on
# these, with a histogram in the kernel by sending CPU, vector and stack, count every send
# and disturb nobody: no ring buffer is written, no reader woken.  (Of probes on those
# above them lockdep complains: a CPU that goes offline sends its last IPI, to a control
# CPU, when RCU has done with it.)
#
# What the owned CPU does with them is seen on its side by exits of its guest with the
# reason NMI and by the kicks that KVM counts as handled.

kick_functions="post send_self"

# One probe for each function and owned CPU: the histogram takes three keys.  Before
# the stress, for each probe takes some grace periods.
# kicks_prepare CPUS
kicks_prepare() {
	: >"$tracing/kprobe_events"
	for ks_cpu in ${1//,/ }; do
		# NAME FILTER ARGUMENTS
		while read -r ks_name ks_filter ks_args; do
			ks_event=${ks_name}_$ks_cpu
			echo "p:quiet/$ks_event ipi_nmi_$ks_name $ks_args" >>"$tracing/kprobe_events" ||
				fail "this kernel has no ipi_nmi_$ks_name()"
			echo "hist:keys=common_cpu,vector,common_stacktrace:size=8192 if $ks_filter" \
				>"$tracing/events/quiet/$ks_event/trigger" ||
				fail "the kernel does not take the histogram of $ks_event: $(tail -n 3 "$tracing/error_log")"
		done <<-END
			post target==$ks_cpu&&common_cpu!=$ks_cpu target=%di:s32 vector=%si:s32
			send_self common_cpu==$ks_cpu vector=%di:s32
		END
	done
	# What runs on the owned CPUs, and their guests' exits.
	side_events "$1" start
}

# Begin to count, with what is there to count with.
# kicks_start CPUS
kicks_start() {
	for ks_cpu in ${1//,/ }; do
		for ks_name in $kick_functions; do
			hist_clear "quiet/${ks_name}_$ks_cpu"
		done
	done
	while read -r ks_event _; do
		hist_clear "$ks_event"
	done < <(side_list)
	cat /proc/interrupts >/tmp/kicks.interrupts
	handled >/tmp/kicks.handled
	read -r kk_since _ </proc/uptime
}

# What runs on the owned CPUs, and their guests' exits: EVENT KEYS
side_list() {
	cat <<-END
		kvm/kvm_exit common_cpu,exit_reason
		sched/sched_switch common_cpu,next_comm
		timer/hrtimer_start common_cpu,function.sym
		timer/timer_start common_cpu,function.sym
		timer/hrtimer_expire_entry common_cpu,function.sym
		timer/timer_expire_entry common_cpu,function.sym
		timer/tick_stop common_cpu,success,dependency
		workqueue/workqueue_execute_start common_cpu,function.sym
		irq/softirq_entry common_cpu,vec
		csd/csd_function_entry common_cpu,func.sym
	END
}

# To be appended: the trigger of the same keys and filter is the one that is meant.
hist_clear() {
	[ -e "$tracing/events/$1/trigger" ] || return 0
	# Without a process: under stress each takes its time.
	hc_line=
	while read -r hc_text; do
		[[ $hc_text =~ ^(hist:keys=[^:]*):[^\ ]*\ (if\ .*)\ \[ ]] || continue
		hc_line="${BASH_REMATCH[1]}:clear ${BASH_REMATCH[2]}"
	done <"$tracing/events/$1/trigger"
	echo "$hc_line" >>"$tracing/events/$1/trigger" ||
		fail "the kernel does not clear the histogram of $1: $hc_line"
}

# Writing to the file truncated is what removes a trigger.
hist_off() {
	: >"$tracing/events/$1/trigger"
}

side_events() {
	while read -r se_event se_keys; do
		[ -e "$tracing/events/$se_event/trigger" ] || continue
		if [ "$2" = stop ]; then
			hist_off "$se_event"
			continue
		fi
		echo "hist:keys=$se_keys:size=2048 if common_cpu & CPUS{$1}" \
			>"$tracing/events/$se_event/trigger" ||
			fail "the kernel does not take the histogram of $se_event: $(tail -n 3 "$tracing/error_log")"
	done < <(side_list)
}

# Kicks that the owned CPUs have handled, by cause, are in the status.
handled() {
	bin/kvm-exclusive status --json || fail "no status"
}

# kicks_stop PHASE CPUS
kicks_stop() {
	# Under stress reading takes time too. What comes then still counts, but allows
	# for no more kicks.
	read -r kp_now _ </proc/uptime
	kp_seconds=$((${kp_now%.*} - ${kk_since%.*}))
	kp_dir=$out/kicks-$1
	mkdir -p "$kp_dir"
	# The exits before the sends: each exit that is seen was sent within the time.
	while read -r kp_event _; do
		[ ! -e "$tracing/events/$kp_event/hist" ] ||
			cat "$tracing/events/$kp_event/hist" >"$kp_dir/on-cpu.${kp_event##*/}"
	done < <(side_list)
	for kp_cpu in ${2//,/ }; do
		for kp_name in $kick_functions; do
			cat "$tracing/events/quiet/${kp_name}_$kp_cpu/hist" >"$kp_dir/${kp_name}_$kp_cpu"
		done
	done
	cat /proc/interrupts >"$kp_dir/interrupts.after"
	cp /tmp/kicks.interrupts "$kp_dir/interrupts.before"
	handled >"$kp_dir/handled.after.json"
	cp /tmp/kicks.handled "$kp_dir/handled.before.json"
	for kp_cpu in ${2//,/ }; do
		for kp_name in $kick_functions; do
			hist_off "quiet/${kp_name}_$kp_cpu"
		done
	done
	side_events "$2" stop
	: >"$tracing/kprobe_events"
	note_down kicks phase="$1" cpus="$2" seconds=$kp_seconds
}
