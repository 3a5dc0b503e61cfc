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
#include "excl.h"
#include "guest.h"

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

static void run(enum sender sender, uint64_t count)
{
	struct excl_vm ev = { .on_exit = on_io };
	struct excl_counters c0, c1;
	volatile typeof(g) *h;
	bool ok;

	excl_vm_create(&ev, 2, guest_code);
	vm_install_exception_handler(ev.vm, VECTOR, on_vector);
	h = excl_shared(&ev, g);
	h->count = count;
	h->sender = sender;
	excl_counters_read(ev.vcpus[0], &c0);
	excl_vm_start(&ev);
	ok = excl_wait(&ev, h->ready, 20);
	if (ok && sender == BY_HOST)
		send_from_host(&ev, h);
	ok = ok && excl_wait(&ev, h->stop, 120);
	ok = excl_vm_join(&ev, 20) && ok;
	excl_counters_read(ev.vcpus[0], &c1);
	excl_counters_delta(names[sender], &c0, &c1);
	ksft_print_msg("%s: %lu sent, %lu taken, %lu within another one\n", names[sender],
		       h->sent, h->taken, h->nested);
	if (h->lost)
		ksft_print_msg("%s: number %lu is lost; ISR %lu, IRR %lu, PPR %#lx\n",
			       names[sender], h->lost_at, h->isr, h->irr, h->ppr);
	ksft_test_result(ok && !h->lost && !h->nested && h->sent == count &&
			 h->taken == count, "%s: none lost, none twice\n", names[sender]);
	/* Of four, three leave, with the vector in service. */
	if (excl_stock())
		ksft_test_result_skip("%s: put back - not exclusive\n", names[sender]);
	else
		ksft_test_result(c1.detaches - c0.detaches >= count / 2,
				 "%s: put back again and again\n", names[sender]);
	excl_vm_destroy(&ev);
}

int main(int argc, char **argv)
{
	enum sender sender;
	uint64_t count;

	ksft_print_header();
	excl_require(2);
	count = excl_arg(argc, argv, 1, 2000);
	ksft_set_plan(2 * NR_SENDERS);
	for (sender = 0; sender < NR_SENDERS; sender++)
		run(sender, count);
	ksft_finished();
}
