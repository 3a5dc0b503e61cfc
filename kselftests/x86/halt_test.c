// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that a vCPU that halts is woken, every time, and by what.
 *
 * By default HLT does not exit on an exclusive CPU: it halts in the guest and its
 * timer and IPIs wake it there, with no exit but kicks.  With KVM_EXCL_KEEP_HLT
 * each HLT exits and the software local APIC wakes the vCPU.  In both, an
 * interrupt that comes between the guest's last look and its HLT must not be
 * slept over: the interrupt is allowed by STI just before HLT.
 *
 * What waits for a paravirtual lock halts with interrupts off, and the hypercall
 * KVM_HC_KICK_CPU is all that wakes it.  A kick that comes before the HLT ends that
 * one: who kicks has looked whether somebody is about to halt, and does it once.
 *
 *   halt_test [WAKE_UPS [KICKS]] [OPTIONS OF THE HARNESS]
 */
#include <linux/kvm_para.h>

#include "guest.h"
#include "harness.h"

#define TIMER_VECTOR	0x61
#define IPI_VECTOR	0x71

#define WARM_UP		20

/* A kick that has not woken for so long is lost: seconds of the guest's TSC. */
#define KICK_PATIENCE_S	5

enum phase { TIMER_READY = 1, TIMER_DONE, IPI_READY, IPI_DONE };

static struct {
	uint64_t nr_timers, nr_ipis, bus_ns; /* by the host, before the start */
	uint64_t go;			/* by the host: the phase it has seen */
	uint64_t phase;
	uint64_t timers, halts;
	uint64_t ping, pong;
	/* For kicks, the first two by the host. */
	uint64_t kicks, early;
	uint64_t not_offered, refused, halting, kicked, woken, asleep;
} g;

static void on_timer(struct ex_regs *regs)
{
	(*(volatile uint64_t *)&g.timers)++;
	guest_eoi();
}

static void on_ipi(struct ex_regs *regs)
{
	volatile typeof(g) *v = &g;

	v->pong = v->ping;
	guest_eoi();
}

/* Halt until @cond, looked at with interrupts off. */
#define halt_until(cond)						\
	do {								\
		guest_cli();						\
		while (!(cond)) {					\
			(*(volatile uint64_t *)&g.halts)++;		\
			asm volatile("sti; hlt; cli" ::: "memory");	\
		}							\
		guest_sti();						\
	} while (0)

static void guest_code(uint64_t index)
{
	volatile typeof(g) *v = &g;
	uint64_t i;

	guest_apic_init();
	if (index == 1) {
		/* The other side of the IPIs: sends and waits for the answer. */
		while (v->go < IPI_READY)
			cpu_relax();
		for (i = 1; i <= v->nr_ipis; i++) {
			v->ping = i;
			guest_send_icr(0, APIC_DM_FIXED | IPI_VECTOR);
			GUEST_ASSERT(guest_wait(v->pong == i));
		}
		v->phase = IPI_DONE;
		GUEST_DONE();
		return;
	}

	x2apic_write_reg(APIC_TDCR, TDCR_DIV1);
	x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_ONESHOT | TIMER_VECTOR);
	guest_sti();
	/* Everything that faults once faults in the first ones. */
	for (i = 1; i <= WARM_UP + v->nr_timers; i++) {
		if (i == WARM_UP + 1) {
			v->phase = TIMER_READY;
			while (v->go < TIMER_READY)
				cpu_relax();
		}
		/* From so short that it comes before HLT to well after it. */
		wrmsr(APIC_BASE_MSR + (APIC_TMICT >> 4), (50000 + (i % 64) * 10000) / v->bus_ns);
		halt_until(v->timers >= i);
	}
	v->phase = TIMER_DONE;
	while (v->go < TIMER_DONE)
		cpu_relax();
	v->phase = IPI_READY;
	halt_until(v->pong == v->nr_ipis);
	GUEST_DONE();
}

