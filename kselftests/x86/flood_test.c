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
 * - the guest goes on, and its TPR stays what it was written, below all that it is flooded with,
 * - the vCPU's thread comes out of KVM_RUN for a signal, and the guest goes on then, too.
 *
 *   flood_test [FLOOD [SHARE]]
 *
 * FLOOD: only those whose names begin so.  SHARE: the other tenant's, in percent.
 *
 * QEMU's time is that of the machine, which has other things to do: there is no other
 * tenant there, and a call that took too long is tried again.  A kernel that checks its
 * locks takes as much longer for a call without any flood, and does work of its own now and
 * then that the other tenant misses: his share is measured again there.
 */
#include <sched.h>
#include <sys/sysinfo.h>

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
#define WAKE_VECTOR	0xa1
#define TPR		0x40	/* below them */
#define GSI		24

#define CALLS		100
#define SHARE_MS	300
#define SIGNAL_MS	5000

/* TSC cycles that no turn of the other tenant's loop takes, and each of his exits does. */
#define GAP		500

/* A period that a guest could have at rest. */
#define BESIDE_US	2000

/* A timer that has not expired yet when the host has programmed one of its own for it. */
#define ARM_US		5
#define ARM_US_BOCHS	300

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
	QUIET, PERIODIC, ONESHOT, DEADLINE, SIBLINGS, SIBLINGS_EXITS, SIBLINGS_TIMER, SELF, DEVICE,
	ARM_LOW, ARM_PUT_OFF, ARM_COUNT, ARM_XAPIC,
};

static const struct flood {
	const char *name;
	enum kind kind;
	bool assisted;		/* bound later: neither its TSC nor its bus is the host's */
} floods[] = {
	{ "quiet", QUIET },
	{ "periodic timer", PERIODIC },
	{ "one-shot timer", ONESHOT },
	{ "passed TSC deadlines", DEADLINE },
	{ "siblings' IPIs", SIBLINGS },
	/* What is in service is put back while others send without end. */
	{ "siblings' IPIs, exits before EOI", SIBLINGS_EXITS },
	/* KVM's behind the signal, and shorter than the stays for its expiries. */
	{ "siblings' IPIs, periodic timer", SIBLINGS_TIMER },
	{ "self-IPIs", SELF },
	{ "device", DEVICE },
	/* Emulated, with an hrtimer whose expiries a control CPU brings. */
	{ "arming with a low vector", ARM_LOW },
	{ "putting off with a low vector", ARM_PUT_OFF },
	/* The last of its guest, which does not come back from there. */
	{ "arming in xAPIC mode", ARM_XAPIC },
	{ "passed TSC deadlines, assisted", DEADLINE, true },
	{ "arming, assisted", ARM_COUNT, true },
};

/* One after the other in one guest: vCPU 0 is flooded, the others halt or send. */
static struct {
	uint64_t arm_us, arm_ticks, period, beside; /* by the host, before the start */
	uint64_t kind, go, stop, end;	/* by the host: number of a flood */
	uint64_t ready, idle;		/* the same, by vCPU 0 */
	uint64_t up;
	uint64_t taken, loops, tpr_lost;
} g;

static volatile typeof(g) *const v = &g;

/* The other tenant's. */
static struct {
	uint64_t turns, missed, stop;
} t;

static bool flooding(void)
{
	return v->ready != v->stop;
}

static void arm(uint64_t ticks)
{
	wrmsr(APIC_BASE_MSR + (APIC_TMICT >> 4), ticks);
}

static void on_wake(struct ex_regs *regs)
{
	guest_eoi();
}

/* The next one comes as soon as this one has been ended, if not before. */
static void on_flood(struct ex_regs *regs)
{
	uint32_t eax, ebx, ecx, edx;

	v->taken++;
	switch (v->kind) {
	case PERIODIC:
	case SIBLINGS_TIMER:
		if (!flooding())
			arm(0);
		break;
	case ONESHOT:
		if (flooding())
			arm(1);
		break;
	case DEADLINE:
		if (flooding())
			wrmsr(MSR_IA32_TSC_DEADLINE, rdtsc() - 1);
		break;
	case SELF:
		if (flooding())
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

/* What is armed is a low vector, or the APIC not an x2APIC. */
static bool has_tpr(void)
{
	return v->kind < ARM_LOW;
}

static void set_up(void)
{
	switch (v->kind) {
	case ARM_XAPIC:
		guest_cli();
		xapic_enable();
		xapic_write_reg(APIC_SPIV, APIC_SPIV_APIC_ENABLED | GUEST_SPURIOUS_VECTOR);
		xapic_write_reg(APIC_TDCR, TDCR_DIV1);
		xapic_write_reg(APIC_LVTT, APIC_LVT_TIMER_ONESHOT | TIMER_VECTOR);
		guest_sti();
		break;
	case PERIODIC:
	case SIBLINGS_TIMER:
		/* A one-shot flood left 1 there, which QEMU takes for the period at once. */
		arm(0);
		x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_PERIODIC | TIMER_VECTOR);
		break;
	case DEADLINE:
		x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_TSCDEADLINE | TIMER_VECTOR);
		break;
	case ARM_LOW:
	case ARM_PUT_OFF:
		x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_ONESHOT | LOW_VECTOR);
		break;
	default:
		x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_ONESHOT | TIMER_VECTOR);
	}
}

