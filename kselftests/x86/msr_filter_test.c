// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that KVM_X86_SET_MSR_FILTER is heeded for what an exclusive guest may access by
 * itself: with the TSC deadline denied its reads and writes go to user space, be the
 * filter set before the vCPU runs or while it is attached, and it has its timer back when
 * the filter is gone.  x2APIC registers cannot be filtered, as KVM's API has it, and stay
 * the guest's.
 *
 *   msr_filter_test
 */
#include "guest.h"
#include "harness.h"

#define TIMER_VECTOR	0x52
#define SELF_VECTOR	0x61
#define MAGIC		0x123456789abcULL

#ifndef MSR_IA32_TSC_DEADLINE
#define MSR_IA32_TSC_DEADLINE	0x6e0
#endif

/**
 * struct step - a filter that is set, and the guest tries
 * @denied: KVM_MSR_FILTER_* of the TSC deadline
 * @x2apic: deny the x2APIC registers as well
 */
struct step {
	const char *name;
	uint32_t denied;
	bool x2apic;
};

static const struct step allowed = { "all allowed" };

static const struct step denied = {
	"reads and writes denied", KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE
};

static const struct step no_writes = { "writes denied", KVM_MSR_FILTER_WRITE };
static const struct step no_reads = { "reads denied", KVM_MSR_FILTER_READ };
static const struct step no_x2apic = { "x2APIC registers denied", 0, true };

static struct {
	uint64_t go, done, fires, stop;
	uint64_t expired, self_taken;
	/* Of the last step. */
	uint64_t fired, read, tpr;
} g;

static volatile typeof(g) *const v = &g;

static void on_timer(struct ex_regs *regs)
{
	v->expired++;
	guest_eoi();
}

static void on_self(struct ex_regs *regs)
{
	v->self_taken++;
	guest_eoi();
}

static void guest_code(uint64_t index)
{
	uint64_t i, was;

	guest_apic_init();
	x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_TSCDEADLINE | TIMER_VECTOR);
	guest_sti();
	for (i = 0; ; i++) {
		while (v->go < i + 1 && !v->stop)
			cpu_relax();
		if (v->stop)
			break;
		was = v->expired;
		wrmsr(MSR_IA32_TSC_DEADLINE, rdtsc() + guest_ms(2));
		if (v->fires)
			guest_wait(v->expired != was);
		else
			guest_spin_us(30000);
		v->fired = v->expired - was;
		v->read = rdmsr(MSR_IA32_TSC_DEADLINE);
		x2apic_write_reg(APIC_TASKPRI, 0x30);
		v->tpr = x2apic_read_reg(APIC_TASKPRI);
		x2apic_write_reg(APIC_TASKPRI, 0);
		guest_self_ipi(SELF_VECTOR);
		GUEST_ASSERT(guest_wait(v->self_taken == i + 1));
		v->done = i + 1;
	}
	GUEST_DONE();
}

static volatile struct {
	uint64_t reads, writes, other;
} seen;

static bool on_msr(struct excl_vm *ev, struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	if (run->exit_reason != KVM_EXIT_X86_RDMSR && run->exit_reason != KVM_EXIT_X86_WRMSR)
		return false;
	if (run->msr.index != MSR_IA32_TSC_DEADLINE ||
	    run->msr.reason != KVM_MSR_EXIT_REASON_FILTER) {
		ksft_print_msg("exit for MSR %#x, reason %u\n", run->msr.index,
			       run->msr.reason);
		seen.other++;
	} else if (run->exit_reason == KVM_EXIT_X86_RDMSR) {
		run->msr.data = MAGIC;
		seen.reads++;
	} else {
		seen.writes++;
	}
	run->msr.error = 0;
	return true;
}

static void set_filter(struct excl_vm *ev, const struct step *step)
{
	static uint64_t none[256 / 64];
	struct kvm_msr_filter filter = { .flags = KVM_MSR_FILTER_DEFAULT_ALLOW };
	struct kvm_msr_filter_range *range = filter.ranges;

	if (step->denied) {
		range->flags = step->denied;
		range->base = MSR_IA32_TSC_DEADLINE;
		range->nmsrs = 1;
		range->bitmap = (void *)none;
		range++;
	}
	if (step->x2apic) {
		range->flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE;
		range->base = APIC_BASE_MSR;
		range->nmsrs = 256;
		range->bitmap = (void *)none;
	}
	vm_ioctl(ev->vm, KVM_X86_SET_MSR_FILTER, &filter);
}

