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
#include "excl.h"
#include "guest.h"

#define TIMER_VECTOR	0x52
#define WARM_UP		20
#define RACES		500

#ifndef MSR_IA32_TSC_DEADLINE
#define MSR_IA32_TSC_DEADLINE	0x6e0
#endif

enum phase { READY = 1, DONE, PAST_DONE, RACED, DISARMED };

static struct {
	uint64_t count, us, spurious_may_be; /* by the host, before the start */
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
	run(v->count);
	v->phase = DONE;
	while (v->go < DONE)
		cpu_relax();

	/* A deadline in the past fires at once. */
	v->fired = 0;
	v->target = 0;
	v->armed = true;
	v->deadline = rdtsc() - 1;
	wrmsr(MSR_IA32_TSC_DEADLINE, v->deadline);
	GUEST_ASSERT(guest_wait(v->fired == 1));
	v->phase = PAST_DONE;

	races();
	v->phase = RACED;

	/* 0 disarms, and what is armed reads back. */
	v->unarmed = 0;
	v->fired = 0;
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
	v->phase = DISARMED;
	GUEST_DONE();
}

static void deadlines(bool new_vm, uint64_t count, uint64_t us)
{
	const char *how = new_vm ? "armed for" : "bound later";
	struct excl_vm ev = { .new_vm = new_vm };
	struct excl_counters c0, c1;
	volatile typeof(g) *v;
	uint64_t exits, kicks;
	bool ok;

	excl_vm_create(&ev, 1, guest_code);
	vm_install_exception_handler(ev.vm, TIMER_VECTOR, on_timer);
	/* KVM has it, and leaves it to the VMM to say so. */
	vcpu_set_cpuid_feature(ev.vcpus[0], X86_FEATURE_TSC_DEADLINE_TIMER);
	v = excl_shared(&ev, g);
	v->count = count;
	v->us = us;
	v->spurious_may_be = excl_adversary();
	excl_vm_start(&ev);

	ok = excl_wait(&ev, v->phase == READY, 20);
	excl_vm_settle();
	excl_counters_read(ev.vcpus[0], &c0);
	v->go = READY;
	ok = ok && excl_wait(&ev, v->phase >= DONE, 20 + 20 * count * us / 1000000);
	excl_counters_read(ev.vcpus[0], &c1);
	excl_counters_delta(how, &c0, &c1);
	ksft_print_msg("%s: %lu of %lu, %lu unarmed, %lu early\n", how, v->fired, count,
		       v->unarmed, v->early);
	ksft_test_result(ok && v->fired == count, "%s: none lost\n", how);
	ksft_test_result(ok && (v->spurious_may_be || (!v->unarmed && !v->early)),
			 "%s: none duplicated, none early\n", how);

	exits = c1.exits - c0.exits;
	kicks = excl_kick_exits(&c0, &c1);
	if (excl_stock())
		ksft_test_result_skip("%s: exits - not exclusive\n", how);
	else if (new_vm && excl_host_has_tsc_deadline())
		ksft_test_result(ok && c1.timer_mode == KVM_EXCL_VCPU_TIMER_DIRECT &&
				 exits <= kicks + 1, "%s: no exit but kicks\n", how);
	else
		ksft_test_result(ok && c1.timer_mode == KVM_EXCL_VCPU_TIMER_ASSISTED &&
				 exits <= count + kicks + 2,
				 "%s: an exit to arm, none to fire\n", how);
	v->go = DONE;
	ok = ok && excl_wait(&ev, v->phase == DISARMED, 60);
	ksft_print_msg("%s: %lu of %u lost behind a race, %lu unarmed\n", how,
		       v->races_lost, RACES, v->unarmed);
	ksft_test_result(ok, "%s: the past fires, 0 disarms\n", how);
	ksft_test_result(ok && !v->races_lost, "%s: disarmed as it passes, the next fires\n",
			 how);
	if (!excl_vm_join(&ev, 10))
		ksft_print_msg("the guest did not end\n");
	excl_vm_destroy(&ev);
}

int main(int argc, char **argv)
{
	uint64_t count, us;

	ksft_print_header();
	excl_require(1);
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_TSC_DEADLINE_TIMER));
	count = excl_arg(argc, argv, 1, 10000);
	us = excl_arg(argc, argv, 2, 500);
	ksft_set_plan(10);
	deadlines(true, count, us);
	deadlines(false, count / 10, us);
	ksft_finished();
}
