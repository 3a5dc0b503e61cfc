# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# The parts of "make test", "make test-full" and "make soak", what each is built of, and
# what goes into it.  For scripts/test/tiers.sh.

# parts TIER: PART MINUTES HOW SCRIPT [VAR=VALUE...], one a line.  MINUTES is about what it
# takes with everything built, on two quiet cores; of soak, one round.  HOW is alone or
# beside others.  QEMU has a thread for each CPU and the real clock: it runs alone.  Bochs
# is one thread with a clock of its own: there are as many at once as CPUs.
parts() {
	parts_"$1" | while read -r p_part p_more; do
		# Until it is there.
		case $p_more in
		*' silicon/silicon.sh'*) [ -x "$TOP/scripts/silicon/silicon.sh" ] || continue ;;
		esac
		say "$p_part $p_more"
	done
}

parts_test() {
	cat <<-END
		amd-exclusive 10 alone test/groups.sh PLATFORM=amd
		amd-bochs-exclusive 5 beside test/groups.sh PLATFORM=amd-bochs
		intel-exclusive 5 beside test/groups.sh PLATFORM=intel
		silicon 5 alone silicon/silicon.sh
	END
}

# The longest first of those that are beside others.
parts_full() {
	cat <<-END
		amd 6 alone test/groups.sh PLATFORM=amd TEST_FULL=1 TEST_HOSTS=list,smt
		devices 16 alone test/groups.sh PLATFORM=amd TEST_FULL=1 TEST_HOSTS=devices
		disks 4 alone test/groups.sh PLATFORM=amd TEST_FULL=1 TEST_HOSTS=disks
		disks-threads 2 alone test/groups.sh PLATFORM=amd TEST_HOSTS=disks APPEND=threadirqs
		amd-debug 11 alone test/groups.sh PLATFORM=amd FLAVOUR=debug TEST_FULL=1 TEST_HOSTS=list,smt
		devices-debug 3 alone test/groups.sh PLATFORM=amd FLAVOUR=debug TEST_HOSTS=devices
		debian 6 alone test/groups.sh PLATFORM=amd FLAVOUR=debian TEST_HOSTS=list
		debian-rt 8 alone test/groups.sh PLATFORM=amd FLAVOUR=debian-rt TEST_HOSTS=list
		control 2 alone test/groups.sh PLATFORM=amd CONTROL=only
		silicon 9 alone silicon/silicon.sh
		intel-debug-1 22 beside test/groups.sh PLATFORM=intel FLAVOUR=debug TEST_FULL=1 TEST_SHARE=1/2
		intel-debug-2 19 beside test/groups.sh PLATFORM=intel FLAVOUR=debug TEST_FULL=1 TEST_SHARE=2/2
		check 4 beside check/check.sh CHECK_PAGE=1
		intel 8 beside test/groups.sh PLATFORM=intel TEST_FULL=1
		intel-skylake 7 beside test/groups.sh PLATFORM=intel TEST_FULL=1 BOCHS_CPU=corei7_skylake_x
		amd-bochs 3 beside test/groups.sh PLATFORM=amd-bochs TEST_FULL=1
	END
}

