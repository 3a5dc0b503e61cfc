// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that IPIs from and to a vCPU that runs a nested guest arrive exactly once, and
 * that no IPI of a nested guest is sent in assembly: whose instruction it was, and who is
 * to see its exit, is for C to say.
 *
 * In each round the guest on vCPU 0 sends an IPI to vCPU 1, then runs a guest of its own
 * that may write the x2APIC's registers.  That one sends by physical and logical
 * destination, by shorthand and to itself, and waits until vCPU 1 has sent to vCPU 0.
 * What came meanwhile is taken when the nested guest has ended.
 *
 * Then the guest enters its own while the host is flooded with expiries of its timer, which
 * must not keep that entry from being made.
 *
 *   ipi_nested_test [ROUNDS]
 */
#include "guest.h"
#include "harness.h"
#include "svm_util.h"
#include "vmx.h"

#define NR		2
#define VECTOR		0x61
#define SELF_VECTOR	0x71
#define REPLY_VECTOR	0x81
#define TIMER_VECTOR	0x51

#define STORM_ROUNDS	20
/* In QEMU a shorter period takes all of the machine. */
#define QEMU_PERIOD	50000

/* Of the nested guest to vCPU 1: physical, logical, by shorthand. */
#define NESTED_IPIS	3

static struct {
	uint64_t rounds, ready, done, stop;
	uint64_t taken, self_taken, reply_taken;
	uint64_t ask, in_nested, wrong;
	uint64_t period, storm_rounds, in_storm;
	uint32_t ldr;
} g;

static struct guest_cpu cpus[NR];
static uint64_t nested_stack[512];
static volatile typeof(g) *const v = &g;

static void on_vector(struct ex_regs *regs)
{
	v->taken++;
	guest_eoi();
}

static void on_self(struct ex_regs *regs)
{
	v->self_taken++;
	guest_eoi();
}

static void on_reply(struct ex_regs *regs)
{
	v->reply_taken++;
	guest_eoi();
}

static void on_timer(struct ex_regs *regs)
{
	guest_eoi();
}

static void send_to_other(uint32_t dest, uint32_t low)
{
	uint64_t was = v->taken;

	guest_send_icr(dest, low | VECTOR);
	v->wrong += !guest_wait(v->taken != was);
	v->wrong += v->taken != was + 1;
}

/* Its interrupts are off, and the hypervisor above it wants to know of none. */
static void nested_code(void)
{
	v->in_nested++;
	send_to_other(1, 0);
	send_to_other(v->ldr, APIC_DEST_LOGICAL);
	send_to_other(0, APIC_DEST_ALLBUT);
	guest_self_ipi(SELF_VECTOR);
	v->wrong += !guest_wait(guest_apic_bit(APIC_IRR, SELF_VECTOR));
	v->ask++;
	v->wrong += !guest_wait(guest_apic_bit(APIC_IRR, REPLY_VECTOR));
	vmcall();
}

static void short_code(void)
{
	v->in_storm++;
	vmcall();
}

static void run_nested_svm(struct svm_test_data *svm, void (*code)(void))
{
	svm->vmcb->save.rip = (uint64_t)code;
	svm->vmcb->save.rsp = (uint64_t)&nested_stack[ARRAY_SIZE(nested_stack) - 1];
	run_guest(svm->vmcb, svm->vmcb_gpa);
	asm volatile("stgi");
	GUEST_ASSERT_EQ(svm->vmcb->control.exit_code, SVM_EXIT_VMMCALL);
}

static void run_nested_vmx(bool first, void (*code)(void))
{
	vmwrite(GUEST_RIP, (uint64_t)code);
	vmwrite(GUEST_RSP, (uint64_t)&nested_stack[ARRAY_SIZE(nested_stack) - 1]);
	if (first)
		GUEST_ASSERT(!vmlaunch());
	else
		GUEST_ASSERT(!vmresume());
	GUEST_ASSERT_EQ(vmreadz(VM_EXIT_REASON), EXIT_REASON_VMCALL);
}

static void hypervisor_code(void *nested)
{
	struct svm_test_data *svm = nested;
	uint64_t i;

	if (this_cpu_has(X86_FEATURE_SVM)) {
		generic_svm_setup(svm, nested_code, nested_stack);
	} else {
		GUEST_ASSERT(prepare_for_vmx_operation(nested));
		GUEST_ASSERT(load_vmcs(nested));
		prepare_vmcs(nested, nested_code, nested_stack);
		/* All clear: no MSR is this hypervisor's.  SVM's default is that. */
		vmwrite(CPU_BASED_VM_EXEC_CONTROL,
			vmreadz(CPU_BASED_VM_EXEC_CONTROL) | CPU_BASED_USE_MSR_BITMAPS);
	}
	for (i = 0; i < v->rounds; i++) {
		send_to_other(1, 0);
		if (this_cpu_has(X86_FEATURE_SVM))
			run_nested_svm(svm, nested_code);
		else
			run_nested_vmx(!i, nested_code);
		guest_sti();
		v->wrong += !guest_wait(v->self_taken == i + 1 && v->reply_taken == i + 1);
		guest_cli();
		v->wrong += v->in_nested != i + 1;
		v->done++;
	}
	v->stop = 1;

	x2apic_write_reg(APIC_TDCR, TDCR_DIV1);
	x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_PERIODIC | TIMER_VECTOR);
	for (i = 0; i < STORM_ROUNDS; i++) {
		/* The host takes what the guest, with its interrupts off, does not. */
		x2apic_write_reg(APIC_TMICT, v->period);
		if (this_cpu_has(X86_FEATURE_SVM))
			run_nested_svm(svm, short_code);
		else
			run_nested_vmx(false, short_code);
		x2apic_write_reg(APIC_TMICT, 0);
		guest_sti();
		cpu_relax();
		guest_cli();
		v->storm_rounds++;
	}
}

