#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Put the patches of patches/series on top of base, as branch "exclusive".  Lines
# may have moved (a newer 6.12.y), context may not have changed: git am takes no
# fuzz, and the patch and the file it stops at are named.
#
# The branch is where the series is developed, so one with commits that are not in
# patches/ is left alone, unless APPLY_FORCE=1 (the old one is then kept under
# another name).
set -eu
TOP=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"

series=$TOP/patches/series
stamp=$BUILD/.applied
tip=$(git -C "$SRC" rev-parse -q --verify refs/heads/exclusive || :)
base=$(git -C "$SRC" rev-parse -q --verify refs/heads/base) || die "no branch base; \"make source\" makes it"

patches=$(sed -e 's/#.*//' -e 's/[[:space:]]*$//' -e '/^$/d' "$series" 2>/dev/null || :)
hash=$({
	echo "$base"
	for patch in $patches; do
		cat "$TOP/patches/$patch"
	done
} | sha256sum | cut -d ' ' -f 1)

# The rig's kernels are built from branch "rig": the series and, on top of it, what
# works round the emulators.
rig_branch() {
	"$TOP/scripts/build/rig-branch.sh" "$SRC" rig exclusive
}

if [ -n "$tip" ]; then
	read -r old_hash old_tip 2>/dev/null <"$stamp" || { old_hash=; old_tip=; }
	dirty=$(git -C "$SRC" status --porcelain --untracked-files=no | head -n 1)
	if [ "$hash" = "$old_hash" ] && [ "$tip" = "$old_tip" ] && [ -z "${APPLY_FORCE:-}" ]; then
		[ -n "$dirty" ] || rig_branch
		exit 0
	fi
	if [ "$tip" != "$old_tip" ] || [ -n "$dirty" ]; then
		if [ -z "${APPLY_FORCE:-}" ]; then
			say "apply: branch exclusive has work of its own; kept as it is" \
				"(\"make refresh\" writes it to patches/, APPLY_FORCE=1 replaces it)"
			# What is built is the branch as it is now.
			[ -n "$dirty" ] || rig_branch
			exit 0
		fi
		[ -z "$dirty" ] || die "changes in ${SRC#"$TOP"/} are not committed"
		keep=exclusive-$(date +%Y%m%d-%H%M%S)
		git -C "$SRC" branch "$keep" exclusive
		say "apply: the old branch is kept as $keep"
	fi
fi

"$TOP/scripts/build/am.sh" "$SRC" exclusive
printf '%s %s\n' "$hash" "$(git -C "$SRC" rev-parse exclusive)" >"$stamp"
rig_branch
