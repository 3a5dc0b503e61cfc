#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
#   am.sh WORKTREE BRANCH [COUNT]
#
# In a worktree of the kernel repository, make BRANCH out of base and the first
# COUNT (default: all) patches of patches/series.  The same patches on the same
# base give the same commits.
set -eu
TOP=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"

tree=$1
branch=$2
count=${3:-99999}

git -C "$tree" checkout -q -B "$branch" base
n=0
for patch in $(sed -e 's/#.*//' "$TOP/patches/series" 2>/dev/null || :); do
	[ "$n" -lt "$count" ] || break
	n=$((n + 1))
	[ -r "$TOP/patches/$patch" ] || die "patches/series names $patch, which does not exist"
	if ! out=$(git -C "$tree" -c core.hooksPath=/dev/null am -q --committer-date-is-author-date \
		--whitespace=nowarn "$TOP/patches/$patch" 2>&1); then
		git -C "$tree" am --abort >/dev/null 2>&1 || :
		printf '%s\n' "$out" | grep -E '^error:' >&2 || printf '%s\n' "$out" >&2
		file=$(printf '%s\n' "$out" | sed -n 's/^error: patch failed: \(.*\):[0-9]*$/\1/p' | head -n 1)
		die "$patch does not apply without fuzz${file:+, at $file}, to linux $(make -s -C "$tree" kernelversion)"
	fi
done
say "apply: $n patches, branch $branch"
