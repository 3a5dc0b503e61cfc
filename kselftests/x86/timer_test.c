// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that the APIC timer of an exclusive vCPU is the physical one.
 *
 * One-shot: the handler arms the next expiry, so a lost one ends the run and a
 * duplicated one comes while nothing is armed.  Between before the first and
 * after the last the vCPU's exit count, read by the host while the guest spins,
 * grows by no more than the kicks of its CPU do.
 *
 * Periodic: a period without an expiry is a loss, unless the vCPU did not run
 * at all for that time: its main loop watches the TSC for such stalls (of the
 * emulator, or of the host in a kick), in which expiries merge in the IRR as on
 * hardware.  More expiries than periods are duplicates.
 *
 * Across exits: a guest that leaves to user space many times in each period still
 * gets its periodic expiries, and a masked periodic count goes on counting: that is
 * how an operating system finds out the timer's frequency.  One that exits now and then, at
 * any time of a period, and halts for the next expiry gets neither less of them nor more.
 *
 * Across IPIs: a timer that is KVM's for the time being, as a periodic one is behind
 * an exit to user space, expires though the guest sends itself IPIs all the time.
 *
 * Masked: a timer that is masked and still armed, as Linux has it when it is idle, expires
 * for nobody while the vCPU is in user space, and the guest goes on.
 *
 *   timer_test [EXPIRIES [PERIOD_US]]
 */
#include "guest.h"
#include "harness.h"

#define TIMER_VECTOR	0x51
#define IPI_VECTOR	0x41
#define WARM_UP		20
#define PORT		0x99	/* nobody's */
#define WAIT_PORT	0x9a	/* nobody's: the VMM waits for longer than a timer of MASKED_MS */

/* Across exits: so many periods of so many exits, each a millisecond after the last. */
#define EXITS_PERIODS		50
#define EXITS_PER_PERIOD	20

/* At any time of a period, which is long beside what an emulator needs for an expiry. */
#define ANY_EXITS		300
#define ANY_MS			8

/* Across IPIs: so many timers, half of them with IPIs by ICR, half by SELF IPI. */
#define IPI_TIMERS		10
#define IPI_TIMER_MS		20

#define MASKED_MS		5

enum phase { READY = 1, WARM, DONE };

/* What the guest does between them. */
enum job { ONESHOT, PERIODIC, EXITS, ANY, IPIS, MASKED };

static struct {
	uint64_t count, period_us, bus_ns; /* by the host, before the start */
	uint64_t job;			/* by the host, before it has seen READY */
	uint64_t go;			/* by the host: the phase it has seen */
	uint64_t phase;
	uint64_t target, fired, unarmed, running;
	bool armed, periodic;
	uint64_t last, spin, stalled, max_stall, max_late;
	uint64_t missed, excused;
	uint64_t start, end, period_tsc;
	uint64_t counted_us, elapsed_us, exits_fired, exits_us;
	uint64_t any_us, any_fired;
	uint64_t ipis_sent, ipis, ipis_fired;
	uint64_t masked_fired, unmasked_fired;
} g;

static uint32_t ticks(void)
{
	return g.period_us * 1000 / g.bus_ns;
}

static void on_timer(struct ex_regs *regs)
{
	volatile typeof(g) *v = &g;
	uint64_t now = rdtsc(), gap, missed, stall;

	if (!v->armed || (!v->periodic && rdmsr(APIC_BASE_MSR + (APIC_TMCCT >> 4))))
		v->unarmed++;
	v->fired++;

	if (!v->periodic) {
		v->armed = v->fired < v->target;
		if (v->armed)
			wrmsr(APIC_BASE_MSR + (APIC_TMICT >> 4), ticks());
	} else {
		/* The main loop did not run since v->spin: was that too long? */
		stall = v->stalled + (now - v->spin);
		gap = now - v->last;
		missed = (gap + v->period_tsc / 2) / v->period_tsc;
		missed = missed ? missed - 1 : 0;
		if (missed) {
			v->missed += missed;
			if (stall >= v->period_tsc / 4)
				v->excused += missed;
		}
		v->last = now;
		v->stalled = 0;
	}
	v->end = now;
	/* A stall from here on is what the next expiry waits for: the main loop sees it. */
	v->spin = now;
	guest_eoi();
}

