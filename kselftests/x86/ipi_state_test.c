// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that a guest's IPI leaves everything but the IPI as the instruction leaves it, sent
 * in assembly or in C: the general registers with the halves that WRMSR does not look at,
 * the flags, the trap after a single-stepped instruction, and the end of the interrupt
 * shadow of the instruction before it.
 *
 * The guest sends with interrupts off, by ICR, by SELF IPI and by hypercall, to itself and
 * to two others, and takes afterwards what it sent to itself: each exactly once.
 * Single-stepped, or in an interrupt shadow, the IPI is C's to send: it knows how to end
 * an instruction, and the counter of the assembly path stays.
 *
 *   ipi_state_test [ROUNDS]
 */
#include <stddef.h>

#include "guest.h"
#include "harness.h"

#define NR		3
#define FIRST_VECTOR	0xa1
#define VECTOR		0x61

/* All arithmetic flags, and the bit that is always set. */
#define FLAGS		0x8d7

enum way { PHYSICAL, LOGICAL, CLUSTER, OTHERS, SELF_MSR, HYPERCALL, NR_WAYS };

/* How many get it: this vCPU, and others. */
static const struct {
	unsigned int self, others;
} takers[NR_WAYS] = {
	[PHYSICAL] = { 1, 0 },
	[LOGICAL] = { 1, 0 },
	[CLUSTER] = { 1, NR - 1 },
	[OTHERS] = { 0, NR - 1 },
	[SELF_MSR] = { 1, 0 },
	[HYPERCALL] = { 1, NR - 1 },
};

enum step { PLAIN, WIDE, STEPPED, SHADOW, NR_STEPS };

static const char *const names[NR_STEPS] = {
	[PLAIN] = "registers and flags",
	[WIDE] = "registers and flags, RCX with an upper half",
	[STEPPED] = "single-stepped: a trap behind it, and one behind each that follows",
	[SHADOW] = "after STI: the next interrupt comes right behind it",
};

/* In the order in which the assembly below has them; RSP is not among them. */
enum { RAX, RBX, RCX, RDX, RSI, RDI, RBP, R8, R15 = R8 + 7, NR_REGS };

static struct registers {
	uint64_t in[NR_REGS], out[NR_REGS], flags;
} regs;

_Static_assert(offsetof(struct registers, out) == 120 &&
	       offsetof(struct registers, flags) == 240, "the assembly below");

static struct {
	uint64_t rounds, step_to, done, ready;
	uint64_t sent, sent_others, taken, taken_others, wrong;
	uint64_t traps, trap[3];
	uint64_t interrupts, interrupted_at;
} g;

static struct guest_cpu cpus[NR];

/* INSN with all registers and flags from regs->in, IF clear; what it left in regs. */
#define DEFINE_SEND(name, insn)									\
void name(struct registers *regs);								\
asm(#name ":\n"											\
	"push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"			\
	"push %rdi\n"										\
	"pushq 240(%rdi); popfq\n"								\
	"mov 0(%rdi), %rax; mov 8(%rdi), %rbx; mov 16(%rdi), %rcx; mov 24(%rdi), %rdx\n"	\
	"mov 32(%rdi), %rsi; mov 48(%rdi), %rbp; mov 56(%rdi), %r8; mov 64(%rdi), %r9\n"	\
	"mov 72(%rdi), %r10; mov 80(%rdi), %r11; mov 88(%rdi), %r12; mov 96(%rdi), %r13\n"	\
	"mov 104(%rdi), %r14; mov 112(%rdi), %r15; mov 40(%rdi), %rdi\n"			\
	insn "\n"										\
	"push %rdi\n"										\
	"mov 8(%rsp), %rdi\n"									\
	"popq 160(%rdi)\n"									\
	"mov %rax, 120(%rdi); mov %rbx, 128(%rdi); mov %rcx, 136(%rdi); mov %rdx, 144(%rdi)\n"	\
	"mov %rsi, 152(%rdi); mov %rbp, 168(%rdi); mov %r8, 176(%rdi); mov %r9, 184(%rdi)\n"	\
	"mov %r10, 192(%rdi); mov %r11, 200(%rdi); mov %r12, 208(%rdi); mov %r13, 216(%rdi)\n"	\
	"mov %r14, 224(%rdi); mov %r15, 232(%rdi)\n"						\
	"pushfq; popq 240(%rdi)\n"								\
	"cld\n"											\
	"pop %rdi\n"										\
	"pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"				\
	"ret\n")

/* What an instruction takes from regs->in; RBX is the caller's, and on the stack. */
#define LOAD_ARGUMENTS										\
	"push %rbx\n"										\
	"mov 0(%rdi), %rax; mov 8(%rdi), %rbx; mov 16(%rdi), %rcx; mov 24(%rdi), %rdx\n"	\
	"mov 32(%rdi), %rsi\n"

