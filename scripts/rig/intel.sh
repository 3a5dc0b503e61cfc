# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # read, and set, by run.sh
#
# An Intel host: Bochs emulates VMX with EPT, VPID, virtual NMIs, APICv, posted
# interrupts and the preemption timer, x2APIC and the TSC-deadline timer.  It has no
# IOMMU and no virtio.
#
#   BOCHS_CPU=MODEL   default: corei7_icelake_u
#   BOCHS_IPS=N       default: 25000000
#   BOCHS_QUANTUM=N   instructions that a CPU runs in its turn (default: 32)
#   BOCHS_ADVERSARY=KEY=VALUE,...
#                     what the manuals permit, at its worst: the head of
#                     bochs/silicon-adversary.patch has the keys.  What the ranges' instructions
#                     have met is left in the output directory as coverage, and the data
#                     disk as it was made as data.img
#   RIG_DATA=FILE     such a data.img, instead of making one
#
# Bochs boots from a CD image (kernel and initramfs).  Its disks, which the host's
# init tells apart by the model names given here:
#
#   RIGROOT     the tool box, the root of the emulated host, read-only
#   RIGDATA     /share, read-only, and /out
#   RIGVERDICT  the verdict's channel, preset to failure
#
# The first serial port is the console, the second one the command's output.
#
# All CPUs share one thread, and the clock follows the instructions: every CPU does
# BOCHS_IPS of them in an emulated second, which therefore lasts several real ones
# when the CPUs are busy, and a fraction of one when they are idle.

# CPUID names the frequency of the real CPU's TSC, so the kernel must be told; and it
# names APERF and MPERF, which are not there, and which each tick would read.  Bochs
# applies protection keys to the kernel's own pages.
# 6.12 makes the page with a module's thunks against indirect target selection writable
# and executable at once, and warns of it.
# After a panic the host must stay as it is: Bochs would boot it again.
bochs_cpu=${BOCHS_CPU:-corei7_icelake_u}
bochs_ips=${BOCHS_IPS:-25000000}
bochs_quantum=${BOCHS_QUANTUM:-32}
# What the real-time clock begins with: every boot is at the same time.
bochs_epoch=1767225600
append="panic=0 no_timer_check tsc=reliable tsc_early_khz=$((bochs_ips / 1000)) clearcpuid=aperfmperf${bochs_absent:+,$bochs_absent} nopku rig_x2apic indirect_target_selection=off $append"
# A run is to be the same again: nothing may depend on where the kernel lies.
[ -z "${BOCHS_ADVERSARY:-}" ] || append="nokaslr rig_adversary $append"
# Bochs does not listen to SIGTERM.
kill_after=1
bochs_log=$out/bochs.log
root_image=$CACHE/rootfs.img

# Bochs counts in cylinders of 16 heads and 63 sectors.
cylinder=516096

# image FILE BYTES: an empty, sparse disk of at least that many bytes.
image() {
	rm -f "$1" "$1.lock"
	truncate -s $((($2 + cylinder - 1) / cylinder * cylinder)) "$1"
}

# filesystem FILE DIR MIB: an image with what is in DIR, and that much free.
filesystem() {
	fs_bytes=$(du -s --apparent-size -B 1 "$2" | cut -f 1)
	# Blocks are rounded up, and inodes and directories are to be paid for.
	fs_files=$(find "$2" | wc -l)
	image "$1" $((fs_bytes + fs_bytes / 20 + fs_files * 4608 + ($3 + 16) * 1048576))
	# The same files give the same file system.
	E2FSPROGS_FAKE_TIME=$bochs_epoch mke2fs -q -t ext2 -b 4096 -m 0 -N $((fs_files + 4096)) \
		-U 6b766d2d-6578-636c-7573-697665000000 \
		-E hash_seed=6b766d2d-6578-636c-7573-697665000001 -d "$2" "$1" ||
		die "cannot make a file system of $2"
}

# The machine without its disks, as Bochs wants it described.  What it does at each level
# of its messages: it must never ask.  Its errors are in the log.
bochs_machine() {
	cat <<-EOF
		display_library: nogui
		config_interface: textconfig
		cpu: model=$bochs_cpu, count=1:$cpus:1, ips=$bochs_ips, quantum=$bochs_quantum, reset_on_triple_fault=0, ignore_bad_msrs=1${bochs_features:+, add_features="$bochs_features"}
		memory: guest=$mem, host=$mem
		romimage: file=$ROOTFS/usr/share/bochs/BIOS-bochs-latest, options=fastboot
		vgaromimage: file=$ROOTFS/usr/share/bochs/VGABIOS-lgpl-latest
		vga: realtime=0
		pci: enabled=1, chipset=i440fx
		clock: sync=none, time0=$bochs_epoch
		ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
		boot: cdrom
		com1: enabled=1, mode=file, dev="$console"
		log: $bochs_log
		panic: action=fatal
		error: action=report
		info: action=ignore
		debug: action=ignore
	EOF
}

