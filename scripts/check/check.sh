#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Everything that can be said about the sources without booting anything:
#
#   - the scripts pass shellcheck
#   - every file has its licence line
#   - CHANGELOG.md begins with the version that the module, the command and its page have
#   - the patches and the C files pass the tree's checkpatch --strict, but for what
#     scripts/check/checkpatch.allow lists
#   - each patch to an emulator, or around one, says what upstream knows of the fault
#   - each UAPI header compiles alone, as C and as C++
#   - patches/series applies to the base without fuzz
#   - regenerating patches/ from the result gives the same bytes
#   - kselftests/tests can be read, and its group control has each KVM selftest of the tree
#   - what the series adds passes sparse, where the kernel is built, and so does the
#     module; what is installed for that kernel runs, and has its page
#   - what judges tests and measurements does so (scripts/results/*_test.py)
#   - CHECK_PAGE=1: the page of "make report" loads in a browser, and shows all its data
#
# RESULTS=FILE: leaves a result for each there, as the tests do (Documentation/testing.md).
# FULL=1 adds: every prefix of the series compiles (takes hours from nothing).
#
# It takes no arguments: what it is told is in the environment.
set -eu
TOP=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"
if [ $# -ne 0 ]; then
	say "usage: [FULL=1] [CHECK_PAGE=1] [RESULTS=FILE] check.sh" >&2
	exit 2
fi
need git perl python3 shellcheck gcc g++ sparse make
# checkpatch runs a script with modules that deps.sh installs for the distribution's
# own Python.
PATH=/usr/bin:$PATH

bad=0
mkdir -p "$LOGS"
log=$LOGS/check.log
: >"$log"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM HUP

results=${RESULTS:-/dev/null}
: >"$results"

# verdict NAME FILE: FILE holds the complaints; none is what is wanted.
verdict() {
	if [ ! -s "$2" ]; then
		say "check: ok    $1"
		result pass check "$1" >>"$results"
		return
	fi
	say "check: FAIL  $1 ($(wc -l <"$2") lines)"
	result fail check "$1: $(head -n 1 "$2")" >>"$results"
	{
		echo "--- $1"
		cat "$2"
	} >>"$log"
	bad=$((bad + 1))
}

# Our files: those that git tracks or would.
sources() {
	git -C "$TOP" ls-files --cached --others --exclude-standard -- "$@" | sort -u |
		while read -r file; do
			[ ! -f "$TOP/$file" ] || echo "$file"
		done
}

# Scripts are told by their first lines, not by their names.
for file in $(sources scripts .ci kselftests module/tools); do
	head -n 3 "$TOP/$file" | grep -qE '^#!.*/(ba|da)?sh|shellcheck shell=' || continue
	(cd "$TOP" && shellcheck -x -P . "$file") || :
done >"$tmp/shellcheck" 2>&1
verdict "shellcheck" "$tmp/shellcheck"

for file in $(sources '*.[chS]' '*.sh' '*.py' '*.awk' '*.bt' '*Kbuild' '*Makefile' '*/init' '.ci/*'); do
	head -n 3 "$TOP/$file" | grep -q 'SPDX-License-Identifier: GPL-2.0' ||
		echo "no SPDX line: $file"
done >"$tmp/spdx"
verdict "licence lines" "$tmp/spdx"

# The line is the last one of the header, and there is no other.
form='(https://[^ ]|[0-9a-f]+, |repaired in |not reported; |ours, not for upstream$)'
for patch in $(sources 'scripts/rig/bochs/*.patch' 'scripts/rig/patches/*.patch'); do
	sed -E '/^(---$|--- a\/|--- \/dev\/null|diff --git )/,$d' "$TOP/$patch" >"$tmp/header"
	if [ "$(grep -c '^Upstream:' "$tmp/header")" -ne 1 ] ||
		! grep . "$tmp/header" | tail -n 1 | grep -qE "^Upstream: $form"; then
		echo "no line \"Upstream:\" at the end of the header, or several: $patch"
	fi
done >"$tmp/upstream"
verdict "what upstream knows of the emulators' faults" "$tmp/upstream"

version=$(cat "$TOP/module/VERSION")
[ "$(sed -n 's/^## \([0-9.]*\).*/\1/p' "$TOP/CHANGELOG.md" | head -n 1)" = "$version" ] ||
	echo "CHANGELOG.md does not begin with $version, which module/VERSION has" >"$tmp/version"
touch "$tmp/version"
verdict "version $version" "$tmp/version"

for judge in results_test measured_test forms_test; do
	"$TOP/scripts/results/$judge.py" >"$tmp/judge.out" 2>&1 || cat "$tmp/judge.out"
	# The kernel tree is there.
	grep 'skipped=' "$tmp/judge.out" || :
done >"$tmp/judge"
verdict "what judges the results" "$tmp/judge"

if [ -n "${CHECK_PAGE:-}" ]; then
	"$TOP/scripts/results/report_test.py" >"$tmp/page.out" 2>&1 || cp "$tmp/page.out" "$tmp/page"
	touch "$tmp/page"
	verdict "the report's page in a browser" "$tmp/page"
fi

# allowed: drop from checkpatch's "PATH:LINE: LEVEL:TYPE: TEXT" what is allowed.
allowed() {
	awk '
	NR == FNR {
		sub(/[ \t]*#.*/, "")
		if (NF == 2) {
			path[++n] = "^(" $1 ")$"
			types[n] = "," $2 ","
		}
		next
	}
	{
		split($0, a, ":")
		for (i = 1; i <= n; i++)
			if (index(types[i], "," a[4] ",") && a[1] ~ path[i])
				next
		print
	}' "$TOP/scripts/check/checkpatch.allow" -
}

for patch in $(sources 'patches/*.patch'); do
	(cd "$SRC" && perl scripts/checkpatch.pl --strict --terse --no-summary --show-types \
		--showfile "$TOP/$patch" 2>&1) | allowed | sed "s|^|${patch##*/}: |"
done >"$tmp/checkpatch"
verdict "checkpatch, patches" "$tmp/checkpatch"

for file in $(sources 'module/*.[chS]' 'kselftests/*.[chS]'); do
	(cd "$SRC" && perl scripts/checkpatch.pl --strict --terse --no-summary --show-types \
		--no-tree -f "$TOP/$file" 2>&1) | sed "s|^$TOP/||" | allowed
done >"$tmp/checkpatch-c"
verdict "checkpatch, C files" "$tmp/checkpatch-c"

for header in $(sources 'module/include/uapi/*.h'); do
	gcc -std=gnu99 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -x c "$TOP/$header" || :
	g++ -Wall -Wextra -Werror -fsyntax-only -x c++ "$TOP/$header" || :
done >"$tmp/headers" 2>&1
verdict "UAPI headers compile alone" "$tmp/headers"

# A worktree of its own, so that nobody's work is touched.
tree=$BUILD/check/linux
if ! git -C "$tree" rev-parse -q --verify HEAD >/dev/null 2>&1; then
	mkdir -p "$BUILD/check"
	git -C "$SRC" worktree prune
	git -C "$SRC" worktree add -q --detach "$tree" base
fi
git -C "$tree" reset -q --hard
"$TOP/scripts/build/am.sh" "$tree" check >"$tmp/am.out" 2>&1 || cp "$tmp/am.out" "$tmp/am"
touch "$tmp/am"
verdict "series applies without fuzz" "$tmp/am"
if [ ! -s "$tmp/am" ]; then
	if "$TOP/scripts/build/refresh.sh" check "$tmp/again" >"$tmp/refresh" 2>&1; then
		diff -r "$TOP/patches" "$tmp/again" >"$tmp/refresh" 2>&1 || :
	fi
	verdict "regenerated series is byte-identical" "$tmp/refresh"
fi

sed -n 's/^TEST_GEN_PROGS_x86_64 *+\{0,1\}= *\(x86_64\/\)\{0,1\}//p' \
	"$tree/tools/testing/selftests/kvm/Makefile" | sort >"$tmp/tree-tests"
# Those that are left out begin with a "-".
"$TOP/scripts/results.py" tests control 2>"$tmp/control" | sed 's/^-//; s/ .*//' | sort >"$tmp/our-tests"
diff "$tmp/tree-tests" "$tmp/our-tests" |
	sed -n 's/^< /not in the group control: /p; s/^> /no test of the tree, or there twice: /p' >>"$tmp/control"
verdict "control tests are all listed" "$tmp/control"

# Sparse looks at the branch as it is checked out; the objects are not touched.
if [ -f "$OBJ/.config" ] && [ -f "$OBJ/Module.symvers" ]; then
	new=$(git -C "$SRC" diff --name-only --diff-filter=A base exclusive -- '*.c' |
		grep -v '/tests/.*_kunit\.c$' || :)
	: >"$tmp/sparse-kernel"
	for file in $new; do
		# The scheduler's files are compiled as parts of another one.
		unit=$(cd "$SRC" && grep -lE "^# *include \"${file##*/}\"" "${file%/*}"/*.c | head -n 1)
		# Nothing of the make that called this, its job server least of all.
		(unset MAKEFLAGS MFLAGS MAKELEVEL O
		make -s -C "$SRC" O="$OBJ" CC="ccache gcc" HOSTCC="ccache gcc" \
			C=2 "$(echo "${unit:-$file}" | sed "s/c\$/o/")") >>"$tmp/sparse-kernel.out" 2>&1 ||
			echo "does not compile: $file" >>"$tmp/sparse-kernel"
		grep -F "${file##*/}:" "$tmp/sparse-kernel.out" | grep -E '(warning|error):' \
			>>"$tmp/sparse-kernel" || :
		: >"$tmp/sparse-kernel.out"
	done
	verdict "sparse, kernel" "$tmp/sparse-kernel"

	"$TOP/scripts/build/module.sh" "$OBJ" "$BUILD/module-sparse" C=2 >"$tmp/sparse.out" 2>&1 ||
		cp "$tmp/sparse.out" "$tmp/sparse"
	grep -E 'module-sparse/.*(warning|error):' "$tmp/sparse.out" >>"$tmp/sparse" || :
	verdict "sparse, module" "$tmp/sparse"

	if ! PREFIX=/usr/local DESTDIR="$tmp/dest" "$TOP/scripts/build/install.sh" "$OBJ" >"$tmp/install.out" 2>&1 ||
		! "$tmp/dest/usr/local/sbin/kvm-exclusive" --version >>"$tmp/install.out" 2>&1 ||
		! grep "kvm-exclusive $version" "$tmp/dest/usr/local/share/man/man8/kvm-exclusive.8" \
			>>"$tmp/install.out" 2>&1; then
		cp "$tmp/install.out" "$tmp/install"
	fi
	touch "$tmp/install"
	verdict "make install, and what it installs runs" "$tmp/install"
else
	say "check: --    sparse needs a built kernel (make kernel)"
	result skip check "sparse: needs a built kernel" >>"$results"
fi

if [ -n "${FULL:-}" ]; then
	if "$TOP/scripts/check/prefixes.sh"; then
		say "check: ok    every prefix of the series compiles"
		result pass check "every prefix of the series compiles" >>"$results"
	else
		say "check: FAIL  every prefix of the series compiles"
		result fail check "every prefix of the series compiles" >>"$results"
		bad=$((bad + 1))
	fi
fi

if [ "$bad" -ne 0 ]; then
	head -n 60 "$log"
	die "$bad checks failed, all of it in ${log#"$TOP"/}"
fi