/* Kick vCPU 0 once for each of its halts, before it or while it lasts. */
static void kicking_code(void)
{
	volatile typeof(g) *v = &g;
	uint64_t i, start;

	if (!this_cpu_has(X86_FEATURE_KVM_PV_UNHALT)) {
		v->not_offered = 1;
		return;
	}
	for (i = 1; i <= v->kicks; i++) {
		GUEST_ASSERT(guest_wait(v->halting == i));
		/* From when it may still be on its way there. */
		if (!v->early)
			guest_spin_us(i % 64);
		v->refused += !!kvm_hypercall(KVM_HC_KICK_CPU, 0, 0, 0, 0);
		v->kicked = i;
		start = rdtsc();
		/* Where a HLT has ended by itself, this kick ends the next one at once. */
		while (v->woken < i) {
			if (rdtsc() - start > guest_ms(KICK_PATIENCE_S * 1000)) {
				v->asleep++;
				return;
			}
			cpu_relax();
		}
	}
}

static void kicked_code(uint64_t index)
{
	volatile typeof(g) *v = &g;
	uint64_t i;

	guest_apic_init();
	if (index == 1) {
		kicking_code();
		v->phase = IPI_DONE;
		GUEST_DONE();
		return;
	}
	guest_cli();
	for (i = 1; i <= v->kicks; i++) {
		v->halting = i;
		while (v->early && v->kicked < i)
			cpu_relax();
		asm volatile("hlt" ::: "memory");
		v->woken = i;
		/* It may have ended for another reason; then the kick is the next one's. */
		while (v->kicked < i)
			cpu_relax();
	}
	GUEST_DONE();
}

static uint64_t nr_wake_ups, nr_kicks;

/* A vCPU that halts for its timer, then for IPIs of the other one. */
FIXTURE(halt) {
	struct excl_vm ev;
	volatile typeof(g) *v;
};

FIXTURE_VARIANT(halt) {
	const char *how;
	uint32_t flags;
};

FIXTURE_VARIANT_ADD(halt, direct) {
	.how = "HLT direct",
};

FIXTURE_VARIANT_ADD(halt, exits) {
	.how = "HLT exits",
	.flags = KVM_EXCL_KEEP_HLT,
};

FIXTURE_SETUP(halt)
{
	struct excl_vm *ev = &self->ev;
	uint64_t bus_ns;

	ev->flags = variant->flags;
	bus_ns = excl_vm_direct_timer(ev);
	excl_vm_create(ev, 2, guest_code);
	vm_install_exception_handler(ev->vm, TIMER_VECTOR, on_timer);
	vm_install_exception_handler(ev->vm, IPI_VECTOR, on_ipi);
	self->v = excl_shared(ev, g);
	self->v->bus_ns = bus_ns;
}

FIXTURE_TEARDOWN(halt)
{
	self->v->go = IPI_DONE;
	EXPECT_TRUE(excl_vm_join(&self->ev, 60));
	excl_vm_destroy(&self->ev);
}

/* All timers that are not to warm up, between two snapshots. */
static bool run_timers(struct excl_vm *ev, const char *how, struct excl_counters *c0,
		       struct excl_counters *c1)
{
	volatile typeof(g) *v = excl_shared(ev, g);
	bool ok;

	v->nr_timers = nr_wake_ups;
	excl_vm_start(ev);
	ok = excl_wait(ev, v->phase == TIMER_READY, 20);
	excl_counters_read(ev->vcpus[0], c0);
	v->go = TIMER_READY;
	ok = ok && excl_wait(ev, v->phase == TIMER_DONE, 60);
	excl_counters_read(ev->vcpus[0], c1);
	excl_counters_delta(how, c0, c1);
	ksft_print_msg("%s: %lu timers, %lu halts, %lu exits, %lu for kicks\n", how, v->timers,
		       v->halts, c1->exits - c0->exits, excl_kick_exits(c0, c1));
	return ok;
}

TEST_F_TIMEOUT(halt, woken_by_every_timer, EXCL_CASE_S)
{
	struct excl_counters c0, c1;

	EXPECT_TRUE(run_timers(&self->ev, variant->how, &c0, &c1));
	EXPECT_EQ(WARM_UP + nr_wake_ups, self->v->timers);
}

TEST_F_TIMEOUT(halt, exits_where_it_is_to, EXCL_CASE_S)
{
	struct excl_counters c0, c1;
	uint64_t exits;

	if (excl_stock())
		SKIP(return, "not exclusive");
	ASSERT_TRUE(run_timers(&self->ev, variant->how, &c0, &c1));
	exits = c1.exits - c0.exits;
	if (variant->flags & KVM_EXCL_KEEP_HLT) {
		/* Not each of them came to its HLT in time. */
		EXPECT_GE(exits, nr_wake_ups / 4);
	} else {
		EXPECT_LE(exits, excl_kick_exits(&c0, &c1) + 1);
	}
}

