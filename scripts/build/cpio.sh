#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
#   cpio.sh DIR FILE
#
# Write what is in DIR as an initramfs, with the devices that PID 1 needs before there is
# devtmpfs.  The kernel tree's gen_init_cpio makes them without being root.
set -eu
TOP=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"

dir=$1
file=$2
generator=$BUILD/gen_init_cpio
source=$SRC/usr/gen_init_cpio.c
if ! cmp -s "$source" "$generator.c"; then
	need gcc
	gcc -O2 -o "$generator.$$" "$source"
	mv "$generator.$$" "$generator"
	cp "$source" "$generator.c"
fi
{
	echo "dir /dev 0755 0 0"
	echo "nod /dev/console 0600 0 0 c 5 1"
	echo "nod /dev/null 0666 0 0 c 1 3"
	(cd "$dir" && find . -mindepth 1 \( -type d -printf 'dir /%P %m 0 0\n' \) -o \
		\( -type l -printf 'slink /%P %l 0777 0 0\n' \) -o \
		\( -type f -printf "file /%P $dir/%P %m 0 0\n" \)) | LC_ALL=C sort -k 2,2
} | "$generator" -t 0 - >"$file.$$"
mv "$file.$$" "$file"
