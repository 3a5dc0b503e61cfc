# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154 # out, tracing and control are those of lib.sh and run-point.sh
#
# Have rtla drive the kernel's tracers osnoise and timerlat.
#
# What is judged is the trace that rtla saves at its end, for its tables have neither times nor
# single latencies.  It records that in a trace instance of its own, which has the same name
# for both tracers and is gone with rtla.

rtla_instance=$tracing/instances/osnoise_trace
rtla_trace=/tmp/rtla.trace
rtla_stats=/tmp/rtla.stats
# In seconds.  It reads what the kernel knows of each event first, which takes an emulator a
# while, and writes a long trace in the end.
rtla_start_limit=300
rtla_stop_limit=600
rtla=

# rtla_start TRACER MODE CPUS PERIOD_US EVENTS OPTIONS...: measure from the return on, until
# rtla_stop.  EVENTS is on or off: whether each noise is recorded, too, which is noise itself.
rtla_start() {
	rtla_what="rtla $1, $2"
	rtla_out=$out/$1.$2
	rtla_cpus=$3
	rtla_period=$4
	rl_tracer=$1
	rl_events=$5
	shift 5
	command -v rtla >/dev/null || fail "no rtla in the root file system; \"make rootfs\" makes it anew"
	rm -f $rtla_trace $rtla_stats
	# Before rtla removes the instance.  A comma would end the command.
	rl_keep="cat"
	for rl_cpu in ${rtla_cpus//,/ }; do
		rl_keep+=" $rtla_instance/per_cpu/cpu$rl_cpu/stats"
	done
	rtla "$rl_tracer" top --quiet --cpus "$rtla_cpus" --house-keeping "$control" \
		--period "$rtla_period" --trace-buffer-size 32768 "$@" \
		--on-end "shell,command=$rl_keep >$rtla_stats" --on-end "trace,file=$rtla_trace" \
		>"$rtla_out.rtla" 2>&1 &
	rtla=$!
	rl_since=$SECONDS
	# A new instance is on until rtla switches it off, which it does before it sets the tracer.
	until [[ $(cat "$rtla_instance/current_tracer" 2>/dev/null) = "$rl_tracer" &&
		$(cat "$rtla_instance/tracing_on") = 1 ]]; do
		kill -0 "$rtla" 2>/dev/null || fail "$rtla_what does not start: $(cat "$rtla_out.rtla")"
		[ $((SECONDS - rl_since)) -lt $rtla_start_limit ] ||
			fail "$rtla_what does not record within $rtla_start_limit s: $(cat "$rtla_out.rtla")"
		sleep 1
	done
	# rtla records all events of osnoise.
	[ "$rl_events" = on ] || echo 0 >"$rtla_instance/events/osnoise/enable" ||
		fail "$rtla_what: the events stay on"
	# Switching tracers and events patches the kernel's text, and each patch is an IPI to
	# every CPU.
	sleep 2
	echo measured >"$rtla_instance/trace_marker" || fail "$rtla_what takes no mark"
	rtla_since=$SECONDS
}

# rtla_stop NAME: what it has recorded is in $out/TRACER.MODE, and NAME that of its records.
rtla_stop() {
	rl_seconds=$((SECONDS - rtla_since))
	kill -INT "$rtla" 2>/dev/null || fail "$rtla_what has ended by itself: $(cat "$rtla_out.rtla")"
	rl_since=$SECONDS
	while kill -0 "$rtla" 2>/dev/null; do
		[ $((SECONDS - rl_since)) -lt $rtla_stop_limit ] ||
			fail "$rtla_what has not ended within $rtla_stop_limit s: $(cat "$rtla_out.rtla")"
		sleep 1
	done
	wait "$rtla" || fail "$rtla_what ended with status $?: $(cat "$rtla_out.rtla")"
	rtla=
	# An action at the end that fails does not change rtla's status.
	[ -s $rtla_stats ] || fail "$rtla_what: no counters of its buffers: $(cat "$rtla_out.rtla")"
	[ -s $rtla_trace ] || fail "$rtla_what has saved no trace: $(cat "$rtla_out.rtla")"
	cp $rtla_trace "$rtla_out" || fail "$rtla_what: its trace cannot be kept"
	rm $rtla_trace
	lost "$1.lost" $rtla_stats
	note_down traced name="$1" cpus="$rtla_cpus" seconds=$rl_seconds period_us="$rtla_period"
}
