#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
#   args.sh TARGET
#
# See that what "make TARGET" is asked for is there, before anything is built for it.  It
# runs before "make deps" and needs no more than every Debian has.
set -eu
TOP=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"

target=$1

wrong() {
	say "make $target: $*" >&2
	exit 1
}

# each_of NAME CHOICE...: each word of this variable is one of these.
each_of() {
	eo_name=$1
	shift
	eo_value=
	eo_word=
	eval "eo_value=\${$eo_name:-}"
	for eo_word in $(say "$eo_value" | tr ',' ' '); do
		case " $* " in
		*" $eo_word "*) ;;
		*) wrong "$eo_name=$eo_value: there is no $eo_word, but $*" ;;
		esac
	done
}

# one_of NAME CHOICE...: the same, and there is one word or none.
one_of() {
	each_of "$@"
	[ "$eo_value" = "$eo_word" ] || wrong "$eo_name=$eo_value: one alone"
}

# numbers NAME: each word of this one is a number.
numbers() {
	n_value=
	eval "n_value=\${$1:-}"
	case $n_value in
	*[!0-9\ ]* | 0?* | *\ 0?*) wrong "$1=$n_value: numbers, with blanks between them" ;;
	esac
}

case $target in
test | test-full | soak)
	# The parts of the others say which kernel is theirs.
	case $target in
	test) one_of FLAVOUR exclusive debug stock debian debian-rt ;;
	*) one_of FLAVOUR exclusive ;;
	esac
	numbers SEED
	numbers SEEDS
	tier=${target#test-}
	"$TOP/scripts/test/tiers.sh" "$tier" args
	;;
test-debug)
	one_of PLATFORM amd intel amd-bochs
	;;
demo)
	case ${PLATFORM:-amd} in
	amd) ;;
	intel) [ -z "${DEVICES:-}" ] || wrong "DEVICES=1 needs PLATFORM=amd: Bochs has no IOMMU" ;;
	*) wrong "PLATFORM=$PLATFORM: it runs on amd or intel" ;;
	esac
	;;
host)
	one_of PLATFORM amd
	one_of FLAVOUR exclusive debug
	numbers HOST_CLAIMS
	;;
quiet)
	one_of PLATFORM amd
	each_of QUIET 1 2 3 4 5 6
	;;
# Point 6 compares with the stock kernel, which is no debug kernel.
quiet-debug)
	one_of PLATFORM amd
	each_of QUIET 1 2 3 4 5
	;;
latency)
	one_of PLATFORM intel amd-bochs
	;;
silicon | silicon-mutants)
	one_of FLAVOUR exclusive debug stock
	each_of PLATFORM intel amd-bochs
	numbers SEED
	numbers SEEDS
	# shellcheck disable=SC2046 # names without blanks
	[ "$target" = silicon ] ||
		one_of MUTANT $(cd "$TOP/scripts/silicon/mutants" && echo *.patch | sed 's/\.patch//g')
	;;
*)
	die "no such target: $target"
	;;
esac