static void on_ipi(struct ex_regs *regs)
{
	volatile typeof(g) *v = &g;

	v->ipis++;
	guest_eoi();
}

/* Spin until the host has seen @phase, or until @n expiries have come. */
static void spin(uint64_t phase, uint64_t n)
{
	volatile typeof(g) *v = &g;
	uint64_t now, gap;

	while (phase ? v->go < phase : v->fired < n) {
		guest_cli();
		now = rdtsc();
		gap = now - v->spin;
		v->spin = now;
		if (gap > v->max_stall)
			v->max_stall = gap;
		if (gap > v->period_tsc / 8)
			v->stalled += gap;
		guest_sti();
	}
}

static void one_shot(uint64_t n)
{
	g.fired = 0;
	g.unarmed = 0;
	g.target = n;
	g.armed = true;
	g.start = rdtsc();
	wrmsr(APIC_BASE_MSR + (APIC_TMICT >> 4), ticks());
	spin(0, n);
	/* One too many would come now. */
	guest_spin_us(10 * g.period_us);
}

static void periodic(uint64_t n)
{
	volatile typeof(g) *v = &g;

	if (!v->periodic)
		x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_PERIODIC | TIMER_VECTOR);
	v->periodic = true;
	v->armed = true;
	v->fired = 0;
	v->unarmed = 0;
	v->max_stall = 0;
	v->missed = 0;
	v->excused = 0;
	v->stalled = 0;
	v->last = rdtsc();
	v->start = v->last;
	v->spin = v->last;
	wrmsr(APIC_BASE_MSR + (APIC_TMICT >> 4), ticks());
	spin(0, n);
	guest_cli();
	wrmsr(APIC_BASE_MSR + (APIC_TMICT >> 4), 0);
	v->armed = false;
	v->running = v->fired;
	guest_sti();
	/* One may have been pending when it was stopped, no more. */
	guest_spin_us(20 * g.period_us);
}

/* Spin for @ms, with an exit to user space in each; the time it took in us. */
static uint64_t spin_with_exits(uint64_t ms)
{
	uint64_t start = rdtsc();

	while (ms--) {
		guest_spin_us(1000);
		guest_outb(PORT, 0);
	}
	return (rdtsc() - start) * 1000 / guest_tsc_khz;
}

static void across_exits(void)
{
	volatile typeof(g) *v = &g;
	uint32_t before;

	v->periodic = true;
	x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_PERIODIC | APIC_LVT_MASKED | TIMER_VECTOR);
	x2apic_write_reg(APIC_TMICT, UINT32_MAX);
	before = x2apic_read_reg(APIC_TMCCT);
	v->elapsed_us = spin_with_exits(2 * EXITS_PER_PERIOD);
	v->counted_us = (uint64_t)(before - (uint32_t)x2apic_read_reg(APIC_TMCCT)) *
			v->bus_ns / 1000;

	x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_PERIODIC | TIMER_VECTOR);
	v->armed = true;
	v->fired = 0;
	x2apic_write_reg(APIC_TMICT, EXITS_PER_PERIOD * 1000000 / v->bus_ns);
	v->exits_us = spin_with_exits(EXITS_PERIODS * EXITS_PER_PERIOD);
	x2apic_write_reg(APIC_TMICT, 0);
	v->exits_fired = v->fired;
}

static void exits_at_any_time(void)
{
	uint64_t random = 1, start, i;
	volatile typeof(g) *v = &g;

	x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_PERIODIC | TIMER_VECTOR);
	v->periodic = true;
	v->armed = true;
	v->fired = 0;
	start = rdtsc();
	x2apic_write_reg(APIC_TMICT, ANY_MS * 1000000 / v->bus_ns);
	for (i = 0; i < ANY_EXITS; i++) {
		random = random * 6364136223846793005 + 1;
		guest_spin_us((random >> 33) % (1000 * ANY_MS));
		guest_outb(PORT, 0);
		guest_cli();
		asm volatile("sti; hlt" ::: "memory");
	}
	v->any_us = (rdtsc() - start) * 1000 / guest_tsc_khz;
	x2apic_write_reg(APIC_TMICT, 0);
	v->any_fired = v->fired;
}

