#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Run the group silicon of kselftests/tests in Bochs while it does what the manuals permit, at
# its worst, and see that every boundary between the instructions of the entry path was
# interrupted.  "The adversary" in Documentation/testing.md says what is done and what that
# cannot show.
#
#   silicon.sh           seeds 1 to 4, on intel and amd-bochs side by side
#   silicon.sh mutants   see that planted bugs are found: scripts/silicon/mutants/*.patch
#
#   SEED=N                 this seed alone, what has failed from the same disk; the reports
#                          of other seeds' runs stay
#   SEEDS="N..."           these seeds
#   PLATFORM=NAME          intel or amd-bochs alone
#   SILICON=KEY=VALUE,...  other keys of BOCHS_ADVERSARY; a range is SYMBOL or
#                          SYMBOL-SYMBOL, and replaces all of the default's
#   SILICON_SECONDS=S      no seed begins that would not end by then, which fails (default: 1140)
#   MUTANT=NAME            of the planted bugs this one
#   FLAVOUR=stock          the unpatched kernel, where what fails is the adversary's fault
#
# Written are build/report/silicon.txt and silicon.json (silicon-mutants.json), and for each
# run build/report/silicon/SEED-PLATFORM/.  The status is 0 only when all passed.
set -eu
TOP=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"
need python3 nm

flavour=${FLAVOUR:-exclusive}
platforms=$(say "${PLATFORM:-intel amd-bochs}" | tr ',' ' ')
seeds=${SEED:-${SEEDS:-1 2 3 4}}
limit=${SILICON_SECONDS:-1140}
list=${TEST_LIST:-silicon}
runs=$REPORT/silicon
kept=$BUILD/silicon
judge=$TOP/scripts/silicon/coverage.py
again=
[ -z "${SEED:-}" ] || again=1
for platform in $platforms; do
	case $platform in
	intel | amd-bochs) ;;
	*) die "no Bochs on the platform $platform" ;;
	esac
done
seed=
for seed in $seeds; do
	case $seed in
	*[!0-9]* | 0?*) die "a seed is a number: $seed" ;;
	esac
done
[ -n "$seed" ] || die "no seed"

