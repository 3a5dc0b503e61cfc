// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that priorities and nesting of an exclusive vCPU are the manual's, also
 * across an exit to user space in the middle of a handler.
 *
 * TPR and CR8 hold back what they mask and no more; a higher vector interrupts
 * the handler of a lower one, an equal or lower one waits for EOI; what is in
 * service before an exit is in service after it, and KVM_GET_LAPIC shows it.
 *
 *   priority_test [ROUNDS]
 */
#include "guest.h"
#include "harness.h"

#define LOW		0x31
#define MID		0x41
#define MID_SAME_CLASS	0x45
#define HIGH		0x71
#define PORT		0x80

static struct {
	uint64_t rounds, round;
	uint64_t order[16];
	uint64_t n;
	uint64_t count[256];
} g;

static volatile typeof(g) *const v = &g;

static void note(uint64_t what)
{
	if (v->n < ARRAY_SIZE(g.order))
		v->order[v->n] = what;
	v->n++;
}

static void on_low(struct ex_regs *regs)
{
	note(LOW);
	v->count[LOW]++;
	guest_eoi();
}

static void on_same(struct ex_regs *regs)
{
	note(MID_SAME_CLASS);
	v->count[MID_SAME_CLASS]++;
	guest_eoi();
}

static void on_high(struct ex_regs *regs)
{
	note(HIGH);
	v->count[HIGH]++;
	GUEST_ASSERT(guest_apic_bit(APIC_ISR, MID));
	GUEST_ASSERT(guest_apic_bit(APIC_ISR, HIGH));
	GUEST_ASSERT_EQ(x2apic_read_reg(APIC_PROCPRI), HIGH & 0xf0);

	/* To user space and back, twice: the second one finds it put back. */
	guest_outb(PORT, HIGH);
	guest_outb(PORT, HIGH);

	GUEST_ASSERT(guest_apic_bit(APIC_ISR, MID));
	GUEST_ASSERT(guest_apic_bit(APIC_ISR, HIGH));
	GUEST_ASSERT_EQ(x2apic_read_reg(APIC_PROCPRI), HIGH & 0xf0);
	/* The same again, and a lower one: both wait. */
	guest_self_ipi(HIGH);
	guest_self_ipi(LOW);
	guest_sti();
	guest_spin_us(100);
	guest_cli();
	GUEST_ASSERT(guest_apic_bit(APIC_IRR, HIGH));
	GUEST_ASSERT(guest_apic_bit(APIC_IRR, LOW));
	note(HIGH | 0x1000);
	guest_eoi();
	GUEST_ASSERT(!guest_apic_bit(APIC_ISR, HIGH));
}

static void on_high_again(struct ex_regs *regs)
{
	note(HIGH);
	v->count[HIGH]++;
	guest_eoi();
}

static void on_any_high(struct ex_regs *regs)
{
	if (v->count[HIGH] & 1)
		on_high_again(regs);
	else
		on_high(regs);
}

static void on_mid(struct ex_regs *regs)
{
	note(MID);
	v->count[MID]++;
	GUEST_ASSERT_EQ(x2apic_read_reg(APIC_PROCPRI), MID & 0xf0);
	guest_self_ipi(MID_SAME_CLASS);
	guest_sti();
	guest_spin_us(100);
	/* Of the same class: not before EOI. */
	GUEST_ASSERT(guest_apic_bit(APIC_IRR, MID_SAME_CLASS));
	guest_outb(PORT, MID);
	GUEST_ASSERT(guest_apic_bit(APIC_ISR, MID));
	guest_self_ipi(HIGH);
	GUEST_ASSERT(guest_wait(v->count[HIGH] == 2 * (v->round + 1)));
	guest_cli();
	GUEST_ASSERT(guest_apic_bit(APIC_ISR, MID));
	GUEST_ASSERT(!guest_apic_bit(APIC_ISR, HIGH));
	GUEST_ASSERT_EQ(x2apic_read_reg(APIC_PROCPRI), MID & 0xf0);
	note(MID | 0x1000);
	guest_eoi();
}

/* @masked has to wait until the TPR is lowered by @lower. */
static void check_tpr(bool cr8)
{
	uint64_t before = v->count[LOW];

	if (cr8)
		asm volatile("mov %0, %%cr8" :: "r"(3ULL) : "memory");
	else
		x2apic_write_reg(APIC_TASKPRI, 0x30);
	guest_self_ipi(LOW);
	guest_spin_us(100);
	GUEST_ASSERT_EQ(v->count[LOW], before);
	GUEST_ASSERT(guest_apic_bit(APIC_IRR, LOW));
	/* It waits in user space as well. */
	guest_outb(PORT, 0);
	GUEST_ASSERT_EQ(v->count[LOW], before);
	GUEST_ASSERT(guest_apic_bit(APIC_IRR, LOW));
	GUEST_ASSERT_EQ(x2apic_read_reg(APIC_TASKPRI), 0x30);
	/* One class lower lets it through, at once. */
	if (cr8)
		asm volatile("mov %0, %%cr8" :: "r"(2ULL) : "memory");
	else
		x2apic_write_reg(APIC_TASKPRI, 0x2f);
	GUEST_ASSERT(guest_wait(v->count[LOW] == before + 1));
	GUEST_ASSERT(!guest_apic_bit(APIC_IRR, LOW));
	x2apic_write_reg(APIC_TASKPRI, 0);
}

