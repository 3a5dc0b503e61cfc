// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that no IPI is lost, doubled or misdirected while its sender and its
 * destination are kicked, detached and given other CPUs all the time.
 *
 * Three vCPUs send to each other at once: physical, logical, to both others by a
 * cluster, by shorthand and by hypercall.  Each sender has a vector of its own and waits
 * for each IPI to be counted where it belongs before it sends the next, so a lost one
 * stops it and a doubled one shows.  Meanwhile the host kicks the CPUs, signals make vCPUs
 * leave to user space, and the VM is unbound and bound again.  As IPIs take no time beside
 * that, there are more of them than asked for until it has been bound ten times.
 *
 *   ipi_torture_test [IPIS_PER_VCPU]
 */
#include "guest.h"
#include "harness.h"

#define NR		3
#define FIRST_VECTOR	0x81
#define REBINDS		10

/* From TO_BOTH on, one goes to both others. */
enum { PHYSICAL, LOGICAL, TO_BOTH, CLUSTER = TO_BOTH, SHORTHAND, HYPERCALL, NR_WAYS };

static struct {
	uint64_t count;				/* by the host, before the start */
	uint64_t disturbed;			/* by the host: often enough to end */
	uint64_t ready[NR];
	uint64_t sent[NR];			/* to one or to both */
	uint64_t received[NR][NR];		/* by destination and sender */
	uint64_t expected[NR][NR];
	uint64_t lost, doubled;
	uint64_t finished;
} g;

static struct guest_cpu cpus[NR];
static volatile typeof(g) *const v = &g;

static void on_vector(struct ex_regs *regs)
{
	v->received[guest_index()][regs->vector - FIRST_VECTOR]++;
	guest_eoi();
}

static void guest_code(uint64_t index)
{
	uint64_t i, to, both = (1u << NR) - 1 - (1u << index);
	uint32_t ldr[NR], vector = FIRST_VECTOR + index;
	bool hit;

	guest_set_index(cpus, index);
	guest_apic_init();
	/* An x2APIC's logical ID: cluster 0, a bit for each of its members. */
	for (i = 0; i < NR; i++)
		ldr[i] = 1u << i;
	guest_sti();
	v->ready[index] = 1;
	while (!v->ready[0] || !v->ready[1] || !v->ready[2])
		cpu_relax();

	for (i = 0; (i < v->count || !v->disturbed) && !v->lost && !v->doubled; i++) {
		to = (index + 1 + i % 2) % NR;
		for (uint64_t n = 0; n < NR; n++)
			v->expected[n][index] += i % NR_WAYS >= TO_BOTH ? both >> n & 1 :
									   n == to;
		switch (i % NR_WAYS) {
		case PHYSICAL:
			guest_send_icr(to, vector);
			break;
		case LOGICAL:
			guest_send_icr(ldr[to], APIC_DEST_LOGICAL | vector);
			break;
		case CLUSTER:
			guest_send_icr(both, APIC_DEST_LOGICAL | vector);
			break;
		case SHORTHAND:
			guest_send_icr(0, APIC_DEST_ALLBUT | vector);
			break;
		case HYPERCALL:
			GUEST_ASSERT(kvm_hypercall(KVM_HC_SEND_IPI, both, 0, 0, vector) ==
				     NR - 1);
			break;
		}
		v->sent[index]++;
		for (uint64_t n = 0; n < NR; n++) {
			hit = guest_wait(v->received[n][index] >= v->expected[n][index]);
			if (!hit)
				v->lost++;
			else if (v->received[n][index] != v->expected[n][index])
				v->doubled++;
		}
	}
	__atomic_add_fetch(&g.finished, 1, __ATOMIC_SEQ_CST);
	while (v->finished < NR)
		cpu_relax();
	GUEST_DONE();
}

static bool on_signal(struct excl_vm *ev, struct kvm_vcpu *vcpu)
{
	return true;
}

/* Of the soak in kselftests/tests. */
#define TORTURE_S	1800

static uint64_t ipis_per_vcpu;

FIXTURE(torture) {
	struct excl_vm ev;
	volatile typeof(g) *s;
};

FIXTURE_SETUP(torture)
{
	int i;

	self->ev.on_signal = on_signal;
	excl_vm_create(&self->ev, NR, guest_code);
	for (i = 0; i < NR; i++)
		vm_install_exception_handler(self->ev.vm, FIRST_VECTOR + i, on_vector);
	self->s = excl_shared(&self->ev, g);
	self->s->count = ipis_per_vcpu;
}

FIXTURE_TEARDOWN(torture)
{
	excl_vm_destroy(&self->ev);
}

TEST_F_TIMEOUT(torture, has_no_ipi_lost_doubled_or_misdirected, TORTURE_S)
{
	uint64_t kicks = 0, signals = 0, rebinds = 0, fast = 0, ipis = 0, last = 0, now, tsc;
	volatile typeof(g) *s = self->s;
	struct excl_vm *ev = &self->ev;
	struct excl_counters c[NR];
	bool ok = true;
	int i;

	excl_vm_start(ev);
	while (s->finished < NR && !excl_vm_failed(ev) && ok) {
		/* A disturbance for each step at most, or a slow host would take none. */
		now = s->sent[0] + s->sent[1] + s->sent[2];
		if (now == last) {
			usleep(100);
			continue;
		}
		last = now;
		/* A function call on that CPU. */
		excl_host_msr(EXCL_FIRST_CPU + kicks++ % NR, MSR_IA32_TSC, &tsc);
		if (kicks % 5 == 0) {
			excl_vm_signal(ev, kicks / 5 % NR);
			signals++;
		}
		if (ev->ctx >= 0 && kicks % 50 == 0) {
			ok = !excl_unbind(ev->ctx) && !excl_bind(ev->ctx, ev->vm->fd, ev->flags);
			rebinds++;
		}
		s->disturbed = kicks >= 50 * REBINDS;
	}
	EXPECT_TRUE(ok);
	EXPECT_TRUE(excl_vm_join(ev, 60));
	for (i = 0; i < NR; i++) {
		excl_counters_read(ev->vcpus[i], &c[i]);
		fast += c[i].ipi_fast;
		ipis += s->sent[i];
	}
	ksft_print_msg("%lu IPIs sent, %lu of them in assembly; %lu kicks, %lu signals, bound %lu times\n",
		       ipis, fast, kicks, signals, rebinds);
	ksft_print_msg("lost %lu, doubled %lu\n", s->lost, s->doubled);
	EXPECT_GE(ipis, NR * ipis_per_vcpu);
	EXPECT_EQ(0, s->lost);
	EXPECT_EQ(0, s->doubled);
	/* None at another vCPU. */
	EXPECT_EQ(0, memcmp((void *)s->received, (void *)s->expected, sizeof(g.received)));
	/* It was disturbed all the time. */
	EXPECT_NE(0, kicks);
	EXPECT_NE(0, signals);
	EXPECT_TRUE(excl_stock() || rebinds);
}

int main(int argc, char **argv)
{
	excl_require(NR);
	ipis_per_vcpu = excl_arg(argc, argv, 1, 10000);
	return excl_harness_run(argc, argv);
}