# Those with TEST_LIST run that group in so many rounds; the others run once, however many
# rounds there are.  amd-debug has SVM on the debug kernel for test-full; in Bochs it takes
# longer than a part of that may.
parts_soak() {
	cat <<-END
		amd-ipi 3 alone test/groups.sh PLATFORM=amd TEST_LIST=soak-ipi
		amd-storm 2 alone test/groups.sh PLATFORM=amd TEST_LIST=soak-storm
		amd-fuzz 2 alone test/groups.sh PLATFORM=amd TEST_LIST=soak-fuzz
		amd-kicks 2 alone test/groups.sh PLATFORM=amd TEST_LIST=soak-kicks
		devices 10 alone test/groups.sh PLATFORM=amd TEST_LIST=soak-devices TEST_HOSTS=devices
		devices-debug 25 alone test/groups.sh PLATFORM=amd FLAVOUR=debug TEST_LIST=soak-devices TEST_HOSTS=devices
		silicon 5 alone silicon/silicon.sh
		amd-bochs-debug 40 beside test/groups.sh PLATFORM=amd-bochs FLAVOUR=debug
		intel-ipi 10 beside test/groups.sh PLATFORM=intel TEST_LIST=soak-ipi
		amd-bochs-ipi 10 beside test/groups.sh PLATFORM=amd-bochs TEST_LIST=soak-ipi
		intel-storm 10 beside test/groups.sh PLATFORM=intel TEST_LIST=soak-storm
		amd-bochs-storm 10 beside test/groups.sh PLATFORM=amd-bochs TEST_LIST=soak-storm
		intel-fuzz 10 beside test/groups.sh PLATFORM=intel TEST_LIST=soak-fuzz
		amd-bochs-fuzz 10 beside test/groups.sh PLATFORM=amd-bochs TEST_LIST=soak-fuzz
		intel-kicks 10 beside test/groups.sh PLATFORM=intel TEST_LIST=soak-kicks
		amd-bochs-kicks 10 beside test/groups.sh PLATFORM=amd-bochs TEST_LIST=soak-kicks
	END
}

# part_needs LINE: what is to be made for it.
part_needs() {
	case $1 in
	*check/check.sh*)
		say kernel deps-check
		return
		;;
	# Linux guests that have KVM run the patched kernel there, too: see groups.sh.
	*FLAVOUR=debug*) say kernel module kernel-debug module-debug ;;
	*FLAVOUR=debian-rt*) say kernel module kernel-debian-rt module-debian-rt ;;
	*FLAVOUR=debian*) say kernel module kernel-debian module-debian ;;
	*) say kernel module ;;
	esac
	case $1 in
	*silicon/silicon.sh* | *PLATFORM=intel* | *PLATFORM=amd-bochs*) say bochs ;;
	*CONTROL=*) say kernel-stock-rig ;;
	esac
	say initramfs tools kselftests
}

# digest: what identifies what is read.
digest() {
	sha256sum | cut -c 1-16
}

# our_files: each file of ours as it is now, HASH  PATH a line.
our_files() {
	(cd "$TOP" && git ls-files -z --cached --others --exclude-standard | sort -zu |
		xargs -0 -r sha256sum 2>/dev/null)
}

# hash_of PATH...: of those that are, or are below, one of these.  PATH is a pattern.
hash_of() {
	ho_paths=$(say "$*" | tr ' ' '|')
	{ grep -E "^[^ ]*  ($ho_paths)(/|\$)" "$i_files" || :; } | digest
}

# tree_of TREE: what is in a kernel tree, committed or not.
tree_of() {
	{
		git -C "$1" rev-parse 'HEAD^{tree}' && git -C "$1" diff --binary HEAD && (
			cd "$1" && git ls-files -z --others --exclude-standard | xargs -0 -r sha256sum
		)
	} 2>/dev/null | digest
}

