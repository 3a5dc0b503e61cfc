#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Install what building and testing need on Debian 12 or 13; with "judge" what judges the
# samples of "make quiet", with "report" what draws "make report".  Does nothing, and needs neither root nor a network, when all of it is there.
set -eu
TOP=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"

packages="build-essential bc bison flex libelf-dev libssl-dev git cpio gzip xz-utils
	kmod rsync perl python3 ccache mmdebstrap util-linux procps
	debian-archive-keyring libjson-c-dev sparse shellcheck
	python3-ply python3-git e2fsprogs isolinux syslinux-common xorriso
	linux-config-6.12 pahole"
# With a tree of one's own the packaged source is not needed.
[ -n "${KSRC:-}" ] || packages="$packages linux-source-6.12"

case ${1:-} in
judge) packages="python3-scipy" ;;
report) packages="python3-matplotlib fonts-dejavu-core chromium" ;;
esac

missing=
for package in $packages; do
	# shellcheck disable=SC2016 # a format of dpkg's
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
		missing="$missing $package"
done
[ -n "$missing" ] || exit 0
[ "$(id -u)" -eq 0 ] || die "needs root to install:$missing"

export DEBIAN_FRONTEND=noninteractive
run_logged apt-update apt-get update
# shellcheck disable=SC2086 # a list of words
run_logged apt-install apt-get install -y --no-install-recommends $missing