/* INSN with TF set before it and cleared three instructions later: six traps. */
#define DEFINE_SEND_STEPPED(name, insn)								\
void name(struct registers *regs);								\
extern char name##_0[], name##_1[], name##_2[];							\
asm(#name ":\n"											\
	LOAD_ARGUMENTS										\
	"pushfq; orq $0x100, (%rsp); popfq\n"							\
	insn "\n"										\
	#name "_0: nop\n"									\
	#name "_1: nop\n"									\
	#name "_2: pushfq; andq $~0x100, (%rsp); popfq\n"					\
	"pop %rbx\n"										\
	"ret\n")

/* INSN in the shadow of STI, and interrupts off again. */
#define DEFINE_SEND_SHADOW(name, insn)								\
void name(struct registers *regs);								\
extern char name##_ends[];									\
asm(#name ":\n"											\
	LOAD_ARGUMENTS										\
	"sti\n"											\
	insn "\n"										\
	#name "_ends: nop; nop; nop; nop\n"							\
	"cli\n"											\
	"pop %rbx\n"										\
	"ret\n")

DEFINE_SEND(wrmsr_insn, "wrmsr");
DEFINE_SEND_STEPPED(wrmsr_insn_stepped, "wrmsr");
DEFINE_SEND_SHADOW(wrmsr_insn_shadow, "wrmsr");

DEFINE_SEND(vmcall_insn, "vmcall");
DEFINE_SEND_STEPPED(vmcall_insn_stepped, "vmcall");
DEFINE_SEND_SHADOW(vmcall_insn_shadow, "vmcall");

DEFINE_SEND(vmmcall_insn, "vmmcall");
DEFINE_SEND_STEPPED(vmmcall_insn_stepped, "vmmcall");
DEFINE_SEND_SHADOW(vmmcall_insn_shadow, "vmmcall");

struct sender {
	void (*plain)(struct registers *regs);
	void (*stepped)(struct registers *regs);
	char *trap[3];
	void (*shadow)(struct registers *regs);
	char *shadow_ends;
};

#define SENDER(name) {										\
	.plain = name, .stepped = name##_stepped, .shadow = name##_shadow,			\
	.trap = { name##_stepped_0, name##_stepped_1, name##_stepped_2 },			\
	.shadow_ends = name##_shadow_ends,							\
}

static const struct sender wrmsr_sender = SENDER(wrmsr_insn);
static const struct sender vmcall_sender = SENDER(vmcall_insn);
static const struct sender vmmcall_sender = SENDER(vmmcall_insn);

static void on_trap(struct ex_regs *regs)
{
	if (g.traps < ARRAY_SIZE(g.trap))
		g.trap[g.traps] = regs->rip;
	g.traps++;
}

static void on_vector(struct ex_regs *regs)
{
	if (guest_index())
		__atomic_add_fetch(&g.taken_others, 1, __ATOMIC_SEQ_CST);
	else
		g.taken++;
	guest_eoi();
}

static void on_first_vector(struct ex_regs *regs)
{
	g.interrupts++;
	g.interrupted_at = regs->rip;
	guest_eoi();
}

/* What is in the registers to send in this way; bits that do not matter are all set. */
static const struct sender *prepare(enum way way)
{
	static const uint32_t icr[NR_WAYS] = {
		[LOGICAL] = APIC_DEST_LOGICAL,
		[CLUSTER] = APIC_DEST_LOGICAL,
		[OTHERS] = APIC_DEST_ALLBUT,
	};
	static const uint32_t dest[NR_WAYS] = {
		[LOGICAL] = 1, [CLUSTER] = (1 << NR) - 1, [OTHERS] = 0x12345,
	};
	volatile struct registers *r = &regs;
	int i;

	for (i = 0; i < NR_REGS; i++)
		r->in[i] = 0x0123456789abcdefULL * (i + 3);
	r->flags = FLAGS;
	if (way == HYPERCALL) {
		r->in[RAX] = KVM_HC_SEND_IPI;
		r->in[RBX] = (1 << NR) - 1;
		r->in[RCX] = 0;
		r->in[RDX] = ~0ULL << 32;
		r->in[RSI] = VECTOR;
		return host_cpu_is_intel ? &vmcall_sender : &vmmcall_sender;
	}
	r->in[RAX] = 0xa5a5a5a500000000ULL | icr[way] | VECTOR;
	r->in[RDX] = 0x5a5a5a5a00000000ULL | dest[way];
	r->in[RCX] = APIC_BASE_MSR + ((way == SELF_MSR ? APIC_SELF_IPI : APIC_ICR) >> 4);
	return &wrmsr_sender;
}

