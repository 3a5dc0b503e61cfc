// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that no flood of interrupts that a hostile guest, or its device, can make costs
 * the host its CPU, or another tenant his.
 *
 * In each flood the vCPU's handler is interrupted as fast as can be: by a timer of a single
 * tick, by a deadline in the past, by its siblings, by itself, by a device; or the host has
 * to emulate timers that are armed as fast as can be.  Meanwhile
 *
 * - a function call on the CPU, which is what reading an MSR of it takes, is done within a
 *   bound, each time,
 * - an ordinary VM on a control CPU has that CPU: 95% of what it has beside the same number
 *   of vCPUs that are quiet.  It reads the TSC in a loop, and what it misses in one turn is
 *   what the host has taken,
 * - the interrupts that the host takes in one stay are within the budget, or near it by as
 *   much as had been sent, and a stay that exceeds it is counted as a storm,
 * - the vCPU's thread comes out of KVM_RUN for a signal.
 *
 *   flood_test [FLOOD [SHARE]]
 *
 * FLOOD: only those whose names begin so.  SHARE: the other tenant's, in percent.
 *
 * QEMU's time is that of the machine, which has other things to do: there is no other
 * tenant there, and a call that took too long is tried again.
 */
#include <sched.h>

#include "device.h"
#include "guest.h"

#define CPU		EXCL_FIRST_CPU
#define NR		3

#define LOW_VECTOR	0x1f
#define TIMER_VECTOR	0x51
#define IPI_VECTOR	0x61	/* and those after it */
#define IPI_VECTORS	16
#define SELF_VECTOR	0x81
#define DEVICE_VECTOR	0x91
#define GSI		24

#define CALLS		100
#define SHARE_MS	100
#define SIGNAL_MS	5000

/* TSC cycles that no turn of the other tenant's loop takes, and each of his exits does. */
#define GAP		500

/* The kernel's KVM_EXCL_STAY_BUDGET, and one of each vector that may be pending then. */
#define BUDGET		256
#define PENDING		224
/* A device is stopped by a control CPU, which takes its time. */
#define DEVICE_PENDING	8192

/* What there is to write to a TMICT; see the comment in hostile_msr_test. */
#define SHORTEST_PERIOD	50000

#ifndef MSR_IA32_TSC_DEADLINE
#define MSR_IA32_TSC_DEADLINE	0x6e0
#endif

enum kind {
	QUIET, PERIODIC, ONESHOT, DEADLINE, SIBLINGS, SIBLINGS_EXITS, SELF, DEVICE,
	ARM_XAPIC, ARM_LOW, ARM_COUNT,
};

static const struct flood {
	const char *name;
	enum kind kind;
	unsigned int vcpus;
	bool assisted;		/* bound later: neither its TSC nor its bus is the host's */
} floods[] = {
	{ "quiet", QUIET, 1 },
	{ "quiet, three vCPUs", QUIET, NR },
	{ "periodic timer", PERIODIC, 1 },
	{ "one-shot timer", ONESHOT, 1 },
	{ "passed TSC deadlines", DEADLINE, 1 },
	{ "passed TSC deadlines, assisted", DEADLINE, 1, true },
	{ "siblings' IPIs", SIBLINGS, NR },
	/* What is in service is put back while others send without end. */
	{ "siblings' IPIs, exits before EOI", SIBLINGS_EXITS, NR },
	{ "self-IPIs", SELF, 1 },
	{ "arming in xAPIC mode", ARM_XAPIC, 1 },
	{ "arming with a low vector", ARM_LOW, 1 },
	{ "arming, assisted", ARM_COUNT, 1, true },
	{ "device", DEVICE, 1 },
};

static struct {
	uint64_t kind, tick, us_ticks;	/* by the host, before the start */
	uint64_t stop;			/* by the host */
	uint64_t ready, taken, loops, sent[NR];
} g;

static volatile typeof(g) *const v = &g;

