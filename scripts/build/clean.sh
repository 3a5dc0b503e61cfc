#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
#   clean.sh [source]
#
# Remove what was built.  The unpacked trees hold the branch that the series is
# developed on, so they go only when asked for, and not with work in them that
# patches/ lacks, unless FORCE=1.
set -eu
TOP=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"

if [ "${1:-}" = source ]; then
	if [ -z "${FORCE:-}" ] && git -C "$SRC" rev-parse -q --verify exclusive >/dev/null 2>&1; then
		read -r _ applied 2>/dev/null <"$BUILD/.applied" || applied=
		if [ "$(git -C "$SRC" rev-parse exclusive)" != "$applied" ] &&
			[ -n "$(git -C "$SRC" rev-list base..exclusive)" ]; then
			die "branch exclusive has work of its own; \"make refresh\" saves it, FORCE=1 drops it"
		fi
	fi
	rm -rf "$BUILD"
	exit 0
fi

[ -d "$BUILD" ] || exit 0
rm -rf "$OBJ" "$DEBUG_OBJ" "$DEBIAN_OBJ" "$DEBIAN_RT_OBJ" "$STOCK_OBJ" "$BUILD/check"
find "$BUILD" -mindepth 1 -maxdepth 1 ! -name exclusive ! -name stock ! -name .base ! -name .applied \
	-exec rm -rf {} +
[ ! -d "$SRC" ] || git -C "$SRC" worktree prune
