#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# "make host": a host that does real work.  fio verifies what it writes to disks with a
# queue for each CPU, and iperf3 sends through a network card of several queues, part of
# both on CPUs that come and go, through so many claims and releases; then the tests of
# what a working host needs (the group host).  Two NUMA nodes; the platform is amd.
# Saved as build/report/host.json and host.txt.
#
#   HOST_CLAIMS=N   claims (default: 1000)
#   FLAVOUR=debug   on the debug kernel
set -eu
TOP=$(cd "$(dirname "$0")/../../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"

status=0
TEST_LIST=host TEST_AT=${HOST_CLAIMS:-1000} TEST_HOSTS=disks TEST_PART=host CONTROL=0 PLATFORM=amd \
	"$TOP/scripts/test/groups.sh" || status=$?
"$TOP/scripts/results.py" host "$REPORT/test-host" "$REPORT/host.json" >"$REPORT/host.txt" || status=1
cat "$REPORT/host.txt"
exit "$status"
