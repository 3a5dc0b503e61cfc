# SPDX-License-Identifier: GPL-2.0
#
# Each target builds what it needs and is quick when nothing changed; what takes
# long tells how far it is and keeps its log in build/log/.  The work is done by
# the scripts in scripts/.
#
#   KSRC=/path            a Linux 6.12 tree to use instead of linux-source-6.12
#   KVM_EXCL_CACHE=/path  compiler cache, images and the rig's root file system
#                         (default: ~/.cache/kvm-exclusive)
#   JOBS=N                parallel jobs (default: CPUs + 1)
#   PLATFORM=NAME         the emulated host of demo: amd (default) or intel;
#                         of test, that one alone (amd-bochs too)
#   PART=NAME             of test, test-full and soak: this part alone (PART=list: which)
#   FLAVOUR=debug, =stock of test and silicon: on the debug kernel, on the unpatched one;
#     =debian, =debian-rt of test: with Debian's configuration
#   FORCE=1               test-full: also what passed and has not changed since
#   SOAK_ROUNDS=N         rounds of soak (default: 10)
#   SEEDS="N..."          of silicon, and of it in test, test-full and soak
#   SEED=N                of silicon: this one again, as it was when it failed
#   MUTANT=NAME           of silicon-mutants: this one alone
#   QUIET=N,...           of quiet: these points alone
#   DEVICES=1             demo: with assigned devices (PLATFORM=amd)
#   HOST_CLAIMS=N         claims of host (default: 1000)
#   LATENCY_SAMPLES=N     of latency, for each row (default: 600)
#   FULL=1                check: every prefix of the series, too
#   KERNEL_BUILD=/path    of install: the kernel that the module is for (default: the
#                         running one's); PREFIX (default: /usr/local) and DESTDIR as usual
#
# Documentation/testing.md and measuring.md have those of single scripts.

# The targets are steps of one build; the parallel work is inside them.
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

TOP := $(CURDIR)
BUILD := $(TOP)/build
SRC := $(BUILD)/exclusive/linux
OBJ := $(BUILD)/exclusive/obj
DEBUG_OBJ := $(BUILD)/exclusive/obj-debug
DEBIAN_OBJ := $(BUILD)/exclusive/obj-debian
DEBIAN_RT_OBJ := $(BUILD)/exclusive/obj-debian-rt
S := $(TOP)/scripts

# For installing on a real machine: the kernel the module is for.
KERNEL_BUILD ?= /lib/modules/$(shell uname -r)/build
PREFIX ?= /usr/local

export KSRC KVM_EXCL_CACHE JOBS PLATFORM PART

# The emulated host's kernel, where it is not the patched one.
HOST_stock := kernel-stock-rig
HOST_debug := kernel-debug module-debug
HOST_debian := kernel-debian module-debian
HOST_debian-rt := kernel-debian-rt module-debian-rt
HOST_KERNEL := $(HOST_$(FLAVOUR))

# What a platform's emulator is, where the root file system does not have it.
EMULATOR_intel := bochs
EMULATOR_amd-bochs := bochs
EMULATOR := $(EMULATOR_$(PLATFORM))

.PHONY: help
help:	## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: deps
deps:	## install the packages that building and testing need (Debian 12 or 13, as root)
	@$(S)/build/deps.sh

.PHONY: source
source: deps	## unpack the newest linux-source-6.12 (or KSRC) as git branch base
	@$(S)/build/source.sh

.PHONY: apply
apply: source	## apply patches/series without fuzz, as branch exclusive
	@$(S)/build/apply.sh

.PHONY: kernel
kernel: apply	## build the patched kernel of the rig
	@$(S)/build/kernel.sh exclusive

.PHONY: kernel-stock
kernel-stock: source	## build the unpatched kernel of the rig (the guest, and for comparison)
	@$(S)/build/kernel.sh stock

.PHONY: kernel-stock-rig
kernel-stock-rig: source	## build the unpatched kernel with what works round the emulators (the stock host)
	@$(S)/build/kernel.sh stock-rig

.PHONY: kernel-debug
kernel-debug: apply	## build the patched kernel with lockdep, PROVE_RCU and KASAN
	@$(S)/build/kernel.sh debug

.PHONY: kernel-debian
kernel-debian: apply	## build the patched kernel with Debian's configuration
	@$(S)/build/kernel.sh debian

.PHONY: kernel-debian-rt
kernel-debian-rt: apply	## build the patched kernel with that of Debian's PREEMPT_RT kernel
	@$(S)/build/kernel.sh debian-rt

.PHONY: rootfs
rootfs: deps	## make the rig's root file system (Debian 13 with QEMU, perf, redis, ...)
	@$(S)/build/rootfs.sh

.PHONY: bochs
bochs: deps	## build the emulator of the platform intel (Debian's Bochs with corrections)
	@$(S)/rig/bochs.sh

.PHONY: initramfs
initramfs: rootfs source	## make the initramfs images of the emulated host and of the guest
	@$(S)/build/initramfs.sh

.PHONY: module
module: kernel	## build the companion module against the patched kernel
	@$(S)/build/module.sh $(OBJ) $(BUILD)/module

.PHONY: module-debug
module-debug: kernel-debug	## build the companion module against the debug kernel
	@$(S)/build/module.sh $(DEBUG_OBJ) $(BUILD)/module-debug

.PHONY: module-debian
module-debian: kernel-debian	## build the companion module against Debian's
	@$(S)/build/module.sh $(DEBIAN_OBJ) $(BUILD)/module-debian

.PHONY: module-debian-rt
module-debian-rt: kernel-debian-rt	## build the companion module against Debian's with PREEMPT_RT
	@$(S)/build/module.sh $(DEBIAN_RT_OBJ) $(BUILD)/module-debian-rt

