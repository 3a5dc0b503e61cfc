#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# One HTML page of whatever reports there are, build/report/index.html, and a browser's
# picture of it, index.png.
set -eu
TOP=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"

[ -d "$REPORT" ] || die "no reports yet; \"make demo\" and \"make test\" leave some"
"$TOP/scripts/results.py" report "$TOP" "$REPORT" "$REPORT/index.html" "$REPORT/index.png"
say "Saved as ${REPORT#"$TOP"/}/index.html; its picture is index.png"
