// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that an interrupt is not lost when its vector is sent again while it is in service
 * and the vCPU that serves it detaches, and puts it back into service.
 *
 * vCPU 0's handler counts, then leaves the guest, and only then writes its EOI.  Who sends
 * does so again as soon as the count has moved: while the vector is in service, spilled,
 * being put back, or in service again.  By then the one before has been taken, so none may
 * merge with it, and each is waited for: one that is lost ends the run, one that comes
 * twice shows in the count.
 *
 * The handler leaves by port I/O to user space, by an instruction that KVM emulates, and,
 * for comparison, not at all.  vCPU 1 sends by ICR, the host by KVM_SIGNAL_MSI, vCPU 0 to
 * itself, in its own handler.
 *
 *   in_service_test [INTERRUPTS]
 */
#include "guest.h"
#include "harness.h"

#define VECTOR		0x71
#define PORT		0x80

/* Of the guest's TSC; an emulator may be late by less. */
#define PATIENCE_S	10

enum sender { BY_ICR, BY_HOST, BY_SELF, NR_SENDERS };

static const char * const names[NR_SENDERS] = {
	[BY_ICR] = "an IPI of another vCPU",
	[BY_HOST] = "KVM_SIGNAL_MSI",
	[BY_SELF] = "a self-IPI in the handler",
};

static struct {
	uint64_t count, sender;		/* by the host, before the start */
	uint64_t ready, stop, sent, taken, nested, in_handler;
	uint64_t lost, lost_at;
	uint64_t isr, irr, ppr;
} g;

static volatile typeof(g) *const v = &g;

static void leave(uint64_t n)
{
	uint32_t eax, ebx, ecx, edx;

	switch (n % 4) {
	case 0:
	case 1:
		cpuid(0, &eax, &ebx, &ecx, &edx);
		break;
	case 2:
		guest_outb(PORT, n);
		break;
	default:
		/* The sender is quick, or not: the whole of the way is to be met. */
		guest_spin_us(n % 16);
		break;
	}
}

static void on_vector(struct ex_regs *regs)
{
	uint64_t n = v->taken + 1;

	v->nested += v->in_handler++;
	if (v->sender == BY_SELF && n < v->count) {
		v->sent++;
		guest_self_ipi(VECTOR);
	}
	v->taken = n;
	leave(n);
	v->in_handler--;
	guest_eoi();
}

static bool wait_taken(uint64_t n)
{
	uint64_t start = rdtsc();

	while (v->taken != n) {
		if (rdtsc() - start > guest_ms(PATIENCE_S * 1000))
			return v->taken == n;
		cpu_relax();
	}
	return true;
}

static void guest_code(uint64_t index)
{
	uint64_t i;

	guest_apic_init();
	if (!index) {
		guest_sti();
		v->ready = 1;
		if (v->sender == BY_SELF) {
			v->sent = 1;
			guest_self_ipi(VECTOR);
			v->lost = !wait_taken(v->count);
			v->lost_at = v->taken + 1;
			v->stop = 1;
		}
		while (!v->stop)
			cpu_relax();
		v->isr = guest_apic_bit(APIC_ISR, VECTOR);
		v->irr = guest_apic_bit(APIC_IRR, VECTOR);
		v->ppr = x2apic_read_reg(APIC_PROCPRI);
		/* One too many would come now. */
		guest_spin_us(1000);
		GUEST_DONE();
	}
	while (!v->ready)
		cpu_relax();
	for (i = 1; v->sender == BY_ICR && !v->lost && i <= v->count; i++) {
		v->sent = i;
		guest_send_icr(0, APIC_DM_FIXED | VECTOR);
		v->lost = !wait_taken(i);
		v->lost_at = i;
	}
	if (v->sender == BY_ICR)
		v->stop = 1;
	GUEST_DONE();
}

static bool on_io(struct excl_vm *ev, struct kvm_vcpu *vcpu)
{
	return vcpu->run->exit_reason == KVM_EXIT_IO && vcpu->run->io.port == PORT;
}