/* The other tenant's. */
static struct {
	uint64_t turns, missed, stop;
} t;

static void arm(uint64_t ticks)
{
	wrmsr(APIC_BASE_MSR + (APIC_TMICT >> 4), ticks);
}

/* The next one comes as soon as this one has been ended, if not before. */
static void on_flood(struct ex_regs *regs)
{
	uint32_t eax, ebx, ecx, edx;

	v->taken++;
	switch (v->kind) {
	case PERIODIC:
		if (v->stop)
			arm(0);
		break;
	case ONESHOT:
		if (v->ready && !v->stop)
			arm(v->tick);
		break;
	case DEADLINE:
		if (v->ready && !v->stop)
			wrmsr(MSR_IA32_TSC_DEADLINE, rdtsc() - 1);
		break;
	case SELF:
		if (v->ready && !v->stop)
			guest_self_ipi(SELF_VECTOR);
		break;
	case SIBLINGS_EXITS:
		cpuid(0, &eax, &ebx, &ecx, &edx);
		break;
	}
	if (v->kind == ARM_XAPIC)
		xapic_write_reg(APIC_EOI, 0);
	else
		guest_eoi();
}

static void set_up_timer(void)
{
	if (v->kind == ARM_XAPIC) {
		xapic_enable();
		xapic_write_reg(APIC_SPIV, APIC_SPIV_APIC_ENABLED | GUEST_SPURIOUS_VECTOR);
		xapic_write_reg(APIC_TDCR, TDCR_DIV1);
		xapic_write_reg(APIC_LVTT, APIC_LVT_TIMER_ONESHOT | TIMER_VECTOR);
		return;
	}
	guest_apic_init();
	x2apic_write_reg(APIC_TDCR, TDCR_DIV1);
	x2apic_write_reg(APIC_LVTT,
			 v->kind == PERIODIC ? APIC_LVT_TIMER_PERIODIC | TIMER_VECTOR :
			 v->kind == DEADLINE ? APIC_LVT_TIMER_TSCDEADLINE | TIMER_VECTOR :
			 v->kind == ARM_LOW ? APIC_LVT_TIMER_ONESHOT | LOW_VECTOR :
			 APIC_LVT_TIMER_ONESHOT | TIMER_VECTOR);
}

static void guest_code(uint64_t index)
{
	set_up_timer();
	/*
	 * What a delivery needs is mapped then, or a periodic timer would be KVM's for good,
	 * and slow, since the exit for that. And QEMU calls an interrupt that met a nested page
	 * fault an exception, which KVM cannot inject with a low vector.
	 */
	if (v->kind == ARM_LOW)
		asm volatile("int %0" : : "i"(LOW_VECTOR));
	guest_sti();
	if (!index) {
		asm volatile("int %0" : : "i"(TIMER_VECTOR));
		v->taken = 0;
	}
	__atomic_fetch_add(&g.ready, 1, __ATOMIC_SEQ_CST);
	while (index && !v->stop) {
		if (v->kind == SIBLINGS || v->kind == SIBLINGS_EXITS) {
			guest_send_icr(0, IPI_VECTOR + v->sent[index] % IPI_VECTORS);
			v->sent[index]++;
		} else {
			cpu_relax();
		}
	}
	if (index)
		GUEST_DONE();

	switch (v->kind) {
	case PERIODIC:
	case ONESHOT:
		arm(v->tick);
		break;
	case DEADLINE:
		wrmsr(MSR_IA32_TSC_DEADLINE, rdtsc() - 1);
		break;
	case SELF:
		guest_self_ipi(SELF_VECTOR);
		break;
	}
	while (!v->stop) {
		v->loops++;
		switch (v->kind) {
		case ARM_XAPIC:
			xapic_write_reg(APIC_TMICT, v->us_ticks);
			guest_spin_us(4);
			break;
		case ARM_LOW:
		case ARM_COUNT:
			arm(v->us_ticks);
			guest_spin_us(4);
			break;
		default:
			cpu_relax();
		}
	}
	GUEST_DONE();
}

