// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that host work that turns up between the last look for it and VMLAUNCH or
 * VMRESUME is neither lost nor taken by the guest (VMX).
 *
 * The look reads the owned CPU's pending word and flag.  A hardware watchpoint on
 * each traps right behind that read, in the middle of the window, and perf's
 * handler raises the kick vector there.  Were the entry not given up, the guest
 * would get vector 31, for which it has no handler.  The work that each trap
 * queues is done when perf reports its samples.
 *
 * Meanwhile kicks come at random from another CPU, and each has to be answered:
 * membarrier() waits for the CPU.
 *
 *   entry_window_test [ENTRIES]
 */
#include <linux/hw_breakpoint.h>
#include <linux/membarrier.h>
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "excl.h"
#include "guest.h"

#define TIMER_VECTOR	0x81
/* Every third read traps, or no entry would ever succeed. */
#define PERIOD		3

static struct {
	uint64_t count;			/* by the host, before the start */
	uint64_t entries, timers;
	uint64_t done;
} g;

static void on_timer(struct ex_regs *regs)
{
	(*(volatile uint64_t *)&g.timers)++;
	guest_eoi();
	wrmsr(APIC_BASE_MSR + (APIC_TMICT >> 4), 200000);
}

static void guest_code(uint64_t index)
{
	volatile typeof(g) *v = &g;
	uint32_t a, b, c, d;

	guest_apic_init();
	x2apic_write_reg(APIC_TDCR, TDCR_DIV1);
	x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_ONESHOT | TIMER_VECTOR);
	guest_sti();
	wrmsr(APIC_BASE_MSR + (APIC_TMICT >> 4), 200000);
	/* Each CPUID is an exit and an entry. */
	for (v->entries = 0; v->entries < v->count; v->entries++)
		cpuid(0, &a, &b, &c, &d);
	v->done = 1;
	GUEST_DONE();
}

#define SAMPLE_RATE	"/proc/sys/kernel/perf_event_max_sample_rate"

/* Samples per second beyond which perf stops an event until the next tick. */
static unsigned int sample_rate(unsigned int set)
{
	unsigned int was = 0;
	FILE *f = fopen(SAMPLE_RATE, "r+");

	TEST_ASSERT(f && fscanf(f, "%u", &was) == 1, SAMPLE_RATE);
	rewind(f);
	TEST_ASSERT(fprintf(f, "%u\n", set) > 0, SAMPLE_RATE);
	TEST_ASSERT(!fclose(f), SAMPLE_RATE ": %s", strerror(errno));
	return was;
}

/* A watchpoint on a kernel address of one CPU. */
static int watch(unsigned long address, unsigned int len, int cpu)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_BREAKPOINT,
		.size = sizeof(attr),
		.bp_type = HW_BREAKPOINT_RW,
		.bp_addr = address,
		.bp_len = len,
		.sample_period = PERIOD,
		.wakeup_events = 1,
		.pinned = 1,
	};
	int fd = syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);

	TEST_ASSERT(fd >= 0, "perf_event_open: %s", strerror(errno));
	/* Without a buffer there is no wake-up, and that is the work. */
	TEST_ASSERT(mmap(NULL, 2 * getpagesize(), PROT_READ | PROT_WRITE, MAP_SHARED,
			 fd, 0) != MAP_FAILED, "mmap: %s", strerror(errno));
	return fd;
}

static uint64_t hits(int fd)
{
	uint64_t count = 0;

	TEST_ASSERT(read(fd, &count, sizeof(count)) == sizeof(count), "read");
	return count;
}

static void under_watch(const char *what, unsigned long address, unsigned int len,
			uint64_t count)
{
	uint64_t seen, barriers = 0, end;
	struct excl_counters c0, c1;
	struct excl_vm ev = {};
	volatile typeof(g) *v;
	bool ok;
	int fd;

	excl_vm_create(&ev, 1, guest_code);
	vm_install_exception_handler(ev.vm, TIMER_VECTOR, on_timer);
	v = excl_shared(&ev, g);
	v->count = count;
	excl_counters_read(ev.vcpus[0], &c0);
	fd = watch(address, len, EXCL_FIRST_CPU);
	excl_vm_start(&ev);
	end = excl_now_ns() + 300 * 1000000000ULL;
	while (!v->done && excl_now_ns() < end && !excl_vm_failed(&ev)) {
		syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0);
		barriers++;
		usleep(1000);
	}
	ok = v->done;
	seen = hits(fd);
	close(fd);
	excl_counters_read(ev.vcpus[0], &c1);
	excl_counters_delta(what, &c0, &c1);
	ksft_print_msg("%s: %lu entries, %lu timers, %lu reads seen, %lu barriers\n", what,
		       v->entries, v->timers, seen, barriers);
	ksft_test_result(ok && v->entries == count && v->timers, "%s: the guest ran\n", what);
	ksft_test_result(seen >= count / 10, "%s: the window was hit\n", what);
	/* One in PERIOD raised work, and what was raised was run. */
	ksft_test_result(c1.kick_irq_work - c0.kick_irq_work >= seen / PERIOD / 2,
			 "%s: the work was done\n", what);
	if (!excl_vm_join(&ev, 10))
		ksft_print_msg("the guest did not end\n");
	excl_vm_destroy(&ev);
}

int main(int argc, char **argv)
{
	unsigned long address;
	unsigned int rate;
	uint64_t count;

	ksft_print_header();
	excl_require(1);
	TEST_REQUIRE(host_cpu_is_intel);
	count = excl_arg(argc, argv, 1, 2000);
	/* struct ipi_nmi: the pending word is first, the flag behind it. */
	address = excl_host_per_cpu("ipi_nmi", EXCL_FIRST_CPU);
	TEST_REQUIRE(address);
	syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0);
	ksft_set_plan(6);
	/* The tick that would start it again stays away while the guest runs. */
	rate = sample_rate(100000000);
	under_watch("the pending word", address, HW_BREAKPOINT_LEN_8, count);
	under_watch("the flag", address + 8, HW_BREAKPOINT_LEN_1, count);
	sample_rate(rate);
	ksft_finished();
}