static void start_flood(void)
{
	switch (v->kind) {
	case PERIODIC:
		arm(v->period);
		break;
	case SIBLINGS_TIMER:
		arm(v->beside);
		break;
	case ONESHOT:
		arm(1);
		break;
	case DEADLINE:
		wrmsr(MSR_IA32_TSC_DEADLINE, rdtsc() - 1);
		break;
	case SELF:
		guest_self_ipi(SELF_VECTOR);
		break;
	}
}

/* Again as soon as it has expired, or should have; or before that. */
static void arm_and_wait(void)
{
	uint64_t was = v->taken, start = rdtsc();

	if (v->kind == ARM_PUT_OFF) {
		arm(v->arm_ticks);
		return;
	}
	if (v->kind == ARM_XAPIC)
		xapic_write_reg(APIC_TMICT, v->arm_ticks);
	else
		arm(v->arm_ticks);
	while (v->taken == was && rdtsc() - start < 2 * v->arm_us * guest_tsc_khz / 1000)
		cpu_relax();
}

static void flooded_code(void)
{
	/*
	 * What a delivery needs is mapped then, or a periodic timer would be KVM's for good,
	 * and slow, since the exit for that. And QEMU calls an interrupt that met a nested page
	 * fault an exception, which KVM cannot inject with a low vector.
	 */
	asm volatile("int %0; int %1" : : "i"(TIMER_VECTOR), "i"(LOW_VECTOR));
	x2apic_write_reg(APIC_TDCR, TDCR_DIV1);
	guest_sti();
	while (!v->end) {
		cpu_relax();
		if (v->go == v->ready)
			continue;
		set_up();
		v->taken = 0;
		v->loops = 0;
		v->tpr_lost = 0;
		if (has_tpr())
			x2apic_write_reg(APIC_TASKPRI, TPR);
		v->ready = v->go;
		start_flood();
		while (flooding()) {
			v->loops++;
			if (v->kind >= ARM_LOW)
				arm_and_wait();
			else if (x2apic_read_reg(APIC_TASKPRI) != TPR)
				v->tpr_lost++;
		}
		if (has_tpr())
			x2apic_write_reg(APIC_TASKPRI, 0);
		v->idle = v->ready;
	}
}

