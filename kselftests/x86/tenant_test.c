// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that the next guest on an owned CPU finds nothing of the last one's there.
 *
 * The first guest leaves registers of the physical local APIC with values of its own: a
 * counting timer that has expired, and a spurious-interrupt vector.  The second one, on the
 * same CPU of the same context, has set neither when it looks.
 */
#include "guest.h"
#include "harness.h"

#define TIMER_VECTOR	0x51
#define FIRST_TMICT	123457u
#define FIRST_SPURIOUS	0x4f
#define LOW_SPURIOUS	0x0f

static struct {
	uint64_t expired;
	uint64_t tmict, tmcct;
	uint64_t looked, go;
} g;

static volatile typeof(g) *const v = &g;

static void on_timer(struct ex_regs *regs)
{
	v->expired++;
	guest_eoi();
}

static void timer_init(uint32_t spurious)
{
	guest_apic_init();
	x2apic_write_reg(APIC_SPIV, APIC_SPIV_APIC_ENABLED | spurious);
	x2apic_write_reg(APIC_TDCR, TDCR_DIV1);
	x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_ONESHOT | TIMER_VECTOR);
	guest_sti();
}

static void first_code(uint64_t index)
{
	timer_init(FIRST_SPURIOUS);
	x2apic_write_reg(APIC_TMICT, FIRST_TMICT);
	GUEST_ASSERT(guest_wait(v->expired == 1));
	GUEST_DONE();
}

static void second_code(uint64_t index)
{
	timer_init(LOW_SPURIOUS);
	/* It is entered attached before these exit. */
	guest_spin_us(1000);
	v->tmcct = x2apic_read_reg(APIC_TMCCT);
	v->tmict = x2apic_read_reg(APIC_TMICT);
	v->looked = 1;
	while (!v->go)
		cpu_relax();
	GUEST_DONE();
}

FIXTURE(next_tenant) {
	struct excl_vm first, second;
	volatile typeof(g) *s;
	uint64_t host_svr;
};

FIXTURE_SETUP(next_tenant)
{
	struct excl_vm *first = &self->first, *second = &self->second;

	if (excl_stock())
		SKIP(return, "not exclusive");
	ASSERT_TRUE(excl_host_msr(EXCL_FIRST_CPU, APIC_BASE_MSR + (APIC_SPIV >> 4),
				  &self->host_svr));
	excl_vm_direct_timer(first);
	excl_vm_create(first, 1, first_code);
	vm_install_exception_handler(first->vm, TIMER_VECTOR, on_timer);
	excl_vm_start(first);
	ASSERT_TRUE(excl_vm_join(first, 30));
	/* It gives its CPU to the next VM of its context, which is no one's but this one's. */
	ASSERT_EQ(0, excl_unbind(first->ctx));

	second->ordinary = true;
	ASSERT_EQ(0, excl_arm(first->ctx, first->flags));
	excl_vm_create(second, 1, second_code);
	vm_install_exception_handler(second->vm, TIMER_VECTOR, on_timer);
	self->s = excl_shared(second, g);
	excl_vm_start(second);
	ASSERT_TRUE(excl_wait(second, self->s->looked, 20));
}

FIXTURE_TEARDOWN(next_tenant)
{
	self->s->go = 1;
	EXPECT_TRUE(excl_vm_join(&self->second, 20));
	excl_vm_destroy(&self->second);
	excl_vm_destroy(&self->first);
}

TEST_F_TIMEOUT(next_tenant, is_attached, EXCL_CASE_S)
{
	struct kvm_excl_get_vcpu_status st;

	EXPECT_TRUE(excl_wait_attached(self->first.ctx, 0, &st));
}

TEST_F_TIMEOUT(next_tenant, has_a_timer_that_was_never_set, EXCL_CASE_S)
{
	EXPECT_EQ(0, self->s->tmict);
	EXPECT_EQ(0, self->s->tmcct);
}

TEST_F_TIMEOUT(next_tenant, has_not_the_spurious_vector_of_the_last_one, EXCL_CASE_S)
{
	uint64_t svr;

	ASSERT_TRUE(excl_host_msr(EXCL_FIRST_CPU, APIC_BASE_MSR + (APIC_SPIV >> 4), &svr));
	/* Its own is below 32, which no owned CPU's hardware gets: so the host's. */
	EXPECT_EQ(self->host_svr & 0xff, svr & 0xff);
}

int main(int argc, char **argv)
{
	excl_require(1);
	return excl_harness_run(argc, argv);
}
