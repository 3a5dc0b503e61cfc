// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that a guest cannot harm the host, or another guest, through the x2APIC registers.
 *
 * Two vCPUs write random values to, and read, random MSRs from 0x800 to 0x8ff
 * and 0x6e0, taking each #GP, and send IPIs by random hypercalls.  They may kill
 * themselves, each other, or stop in a wait for SIPI: then there is a new VM with the
 * same CPUs.  Afterwards no host CPU's local vector table holds an unmasked vector below
 * 32, the host has counted no interrupt that it did not expect, another exclusive guest
 * beside them has seen none at all, and a new guest on those CPUs gets its timer
 * interrupts.
 *
 *   hostile_msr_test [SECONDS [SEED]]
 */
#include "guest.h"
#include "harness.h"

#define NR		2
#define TIMER_VECTOR	0x51
#define APIC_MODE_MASK	0x700
/* With $KVM_EXCL_HARDWARE set, no limit. */
#define SHORTEST_TICKS	50000

static struct {
	uint64_t seed;			/* by the host */
	uint64_t stop;
	uint64_t writes[NR], faults[NR], calls, irqs;
	uint64_t sane, expired;
	uint64_t hardware;		/* by the host */
} g;

static volatile typeof(g) *const v = &g;

static void on_any(struct ex_regs *regs)
{
	v->irqs++;
	wrmsr_safe(APIC_BASE_MSR + (APIC_EOI >> 4), 0);
}

static void on_timer(struct ex_regs *regs)
{
	v->expired++;
	guest_eoi();
}

static uint64_t next(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static void sane_guest(void)
{
	uint64_t i;

	x2apic_write_reg(APIC_TDCR, TDCR_DIV1);
	x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_ONESHOT | TIMER_VECTOR);
	guest_sti();
	for (i = 1; i <= 100; i++) {
		x2apic_write_reg(APIC_TMICT, 100000);
		GUEST_ASSERT(guest_wait(v->expired >= i));
	}
	GUEST_DONE();
}

/* Another tenant, which asks for no interrupt. */
static void bystander(uint64_t index)
{
	guest_apic_init();
	guest_sti();
	while (!v->stop) {
		v->writes[0]++;
		cpu_relax();
	}
	GUEST_DONE();
}

/*
 * No SMI: what is in the memory for it is no handler, and KVM declares the VM dead before
 * the guest has done much.
 */
static uint64_t no_smi(uint64_t icr)
{
	return (icr & APIC_MODE_MASK) == APIC_DM_SMI ? icr ^ APIC_MODE_MASK : icr;
}

static void random_hypercall(uint64_t *x)
{
	uint64_t r = next(x), low = next(x), min = next(x), icr = next(x);

	if (r & 1)
		min &= 1;
	if (r & 2)
		icr &= 0xff;
	if (r & 4)
		low &= (1 << NR) - 1;
	kvm_hypercall(KVM_HC_SEND_IPI, low, r & 8 ? next(x) : 0, min, no_smi(icr));
	v->calls++;
}

static void guest_code(uint64_t index)
{
	uint64_t x = v->seed * 2654435761u + index + 1, r, val;
	uint32_t msr;

	guest_apic_init();
	if (v->sane)
		sane_guest();
	guest_sti();
	while (!v->stop) {
		r = next(&x);
		msr = r % 64 ? 0x800 + (r >> 8) % 0x100 : 0x6e0;
		/* Mostly registers that exist. */
		if (r & 1)
			msr = 0x800 + (r >> 8) % 0x40;
		if (!(r & 0xe))
			msr = APIC_BASE_MSR + (APIC_ICR >> 4);
		val = next(&x);
		switch (r >> 60) {
		case 0 ... 5:
			val &= 0xffffffff;
			break;
		case 6 ... 9:
			val &= 0x300ff;
			break;
		/* In ICR, a fixed IPI to somebody who may be there. */
		case 10 ... 12:
			val &= 0x3000c08ff;
			break;
		default:
			break;
		}
		/*
		 * The APIC models of emulators call back once for every expiry,
		 * however late: a period shorter than that takes never ends, and
		 * the emulator with it. Hardware has no such limit.
		 */
		if (msr == APIC_BASE_MSR + (APIC_TMICT >> 4) && !v->hardware &&
		    (uint32_t)val && (uint32_t)val < SHORTEST_TICKS)
			val += SHORTEST_TICKS;
		if (msr == APIC_BASE_MSR + (APIC_ICR >> 4))
			val = no_smi(val);
		if (!((r >> 52) & 7))
			random_hypercall(&x);
		else if ((r >> 58) & 1)
			v->faults[index] += !!rdmsr_safe(msr, &val);
		else
			v->faults[index] += !!wrmsr_safe(msr, val);
		v->writes[index]++;
		/* Stay able to attach: in x2APIC mode, software-enabled. */
		if (!(r & 0xff00))
			wrmsr_safe(APIC_BASE_MSR + (APIC_SPIV >> 4), 0x1ff);
		guest_sti();
	}
	GUEST_DONE();
}

/* Whatever a hostile guest exits with is its end. */
static bool on_io(struct excl_vm *ev, struct kvm_vcpu *vcpu)
{
	return false;
}

static void install(struct excl_vm *ev)
{
	int vector;

	for (vector = 32; vector < 256; vector++)
		vm_install_exception_handler(ev->vm, vector,
					     vector == TIMER_VECTOR ? on_timer : on_any);
}

