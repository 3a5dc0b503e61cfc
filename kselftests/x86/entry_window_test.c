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
#include "excl.h"
#include "guest.h"

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

int main(int argc, char **argv)
{
	uint64_t tsc, hits, most, kicks, start, longest = 0, took;
	struct excl_counters c0, c1;
	struct excl_vm ev = {};
	volatile typeof(g) *v;
	bool ok;

	ksft_print_header();
	excl_require(1);
	TEST_REQUIRE(host_cpu_is_intel);
	TEST_REQUIRE(!excl_stock());
	hits = excl_arg(argc, argv, 1, 20);
	most = excl_arg(argc, argv, 2, 2000);
	ksft_set_plan(4);

	excl_vm_create(&ev, 1, guest_code);
	vm_install_exception_handler(ev.vm, VECTOR, on_vector);
	v = excl_shared(&ev, g);
	excl_vm_start(&ev);
	ok = excl_wait(&ev, v->writes > 1000, 60);
	excl_counters_read(ev.vcpus[0], &c0);
	c1 = c0;
	for (kicks = 0; ok && kicks < most && !excl_vm_failed(&ev); kicks++) {
		start = excl_now_ns();
		ok = excl_host_msr(EXCL_FIRST_CPU, MSR_IA32_TSC, &tsc);
		took = excl_now_ns() - start;
		if (took > longest)
			longest = took;
		if (kicks % 16)
			continue;
		excl_counters_read(ev.vcpus[0], &c1);
		if (c1.entry_aborts - c0.entry_aborts >= hits)
			break;
	}
	v->stop = 1;
	ok = excl_vm_join(&ev, 20) && ok;
	excl_counters_delta("vCPU 0", &c0, &c1);
	ksft_print_msg("%lu writes, %lu kicks of which the longest took %lu us, %lu entries given up\n",
		       v->writes, kicks, longest / 1000, c1.entry_aborts - c0.entry_aborts);
	ksft_test_result(ok, "the guest ran and saw no vector of the host's\n");
	ksft_test_result(c1.entry_aborts - c0.entry_aborts >= hits, "entries were given up\n");
	/* A lost one is found by the next timer of the host, seconds later, if at all. */
	ksft_test_result(longest < 1000000000, "no kick was lost\n");
	ksft_test_result(v->taken == 1, "what the guest sent itself came, merged into one\n");
	excl_vm_destroy(&ev);
	ksft_finished();
}
