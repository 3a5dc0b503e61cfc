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
 * - an ordinary VM on a control CPU has that CPU: SHARE percent of what it has beside the same
 *   number of vCPUs that are quiet.  It reads the TSC in a loop, and what it misses in one turn
 *   is what the host has taken,
 * - the interrupts that the host takes in one stay are within the budget, or near it by as
 *   much as had been sent, and a stay that exceeds it is counted as a storm,
 * - the guest goes on, and its TPR stays what it was written, below all that it is flooded with,
 * - the vCPU's thread comes out of KVM_RUN for a signal, and the guest goes on then, too.
 *
 * Each flood is a variant, and each of these is a case of it.  The variant "device" needs one
 * that is assigned.
 *
 * QEMU's time is that of the machine, which has other things to do: the case of the other
 * tenant is for Bochs, and a call that took too long is tried again in QEMU.  A kernel that
 * checks its locks takes as much longer for a call without any flood, and does work of its own
 * now and then that the other tenant misses: his share is measured again there.
 */
#include <sched.h>
#include <sys/sysinfo.h>

#include "device.h"
#include "guest.h"
#include "harness.h"

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
#define SHARE		95	/* of what the other tenant has beside quiet vCPUs, in percent */
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

enum flood_kind {
	QUIET, PERIODIC, ONESHOT, DEADLINE, SIBLINGS, SIBLINGS_EXITS, SIBLINGS_TIMER, SELF, DEVICE,
	ARM_LOW, ARM_PUT_OFF, ARM_COUNT, ARM_XAPIC,
};

/* The quiet and then the flood: vCPU 0 is flooded, the others halt or send. */
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

/**
 * struct flooded - a guest that is quiet, and then flooded
 * @ev: the VM
 * @g: what it shares with the host
 * @dev: the device that floods it, with @thread
 */
struct flooded {
	struct excl_vm ev;
	volatile typeof(g) *g;
	struct excl_device dev;
	bool has_device;
	pthread_t thread;
};

static volatile bool fire, firing_ends;