static void guest_code(uint64_t index)
{
	uint64_t i = 0;

	guest_apic_init();
	__atomic_fetch_add(&g.up, 1, __ATOMIC_SEQ_CST);
	if (!index) {
		flooded_code();
		GUEST_DONE();
	}
	while (!v->end) {
		guest_cli();
		if (v->kind >= SIBLINGS && v->kind <= SIBLINGS_TIMER) {
			while (flooding())
				guest_send_icr(0, IPI_VECTOR + i++ % IPI_VECTORS);
		}
		/* The host wakes it when there is something new. */
		asm volatile("sti; hlt" ::: "memory");
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
	/* Not the other tenant's CPU, if there is a choice. */
	if (get_nprocs() > CPU + NR)
		excl_run_on(0, CPU + NR, get_nprocs() - 1);
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

/*
 * What is measured is the call, and not when this thread has its turn.  Whoever waits is not
 * urgent: on a slow kernel his looks would keep the vCPUs' threads from their start.
 */
static void set_urgent(bool on)
{
	struct sched_param param = { .sched_priority = on };

	sched_setscheduler(0, (on ? SCHED_FIFO : SCHED_OTHER) | SCHED_RESET_ON_FORK, &param);
}

static void measure_calls(struct latency *l)
{
	uint64_t start, us, sum = 0, tsc;
	int i;

	set_urgent(true);
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
	set_urgent(false);
}

/* Kicks that find the CPU in the host, on its way into the guest. */
static void call_without_pause(void)
{
	uint64_t tsc;
	int i;

	for (i = 0; i < CALLS; i++)
		excl_host_msr(CPU, MSR_IA32_TSC, &tsc);
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

static volatile uint64_t signals;

static bool on_signal(struct excl_vm *vm, struct kvm_vcpu *vcpu)
{
	signals += !vcpu->id;
	return true;
}

/* What kill -9 needs: the thread comes out of KVM_RUN, in the middle of the flood. */
static bool signal_gets_through(void)
{
	uint64_t start = excl_now_ns(), seen = signals;

	while (signals == seen && excl_now_ns() - start < SIGNAL_MS * 1000000ULL) {
		excl_vm_signal(&ev, 0);
		usleep(1000);
	}
	return signals != seen;
}

static void wake_siblings(void)
{
	unsigned int i;

	for (i = 1; i < NR; i++) {
		struct kvm_msi msi = { .address_lo = 0xfee00000 | i << 12, .data = WAKE_VECTOR };

		TEST_ASSERT(__vm_ioctl(ev.vm, KVM_SIGNAL_MSI, &msi) > 0, "KVM_SIGNAL_MSI");
	}
}

static bool create(bool assisted)
{
	uint64_t bus_ns = 1;
	unsigned int i;

	memset(&ev, 0, sizeof(ev));
	ev.on_signal = on_signal;
	if (!assisted)
		bus_ns = excl_vm_direct_timer(&ev);
	excl_vm_create(&ev, NR, guest_code);
	for (i = 0; i < NR; i++)
		vcpu_set_cpuid_feature(ev.vcpus[i], X86_FEATURE_TSC_DEADLINE_TIMER);
	virt_pg_map(ev.vm, APIC_DEFAULT_GPA, APIC_DEFAULT_GPA);
	vm_install_exception_handler(ev.vm, LOW_VECTOR, on_flood);
	vm_install_exception_handler(ev.vm, TIMER_VECTOR, on_flood);
	vm_install_exception_handler(ev.vm, SELF_VECTOR, on_flood);
	vm_install_exception_handler(ev.vm, DEVICE_VECTOR, on_flood);
	vm_install_exception_handler(ev.vm, WAKE_VECTOR, on_wake);
	for (i = 0; i < IPI_VECTORS; i++)
		vm_install_exception_handler(ev.vm, IPI_VECTOR + i, on_flood);
	h = excl_shared(&ev, g);
	h->period = excl_in_qemu() ? SHORTEST_PERIOD : 1;
	h->arm_us = excl_in_bochs() ? ARM_US_BOCHS : ARM_US;
	h->arm_ticks = h->arm_us * 1000 / bus_ns;
	h->beside = BESIDE_US * 1000 / bus_ns;
	if (have_device && !assisted) {
		excl_device_route(ev.vm, GSI, 0xfee00000u, DEVICE_VECTOR);
		excl_device_irqfd(&dev, ev.vm, GSI, true);
	}
	excl_vm_start(&ev);
	/* Its first flood is the first one. */
	h->go = 1;
	h->kind = QUIET;
	return excl_wait(&ev, h->up == NR && h->ready == 1, 20);
}

static bool destroy(bool assisted)
{
	h->end = 1;
	wake_siblings();
	if (have_device && !assisted)
		excl_device_irqfd(&dev, ev.vm, GSI, false);
	excl_vm_destroy(&ev);
	return excl_wait_free(NR);
}

/* What is armed again before it expires never does. */
static bool goes_on(const struct flood *f)
{
	uint64_t taken = h->taken + 100, loops = h->loops + 100;

	if (f->kind == QUIET)
		return true;
	if (f->kind >= ARM_LOW)
		return excl_wait(&ev, h->taken > taken || h->loops > loops, 10);
	return excl_wait(&ev, h->taken > taken, 10);
}

static bool has_tenant(void)
{
	return !excl_in_qemu();
}

static uint64_t quiet_share;

static bool flood(const struct flood *f, uint64_t bound_us, uint64_t share_wanted)
{
	uint64_t limit = BUDGET + (f->kind == DEVICE ? DEVICE_PENDING : PENDING);
	uint64_t stay, recorded, storms, taken, share = 0, start = excl_now_ns();
	uint64_t interrupts, since, loops, lost;
	bool ok, went_on, has_share, gets_through;
	struct excl_counters c0, c1;
	char share_text[32] = "-";
	int tries = excl_in_qemu() ? 5 : 1, shares = excl_lockdep() ? 5 : 1;
	struct latency l;

	h->stop = h->ready;
	ok = excl_wait(&ev, h->idle == h->ready, 20);
	h->kind = f->kind;
	h->go++;
	ok = ok && excl_wait(&ev, h->ready == h->go, 20);
	wake_siblings();
	fire = f->kind == DEVICE;
	went_on = ok && goes_on(f);
	excl_counters_read(ev.vcpus[0], &c0);
	longest_stay();
	since = excl_now_ns();
	/* The first CPU is the host's. */
	interrupts = excl_host_interrupts(0, "*");
	taken = h->taken;
	loops = h->loops;

	if (has_tenant()) {
		do {
			share = measure_share();
		} while (100 * share < quiet_share * share_wanted && --shares);
		if (f->kind == QUIET)
			quiet_share = share;
		snprintf(share_text, sizeof(share_text), "%lu.%lu%%", share / 10, share % 10);
	}
	do {
		measure_calls(&l);
	} while (l.longest_us > bound_us && --tries);

	interrupts = excl_host_interrupts(0, "*") - interrupts;
	taken = h->taken - taken;
	loops = h->loops - loops;
	since = (excl_now_ns() - since) / 1000000;
	call_without_pause();
	gets_through = signal_gets_through();
	went_on = went_on && goes_on(f);
	excl_counters_read(ev.vcpus[0], &c1);
	fire = false;
	stay = longest_stay();
	recorded = c1.recorded - c0.recorded;
	storms = c1.storms - c0.storms;
	ksft_print_msg("%-32s call %6lu us at most, %5lu in the mean; other tenant %6s; in %lu ms %lu turns, %lu taken, %lu recorded, %lu storms, longest stay %s%lu, CPU 0 interrupted %lu times; all %lu ms\n",
		       f->name, l.longest_us, l.mean_us, share_text, since, loops, taken,
		       recorded, storms, stay ? "" : "below ", stay ?: BUDGET + 1UL, interrupts,
		       (excl_now_ns() - start) / 1000000);
	lost = h->tpr_lost;
	if (lost)
		ksft_print_msg("%s: the TPR was not %#x %lu times\n", f->name, TPR, lost);
	if (!ok || !l.ok || !gets_through || lost || l.longest_us > bound_us || stay > limit ||
	    (stay && !storms)) {
		excl_counters_delta(f->name, &c0, &c1);
		excl_vm_dump(&ev);
	}
	ksft_test_result(ok && l.ok && l.longest_us <= bound_us,
			 "%s: calls are done within %lu ms\n", f->name, bound_us / 1000);
	has_share = ok && 100 * share >= quiet_share * share_wanted;
	if (has_tenant())
		ksft_test_result(has_share, "%s: the other tenant has his CPU\n", f->name);
	if (!excl_stock())
		ksft_test_result(ok && stay <= limit && (!stay || storms),
				 "%s: stays are within the budget\n", f->name);
	ksft_test_result(!lost, "%s: the guest keeps its TPR\n", f->name);
	ksft_test_result(went_on, "%s: the guest goes on\n", f->name);
	ksft_test_result(gets_through && !excl_vm_failed(&ev), "%s: a signal gets through\n",
			 f->name);
	return ok;
}

/* Is it asked for, and can it be?  What a share is compared with is, where there is one. */
static bool wanted(const struct flood *f, const char *only)
{
	if (f->kind == DEVICE && !have_device)
		return false;
	if (f->kind == QUIET && !has_tenant())
		return false;
	return !only || f->kind == QUIET || !strncmp(f->name, only, strlen(only));
}

static unsigned int results(void)
{
	return 4 + has_tenant() + !excl_stock();
}

int main(int argc, char **argv)
{
	const char *only = argc > 1 ? argv[1] : NULL;
	const struct flood *f;
	uint64_t bound_us, share;
	unsigned int i, plan = 0;
	bool running = false;
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
	bound_us = excl_in_qemu() || excl_lockdep() ? 100000 : 20000;
	for (i = 0; i < ARRAY_SIZE(floods); i++)
		plan += wanted(&floods[i], only) ? results() : 0;
	ksft_set_plan(plan);
	if (!excl_stock() && !trace_records(true))
		ksft_exit_fail_msg("%s: %s\n", RECORDS, strerror(errno));

	excl_shortest_timer_raise();

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
	if (have_device) {
		excl_device_open(&dev);
		TEST_ASSERT(!pthread_create(&thread, NULL, fire_device, NULL),
			    "pthread_create");
	}

	for (i = 0; i < ARRAY_SIZE(floods); i++) {
		f = &floods[i];
		if (!wanted(f, only))
			continue;
		if (running && ev.new_vm == f->assisted) {
			if (!destroy(!ev.new_vm))
				ksft_exit_fail_msg("the CPUs do not come back\n");
			running = false;
		}
		if (!running && !create(f->assisted))
			ksft_exit_fail_msg("the guest does not start\n");
		running = true;
		if (!flood(f, bound_us, share))
			ksft_exit_fail_msg("the guest hangs\n");
	}
	if (running && !destroy(!ev.new_vm))
		ksft_exit_fail_msg("the CPUs do not come back\n");
	if (have_device) {
		firing_ends = true;
		pthread_join(thread, NULL);
		excl_device_close(&dev);
	}
	if (!excl_stock())
		trace_records(false);
	excl_shortest_timer_put_back();
	if (has_tenant()) {
		ht->stop = 1;
		excl_vm_join(&tenant, 10);
		excl_vm_destroy(&tenant);
	}
	ksft_finished();
}