static void send_from_host(struct excl_vm *ev, volatile typeof(g) *h)
{
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = VECTOR };
	uint64_t i, end;
	int r;

	for (i = 1; !h->lost && i <= h->count; i++) {
		h->sent = i;
		r = __vm_ioctl(ev->vm, KVM_SIGNAL_MSI, &msi);
		TEST_ASSERT(r > 0, "KVM_SIGNAL_MSI: %d, %s", r, strerror(errno));
		end = excl_now_ns() + PATIENCE_S * 1000000000ULL;
		while (h->taken != i && excl_now_ns() < end && !ev->threads[0].failed)
			cpu_relax();
		h->lost = h->taken != i;
		h->lost_at = i;
	}
	h->stop = 1;
}

static uint64_t nr_interrupts;

FIXTURE(in_service) {
	struct excl_vm ev;
	volatile typeof(g) *h;
	struct excl_counters c0;
};

FIXTURE_VARIANT(in_service) {
	enum sender sender;
};

FIXTURE_VARIANT_ADD(in_service, by_icr) {
	.sender = BY_ICR,
};

FIXTURE_VARIANT_ADD(in_service, by_host) {
	.sender = BY_HOST,
};

FIXTURE_VARIANT_ADD(in_service, by_self) {
	.sender = BY_SELF,
};

FIXTURE_SETUP(in_service)
{
	self->ev.on_exit = on_io;
	excl_vm_create(&self->ev, 2, guest_code);
	vm_install_exception_handler(self->ev.vm, VECTOR, on_vector);
	self->h = excl_shared(&self->ev, g);
	self->h->sender = variant->sender;
	excl_counters_read(self->ev.vcpus[0], &self->c0);
}

FIXTURE_TEARDOWN(in_service)
{
	excl_vm_destroy(&self->ev);
}

/* Send them all; false when the guests do not come to their end. */
static bool run(struct excl_vm *ev, volatile typeof(g) *h, uint64_t count)
{
	bool ok;

	h->count = count;
	excl_vm_start(ev);
	ok = excl_wait(ev, h->ready, 20);
	if (ok && h->sender == BY_HOST)
		send_from_host(ev, h);
	ok = ok && excl_wait(ev, h->stop, 120);
	ok = excl_vm_join(ev, 20) && ok;
	ksft_print_msg("%s: %lu sent, %lu taken, %lu within another one\n", names[h->sender],
		       h->sent, h->taken, h->nested);
	if (h->lost)
		ksft_print_msg("%s: number %lu is lost; ISR %lu, IRR %lu, PPR %#lx\n",
			       names[h->sender], h->lost_at, h->isr, h->irr, h->ppr);
	return ok;
}

TEST_F_TIMEOUT(in_service, none_is_lost_or_comes_twice, EXCL_CASE_S)
{
	struct excl_counters c1;

	EXPECT_TRUE(run(&self->ev, self->h, nr_interrupts));
	excl_counters_read(self->ev.vcpus[0], &c1);
	excl_counters_delta(names[variant->sender], &self->c0, &c1);
	EXPECT_EQ(0, self->h->lost);
	EXPECT_EQ(0, self->h->nested);
	EXPECT_EQ(nr_interrupts, self->h->sent);
	EXPECT_EQ(nr_interrupts, self->h->taken);
}

/* The vector is put back again and again: of four, three leave with it in service. */
TEST_F_TIMEOUT(in_service, each_is_put_back, EXCL_CASE_S)
{
	uint64_t count = nr_interrupts / 4;
	struct excl_counters c1;

	if (excl_stock())
		SKIP(return, "not exclusive");
	ASSERT_TRUE(run(&self->ev, self->h, count));
	excl_counters_read(self->ev.vcpus[0], &c1);
	excl_counters_delta(names[variant->sender], &self->c0, &c1);
	EXPECT_GE(c1.detaches - self->c0.detaches, count / 2);
}

int main(int argc, char **argv)
{
	excl_require(2);
	nr_interrupts = excl_arg(argc, argv, 1, 2000);
	return excl_harness_run(argc, argv);
}