static void tenant_code(uint64_t index)
{
	volatile typeof(t) *w = &t;
	uint64_t last = rdtsc(), now;

	while (!w->stop) {
		now = rdtsc();
		if (now - last > GAP)
			w->missed += now - last;
		last = now;
		w->turns++;
	}
	GUEST_DONE();
}

/* How many interrupts the host has taken in its longest stay, 0: not beyond the budget. */
#define TRACING		"/sys/kernel/tracing/"
#define RECORDS		TRACING "events/kvm/kvm_excl_record/"

static bool trace_records(bool on)
{
	char filter[32];

	snprintf(filter, sizeof(filter), "stay > %u", BUDGET);
	return !excl_write_file(RECORDS "filter", on ? filter : "0") &&
	       !excl_write_file(RECORDS "enable", on ? "1" : "0");
}

static uint64_t longest_stay(void)
{
	uint64_t longest = 0, n;
	char line[512], *at;
	FILE *f;

	if (excl_stock())
		return 0;
	f = fopen(TRACING "trace", "re");
	while (f && fgets(line, sizeof(line), f)) {
		at = strstr(line, " number ");
		if (at && sscanf(at, " number %lu of this stay", &n) == 1 && n > longest)
			longest = n;
	}
	if (f)
		fclose(f);
	/* Opened like that, it is emptied. */
	f = fopen(TRACING "trace", "we");
	TEST_ASSERT(f, TRACING "trace: %s", strerror(errno));
	fclose(f);
	return longest;
}

static struct excl_vm ev, tenant;
static volatile typeof(g) *h;
static volatile typeof(t) *ht;
static struct excl_device dev;
static bool have_device;

static volatile bool fire, firing_ends;

static void *fire_device(void *arg)
{
	/* Neither the vCPU's nor the other tenant's. */
	excl_run_on(0, CPU + 1, CPU + 1);
	while (!firing_ends) {
		if (fire)
			excl_device_fire(&dev);
		else
			usleep(1000);
	}
	return NULL;
}

struct latency {
	uint64_t longest_us, mean_us;
	bool ok;
};

static void measure_calls(struct latency *l)
{
	uint64_t start, us, sum = 0, tsc;
	int i;

	l->longest_us = 0;
	l->ok = true;
	for (i = 0; l->ok && i < CALLS; i++) {
		start = excl_now_ns();
		l->ok = excl_host_msr(CPU, MSR_IA32_TSC, &tsc);
		us = (excl_now_ns() - start) / 1000;
		sum += us;
		if (us > l->longest_us)
			l->longest_us = us;
		usleep(100 + 7 * i);
	}
	l->mean_us = sum / CALLS;
}

/* What the other tenant has of his CPU, in tenths of a percent. */
static uint64_t measure_share(void)
{
	uint64_t start = rdtsc(), missed = ht->missed, turns = ht->turns, elapsed;

	usleep(SHARE_MS * 1000);
	missed = ht->missed - missed;
	elapsed = rdtsc() - start;
	/* None at all: it did not run. */
	if (ht->turns == turns)
		return 0;
	return missed < elapsed ? 1000 - missed * 1000 / elapsed : 0;
}

static bool stop_running(struct excl_vm *vm, struct kvm_vcpu *vcpu)
{
	return false;
}

/* What kill -9 needs: the thread comes out of KVM_RUN, in the middle of the flood. */
static bool signal_ends(struct excl_thread *thread)
{
	uint64_t start = excl_now_ns();

	ev.on_signal = stop_running;
	while (!thread->ended && excl_now_ns() - start < SIGNAL_MS * 1000000ULL) {
		thread->vcpu->run->immediate_exit = 1;
		excl_vm_signal(&ev, thread->vcpu->id);
		usleep(1000);
	}
	return thread->ended;
}

