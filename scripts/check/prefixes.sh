#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Compile the kernel after each patch of the series, with KVM's vendor modules as
# modules, and with the option both on and off: a series must be bisectable.
set -eu
TOP=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"

tree=$BUILD/check/linux
if ! git -C "$tree" rev-parse -q --verify HEAD >/dev/null 2>&1; then
	mkdir -p "$BUILD/check"
	git -C "$SRC" worktree prune
	git -C "$SRC" worktree add -q --detach "$tree" base
fi
git -C "$tree" reset -q --hard
"$TOP/scripts/build/am.sh" "$tree" check
export CCACHE_DIR="$CACHE/ccache" CCACHE_BASEDIR="$BUILD" CCACHE_NOHASHDIR=1 CCACHE_COMPILERCHECK=content
unset MAKEFLAGS MFLAGS MAKELEVEL O

for commit in $(git -C "$tree" rev-list --reverse base..check); do
	git -C "$tree" checkout -q "$commit"
	subject=$(git -C "$tree" log -1 --format=%s)
	for option in y n; do
		obj=$BUILD/check/obj-$option
		mkdir -p "$obj"
		fragment=$BUILD/check/$option.config
		printf 'CONFIG_KVM=m\nCONFIG_KVM_AMD=m\nCONFIG_KVM_INTEL=m\nCONFIG_KVM_EXCLUSIVE=%s\n' "$option" >"$fragment"
		make -s -C "$tree" O="$obj" tinyconfig >/dev/null
		(cd "$tree" && ./scripts/kconfig/merge_config.sh -m -O "$obj" "$obj/.config" \
			"$TOP/Kconfig.fragment" "$TOP/scripts/rig/rig.config" "$fragment" >/dev/null)
		make -s -C "$tree" O="$obj" olddefconfig >/dev/null
		say "prefix up to \"$subject\", KVM_EXCLUSIVE=$option"
		run_logged "prefix-$option" make -s -C "$tree" O="$obj" CC="ccache gcc" HOSTCC="ccache gcc" \
			-j "$JOBS" KCFLAGS=-Werror vmlinux modules || die "does not compile: $subject (KVM_EXCLUSIVE=$option)"
	done
done
