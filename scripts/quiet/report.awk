# SPDX-License-Identifier: GPL-2.0
#
# The lines of "figures" (lib.sh says what they are) into a table on standard output
# and the file JSON.
#
#   awk -v json=FILE -v points="1 2 3" -v flavour=NAME -v kernel=RELEASE -f report.awk figures
#
# A point passes when it got to its end, was checked at least once and every check
# holds.  The status is 0 when every point that was asked for passes.

BEGIN {
	title[1] = "kicks on owned CPUs under stress"
	title[2] = "osnoise and timerlat against isolcpus and nohz_full"
	title[3] = "grace periods while a guest spins"
	title[4] = "claim and release under stress"
	title[5] = "CPU time accounting"
	title[6] = "instructions when off"
}

$1 == "figure" {
	if ($3 == "end") {
		ended[$2] = 1
		next
	}
	figures[$2, ++n_figures[$2]] = $3
	figure[$2, n_figures[$2]] = $4
}

$1 == "check" {
	n = ++n_checks[$2]
	check[$2, n] = $3
	got[$2, n] = $4
	op[$2, n] = $5
	bound[$2, n] = $6
	text = $0
	sub(/^check +[^ ]+ +[^ ]+ +[^ ]+ +[^ ]+ +[^ ]+ */, "", text)
	why[$2, n] = text
	ok = $4 ~ /^-?[0-9.]+$/ && $6 ~ /^-?[0-9.]+$/ &&
		($5 == "<=" && $4 + 0 <= $6 + 0 || $5 == ">=" && $4 + 0 >= $6 + 0 || $5 == "=" && $4 + 0 == $6 + 0)
	holds[$2, n] = ok
	if (!ok)
		failed[$2]++
}

# kick POINT PHASE COUNT CPU VECTOR SENDER CLASS SITE STACK
$1 == "kick" {
	# The most frequent first.
	for (n = ++n_kicks[$2]; n > 1 && often[$2, n - 1] < $4; n--) {
		kick[$2, n] = kick[$2, n - 1]
		often[$2, n] = often[$2, n - 1]
	}
	kick[$2, n] = $0
	often[$2, n] = $4
}

# failure POINT TEXT: the host went down, or a helper gave up.
$1 == "failure" {
	text = $0
	sub(/^failure +[^ ]+ */, "", text)
	failure[$2] = failure[$2] (failure[$2] == "" ? "" : "; ") text
}

function quote(s) {
	gsub(/\\/, "\\\\", s)
	gsub(/"/, "\\\"", s)
	gsub(/[\t\r]/, " ", s)
	return "\"" s "\""
}

function plain(s) {
	return s ~ /^-?[0-9]+(\.[0-9]+)?$/ ? s : quote(s)
}

function bool(b) {
	return b ? "true" : "false"
}

END {
	n = split(points, list, " ")
	all = 1
	printf "{\n  \"flavour\": %s,\n  \"kernel\": %s,\n  \"points\": {", quote(flavour), quote(kernel) >json
	for (i = 1; i <= n; i++) {
		p = list[i]
		pass = ended[p] && n_checks[p] && !failed[p] && !(p in failure)
		all = all && pass
		printf "%s %s. %s\n", (pass ? "pass" : "FAIL"), p, title[p]
		printf "%s\n    \"%s\": {\n      \"name\": %s,\n      \"pass\": %s", (i > 1 ? "," : ""), p,
			quote(title[p]), bool(pass) >json
		if (p in failure) {
			printf "       %s\n", failure[p]
			printf ",\n      \"failure\": %s", quote(failure[p]) >json
		}
		if (!ended[p])
			print "       it did not come to its end"
		printf ",\n      \"checks\": [" >json
		for (k = 1; k <= n_checks[p]; k++) {
			printf "       %-4s %-46s %12s %-2s %s\n", (holds[p, k] ? "ok" : "FAIL"),
				check[p, k], got[p, k], op[p, k], bound[p, k]
			printf "%s\n        { \"what\": %s, \"value\": %s, \"op\": %s, \"bound\": %s, \"pass\": %s, \"text\": %s }",
				(k > 1 ? "," : ""), quote(check[p, k]), plain(got[p, k]), quote(op[p, k]),
				plain(bound[p, k]), bool(holds[p, k]), quote(why[p, k]) >json
		}
		printf "\n      ],\n      \"figures\": {" >json
		for (k = 1; k <= n_figures[p]; k++) {
			printf "            %-46s %12s\n", figures[p, k], figure[p, k]
			printf "%s\n        %s: %s", (k > 1 ? "," : ""), quote(figures[p, k]),
				plain(figure[p, k]) >json
		}
		printf "\n      },\n      \"kicks\": [" >json
		for (k = 1; k <= n_kicks[p]; k++) {
			split(kick[p, k], f, " ")
			if (k == 1)
				print "            phase   count CPU vector                from class     call site"
			printf "            %-6s %6d %3d %-20s %5d %-8s %s\n", f[3], f[4], f[5], f[6], f[7], f[8], f[10]
			printf "%s\n        { \"phase\": %s, \"count\": %s, \"cpu\": %s, \"vector\": %s, \"sender\": %s, \"class\": %s, \"site\": %s, \"stack\": %s }",
				(k > 1 ? "," : ""), quote(f[3]), f[4], f[5], quote(f[6]), f[7], quote(f[8]),
				quote(f[9]), quote(f[10]) >json
		}
		printf "\n      ]\n    }" >json
	}
	printf "\n  },\n  \"pass\": %s\n}\n", bool(all) >json
	exit !all
}
