// SPDX-License-Identifier: GPL-2.0-only
/*
 * What starts the guest of "make latency" as a VM and prints what it reports
 *
 *   latency stock|exclusive|exclusive_c [SAMPLES]
 *
 * stock: in a VM of KVM as it is; exclusive: with a context; exclusive_c: the same, where
 * kvm.exclusive_ipi_fast has been turned off, so that C sends the guest's IPIs.  vCPU n
 * runs on CPU n + 1 in each.  The APIC timer counts at the rate of the host's TSC and the
 * guest's TSC is the host's in each, so that a tick is a tick everywhere.
 *
 * The status is 0 when the guest came to its end and the IPIs took the path that they
 * were to take.
 */
#include <sched.h>

#include "excl.h"
#include "guest.h"
#include "../latency/guest.h"

#define MEMORY		(16u << 20)
#define LIMIT_S		600

/* The words of a Multiboot header with addresses that matter here. */
#define MULTIBOOT_ENTRY	7

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpus[LAT_CPUS];
static struct lat_params params;
static pthread_t threads[LAT_CPUS];
static volatile bool stop, ended, failed, complete;
static char line[LAT_MAX_TEXT];
static size_t line_len;

static void on_text(const char *s, size_t n)
{
	for (; n; s++, n--) {
		if (line_len < sizeof(line) - 1)
			line[line_len++] = *s;
		if (*s != '\n')
			continue;
		line[line_len] = 0;
		fputs(line, stdout);
		fflush(stdout);
		if (!strncmp(line, "error:", 6))
			failed = true;
		if (!strcmp(line, LAT_END "\n"))
			complete = true;
		line_len = 0;
	}
}

/* vCPU 0 alone writes to ports. */
static bool handle_exit(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	if (run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_OUT) {
		switch (run->io.port) {
		case LAT_PORT_TEXT:
			on_text((char *)run + run->io.data_offset,
				run->io.size * run->io.count);
			return true;
		case LAT_PORT_END:
			return false;
		}
	}
	fprintf(stderr, "vCPU %u: exit %u (%s)\n", vcpu->id, run->exit_reason,
		exit_reason_str(run->exit_reason));
	failed = true;
	return false;
}

static void nothing(int sig)
{
}

static void *run_vcpu(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	cpu_set_t set;

	if (excl_stock()) {
		CPU_ZERO(&set);
		CPU_SET(vcpu->id + EXCL_FIRST_CPU, &set);
		TEST_ASSERT(!sched_setaffinity(0, sizeof(set), &set), "sched_setaffinity: %s",
			    strerror(errno));
	}
	while (!stop) {
		if (!__vcpu_run(vcpu)) {
			if (!handle_exit(vcpu))
				break;
		} else if (errno != EINTR && errno != EAGAIN) {
			fprintf(stderr, "vCPU %u: KVM_RUN: %s\n", vcpu->id, strerror(errno));
			failed = true;
			break;
		}
	}
	ended = true;
	return NULL;
}

/* What each vCPU does and has pending, after a failure. */
static void dump_vcpus(void)
{
	struct kvm_lapic_state lapic;
	struct kvm_regs regs;
	uint32_t *count;
	int i, vector;

	stop = true;
	for (i = 0; i < LAT_CPUS; i++) {
		vcpus[i]->run->immediate_exit = 1;
		pthread_kill(threads[i], SIGUSR1);
		pthread_join(threads[i], NULL);
		vcpu_regs_get(vcpus[i], &regs);
		vcpu_ioctl(vcpus[i], KVM_GET_LAPIC, &lapic);
		count = addr_gpa2hva(vm, params.cpus + i * LAT_CPU_SIZE + LAT_CPU_COUNT);
		printf("vCPU %d: RIP 0x%llx RFLAGS 0x%llx count %u", i, regs.rip, regs.rflags,
		       *count);
		for (vector = 0; vector < 256; vector++) {
			if (*(uint32_t *)&lapic.regs[0x200 + vector / 32 * 16] & 1u << vector % 32)
				printf(", 0x%x pending", vector);
			if (*(uint32_t *)&lapic.regs[0x100 + vector / 32 * 16] & 1u << vector % 32)
				printf(", 0x%x in service", vector);
		}
		printf("\n");
	}
}

static void flat_segment(struct kvm_segment *s, uint16_t selector, uint8_t type)
{
	*s = (struct kvm_segment) {
		.limit = 0xffffffff, .selector = selector, .type = type,
		.present = 1, .db = 1, .s = 1, .g = 1,
	};
}

/* As Multiboot hands over: protected mode, flat segments, no paging. */
static void enter_at(struct kvm_vcpu *vcpu, uint32_t entry)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs = { .rip = entry, .rflags = 2, .rax = 0x2badb002 };

	vcpu_sregs_get(vcpu, &sregs);
	flat_segment(&sregs.cs, LAT_CODE32, 0xb);
	flat_segment(&sregs.ds, LAT_DATA, 0x3);
	sregs.es = sregs.ds;
	sregs.fs = sregs.ds;
	sregs.gs = sregs.ds;
	sregs.ss = sregs.ds;
	sregs.cr0 |= X86_CR0_PE;
	vcpu_sregs_set(vcpu, &sregs);
	vcpu_regs_set(vcpu, &regs);
}