static void create(const struct flood *f)
{
	uint64_t bus_ns = 1;
	unsigned int i;

	memset(&ev, 0, sizeof(ev));
	if (!f->assisted)
		bus_ns = excl_vm_direct_timer(&ev);
	excl_vm_create(&ev, f->vcpus, guest_code);
	for (i = 0; i < f->vcpus; i++)
		vcpu_set_cpuid_feature(ev.vcpus[i], X86_FEATURE_TSC_DEADLINE_TIMER);
	virt_pg_map(ev.vm, APIC_DEFAULT_GPA, APIC_DEFAULT_GPA);
	vm_install_exception_handler(ev.vm, LOW_VECTOR, on_flood);
	vm_install_exception_handler(ev.vm, TIMER_VECTOR, on_flood);
	vm_install_exception_handler(ev.vm, SELF_VECTOR, on_flood);
	vm_install_exception_handler(ev.vm, DEVICE_VECTOR, on_flood);
	for (i = 0; i < IPI_VECTORS; i++)
		vm_install_exception_handler(ev.vm, IPI_VECTOR + i, on_flood);
	h = excl_shared(&ev, g);
	h->kind = f->kind;
	h->tick = f->kind == PERIODIC && excl_in_qemu() ? SHORTEST_PERIOD : 1;
	h->us_ticks = bus_ns < 1000 ? 1000 / bus_ns : 1;
	if (f->kind == DEVICE) {
		excl_device_route(ev.vm, GSI, 0xfee00000u, DEVICE_VECTOR);
		excl_device_irqfd(&dev, ev.vm, GSI, true);
	}
}

static bool has_tenant(void)
{
	return !excl_in_qemu();
}

static bool arms(enum kind kind)
{
	return kind == ARM_XAPIC || kind == ARM_LOW || kind == ARM_COUNT;
}

static uint64_t quiet_share[NR + 1];

static void flood(const struct flood *f, uint64_t bound_us, uint64_t share_wanted)
{
	uint64_t limit = BUDGET + (f->kind == DEVICE ? DEVICE_PENDING : PENDING);
	struct excl_counters c0, c1;
	char share_text[32] = "-";
	uint64_t stay, recorded, storms, taken, share = 0;
	uint64_t start = excl_now_ns();
	struct latency l;
	bool ok, ended;
	int tries = excl_in_qemu() ? 3 : 1;

	create(f);
	excl_vm_start(&ev);
	ok = excl_wait(&ev, h->ready == f->vcpus, 30);
	fire = f->kind == DEVICE;
	/* What is armed again before it expires never does. */
	ok = ok && (f->kind == QUIET ||
		    excl_wait(&ev, h->taken > 100 || (arms(f->kind) && h->loops > 100), 10));
	excl_counters_read(ev.vcpus[0], &c0);
	longest_stay();

	if (has_tenant()) {
		share = measure_share();
		if (f->kind == QUIET)
			quiet_share[f->vcpus] = share;
		snprintf(share_text, sizeof(share_text), "%lu.%lu%%", share / 10, share % 10);
	}
	do {
		measure_calls(&l);
	} while (l.longest_us > bound_us && --tries);

	taken = h->taken;
	excl_counters_read(ev.vcpus[0], &c1);
	ended = signal_ends(&ev.threads[0]);
	fire = false;
	h->stop = 1;
	stay = longest_stay();
	recorded = c1.recorded - c0.recorded;
	storms = c1.storms - c0.storms;
	ksft_print_msg("%-32s call %6lu us at most, %5lu in the mean; other tenant %6s; taken %lu, recorded %lu, storms %lu, longest stay %s%lu; %lu ms\n",
		       f->name, l.longest_us, l.mean_us, share_text, taken, recorded, storms,
		       stay ? "" : "below ", stay ?: BUDGET + 1UL,
		       (excl_now_ns() - start) / 1000000);
	if (!ok || !l.ok || !ended || l.longest_us > bound_us || stay > limit) {
		excl_counters_delta(f->name, &c0, &c1);
		excl_vm_dump(&ev);
	}
	ksft_test_result(ok && l.ok && l.longest_us <= bound_us,
			 "%s: calls are done within %lu ms\n", f->name, bound_us / 1000);
	if (has_tenant())
		ksft_test_result(ok && 100 * share >= quiet_share[f->vcpus] * share_wanted,
				 "%s: the other tenant has his CPU\n", f->name);
	if (!excl_stock())
		ksft_test_result(ok && stay <= limit && (!stay || c1.storms),
				 "%s: stays are within the budget\n", f->name);
	ksft_test_result(ended && !excl_vm_failed(&ev), "%s: a signal gets through\n", f->name);
	if (f->kind == DEVICE)
		excl_device_irqfd(&dev, ev.vm, GSI, false);
	excl_vm_destroy(&ev);
	if (!excl_wait_free(f->vcpus))
		ksft_exit_fail_msg("the CPUs do not come back\n");
}