# inputs FILES: everything that may go into a part, NAME HASH a line.  As they are, not as they
# were built: what has changed can be told before anything is built.  FILES is for a list.
inputs() {
	i_files=$1
	our_files >"$i_files"
	i_kernel=none
	i_stock=none
	if git -C "$SRC" rev-parse -q --verify base >/dev/null 2>&1; then
		i_kernel=$(tree_of "$SRC")
		i_stock=$(git -C "$SRC" rev-parse 'base^{tree}' | cut -c 1-16)
	fi
	i_config=$(hash_of Kconfig.fragment scripts/rig/rig.config scripts/build/kernel.sh)
	say "everything $(digest <"$i_files")"
	say "kernel $i_kernel-$i_config"
	say "kernel-debug $i_kernel-$i_config-$(hash_of scripts/rig/debug.config)"
	# With Debian's configuration, as it is installed.
	say "kernel-debian $i_kernel-$i_config-$(hash_of scripts/rig/debian.config scripts/rig/modules)-$(
		cat /usr/src/linux-config-6.12/config.amd64_*_amd64.xz 2>/dev/null | digest)"
	say "kernel-stock-rig $i_stock-$i_config-$(hash_of scripts/rig/patches)"
	say "compiler $({ gcc --version; g++ --version; ld --version; } 2>&1 | digest)"
	say "module $(hash_of module scripts/build/module.sh)"
	say "kselftests $(hash_of kselftests/Makefile kselftests/lib kselftests/nested kselftests/x86)"
	# What the lines of each group say, in whatever form.
	"$TOP/scripts/results.py" hashes
	# What a test printed is judged once, and its result remembered.
	say "scripts $(hash_of scripts/lib.sh scripts/rig/payload.sh scripts/bench/measure/pin.sh \
		scripts/test/groups.sh scripts/test/host \
		scripts/results/lists.py scripts/results/ktap.py scripts/results/judge.py)"
	say "rig $(hash_of scripts/rig/run.sh scripts/rig/host/init scripts/rig/amd.sh \
		scripts/build/initramfs.sh scripts/build/cpio.sh)"
	say "rig-bochs $(hash_of scripts/rig/intel.sh scripts/rig/amd-bochs.sh)"
	say "bochs $(hash_of scripts/rig/bochs.sh scripts/rig/bochs)"
	say "silicon $(hash_of scripts/silicon)"
	# What was installed says more than what was asked for.
	i_installed=$ROOTFS/var/lib/dpkg/status
	[ -r "$i_installed" ] || i_installed=/dev/null
	say "rootfs $(hash_of scripts/build/rootfs.sh)-$(digest <"$i_installed")"
	say "environment $environment"
}

# What a user sets, and what is in the files that it names; before anything else is set.
environment=$({
	env | grep -E '^(APPEND|BOCHS_.*|CONTROL_TIMEOUT|FULL|KERNEL|RIG_.*|SEEDS?|SILICON.*|TEST_.*)=' | sort
	[ -z "${KERNEL:-}" ] || cat "$KERNEL"
	[ -z "${TEST_LIST:-}" ] || "$TOP/scripts/results.py" tests "$TEST_LIST" || :
	[ -z "${TEST_DIR:-}" ] || find "$TEST_DIR" -type f -exec cat {} +
} 2>/dev/null | digest)

# part_inputs LINE ALL: those of the inputs in the file ALL that go into it.
part_inputs() {
	pi_names="scripts rig rootfs compiler environment module kselftests"
	case $1 in
	*check/check.sh*) pi_names="everything kernel compiler environment" ;;
	*FLAVOUR=debug*) pi_names="$pi_names kernel-debug" ;;
	*FLAVOUR=debian*) pi_names="$pi_names kernel-debian" ;;
	*) pi_names="$pi_names kernel" ;;
	esac
	case $1 in
	*check/check.sh*) ;;
	*silicon/silicon.sh*) pi_names="$pi_names rig-bochs bochs silicon tests-silicon" ;;
	*CONTROL=only*) pi_names="$pi_names kernel-stock-rig tests-control" ;;
	*PLATFORM=amd\ *)
		# As groups.sh has it.
		pi_hosts=$(say "$1" | sed -n 's/.* TEST_HOSTS=\([^ ]*\).*/\1/p' | tr ',' ' ')
		for pi_host in ${pi_hosts:-list smt devices disks}; do
			[ "$pi_host" != list ] || pi_host=qemu
			pi_names="$pi_names tests-$pi_host"
		done
		;;
	*) pi_names="$pi_names rig-bochs bochs tests-bochs" ;;
	esac
	grep -E "^($(say "$pi_names" | tr ' ' '|')) " "$2"
	# The line itself, but for what it is expected to take.
	say "part $(say "$1" | cut -d ' ' -f 1,3- | digest)"
}
