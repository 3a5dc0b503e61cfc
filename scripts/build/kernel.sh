#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
#   kernel.sh stock|stock-rig|exclusive|debug|debian|debian-rt
#
# Configure and build one of the rig's kernels: the unpatched one (which guests run;
# with what works round the emulators, the stock host does), the patched one, the
# patched one with lockdep and KASAN, and with Debian's own configuration, also that of its
# PREEMPT_RT kernel, as a user would build it.  The builds are reproducible, the
# compiler's results are kept by ccache, and finished images are kept in the cache
# by what went into them, so that a fresh clone builds little.
set -eu
TOP=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"
need ccache git make gcc

flavour=$1
fragments="$TOP/Kconfig.fragment $TOP/scripts/rig/rig.config"
src=$SRC
# What may be missing from the result: the unpatched tree lacks the feature.
may_lack='^$'
# A configuration to begin with.
base=
targets="bzImage modules"
case $flavour in
stock)
	src=$STOCK_SRC
	obj=$STOCK_OBJ
	may_lack='^CONFIG_KVM_EXCLUSIVE'
	;;
stock-rig)
	src=$STOCK_RIG_SRC
	obj=$STOCK_RIG_OBJ
	may_lack='^CONFIG_KVM_EXCLUSIVE'
	if ! git -C "$src" rev-parse -q --verify HEAD >/dev/null 2>&1; then
		mkdir -p "${src%/*}"
		git -C "$SRC" worktree prune
		git -C "$SRC" worktree add -q --detach "$src" base
	fi
	# A commit is made of what is in it: the same patches give the same commit.
	"$TOP/scripts/build/rig-branch.sh" "$src" stock-rig base
	;;
exclusive)
	obj=$OBJ
	;;
debug)
	obj=$DEBUG_OBJ
	fragments="$fragments $TOP/scripts/rig/debug.config"
	;;
debian)
	obj=$DEBIAN_OBJ
	base=/usr/src/linux-config-6.12/config.amd64_none_amd64.xz
	;;
debian-rt)
	obj=$DEBIAN_RT_OBJ
	base=/usr/src/linux-config-6.12/config.amd64_rt_amd64.xz
	;;
*)
	die "no such kernel: $flavour"
	;;
esac
image=$obj/arch/x86/boot/bzImage
if [ -n "$base" ]; then
	[ -r "$base" ] || die "no $base; \"make deps\" installs it"
	fragments="$TOP/Kconfig.fragment $TOP/scripts/rig/debian.config"
	targets=bzImage
fi

export CCACHE_DIR="$CACHE/ccache" CCACHE_BASEDIR="$BUILD" CCACHE_NOHASHDIR=1
export CCACHE_COMPILERCHECK=content CCACHE_SLOPPINESS=time_macros CCACHE_MAXSIZE=8G
export KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 1970' KBUILD_BUILD_VERSION=1
export KBUILD_BUILD_USER=kvm-exclusive KBUILD_BUILD_HOST=rig
# Nothing of the make that called this, its job server least of all.
unset MAKEFLAGS MFLAGS MAKELEVEL O

# shellcheck disable=SC2086 # a list of files
config_hash=$(cat $fragments $base "$TOP/scripts/build/kernel.sh" | sha256sum | cut -d ' ' -f 1)
tree=$(git -C "$src" rev-parse 'HEAD^{tree}')
key=$(echo "$tree $config_hash $(gcc --version | head -n 1) $(ld --version | head -n 1)" |
	sha256sum | cut -c 1-32)
if [ -n "$(git -C "$src" status --porcelain --untracked-files=normal | head -n 1)" ]; then
	# Work in progress: let make find out what changed.
	key=
fi
kept=$CACHE/kernels/$key

if [ -n "$key" ] && [ -f "$image" ] && [ "$(cat "$obj/.kvm-exclusive-key" 2>/dev/null)" = "$key" ]; then
	exit 0
