# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154 # out is run-modes.sh's
#
# Devices that the demo assigns to its guest: an e1000e NIC, a virtual function of an
# igb NIC and an NVMe disk, all emulated by the outer QEMU.  Sourced by run-modes.sh.
#
# The other end of the e1000e is a virtio NIC of the host's, in the same hub; that of
# the virtual function is its physical function.  Both have iperf3 servers.

vfio_devices=

# pci_find VENDOR:DEVICE: the first one, as DOMAIN:BUS:SLOT.FUNCTION.
pci_find() {
	for pf_dir in /sys/bus/pci/devices/*; do
		[ "$(cat "$pf_dir/vendor"):$(cat "$pf_dir/device")" = "$1" ] || continue
		echo "${pf_dir##*/}"
		return
	done
	fail "the host has no PCI device $1"
}

vfio_bind() {
	vb_dir=/sys/bus/pci/devices/$1
	[ -e "$vb_dir/iommu_group" ] || fail "$1 is behind no IOMMU"
	echo vfio-pci >"$vb_dir/driver_override"
	[ ! -e "$vb_dir/driver" ] || echo "$1" >"$vb_dir/driver/unbind"
	echo "$1" >/sys/bus/pci/drivers_probe
	[ "$(basename "$(readlink "$vb_dir/driver")")" = vfio-pci ] ||
		fail "$1 cannot be given to vfio-pci"
	vfio_devices="$vfio_devices $1"
}

# interface_of BDF ADDRESS: bring the host's interface on that device up.
interface_of() {
	for if_dir in "/sys/bus/pci/devices/$1"/net/* "/sys/bus/pci/devices/$1"/virtio*/net/*; do
		[ -e "$if_dir" ] || continue
		ip addr add "$2" dev "${if_dir##*/}"
		ip link set "${if_dir##*/}" up
		return
	done
	fail "$1 has no network interface"
}

devices_prepare() {
	ip link set lo up
	pf=$(pci_find 0x8086:0x10c9)
	echo 1 >"/sys/bus/pci/devices/$pf/sriov_numvfs" || fail "the igb NIC makes no virtual function"
	interface_of "$(pci_find 0x1af4:0x1041)" 10.0.1.1/24
	interface_of "$pf" 10.0.2.1/24
	vfio_bind "$(pci_find 0x8086:0x10d3)"
	vfio_bind "$(pci_find 0x8086:0x10ca)"
	vfio_bind "$(pci_find 0x1b36:0x0010)"
}

# devices_serve LOAD: what answers the guest.  iperf3 (3.16 and later) now and then hangs
# when it has printed a test's report, and serves no other: each test has its own.
devices_serve() {
	case $1 in
	nic) ds_address=10.0.1.1 ;;
	vf) ds_address=10.0.2.1 ;;
	*) return 0 ;;
	esac
	pkill -KILL -x iperf3 || :
	for ds_port in 5201 5202 5203; do
		iperf3 --server --daemon --bind $ds_address --port $ds_port --affinity 0 \
			--logfile "$out/iperf3-$1-$ds_port.log" || fail "iperf3 does not start"
	done
}

# The VMM's arguments for them.
devices_arguments() {
	for da_device in $vfio_devices; do
		printf ' -device vfio-pci,host=%s' "$da_device"
	done
}

# Interrupts of the assigned devices that the host has taken so far.
devices_host_irqs() {
	awk '/vfio/ { for (i = 2; $i ~ /^[0-9]+$/; i++) n += $i } END { print n + 0 }' /proc/interrupts
}

# What became of the entries when the VM is gone: nothing of vfio is left.
devices_released() {
	if grep -q vfio /proc/interrupts; then
		fail "an interrupt of an assigned device is left: $(grep vfio /proc/interrupts)"
	fi
}

# The host's own drivers take the devices back, and the disk can be read.
devices_returned() {
	for dr_device in $vfio_devices; do
		dr_dir=/sys/bus/pci/devices/$dr_device
		echo "$dr_device" >"$dr_dir/driver/unbind"
		echo >"$dr_dir/driver_override"
		echo "$dr_device" >/sys/bus/pci/drivers_probe
		dr_driver=$(basename "$(readlink "$dr_dir/driver")")
		case $dr_driver in
		e1000e | igbvf | nvme) ;;
		*) fail "$dr_device is not taken back by its driver, but by \"$dr_driver\"" ;;
		esac
	done
	for _ in $(seq 50); do
		[ ! -b /dev/nvme0n1 ] || break
		sleep 0.1
	done
	dd if=/dev/nvme0n1 of=/dev/null bs=1M count=16 iflag=direct 2>/dev/null ||
		fail "the disk that the guest had cannot be read"
}
