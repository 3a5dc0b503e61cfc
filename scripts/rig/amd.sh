# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# shellcheck disable=SC2154 # set by run.sh
#
# An AMD host: QEMU's TCG emulates SVM with nested paging, x2APIC and, beside it,
# either vendor's IOMMU with interrupt remapping.  It has no TSC-deadline timer,
# no AVIC and no next-RIP save.
#
# RIG_MONITOR=FILE: QEMU's monitor, on a socket of that name, for looking into a host
# that hangs ("info registers -a", "info lapic").

machine="-M q35,kernel-irqchip=off -cpu EPYC-Rome,+svm,+x2apic"

# On a busy machine the emulated timers are late: the boot-time check that the PIT
# ticks through the I/O APIC then panics, and the clock watchdog rejects the TSC.
# After a panic the host reboots, which -no-reboot makes the end of QEMU.
# Its APIC timer counts at 1 GHz, and is measured against a clock that stands still when the
# machine is busy: by more than the kernel takes for an error of measurement.
append="panic=-1 no_timer_check tsc=reliable kvm.exclusive_lapic_hz=1000000000 $append"

platform_prepare() {
	[ -x "$ROOTFS/usr/bin/qemu-system-x86_64" ] ||
		die "no QEMU in $ROOTFS; \"make rootfs\" installs it"
	if [ -n "$RIG_ICOUNT" ]; then
		# When all CPUs sleep, the clock jumps to the next timer.
		machine="$machine -accel tcg,thread=single -icount shift=0,sleep=off"
	else
		machine="$machine -accel tcg,thread=multi"
	fi
	smp=$cpus
	# A package is in one node.
	[ "$RIG_NODES" -le 1 ] || smp=$cpus,sockets=$RIG_NODES
	node=0
	while [ "$RIG_NODES" -gt 1 ] && [ "$node" -lt "$RIG_NODES" ]; do
		first=$((node * cpus / RIG_NODES))
		last=$(((node + 1) * cpus / RIG_NODES - 1))
		machine="$machine -object memory-backend-ram,id=node$node,size=$((mem / RIG_NODES))M"
		machine="$machine -numa node,nodeid=$node,cpus=$first-$last,memdev=node$node"
		node=$((node + 1))
	done
	case $RIG_IOMMU in
	intel) machine="$machine -device intel-iommu,intremap=on,eim=on" ;;
	amd) machine="$machine -device amd-iommu,intremap=on,xtsup=on,dma-remap=on" ;;
	none) ;;
	*) die "no such IOMMU: $RIG_IOMMU (intel, amd or none)" ;;
	esac
}

platform_start() {
	export QEMU_MODULE_DIR="$ROOTFS/usr/lib/x86_64-linux-gnu/qemu"
	# shellcheck disable=SC2086 # lists of words
	toolbox /usr/bin/qemu-system-x86_64 \
		-L "$ROOTFS/usr/share/qemu" -L "$ROOTFS/usr/share/seabios" \
		-nodefaults -display none -no-reboot -no-user-config \
		$machine -smp "$smp" -m "$mem" \
		-chardev "file,id=console,path=$console" -serial chardev:console \
		-device virtio-serial-pci \
		-chardev "file,id=verdict,path=$out/verdict,append=on" \
		-device virtserialport,chardev=verdict,name=verdict \
		${RIG_MONITOR:+-monitor "unix:$RIG_MONITOR,server,nowait"} \
		-virtfs "local,path=$ROOTFS,mount_tag=root,security_model=none,readonly=on,multidevs=remap" \
		-virtfs "local,path=$share,mount_tag=share,security_model=none,readonly=on,multidevs=remap" \
		-virtfs "local,path=$out,mount_tag=out,security_model=none,multidevs=remap" \
		-device virtio-rng-pci $devices \
		-kernel "$kernel" -initrd "$RIG_INITRAMFS" -append "$append"
}

platform_dead() {
	false
}

platform_collect() {
	:
}

platform_wrong() {
	false
}