static uint32_t create_vm(void)
{
	uint32_t entry;
	uint64_t khz;
	int i;

	vm = vm_create_barebones();
	vm_create_irqchip(vm);
	khz = __vm_ioctl(vm, KVM_GET_TSC_KHZ, NULL);
	TEST_ASSERT((int)khz > 0, "KVM_GET_TSC_KHZ: %s", strerror(errno));
	/* Where a context was armed for the VM, it has the hardware's period already. */
	if (excl_stock())
		vm_enable_cap(vm, KVM_CAP_X86_APIC_BUS_CYCLES_NS,
			      (1000000 + khz / 2) / khz);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, 0, 0,
				    MEMORY / getpagesize(), 0);
	TEST_ASSERT(LAT_BASE + lat_image_size < MEMORY, "the image is too large");
	memset(addr_gpa2hva(vm, 0), 0, MEMORY);
	memcpy(addr_gpa2hva(vm, LAT_BASE), lat_image, lat_image_size);
	memcpy(addr_gpa2hva(vm, LAT_BASE + LAT_PARAMS), &params, sizeof(params));
	memcpy(&entry, lat_image + MULTIBOOT_ENTRY * 4, sizeof(entry));

	for (i = 0; i < LAT_CPUS; i++) {
		uint64_t offset = 0;
		struct kvm_device_attr attr = {
			.group = KVM_VCPU_TSC_CTRL,
			.attr = KVM_VCPU_TSC_OFFSET,
			.addr = (uint64_t)&offset,
		};

		vcpus[i] = __vm_vcpu_add(vm, i);
		vcpu_init_cpuid(vcpus[i], kvm_get_supported_cpuid());
		/* As on the bare machine. */
		if (excl_host_has_tsc_deadline())
			vcpu_set_cpuid_feature(vcpus[i], X86_FEATURE_TSC_DEADLINE_TIMER);
		vcpu_ioctl(vcpus[i], KVM_SET_DEVICE_ATTR, &attr);
	}
	enter_at(vcpus[0], entry);
	return khz;
}

int main(int argc, char **argv)
{
	struct excl_counters before, after;
	uint64_t end = excl_now_ns() + LIMIT_S * 1000000000ULL;
	struct kvm_excl_get_info info = { .size = sizeof(info) };
	uint32_t cpus[LAT_CPUS];
	const char *mode = argc > 1 ? argv[1] : "";
	struct sigaction sa = { .sa_handler = nothing };
	int ctx, i;

	if (strcmp(mode, "stock") && strcmp(mode, "exclusive") && strcmp(mode, "exclusive_c")) {
		fprintf(stderr, "usage: latency stock|exclusive|exclusive_c [SAMPLES]\n");
		return 2;
	}
	memcpy(&params, lat_image + LAT_PARAMS, sizeof(params));
	params.samples = excl_arg(argc, argv, 2, params.samples);
	setenv("KVM_EXCL_STOCK", strcmp(mode, "stock") ? "0" : "1", 1);
	excl_require(LAT_CPUS);
	if (!excl_stock()) {
		ctx = excl_open();
		TEST_ASSERT(ctx >= 0 && !ioctl(ctx, KVM_EXCL_GET_INFO, &info), "GET_INFO: %s",
			    strerror(errno));
		for (i = 0; i < LAT_CPUS; i++)
			cpus[i] = EXCL_FIRST_CPU + i;
		TEST_ASSERT(!excl_claim(ctx, cpus, LAT_CPUS), "claim: %s", strerror(errno));
		TEST_ASSERT(!excl_arm(ctx, KVM_EXCL_HW_BUS_PERIOD), "arm: %s", strerror(errno));
		printf("host: APIC timer %u Hz\n", (unsigned int)info.timer_hz);
	}
	params.hypercalls = this_cpu_is_intel() ? LAT_VMCALL : LAT_VMMCALL;
	printf("host: TSC %u kHz\n", create_vm());
	fflush(stdout);
	excl_counters_open(vcpus[0]);
	excl_counters_read(vcpus[0], &before);
	sigaction(SIGUSR1, &sa, NULL);
	for (i = 0; i < LAT_CPUS; i++)
		TEST_ASSERT(!pthread_create(&threads[i], NULL, run_vcpu, vcpus[i]),
			    "pthread_create");
	while (!ended && excl_now_ns() < end)
		usleep(100000);
	if (!ended) {
		printf("error: the guest does not come to its end within %u s\n", LIMIT_S);
		failed = true;
	}
	if (ended && !failed && !complete) {
		printf("error: the report has no end\n");
		failed = true;
	}
	excl_counters_read(vcpus[0], &after);
	printf("host: vCPU 0: %lu exits, %lu attaches, %lu IPIs in assembly, %lu kicks\n",
	       after.exits - before.exits, after.attaches - before.attaches,
	       after.ipi_fast - before.ipi_fast, excl_kicks(&before, &after));
	if (!strcmp(mode, "exclusive") ? !(after.ipi_fast - before.ipi_fast) :
					 !!(after.ipi_fast - before.ipi_fast)) {
		printf("error: the IPIs did not take the path of %s\n", mode);
		failed = true;
	}
	if (failed)
		dump_vcpus();
	fflush(stdout);
	/* The threads, the VM and the context go with the process. */
	_exit(failed);
}