.PHONY: tools
tools: deps	## build the kvm-exclusive command
	@if [ -f module/tools/Makefile ]; then \
		mkdir -p $(BUILD)/tools && $(MAKE) -s -C module/tools OUTPUT=$(BUILD)/tools; \
	else echo "tools: no sources yet"; fi

.PHONY: kselftests
kselftests: apply	## build the tests against the tree's KVM selftest library
	@if [ -f kselftests/Makefile ]; then \
		mkdir -p $(BUILD)/kselftests && $(MAKE) -s -C kselftests KSRC=$(SRC) OUTPUT=$(BUILD)/kselftests; \
	else echo "kselftests: no sources yet"; fi

# What was asked for is looked at before anything is built.
ARGS := $(addprefix args-,test test-full test-debug soak demo host quiet quiet-debug latency silicon silicon-mutants)
.PHONY: $(ARGS)
$(ARGS): args-%:
	@$(S)/check/args.sh $*

.PHONY: demo
demo: args-demo initramfs $(EMULATOR) kernel-stock kernel module tools	## measure a guest in stock and exclusive mode, side by side
	@$(S)/bench/demo/demo.sh

.PHONY: demo-stock
demo-stock: args-demo initramfs $(EMULATOR) kernel-stock kernel-stock-rig	## measure the stock column alone, on the unpatched kernel
	@MODE=stock FLAVOUR=stock $(S)/bench/demo/demo.sh

.PHONY: test
test: $(if $(filter list,$(PART)),,args-test initramfs bochs kernel module $(HOST_KERNEL) tools kselftests)	## run every kind of test on all emulated platforms (PLATFORM: on one)
	@$(S)/test/tiers.sh

# What a part needs besides is made when it has to run.
.PHONY: test-full
test-full: $(if $(filter list,$(PART)),,args-test-full apply initramfs)	## all tests, on the patched, the debug and Debian's kernels and all CPU models, in parts; what passed stays passed until it changes
	@$(S)/test/tiers.sh full

.PHONY: test-parts
test-parts:	## list the parts of test-full: what each took, and how it ended
	@PART=list $(S)/test/tiers.sh full

.PHONY: soak
soak: $(if $(filter list,$(PART)),,args-soak deps)	## the tests for hours, in parts (PART=list: which)
	@$(S)/test/tiers.sh soak

.PHONY: test-debug
test-debug: args-test-debug initramfs $(EMULATOR) kernel module kernel-debug module-debug tools kselftests	## run the tests on the debug kernel
	@FLAVOUR=debug $(S)/test/groups.sh

.PHONY: host
host: args-host initramfs kernel module $(HOST_KERNEL) tools kselftests	## fio and iperf3 on a host whose CPUs come and go (HOST_CLAIMS=1000)
	@$(S)/bench/work/work.sh

.PHONY: quiet
quiet: args-quiet deps-judge initramfs kernel-stock kernel module tools kselftests	## measure how quiet owned CPUs are (QUIET=1,3: only these points)
	@$(S)/bench/quiet/quiet.sh

.PHONY: quiet-debug
quiet-debug: args-quiet-debug deps-judge initramfs kernel-stock kernel-debug module-debug tools kselftests	## the same on the debug kernel
	@FLAVOUR=debug $(S)/bench/quiet/quiet.sh

.PHONY: latency
latency: args-latency initramfs bochs kernel-stock-rig kernel module tools kselftests	## measure timers, IPIs, EOI and TPR in Bochs (PLATFORM=intel, or amd-bochs)
	@$(S)/bench/latency/latency.sh

.PHONY: silicon
silicon: args-silicon initramfs bochs kernel module $(HOST_KERNEL) tools kselftests	## run tests while Bochs does the worst that the manuals permit (SEED=N: one again)
	@$(S)/silicon/silicon.sh

.PHONY: silicon-mutants
silicon-mutants: args-silicon-mutants initramfs bochs kernel module tools kselftests	## see that "make silicon" finds planted bugs
	@$(S)/silicon/silicon.sh mutants

.PHONY: check
check: deps-judge apply	## checkpatch, shellcheck, headers, sparse, series applies and regenerates (FULL=1: prefixes too)
	@$(S)/check/check.sh

.PHONY: check-prefixes
check-prefixes: source	## compile the kernel after every patch, option on and off (slow)
	@$(S)/check/prefixes.sh

.PHONY: report
report: deps-report	## one HTML page of all reports that there are, build/report/index.html
	@$(S)/results/report.sh

# What cannot be had fails the part "check" of test-full, and no other.
.PHONY: deps-check
deps-check:
	@$(S)/build/deps.sh judge && $(S)/build/deps.sh report || :

.PHONY: deps-judge
deps-judge:	## install what judges the samples of quiet
	@$(S)/build/deps.sh judge

.PHONY: deps-report
deps-report:	## install what draws that page, and a browser that looks at it
	@$(S)/build/deps.sh report

.PHONY: results
results:	## write the reports that there are into Documentation/results.md
	@$(S)/results.py document Documentation/results.md $(BUILD)/report

.PHONY: pictures
pictures:	## draw Documentation/pictures/*.svg from the .dot beside them (graphviz)
	@$(S)/build/pictures.sh

.PHONY: refresh
refresh:	## write branch exclusive to patches/
	@$(S)/build/refresh.sh

.PHONY: install
install:	## install the module for KERNEL_BUILD, the command and the UAPI header
	@PREFIX=$(PREFIX) $(S)/build/install.sh $(KERNEL_BUILD)

.PHONY: clean
clean:	## remove what was built (not the unpacked trees, not the cache)
	@$(S)/build/clean.sh

.PHONY: clean-source
clean-source: clean	## remove the unpacked trees as well, branches included
	@$(S)/build/clean.sh source