static void guest_code(uint64_t index, void *nested)
{
	uint64_t answered = 0;

	guest_set_index(cpus, index);
	guest_apic_init();
	if (index) {
		v->ldr = x2apic_read_reg(APIC_LDR_REG);
		guest_sti();
		v->ready = 1;
		while (!v->stop) {
			cpu_relax();
			if (v->ask == answered)
				continue;
			answered++;
			guest_send_icr(0, REPLY_VECTOR);
		}
	} else {
		while (!v->ready)
			cpu_relax();
		hypervisor_code(nested);
	}
	GUEST_DONE();
}

static uint64_t nr_rounds;
static bool floods;

/* All rounds. */
FIXTURE(nested) {
	struct excl_vm ev;
	volatile typeof(g) *s;
	struct excl_counters before, after;
	uint64_t fast;
};

FIXTURE_SETUP(nested)
{
	struct excl_vm *ev = &self->ev;
	vm_vaddr_t nested;

	excl_vm_direct_timer(ev);
	excl_vm_create(ev, NR, guest_code);
	vm_install_exception_handler(ev->vm, TIMER_VECTOR, on_timer);
	vm_install_exception_handler(ev->vm, VECTOR, on_vector);
	vm_install_exception_handler(ev->vm, SELF_VECTOR, on_self);
	vm_install_exception_handler(ev->vm, REPLY_VECTOR, on_reply);
	if (kvm_cpu_has(X86_FEATURE_SVM))
		vcpu_alloc_svm(ev->vm, &nested);
	else
		vcpu_alloc_vmx(ev->vm, &nested);
	vcpu_args_set(ev->vcpus[0], 2, (uint64_t)0, nested);
	self->s = excl_shared(ev, g);
	self->s->rounds = nr_rounds;
	self->s->period = excl_in_qemu() ? QEMU_PERIOD : 1;
	excl_counters_read(ev->vcpus[0], &self->before);
	excl_vm_start(ev);
	EXPECT_TRUE(excl_wait(ev, self->s->stop, 60));
	excl_counters_read(ev->vcpus[0], &self->after);
	excl_counters_delta("vCPU 0", &self->before, &self->after);
	self->fast = self->after.ipi_fast - self->before.ipi_fast;
	ksft_print_msg("%lu rounds, %lu taken by the other, %lu of the nested guest's own, %lu by it, %lu wrong, %lu in assembly\n",
		       self->s->done, self->s->taken, self->s->self_taken,
		       self->s->reply_taken, self->s->wrong, self->fast);
}

FIXTURE_TEARDOWN(nested)
{
	EXPECT_TRUE(excl_vm_join(&self->ev, 20));
	excl_vm_destroy(&self->ev);
}

TEST_F_TIMEOUT(nested, guest_has_each_ipi_come_once, EXCL_CASE_S)
{
	EXPECT_EQ(0, self->s->wrong);
	EXPECT_EQ(nr_rounds, self->s->done);
	EXPECT_EQ(nr_rounds * (NESTED_IPIS + 1), self->s->taken);
}

TEST_F_TIMEOUT(nested, guest_runs_on_a_detached_vcpu, EXCL_CASE_S)
{
	EXPECT_GE(self->after.detaches - self->before.detaches, nr_rounds);
}

/* Those of its hypervisor do. */
TEST_F_TIMEOUT(nested, guest_sends_none_in_assembly, EXCL_CASE_S)
{
	if (excl_have_fast_ipis()) {
		EXPECT_GE(self->fast, nr_rounds - nr_rounds / 10);
		EXPECT_LE(self->fast, nr_rounds);
	} else {
		EXPECT_EQ(0, self->fast);
	}
}

TEST_F_TIMEOUT(nested, guest_is_entered_under_a_storm, EXCL_CASE_S)
{
	struct excl_counters storm;

	ASSERT_TRUE(excl_vm_join(&self->ev, 20));
	excl_counters_read(self->ev.vcpus[0], &storm);
	ksft_print_msg("under a storm: %lu rounds, %lu in the nested guest, %lu storms\n",
		       self->s->storm_rounds, self->s->in_storm,
		       storm.storms - self->after.storms);
	EXPECT_EQ(STORM_ROUNDS, self->s->storm_rounds);
	EXPECT_EQ(STORM_ROUNDS, self->s->in_storm);
	EXPECT_TRUE(!floods || storm.storms != self->after.storms);
}

int main(int argc, char **argv)
{
	excl_require(NR);
	/* There is no storm to be had from QEMU's timer. */
	floods = !excl_in_qemu() && !excl_stock();
	if (!kvm_cpu_has(X86_FEATURE_SVM) && !kvm_cpu_has(X86_FEATURE_VMX))
		ksft_exit_skip("KVM here runs no nested guests: load its module with nested=1\n");
	nr_rounds = excl_arg(argc, argv, 1, 300);
	/* Behind the last case, of which some may have ended without their teardown. */
	excl_shortest_timer_raise();
	atexit(excl_shortest_timer_put_back);
	return excl_harness_run(argc, argv);
}
