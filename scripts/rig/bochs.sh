#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Build the Bochs of the platforms intel and amd-bochs as build/bochs: Debian 13's source
# with the corrections in scripts/rig/bochs/, without debugger, display and plugins.  Each
# patch says what the manual has and Bochs has not; "Bochs" in Documentation/testing.md
# says what the packaged one does without them.
#
# What was built is kept in the cache by what went into it.  Only the first build needs
# the network: the source comes from the mirror that "make rootfs" uses (MIRROR), and
# apt checks it against the archive's signature.
set -eu
TOP=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"

SUITE=trixie
VERSION=3.0+dfsg-1
TARBALL=bochs_3.0+dfsg.orig.tar.xz
SHA256=78f6c73d4a6472d5130a87ab9dc306d02c7c71ed8e25b3a8ef642e2a7acd282b

need gcc g++ make patch tar xz apt-get
key=$({
	cat "$0" "$TOP"/scripts/rig/bochs/*.patch
	g++ --version | head -n 1
} | sha256sum | cut -c 1-32)
kept=$CACHE/bochs/$key/bochs
mkdir -p "$BUILD"
if [ ! -x "$kept" ]; then
	work=$CACHE/bochs/$key.$$
	rm -rf "$work"
	mkdir -p "$work/source"
	trap 'rm -rf "$work"' EXIT
	trap 'exit 130' INT TERM HUP

	tarball=$CACHE/bochs/$TARBALL
	if ! echo "$SHA256  $tarball" | sha256sum --status -c 2>/dev/null; then
		# A package source of its own, so that the machine's are left alone.
		apt=$work/apt
		mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$apt/source"
		echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(debian_mirror) $SUITE main" >"$apt/sources.list"
		cat >"$apt/apt.conf" <<-EOF
			Dir::Etc::SourceList "$apt/sources.list";
			Dir::Etc::SourceParts "/dev/null";
			Dir::State::Lists "$apt/lists";
			Dir::Cache "$apt";
			APT::Sandbox::User "root";
		EOF
		export APT_CONFIG="$apt/apt.conf"
		run_logged bochs-index apt-get update
		(cd "$apt/source" && run_logged bochs-source apt-get source --tar-only "bochs=$VERSION") ||
			die "cannot fetch the source of bochs $VERSION; MIRROR=URL names another Debian mirror"
		unset APT_CONFIG
		echo "$SHA256  $apt/source/$TARBALL" | sha256sum --status -c ||
			die "the mirror's $TARBALL is not the one that the patches are for"
		mv "$apt/source/$TARBALL" "$tarball"
	fi

	tar -x -J --strip-components=1 -C "$work/source" -f "$tarball"
	for patch in "$TOP"/scripts/rig/bochs/*.patch; do
		patch -s -p1 -F0 -d "$work/source" <"$patch" || die "${patch##*/} does not apply"
	done

	# All of the CPU that the models have; of the devices what intel.sh asks for.
	cd "$work/source"
	run_logged bochs-configure env CFLAGS="-O2 -pipe" CXXFLAGS="-O3 -fomit-frame-pointer -pipe" \
		CC="ccache gcc" CXX="ccache g++" ./configure \
		--enable-cpu-level=6 --enable-x86-64 --enable-smp --enable-vmx=2 --enable-svm \
		--enable-fpu --enable-avx --enable-evex --enable-amx --enable-cet --enable-uintr \
		--enable-protection-keys --enable-memtype --enable-monitor-mwait --enable-pci \
		--enable-cdrom --enable-all-optimizations --disable-debugger --disable-debugger-gui \
		--disable-plugins --disable-docbook --disable-xpm --with-nogui
	export CCACHE_DIR="$CACHE/ccache" CCACHE_BASEDIR="$work" CCACHE_NOHASHDIR=1
	run_logged bochs make -j "$JOBS" bochs
	strip bochs
	mkdir -p "${kept%/*}"
	mv bochs "$kept.tmp"
	mv "$kept.tmp" "$kept"
	cd "$TOP"
fi
cmp -s "$kept" "$BOCHS" || {
	# One that is running keeps its file.
	rm -f "$BOCHS"
	cp "$kept" "$BOCHS"
}
