# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What host.sh and control.sh share: running one test and saying how it ended.
#
# shellcheck disable=SC2034 # the results are for the scripts that source this

# tap_name NAME: a file name for what a test prints.
tap_name() {
	printf '%s.tap' "${1//[^A-Za-z0-9_.-]/_}"
}

# run_one SECONDS TAP COMMAND [ARGS...]: run one test with what it prints in TAP.
# Sets result (pass, fail or skip), status (its exit status), took (seconds) and
# reason.
run_one() {
	local seconds=$1 tap=$2 start=$SECONDS

	shift 2
	if [ -x "$1" ]; then
		timeout -k 5 "$seconds" "$@" >"$tap" 2>&1 </dev/null
		status=$?
	else
		echo "not there" >"$tap"
		status=127
	fi
	took=$((SECONDS - start))
	reason=
	# KSFT_SKIP is 4, and a TAP plan of nothing is a skip too.
	if [ $status -eq 4 ] || { [ $status -eq 0 ] && grep -qE '^1\.\.0 # SKIP' "$tap"; }; then
		result=skip
		reason=$(grep -m 1 -i skip "$tap")
	elif [ $status -eq 0 ] && ! grep -qE '^ *not ok' "$tap"; then
		result=pass
	elif [ $status -eq 124 ] || [ $status -eq 137 ]; then
		result=fail
		reason="no end within $seconds s"
	else
		result=fail
		# What failed first, and what was said before it.
		reason=$(grep -m 1 -B 2 -E '^ *not ok|^Bail out!' "$tap" | tr '\n' ';' | cut -c 1-400)
		reason="status $status: ${reason:-$(tail -n 1 "$tap")}"
	fi
}
