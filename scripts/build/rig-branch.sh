#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
#   rig-branch.sh WORKTREE BRANCH START
#
# In a worktree of the kernel repository, make BRANCH out of START and what works
# round the emulators (scripts/rig/patches), unless it is that already.  What is called
# NAME.exclusive.patch is for the series alone, NAME.stock.patch for the base.
set -eu
TOP=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"

tree=$1
branch=$2
stamp=$BUILD/.branch-$branch
want="$(git -C "$tree" rev-parse "$3") $(cat "$TOP"/scripts/rig/patches/*.patch | sha256sum)"
have=$(cat "$stamp" 2>/dev/null || :)
if [ "$have" = "$want $(git -C "$tree" rev-parse -q --verify "refs/heads/$branch" || :)" ]; then
	[ "$(git -C "$tree" symbolic-ref -q --short HEAD)" = "$branch" ] ||
		git -C "$tree" checkout -q "$branch"
	exit 0
fi

git -C "$tree" checkout -q -B "$branch" "$3"
case $3 in
base) not_for=exclusive ;;
*) not_for=stock ;;
esac
for patch in "$TOP"/scripts/rig/patches/*.patch; do
	case $patch in
	*."$not_for".patch) continue ;;
	esac
	git -C "$tree" -c core.hooksPath=/dev/null am -q --committer-date-is-author-date "$patch" ||
		die "the rig's patch ${patch##*/} does not apply"
done
echo "$want $(git -C "$tree" rev-parse "$branch")" >"$stamp"
