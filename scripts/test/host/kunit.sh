#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
#   kunit.sh SUITE
#
# Say how a KUnit suite ended that ran when the kernel booted.  One that is not
# there has failed: the kernel was built without it, or did not get to it.
results=/sys/kernel/debug/kunit/$1/results

cat "$results" || exit 1
grep -qE "^ok [0-9]+ $1\$" "$results"