/* Is it asked for, and can it be? What a share is compared with always is. */
static bool wanted(const struct flood *f, const char *only)
{
	if (f->kind == DEVICE && !have_device)
		return false;
	return !only || f->kind == QUIET || !strncmp(f->name, only, strlen(only));
}

static unsigned int results(const struct flood *f)
{
	return 2 + has_tenant() + !excl_stock();
}

int main(int argc, char **argv)
{
	const char *only = argc > 1 ? argv[1] : NULL;
	struct sched_param fifo = { .sched_priority = 1 };
	uint64_t bound_us, share;
	unsigned int i, plan = 0;
	pthread_t thread;
	uint64_t tsc;

	ksft_print_header();
	excl_require(NR);
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_TSC_DEADLINE_TIMER));
	if (!excl_host_msr(CPU, MSR_IA32_TSC, &tsc))
		ksft_exit_skip("no /dev/cpu/%d/msr\n", CPU);
	if (only && !strcmp(only, "device"))
		excl_device_require();
	have_device = !excl_stock() && excl_device_present();
	share = excl_arg(argc, argv, 2, 95);
	bound_us = excl_in_qemu() ? 100000 : 20000;
	for (i = 0; i < ARRAY_SIZE(floods); i++)
		plan += wanted(&floods[i], only) ? results(&floods[i]) : 0;
	ksft_set_plan(plan);
	if (!excl_stock() && !trace_records(true))
		ksft_exit_fail_msg("%s: %s\n", RECORDS, strerror(errno));

	/* On the CPU that is left when all the others are given away. */
	if (has_tenant()) {
		tenant.ordinary = true;
		excl_vm_create(&tenant, 1, tenant_code);
		ht = excl_shared(&tenant, t);
		excl_vm_start(&tenant);
		if (!excl_wait(&tenant, ht->turns, 20) ||
		    excl_run_on(tenant.threads[0].tid, 0, 0))
			ksft_exit_fail_msg("the other tenant does not run\n");
	}
	/* What is measured is the call, and not when this thread has its turn. */
	sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &fifo);
	if (have_device) {
		excl_device_open(&dev);
		TEST_ASSERT(!pthread_create(&thread, NULL, fire_device, NULL),
			    "pthread_create");
	}

	for (i = 0; i < ARRAY_SIZE(floods); i++) {
		if (wanted(&floods[i], only))
			flood(&floods[i], bound_us, share);
	}
	if (have_device) {
		firing_ends = true;
		pthread_join(thread, NULL);
		excl_device_close(&dev);
	}
	if (!excl_stock())
		trace_records(false);
	if (has_tenant()) {
		ht->stop = 1;
		excl_vm_join(&tenant, 10);
		excl_vm_destroy(&tenant);
	}
	ksft_finished();
}
