# SPDX-License-Identifier: GPL-2.0
#
# What the guest reported in each mode and run, into a table on standard output and the
# file JSON.  The files are called MODE.RUN; path.WHAT is what path.awk printed.
#
#   awk -v json=FILE -v platform=NAME -v samples=N -f report.awk bare.1 bare.2 stock.1 ... path.unicast-physical ...
#
# The status is 0 when every row is there with enough samples, the two runs agree and
# every bound holds.

BEGIN {
	agree = 0.02		# the medians of two runs
	ipi_bound = 60		# instructions the host adds to a unicast IPI
	n_modes = split("stock exclusive_c exclusive bare", modes, " ")
	ipi_name["unicast-physical"] = "IPI send, unicast physical"
	ipi_name["unicast-cluster"] = "IPI send, unicast cluster"
	ipi_name["self-ipi"] = "IPI send, self IPI"
	n_paths = split("unicast-physical unicast-cluster self-ipi", paths, " ")
}

# What exclusive may be, in terms of bare; 0: no bound.
function bound_of(name) {
	if (name ~ /^(timer|EOI|TPR)/)
		return 1.02
	if (name ~ /^IPI send to handler, unicast/)
		return 1.3
	return 0
}

# There is nobody to call on the bare machine.
function on_bare(name) {
	return name !~ /hypercall/
}

function fail(text) {
	failures[++n_failures] = text
}

# The middle of "VALUE*COUNT" words in ascending order, from the second field on.
function median(first,    i, n, pair, seen, total) {
	for (i = first; i <= NF; i++) {
		split($i, pair, "*")
		total += pair[2]
	}
	counted = total
	for (i = first; i <= NF; i++) {
		split($i, pair, "*")
		seen += pair[2]
		if (seen * 2 >= total)
			return pair[1]
	}
	return ""
}

