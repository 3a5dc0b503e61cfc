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
 *   halt_test [WAKE_UPS [KICKS]]
 */
#include <linux/kvm_para.h>

#include "excl.h"
#include "guest.h"

#define TIMER_VECTOR	0x61
#define IPI_VECTOR	0x71

#define WARM_UP		20

/* A kick that has not woken for so long is lost: seconds of the guest's TSC. */
#define KICK_PATIENCE_S	5

enum phase { TIMER_READY = 1, TIMER_DONE, IPI_READY, IPI_DONE };

static struct {
	uint64_t count, bus_ns;		/* by the host, before the start */
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
		for (i = 1; i <= v->count; i++) {
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
	for (i = 1; i <= WARM_UP + v->count; i++) {
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
	halt_until(v->pong == v->count);
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

static void kicks(uint32_t flags, bool early, uint64_t count)
{
	const char *how = flags & KVM_EXCL_KEEP_HLT ? "HLT exits" : "HLT direct";
	const char *when = early ? "just before it" : "while it lasts";
	struct excl_vm ev = { .flags = flags, .new_vm = true };
	struct excl_counters c0, c1;
	volatile typeof(g) *v;
	bool ok;

	excl_vm_create(&ev, 2, kicked_code);
	vcpu_set_cpuid_feature(ev.vcpus[0], X86_FEATURE_KVM_PV_UNHALT);
	vcpu_set_cpuid_feature(ev.vcpus[1], X86_FEATURE_KVM_PV_UNHALT);
	v = excl_shared(&ev, g);
	v->kicks = count;
	v->early = early;
	excl_counters_read(ev.vcpus[0], &c0);
	excl_vm_start(&ev);
	ok = excl_wait(&ev, v->phase == IPI_DONE, 120);
	excl_counters_read(ev.vcpus[0], &c1);
	excl_counters_delta(how, &c0, &c1);
	ksft_print_msg("%s, kicked %s: %lu halts, %lu kicks, %lu refused, woken from %lu\n",
		       how, when, v->halting, v->kicked, v->refused, v->woken);
	if (v->not_offered)
		ksft_print_msg("%s: the guest is offered no kicks\n", how);
	/* A host may offer them only where it sees the guest halt. */
	ok = ok && !v->asleep && !v->refused &&
	     (v->not_offered ? !(flags & KVM_EXCL_KEEP_HLT) : v->woken == count);
	ok = ok && (v->not_offered || excl_vm_join(&ev, 10));
	ksft_test_result(ok, "%s, interrupts off: woken by every kick %s\n", how, when);
	if (!ok)
		excl_vm_dump(&ev);
	excl_vm_destroy(&ev);
}

static void halts(uint32_t flags, uint64_t count)
{
	const char *how = flags & KVM_EXCL_KEEP_HLT ? "HLT exits" : "HLT direct";
	struct excl_vm ev = { .flags = flags };
	struct excl_counters c0, c1;
	volatile typeof(g) *v;
	uint64_t exits, kicks, bus_ns;
	bool ok;

	bus_ns = excl_vm_direct_timer(&ev);
	excl_vm_create(&ev, 2, guest_code);
	vm_install_exception_handler(ev.vm, TIMER_VECTOR, on_timer);
	vm_install_exception_handler(ev.vm, IPI_VECTOR, on_ipi);
	v = excl_shared(&ev, g);
	v->count = count;
	v->bus_ns = bus_ns;
	excl_vm_start(&ev);

	ok = excl_wait(&ev, v->phase == TIMER_READY, 20);
	excl_counters_read(ev.vcpus[0], &c0);
	v->go = TIMER_READY;
	ok = ok && excl_wait(&ev, v->phase == TIMER_DONE, 60);
	excl_counters_read(ev.vcpus[0], &c1);
	excl_counters_delta(how, &c0, &c1);
	exits = c1.exits - c0.exits;
	kicks = excl_kick_exits(&c0, &c1);
	ksft_print_msg("%s: %lu timers, %lu halts, %lu exits, %lu for kicks\n", how, v->timers,
		       v->halts, exits, kicks);
	ksft_test_result(ok && v->timers == WARM_UP + count, "%s: woken by every timer\n", how);
	if (excl_stock())
		ksft_test_result_skip("%s: exits - not exclusive\n", how);
	else if (flags & KVM_EXCL_KEEP_HLT)
		/* Not each of them came to its HLT in time. */
		ksft_test_result(ok && exits >= count / 4, "%s: seen by the host\n", how);
	else
		ksft_test_result(ok && exits <= kicks + 1, "%s: no exit but kicks\n", how);
	v->go = TIMER_DONE;
	ok = ok && excl_wait(&ev, v->phase == IPI_READY, 20);
	v->go = IPI_READY;
	ok = ok && excl_wait(&ev, v->phase == IPI_DONE, 120);
	ksft_print_msg("%s: %lu of %lu IPIs answered\n", how, v->pong, count);
	ksft_test_result(ok && v->pong == count, "%s: woken by every IPI\n", how);
	if (!excl_vm_join(&ev, 10))
		ksft_print_msg("the guests did not end\n");
	excl_vm_destroy(&ev);
}

int main(int argc, char **argv)
{
	uint64_t count, nr_kicks;

	ksft_print_header();
	excl_require(2);
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_KVM_PV_UNHALT));
	count = excl_arg(argc, argv, 1, 3000);
	nr_kicks = excl_arg(argc, argv, 2, 300);
	ksft_set_plan(10);
	halts(0, count);
	halts(KVM_EXCL_KEEP_HLT, count);
	kicks(0, false, nr_kicks);
	kicks(0, true, nr_kicks);
	kicks(KVM_EXCL_KEEP_HLT, false, nr_kicks);
	kicks(KVM_EXCL_KEEP_HLT, true, nr_kicks);
	ksft_finished();
}
