// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that the software local APIC is true whenever the vCPU is out of the
 * guest, and that the guest finds there what user space put there.
 *
 * In the middle of a handler, with a vector masked by TPR pending and the timer
 * running, KVM_GET_LAPIC shows ISR, IRR, TPR, TMICT and a falling TMCCT;
 * KVM_SET_LAPIC with the same changes nothing, with one more IRR bit brings that
 * interrupt.  A guest in xAPIC mode works, detached, with the reason shown, and
 * attaches when it switches to x2APIC mode.
 *
 * KVM_SET_LAPIC takes registers as they are, with bits that no register has.  The guest
 * then runs on with what there is of them, and the host writes none into a register of
 * its own, where it would fault.
 */
#include "guest.h"
#include "harness.h"

#define IN_SERVICE	0x51
#define PENDING		0x41
#define INJECTED	0x61
#define XAPIC_VECTOR	0x81
#define ODD_VECTOR	0x35
#define ODD_TPR		0x40
#define TMICT		0xf0000000u	/* by 16: a minute */
#define TDCR_DIV16	0x3

enum stage {
	GET_FIRST = 1, GET_SECOND, SET_SAME, SET_MORE, RESTORED,
	IN_XAPIC, IN_X2APIC, LAST
};

static struct {
	uint64_t count[256];
	uint64_t xapic;
	uint64_t go;
} g;

static volatile typeof(g) *const v = &g;

static void check_state(void)
{
	GUEST_ASSERT(guest_apic_bit(APIC_ISR, IN_SERVICE));
	GUEST_ASSERT(guest_apic_bit(APIC_IRR, PENDING));
	GUEST_ASSERT_EQ(x2apic_read_reg(APIC_TASKPRI), 0x40);
	GUEST_ASSERT_EQ(x2apic_read_reg(APIC_TMICT), TMICT);
	GUEST_ASSERT(x2apic_read_reg(APIC_TMCCT) &&
		     x2apic_read_reg(APIC_TMCCT) < TMICT);
}

static void on_in_service(struct ex_regs *regs)
{
	v->count[IN_SERVICE]++;
	x2apic_write_reg(APIC_TASKPRI, 0x40);
	guest_self_ipi(PENDING);
	GUEST_SYNC1(GET_FIRST);
	check_state();
	guest_spin_us(1000);
	GUEST_SYNC1(GET_SECOND);
	check_state();
	GUEST_SYNC1(SET_SAME);
	check_state();
	GUEST_SYNC1(SET_MORE);
	check_state();
	GUEST_ASSERT(guest_apic_bit(APIC_IRR, INJECTED));
	guest_eoi();
}

static void on_count(struct ex_regs *regs)
{
	v->count[regs->vector]++;
	if (v->xapic)
		xapic_write_reg(APIC_EOI, 0);
	else
		guest_eoi();
}

static void guest_code(uint64_t index)
{
	uint64_t i;

	guest_apic_init();
	x2apic_write_reg(APIC_TDCR, TDCR_DIV16);
	x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_ONESHOT | XAPIC_VECTOR);
	x2apic_write_reg(APIC_TMICT, TMICT);
	guest_sti();
	guest_self_ipi(IN_SERVICE);
	GUEST_ASSERT(guest_wait(v->count[INJECTED] == 1));
	GUEST_ASSERT_EQ(v->count[PENDING], 0);
	x2apic_write_reg(APIC_TASKPRI, 0);
	GUEST_ASSERT(guest_wait(v->count[PENDING] == 1));
	guest_spin_us(10000);
	GUEST_ASSERT_EQ(v->count[PENDING], 1);
	GUEST_ASSERT_EQ(v->count[INJECTED], 1);
	GUEST_ASSERT_EQ(v->count[IN_SERVICE], 1);
	x2apic_write_reg(APIC_TMICT, 0);
	GUEST_SYNC1(RESTORED);

	/* xAPIC: through memory; timer and self-IPIs. */
	guest_cli();
	xapic_enable();
	v->xapic = 1;
	xapic_write_reg(APIC_SPIV, APIC_SPIV_APIC_ENABLED | 0xff);
	xapic_write_reg(APIC_TDCR, TDCR_DIV1);
	xapic_write_reg(APIC_LVTT, APIC_LVT_TIMER_ONESHOT | XAPIC_VECTOR);
	guest_sti();
	for (i = 1; i <= 100; i++) {
		xapic_write_reg(APIC_TMICT, 100000);
		GUEST_ASSERT(guest_wait(v->count[XAPIC_VECTOR] == i));
		xapic_write_reg(APIC_ICR, APIC_DEST_SELF | PENDING);
		GUEST_ASSERT(guest_wait(v->count[PENDING] == i + 1));
	}
	while (v->go < IN_XAPIC)
		cpu_relax();

	guest_cli();
	v->xapic = 0;
	guest_apic_init();
	x2apic_write_reg(APIC_TDCR, TDCR_DIV1);
	x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_ONESHOT | XAPIC_VECTOR);
	guest_sti();
	for (i = 1; i <= 100; i++) {
		x2apic_write_reg(APIC_TMICT, 100000);
		GUEST_ASSERT(guest_wait(v->count[XAPIC_VECTOR] == i + 100));
		guest_self_ipi(PENDING);
		GUEST_ASSERT(guest_wait(v->count[PENDING] == i + 101));
	}
	while (v->go < IN_X2APIC)
		cpu_relax();
	GUEST_DONE();
}

