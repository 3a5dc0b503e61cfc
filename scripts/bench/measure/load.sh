#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# One exchange with the guest's init over its control pipe:
#
#   load.sh PIPE SECONDS ANSWER [REQUEST...]
#
# Sends REQUEST (if any), then reads lines until one starts with ANSWER and prints
# it.  Fails when that takes longer than SECONDS.  PIPE.in and PIPE.out are the
# two ends of a QEMU chardev of type pipe; both stay open in QEMU, so opening
# them anew for each exchange loses nothing.
set -eu

pipe=$1
seconds=$2
answer=$3
shift 3

[ $# -eq 0 ] || echo "$*" >"$pipe.in"
exec 7<>"$pipe.out"
end=$((SECONDS + seconds))
while [ $SECONDS -lt $end ] && read -r -t $((end - SECONDS)) line <&7; do
	case $line in
	"$answer"*)
		printf '%s\n' "$line"
		exit 0
		;;
	esac
done
echo "no \"$answer\" from the guest within $seconds s" >&2
exit 1
