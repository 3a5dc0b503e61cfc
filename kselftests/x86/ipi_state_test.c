// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that a guest's IPI leaves everything but the IPI as WRMSR leaves it, sent in
 * assembly or in C: the general registers with the halves that WRMSR does not look at,
 * the flags, the trap after a single-stepped instruction, and the end of the interrupt
 * shadow of the instruction before it.
 *
 * The guest sends to itself with interrupts off, by ICR with a physical and a logical
 * destination and by SELF IPI, and takes what it sent afterwards: each exactly once.
 * Single-stepped, or in an interrupt shadow, the IPI is C's to send: it knows how to end
 * an instruction, and the counter of the assembly path stays.
 *
 *   ipi_state_test [ROUNDS]
 */
#include "excl.h"
#include "guest.h"

#define FIRST_VECTOR	0xa1
#define VECTOR		0x61

/* All arithmetic flags, and the bit that is always set. */
#define FLAGS		0x8d7

enum { PHYSICAL, LOGICAL, SELF_MSR, NR_WAYS };

enum step { PLAIN, WIDE, STEPPED, SHADOW, NR_STEPS };

static const char *const names[NR_STEPS] = {
	[PLAIN] = "registers and flags",
	[WIDE] = "registers and flags, RCX with an upper half",
	[STEPPED] = "single-stepped: a trap behind it, and one behind each that follows",
	[SHADOW] = "after STI: the next interrupt comes right behind it",
};

/* In the order in which write_msr() has them; RSP is not among them. */
enum { RAX, RBX, RCX, RDX, RSI, RDI, RBP, R8, R15 = R8 + 7, NR_REGS };

static struct registers {
	uint64_t in[NR_REGS], out[NR_REGS], flags;
} regs;

static struct {
	uint64_t rounds, step_to, done;
	uint64_t sent, taken, wrong;
	uint64_t traps, trap[3];
	uint64_t interrupts, interrupted_at;
} g;