static uint64_t stages, wrong;
static uint32_t first_tmcct;

static uint32_t reg(struct kvm_lapic_state *s, unsigned int off)
{
	uint32_t val;

	memcpy(&val, s->regs + off, sizeof(val));
	return val;
}

static bool bit(struct kvm_lapic_state *s, unsigned int off, unsigned int vector)
{
	return reg(s, off + vector / 32 * 0x10) & 1u << vector % 32;
}

static void check(bool ok, uint64_t stage, const char *what, uint64_t val)
{
	if (ok)
		return;
	ksft_print_msg("stage %lu: %s is %#lx\n", stage, what, val);
	wrong++;
}

static void on_sync(struct excl_vm *ev, struct kvm_vcpu *vcpu, uint64_t *args)
{
	struct kvm_lapic_state s;
	uint32_t irr;

	stages++;
	if (args[0] > SET_MORE)
		return;
	vcpu_ioctl(vcpu, KVM_GET_LAPIC, &s);
	check(bit(&s, APIC_ISR, IN_SERVICE), args[0], "ISR", reg(&s, APIC_ISR + 0x20));
	check(bit(&s, APIC_IRR, PENDING), args[0], "IRR", reg(&s, APIC_IRR + 0x20));
	check(reg(&s, APIC_TASKPRI) == 0x40, args[0], "TPR", reg(&s, APIC_TASKPRI));
	check(reg(&s, APIC_TMICT) == TMICT, args[0], "TMICT", reg(&s, APIC_TMICT));
	check(reg(&s, APIC_TMCCT) && reg(&s, APIC_TMCCT) < TMICT, args[0], "TMCCT",
	      reg(&s, APIC_TMCCT));
	if (args[0] == GET_FIRST)
		first_tmcct = reg(&s, APIC_TMCCT);
	if (args[0] == GET_SECOND)
		check(reg(&s, APIC_TMCCT) < first_tmcct, args[0], "TMCCT",
		      reg(&s, APIC_TMCCT));
	if (args[0] == SET_MORE) {
		irr = reg(&s, APIC_IRR + INJECTED / 32 * 0x10) | 1u << INJECTED % 32;
		memcpy(s.regs + APIC_IRR + INJECTED / 32 * 0x10, &irr, sizeof(irr));
	}
	if (args[0] >= SET_SAME)
		vcpu_ioctl(vcpu, KVM_SET_LAPIC, &s);
}

/*
 * Intel SDM volume 3, "Local Vector Table" and the registers' own figures.  Not those bits
 * of LVTT that are delivery mode and trigger mode in other entries: KVM takes them for it.
 */
static const struct {
	const char *name;
	unsigned int reg;
	uint32_t bits;
} odd[] = {
	{ "TPR", APIC_TASKPRI, 0x100 },
	{ "TPR", APIC_TASKPRI, 0x80000000 },
	{ "TPR", APIC_TASKPRI, 0xffffff00 },
	{ "SVR", APIC_SPIV, 0xffffec00 },
	{ "LVTT", APIC_LVTT, 0xfff86800 },
	{ "LVTT, delivery status too", APIC_LVTT, 0xfff87800 },
	{ "TDCR", APIC_TDCR, 0xfffffff4 },
	{ "TMICT", APIC_TMICT, 0xffffffff },
};

