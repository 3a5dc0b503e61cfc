# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# For scripts in the emulated host that measure a Linux guest: how QEMU is started, in one
# place, and how each vCPU's thread gets a CPU of its own.
#
# shellcheck source=scripts/bench/measure/pin.sh
. measure/pin.sh

# guest_start NAME "LAUNCHER..." VCPUS MEMORY CPU KERNEL INITRD APPEND [OPTION...]
#
# Start QEMU, the words of LAUNCHER before it, with MEMORY in MiB.  Sets guest_pid; the guest's
# console is NAME.console in $guest_logs, what QEMU prints NAME.log in /tmp.
guest_logs=/tmp
guest_start() {
	local name=$1 launcher=$2 vcpus=$3 memory=$4 cpu=$5 kernel=$6 initrd=$7 append=$8

	shift 8
	: >"$guest_logs/$name.console"
	# shellcheck disable=SC2086 # words
	$launcher qemu-system-x86_64 -name "$name,debug-threads=on" \
		-nodefaults -no-user-config -display none -no-reboot \
		-M q35 -accel kvm -cpu "$cpu" -smp "$vcpus" -m "$memory" \
		-kernel "$kernel" -initrd "$initrd" \
		-append "console=ttyS0 rdinit=/init panic=-1 panic_on_warn=1 quiet $append" \
		-chardev "file,id=console,path=$guest_logs/$name.console" -serial chardev:console \
		"$@" >"/tmp/$name.log" 2>&1 &
	# shellcheck disable=SC2034 # the caller's
	guest_pid=$!
}

# guest_start_served NAME "LAUNCHER..." VCPUS MEMORY CPU INITRD APPEND [OPTION...]
#
# The guest of scripts/bench/guest/init, that measure/load.sh talks to by /tmp/NAME, with a
# disk.
guest_start_served() {
	local name=$1 launcher=$2 vcpus=$3 memory=$4 cpu=$5 initrd=$6 append=$7

	shift 7
	rm -f "/tmp/$name.in" "/tmp/$name.out"
	mkfifo "/tmp/$name.in" "/tmp/$name.out"
	cp guest-disk.img "/tmp/$name.img"
	guest_start "$name" "$launcher" "$vcpus" "$memory" "$cpu" guest-bzImage "$initrd" \
		"loglevel=6 $append" \
		-device virtio-serial-pci -chardev "pipe,id=ctl,path=/tmp/$name" \
		-device virtserialport,chardev=ctl,name=ctl \
		-drive "file=/tmp/$name.img,format=raw,if=none,id=disk" \
		-device virtio-blk-pci,drive=disk "$@"
}

# guest_said NAME: the end of what it and its VMM said.
guest_said() {
	echo "--- console of $1"
	tail -n 20 "$guest_logs/$1.console"
	cat "/tmp/$1.log"
}