# boot_cd FILE DIR: a CD that isolinux boots, of DIR with its isolinux.cfg.
boot_cd() {
	cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$2/"
	xorriso -as mkisofs -quiet -o "$1" -b isolinux.bin -c boot.cat \
		-no-emul-boot -boot-load-size 4 -boot-info-table "$2" >/dev/null 2>&1 ||
		die "cannot make the boot image"
}

# data_disk: what is shared, and room for what comes out.
data_disk() {
	mkdir -p "$out/.data/out"
	cp -al "$share" "$out/.data/share" 2>/dev/null || {
		rm -rf "$out/.data/share"
		cp -a "$share" "$out/.data/share"
	}
	cp "$out/.rig-command" "$out/.data/out/"
	[ -z "${BOCHS_ADVERSARY:-}" ] || find "$out/.data" -exec touch -h -d "@$bochs_epoch" {} +
	filesystem "$out/.data.img" "$out/.data" 256
	rm -rf "$out/.data"
}

platform_prepare() {
	need xorriso mke2fs debugfs flock
	[ -x "$BOCHS" ] || die "no Bochs at $BOCHS; \"make bochs\" builds it"
	[ -z "$devices" ] || die "--device is for the platform amd"
	for file in /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32; do
		[ -r "$file" ] || die "$file is missing; \"make deps\" installs it"
	done

	# Runs beside each other need it at the same time, and one makes it.
	exec 9>"$root_image.making"
	flock 9
	if [ "$(cat "$root_image.key" 2>/dev/null)" != "$(cat "$ROOTFS.key")" ]; then
		say "rig: making the root disk"
		rm -f "$root_image.key"
		filesystem "$root_image.$$" "$ROOTFS" 0
		mv "$root_image.$$" "$root_image"
		cp "$ROOTFS.key" "$root_image.key"
	fi
	exec 9>&-
	# Bochs puts a lock file beside an image, which stays when Bochs is killed.
	rm -f "$out/.root.img" "$out/.root.img.lock"
	ln -s "$root_image" "$out/.root.img"

	rm -rf "$out/.data" "$out/.cd"
	mkdir -p "$out/.cd"
	if [ -n "${RIG_DATA:-}" ]; then
		cp --sparse=always "$RIG_DATA" "$out/.data.img"
	else
		data_disk
	fi
	[ -z "${BOCHS_ADVERSARY:-}" ] || cp --sparse=always "$out/.data.img" "$out/data.img"

	image "$out/.verdict.img" 1
	echo "FAIL: no verdict" | dd of="$out/.verdict.img" conv=notrunc status=none

	cp "$kernel" "$out/.cd/bzimage"
	cp "$RIG_INITRAMFS" "$out/.cd/initrd"
	cat >"$out/.cd/isolinux.cfg" <<-EOF
		DEFAULT rig
		PROMPT 0
		LABEL rig
		KERNEL bzimage
		INITRD initrd
		APPEND $append
	EOF
	boot_cd "$out/.boot.iso" "$out/.cd"
	rm -rf "$out/.cd"

	{
		bochs_machine
		cat <<-EOF
			ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15
			ata0-master: type=disk, mode=flat, path="$out/.root.img", model="RIGROOT"
			ata0-slave: type=disk, mode=flat, path="$out/.data.img", model="RIGDATA"
			ata1-master: type=cdrom, path="$out/.boot.iso", status=inserted
			ata1-slave: type=disk, mode=flat, path="$out/.verdict.img", model="RIGVERDICT"
			com2: enabled=1, mode=file, dev="$out/output.log"
		EOF
	} >"$out/.bochsrc"
	rm -f "$bochs_log" "$out"/.*.img.lock
}

platform_start() {
	[ -z "${BOCHS_ADVERSARY:-}" ] ||
		export BOCHS_ADVERSARY="$BOCHS_ADVERSARY,report=$out/coverage"
	bounded "$BOCHS" -q -f "$out/.bochsrc"
}

platform_dead() {
	tail -c 2048 "$console" 2>/dev/null | grep -aqE -e '---\[ end Kernel panic|reboot: (Restarting|machine restart)'
}

platform_collect() {
	head -n 1 "$out/.verdict.img" | tr -d '\0' >>"$out/verdict"
	# Also after a crash: what had been written by then.
	mkdir -p "$out/.results"
	debugfs -R "rdump /out $out/.results" "$out/.data.img" >/dev/null 2>&1 || :
	cp -r "$out/.results/out/." "$out/" || :
	rm -rf "$out/.results" "$out"/.*.img.lock "$out/.root.img" "$out/.data.img" "$out/.verdict.img" "$out/.boot.iso"
	# A switched off Bochs says so in its log, as a panic, and ends with status 1.
	if grep -q 'ACPI control: soft power off' "$bochs_log"; then
		status=0
	fi
}

platform_wrong() {
	grep -a -m 1 -E 'VMFAIL|>>PANIC<<' "$bochs_log" | grep -v 'soft power off'
}