static struct {
	uint64_t taken, expired;
	uint64_t tpr[ARRAY_SIZE(odd)], early[ARRAY_SIZE(odd)], lost[ARRAY_SIZE(odd)];
} o;

static void on_odd(struct ex_regs *regs)
{
	(*(volatile uint64_t *)&o.taken)++;
	guest_eoi();
}

static void on_odd_timer(struct ex_regs *regs)
{
	(*(volatile uint64_t *)&o.expired)++;
	guest_eoi();
}

static void odd_code(uint64_t index)
{
	volatile typeof(o) *w = &o;
	uint64_t i, expired;

	guest_apic_init();
	guest_sti();
	for (i = 0; i < ARRAY_SIZE(odd); i++) {
		x2apic_write_reg(APIC_SPIV, APIC_SPIV_APIC_ENABLED | GUEST_SPURIOUS_VECTOR);
		x2apic_write_reg(APIC_TDCR, TDCR_DIV1);
		x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_ONESHOT | XAPIC_VECTOR);
		x2apic_write_reg(APIC_TASKPRI, ODD_TPR);
		GUEST_SYNC1(i);
		w->tpr[i] = x2apic_read_reg(APIC_TASKPRI) & 0xff;
		guest_self_ipi(ODD_VECTOR);
		guest_spin_us(100);
		w->early[i] = w->taken != i;
		x2apic_write_reg(APIC_TASKPRI, 0);
		w->lost[i] = !guest_wait(w->taken == i + 1);
		/* What the host has set may have expired. */
		expired = w->expired;
		x2apic_write_reg(APIC_TMICT, 100000);
		w->lost[i] += !guest_wait(w->expired > expired);
	}
	GUEST_DONE();
}

static void on_odd_sync(struct excl_vm *ev, struct kvm_vcpu *vcpu, uint64_t *args)
{
	struct kvm_lapic_state s;
	uint32_t val;

	vcpu_ioctl(vcpu, KVM_GET_LAPIC, &s);
	val = reg(&s, odd[args[0]].reg) | odd[args[0]].bits;
	memcpy(s.regs + odd[args[0]].reg, &val, sizeof(val));
	vcpu_ioctl(vcpu, KVM_SET_LAPIC, &s);
}

FIXTURE(reserved) {
	struct excl_vm ev;
	volatile typeof(o) *w;
	int log;
};

FIXTURE_SETUP(reserved)
{
	struct excl_vm *ev = &self->ev;

	self->log = excl_log_open();
	ev->on_sync = on_odd_sync;
	excl_vm_direct_timer(ev);
	excl_vm_create(ev, 1, odd_code);
	vm_install_exception_handler(ev->vm, ODD_VECTOR, on_odd);
	vm_install_exception_handler(ev->vm, XAPIC_VECTOR, on_odd_timer);
	self->w = excl_shared(ev, o);
	excl_vm_start(ev);
}

FIXTURE_TEARDOWN(reserved)
{
	close(self->log);
	excl_vm_destroy(&self->ev);
}

TEST_F_TIMEOUT(reserved, bits_leave_the_guest_the_rest, EXCL_CASE_S)
{
	volatile typeof(o) *w = self->w;
	struct excl_counters c;
	unsigned int i;

	EXPECT_TRUE(excl_vm_join(&self->ev, 60));
	for (i = 0; i < ARRAY_SIZE(odd); i++) {
		EXPECT_TRUE(w->tpr[i] == ODD_TPR && !w->early[i] && !w->lost[i]) {
			TH_LOG("%s with %#x: the guest's TPR is %#lx, early %lu, lost %lu",
			       odd[i].name, odd[i].bits, w->tpr[i], w->early[i], w->lost[i]);
		}
	}
	excl_counters_read(self->ev.vcpus[0], &c);
	EXPECT_TRUE(excl_stock() || c.attaches >= ARRAY_SIZE(odd)) {
		excl_counters_print("reserved bits", &c);
	}
}