/* WRMSR with all registers and flags from regs->in, IF clear; what it left in regs. */
void write_msr(struct registers *regs);
asm("write_msr:\n"
	"push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
	"push %rdi\n"
	"pushq 240(%rdi); popfq\n"
	"mov 0(%rdi), %rax; mov 8(%rdi), %rbx; mov 16(%rdi), %rcx; mov 24(%rdi), %rdx\n"
	"mov 32(%rdi), %rsi; mov 48(%rdi), %rbp; mov 56(%rdi), %r8; mov 64(%rdi), %r9\n"
	"mov 72(%rdi), %r10; mov 80(%rdi), %r11; mov 88(%rdi), %r12; mov 96(%rdi), %r13\n"
	"mov 104(%rdi), %r14; mov 112(%rdi), %r15; mov 40(%rdi), %rdi\n"
	"wrmsr\n"
	"push %rdi\n"
	"mov 8(%rsp), %rdi\n"
	"popq 160(%rdi)\n"
	"mov %rax, 120(%rdi); mov %rbx, 128(%rdi); mov %rcx, 136(%rdi); mov %rdx, 144(%rdi)\n"
	"mov %rsi, 152(%rdi); mov %rbp, 168(%rdi); mov %r8, 176(%rdi); mov %r9, 184(%rdi)\n"
	"mov %r10, 192(%rdi); mov %r11, 200(%rdi); mov %r12, 208(%rdi); mov %r13, 216(%rdi)\n"
	"mov %r14, 224(%rdi); mov %r15, 232(%rdi)\n"
	"pushfq; popq 240(%rdi)\n"
	"cld\n"
	"pop %rdi\n"
	"pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"ret\n");

/* WRMSR with TF set before it and cleared three instructions later: six traps. */
void write_msr_stepped(uint64_t msr, uint64_t low, uint64_t high);
extern char stepped[], stepped_1[], stepped_2[];
asm("write_msr_stepped:\n"
	"mov %rdi, %rcx; mov %rsi, %rax\n"
	"pushfq; orq $0x100, (%rsp); popfq\n"
	"wrmsr\n"
	"stepped: nop\n"
	"stepped_1: nop\n"
	"stepped_2: pushfq; andq $~0x100, (%rsp); popfq\n"
	"ret\n");

/* WRMSR in the shadow of STI, and interrupts off again. */
void write_msr_shadow(uint64_t msr, uint64_t low, uint64_t high);
extern char shadow_ends[];
asm("write_msr_shadow:\n"
	"mov %rdi, %rcx; mov %rsi, %rax\n"
	"sti\n"
	"wrmsr\n"
	"shadow_ends: nop; nop; nop; nop\n"
	"cli\n"
	"ret\n");

static void on_trap(struct ex_regs *regs)
{
	if (g.traps < ARRAY_SIZE(g.trap))
		g.trap[g.traps] = regs->rip;
	g.traps++;
}

static void on_vector(struct ex_regs *regs)
{
	g.taken++;
	guest_eoi();
}

static void on_first_vector(struct ex_regs *regs)
{
	g.interrupts++;
	g.interrupted_at = regs->rip;
	guest_eoi();
}

/* Which MSR, and what to write there, for an IPI to this vCPU. */
static void ipi_to_self(int way, uint32_t *msr, uint32_t *low, uint32_t *high)
{
	*msr = APIC_BASE_MSR + ((way == SELF_MSR ? APIC_SELF_IPI : APIC_ICR) >> 4);
	*low = VECTOR | (way == LOGICAL ? APIC_DEST_LOGICAL : 0);
	*high = way == LOGICAL ? x2apic_read_reg(APIC_LDR_REG) : 0;
}

static void check_registers(uint32_t msr, uint32_t low, uint32_t high, uint64_t rcx)
{
	volatile struct registers *r = &regs;
	int i;

	for (i = 0; i < NR_REGS; i++)
		r->in[i] = 0x0123456789abcdefULL * (i + 3);
	r->in[RAX] = 0xa5a5a5a500000000ULL | low;
	r->in[RDX] = 0x5a5a5a5a00000000ULL | high;
	r->in[RCX] = rcx | msr;
	r->flags = FLAGS;
	write_msr(&regs);
	for (i = 0; i < NR_REGS; i++)
		g.wrong += r->out[i] != r->in[i];
	g.wrong += r->flags != FLAGS;
}

static void do_step(enum step step, int way)
{
	uint32_t msr, low, high;

	ipi_to_self(way, &msr, &low, &high);
	switch (step) {
	case PLAIN:
		check_registers(msr, low, high, 0);
		break;
	case WIDE:
		check_registers(msr, low, high, 0xfedcba9800000000ULL);
		break;
	case STEPPED:
		g.traps = 0;
		write_msr_stepped(msr, low, high);
		g.wrong += g.traps != 6;
		g.wrong += g.trap[0] != (uint64_t)stepped;
		g.wrong += g.trap[1] != (uint64_t)stepped_1;
		g.wrong += g.trap[2] != (uint64_t)stepped_2;
		break;
	case SHADOW:
		/* This one is there before STI. */
		g.interrupts = 0;
		guest_send_icr(0, FIRST_VECTOR);
		g.wrong += !guest_wait(guest_apic_bit(APIC_IRR, FIRST_VECTOR));
		write_msr_shadow(msr, low, high);
		g.wrong += g.interrupts != 1;
		g.wrong += g.interrupted_at != (uint64_t)shadow_ends;
		break;
	default:
		break;
	}
	g.sent++;
	guest_sti();
	g.wrong += !guest_wait(*(volatile uint64_t *)&g.taken == g.sent);
	guest_cli();
}

static void guest_code(uint64_t index)
{
	volatile typeof(g) *v = &g;
	uint64_t i;
	int way;

	guest_apic_init();
	for (;;) {
		while (v->step_to == v->done)
			cpu_relax();
		if (v->step_to > NR_STEPS)
			break;
		for (i = 0; i < v->rounds; i++) {
			for (way = 0; way < NR_WAYS; way++)
				do_step(v->done, way);
		}
		v->done++;
	}
	GUEST_DONE();
}

int main(int argc, char **argv)
{
	struct excl_counters c0, c1;
	struct excl_vm ev = {};
	volatile typeof(g) *v;
	uint64_t wrong, fast, most;
	int step;
	bool ok;

	ksft_print_header();
	excl_require(1);
	ksft_set_plan(NR_STEPS);

	excl_vm_create(&ev, 1, guest_code);
	vm_install_exception_handler(ev.vm, VECTOR, on_vector);
	vm_install_exception_handler(ev.vm, FIRST_VECTOR, on_first_vector);
	vm_install_exception_handler(ev.vm, DB_VECTOR, on_trap);
	v = excl_shared(&ev, g);
	v->rounds = excl_arg(argc, argv, 1, 200);
	excl_vm_start(&ev);

	for (step = 0; step < NR_STEPS; step++) {
		wrong = v->wrong;
		excl_counters_read(ev.vcpus[0], &c0);
		v->step_to = step + 1;
		ok = excl_wait(&ev, v->done == step + 1, 60);
		excl_counters_read(ev.vcpus[0], &c1);
		wrong = v->wrong - wrong;
		fast = c1.ipi_fast - c0.ipi_fast;
		ksft_print_msg("%s: %lu IPIs, %lu exits in C, %lu in assembly, %lu wrong\n",
			       names[step], NR_WAYS * v->rounds, c1.exits - c0.exits, fast,
			       wrong);
		/* In the last step all but those in the shadow may go in assembly. */
		most = step == STEPPED ? 0 : NR_WAYS * v->rounds;
		ksft_test_result(ok && !wrong && fast <= most, "%s\n", names[step]);
		if (!ok)
			break;
	}
	v->step_to = NR_STEPS + 1;
	ok = excl_vm_join(&ev, 20) && ok;
	excl_vm_destroy(&ev);
	if (!ok)
		ksft_exit_fail_msg("the guest hangs\n");
	ksft_finished();
}
