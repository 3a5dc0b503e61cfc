#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Boot an emulated host, run one command in it as root, and return its verdict as
# the exit status: 0 passed, 1 failed, 124 ran into the time limit.
#
#   run.sh [OPTIONS] -- COMMAND [ARGS...]
#
#   --platform NAME   scripts/rig/NAME.sh: amd, intel or amd-bochs (default: PLATFORM, else amd)
#   --iommu KIND      intel, amd or none (default: intel); platform amd alone
#   --kernel FILE     bzImage of the emulated host
#   --append ARGS     more for its kernel command line
#   --no-panic-on-warn  let it live on after a warning (it still fails)
#   --allow-splat     do not search its log for warnings
#   --timeout S       hard limit in seconds (default: 600)
#   --cpus N          default: 4
#   --mem M           MiB, default: 2048
#   --nodes N         NUMA nodes, which CPUs and memory are spread over (default: 1);
#                     platform amd alone
#   --share DIR       seen in the host as /mnt/share, read-only
#   --out DIR         seen in the host as /mnt/out, writable; console.log, output.log
#                     and verdict are left there
#   --quiet           no progress lines
#   --device ARGS     one more -device for the emulated host (may be repeated);
#                     platform amd alone
#   --netdev ARGS, --drive ARGS   the same for -netdev and -drive
#   --icount          one thread for all CPUs and a clock that counts instructions: its
#                     time stamp counter goes up by one with each (Bochs is always so)
#
# COMMAND is run in /mnt/share, inside the root file system that "make rootfs" made.
#
# A platform is a file of shell functions:
#
#   platform_prepare  check and make what the emulator needs
#   platform_start    become the emulator (run in a subshell, ends in exec)
#   platform_dead     true when the host will not go on, though the emulator runs
#   platform_collect  bring verdict and results to $out after the end
#   platform_wrong    print what the emulator says is wrong; true when there is something
set -eu
TOP=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"

platform=${PLATFORM:-amd}
RIG_IOMMU=intel
kernel=$OBJ/arch/x86/boot/bzImage
append=
warn="panic_on_warn=1"
allow_splat=
limit=600
cpus=4
mem=2048
RIG_NODES=1
share=$TOP/scripts
out=$BUILD/rig
quiet=
devices=
RIG_ICOUNT=

while [ $# -gt 0 ]; do
	case $1 in
	--platform) platform=$2; shift 2 ;;
	--iommu) RIG_IOMMU=$2; shift 2 ;;
	--kernel) kernel=$2; shift 2 ;;
	--append) append=$2; shift 2 ;;
	--no-panic-on-warn) warn=; shift ;;
	--allow-splat) allow_splat=1; shift ;;
	--timeout) limit=$2; shift 2 ;;
	--cpus) cpus=$2; shift 2 ;;
	--mem) mem=$2; shift 2 ;;
	--nodes) RIG_NODES=$2; shift 2 ;;
	--share) share=$2; shift 2 ;;
	--out) out=$2; shift 2 ;;
	--quiet) quiet=1; shift ;;
	--device) devices="$devices -device $2"; shift 2 ;;
	--netdev) devices="$devices -netdev $2"; shift 2 ;;
	--drive) devices="$devices -drive $2"; shift 2 ;;
	--icount) RIG_ICOUNT=1; shift ;;
	--) shift; break ;;
	*) die "unknown option $1" ;;
	esac
done
[ $# -gt 0 ] || die "no command"
[ -r "$kernel" ] || die "no kernel at $kernel"
[ -r "$RIG_INITRAMFS" ] || die "no $RIG_INITRAMFS; \"make initramfs\" builds it"
[ -r "$TOP/scripts/rig/$platform.sh" ] || die "no such platform: $platform"
mkdir -p "$out"
out=$(cd "$out" && pwd)
share=$(cd "$share" && pwd)
console=$out/console.log
rm -f "$console" "$out/output.log" "$out/emulator.log"
: >"$out/output.log"
echo "FAIL: no verdict" >"$out/verdict"

# The command, quoted so that it arrives word for word.
{
	echo "cd /mnt/share && exec \\"
	for word; do
		printf "'%s' " "$(printf '%s' "$word" | sed "s/'/'\\\\''/g")"
	done
	echo
} >"$out/.rig-command"

# Two guards against a stray emulator: the time limit, and a signal to it when its
# parent dies for whatever reason.
kill_after=10
# shellcheck disable=SC2317 # called by toolbox_by
bounded() {
	exec setpriv --pdeathsig TERM timeout -k "$kill_after" "$limit" setpriv --pdeathsig KILL "$@"
}

toolbox() {
	toolbox_by bounded "$@"
}

append="console=ttyS0,115200 rdinit=/init kvm_excl_platform=$platform $warn $append"
# shellcheck source=scripts/rig/amd.sh
. "$TOP/scripts/rig/$platform.sh"
platform_prepare

start=$(date +%s)
platform_start >"$out/emulator.log" 2>&1 </dev/null &
pid=$!
trap 'kill -TERM "$pid" 2>/dev/null || :; wait "$pid" || :; platform_collect; exit 130' INT TERM HUP

next=30
while kill -0 "$pid" 2>/dev/null; do
	sleep 0.5
	if platform_dead; then
		# Let it write its last lines.
		sleep 2
		kill -TERM "$pid" 2>/dev/null || :
		break
	fi
	[ -z "$quiet" ] || continue
	[ $(($(date +%s) - start)) -ge "$next" ] || continue
	next=$((next + 30))
	last=$(tail -n 1 "$out/output.log")
	[ -n "$last" ] || last=$(tail -n 1 "$console" 2>/dev/null || :)
	say "rig: $(elapsed "$start")  $(printf '%s' "$last" | tr -d '\r' | cut -c 1-100)"
done
status=0
wait "$pid" || status=$?
trap - INT TERM HUP
platform_collect

# The channel may hold several lines; the last one counts.
verdict=$(tail -n 1 "$out/verdict" | tr -d '\r')
result=1
if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
	verdict="FAIL: no end within $limit seconds"
	result=124
elif [ "$verdict" = PASS ]; then
	result=0
	[ "$status" -eq 0 ] || { result=1; verdict="FAIL: the emulator ended with status $status"; }
fi
if [ -z "$allow_splat" ] && line=$(platform_wrong); then
	verdict="FAIL: emulator: $line"
	result=1
fi
if [ -z "$allow_splat" ] && line=$(splat "$console"); then
	verdict="FAIL: kernel log of the host: $line"
	result=1
fi
echo "$verdict" >>"$out/verdict"

if [ "$result" -ne 0 ]; then
	{
		say "--- last lines of the host's console (${console#"$TOP"/})"
		tail -n 40 "$console" 2>/dev/null || :
		say "--- last lines of the command's output"
		tail -n 20 "$out/output.log"
		grep -v "TCG doesn.t support requested feature" "$out/emulator.log" | tail -n 20 || :
	} >&2
fi
if [ -z "$quiet" ] || [ "$result" -ne 0 ]; then
	say "rig: $verdict ($(elapsed "$start"))"
fi
exit "$result"