TEST_F_TIMEOUT(reserved, bits_are_not_written_by_the_host, EXCL_CASE_S)
{
	ASSERT_TRUE(excl_vm_join(&self->ev, 60));
	EXPECT_EQ(0, excl_log_find(self->log, "unchecked MSR access"));
}

/* The guest is in xAPIC mode, behind what user space has read and written. */
FIXTURE(lapic) {
	struct excl_vm ev;
	volatile typeof(g) *s;
};

FIXTURE_SETUP(lapic)
{
	struct excl_vm *ev = &self->ev;

	ev->on_sync = on_sync;
	excl_vm_create(ev, 1, guest_code);
	virt_pg_map(ev->vm, APIC_DEFAULT_GPA, APIC_DEFAULT_GPA);
	vm_install_exception_handler(ev->vm, IN_SERVICE, on_in_service);
	vm_install_exception_handler(ev->vm, PENDING, on_count);
	vm_install_exception_handler(ev->vm, INJECTED, on_count);
	vm_install_exception_handler(ev->vm, XAPIC_VECTOR, on_count);
	self->s = excl_shared(ev, g);
	excl_vm_start(ev);
	ASSERT_TRUE(excl_wait(ev, self->s->count[XAPIC_VECTOR] >= 100, 40));
}

FIXTURE_TEARDOWN(lapic)
{
	self->s->go = IN_X2APIC;
	EXPECT_TRUE(excl_vm_join(&self->ev, 30));
	excl_vm_destroy(&self->ev);
}

TEST_F_TIMEOUT(lapic, is_true_when_it_is_read_and_written, EXCL_CASE_S)
{
	EXPECT_EQ(RESTORED, stages);
	EXPECT_EQ(0, wrong);
}

TEST_F_TIMEOUT(lapic, in_xapic_mode_has_timer_and_self_ipis, EXCL_CASE_S)
{
	EXPECT_TRUE(excl_wait(&self->ev, self->s->count[PENDING] >= 101, 20));
}

TEST_F_TIMEOUT(lapic, in_xapic_mode_is_the_reason_to_be_detached, EXCL_CASE_S)
{
	struct kvm_excl_get_vcpu_status st;
	struct excl_counters c;

	if (excl_stock())
		SKIP(return, "not exclusive");
	ASSERT_TRUE(excl_wait(&self->ev, self->s->count[PENDING] >= 101, 20));
	excl_counters_read(self->ev.vcpus[0], &c);
	ASSERT_EQ(0, excl_vcpu_status(self->ev.ctx, 0, &st));
	EXPECT_EQ(0, st.attached);
	EXPECT_EQ(0, c.attached);
	EXPECT_EQ(KVM_EXCL_VCPU_XAPIC, st.reason);
	EXPECT_EQ(KVM_EXCL_VCPU_XAPIC, c.reason);
}

TEST_F_TIMEOUT(lapic, in_x2apic_mode_again_has_timer_and_self_ipis, EXCL_CASE_S)
{
	self->s->go = IN_XAPIC;
	EXPECT_TRUE(excl_wait(&self->ev, self->s->count[PENDING] >= 201, 20));
}

TEST_F_TIMEOUT(lapic, in_x2apic_mode_again_is_attached, EXCL_CASE_S)
{
	struct kvm_excl_get_vcpu_status st;
	struct excl_counters c0, c1;
	unsigned int i;

	if (excl_stock())
		SKIP(return, "not exclusive");
	ASSERT_TRUE(excl_wait(&self->ev, self->s->count[PENDING] >= 101, 20));
	excl_counters_read(self->ev.vcpus[0], &c0);
	self->s->go = IN_XAPIC;
	ASSERT_TRUE(excl_wait(&self->ev, self->s->count[PENDING] >= 201, 20));
	/* Both say so, though not in the same moment. */
	for (i = 0; i < 10; i++) {
		excl_wait_attached(self->ev.ctx, 0, &st);
		excl_counters_read(self->ev.vcpus[0], &c1);
		if (c1.attached)
			break;
	}
	excl_counters_delta("to x2APIC", &c0, &c1);
	EXPECT_TRUE(st.attached);
	EXPECT_TRUE(c1.attached);
	EXPECT_EQ(0, st.reason);
	EXPECT_GT(c1.attaches, c0.attaches);
}

int main(int argc, char **argv)
{
	excl_require(1);
	return excl_harness_run(argc, argv);
}
