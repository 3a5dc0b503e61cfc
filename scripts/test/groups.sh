#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Run groups of kselftests/tests in emulated hosts and say how many passed.
# FLAVOUR=debug runs them on the debug kernel, FLAVOUR=stock on the unpatched one,
# PLATFORM=intel or amd-bochs in Bochs.  The status is 0 only when nothing failed and
# nothing that is required was skipped.
#
# What runs is selected here, and what the host leaves is judged here (scripts/results/).
#
#   TEST_HOSTS=list,smt,devices,disks  which emulated hosts: one for the group qemu (bochs in
#                      Bochs), one of cores with two threads, one with a device to assign
#                      behind each IOMMU, one with disks and a network card of several queues
#                      (default: all on the platform amd, unless TEST_LIST is set, else list)
#   TEST_LIST=SOURCE   another group, or a file of the same form, in each of these hosts
#   TEST_FULL=1        what is left to "make test-full", too
#   TEST_SHARE=K/N     of each group the K-th of every N tests, where several parts have them
#   TEST_ROUNDS=N      each so many times; an @ is the round, or what TEST_AT says
#   TEST_PART=NAME     what this is called in build/report/ and build/log/, as one of
#                      several: its last line is not the one that says how all ended
#   CONTROL=1, =only   with the control, the control alone: with exclusive mode off, the kernel
#                      tree's own KVM selftests give the same results on the patched kernel as
#                      on the unpatched one
set -eu
TOP=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"

flavour=${FLAVOUR:-exclusive}
platform=${PLATFORM:-amd}
group=qemu
[ "$platform" = amd ] || group=bochs
module=$BUILD/module
limit=60
slow=1
total=${TEST_TIMEOUT:-1500}
case $flavour in
debian | debian-rt)
	module=$BUILD/module-$flavour
	;;
debug)
	module=$BUILD/module-debug
	if [ "$platform" = amd ]; then
		# The debug kernel's tests take so many times as long.
		slow=3
		limit=300
		total=${TEST_TIMEOUT:-3000}
	else
		# At Bochs' usual rate a tick's work with all checks lasts longer than to
		# the next.  The clock then is faster by as much as the kernel is slower.
		BOCHS_IPS=${BOCHS_IPS:-100000000}
		export BOCHS_IPS
		total=${TEST_TIMEOUT:-5400}
	fi
	;;
esac
# What is left to "make test-full" is what takes long.
[ "${TEST_FULL:-0}" = 0 ] || total=${TEST_TIMEOUT:-$((total * 4))}
kernel=${KERNEL:-$(host_image "$flavour" "$platform")}
control=${CONTROL:-0}
hosts=${TEST_HOSTS:-}
if [ -z "$hosts" ]; then
	hosts=list
	[ "$platform/${TEST_LIST:-}" != amd/ ] || [ "$flavour" = stock ] || hosts=list,smt,devices,disks
fi
[ "$control" != only ] || hosts=

name=${TEST_PART:-$platform-$flavour${BOCHS_CPU:+-$BOCHS_CPU}}
payload=$BUILD/payload-test-$name
out=$BUILD/rig-test-$name
report=$REPORT/test-$name
results=$TOP/scripts/results.py
rm -rf "$out" "$report"
mkdir -p "$out" "$report"
"$TOP/scripts/rig/payload.sh" "$payload" "$module" "${TEST_DIR:-$BUILD/kselftests}"
[ "$flavour" != stock ] || rm -f "$payload/module/kvm-exclusive.ko"
loaded=module/kvm-exclusive.ko
[ -f "$payload/$loaded" ] || loaded=
# Of the kernel itself; the unpatched one's modules are not kept.
loadable=${kernel%/arch/x86/boot/bzImage}/lib/test_static_key_base.ko
[ ! -f "$loadable" ] || cp "$loadable" "$payload/module/"
# A Linux guest that has KVM itself, see scripts/test/host/linux.sh.  It is the patched kernel
# whatever the host runs: with all of the debug kernel's checks it would take hours.
guest=$kernel
[ "$flavour" = exclusive ] || guest=$(host_image exclusive "$platform")
if [ -f "$guest" ] && [ -f "$BUILD/module/kvm-exclusive.ko" ]; then
	root=$payload/linux/root
	mkdir -p "$root/proc" "$root/sys"
	cp "$guest" "$payload/linux/bzImage"
	cp "$BUILD/module/kvm-exclusive.ko" "$root/"
	cp "$payload/kselftests/nested-init" "$root/init"
	"$TOP/scripts/build/cpio.sh" "$root" "$payload/linux/initramfs.cpio"
	rm -rf "$root"