static void *fire_device(void *arg)
{
	struct flooded *f = arg;

	/* Not the other tenant's CPU, if there is a choice. */
	if (get_nprocs() > CPU + NR)
		excl_run_on(0, CPU + NR, get_nprocs() - 1);
	while (!firing_ends) {
		if (fire)
			excl_device_fire(&f->dev);
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

static volatile uint64_t signals;

static bool on_signal(struct excl_vm *vm, struct kvm_vcpu *vcpu)
{
	signals += !vcpu->id;
	return true;
}

/* What kill -9 needs: the thread comes out of KVM_RUN, in the middle of the flood. */
static bool signal_gets_through(struct excl_vm *ev)
{
	uint64_t start = excl_now_ns(), seen = signals;

	while (signals == seen && excl_now_ns() - start < SIGNAL_MS * 1000000ULL) {
		excl_vm_signal(ev, 0);
		usleep(1000);
	}
	return signals != seen;
}

static void wake_siblings(struct excl_vm *ev)
{
	unsigned int i;

	for (i = 1; i < NR; i++) {
		struct kvm_msi msi = { .address_lo = 0xfee00000 | i << 12, .data = WAKE_VECTOR };

		TEST_ASSERT(__vm_ioctl(ev->vm, KVM_SIGNAL_MSI, &msi) > 0, "KVM_SIGNAL_MSI");
	}
}

/* A guest that is quiet. */
static bool create(struct flooded *f, enum flood_kind kind, bool assisted)
{
	struct excl_vm *ev = &f->ev;
	uint64_t bus_ns = 1;
	unsigned int i;

	if (!excl_stock() && !trace_records(true))
		ksft_exit_fail_msg("%s: %s\n", RECORDS, strerror(errno));
	excl_shortest_timer_raise();
	ev->on_signal = on_signal;
	if (!assisted)
		bus_ns = excl_vm_direct_timer(ev);
	excl_vm_create(ev, NR, guest_code);
	for (i = 0; i < NR; i++)
		vcpu_set_cpuid_feature(ev->vcpus[i], X86_FEATURE_TSC_DEADLINE_TIMER);
	virt_pg_map(ev->vm, APIC_DEFAULT_GPA, APIC_DEFAULT_GPA);
	vm_install_exception_handler(ev->vm, LOW_VECTOR, on_flood);
	vm_install_exception_handler(ev->vm, TIMER_VECTOR, on_flood);
	vm_install_exception_handler(ev->vm, SELF_VECTOR, on_flood);
	vm_install_exception_handler(ev->vm, DEVICE_VECTOR, on_flood);
	vm_install_exception_handler(ev->vm, WAKE_VECTOR, on_wake);
	for (i = 0; i < IPI_VECTORS; i++)
		vm_install_exception_handler(ev->vm, IPI_VECTOR + i, on_flood);
	f->g = excl_shared(ev, g);
	f->g->period = excl_in_qemu() ? SHORTEST_PERIOD : 1;
	f->g->arm_us = excl_in_bochs() ? ARM_US_BOCHS : ARM_US;
	f->g->arm_ticks = f->g->arm_us * 1000 / bus_ns;
	f->g->beside = BESIDE_US * 1000 / bus_ns;
	f->has_device = kind == DEVICE;
	if (f->has_device) {
		excl_device_open(&f->dev);
		excl_device_route(ev->vm, GSI, 0xfee00000u, DEVICE_VECTOR);
		excl_device_irqfd(&f->dev, ev->vm, GSI, true);
		TEST_ASSERT(!pthread_create(&f->thread, NULL, fire_device, f), "pthread_create");
	}
	excl_vm_start(ev);
	f->g->go = 1;
	f->g->kind = QUIET;
	return excl_wait(ev, f->g->up == NR && f->g->ready == 1, 20);
}

static bool destroy(struct flooded *f)
{
	f->g->end = 1;
	fire = false;
	wake_siblings(&f->ev);
	if (f->has_device) {
		firing_ends = true;
		pthread_join(f->thread, NULL);
		excl_device_irqfd(&f->dev, f->ev.vm, GSI, false);
	}
	excl_vm_destroy(&f->ev);
	if (f->has_device)
		excl_device_close(&f->dev);
	excl_shortest_timer_put_back();
	if (!excl_stock())
		trace_records(false);
	return excl_wait_free(NR);
}

/* What is armed again before it expires never does. */
static bool goes_on(struct flooded *f)
{
	uint64_t taken = f->g->taken + 100, loops = f->g->loops + 100;

	if (f->g->kind >= ARM_LOW)
		return excl_wait(&f->ev, f->g->taken > taken || f->g->loops > loops, 10);
	return excl_wait(&f->ev, f->g->taken > taken, 10);
}

/* False when the guest does not come to it. */
static bool begin(struct flooded *f, enum flood_kind kind)
{
	f->g->stop = f->g->ready;
	if (!excl_wait(&f->ev, f->g->idle == f->g->ready, 20))
		return false;
	f->g->kind = kind;
	f->g->go++;
	if (!excl_wait(&f->ev, f->g->ready == f->g->go, 20))
		return false;
	wake_siblings(&f->ev);
	fire = kind == DEVICE;
	return goes_on(f);
}

FIXTURE(flood) {
	struct flooded f;
};

FIXTURE_VARIANT(flood) {
	enum flood_kind kind;
	bool assisted;
};

FIXTURE_VARIANT_ADD(flood, periodic_timer) { PERIODIC };
FIXTURE_VARIANT_ADD(flood, one_shot_timer) { ONESHOT };
FIXTURE_VARIANT_ADD(flood, passed_tsc_deadlines) { DEADLINE };
FIXTURE_VARIANT_ADD(flood, siblings_ipis) { SIBLINGS };
/* What is in service is put back while others send without end. */
FIXTURE_VARIANT_ADD(flood, siblings_ipis_exits_before_eoi) { SIBLINGS_EXITS };
/* KVM's behind the signal, and shorter than the stays for its expiries. */
FIXTURE_VARIANT_ADD(flood, siblings_ipis_periodic_timer) { SIBLINGS_TIMER };
FIXTURE_VARIANT_ADD(flood, self_ipis) { SELF };
FIXTURE_VARIANT_ADD(flood, device) { DEVICE };
/* Emulated, with an hrtimer whose expiries a control CPU brings. */
FIXTURE_VARIANT_ADD(flood, arming_with_a_low_vector) { ARM_LOW };
FIXTURE_VARIANT_ADD(flood, putting_off_with_a_low_vector) { ARM_PUT_OFF };
FIXTURE_VARIANT_ADD(flood, arming_in_xapic_mode) { ARM_XAPIC };
/* Bound later: neither its TSC nor its bus is the host's. */
FIXTURE_VARIANT_ADD(flood, passed_tsc_deadlines_assisted) { DEADLINE, true };
FIXTURE_VARIANT_ADD(flood, arming_assisted) { ARM_COUNT, true };

FIXTURE_SETUP(flood)
{
	ASSERT_TRUE(create(&self->f, variant->kind, variant->assisted));
}

FIXTURE_TEARDOWN(flood)
{
	if (_metadata->exit_code)
		excl_vm_dump(&self->f.ev);
	EXPECT_FALSE(excl_vm_failed(&self->f.ev));
	EXPECT_TRUE(destroy(&self->f));
}

TEST_F_TIMEOUT(flood, lets_calls_be_done_in_time, EXCL_CASE_S)
{
	uint64_t bound_us = excl_in_qemu() || excl_lockdep() ? 100000 : 20000;
	int tries = excl_in_qemu() ? 5 : 1;
	struct latency l;

	ASSERT_TRUE(begin(&self->f, variant->kind));
	do {
		measure_calls(&l);
	} while (l.longest_us > bound_us && --tries);
	ksft_print_msg("call %lu us at most, %lu in the mean\n", l.longest_us, l.mean_us);
	EXPECT_TRUE(l.ok);
	EXPECT_LE(l.longest_us, bound_us);
}

TEST_F_TIMEOUT(flood, keeps_the_budget_of_a_stay, EXCL_CASE_S)
{
	uint64_t limit = BUDGET + (variant->kind == DEVICE ? DEVICE_PENDING : PENDING);
	struct excl_counters c0, c1;
	uint64_t stay, interrupts, taken;
	struct latency l;

	ASSERT_TRUE(begin(&self->f, variant->kind));
	excl_counters_read(self->f.ev.vcpus[0], &c0);
	longest_stay();
	/* The first CPU is the host's. */
	interrupts = excl_host_interrupts(0, "*");
	taken = self->f.g->taken;
	measure_calls(&l);
	call_without_pause();
	interrupts = excl_host_interrupts(0, "*") - interrupts;
	taken = self->f.g->taken - taken;
	excl_counters_read(self->f.ev.vcpus[0], &c1);
	stay = longest_stay();
	ksft_print_msg("%lu taken, %lu recorded, %lu storms, longest stay %s%lu, CPU 0 interrupted %lu times\n",
		       taken, c1.recorded - c0.recorded, c1.storms - c0.storms,
		       stay ? "" : "below ", stay ?: BUDGET + 1UL, interrupts);
	EXPECT_LE(stay, limit);
	if (stay)
		EXPECT_NE(c0.storms, c1.storms);
}

TEST_F_TIMEOUT(flood, lets_the_guest_go_on_with_its_tpr, EXCL_CASE_S)
{
	ASSERT_TRUE(begin(&self->f, variant->kind));
	call_without_pause();
	EXPECT_TRUE(goes_on(&self->f));
	EXPECT_EQ(0, self->f.g->tpr_lost);
}

TEST_F_TIMEOUT(flood, lets_a_signal_through, EXCL_CASE_S)
{
	ASSERT_TRUE(begin(&self->f, variant->kind));
	EXPECT_TRUE(signal_gets_through(&self->f.ev));
	EXPECT_TRUE(goes_on(&self->f));
}

/* What the other tenant has of his CPU, in tenths of a percent. */
static uint64_t measure_share(volatile typeof(t) *t)
{
	uint64_t start = rdtsc(), missed = t->missed, turns = t->turns, elapsed;

	usleep(SHARE_MS * 1000);
	missed = t->missed - missed;
	elapsed = rdtsc() - start;
	/* None at all: it did not run. */
	if (t->turns == turns)
		return 0;
	return missed < elapsed ? 1000 - missed * 1000 / elapsed : 0;
}

/* An ordinary VM on the CPU that is left when all the others are given away. */
TEST_F_TIMEOUT(flood, leaves_the_other_tenant_his_cpu, EXCL_CASE_S)
{
	int tries = excl_lockdep() ? 5 : 1;
	struct excl_vm tenant = { .ordinary = true };
	volatile typeof(t) *w;
	uint64_t quiet, share;

	excl_vm_create(&tenant, 1, tenant_code);
	w = excl_shared(&tenant, t);
	excl_vm_start(&tenant);
	ASSERT_TRUE(excl_wait(&tenant, w->turns, 20));
	ASSERT_EQ(0, excl_run_on(tenant.threads[0].tid, 0, 0));
	quiet = measure_share(w);
	EXPECT_LT(0, quiet);
	EXPECT_TRUE(begin(&self->f, variant->kind));
	do {
		share = measure_share(w);
	} while (100 * share < SHARE * quiet && --tries);
	ksft_print_msg("the other tenant has %lu.%lu%%, beside quiet vCPUs %lu.%lu%%\n",
		       share / 10, share % 10, quiet / 10, quiet % 10);
	EXPECT_GE(100 * share, SHARE * quiet);
	w->stop = 1;
	EXPECT_TRUE(excl_vm_join(&tenant, 10));
	excl_vm_destroy(&tenant);
}

int main(int argc, char **argv)
{
	uint64_t tsc;

	excl_require(NR);
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_TSC_DEADLINE_TIMER));
	if (!excl_host_msr(CPU, MSR_IA32_TSC, &tsc))
		ksft_exit_skip("no /dev/cpu/%d/msr\n", CPU);
	return excl_harness_run(argc, argv);
}