static void across_ipis(void)
{
	volatile typeof(g) *v = &g;
	uint64_t start, sent;
	int i;

	x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_PERIODIC | TIMER_VECTOR);
	v->periodic = true;
	v->armed = true;
	for (i = 0; i < IPI_TIMERS; i++) {
		v->fired = 0;
		x2apic_write_reg(APIC_TMICT, IPI_TIMER_MS * 1000000 / v->bus_ns);
		guest_outb(PORT, 0);
		start = rdtsc();
		while (!v->fired && rdtsc() - start < guest_ms(100 * IPI_TIMER_MS)) {
			v->ipis_sent++;
			if (i % 2)
				guest_self_ipi(IPI_VECTOR);
			else
				guest_send_icr(0, IPI_VECTOR);
			guest_spin_us(100);
			/* Two that were under way for longer than that would merge. */
			sent = rdtsc();
			while (v->ipis < v->ipis_sent && rdtsc() - sent < guest_ms(100))
				cpu_relax();
		}
		v->ipis_fired += !!v->fired;
		x2apic_write_reg(APIC_TMICT, 0);
	}
}

static void masked(void)
{
	volatile typeof(g) *v = &g;
	int i;

	v->periodic = true;
	v->armed = true;
	v->fired = 0;
	for (i = 0; i < 10; i++) {
		x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_ONESHOT | APIC_LVT_MASKED |
				 TIMER_VECTOR);
		x2apic_write_reg(APIC_TMICT, MASKED_MS * 1000000 / v->bus_ns);
		guest_outb(WAIT_PORT, 0);
		guest_spin_us(1000);
	}
	v->masked_fired = v->fired;
	x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_ONESHOT | TIMER_VECTOR);
	x2apic_write_reg(APIC_TMICT, MASKED_MS * 1000000 / v->bus_ns);
	guest_spin_us(20 * 1000 * MASKED_MS);
	v->unmasked_fired = v->fired;
}

/* The jobs whose exits are counted: everything that faults once has faulted after a few. */
static void count_expiries(uint64_t n)
{
	if (g.job == ONESHOT)
		one_shot(n);
	else if (g.job == PERIODIC)
		periodic(n);
}

static void guest_code(uint64_t index)
{
	volatile typeof(g) *v = &g;

	guest_apic_init();
	x2apic_write_reg(APIC_TDCR, TDCR_DIV1);
	x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_ONESHOT | TIMER_VECTOR);
	g.period_tsc = g.period_us * guest_tsc_khz / 1000;
	v->spin = rdtsc();
	guest_sti();

	v->phase = READY;
	spin(READY, 0);
	count_expiries(WARM_UP);
	v->phase = WARM;
	spin(WARM, 0);
	count_expiries(v->count);
	switch (v->job) {
	case EXITS:
		across_exits();
		break;
	case ANY:
		exits_at_any_time();
		break;
	case IPIS:
		across_ipis();
		break;
	case MASKED:
		masked();
		break;
	}
	v->phase = DONE;
	spin(DONE, 0);
	GUEST_DONE();
}

static bool on_io(struct excl_vm *ev, struct kvm_vcpu *vcpu)
{
	if (vcpu->run->exit_reason != KVM_EXIT_IO)
		return false;
	if (vcpu->run->io.port == WAIT_PORT)
		usleep(4 * 1000 * MASKED_MS);
	else if (vcpu->run->io.port != PORT)
		return false;
	return true;
}

static uint64_t nr_expiries, period_us;

FIXTURE(timer) {
	struct excl_vm ev;
	volatile typeof(g) *v;
	unsigned int seconds;
};