FIXTURE(filter) {
	struct excl_vm ev;
	volatile typeof(g) *h;
};

FIXTURE_SETUP(filter)
{
	struct excl_vm *ev = &self->ev;

	ev->on_exit = on_msr;
	ev->new_vm = true;
	excl_vm_create(ev, 1, guest_code);
	vm_install_exception_handler(ev->vm, TIMER_VECTOR, on_timer);
	vm_install_exception_handler(ev->vm, SELF_VECTOR, on_self);
	vcpu_set_cpuid_feature(ev->vcpus[0], X86_FEATURE_TSC_DEADLINE_TIMER);
	vm_enable_cap(ev->vm, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_FILTER);
	self->h = excl_shared(ev, g);
}

FIXTURE_TEARDOWN(filter)
{
	self->h->stop = 1;
	EXPECT_TRUE(excl_vm_join(&self->ev, 10));
	excl_vm_destroy(&self->ev);
}

/* Set the filter, start the guest if it does not run yet, and see what its accesses do. */
static void take(struct __test_metadata *_metadata, struct excl_vm *ev, const struct step *step)
{
	bool reads = step->denied & KVM_MSR_FILTER_READ;
	bool writes = step->denied & KVM_MSR_FILTER_WRITE;
	volatile typeof(g) *h = excl_shared(ev, g);
	struct kvm_excl_get_vcpu_status st;

	ksft_print_msg("%s\n", step->name);
	memset((void *)&seen, 0, sizeof(seen));
	set_filter(ev, step);
	if (!ev->threads[0].started) {
		excl_vm_start(ev);
	} else if (ev->ctx >= 0) {
		/* The vCPU heeds it at its next entry, to which it is kicked. */
		EXPECT_TRUE(excl_wait_attached(ev->ctx, 0, &st));
	}
	h->fires = !writes;
	h->go++;
	ASSERT_TRUE(excl_wait(ev, h->done == h->go, 40));
	EXPECT_EQ(writes, seen.writes);
	EXPECT_EQ(reads, seen.reads);
	EXPECT_EQ(0, seen.other);
	EXPECT_EQ(!writes, h->fired);
	EXPECT_EQ(reads ? MAGIC : 0, h->read);
	EXPECT_EQ(0x30, h->tpr);
}

/* Stock KVM itself sets the preemption timer without a look at the filter. */
static bool writes_cannot_be_denied(void)
{
	return excl_stock() && host_cpu_is_intel;
}

TEST_F_TIMEOUT(filter, from_before_the_vcpu_runs_denies, EXCL_CASE_S)
{
	if (writes_cannot_be_denied())
		SKIP(return, "not exclusive");
	take(_metadata, &self->ev, &denied);
}

TEST_F_TIMEOUT(filter, that_is_gone_lets_all_through, EXCL_CASE_S)
{
	if (writes_cannot_be_denied())
		SKIP(return, "not exclusive");
	take(_metadata, &self->ev, &denied);
	take(_metadata, &self->ev, &allowed);
}

TEST_F_TIMEOUT(filter, denies_reads_and_writes_while_attached, EXCL_CASE_S)
{
	if (writes_cannot_be_denied())
		SKIP(return, "not exclusive");
	take(_metadata, &self->ev, &allowed);
	take(_metadata, &self->ev, &denied);
}

TEST_F_TIMEOUT(filter, denies_writes_alone, EXCL_CASE_S)
{
	if (writes_cannot_be_denied())
		SKIP(return, "not exclusive");
	take(_metadata, &self->ev, &denied);
	take(_metadata, &self->ev, &no_writes);
}

TEST_F_TIMEOUT(filter, denies_reads_alone, EXCL_CASE_S)
{
	take(_metadata, &self->ev, &allowed);
	take(_metadata, &self->ev, &no_reads);
}

TEST_F_TIMEOUT(filter, leaves_the_x2apic_to_the_guest, EXCL_CASE_S)
{
	take(_metadata, &self->ev, &no_reads);
	take(_metadata, &self->ev, &no_x2apic);
	take(_metadata, &self->ev, &allowed);
}

int main(int argc, char **argv)
{
	excl_require(1);
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_TSC_DEADLINE_TIMER));
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_X86_MSR_FILTER));
	return excl_harness_run(argc, argv);
}
