# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# What every script here shares: where things lie, and how a long step is run.
# The caller sets TOP to the root of the repository and then sources this file.
#
# shellcheck disable=SC2034 # the variables are for the scripts that source this

BUILD=$TOP/build
CACHE=${KVM_EXCL_CACHE:-$HOME/.cache/kvm-exclusive}
ROOTFS=$CACHE/rootfs
LOGS=$BUILD/log
REPORT=$BUILD/report

# The branch (and with it the patches) lives in SRC.  The stock tree is laid out
# alike, so that paths relative to build/ are the same length and shape and
# ccache finds what the other tree compiled.
SRC=$BUILD/exclusive/linux
STOCK_SRC=$BUILD/stock/linux
OBJ=$BUILD/exclusive/obj
DEBUG_OBJ=$BUILD/exclusive/obj-debug
DEBIAN_OBJ=$BUILD/exclusive/obj-debian
DEBIAN_RT_OBJ=$BUILD/exclusive/obj-debian-rt
STOCK_OBJ=$BUILD/stock/obj
# The unpatched kernel as a host in Bochs: with what works round the emulators.
STOCK_RIG_SRC=$BUILD/stock-rig/linux
STOCK_RIG_OBJ=$BUILD/stock-rig/obj

# The patched kernel with a planted bug, for "make silicon-mutants".
MUTANT_SRC=$BUILD/mutant/linux
MUTANT_OBJ=$BUILD/mutant/obj

# The emulator of the platforms intel and amd-bochs.
BOCHS=$BUILD/bochs

RIG_INITRAMFS=$BUILD/rig-initramfs.cpio.gz
GUEST_INITRAMFS=$BUILD/guest-initramfs.cpio.gz

JOBS=${JOBS:-$(($(nproc) + 1))}

# toolbox_by COMMAND PROGRAM [ARGS...]: have COMMAND run a program of the rig's root file
# system with that one's own loader and libraries: nothing to mount, so nothing to unmount
# when interrupted.
toolbox_by() {
	tb_command=$1
	tb_program=$ROOTFS$2
	shift 2
	"$tb_command" "$ROOTFS/lib64/ld-linux-x86-64.so.2" \
		--library-path "$ROOTFS/usr/lib/x86_64-linux-gnu:$ROOTFS/lib/x86_64-linux-gnu" \
		"$tb_program" "$@"
}

# Every commit and patch carries the project's own identity, and no setting of
# whoever runs this changes what is generated.
export GIT_AUTHOR_NAME="kvm-exclusive" GIT_AUTHOR_EMAIL="kvm-exclusive@localhost"
export GIT_COMMITTER_NAME="$GIT_AUTHOR_NAME" GIT_COMMITTER_EMAIL="$GIT_AUTHOR_EMAIL"
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null

# host_image FLAVOUR PLATFORM: the emulated host's kernel.
host_image() {
	case $1/$2 in
	stock/*) hi_obj=$STOCK_RIG_OBJ ;;
	exclusive/*) hi_obj=$OBJ ;;
	debug/*) hi_obj=$DEBUG_OBJ ;;
	debian/*) hi_obj=$DEBIAN_OBJ ;;
	debian-rt/*) hi_obj=$DEBIAN_RT_OBJ ;;
	*) die "no such kernel: $1" ;;
	esac
	echo "$hi_obj/arch/x86/boot/bzImage"
}

# modules_of OBJ: of what the rig loads, the paths of what this kernel has as modules.
modules_of() {
	while read -r mo_option mo_path; do
		! grep -q "^$mo_option=m" "$1/.config" || echo "$mo_path"
	done <"$TOP/scripts/rig/modules"
}

say() {
	printf '%s\n' "$*"
}

die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

need() {
	for need_cmd; do
		command -v "$need_cmd" >/dev/null 2>&1 ||
			die "$need_cmd is missing; \"make deps\" installs it"
	done
}

# result RESULT NAME [REASON]: a line of results, as the tests' are.
result() {
	"$TOP/scripts/results.py" result "$@"
}

elapsed() {
	elapsed_s=$(($(date +%s) - $1))
	printf '%d:%02d' $((elapsed_s / 60)) $((elapsed_s % 60))
}

# follow NAME COMMAND [ARGS...]: run a command (not a shell function) in a process
# group of its own with its output in build/log/NAME.log, tell every 30 seconds how far
# it is, and leave nothing behind when interrupted.
follow() {
	f_name=$1
	f_log=$LOGS/$1.log
	shift
	mkdir -p "$LOGS"
	f_start=$(date +%s)
	say "$f_name: started, log in ${f_log#"$TOP"/}"
	setsid "$@" >"$f_log" 2>&1 </dev/null &
	f_pid=$!
	trap 'kill -TERM "-$f_pid" 2>/dev/null || :; exit 130' INT TERM HUP
	f_next=30
	while kill -0 "$f_pid" 2>/dev/null; do
		sleep 1
		[ $(($(date +%s) - f_start)) -ge "$f_next" ] || continue
		f_next=$((f_next + 30))
		say "$f_name: $(elapsed "$f_start")  $(tail -n 1 "$f_log" | tr -d '\r' | cut -c 1-100)"
	done
	f_status=0
	wait "$f_pid" || f_status=$?
	trap - INT TERM HUP
	if [ "$f_status" -ne 0 ]; then
		tail -n 25 "$f_log" >&2
		say "$f_name: failed ($f_status) after $(elapsed "$f_start"), log in ${f_log#"$TOP"/}" >&2
		return "$f_status"
	fi
	say "$f_name: done in $(elapsed "$f_start")"
}

# run_logged NAME COMMAND [ARGS...]: a step of the build; what it took is added to
# build/log/times.
run_logged() {
	follow "$@" || return
	echo "$1 $(($(date +%s) - f_start))" >>"$LOGS/times"
}

# Signs in a kernel log that something is wrong, whether or not it stopped the
# machine (lockdep and the stall detectors do not, even with panic_on_warn).  "RETBleed:
# WARNING: ..." and the like are none: they say what the emulated CPU has no mitigation for.
KERNEL_SPLAT='(^|\] )WARNING: |BUG: |BUG at |Oops|Kernel panic|general protection fault|Call Trace:|rcu: INFO: .*stall|self-detected stall|soft lockup|hard LOCKUP|blocked for more than|possible circular locking|possible recursive locking|INFO: inconsistent lock|suspicious RCU usage|invalid opcode:|unchecked MSR access|No irq handler for vector|spurious APIC interrupt|Dazed and confused|nobody cared|came to owned CPU'

# debian_mirror: the one this machine already uses, unless MIRROR says otherwise.
debian_mirror() {
	# shellcheck disable=SC2016 # a format of apt's, not the shell's
	dm_mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' |
		grep -m 1 -E '/debian/?$' || :)}
	echo "${dm_mirror:-http://deb.debian.org/debian}"
}

# splat LOG: print the first such line; true when there is one.
splat() {
	[ -r "$1" ] || return 1
	grep -a -m 1 -E "$KERNEL_SPLAT" "$1"
}