FIXTURE_SETUP(timer)
{
	struct excl_vm *ev = &self->ev;
	uint64_t bus_ns;

	ev->on_exit = on_io;
	bus_ns = excl_vm_direct_timer(ev);
	excl_vm_create(ev, 1, guest_code);
	vm_install_exception_handler(ev->vm, TIMER_VECTOR, on_timer);
	vm_install_exception_handler(ev->vm, IPI_VECTOR, on_ipi);
	self->v = excl_shared(ev, g);
	self->v->count = nr_expiries;
	self->v->period_us = period_us;
	self->v->bus_ns = bus_ns;
	self->seconds = 20 + 20 * nr_expiries * period_us / 1000000;
	excl_vm_start(ev);
	ASSERT_TRUE(excl_wait(ev, self->v->phase == READY, 20));
}

FIXTURE_TEARDOWN(timer)
{
	self->v->go = DONE;
	EXPECT_TRUE(excl_vm_join(&self->ev, 10));
	excl_vm_destroy(&self->ev);
}

/* What the guest is to do, from here to where its exits count. */
static bool guest_prepares(struct excl_vm *ev, enum job job)
{
	volatile typeof(g) *v = excl_shared(ev, g);

	v->job = job;
	v->go = READY;
	return excl_wait(ev, v->phase == WARM, 20);
}

/* False when it does not come to its end. */
static bool guest_goes_on(struct excl_vm *ev, unsigned int seconds)
{
	volatile typeof(g) *v = excl_shared(ev, g);

	v->go = WARM;
	return excl_wait(ev, v->phase == DONE, seconds);
}

static bool guest_does(struct excl_vm *ev, enum job job, unsigned int seconds)
{
	return guest_prepares(ev, job) && guest_goes_on(ev, seconds);
}

TEST_F_TIMEOUT(timer, one_shot_is_not_lost_or_doubled, EXCL_CASE_S)
{
	volatile typeof(g) *v = self->v;

	EXPECT_TRUE(guest_does(&self->ev, ONESHOT, self->seconds));
	ksft_print_msg("one-shot: %lu of %lu, %lu unarmed\n", v->fired, nr_expiries, v->unarmed);
	EXPECT_EQ(nr_expiries, v->fired);
	EXPECT_EQ(0, v->unarmed);
}

static void needs_no_exit_but_kicks(struct __test_metadata *_metadata, struct excl_vm *ev,
				    enum job job, unsigned int seconds, const char *what)
{
	struct excl_counters c0, c1;
	uint64_t exits, kicks;

	if (excl_stock())
		SKIP(return, "not exclusive");
	ASSERT_TRUE(guest_prepares(ev, job));
	excl_vm_settle();
	excl_counters_read(ev->vcpus[0], &c0);
	ASSERT_TRUE(guest_goes_on(ev, seconds));
	excl_counters_read(ev->vcpus[0], &c1);
	if (c1.attached && c1.timer_mode != KVM_EXCL_VCPU_TIMER_DIRECT)
		SKIP(return, "timer mode is %lu here", c1.timer_mode);
	exits = c1.exits - c0.exits;
	kicks = excl_kick_exits(&c0, &c1);
	excl_counters_delta(what, &c0, &c1);
	ksft_print_msg("%s: exits %lu, %lu for kicks\n", what, exits, kicks);
	EXPECT_TRUE(c1.attached);
	EXPECT_LE(exits, kicks + 1);
}

TEST_F_TIMEOUT(timer, one_shot_needs_no_exit_but_kicks, EXCL_CASE_S)
{
	needs_no_exit_but_kicks(_metadata, &self->ev, ONESHOT, self->seconds, "one-shot");
}

TEST_F_TIMEOUT(timer, periodic_is_not_lost_or_doubled, EXCL_CASE_S)
{
	volatile typeof(g) *v = self->v;
	uint64_t periods, allowed;

	EXPECT_TRUE(guest_does(&self->ev, PERIODIC, self->seconds));
	periods = v->period_tsc ? (v->end - v->start) / v->period_tsc : 0;
	ksft_print_msg("periodic: %lu in %lu periods; missed %lu, of them %lu in a stall; longest stall %lu of a period of %lu TSC cycles\n",
		       v->fired, periods, v->missed, v->excused, v->max_stall,
		       v->period_tsc);
	/*
	 * QEMU's timers are a thread of its own, which is late while the vCPU runs on, by
	 * more than a period when the machine is busy: expiries then merge in the IRR, and
	 * the guest sees no stall.  Without an exit nobody but the emulator can lose one, so
	 * that all that this may show there is that they go on.
	 */
	allowed = excl_in_qemu() ? periods / 2 : 0;
	EXPECT_GE(v->fired, nr_expiries);
	EXPECT_LE(v->missed - v->excused, allowed);
	/* The TSC's frequency is known to less than one in 200. */
	EXPECT_LE(v->running, periods + periods / 200 + 2);
	EXPECT_LE(v->fired, v->running + 1);
}