fi
# The unpatched kernel is only booted; the image is all that is needed.
if [ -n "$key" ] && [ "${flavour%-rig}" = stock ] && [ -f "$kept/bzImage" ]; then
	mkdir -p "${image%/*}"
	cp "$kept/bzImage" "$image"
	cp "$kept/System.map" "$obj/"
	cp "$kept/config" "$obj/.config"
	echo "$key" >"$obj/.kvm-exclusive-key"
	say "kernel-$flavour: taken from the cache"
	exit 0
fi

kmake() {
	make -s -C "$src" O="$obj" CC="ccache gcc" HOSTCC="ccache gcc" "$@"
}

# symbols FILE...: what these ask for, or do not want.
symbols() {
	sed -n 's/^CONFIG_\([A-Za-z0-9_]*\)=.*/\1/p; s/^# CONFIG_\([A-Za-z0-9_]*\) is not set/\1/p' "$@"
}

# What is different from Debian's own configuration, and nobody has asked for.
differences() {
	xz -dc "$base" >"$obj/.config.debian"
	kmake KCONFIG_CONFIG="$obj/.config.debian" olddefconfig >/dev/null
	"$src/scripts/diffconfig" "$obj/.config.debian" "$obj/.config" >"$obj/.config.diff"
	# shellcheck disable=SC2086 # a list of files
	{
		symbols $fragments
		git -C "$src" diff base -- '*Kconfig*' | sed -n 's/^+config //p'
	} | sed 's/.*/^[-+ ]&( |$)/' >"$obj/.config.asked"
	grep -vE -f "$obj/.config.asked" "$obj/.config.diff"
}

mkdir -p "$obj"
if [ "$(cat "$obj/.kvm-exclusive-config" 2>/dev/null)" != "$config_hash" ] || [ ! -f "$obj/.config" ]; then
	if [ -n "$base" ]; then
		xz -dc "$base" >"$obj/.config"
	else
		kmake tinyconfig >/dev/null
	fi
	# shellcheck disable=SC2086 # a list of files
	(cd "$src" && ./scripts/kconfig/merge_config.sh -m -O "$obj" "$obj/.config" $fragments >/dev/null)
fi
kmake olddefconfig >/dev/null

lost=
# shellcheck disable=SC2086 # a list of files
# shellcheck disable=SC2086,SC2013 # a list of files; words without blanks
for want in $(sed -n 's/^\(CONFIG_[A-Za-z0-9_]*=[^ ]*\).*/\1/p' $fragments); do
	symbol=${want%%=*}
	# A later fragment may override an earlier one; the last word counts.
	# shellcheck disable=SC2086 # a list of files
	want=$(sed -n "s/^\($symbol=.*\)/\1/p; s/^# $symbol is not set/$symbol=n/p" $fragments | tail -n 1)
	case $want in
	*=n) grep -q "^$symbol=" "$obj/.config" || continue ;;
	*) grep -qxF -- "$want" "$obj/.config" && continue ;;
	esac
	echo "$symbol" | grep -qE "$may_lack" || lost="$lost $want"
done
[ -z "$lost" ] || die "kernel-$flavour: did not survive the merge:$lost"
if [ -n "$base" ] && differences; then
	die "kernel-$flavour: that is different from Debian's configuration, and not asked for"
fi
echo "$config_hash" >"$obj/.kvm-exclusive-config"

# With names on, the log's last line says how far it is.
# shellcheck disable=SC2086 # a list of targets
run_logged "kernel-$flavour" make -C "$src" O="$obj" CC="ccache gcc" HOSTCC="ccache gcc" \
	-j "$JOBS" $targets
if [ -n "$base" ]; then
	# Debian's has four thousand.
	modules=$(modules_of "$obj" | sed 's/$/.ko/')
	# shellcheck disable=SC2086 # a list of files
	run_logged "kernel-$flavour-modules" make -C "$src" O="$obj" CC="ccache gcc" \
		HOSTCC="ccache gcc" -j "$JOBS" $modules
fi

if [ -n "$key" ]; then
	echo "$key" >"$obj/.kvm-exclusive-key"
	mkdir -p "$kept"
	cp "$image" "$obj/System.map" "$obj/Module.symvers" "$kept/"
	cp "$obj/.config" "$kept/config"
fi
