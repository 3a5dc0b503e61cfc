// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that TSC deadlines of an exclusive vCPU come true, each once.
 *
 * The handler arms the next one, so a lost one ends the run and one that comes
 * while nothing is armed, or before its time, is counted.
 *
 * A VM that a context was armed for has the host's TSC, and where the hardware has
 * a TSC deadline the guest writes it: no exits but kicks.  Elsewhere (no such
 * hardware, as on most AMD; a VM that was bound later, whose TSC is its own) KVM
 * converts: one exit to arm, none to fire.
 *
 * A deadline that is disarmed as it passes may come or not; the next one comes in any
 * case.  "If software disarms the timer or postpones the deadline, race conditions may
 * result in the delivery of a spurious timer interrupt" (Intel SDM volume 3,
 * "TSC-Deadline Mode"), which an exit that captures the timer is, too.  So where the
 * emulator delivers expiries late on purpose one too many is no error, and does not stand
 * for the one that is awaited.
 *
 *   deadline_test [EXPIRIES [DISTANCE_US]]
 */
#include "guest.h"
#include "harness.h"

#define TIMER_VECTOR	0x52
#define WARM_UP		20
#define RACES		500

#ifndef MSR_IA32_TSC_DEADLINE
#define MSR_IA32_TSC_DEADLINE	0x6e0
#endif

enum phase { READY = 1, DONE };

/* What the guest does between them. */
enum job { RUN, PAST, RACE, DISARM };

static struct {
	uint64_t count, us, spurious_may_be; /* by the host, before the start */
	uint64_t job;			/* by the host, before it has seen READY */
	uint64_t go;			/* by the host: the phase it has seen */
	uint64_t phase;
	uint64_t target, fired, unarmed, early, deadline, races_lost;
	bool armed;
} g;

static void arm(uint64_t us)
{
	volatile typeof(g) *v = &g;

	/* One that comes meanwhile is not this one's. */
	v->deadline = rdtsc() + us * guest_tsc_khz / 1000;
	v->armed = true;
	wrmsr(MSR_IA32_TSC_DEADLINE, v->deadline);
}

static void on_timer(struct ex_regs *regs)
{
	volatile typeof(g) *v = &g;

	/* Somebody else's: what is armed has to come all the same. */
	if (!v->armed || rdtsc() < v->deadline) {
		v->unarmed += !v->armed;
		v->early += v->armed;
		guest_eoi();
		return;
	}
	v->armed = false;
	if (++v->fired < v->target)
		arm(v->us);
	guest_eoi();
}

static void run(uint64_t n)
{
	volatile typeof(g) *v = &g;

	v->fired = 0;
	v->target = n;
	arm(v->us);
	while (v->fired < n)
		cpu_relax();
	/* One too many would come now. */
	guest_spin_us(10 * v->us);
}

/* Disarm about when it fires; whether it has, the next one does. */
static void races(void)
{
	volatile typeof(g) *v = &g;
	uint64_t i;

	v->target = 0;
	for (i = 0; i < RACES; i++) {
		arm(50);
		guest_spin_us(i % 100);
		wrmsr(MSR_IA32_TSC_DEADLINE, 0);
		v->armed = false;
		v->fired = 0;
		arm(50);
		v->races_lost += !guest_wait(v->fired);
	}
}

/* A deadline in the past fires at once. */
static void past(void)
{
	volatile typeof(g) *v = &g;

	v->fired = 0;
	v->target = 0;
	v->armed = true;
	v->deadline = rdtsc() - 1;
	wrmsr(MSR_IA32_TSC_DEADLINE, v->deadline);
	GUEST_ASSERT(guest_wait(v->fired == 1));
}

/* 0 disarms, and what is armed reads back. */
static void disarm(void)
{
	volatile typeof(g) *v = &g;

	v->unarmed = 0;
	v->fired = 0;
	v->target = 0;
	v->armed = true;
	v->deadline = rdtsc() + guest_ms(1000);
	wrmsr(MSR_IA32_TSC_DEADLINE, v->deadline);
	GUEST_ASSERT_EQ(rdmsr(MSR_IA32_TSC_DEADLINE), v->deadline);
	v->armed = false;
	wrmsr(MSR_IA32_TSC_DEADLINE, 0);
	GUEST_ASSERT_EQ(rdmsr(MSR_IA32_TSC_DEADLINE), 0ul);
	guest_spin_us(2000000);
	GUEST_ASSERT_EQ(v->fired, 0ul);
	GUEST_ASSERT(v->spurious_may_be || !v->unarmed);
}

static void guest_code(uint64_t index)
{
	volatile typeof(g) *v = &g;

	guest_apic_init();
	x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_TSCDEADLINE | TIMER_VECTOR);
	guest_sti();

	run(WARM_UP);
	v->unarmed = 0;
	v->early = 0;
	v->phase = READY;
	while (v->go < READY)
		cpu_relax();
	switch (v->job) {
	case RUN:
		run(v->count);
		break;
	case PAST:
		past();
		break;
	case RACE:
		races();
		break;
	case DISARM:
		disarm();
		break;
	}
	v->phase = DONE;
	while (v->go < DONE)
		cpu_relax();
	GUEST_DONE();
}