static void check_registers(const struct sender *sender, enum way way)
{
	volatile struct registers *r = &regs;
	int i;

	sender->plain(&regs);
	/* To how many. */
	if (way == HYPERCALL)
		r->in[RAX] = NR;
	for (i = 0; i < NR_REGS; i++)
		g.wrong += r->out[i] != r->in[i];
	g.wrong += r->flags != FLAGS;
}

static void do_step(enum step step, enum way way)
{
	const struct sender *sender = prepare(way);
	int i;

	switch (step) {
	case WIDE:
		/* Of a hypercall it is an argument. */
		if (way != HYPERCALL)
			regs.in[RCX] |= 0xfedcba9800000000ULL;
		fallthrough;
	case PLAIN:
		check_registers(sender, way);
		break;
	case STEPPED:
		g.traps = 0;
		sender->stepped(&regs);
		g.wrong += g.traps != 6;
		for (i = 0; i < 3; i++)
			g.wrong += g.trap[i] != (uint64_t)sender->trap[i];
		break;
	case SHADOW:
		/* This one is there before STI. */
		g.interrupts = 0;
		guest_send_icr(0, FIRST_VECTOR);
		g.wrong += !guest_wait(guest_apic_bit(APIC_IRR, FIRST_VECTOR));
		sender->shadow(&regs);
		g.wrong += g.interrupts != 1;
		g.wrong += g.interrupted_at != (uint64_t)sender->shadow_ends;
		break;
	default:
		break;
	}
	g.sent += takers[way].self;
	g.sent_others += takers[way].others;
	guest_sti();
	g.wrong += !guest_wait(*(volatile uint64_t *)&g.taken == g.sent);
	guest_cli();
	g.wrong += !guest_wait(*(volatile uint64_t *)&g.taken_others == g.sent_others);
}

static void guest_code(uint64_t index)
{
	volatile typeof(g) *v = &g;
	uint64_t i;
	int way;

	guest_set_index(cpus, index);
	guest_apic_init();
	__atomic_add_fetch(&g.ready, 1, __ATOMIC_SEQ_CST);
	if (index) {
		guest_sti();
		while (v->step_to <= NR_STEPS)
			cpu_relax();
		GUEST_DONE();
	}
	while (v->ready < NR)
		cpu_relax();
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

static uint64_t nr_rounds;

FIXTURE(ipi) {
	struct excl_vm ev;
	volatile typeof(g) *v;
};

FIXTURE_VARIANT(ipi) {
	enum step step;
};

FIXTURE_VARIANT_ADD(ipi, plain) {
	.step = PLAIN,
};

FIXTURE_VARIANT_ADD(ipi, wide_rcx) {
	.step = WIDE,
};

FIXTURE_VARIANT_ADD(ipi, single_stepped) {
	.step = STEPPED,
};

FIXTURE_VARIANT_ADD(ipi, behind_sti) {
	.step = SHADOW,
};

FIXTURE_SETUP(ipi)
{
	excl_vm_create(&self->ev, NR, guest_code);
	vm_install_exception_handler(self->ev.vm, VECTOR, on_vector);
	vm_install_exception_handler(self->ev.vm, FIRST_VECTOR, on_first_vector);
	vm_install_exception_handler(self->ev.vm, DB_VECTOR, on_trap);
	self->v = excl_shared(&self->ev, g);
	self->v->rounds = nr_rounds;
	self->v->done = variant->step;
	self->v->step_to = variant->step;
	excl_vm_start(&self->ev);
}

FIXTURE_TEARDOWN(ipi)
{
	self->v->step_to = NR_STEPS + 1;
	EXPECT_TRUE(excl_vm_join(&self->ev, 20));
	excl_vm_destroy(&self->ev);
}

TEST_F_TIMEOUT(ipi, leaves_what_the_instruction_leaves, EXCL_CASE_S)
{
	uint64_t fast, most = variant->step == STEPPED ? 0 : NR_WAYS * nr_rounds;
	struct excl_vm *ev = &self->ev;
	volatile typeof(g) *v = self->v;
	struct excl_counters c0, c1;

	excl_counters_read(ev->vcpus[0], &c0);
	v->step_to = variant->step + 1;
	ASSERT_TRUE(excl_wait(ev, v->done == v->step_to, 60));
	excl_counters_read(ev->vcpus[0], &c1);
	fast = c1.ipi_fast - c0.ipi_fast;
	ksft_print_msg("%s: %lu IPIs, %lu exits in C, %lu in assembly, %lu wrong\n",
		       names[variant->step], NR_WAYS * nr_rounds, c1.exits - c0.exits, fast,
		       v->wrong);
	EXPECT_EQ(0, v->wrong);
	/* In the shadow all but those in it may go in assembly. */
	EXPECT_LE(fast, most);
}

int main(int argc, char **argv)
{
	excl_require(NR);
	nr_rounds = excl_arg(argc, argv, 1, 200);
	return excl_harness_run(argc, argv);
}
