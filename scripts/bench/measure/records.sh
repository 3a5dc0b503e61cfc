# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# For scripts in the emulated host that leave raw records, one JSON object a line.

# record FILE KIND KEY=VALUE...: add one.  A VALUE is a number, or text without quotes.
record() {
	local file=$1 line="\"kind\": \"$2\"" word value

	shift 2
	for word; do
		value=${word#*=}
		[[ $value =~ ^-?(0|[1-9][0-9]*)(\.[0-9]+)?$ ]] || value="\"$value\""
		line+=", \"${word%%=*}\": $value"
	done
	printf '{%s}\n' "$line" >>"$file"
}
