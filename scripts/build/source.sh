#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Unpack the kernel the series is for: the newest linux-source-6.12 of the
# machine's package sources, or a copy of the tree in KSRC.  It becomes a git
# repository whose branch "base" is the pristine tree, and a second worktree on
# branch "stock" for the unpatched kernel.
set -eu
TOP=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"
need git tar xz

if [ -n "${KSRC:-}" ]; then
	[ -f "$KSRC/Kbuild" ] || die "KSRC=$KSRC is no kernel tree"
	KSRC=$(cd "$KSRC" && pwd)
	id="tree $KSRC $(git -C "$KSRC" rev-parse HEAD 2>/dev/null || :)"
else
	tarball=/usr/src/linux-source-6.12.tar.xz
	[ -r "$tarball" ] || die "$tarball is missing; \"make deps\" installs it"
	# shellcheck disable=SC2016 # a format of dpkg's
	id="linux-source-6.12 $(dpkg-query -W -f '${Version}' linux-source-6.12)"
fi

have=$(cat "$BUILD/.base" 2>/dev/null || :)
if git -C "$SRC" rev-parse -q --verify base >/dev/null 2>&1; then
	# A branch that somebody works on is not replaced because a package came in.
	if [ -z "$have" ] || [ "$have" = "$id" ]; then
		printf '%s\n' "$id" >"$BUILD/.base"
		exit 0
	fi
	say "the base would change from \"$have\" to \"$id\":"
	die "\"make clean-source\" removes the unpacked trees (and a branch in them) first"
fi

unpack() {
	rm -rf "$SRC" "$STOCK_SRC"
	mkdir -p "$SRC"
	if [ -n "${KSRC:-}" ] && [ -e "$KSRC/.git" ]; then
		# What is committed there, without what a build left behind.
		git -C "$KSRC" archive HEAD | tar -x -C "$SRC"
	elif [ -n "${KSRC:-}" ]; then
		tar -C "$KSRC" --exclude=./.git -c . | tar -x -C "$SRC"
		make -s -C "$SRC" mrproper
	else
		tar -x -J --strip-components=1 -C "$SRC" -f "$tarball"
	fi
}

say "source: unpacking $id"
unpack
version=$(make -s -C "$SRC" kernelversion)
case $version in
6.12 | 6.12.*) ;;
*) die "this is $version, the series is for 6.12" ;;
esac

# The same tree gives the same commit, whoever commits it and when.
GIT_AUTHOR_DATE="1970-01-01T00:00:00Z"
GIT_COMMITTER_DATE=$GIT_AUTHOR_DATE
export GIT_AUTHOR_DATE GIT_COMMITTER_DATE
git -C "$SRC" init -q -b base
git -C "$SRC" config gc.auto 0
git -C "$SRC" add -A -f
git -C "$SRC" commit -q -m "linux $version"
git -C "$SRC" worktree prune
git -C "$SRC" worktree add -q -B stock "$STOCK_SRC" base
printf '%s\n' "$id" >"$BUILD/.base"
say "source: linux $version, branch base in ${SRC#"$TOP"/}"