fi
printf '%s\n' "$KERNEL_SPLAT" >"$payload/test/splat"

# boot KERNEL SECONDS REPORT MODULE OPTIONS...: have a host run the plan, with MODULE loaded;
# REPORT then has what is judged.
boot() {
	b_kernel=$1
	b_limit=$2
	b_report=$3
	b_module=$4
	shift 4
	rm -rf "$out/host"
	mkdir -p "$out/host" "$b_report"
	# What it returns is the verdict's last line, too.
	"$TOP/scripts/rig/run.sh" --platform "$platform" --kernel "$b_kernel" --timeout "$b_limit" \
		--share "$payload" --out "$out/host" --append "${APPEND:-}" "$@" \
		-- ./test/run-plan.sh plan ${b_module:+"$b_module"} || :
	for b_file in tap records.jsonl verdict console.log output.log; do
		cp -r "$out/host/$b_file" "$b_report/" 2>/dev/null || :
	done
}

# plan REPORT SOURCE [KEY=VALUE...]: what the next host runs.
plan() {
	p_report=$1
	p_source=$2
	shift 2
	mkdir -p "$p_report"
	"$results" plan "$payload/plan" "$p_report/plan.jsonl" "$p_source" platform="$platform" \
		flavour="$flavour" "$@"
}

# host_tests GROUP REPORT OPTIONS...: run a group in a host, add to out/results.jsonl.
host_tests() {
	ht_group=$1
	ht_report=$2
	shift 2
	plan "$ht_report" "${TEST_LIST:-$ht_group}" full="${TEST_FULL:-}" share="${TEST_SHARE:-}" \
		rounds="${TEST_ROUNDS:-}" at="${TEST_AT:-}" limit="$limit" slow="$slow"
	boot "$kernel" "$total" "$ht_report" "$loaded" "$@"
	"$results" judge "$SRC" "$ht_report" >>"$out/results.jsonl"
}

: >"$out/results.jsonl"
for host in $(say "$hosts" | tr ',' ' '); do
	case $host in
	list)
		host_tests "$group" "$report"
		;;
	smt)
		# The other hosts have one thread a core.
		host_tests smt "$report/smt" --cpus 4,cores=2,threads=2
		;;
	devices)
		for iommu in intel amd; do
			host_tests devices "$report/devices-$iommu" --iommu $iommu --device edu
		done
		;;
	disks)
		for disk in nvme virtio; do
			rm -f "$out/$disk.img"
			truncate -s 512M "$out/$disk.img"
		done
		# A file that a guest's memory is.
		rm -rf "$out/memory" "$out/memory.img"
		mkdir -p "$out/memory"
		head -c 256M /dev/urandom >"$out/memory/ram"
		truncate -s 300M "$out/memory.img"
		mke2fs -q -t ext4 -O ^has_journal -d "$out/memory" "$out/memory.img"
		rm -rf "$out/memory"
		port=$((20000 + $$ % 10000))
		toolbox_by exec /usr/bin/iperf3 -s -B 127.0.0.1 -p "$port" >"$out/iperf3.log" 2>&1 &
		iperf=$!
		append=${APPEND:-}
		APPEND="$append rig_iperf=$port"
		host_tests disks "$report/disks" --nodes 2 \
			--netdev user,id=net --device igb,netdev=net \
			--drive "file=$out/virtio.img,format=raw,if=none,id=virtio" \
			--device virtio-blk-pci,drive=virtio,num-queues=4 \
			--drive "file=$out/nvme.img,format=raw,if=none,id=nvme" \
			--device nvme,drive=nvme,serial=rig \
			--drive "file=$out/memory.img,format=raw,if=none,id=memory" \
			--device virtio-blk-pci,drive=memory,num-queues=4
		kill "$iperf" 2>/dev/null || :
		APPEND=$append
		rm -f "$out/nvme.img" "$out/virtio.img" "$out/memory.img"
		;;
	*)
		die "no such host in TEST_HOSTS: $host"
		;;
	esac
done
if [ "$control" != 0 ]; then
	for side in stock patched; do
		plan "$report/control/$side" control
		image=$kernel
		[ "$side" = patched ] || image=$(host_image stock "$platform")
		say "control: the kernel $image"
		boot "$image" "${CONTROL_TIMEOUT:-600}" "$report/control/$side" ""
	done
	"$results" control "$SRC" "$report/control/stock" "$report/control/patched" \
		>>"$out/results.jsonl"
fi
cp "$out/results.jsonl" "$report/"

exec "$results" summary "$report/results.jsonl" ${TEST_PART:+"$TEST_PART"}
