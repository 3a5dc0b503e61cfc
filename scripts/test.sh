#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Run every kselftest of a list in the emulated host and say how many passed.
# FLAVOUR=debug runs them on the debug kernel, FLAVOUR=stock on the unpatched one,
# PLATFORM=intel or amd-bochs in Bochs.  The status is 0 only when nothing failed and
# nothing that is required was skipped.
#
#   TEST_HOSTS=list,smt,devices,disks  which emulated hosts: that of the list, one of cores
#                      with two threads, one with a device to assign behind each IOMMU, one
#                      with disks and a network card of several queues (default: all on
#                      the platform amd, unless TEST_LIST is set, else list)
#   TEST_FULL=1        what a list leaves to "make test-full", too
#   TEST_SHARE=K/N     of each list's tests the K-th of every N, where several parts have them
#   TEST_PART=NAME     what this is called in build/report/ and build/log/, as one of
#                      several: its last line is not the one that says how all ended
#   CONTROL=1, =only   with the control (scripts/control.sh), the control alone
set -eu
TOP=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"

flavour=${FLAVOUR:-exclusive}
platform=${PLATFORM:-amd}
list=$TOP/kselftests/list
[ "$platform" = amd ] || list=$list.bochs
list=${TEST_LIST:-$list}
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
[ -r "$list" ] || die "no list of tests at $list"
control=${CONTROL:-0}
hosts=${TEST_HOSTS:-}
if [ -z "$hosts" ]; then
	hosts=list
	[ "$platform/${TEST_LIST:-}" != amd/ ] || [ "$flavour" = stock ] || hosts=list,smt,devices,disks
fi
[ "$control" != only ] || hosts=
share=${TEST_SHARE:-1/1}
if ! say "$share" | grep -qxE '[1-9]/[1-9]' || [ "${share%/*}" -gt "${share#*/}" ]; then
	die "TEST_SHARE is K/N, as 1/2: $share"
fi

name=${TEST_PART:-$platform-$flavour${BOCHS_CPU:+-$BOCHS_CPU}}
payload=$BUILD/payload-test-$name
out=$BUILD/rig-test-$name
report=$REPORT/test-$name
rm -rf "$out" "$report"
mkdir -p "$out" "$report"
"$TOP/scripts/payload.sh" "$payload" "$module" "${TEST_DIR:-$BUILD/kselftests}"
[ "$flavour" != stock ] || rm -f "$payload/module/kvm-exclusive.ko"
# Of the kernel itself; the unpatched one's modules are not kept.
loadable=${kernel%/arch/x86/boot/bzImage}/lib/test_static_key_base.ko
[ ! -f "$loadable" ] || cp "$loadable" "$payload/module/"
# A Linux guest that has KVM itself, see scripts/test/linux.sh.  It is the patched kernel
# whatever the host runs: with all of the debug kernel's checks it would take hours.
guest=$kernel
[ "$flavour" = exclusive ] || guest=$(host_image exclusive "$platform")
if [ -f "$guest" ] && [ -f "$BUILD/module/kvm-exclusive.ko" ]; then
	root=$payload/linux/root
	mkdir -p "$root/dev" "$root/proc" "$root/sys"
	mknod "$root/dev/console" c 5 1
	cp "$guest" "$payload/linux/bzImage"
	cp "$BUILD/module/kvm-exclusive.ko" "$root/"
	cp "$payload/kselftests/nested-init" "$root/init"
	(cd "$root" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet) \
		>"$payload/linux/initramfs.cpio"
	rm -rf "$root"
fi
printf '%s\n' "$KERNEL_SPLAT" >"$payload/test/splat"

# host_tests LIST REPORT OPTIONS...: run a list in a host, add to out/results.
host_tests() {
	ht_list=$1
	ht_report=$2
	ht_out=$out/host
	shift 2
	rm -rf "$ht_out"
	mkdir -p "$ht_out" "$ht_report"
	case ${TEST_FULL:-0} in
	0) grep -vE '^[^#]* full([[:space:]]|$)' "$ht_list" ;;
	*) sed -E '/^[^#]* full([[:space:]]|$)/s/ full//' "$ht_list" ;;
	esac | grep -vE '^[[:space:]]*(#|$)' | sed -n "${share%/*}~${share#*/}p" >"$payload/kselftests/list"
	status=0
	"$TOP/scripts/rig/run.sh" --platform "$platform" --kernel "$kernel" --timeout "$total" \
		--share "$payload" --out "$ht_out" --append "${APPEND:-}" "$@" \
		-- ./test/host.sh list "$limit" "$slow" || status=$?
	touch "$ht_out/results"
	cp -r "$ht_out/tap" "$ht_out/console.log" "$ht_out/output.log" "$ht_report/" 2>/dev/null || :
	# A host that went down took a test with it, and those after it.
	if [ "$status" -ne 0 ] || ! grep -qx end "$ht_out/results"; then
		say "FAIL: the host: $(tail -n 1 "$ht_out/verdict")"
		say "      during: $(tail -n 1 "$ht_out/output.log")"
		echo "fail host 0 $(tail -n 1 "$ht_out/verdict")" >>"$ht_out/results"
	fi
	cat "$ht_out/results" >>"$out/results"
}

: >"$out/results"
for host in $(say "$hosts" | tr ',' ' '); do
	case $host in
	list)
		host_tests "$list" "$report"
		;;
	smt)
		# The emulated host of the list has one thread a core.
		host_tests "${TEST_LIST:-$TOP/kselftests/list.smt}" "$report/smt" \
			--cpus 4,cores=2,threads=2
		;;
	devices)
		for iommu in intel amd; do
			host_tests "${TEST_LIST:-$TOP/kselftests/list.devices}" \
				"$report/devices-$iommu" --iommu $iommu --device edu
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
		host_tests "${TEST_LIST:-$TOP/kselftests/list.disks}" "$report/disks" --nodes 2 \
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
	KERNEL=$kernel "$TOP/scripts/control.sh" "$payload" "$report/control"
	cat "$report/control/results" >>"$out/results"
fi
cp "$out/results" "$report/results"

exec "$TOP/scripts/results.py" summary "$report/results" ${TEST_PART:+"$TEST_PART"}
