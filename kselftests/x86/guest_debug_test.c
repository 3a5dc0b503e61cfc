// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that a debugger that blocks a guest's interrupts blocks them on an exclusive vCPU.
 *
 * With KVM_GUESTDBG_BLOCKIRQ set no interrupt reaches the guest, whatever its RFLAGS.IF
 * says: not its timer's, not its own, no other vCPU's and no device's.  That takes a
 * detached vCPU, and the status says that there is a reason.  When it is cleared again
 * each of them comes, exactly once, and the vCPU is attached.
 *
 *   guest_debug_test [ROUNDS]
 */
#include "excl.h"
#include "guest.h"

#define TIMER_VECTOR	0x51
#define SELF_VECTOR	0x61
#define IPI_VECTOR	0x71
#define MSI_VECTOR	0x91

enum { TIMER, SELF, IPI, MSI, NR_KINDS };

static const char * const names[NR_KINDS] = {
	[TIMER] = "timer", [SELF] = "self-IPI", [IPI] = "IPI", [MSI] = "MSI",
};

enum stage { BLOCK, UNBLOCK };

static struct {
	uint64_t rounds, bus_ns;	/* by the host, before the start */
	uint64_t taken[NR_KINDS];
	uint64_t blocked, looked, round, done;
	uint64_t early[NR_KINDS], wrong[NR_KINDS];
	uint64_t ask, answered, stop;
} g;

static volatile typeof(g) *const v = &g;

static void on_vector(struct ex_regs *regs)
{
	v->taken[regs->vector == TIMER_VECTOR ? TIMER : regs->vector == SELF_VECTOR ? SELF :
		 regs->vector == IPI_VECTOR ? IPI : MSI]++;
	guest_eoi();
}

/* One of each kind; the MSI is the host's to send, when it sees this. */
static void all_kinds(void)
{
	wrmsr(APIC_BASE_MSR + (APIC_TMICT >> 4), 1000000 / v->bus_ns);
	guest_self_ipi(SELF_VECTOR);
	v->ask++;
	v->blocked++;
}

static void guest_code(uint64_t index)
{
	uint64_t i, k;

	guest_apic_init();
	if (index) {
		while (!v->stop) {
			if (v->ask != v->answered) {
				guest_send_icr(0, APIC_DM_FIXED | IPI_VECTOR);
				v->answered++;
			}
			cpu_relax();
		}
		GUEST_DONE();
	}
	x2apic_write_reg(APIC_TDCR, TDCR_DIV1);
	x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_ONESHOT | TIMER_VECTOR);
	guest_sti();
	for (i = 0; i < v->rounds; i++) {
		GUEST_SYNC1(BLOCK);
		all_kinds();
		/* The host looks when all of them should have come. */
		GUEST_ASSERT(guest_wait(v->looked == i + 1));
		for (k = 0; k < NR_KINDS; k++)
			v->early[k] += v->taken[k] - i;
		GUEST_SYNC1(UNBLOCK);
		for (k = 0; k < NR_KINDS; k++)
			v->wrong[k] += !guest_wait(v->taken[k] == i + 1);
		v->round = i + 1;
		/* And attached again, as the host sees. */
		GUEST_ASSERT(guest_wait(v->done == i + 1));
	}
	guest_spin_us(5000);
	for (k = 0; k < NR_KINDS; k++)
		v->wrong[k] += v->taken[k] != v->rounds;
	v->stop = 1;
	GUEST_DONE();
}

static void on_sync(struct excl_vm *ev, struct kvm_vcpu *vcpu, uint64_t *args)
{
	struct kvm_guest_debug debug = {};

	if (args[0] == BLOCK)
		debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_BLOCKIRQ;
	vcpu_guest_debug_set(vcpu, &debug);
}

/* Is it attached, and does what says so agree? Not before it has come to its guest. */
static bool attached_is(struct excl_vm *ev, bool want)
{
	struct kvm_excl_get_vcpu_status st;
	uint64_t end = excl_now_ns() + 1000000000ULL;

	if (ev->ctx < 0)
		return true;
	do {
		TEST_ASSERT(!excl_vcpu_status(ev->ctx, 0, &st), "status: %s",
			    strerror(errno));
		if (st.attached == want && !st.reason == want)
			return true;
		usleep(1000);
	} while (excl_now_ns() < end);
	ksft_print_msg("attached %u, reason %u where it should be %sattached\n", st.attached,
		       st.reason, want ? "" : "not ");
	return false;
}

int main(int argc, char **argv)
{
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = MSI_VECTOR };
	struct excl_vm ev = { .on_sync = on_sync };
	uint64_t rounds, i, k, early = 0, wrong = 0, detached = 0, attached = 0;
	volatile typeof(g) *h;
	bool ok = true;

	ksft_print_header();
	excl_require(2);
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_SET_GUEST_DEBUG2) & KVM_GUESTDBG_BLOCKIRQ);
	rounds = excl_arg(argc, argv, 1, 10);
	ksft_set_plan(4);

	k = excl_vm_direct_timer(&ev);
	excl_vm_create(&ev, 2, guest_code);
	vm_install_exception_handler(ev.vm, TIMER_VECTOR, on_vector);
	vm_install_exception_handler(ev.vm, SELF_VECTOR, on_vector);
	vm_install_exception_handler(ev.vm, IPI_VECTOR, on_vector);
	vm_install_exception_handler(ev.vm, MSI_VECTOR, on_vector);
	h = excl_shared(&ev, g);
	h->rounds = rounds;
	h->bus_ns = k;
	excl_vm_start(&ev);
	for (i = 0; ok && i < rounds; i++) {
		ok = excl_wait(&ev, h->blocked == i + 1 && h->answered == i + 1, 20);
		TEST_ASSERT(__vm_ioctl(ev.vm, KVM_SIGNAL_MSI, &msi) > 0, "KVM_SIGNAL_MSI");
		usleep(30000);
		detached += attached_is(&ev, false);
		h->looked = i + 1;
		ok = ok && excl_wait(&ev, h->round == i + 1, 20 * NR_KINDS + 10);
		attached += attached_is(&ev, true);
		h->done = i + 1;
	}
	ok = excl_vm_join(&ev, 30) && ok;
	for (k = 0; k < NR_KINDS; k++) {
		ksft_print_msg("%s: %lu of %lu, %lu while blocked, wrong %lu times\n", names[k],
			       h->taken[k], rounds, h->early[k], h->wrong[k]);
		early += h->early[k];
		wrong += h->wrong[k];
	}
	if (early || wrong || detached != rounds || attached != rounds)
		excl_vm_dump(&ev);
	ksft_test_result(ok && !early, "blocked: no interrupt reaches the guest\n");
	ksft_test_result(ok && !wrong, "then each comes, exactly once\n");
	if (excl_stock()) {
		ksft_test_result_skip("blocked: detached - not exclusive\n");
		ksft_test_result_skip("then attached - not exclusive\n");
	} else {
		ksft_test_result(ok && detached == rounds,
				 "blocked: detached, and there is a reason\n");
		ksft_test_result(ok && attached == rounds, "then attached\n");
	}
	excl_vm_destroy(&ev);
	ksft_finished();
}
