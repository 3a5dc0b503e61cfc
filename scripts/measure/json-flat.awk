# SPDX-License-Identifier: GPL-2.0
#
# Flatten one JSON document to "PATH VALUE" lines, such as "vms.0.kicks.irq_work 3".
# Keys hold no dots and no blanks in what this reads.

function token() {
	sub(/^[ \t\r\n]+/, "", text)
	if (match(text, /^"([^"\\]|\\.)*"/) || match(text, /^[-+0-9.eE]+/) ||
	    match(text, /^(true|false|null)/) || match(text, /^[][{}:,]/)) {
		tok = substr(text, 1, RLENGTH)
		text = substr(text, RLENGTH + 1)
		return tok
	}
	return ""
}

function value(path,	key, n) {
	tok = token()
	if (tok == "{") {
		while ((key = token()) != "}" && key != "") {
			if (key == ",")
				continue
			token()
			value(path (path == "" ? "" : ".") substr(key, 2, length(key) - 2))
		}
	} else if (tok == "[") {
		for (n = 0; ; ) {
			sub(/^[ \t\r\n]+/, "", text)
			if (text ~ /^\]/ || text == "") {
				token()
				break
			}
			if (text ~ /^,/) {
				token()
				continue
			}
			value(path (path == "" ? "" : ".") n++)
		}
	} else {
		gsub(/^"|"$/, "", tok)
		print path, tok
	}
}

{ text = text $0 "\n" }

END { value("") }