static void guest_code(uint64_t index)
{
	static const uint64_t want[] = {
		MID, HIGH, HIGH | 0x1000, HIGH, MID | 0x1000, MID_SAME_CLASS, LOW,
	};
	uint64_t i;

	guest_apic_init();
	guest_sti();
	for (v->round = 0; v->round < v->rounds; v->round++) {
		uint64_t low;

		check_tpr(false);
		check_tpr(true);

		v->n = 0;
		low = v->count[LOW];
		guest_self_ipi(MID);
		GUEST_ASSERT(guest_wait(v->count[LOW] == low + 1));
		GUEST_ASSERT_EQ(v->n, ARRAY_SIZE(want));
		for (i = 0; i < ARRAY_SIZE(want); i++)
			GUEST_ASSERT_EQ(v->order[i], want[i]);
		GUEST_ASSERT_EQ(x2apic_read_reg(APIC_PROCPRI), 0);
	}
	GUEST_DONE();
}

static uint64_t bad_isr, seen;

static bool lapic_bit(struct kvm_lapic_state *s, unsigned int reg, unsigned int vector)
{
	uint32_t val;

	memcpy(&val, s->regs + reg + vector / 32 * 0x10, sizeof(val));
	return val & 1u << vector % 32;
}

static bool on_io(struct excl_vm *ev, struct kvm_vcpu *vcpu)
{
	struct kvm_lapic_state s;
	uint8_t what;

	if (vcpu->run->exit_reason != KVM_EXIT_IO || vcpu->run->io.port != PORT)
		return false;
	what = *((uint8_t *)vcpu->run + vcpu->run->io.data_offset);
	vcpu_ioctl(vcpu, KVM_GET_LAPIC, &s);
	if (what == HIGH && (!lapic_bit(&s, APIC_ISR, MID) || !lapic_bit(&s, APIC_ISR, HIGH)))
		bad_isr++;
	if (what == MID && (!lapic_bit(&s, APIC_ISR, MID) ||
			    !lapic_bit(&s, APIC_IRR, MID_SAME_CLASS)))
		bad_isr++;
	if (!what && (!lapic_bit(&s, APIC_IRR, LOW) || s.regs[APIC_TASKPRI] != 0x30))
		bad_isr++;
	seen++;
	return true;
}

static uint64_t nr_rounds;

/* All rounds. */
FIXTURE(priority) {
	struct excl_vm ev;
	volatile typeof(g) *s;
	struct excl_counters c0, c1;
};

FIXTURE_SETUP(priority)
{
	struct excl_vm *ev = &self->ev;

	ev->on_exit = on_io;
	excl_vm_create(ev, 1, guest_code);
	vm_install_exception_handler(ev->vm, LOW, on_low);
	vm_install_exception_handler(ev->vm, MID, on_mid);
	vm_install_exception_handler(ev->vm, MID_SAME_CLASS, on_same);
	vm_install_exception_handler(ev->vm, HIGH, on_any_high);
	self->s = excl_shared(ev, g);
	self->s->rounds = nr_rounds;
	excl_counters_read(ev->vcpus[0], &self->c0);
	excl_vm_start(ev);
	/* The guest asserts the order of its handlers, and what its registers are. */
	EXPECT_TRUE(excl_vm_join(ev, 50));
	excl_counters_read(ev->vcpus[0], &self->c1);
	excl_counters_delta("vCPU 0", &self->c0, &self->c1);
	ksft_print_msg("rounds %lu of %lu, exits to user space %lu, wrong state in %lu\n",
		       self->s->round, nr_rounds, seen, bad_isr);
}

FIXTURE_TEARDOWN(priority)
{
	excl_vm_destroy(&self->ev);
}

TEST_F_TIMEOUT(priority, is_the_order_of_handlers, EXCL_CASE_S)
{
	EXPECT_EQ(nr_rounds, self->s->round);
}

TEST_F_TIMEOUT(priority, is_what_get_lapic_shows, EXCL_CASE_S)
{
	EXPECT_NE(0, seen);
	EXPECT_EQ(0, bad_isr);
}

TEST_F_TIMEOUT(priority, is_that_of_an_attached_vcpu, EXCL_CASE_S)
{
	if (excl_stock())
		SKIP(return, "not exclusive");
	EXPECT_GT(self->c1.attaches - self->c0.attaches, nr_rounds);
}

int main(int argc, char **argv)
{
	excl_require(1);
	nr_rounds = excl_arg(argc, argv, 1, 200);
	return excl_harness_run(argc, argv);
}
