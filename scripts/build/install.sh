#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
#   install.sh KERNEL_BUILD
#
# On a real machine that runs (or will run) a patched kernel: build the module
# against that kernel's headers and install it, the command, its manual page, its
# completion for bash and the UAPI header.  DESTDIR and PREFIX as usual.
set -eu
TOP=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"

obj=$1
prefix=${DESTDIR:-}${PREFIX:-/usr/local}
[ -f "$obj/Module.symvers" ] || die "$obj holds no built kernel; set KERNEL_BUILD"
grep -qs '^CONFIG_KVM_EXCLUSIVE=y' "$obj/.config" ||
	die "the kernel of $obj is not patched or has CONFIG_KVM_EXCLUSIVE off"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
cp -r "$TOP/module/." "$work/"
unset MAKEFLAGS MFLAGS MAKELEVEL O
make -s -C "$obj" M="$work" modules
make -s -C "$obj" M="$work" ${DESTDIR:+INSTALL_MOD_PATH="$DESTDIR"} modules_install
# Apart: the module's object has the name of one of the command's.
make -s -C "$TOP/module/tools" OUTPUT="$work/command" DESTDIR="${DESTDIR:-}" \
	PREFIX="${PREFIX:-/usr/local}" install
install -D -m 644 "$TOP/module/include/uapi/linux/kvm_exclusive.h" "$prefix/include/linux/kvm_exclusive.h"