FNR == 1 {
	file = FILENAME
	sub(/.*\//, "", file)
	mode = file
	run = file
	sub(/\.[^.]*$/, "", mode)
	sub(/.*\./, "", run)
}

mode == "path" {
	path[run, ++path_length[run]] = $0
	next
}

/^row / {
	name = $0
	sub(/^row /, "", name)
	sub(/:.*/, "", name)
	if (!(name in known)) {
		known[name] = 1
		order[++n_rows] = name
	}
	values = $0
	sub(/^[^:]*:/, "", values)
	$0 = values
	got[mode, run, name] = median(1)
	count[mode, run, name] = counted
	next
}

$1 == "end" {
	ended[mode, run] = 1
}

function ratio(a, b) {
	return b > 0 ? sprintf("%.2f", a / b) : (a == b ? "1.00" : "-")
}

function quote(text) {
	gsub(/["\\]/, "\\\\&", text)
	return "\"" text "\""
}

function number(values, mode, name) {
	return (mode, name) in values ? values[mode, name] : "null"
}

function out(text) {
	printf "%s", text >json
}

END {
	for (i = 1; i <= n_modes; i++) {
		for (run = 1; run <= 2; run++) {
			if (!((modes[i], run) in ended))
				fail(modes[i] ", run " run ": the guest did not come to its end")
		}
	}
	for (r = 1; r <= n_rows; r++) {
		name = order[r]
		for (i = 1; i <= n_modes; i++) {
			m = modes[i]
			if (m == "bare" && !on_bare(name))
				continue
			a = got[m, 1, name]
			b = got[m, 2, name]
			if (a == "" || b == "" || count[m, 1, name] < 500 || count[m, 2, name] < 500) {
				fail(name ": " m " lacks samples")
				continue
			}
			value[m, name] = (a + b) / 2
			differ = a > b ? a - b : b - a
			least = a < b ? a : b
			if (least < 0)
				least = -least
			spread[m, name] = differ
			if (differ > agree * least)
				fail(name ": two runs of " m " differ by more than 2%: " a " and " b)
		}
	}

	printf "latency on the emulated host \"" platform "\", in ticks (one instruction of each CPU),\n"
	printf "medians of %d samples, two runs\n\n", samples
	printf "  %-42s %9s %12s %10s %6s  %s\n", "", "stock", "exclusive_c", "exclusive", "bare", "exclusive / bare"
	for (r = 1; r <= n_rows; r++) {
		name = order[r]
		limit = bound_of(name)
		e = value["exclusive", name]
		b = value["bare", name]
		verdict = ratio(e, b)
		if (limit) {
			# Within 2% is meant both ways; quicker than bare would be wrong too.
			ok[name] = e <= limit * b && (limit > 1.1 || e >= (2 - limit) * b)
			verdict = sprintf("%-7s %s %g", verdict, ok[name] ? "ok, bound" : "NOT MET, bound", limit)
			if (!ok[name])
				fail(sprintf("%s: exclusive takes %g, bare %g: more than %g times as much", name, e, b, limit))
		}
		if (!on_bare(name))
			b = verdict = "-"
		printf "  %-42s %9g %12g %10g %6s  %s\n", name, value["stock", name],
			value["exclusive_c", name], e, b, verdict
	}

	printf "\ninstructions the host adds to an IPI (IPI send, exclusive - bare)\n\n"
	for (i = 1; i <= n_paths; i++) {
		p = paths[i]
		name = ipi_name[p]
		added[p] = value["exclusive", name] - value["bare", name]
		match_path[p] = path_length[p] == added[p]
		limit = p ~ /^unicast/ ? ipi_bound : 0
		text = limit ? (added[p] <= limit ? "ok, bound " : "NOT MET, bound ") limit : ""
		printf "  %-42s %9g  %s%s\n", p, added[p], text,
			path_length[p] && !match_path[p] ? " (disassembly: " path_length[p] ")" : ""
		if (limit && added[p] > limit)
			fail(sprintf("%s: the host adds %g instructions, bound %d", name, added[p], limit))
	}

	out("{\n  \"platform\": " quote(platform) ",\n  \"unit\": \"Bochs ticks (one instruction of each CPU)\",\n")
	out("  \"samples\": " samples ",\n  \"runs\": 2,\n  \"rows\": [")
	for (r = 1; r <= n_rows; r++) {
		name = order[r]
		out((r > 1 ? "," : "") "\n    { \"name\": " quote(name))
		for (i = 1; i <= n_modes; i++)
			out(", \"" modes[i] "\": " number(value, modes[i], name))
		limit = bound_of(name)
		out(", \"bound\": " (limit ? limit : "null"))
		out(", \"pass\": " (limit ? (ok[name] ? "true" : "false") : "null"))
		out(",\n      \"run_difference\": {")
		for (i = 1; i <= n_modes; i++)
			out((i > 1 ? "," : "") " \"" modes[i] "\": " number(spread, modes[i], name))
		out(" } }")
	}
	out("\n  ],\n  \"host_instructions_per_ipi\": [")
	for (i = 1; i <= n_paths; i++) {
		p = paths[i]
		out((i > 1 ? "," : "") "\n    { \"name\": " quote(p) ", \"measured\": " added[p])
		out(", \"bound\": " (p ~ /^unicast/ ? ipi_bound : "null"))
		out(", \"disassembled\": " (path_length[p] + 0) ",\n      \"instructions\": [")
		for (k = 1; k <= path_length[p]; k++)
			out((k > 1 ? ", " : "") quote(path[p, k]))
		out("] }")
	}
	out("\n  ],\n  \"failures\": [")
	for (i = 1; i <= n_failures; i++)
		out((i > 1 ? "," : "") "\n    " quote(failures[i]))
	out("\n  ],\n  \"pass\": " (n_failures ? "false" : "true") "\n}\n")
	close(json)

	if (n_failures) {
		printf "\nnot met:\n"
		for (i = 1; i <= n_failures; i++)
			printf "  %s\n", failures[i]
		exit 1
	}
}