static bool is_over(struct excl_vm *ev)
{
	return ev->threads[0].ended || ev->threads[1].ended;
}

/*
 * Interrupts that nobody in the host asked for, as it has counted them: those without a
 * handler, of a kind that is not there, and spurious ones on CPU 0.
 */
static uint64_t unexpected(void)
{
	return excl_host_interrupts(0, "ERR") + excl_host_interrupts(0, "MIS") +
	       excl_host_interrupts(0, "SPU");
}

static uint64_t seconds, first_seed;

/* Another tenant, who runs from before the hostile guest until after it. */
FIXTURE(hostile) {
	struct excl_vm other;
	volatile typeof(g) *o;
};

FIXTURE_SETUP(hostile)
{
	self->other.first_cpu = EXCL_FIRST_CPU + NR;
	excl_vm_create(&self->other, 1, bystander);
	install(&self->other);
	self->o = excl_shared(&self->other, g);
	excl_vm_start(&self->other);
}

FIXTURE_TEARDOWN(hostile)
{
	excl_vm_destroy(&self->other);
}

/* VM after VM until the time is over. True when one has run, attached. */
static bool run_hostile_guests(void)
{
	uint64_t end = excl_now_ns() + seconds * 1000000000ULL, seed = first_seed;
	uint64_t total = 0, faults = 0, calls = 0, vms = 0, irqs = 0, was, idle;
	struct excl_counters c, sum = {};
	volatile typeof(g) *s;
	struct excl_vm ev;
	int i;

	while (excl_now_ns() < end) {
		memset(&ev, 0, sizeof(ev));
		ev.on_exit = on_io;
		excl_vm_create(&ev, NR, guest_code);
		install(&ev);
		s = excl_shared(&ev, g);
		s->seed = seed++;
		s->hardware = !!getenv("KVM_EXCL_HARDWARE");
		excl_vm_start(&ev);
		/* One that does nothing for 300 ms is as good as dead. */
		for (was = 0, idle = 0; !is_over(&ev) && idle < 15 && excl_now_ns() < end; ) {
			usleep(20000);
			idle = s->writes[0] + s->writes[1] == was ? idle + 1 : 0;
			was = s->writes[0] + s->writes[1];
		}
		s->stop = 1;
		total += s->writes[0] + s->writes[1];
		faults += s->faults[0] + s->faults[1];
		calls += s->calls;
		irqs += s->irqs;
		vms++;
		for (i = 0; i < NR; i++) {
			excl_counters_read(ev.vcpus[i], &c);
			sum.attaches += c.attaches;
			sum.storms += c.storms;
			sum.recorded += c.recorded;
			sum.ipi_fast += c.ipi_fast;
		}
		excl_vm_destroy(&ev);
	}
	ksft_print_msg("%lu VMs, %lu accesses, %lu hypercalls, %lu faults, %lu interrupts; attached %lu times, storms %lu, recorded %lu, IPIs in assembly %lu\n",
		       vms, total, calls, faults, irqs, sum.attaches, sum.storms,
		       sum.recorded, sum.ipi_fast);
	return total > 1000 && (excl_stock() || sum.attaches);
}

/* A new guest on the same CPUs gets its timer interrupts. */
static bool cpus_serve_the_next_guest(void)
{
	struct excl_vm ev = {};
	bool ok;

	excl_vm_create(&ev, NR, guest_code);
	install(&ev);
	excl_shared(&ev, g)->sane = 1;
	excl_vm_start(&ev);
	ok = excl_vm_join(&ev, 30);
	excl_vm_destroy(&ev);
	return ok;
}

/* In one case: who may be harmed is looked at behind all of the hostile guests. */
TEST_F_TIMEOUT(hostile, guest_harms_nobody, EXCL_CASE_S)
{
	uint64_t before = unexpected(), stray, was;
	struct excl_counters c;
	int cpu, r, bad = 0;

	EXPECT_TRUE(run_hostile_guests());
	stray = unexpected() - before;
	ksft_print_msg("unexpected interrupts in the host: %lu\n", stray);
	EXPECT_EQ(0, stray);

	excl_counters_read(self->other.vcpus[0], &c);
	was = self->o->writes[0];
	EXPECT_TRUE(excl_wait(&self->other, self->o->writes[0] != was, 20));
	self->o->stop = 1;
	EXPECT_TRUE(excl_vm_join(&self->other, 20));
	ksft_print_msg("another guest: %lu interrupts, %lu recorded\n", self->o->irqs, c.recorded);
	EXPECT_EQ(0, self->o->irqs);
	EXPECT_EQ(0, c.recorded);
	EXPECT_TRUE(excl_stock() || c.attaches);

	for (cpu = 0; cpu <= NR; cpu++) {
		r = excl_scan_lvts(cpu);
		bad = r < 0 || bad < 0 ? -1 : bad + r;
	}
	EXPECT_LE(bad, 0);
	EXPECT_TRUE(cpus_serve_the_next_guest());
	/* Not before all the rest: a skip stands for what has failed, too. */
	if (bad < 0 && !_metadata->exit_code)
		SKIP(return, "host's local vector tables - no /dev/cpu/*/msr or no x2APIC");
}

int main(int argc, char **argv)
{
	excl_require(NR + 1);
	seconds = excl_arg(argc, argv, 1, 15);
	first_seed = excl_arg(argc, argv, 2, 1);
	return excl_harness_run(argc, argv);
}