TEST_F_TIMEOUT(timer, periodic_needs_no_exit_but_kicks, EXCL_CASE_S)
{
	needs_no_exit_but_kicks(_metadata, &self->ev, PERIODIC, self->seconds, "periodic");
}

TEST_F_TIMEOUT(timer, masked_count_goes_on_across_exits, EXCL_CASE_S)
{
	volatile typeof(g) *v = self->v;

	EXPECT_TRUE(guest_does(&self->ev, EXITS, 60));
	ksft_print_msg("across exits: counted %lu us in %lu us\n", v->counted_us, v->elapsed_us);
	EXPECT_GE(v->counted_us + v->counted_us / 10 + 1000, v->elapsed_us);
	EXPECT_LE(v->counted_us, v->elapsed_us + v->elapsed_us / 10 + 1000);
}

TEST_F_TIMEOUT(timer, periodic_expires_in_each_period_across_exits, EXCL_CASE_S)
{
	volatile typeof(g) *v = self->v;
	uint64_t periods;

	EXPECT_TRUE(guest_does(&self->ev, EXITS, 60));
	ksft_print_msg("across exits: %lu expiries of %u ms in %lu us\n", v->exits_fired,
		       EXITS_PER_PERIOD, v->exits_us);
	/* What each comes late by is added to the phase: an eighth, for an emulator. */
	periods = v->exits_us / (EXITS_PER_PERIOD * 1000);
	EXPECT_GE(v->exits_fired + periods / 8 + 1, periods);
	EXPECT_LE(v->exits_fired, periods + 1);
}

TEST_F_TIMEOUT(timer, periodic_expires_in_each_period_with_exits_at_any_time, EXCL_CASE_S)
{
	volatile typeof(g) *v = self->v;
	uint64_t periods;

	EXPECT_TRUE(guest_does(&self->ev, ANY, 60));
	periods = v->any_us / (1000 * ANY_MS);
	ksft_print_msg("exits at any time: %lu expiries in %lu periods\n", v->any_fired, periods);
	/* Each exit shifts the phase by as much as KVM's expiry is late, see "The timer". */
	EXPECT_GE(v->any_fired + periods / (excl_lockdep() ? 4 : 8) + 1, periods);
	EXPECT_LE(v->any_fired, periods + periods / 50 + 1);
}

TEST_F_TIMEOUT(timer, of_kvm_expires_across_ipis, EXCL_CASE_S)
{
	volatile typeof(g) *v = self->v;

	EXPECT_TRUE(guest_does(&self->ev, IPIS, 60));
	ksft_print_msg("across IPIs: %lu of %u timers expired, %lu of %lu IPIs taken\n",
		       v->ipis_fired, IPI_TIMERS, v->ipis, v->ipis_sent);
	EXPECT_EQ(IPI_TIMERS, v->ipis_fired);
	EXPECT_EQ(v->ipis_sent, v->ipis);
}

TEST_F_TIMEOUT(timer, that_is_masked_expires_for_nobody, EXCL_CASE_S)
{
	volatile typeof(g) *v = self->v;

	EXPECT_TRUE(guest_does(&self->ev, MASKED, 20));
	ksft_print_msg("masked: %lu expiries, %lu when it is not masked any more\n",
		       v->masked_fired, v->unmasked_fired);
	EXPECT_EQ(0, v->masked_fired);
	/* The last one that was masked may be pending when it is unmasked. */
	EXPECT_NE(0, v->unmasked_fired);
}

int main(int argc, char **argv)
{
	excl_require(1);
	nr_expiries = excl_arg(argc, argv, 1, 10000);
	period_us = excl_arg(argc, argv, 2, 500);
	return excl_harness_run(argc, argv);
}
