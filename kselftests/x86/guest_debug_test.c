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
#include "guest.h"
#include "harness.h"

#define TIMER_VECTOR	0x51
#define SELF_VECTOR	0x61
#define IPI_VECTOR	0x71
#define MSI_VECTOR	0x91

enum { TIMER, SELF, IPI, MSI, NR_KINDS };

static const char * const names[NR_KINDS] = {
	[TIMER] = "timer", [SELF] = "self-IPI", [IPI] = "IPI", [MSI] = "MSI",
};

static const uint8_t vectors[NR_KINDS] = {
	[TIMER] = TIMER_VECTOR, [SELF] = SELF_VECTOR, [IPI] = IPI_VECTOR, [MSI] = MSI_VECTOR,
};

enum stage { BLOCK, UNBLOCK };

static struct {
	uint64_t rounds, bus_ns;	/* by the host, before the start */
	uint64_t taken[NR_KINDS];
	uint64_t blocked, pending, looked, round, done;
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
		/* They are there, and none is taken. The host looks then. */
		for (k = 0; k < NR_KINDS; k++)
			GUEST_ASSERT(guest_wait(guest_apic_bit(APIC_IRR, vectors[k]) ||
						v->taken[k] != i));
		v->pending = i + 1;
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

static uint64_t nr_rounds;

/* All rounds, and what came of them. */
FIXTURE(blocked) {
	struct excl_vm ev;
	volatile typeof(g) *h;
	uint64_t detached, attached;
};

FIXTURE_SETUP(blocked)
{
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = MSI_VECTOR };
	struct excl_vm *ev = &self->ev;
	volatile typeof(g) *h;
	uint64_t bus_ns, i;

	ev->on_sync = on_sync;
	bus_ns = excl_vm_direct_timer(ev);
	excl_vm_create(ev, 2, guest_code);
	vm_install_exception_handler(ev->vm, TIMER_VECTOR, on_vector);
	vm_install_exception_handler(ev->vm, SELF_VECTOR, on_vector);
	vm_install_exception_handler(ev->vm, IPI_VECTOR, on_vector);
	vm_install_exception_handler(ev->vm, MSI_VECTOR, on_vector);
	self->h = excl_shared(ev, g);
	h = self->h;
	h->rounds = nr_rounds;
	h->bus_ns = bus_ns;
	excl_vm_start(ev);
	for (i = 0; i < nr_rounds; i++) {
		ASSERT_TRUE(excl_wait(ev, h->blocked == i + 1 && h->answered == i + 1, 20));
		ASSERT_LT(0, __vm_ioctl(ev->vm, KVM_SIGNAL_MSI, &msi));
		ASSERT_TRUE(excl_wait(ev, h->pending == i + 1, 20 * NR_KINDS + 10));
		self->detached += attached_is(ev, false);
		h->looked = i + 1;
		ASSERT_TRUE(excl_wait(ev, h->round == i + 1, 20 * NR_KINDS + 10));
		self->attached += attached_is(ev, true);
		h->done = i + 1;
	}
	ASSERT_TRUE(excl_vm_join(ev, 30));
	for (i = 0; i < NR_KINDS; i++)
		ksft_print_msg("%s: %lu of %lu, %lu while blocked, wrong %lu times\n", names[i],
			       h->taken[i], nr_rounds, h->early[i], h->wrong[i]);
}

FIXTURE_TEARDOWN(blocked)
{
	if (_metadata->exit_code == KSFT_FAIL)
		excl_vm_dump(&self->ev);
	excl_vm_destroy(&self->ev);
}

TEST_F_TIMEOUT(blocked, no_interrupt_reaches_the_guest, EXCL_CASE_S)
{
	int i;

	for (i = 0; i < NR_KINDS; i++) {
		EXPECT_EQ(0, self->h->early[i]) {
			TH_LOG("%s", names[i]);
		}
	}
}

TEST_F_TIMEOUT(blocked, each_comes_once_afterwards, EXCL_CASE_S)
{
	int i;

	for (i = 0; i < NR_KINDS; i++) {
		EXPECT_EQ(0, self->h->wrong[i]) {
			TH_LOG("%s", names[i]);
		}
	}
}

TEST_F_TIMEOUT(blocked, detached_and_there_is_a_reason, EXCL_CASE_S)
{
	if (excl_stock())
		SKIP(return, "not exclusive");
	EXPECT_EQ(nr_rounds, self->detached);
}

TEST_F_TIMEOUT(blocked, attached_afterwards, EXCL_CASE_S)
{
	if (excl_stock())
		SKIP(return, "not exclusive");
	EXPECT_EQ(nr_rounds, self->attached);
}

int main(int argc, char **argv)
{
	excl_require(2);
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_SET_GUEST_DEBUG2) & KVM_GUESTDBG_BLOCKIRQ);
	nr_rounds = excl_arg(argc, argv, 1, 10);
	return excl_harness_run(argc, argv);
}