static uint64_t nr_expiries, distance_us;

FIXTURE(deadline) {
	struct excl_vm ev;
	volatile typeof(g) *v;
	uint64_t count;
};

FIXTURE_VARIANT(deadline) {
	const char *how;
	bool new_vm;
};

FIXTURE_VARIANT_ADD(deadline, armed_for) {
	.how = "armed for",
	.new_vm = true,
};

FIXTURE_VARIANT_ADD(deadline, bound_later) {
	.how = "bound later",
};

FIXTURE_SETUP(deadline)
{
	struct excl_vm *ev = &self->ev;

	ev->new_vm = variant->new_vm;
	/* Each exits where it is bound later, and a tenth will do. */
	self->count = variant->new_vm ? nr_expiries : nr_expiries / 10;
	excl_vm_create(ev, 1, guest_code);
	vm_install_exception_handler(ev->vm, TIMER_VECTOR, on_timer);
	/* KVM has it, and leaves it to the VMM to say so. */
	vcpu_set_cpuid_feature(ev->vcpus[0], X86_FEATURE_TSC_DEADLINE_TIMER);
	self->v = excl_shared(ev, g);
	self->v->count = self->count;
	self->v->us = distance_us;
	self->v->spurious_may_be = excl_adversary();
	excl_vm_start(ev);
	ASSERT_TRUE(excl_wait(ev, self->v->phase == READY, 20));
}

FIXTURE_TEARDOWN(deadline)
{
	excl_vm_destroy(&self->ev);
}

/* What the guest is to do; false when it does not come to its end. */
static bool guest_does(struct excl_vm *ev, enum job job, unsigned int seconds)
{
	volatile typeof(g) *v = excl_shared(ev, g);

	v->job = job;
	v->go = READY;
	return excl_wait(ev, v->phase == DONE, seconds);
}

static bool guest_ends(struct excl_vm *ev)
{
	excl_shared(ev, g)->go = DONE;
	return excl_vm_join(ev, 10);
}

TEST_F_TIMEOUT(deadline, none_is_lost_doubled_or_early, EXCL_CASE_S)
{
	volatile typeof(g) *v = self->v;

	EXPECT_TRUE(guest_does(&self->ev, RUN, 20 + 20 * self->count * distance_us / 1000000));
	ksft_print_msg("%s: %lu of %lu, %lu unarmed, %lu early\n", variant->how, v->fired,
		       self->count, v->unarmed, v->early);
	EXPECT_EQ(self->count, v->fired);
	EXPECT_TRUE(v->spurious_may_be || !v->unarmed);
	EXPECT_TRUE(v->spurious_may_be || !v->early);
	EXPECT_TRUE(guest_ends(&self->ev));
}

TEST_F_TIMEOUT(deadline, exits_at_most_to_arm, EXCL_CASE_S)
{
	struct excl_vm *ev = &self->ev;
	struct excl_counters c0, c1;
	uint64_t exits, kicks;

	if (excl_stock())
		SKIP(return, "not exclusive");
	excl_vm_settle();
	excl_counters_read(ev->vcpus[0], &c0);
	ASSERT_TRUE(guest_does(ev, RUN, 20 + 20 * self->count * distance_us / 1000000));
	excl_counters_read(ev->vcpus[0], &c1);
	excl_counters_delta(variant->how, &c0, &c1);
	exits = c1.exits - c0.exits;
	kicks = excl_kick_exits(&c0, &c1);
	if (variant->new_vm && excl_host_has_tsc_deadline()) {
		EXPECT_EQ(KVM_EXCL_VCPU_TIMER_DIRECT, c1.timer_mode);
		EXPECT_LE(exits, kicks + 1);
	} else {
		EXPECT_EQ(KVM_EXCL_VCPU_TIMER_ASSISTED, c1.timer_mode);
		EXPECT_LE(exits, self->count + kicks + 2);
	}
}

TEST_F_TIMEOUT(deadline, in_the_past_fires_at_once, EXCL_CASE_S)
{
	EXPECT_TRUE(guest_does(&self->ev, PAST, 60));
	EXPECT_TRUE(guest_ends(&self->ev));
}

TEST_F_TIMEOUT(deadline, of_0_disarms, EXCL_CASE_S)
{
	EXPECT_TRUE(guest_does(&self->ev, DISARM, 60));
	EXPECT_TRUE(guest_ends(&self->ev));
}

TEST_F_TIMEOUT(deadline, fires_behind_one_that_is_disarmed_as_it_passes, EXCL_CASE_S)
{
	volatile typeof(g) *v = self->v;

	EXPECT_TRUE(guest_does(&self->ev, RACE, 60));
	ksft_print_msg("%s: %lu of %u lost behind a race, %lu unarmed\n", variant->how,
		       v->races_lost, RACES, v->unarmed);
	EXPECT_EQ(0, v->races_lost);
	EXPECT_TRUE(guest_ends(&self->ev));
}

int main(int argc, char **argv)
{
	excl_require(1);
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_TSC_DEADLINE_TIMER));
	nr_expiries = excl_arg(argc, argv, 1, 10000);
	distance_us = excl_arg(argc, argv, 2, 500);
	return excl_harness_run(argc, argv);
}