# silicon_run SEED PLATFORM: one run, kept in $runs; true when it passed.
silicon_run() {
	sr_run=$runs/$1-$2
	sr_name=$2-$flavour-silicon-$1
	sr_disk=$kept/$1-$2-$flavour.img
	sr_start=$(date +%s)
	rm -rf "$sr_run"
	mkdir -p "$sr_run" "$kept"
	"$judge" ranges "$2" "${SILICON:-}" >"$sr_run/ranges"
	"$judge" keys "$vmlinux" "$2" "$1" "${SILICON:-}" >"$sr_run/keys"
	# Another kernel, emulator or test is another run, and so is what runs the tests.
	sr_key=$({
		"$TOP/scripts/results.py" tests "$list"
		cat "${KERNEL:-$(host_image "$flavour" "$2")}" "$BOCHS" "$RIG_INITRAMFS" \
			"$BUILD"/module/*.ko "$BUILD"/kselftests/*_test "$TOP"/scripts/test/host/*.sh
	} | sha256sum)
	sr_data=
	if [ -n "$again" ] && [ -f "$sr_disk" ] && [ "$(cat "$sr_disk.key")" = "$sr_key" ]; then
		sr_data=$sr_disk
	fi
	# The pure logic has been tested elsewhere. What the adversary does while the kernel
	# measures the frequency of Bochs' APIC can spoil it, and the timer would not be direct.
	case $flavour in
	stock) sr_append=KVM_EXCL_STOCK=1 ;;
	*) sr_append=kvm.exclusive_lapic_hz=25000000 ;;
	esac
	# A CPU that stands still keeps an INIT for later, and SIPIs that come before are lost:
	# Linux sends them at once.  No single CPU of a real machine is in SMM that long.
	sr_append="cpu_init_udelay=10000 kunit.enable=0 $sr_append ${APPEND:-}"
	sr_status=0
	follow "silicon-$1-$2" env PLATFORM="$2" FLAVOUR="$flavour" CONTROL=0 TEST_LIST="$list" TEST_PART="$sr_name" \
		BOCHS_ADVERSARY="$(cat "$sr_run/keys")" APPEND="$sr_append" RIG_DATA="$sr_data" \
		"$TOP/scripts/test/groups.sh" || sr_status=$?
	cp -r "$REPORT/test-$sr_name/." "$sr_run/" 2>/dev/null || :
	for sr_file in coverage bochs.log; do
		cp "$BUILD/rig-test-$sr_name/host/$sr_file" "$sr_run/" 2>/dev/null || :
	done
	if [ "$sr_status" -ne 0 ] && [ -z "$sr_data" ] &&
		mv "$BUILD/rig-test-$sr_name/host/data.img" "$sr_disk" 2>/dev/null; then
		echo "$sr_key" >"$sr_disk.key"
	elif [ "$sr_status" -eq 0 ]; then
		rm -f "$sr_disk" "$sr_disk.key"
	fi
	rm -rf "$BUILD/rig-test-$sr_name" "$BUILD/payload-test-$sr_name" "$REPORT/test-$sr_name"
	echo "$sr_status $(($(date +%s) - sr_start))" >"$sr_run/status"
	say "silicon: seed $1 $2: $(tail -n 1 "$LOGS/silicon-$1-$2.log")"
	return "$sr_status"
}

# all_seeds PLATFORM: one after the other, while there is time.  One that there is none for
# has not shown what it was asked for.
all_seeds() {
	as_longest=0
	for seed in $seeds; do
		as_begin=$(date +%s)
		if [ $((as_begin - start + as_longest)) -gt "$limit" ]; then
			say "silicon: no time left for seed $seed on $1"
			mkdir -p "$runs/$seed-$1"
			result fail silicon \
				"seed $seed on $1 did not run: no time left of SILICON_SECONDS=$limit" \
				>"$runs/$seed-$1/results.jsonl"
			continue
		fi
		silicon_run "$seed" "$1" || :
		as_took=$(($(date +%s) - as_begin))
		[ "$as_took" -le "$as_longest" ] || as_longest=$as_took
	done
}

# mutant_kernel: the patched kernel with what is planted in MUTANT_SRC.
mutant_kernel() {
	mkdir -p "$MUTANT_OBJ"
	cmp -s "$OBJ/.config" "$MUTANT_OBJ/.config" || cp "$OBJ/.config" "$MUTANT_OBJ/.config"
	# As kernel.sh has it, so that the compiler's results are found again.
	(unset MAKEFLAGS MFLAGS MAKELEVEL O
	export CCACHE_DIR="$CACHE/ccache" CCACHE_BASEDIR="$BUILD" CCACHE_NOHASHDIR=1
	export CCACHE_COMPILERCHECK=content CCACHE_SLOPPINESS=time_macros CCACHE_MAXSIZE=8G
	export KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 1970' KBUILD_BUILD_VERSION=1
	export KBUILD_BUILD_USER=kvm-exclusive KBUILD_BUILD_HOST=rig
	follow kernel-mutant make -C "$MUTANT_SRC" O="$MUTANT_OBJ" CC="ccache gcc" HOSTCC="ccache gcc" \
		-j "$JOBS" bzImage)
}

# mutants: each has lines "Platform:", "Tests:" and perhaps "Keys:" in its head.  Instead of
# "Tests:", which are of the group silicon, it may have "List:", lines as kselftests/tests has.
mutants() {
	src=$MUTANT_SRC
	if ! git -C "$src" rev-parse -q --verify HEAD >/dev/null 2>&1; then
		mkdir -p "${src%/*}"
		git -C "$SRC" worktree prune
		git -C "$SRC" worktree add -q --detach "$src" rig
	fi
	list_of=$TOP/scripts/silicon/mutants
	[ -z "${MUTANT:-}" ] || [ -f "$list_of/$MUTANT.patch" ] ||
		die "no such mutant: $MUTANT; there are $(cd "$list_of" && echo *.patch | sed 's/\.patch//g')"
	results=$REPORT/silicon-mutants.results
	: >"$results"
	for patch in "$list_of"/${MUTANT:-*}.patch; do
		mutant=${patch##*/}
		mutant=${mutant%.patch}
		# What did not change keeps its time, so that little is built.
		git -C "$src" checkout -q -f --detach rig
		git -C "$src" apply "$patch" || die "the mutant $mutant does not apply"
		mutant_kernel
		platform=$(sed -n 's/^Platform: //p' "$patch")
		# What is to find it.
		list=$REPORT/silicon-mutant.list
		sed -n 's/^List: //p' "$patch" >"$list"
		[ -s "$list" ] || "$TOP/scripts/results.py" tests silicon |
			grep -E "^($(sed -n 's/^Tests: //p' "$patch" | tr ' ' '|')) " >"$list"
		SILICON=$(sed -n 's/^Keys: //p' "$patch")
		vmlinux=$MUTANT_OBJ/vmlinux
		KERNEL=$MUTANT_OBJ/arch/x86/boot/bzImage
		export KERNEL
		found=
		m_start=$(date +%s)
		for seed in $seeds; do
			silicon_run "$seed" "$platform" && continue
			found=$seed
			break
		done
		echo "$mutant $platform ${found:-none} $(($(date +%s) - m_start))" >>"$results"
		rm -rf "$runs/mutant-$mutant"
		mv "$runs/$seed-$platform" "$runs/mutant-$mutant"
	done
	git -C "$src" checkout -q -f --detach rig
	"$judge" mutants "$REPORT/silicon-mutants.json" "$results" "$runs"
}

case $flavour in
stock) vmlinux=- ;; # no ranges
*)
	vmlinux=$(host_image "$flavour" intel)
	vmlinux=${vmlinux%/arch/x86/boot/bzImage}/vmlinux
	[ -r "$vmlinux" ] || die "no kernel at $vmlinux"
	;;
esac
mkdir -p "$runs"
start=$(date +%s)
case ${1:-} in
'') ;;
mutants)
	mutants
	exit
	;;
*) die "usage: silicon.sh [mutants]" ;;
esac

say "silicon: seeds $seeds on $platforms"
# One that is run again leaves the others' reports.
for seed in $seeds; do
	for platform in $platforms; do
		rm -rf "$runs/$seed-$platform"
	done
done
[ -n "$again" ] || rm -rf "$runs"
mkdir -p "$runs"
pids=
# shellcheck disable=SC2086 # a list of processes
trap '[ -z "$pids" ] || kill -TERM $pids 2>/dev/null || :; exit 130' INT TERM HUP
for platform in $platforms; do
	all_seeds "$platform" &
	pids="$pids $!"
done
wait
trap - INT TERM HUP
status=0
"$judge" report "$REPORT/silicon.json" "$vmlinux" "$platforms" "$seeds" "$runs" >"$REPORT/silicon.txt" ||
	status=$?
cat "$REPORT/silicon.txt"
exit "$status"
