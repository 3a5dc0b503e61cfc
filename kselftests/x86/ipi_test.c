// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that IPIs between exclusive vCPUs arrive exactly once, and that what a
 * guest asks of the ICR does what the manual says (Intel SDM volume 3, "Issuing
 * Interprocessor Interrupts"; AMD64 APM volume 2, "Interprocessor Interrupts").
 *
 * Every ordered pair of three vCPUs, physical and logical destination: the
 * sender waits for each IPI to be counted, so sent and received are equal at
 * every step; and two destinations at once, by a cluster, by shorthand and by
 * hypercall.  Each of them is one exit, counted by KVM, or in assembly where that
 * path may be used, and ICR can be read back after each write.  Then other shorthands,
 * SELF IPI, NMI, hypercalls with what assembly leaves to KVM, lowest priority, vectors
 * 16 to 31 (delivered to the guest), 0 to 15 (delivered to nobody), and INIT.  The local
 * APICs of the host hold no vector below 32 afterwards.
 *
 *   ipi_test [IPIS]
 */
#include "guest.h"
#include "harness.h"

#define NR		3
#define IPI_VECTOR	0x61
#define LOWEST_VECTOR	0x63

enum step {
	PAIRS, CLUSTER, READ_BACK, SELF, ALL, ALL_BUT_SELF, SELF_MSR, HYPERCALL,
	ODD_HYPERCALL, NMI, LOWEST, LOW_VECTORS, LOW_AMONG, AFTER, ILLEGAL, NR_STEPS,
	SEND_INIT
};

static const char * const names[NR_STEPS] = {
	[PAIRS] = "all pairs, physical and logical",
	[CLUSTER] = "two of a cluster at once",
	[READ_BACK] = "ICR reads as written last",
	[SELF] = "shorthand self",
	[ALL] = "shorthand all including self",
	[ALL_BUT_SELF] = "shorthand all but self",
	[SELF_MSR] = "SELF IPI register",
	[HYPERCALL] = "two at once by hypercall",
	[ODD_HYPERCALL] = "hypercalls to nobody, to many, with errors",
	[NMI] = "NMI",
	[LOWEST] = "lowest priority goes to exactly one",
	[LOW_VECTORS] = "vectors 16 to 31 reach the guest",
	[LOW_AMONG] = "vectors 16 to 31 among others",
	[AFTER] = "all pairs, once more",
	[ILLEGAL] = "vectors 0 to 15 reach nobody",
};

static struct {
	uint64_t count;				/* by the host */
	uint64_t ready[NR];
	uint64_t step, done, go;
	uint64_t received[NR][256];
	uint32_t ldr[NR];
	uint64_t sent, bad;
	uint64_t stop;
} g;

static struct guest_cpu cpus[NR];
static volatile typeof(g) *const v = &g;

static void on_vector(struct ex_regs *regs)
{
	v->received[guest_index()][regs->vector]++;
	if (regs->vector >= 16)
		guest_eoi();
}

static void on_nmi(struct ex_regs *regs)
{
	v->received[guest_index()][NMI_VECTOR]++;
}

struct counts {
	uint64_t of[NR];
};

static struct counts count(uint8_t vector)
{
	struct counts c;
	uint64_t i;

	for (i = 0; i < NR; i++)
		c.of[i] = v->received[i][vector];
	return c;
}

/* One IPI was sent that all of @mask must get once. */
static void expect(struct counts was, uint8_t vector, unsigned int mask)
{
	uint64_t i;

	v->sent++;
	for (i = 0; i < NR; i++) {
		if (mask & 1u << i)
			GUEST_ASSERT(guest_wait(v->received[i][vector] != was.of[i]));
	}
	for (i = 0; i < NR; i++) {
		if (v->received[i][vector] != was.of[i] + !!(mask & 1u << i))
			v->bad++;
	}
}

/* Send by ICR, and see that exactly one comes to each of @mask. */
static void many(uint32_t dest, uint32_t low, uint8_t vector, unsigned int mask)
{
	struct counts was = count(vector);

	guest_send_icr(dest, low | vector);
	expect(was, vector, mask);
}

static void one(uint64_t to, uint32_t dest, uint32_t low, uint8_t vector)
{
	many(dest, low, vector, 1u << to);
}

/* ICR has what was written last, whoever sent it. */
static void read_back(uint32_t dest, uint32_t low)
{
	guest_send_icr(dest, low | IPI_VECTOR);
	if (x2apic_read_reg(APIC_ICR) != ((uint64_t)dest << 32 | low | IPI_VECTOR))
		v->bad++;
}

/* By KVM_HC_SEND_IPI: all of @mask, and KVM says to how many, or why not. */
static void hypercall(uint64_t low, uint64_t high, uint64_t min, uint64_t icr,
		      unsigned int mask, int64_t ret)
{
	struct counts was = count(IPI_VECTOR);

	if ((int64_t)kvm_hypercall(KVM_HC_SEND_IPI, low, high, min, icr) != ret)
		v->bad++;
	expect(was, IPI_VECTOR, mask);
}

static bool has_error_code(int vector)
{
	return vector == 17;
}

static void do_step(uint64_t index, uint64_t step)
{
	uint64_t n = v->count, i, to, before, all = (1u << NR) - 1;
	uint32_t mask;
	int vector;

	switch (step) {
	case AFTER:
		n = n / 10 + 1;
		fallthrough;
	case PAIRS:
		for (to = 0; to < NR; to++) {
			if (to == index)
				continue;
			for (i = 0; i < n; i++)
				one(to, to, 0, IPI_VECTOR);
			for (i = 0; i < n; i++)
				one(to, v->ldr[to], APIC_DEST_LOGICAL, IPI_VECTOR);
		}
		break;
	case CLUSTER:
		mask = 0;
		for (to = 0; to < NR; to++) {
			if (to != index)
				mask |= v->ldr[to];
		}
		for (i = 0; i < n; i++)
			many(mask, APIC_DEST_LOGICAL, IPI_VECTOR, all & ~(1u << index));
		break;
	case READ_BACK:
		to = (index + 1) % NR;
		for (i = 0; i < n / 10 + 1; i++) {
			read_back(to, 0);
			read_back(v->ldr[to], APIC_DEST_LOGICAL);
			read_back(v->ldr[0] | v->ldr[1] | v->ldr[2], APIC_DEST_LOGICAL);
			read_back(0x12345, APIC_DEST_ALLBUT);
			/* In C, then another that does not write ICR. */
			guest_send_icr(0x54321, APIC_DEST_SELF | IPI_VECTOR);
			guest_self_ipi(IPI_VECTOR);
			kvm_hypercall(KVM_HC_SEND_IPI, 1ULL << to, 0, 0, IPI_VECTOR);
			if (x2apic_read_reg(APIC_ICR) !=
			    (0x54321ULL << 32 | APIC_DEST_SELF | IPI_VECTOR))
				v->bad++;
		}
		guest_spin_us(20000);
		break;
	case SELF:
		for (i = 0; i < n; i++)
			many(0, APIC_DEST_SELF, IPI_VECTOR, 1u << index);
		break;
	case ALL:
		for (i = 0; i < n; i++)
			many(0, APIC_DEST_ALLINC, IPI_VECTOR, all);
		break;
	case ALL_BUT_SELF:
		for (i = 0; i < n; i++)
			many(0, APIC_DEST_ALLBUT, IPI_VECTOR, all & ~(1u << index));
		break;
	case SELF_MSR:
		for (i = 0; i < n; i++) {
			before = v->received[index][IPI_VECTOR];
			guest_self_ipi(IPI_VECTOR);
			v->sent++;
			GUEST_ASSERT(guest_wait(v->received[index][IPI_VECTOR] ==
						before + 1));
		}
		break;
	case HYPERCALL:
		mask = all & ~(1u << index);
		for (i = 0; i < n; i++)
			hypercall(mask, 0, 0, IPI_VECTOR, mask, NR - 1);
		break;
	case ODD_HYPERCALL:
		mask = all & ~(1u << index);
		for (i = 0; i < n / 10 + 1; i++) {
			hypercall(1, 0, index, IPI_VECTOR, 1u << index, 1);
			hypercall(all, 0, 0, IPI_VECTOR, all, NR);
			/* Those that are not there are left out. */
			hypercall(mask | 1ULL << NR, 0, 0, IPI_VECTOR, mask, NR - 1);
			hypercall(mask, 1, 0, IPI_VECTOR, mask, NR - 1);
			hypercall(~0ULL, ~0ULL, 0, IPI_VECTOR, all, NR);
			hypercall(1, 0, 1000000, IPI_VECTOR, 0, 0);
			hypercall(0, 0, 0, IPI_VECTOR, 0, 0);
			/* Neither shorthands nor logical destinations. */
			hypercall(mask, 0, 0, APIC_DEST_ALLBUT | IPI_VECTOR, 0, -KVM_EINVAL);
			hypercall(mask, 0, 0, APIC_DEST_LOGICAL | IPI_VECTOR, 0, -KVM_EINVAL);
			/* Bits that say nothing. */
			hypercall(mask, 0, 0, APIC_INT_ASSERT | IPI_VECTOR, mask, NR - 1);
		}
		break;
	case NMI:
		for (to = 0; to < NR; to++) {
			for (i = 0; to != index && i < n / 10 + 1; i++)
				one(to, to, APIC_DM_NMI, NMI_VECTOR);
		}
		break;
	case LOWEST:
		mask = 0;
		for (i = 0; i < NR; i++) {
			if (i != index)
				mask |= v->ldr[i];
		}
		for (i = 0; i < n; i++) {
			uint64_t sum = 0, now;

			for (to = 0; to < NR; to++)
				sum += v->received[to][LOWEST_VECTOR];
			guest_send_icr(mask, APIC_DEST_LOGICAL | APIC_DM_LOWEST |
				       LOWEST_VECTOR);
			v->sent++;
			GUEST_ASSERT(guest_wait(({
				for (now = 0, to = 0; to < NR; to++)
					now += v->received[to][LOWEST_VECTOR];
				now != sum; })));
			if (now != sum + 1)
				v->bad++;
		}
		break;
	case LOW_VECTORS:
		to = (index + 1) % NR;
		for (vector = 16; vector < 32; vector++) {
			/* The stub for it would take an error code off the stack. */
			if (!has_error_code(vector))
				one(to, to, 0, vector);
		}
		break;
	case LOW_AMONG:
		/* The one leaves the local APIC, for the other it comes back. */
		to = (index + 1) % NR;
		for (i = 0; i < n / 4 + 1; i++) {
			struct counts was = count(IPI_VECTOR), low;

			vector = 16 + i % 16;
			if (has_error_code(vector))
				continue;
			low = count(vector);
			if (i & 1)
				guest_send_icr(to, vector);
			guest_send_icr(to, IPI_VECTOR);
			if (!(i & 1))
				guest_send_icr(to, vector);
			expect(low, vector, 1u << to);
			expect(was, IPI_VECTOR, 1u << to);
		}
		break;
	case ILLEGAL:
		to = (index + 1) % NR;
		for (vector = 0; vector < 16; vector++) {
			guest_send_icr(to, vector);
			v->sent++;
		}
		guest_spin_us(20000);
		for (i = 0; i < NR; i++) {
			for (vector = 0; vector < 16; vector++) {
				if (vector != NMI_VECTOR && v->received[i][vector])
					v->bad++;
			}
		}
		break;
	}
}

static void guest_code(uint64_t index)
{
	uint64_t n, turn;

	guest_set_index(cpus, index);
	guest_apic_init();
	v->ldr[index] = x2apic_read_reg(APIC_LDR_REG);
	guest_sti();
	v->ready[index] = 1;
	while (!v->ready[0] || !v->ready[1] || !v->ready[2])
		cpu_relax();

	/* The host starts each step, and says which. */
	for (n = 0; ; n++) {
		while (v->go <= n)
			cpu_relax();
		if (v->step >= NR_STEPS)
			break;
		for (turn = 0; turn < NR; turn++) {
			/* A turn may be over before this one looks. */
			while (v->done < n * NR + turn)
				cpu_relax();
			if (turn != index)
				continue;
			do_step(index, v->step);
			v->done++;
		}
	}
	if (v->step == SEND_INIT && index == 0)
		guest_send_icr(2, APIC_DM_INIT | APIC_INT_ASSERT);
	if (index == 0)
		v->stop = 1;
	/* vCPU 2 waits for what comes. */
	while (!v->stop || (v->step == SEND_INIT && index == 2))
		cpu_relax();
	GUEST_DONE();
}

/* Were @sent IPIs as many exits, in C or in assembly, and in assembly if they can be? */
static bool exits_add_up(const struct excl_counters *before,
			 const struct excl_counters *after, uint64_t sent)
{
	uint64_t c = 0, fast = 0;
	int i;

	for (i = 0; i < NR; i++) {
		c += after[i].exits - before[i].exits;
		fast += after[i].ipi_fast - before[i].ipi_fast;
	}
	ksft_print_msg("%lu IPIs: %lu exits in C, %lu in assembly\n", sent, c, fast);
	if (c + fast < sent)
		return false;
	return excl_have_fast_ipis() ? fast >= sent - sent / 10 : !fast;
}

static volatile bool end_on_signal;

static bool on_signal(struct excl_vm *ev, struct kvm_vcpu *vcpu)
{
	return !(end_on_signal && vcpu->id == 2);
}

static uint64_t nr_ipis;

/* Three vCPUs that send to each other, in turn, what the host asks for. */
struct senders {
	struct excl_vm ev;
	volatile typeof(g) *s;
	struct excl_counters before[NR], after[NR];
};

static void senders_start(struct senders *t)
{
	int vector;

	t->ev.on_signal = on_signal;
	excl_vm_create(&t->ev, NR, guest_code);
	for (vector = 0; vector < 256; vector++) {
		if (vector == GP_VECTOR || vector == PF_VECTOR || vector == DF_VECTOR ||
		    vector == UD_VECTOR)
			continue;
		vm_install_exception_handler(t->ev.vm, vector, vector == NMI_VECTOR ?
					     on_nmi : on_vector);
	}
	t->s = excl_shared(&t->ev, g);
	t->s->count = nr_ipis;
	excl_vm_start(&t->ev);
}

/* One after another in the same VM; false when the guests do not come to the end of one. */
static bool senders_do(struct senders *t, const enum step *steps, unsigned int nr)
{
	char what[32];
	bool ok = true;
	unsigned int i;

	for (; ok && nr; nr--, steps++) {
		for (i = 0; i < NR; i++)
			excl_counters_read(t->ev.vcpus[i], &t->before[i]);
		t->s->sent = 0;
		t->s->step = *steps;
		t->s->go++;
		ok = excl_wait(&t->ev, t->s->done == t->s->go * NR, 60);
		for (i = 0; i < NR; i++) {
			snprintf(what, sizeof(what), "vCPU %u", i);
			excl_counters_read(t->ev.vcpus[i], &t->after[i]);
			excl_counters_delta(what, &t->before[i], &t->after[i]);
		}
		ksft_print_msg("%s: sent %lu, wrong %lu\n", names[*steps], t->s->sent,
			       t->s->bad);
	}
	return ok;
}

static bool senders_end(struct senders *t)
{
	bool ok;

	t->s->step = NR_STEPS;
	t->s->go++;
	ok = excl_vm_join(&t->ev, 20);
	excl_vm_destroy(&t->ev);
	return ok;
}

/* How many vectors below 32 the host's local APICs hold, -1 when they cannot be read. */
static int bad_lvts(void)
{
	int i, r, bad = 0;

	for (i = 0; i <= NR; i++) {
		r = excl_scan_lvts(i);
		if (r < 0)
			return -1;
		bad += r;
	}
	return bad;
}

FIXTURE(step) {
	struct senders t;
};

FIXTURE_VARIANT(step) {
	enum step steps[3];
	unsigned int nr;
};

FIXTURE_VARIANT_ADD(step, pairs) { { PAIRS }, 1 };
FIXTURE_VARIANT_ADD(step, cluster) { { CLUSTER }, 1 };
FIXTURE_VARIANT_ADD(step, icr_reads_as_written) { { READ_BACK }, 1 };
FIXTURE_VARIANT_ADD(step, shorthand_self) { { SELF }, 1 };
FIXTURE_VARIANT_ADD(step, shorthand_all) { { ALL }, 1 };
FIXTURE_VARIANT_ADD(step, shorthand_others) { { ALL_BUT_SELF }, 1 };
FIXTURE_VARIANT_ADD(step, self_ipi_register) { { SELF_MSR }, 1 };
FIXTURE_VARIANT_ADD(step, hypercall) { { HYPERCALL }, 1 };
FIXTURE_VARIANT_ADD(step, odd_hypercalls) { { ODD_HYPERCALL }, 1 };
FIXTURE_VARIANT_ADD(step, nmi) { { NMI }, 1 };
FIXTURE_VARIANT_ADD(step, lowest_priority) { { LOWEST }, 1 };
FIXTURE_VARIANT_ADD(step, low_vectors) { { LOW_VECTORS }, 1 };
FIXTURE_VARIANT_ADD(step, low_vectors_among_others) { { LOW_VECTORS, LOW_AMONG }, 2 };
/* NMIs and low vectors come by other ways, and leave the usual one as it was. */
FIXTURE_VARIANT_ADD(step, pairs_behind_low_vectors) { { NMI, LOW_AMONG, AFTER }, 3 };
FIXTURE_VARIANT_ADD(step, illegal_vectors) { { ILLEGAL }, 1 };

FIXTURE_SETUP(step)
{
	senders_start(&self->t);
}

FIXTURE_TEARDOWN(step)
{
	EXPECT_TRUE(senders_end(&self->t));
	EXPECT_LE(bad_lvts(), 0);
}

TEST_F_TIMEOUT(step, goes_where_it_is_to_exactly_once, EXCL_CASE_S)
{
	EXPECT_TRUE(senders_do(&self->t, variant->steps, variant->nr));
	EXPECT_EQ(0, self->t.s->bad);
}

FIXTURE(exit) {
	struct senders t;
};

FIXTURE_VARIANT(exit) {
	enum step step;
};

FIXTURE_VARIANT_ADD(exit, pairs) { .step = PAIRS };
FIXTURE_VARIANT_ADD(exit, cluster) { .step = CLUSTER };
FIXTURE_VARIANT_ADD(exit, shorthand_others) { .step = ALL_BUT_SELF };
FIXTURE_VARIANT_ADD(exit, self_ipi_register) { .step = SELF_MSR };
FIXTURE_VARIANT_ADD(exit, hypercall) { .step = HYPERCALL };

FIXTURE_SETUP(exit)
{
	senders_start(&self->t);
}

FIXTURE_TEARDOWN(exit)
{
	EXPECT_TRUE(senders_end(&self->t));
}

TEST_F_TIMEOUT(exit, is_one_for_each_in_assembly_where_possible, EXCL_CASE_S)
{
	ASSERT_TRUE(senders_do(&self->t, &variant->step, 1));
	EXPECT_TRUE(exits_add_up(self->t.before, self->t.after, self->t.s->sent));
}

/* What the guests may not do to the host, nor to each other. */
FIXTURE(senders) {
	struct senders t;
};

FIXTURE_SETUP(senders)
{
	senders_start(&self->t);
}

FIXTURE_TEARDOWN(senders)
{
	if (self->t.ev.vm)
		excl_vm_destroy(&self->t.ev);
}

TEST_F_TIMEOUT(senders, leave_the_hosts_vector_tables_sound, EXCL_CASE_S)
{
	static const enum step steps[] = { LOW_VECTORS, LOW_AMONG, ILLEGAL };
	int bad;

	EXPECT_TRUE(senders_do(&self->t, steps, ARRAY_SIZE(steps)));
	EXPECT_TRUE(senders_end(&self->t));
	self->t.ev.vm = NULL;
	bad = bad_lvts();
	if (bad < 0)
		SKIP(return, "no /dev/cpu/*/msr or no x2APIC");
	EXPECT_EQ(0, bad);
}

TEST_F_TIMEOUT(senders, make_a_vcpu_wait_for_sipi_by_init, EXCL_CASE_S)
{
	struct excl_vm *ev = &self->t.ev;
	struct kvm_mp_state mp = {};
	int i;

	self->t.s->step = SEND_INIT;
	self->t.s->go++;
	ASSERT_TRUE(excl_wait(ev, self->t.s->stop, 20));
	usleep(200000);
	end_on_signal = true;
	for (i = 0; i < 1000 && !ev->threads[2].ended; i++) {
		excl_vm_signal(ev, 2);
		usleep(1000);
	}
	ASSERT_TRUE(ev->threads[2].ended);
	vcpu_mp_state_get(ev->vcpus[2], &mp);
	EXPECT_EQ(KVM_MP_STATE_INIT_RECEIVED, mp.mp_state);
}

int main(int argc, char **argv)
{
	excl_require(NR);
	nr_ipis = excl_arg(argc, argv, 1, 1000);
	return excl_harness_run(argc, argv);
}
