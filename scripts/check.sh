#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Everything that can be said about the sources without booting anything:
#
#   - the patches and the C files pass the tree's checkpatch
#   - the scripts pass shellcheck
#   - each UAPI header compiles alone
#   - patches/series applies to the base without fuzz
#   - regenerating patches/ from the result gives the same bytes
#   - the module passes sparse, where it and the kernel are built
#
# FULL=1 adds: every prefix of the series compiles (takes hours from nothing).
set -eu
TOP=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"
need git perl shellcheck gcc

bad=0
verdict() {
	if [ "$1" -eq 0 ]; then
		say "check: ok    $2"
	else
		say "check: FAIL  $2"
		bad=$((bad + 1))
	fi
}

mkdir -p "$LOGS"
log=$LOGS/check.log
: >"$log"

status=0
find "$TOP/scripts" "$TOP/.ci" -type f ! -name '*.awk' ! -name '*.config' ! -name '*.conf' ! -name '*.bt' \
	-exec sh -c 'for f; do head -n 2 "$f" | grep -qE "^#!.*sh|SPDX" && shellcheck -x -P "$0" "$f" || exit 1; done' \
	"$TOP" {} + >>"$log" 2>&1 || status=$?
verdict "$status" "shellcheck"

status=0
find "$TOP" -path "$BUILD" -prune -o -path "$TOP/.git" -prune -o -path "$TOP/patches" -prune -o \
	-type f \( -name '*.[chS]' -o -name '*.sh' -o -name '*.awk' -o -name '*.bt' -o -name Kbuild -o -name Makefile -o -name init \) -print |
	while read -r file; do
		head -n 3 "$file" | grep -q 'SPDX-License-Identifier: GPL-2.0' || echo "no SPDX line: $file"
	done >"$log.spdx"
[ ! -s "$log.spdx" ] || { cat "$log.spdx" >>"$log"; status=1; }
verdict "$status" "licence lines"

status=0
find "$TOP/patches" -name '*.patch' | sort | while read -r patch; do
	(cd "$SRC" && perl scripts/checkpatch.pl --terse --no-summary --show-types "$patch") || echo bad >"$log.bad"
done >>"$log" 2>&1
[ ! -e "$log.bad" ] || { status=1; rm -f "$log.bad"; }
verdict "$status" "checkpatch, patches"

status=0
for dir in module kselftests; do
	[ -d "$TOP/$dir" ] || continue
	find "$TOP/$dir" -name '*.[chS]' | sort | while read -r file; do
		(cd "$SRC" && perl scripts/checkpatch.pl --terse --no-summary --no-tree --show-types -f "$file") ||
			echo bad >"$log.bad"
	done >>"$log" 2>&1
done
[ ! -e "$log.bad" ] || { status=1; rm -f "$log.bad"; }
verdict "$status" "checkpatch, C files"

status=0
for header in "$TOP"/module/include/uapi/linux/*.h; do
	[ -f "$header" ] || continue
	gcc -std=gnu99 -Wall -Wextra -Werror -fsyntax-only -x c "$header" >>"$log" 2>&1 || status=1
done
verdict "$status" "UAPI headers compile alone"

tree=$BUILD/check/linux
if ! git -C "$tree" rev-parse -q --verify HEAD >/dev/null 2>&1; then
	mkdir -p "$BUILD/check"
	git -C "$SRC" worktree prune
	git -C "$SRC" worktree add -q --detach "$tree" base
fi
status=0
git -C "$tree" reset -q --hard
"$TOP/scripts/am.sh" "$tree" check >>"$log" 2>&1 || status=$?
verdict "$status" "series applies without fuzz"
if [ "$status" -eq 0 ]; then
	again=$(mktemp -d)
	"$TOP/scripts/refresh.sh" check "$again" >>"$log" 2>&1 || status=$?
	diff -r "$TOP/patches" "$again" >>"$log" 2>&1 || status=1
	rm -rf "$again"
	verdict "$status" "regenerated series is byte-identical"
fi

if [ -f "$OBJ/Module.symvers" ] && { [ -f "$TOP/module/Kbuild" ] || [ -f "$TOP/module/Makefile" ]; } && command -v sparse >/dev/null; then
	status=0
	"$TOP/scripts/module.sh" "$OBJ" "$BUILD/module-sparse" C=2 >"$log.sparse" 2>&1 || status=$?
	grep -E "module-sparse/.*(warning|error):" "$log.sparse" >>"$log" && status=1
	verdict "$status" "sparse, module"
fi

if [ -n "${FULL:-}" ]; then
	status=0
	"$TOP/scripts/check-prefixes.sh" || status=$?
	verdict "$status" "every prefix of the series compiles"
fi

if [ "$bad" -ne 0 ]; then
	tail -n 40 "$log"
	die "$bad checks failed, log in ${log#"$TOP"/}"
fi
