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
#include "excl.h"
#include "guest.h"

#define TIMER_VECTOR	0x52
#define SELF_VECTOR	0x61
#define MAGIC		0x123456789abcULL

#ifndef MSR_IA32_TSC_DEADLINE
#define MSR_IA32_TSC_DEADLINE	0x6e0
#endif

static const struct step {
	const char *name;
	uint32_t denied;		/* of the TSC deadline */
	bool x2apic;			/* deny those as well */
} steps[] = {
	{ "denied before the vCPU runs", KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE },
	{ "all allowed" },
	{ "reads and writes denied", KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE },
	{ "writes denied", KVM_MSR_FILTER_WRITE },
	{ "reads denied", KVM_MSR_FILTER_READ },
	{ "x2APIC registers denied", 0, true },
	{ "all allowed again" },
};

static struct {
	uint64_t go, done, fires;
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
	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		while (v->go < i + 1)
			cpu_relax();
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

static bool check(const char *name, const char *what, uint64_t is, uint64_t want)
{
	if (is != want)
		ksft_print_msg("%s: %s %#lx instead of %#lx\n", name, what, is, want);
	return is == want;
}

int main(int argc, char **argv)
{
	struct excl_vm ev = { .on_exit = on_msr, .new_vm = true };
	struct kvm_excl_get_vcpu_status st;
	const struct step *step;
	volatile typeof(g) *h;
	bool ok = true, good, reads, writes;
	unsigned int i;

	ksft_print_header();
	excl_require(1);
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_TSC_DEADLINE_TIMER));
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_X86_MSR_FILTER));
	ksft_set_plan(ARRAY_SIZE(steps));

	excl_vm_create(&ev, 1, guest_code);
	vm_install_exception_handler(ev.vm, TIMER_VECTOR, on_timer);
	vm_install_exception_handler(ev.vm, SELF_VECTOR, on_self);
	vcpu_set_cpuid_feature(ev.vcpus[0], X86_FEATURE_TSC_DEADLINE_TIMER);
	vm_enable_cap(ev.vm, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_FILTER);
	h = excl_shared(&ev, g);
	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		step = &steps[i];
		reads = step->denied & KVM_MSR_FILTER_READ;
		writes = step->denied & KVM_MSR_FILTER_WRITE;
		seen.reads = 0;
		seen.writes = 0;
		seen.other = 0;
		good = true;
		set_filter(&ev, step);
		if (!i) {
			excl_vm_start(&ev);
		} else if (ok && ev.ctx >= 0) {
			/* The vCPU heeds it at its next entry, to which it is kicked. */
			good = check(step->name, "attached",
				     excl_wait_attached(ev.ctx, 0, &st), 1);
		}
		h->fires = !writes;
		h->go = i + 1;
		ok = ok && excl_wait(&ev, h->done == i + 1, 40);
		good = check(step->name, "writes in user space", seen.writes, writes) && good;
		good = check(step->name, "reads in user space", seen.reads, reads) && good;
		good = check(step->name, "others in user space", seen.other, 0) && good;
		good = check(step->name, "expiries", h->fired, !writes) && good;
		good = check(step->name, "deadline read", h->read, reads ? MAGIC : 0) && good;
		good = check(step->name, "TPR", h->tpr, 0x30) && good;
		/* Stock KVM itself sets the preemption timer without a look at the filter. */
		if (excl_stock() && host_cpu_is_intel && writes)
			ksft_test_result_skip("%s - not exclusive\n", step->name);
		else
			ksft_test_result(ok && good, "%s\n", step->name);
	}
	if (!excl_vm_join(&ev, 10))
		ksft_print_msg("the guest did not end\n");
	excl_vm_destroy(&ev);
	ksft_finished();
}