TEST_F_TIMEOUT(halt, woken_by_every_ipi, EXCL_CASE_S)
{
	volatile typeof(g) *v = self->v;

	v->nr_ipis = nr_wake_ups;
	excl_vm_start(&self->ev);
	ASSERT_TRUE(excl_wait(&self->ev, v->phase == TIMER_DONE, 20));
	v->go = TIMER_DONE;
	ASSERT_TRUE(excl_wait(&self->ev, v->phase == IPI_READY, 20));
	v->go = IPI_READY;
	EXPECT_TRUE(excl_wait(&self->ev, v->phase == IPI_DONE, 120));
	ksft_print_msg("%s: %lu of %lu IPIs answered\n", variant->how, v->pong, nr_wake_ups);
	EXPECT_EQ(nr_wake_ups, v->pong);
}

/* A vCPU that halts with interrupts off, and another that kicks it. */
FIXTURE(kick) {
	struct excl_vm ev;
	volatile typeof(g) *v;
};

FIXTURE_VARIANT(kick) {
	const char *how;
	uint32_t flags;
	bool early;
};

FIXTURE_VARIANT_ADD(kick, while_halted_direct) {
	.how = "HLT direct, kicked while it lasts",
};

FIXTURE_VARIANT_ADD(kick, before_hlt_direct) {
	.how = "HLT direct, kicked just before it",
	.early = true,
};

FIXTURE_VARIANT_ADD(kick, while_halted_exits) {
	.how = "HLT exits, kicked while it lasts",
	.flags = KVM_EXCL_KEEP_HLT,
};

FIXTURE_VARIANT_ADD(kick, before_hlt_exits) {
	.how = "HLT exits, kicked just before it",
	.flags = KVM_EXCL_KEEP_HLT,
	.early = true,
};

FIXTURE_SETUP(kick)
{
	self->ev.flags = variant->flags;
	self->ev.new_vm = true;
	excl_vm_create(&self->ev, 2, kicked_code);
	vcpu_set_cpuid_feature(self->ev.vcpus[0], X86_FEATURE_KVM_PV_UNHALT);
	vcpu_set_cpuid_feature(self->ev.vcpus[1], X86_FEATURE_KVM_PV_UNHALT);
	self->v = excl_shared(&self->ev, g);
	self->v->kicks = nr_kicks;
	self->v->early = variant->early;
}

FIXTURE_TEARDOWN(kick)
{
	excl_vm_destroy(&self->ev);
}

TEST_F_TIMEOUT(kick, wakes_every_time, EXCL_CASE_S)
{
	volatile typeof(g) *v = self->v;
	struct excl_counters c0, c1;

	excl_counters_read(self->ev.vcpus[0], &c0);
	excl_vm_start(&self->ev);
	EXPECT_TRUE(excl_wait(&self->ev, v->phase == IPI_DONE, 120));
	excl_counters_read(self->ev.vcpus[0], &c1);
	excl_counters_delta(variant->how, &c0, &c1);
	ksft_print_msg("%s: %lu halts, %lu kicks, %lu refused, woken from %lu\n", variant->how,
		       v->halting, v->kicked, v->refused, v->woken);
	EXPECT_EQ(0, v->asleep) {
		excl_vm_dump(&self->ev);
	}
	EXPECT_EQ(0, v->refused);
	if (v->not_offered) {
		/* A host may offer them only where it sees the guest halt. */
		ksft_print_msg("%s: the guest is offered no kicks\n", variant->how);
		EXPECT_FALSE(variant->flags & KVM_EXCL_KEEP_HLT);
	} else {
		EXPECT_TRUE(excl_vm_join(&self->ev, 10));
		EXPECT_EQ(nr_kicks, v->woken);
	}
}

int main(int argc, char **argv)
{
	excl_require(2);
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_KVM_PV_UNHALT));
	nr_wake_ups = excl_arg(argc, argv, 1, 3000);
	nr_kicks = excl_arg(argc, argv, 2, 300);
	return excl_harness_run(argc, argv);
}
