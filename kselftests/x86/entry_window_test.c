// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that host work that turns up while a guest is entered again in assembly is
 * neither lost nor taken by the guest, and that the guest goes on where it was (VMX).
 *
 * The guest writes its SELF IPI register in a loop with interrupts off: each write is
 * a VM exit that ends in assembly, some seventy instructions later, with the last look
 * for host work and VMRESUME.  The host kicks the CPU all the time: it reads an MSR there
 * and waits for the answer.  Most of the kicks come while the CPU is in those seventy
 * instructions, and the entry has to be given up.  Were it not, the guest would get
 * vector 31, for which it has no handler, or the kick would wait until the next one.
 *
 * Where an NMI comes between the look and VMRESUME it is the NMI handler that gives
 * the entry up.
 *
 *   entry_window_test [GIVEN_UP [KICKS]]
 */
#include "guest.h"
#include "harness.h"

#define VECTOR		0x81

static struct {
	uint64_t writes, taken;
	uint64_t stop;
} g;

static void on_vector(struct ex_regs *regs)
{
	g.taken++;
	guest_eoi();
}

static void guest_code(uint64_t index)
{
	volatile typeof(g) *v = &g;

	guest_apic_init();
	while (!v->stop) {
		guest_self_ipi(VECTOR);
		v->writes++;
	}
	guest_sti();
	guest_spin_us(100);
	GUEST_DONE();
}

static uint64_t hits, most;

FIXTURE(window) {
	struct excl_vm ev;
	volatile typeof(g) *v;
};

FIXTURE_SETUP(window)
{
	excl_vm_create(&self->ev, 1, guest_code);
	vm_install_exception_handler(self->ev.vm, VECTOR, on_vector);
	self->v = excl_shared(&self->ev, g);
	excl_vm_start(&self->ev);
	ASSERT_TRUE(excl_wait(&self->ev, self->v->writes > 1000, 60));
}

FIXTURE_TEARDOWN(window)
{
	excl_vm_destroy(&self->ev);
}

/* All of it is said of the same kicks: those that come into the window are rare. */
TEST_F_TIMEOUT(window, has_no_kick_lost_or_taken_by_the_guest, EXCL_CASE_S)
{
	uint64_t tsc, kicks, start, longest = 0, took;
	struct excl_vm *ev = &self->ev;
	struct excl_counters c0, c1;
	bool ok = true;

	excl_counters_read(ev->vcpus[0], &c0);
	c1 = c0;
	for (kicks = 0; ok && kicks < most && !excl_vm_failed(ev); kicks++) {
		start = excl_now_ns();
		ok = excl_host_msr(EXCL_FIRST_CPU, MSR_IA32_TSC, &tsc);
		took = excl_now_ns() - start;
		if (took > longest)
			longest = took;
		if (kicks % 16)
			continue;
		excl_counters_read(ev->vcpus[0], &c1);
		if (c1.entry_aborts - c0.entry_aborts >= hits)
			break;
	}
	self->v->stop = 1;
	EXPECT_TRUE(ok);
	/* It ran, and saw no vector of the host's. */
	EXPECT_TRUE(excl_vm_join(ev, 20));
	excl_counters_delta("vCPU 0", &c0, &c1);
	ksft_print_msg("%lu writes, %lu kicks of which the longest took %lu us, %lu entries given up\n",
		       self->v->writes, kicks, longest / 1000, c1.entry_aborts - c0.entry_aborts);
	EXPECT_GE(c1.entry_aborts - c0.entry_aborts, hits);
	/* A lost one is found by the next timer of the host, seconds later, if at all. */
	EXPECT_LT(longest, 1000000000);
	/* What the guest sent itself came, merged into one. */
	EXPECT_EQ(1, self->v->taken);
}

int main(int argc, char **argv)
{
	excl_require(1);
	TEST_REQUIRE(host_cpu_is_intel);
	TEST_REQUIRE(!excl_stock());
	hits = excl_arg(argc, argv, 1, 20);
	most = excl_arg(argc, argv, 2, 2000);
	return excl_harness_run(argc, argv);
}
