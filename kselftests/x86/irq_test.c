// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that device interrupts reach a busy exclusive vCPU, each exactly once.
 *
 * MSIs through an irqfd and KVM_SIGNAL_MSI, and edges of an I/O APIC pin, cause
 * no exit but kicks: KVM sends them as physical IPIs.  Level-triggered ones
 * through the in-kernel I/O APIC need the guest's EOI: it is seen for each (remote
 * IRR never sticks), a line that stays high is delivered again, and the vCPU is
 * attached all the time.  The EOI is seen, too, where KVM delivered the interrupt and the VM
 * got its CPU before the handler ended it.
 *
 *   irq_test [INTERRUPTS] [OPTIONS OF THE HARNESS]
 */
#include <sys/eventfd.h>

#include "guest.h"
#include "harness.h"

#define MSI_VECTOR	0x91
#define EDGE_VECTOR	0xa1
#define LEVEL_VECTOR	0xb1
#define IRQFD_GSI	24
#define EDGE_PIN	4
#define LEVEL_PIN	10
#define PORT		0x99	/* nobody's */

static struct {
	uint64_t ready, stop;
	uint64_t msi, edge, level;
	uint64_t line_low, hold, out;	/* by the host */
	uint64_t spins;
} g;

static volatile typeof(g) *const v = &g;

static void on_msi(struct ex_regs *regs)
{
	v->msi++;
	guest_eoi();
}

static void on_edge(struct ex_regs *regs)
{
	v->edge++;
	guest_eoi();
}

/* The host is the device: it lowers the line when it has been served. */
static void on_level(struct ex_regs *regs)
{
	uint64_t n = v->level + 1;

	v->level = n;
	if (v->out)
		guest_outb(PORT, 0);
	while (!v->hold && v->line_low < n)
		cpu_relax();
	guest_eoi();
}

static void guest_code(uint64_t index)
{
	guest_apic_init();
	guest_sti();
	guest_self_ipi(MSI_VECTOR);
	while (v->msi != 1)
		cpu_relax();
	v->ready = 1;
	while (!v->stop)
		v->spins++;
	GUEST_DONE();
}

static uint64_t nr_interrupts;

/**
 * struct irq_vm - a VM and what sends interrupts to its one vCPU
 * @host: the guest's memory
 * @eventfd: that of an irqfd
 * @rebound: the VM got its CPU in the handler's exit
 */
struct irq_vm {
	struct excl_vm ev;
	volatile typeof(g) *host;
	int eventfd;
	bool rebound;
};

/* In the handler's exit the VM gets its CPU. */
static bool on_io(struct excl_vm *ev, struct kvm_vcpu *vcpu)
{
	struct irq_vm *t = container_of(ev, struct irq_vm, ev);

	if (vcpu->run->exit_reason != KVM_EXIT_IO || vcpu->run->io.port != PORT)
		return false;
	ev->ctx = excl_open();
	t->rebound = !excl_claim_first(ev->ctx, 1) && !excl_bind(ev->ctx, ev->vm->fd, 0);
	kvm_irq_line(ev->vm, LEVEL_PIN, 0);
	t->host->out = 0;
	t->host->line_low = t->host->level;
	return true;
}

static void irq_vm_start(struct irq_vm *t)
{
	struct kvm_irqfd irqfd = { .gsi = IRQFD_GSI };
	struct excl_vm *ev = &t->ev;
	struct kvm_irq_routing *routing;

	ev->on_exit = on_io;
	excl_vm_create(ev, 1, guest_code);
	vm_install_exception_handler(ev->vm, MSI_VECTOR, on_msi);
	vm_install_exception_handler(ev->vm, EDGE_VECTOR, on_edge);
	vm_install_exception_handler(ev->vm, LEVEL_VECTOR, on_level);
	routing = excl_routing_create();
	excl_routing_add_ioapic(routing, EDGE_PIN, EDGE_PIN);
	excl_routing_add_ioapic(routing, LEVEL_PIN, LEVEL_PIN);
	excl_routing_add_msi(routing, IRQFD_GSI, 0, MSI_VECTOR);
	kvm_gsi_routing_write(ev->vm, routing);
	excl_ioapic_program(ev->vm, EDGE_PIN, EDGE_VECTOR, false);
	excl_ioapic_program(ev->vm, LEVEL_PIN, LEVEL_VECTOR, true);
	t->eventfd = eventfd(0, EFD_CLOEXEC);
	irqfd.fd = t->eventfd;
	vm_ioctl(ev->vm, KVM_IRQFD, &irqfd);

	t->host = excl_shared(ev, g);
	excl_vm_start(ev);
	TEST_ASSERT(excl_wait(ev, t->host->ready, 20), "the guest does not start");
	/* All interrupts come from one CPU, for excl_vm_barrier(). */
	TEST_ASSERT(!excl_run_on(0, 0, 0), "sched_setaffinity");
}

static bool irq_vm_ends(struct irq_vm *t)
{
	bool ok;

	t->host->stop = 1;
	ok = excl_vm_join(&t->ev, 10);
	excl_vm_destroy(&t->ev);
	close(t->eventfd);
	return ok;
}

static void send_irqfd(void *data)
{
	struct irq_vm *t = data;
	uint64_t one = 1;

	TEST_ASSERT(write(t->eventfd, &one, sizeof(one)) == sizeof(one), "write");
}

static void send_msi(void *data)
{
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = MSI_VECTOR };
	struct irq_vm *t = data;
	int r = __vm_ioctl(t->ev.vm, KVM_SIGNAL_MSI, &msi);

	TEST_ASSERT(r > 0, "KVM_SIGNAL_MSI: %d, %s", r, strerror(errno));
}

static void send_edge(void *data)
{
	struct irq_vm *t = data;

	kvm_irq_line(t->ev.vm, EDGE_PIN, 1);
	kvm_irq_line(t->ev.vm, EDGE_PIN, 0);
}

/* Each source of edges. */
FIXTURE(edge) {
	struct irq_vm t;
	volatile uint64_t *count;
};

FIXTURE_VARIANT(edge) {
	const char *name;
	void (*send)(void *data);
	bool pin;
};

FIXTURE_VARIANT_ADD(edge, irqfd) {
	.name = "irqfd",
	.send = send_irqfd,
};

FIXTURE_VARIANT_ADD(edge, signal_msi) {
	.name = "KVM_SIGNAL_MSI",
	.send = send_msi,
};

FIXTURE_VARIANT_ADD(edge, ioapic) {
	.name = "I/O APIC edge",
	.send = send_edge,
	.pin = true,
};

FIXTURE_SETUP(edge)
{
	irq_vm_start(&self->t);
	self->count = variant->pin ? &self->t.host->edge : &self->t.host->msi;
	/* What faults once, the handler's page for one, does it now. */
	variant->send(&self->t);
	ASSERT_TRUE(excl_spin(&self->t.ev, *self->count == (variant->pin ? 1 : 2)));
}

FIXTURE_TEARDOWN(edge)
{
	EXPECT_TRUE(irq_vm_ends(&self->t));
}

TEST_F_TIMEOUT(edge, each_exactly_once, EXCL_CASE_S)
{
	uint64_t start = *self->count;
	struct excl_sends sends = excl_send_each(&self->t.ev, 0, variant->name, variant->send,
						 &self->t, self->count, nr_interrupts);

	EXPECT_TRUE(sends.arrived);
	EXPECT_TRUE(excl_vm_barrier(&self->t.ev, 0));
	EXPECT_EQ(nr_interrupts, *self->count - start);
}

TEST_F_TIMEOUT(edge, no_exit_but_kicks, EXCL_CASE_S)
{
	struct excl_sends sends;

	if (excl_stock())
		SKIP(return, "not exclusive");
	sends = excl_send_each(&self->t.ev, 0, variant->name, variant->send, &self->t,
			       self->count, nr_interrupts);
	EXPECT_TRUE(sends.arrived);
	EXPECT_TRUE(sends.attached);
	EXPECT_LE(sends.exits, sends.kicks);
}

/* A pin of the I/O APIC whose line stays high until the device has been served. */
FIXTURE(level) {
	struct irq_vm t;
};

FIXTURE_SETUP(level)
{
	irq_vm_start(&self->t);
}

FIXTURE_TEARDOWN(level)
{
	EXPECT_TRUE(irq_vm_ends(&self->t));
}

static void set_line(struct irq_vm *t, bool high)
{
	kvm_irq_line(t->ev.vm, LEVEL_PIN, high);
}

/* The I/O APIC sees the EOI: only then may the next interrupt be sent. */
static bool eoi_seen(struct irq_vm *t)
{
	uint64_t end = excl_now_ns() + 5000000000ULL;

	while (excl_ioapic_remote_irr(t->ev.vm, LEVEL_PIN) && excl_now_ns() < end)
		cpu_relax();
	return !excl_ioapic_remote_irr(t->ev.vm, LEVEL_PIN);
}

/* Raise the line, and lower it when the interrupt has come. */
static bool level_arrives(struct irq_vm *t)
{
	uint64_t next = t->host->level + 1;
	bool ok;

	set_line(t, true);
	ok = excl_spin(&t->ev, t->host->level == next);
	set_line(t, false);
	t->host->line_low = next;
	return ok;
}

/* The line stays high, and each EOI brings the next one. */
static bool level_held(struct irq_vm *t)
{
	uint64_t before = t->host->level;
	bool ok;

	t->host->hold = 1;
	set_line(t, true);
	ok = excl_spin(&t->ev, t->host->level >= before + 3);
	set_line(t, false);
	ok = eoi_seen(t) && ok;
	ksft_print_msg("level held: %lu more\n", t->host->level - before);
	return ok;
}

TEST_F_TIMEOUT(level, each_exactly_once, EXCL_CASE_S)
{
	uint64_t i;

	for (i = 0; i < nr_interrupts; i++) {
		ASSERT_TRUE(level_arrives(&self->t));
		ASSERT_TRUE(eoi_seen(&self->t));
	}
	EXPECT_TRUE(excl_vm_barrier(&self->t.ev, 0));
	EXPECT_EQ(nr_interrupts, self->t.host->level);
}

TEST_F_TIMEOUT(level, remote_irr_never_sticks, EXCL_CASE_S)
{
	uint64_t i;

	for (i = 0; i < nr_interrupts; i++) {
		ASSERT_TRUE(level_arrives(&self->t));
		ASSERT_TRUE(eoi_seen(&self->t)) {
			TH_LOG("behind %lu interrupts", i);
		}
	}
}

TEST_F_TIMEOUT(level, again_while_high_and_no_more, EXCL_CASE_S)
{
	uint64_t n;

	ASSERT_TRUE(level_held(&self->t));
	n = self->t.host->level;
	EXPECT_TRUE(excl_vm_barrier(&self->t.ev, 0));
	/* KVM may put off one of many EOIs to a work item, which no barrier waits for. */
	usleep(50000);
	EXPECT_EQ(n, self->t.host->level);
	EXPECT_FALSE(excl_ioapic_remote_irr(self->t.ev.vm, LEVEL_PIN));
}

TEST_F_TIMEOUT(level, attached, EXCL_CASE_S)
{
	struct excl_counters c0, c1;
	uint64_t i;

	if (excl_stock())
		SKIP(return, "not exclusive");
	excl_counters_read(self->t.ev.vcpus[0], &c0);
	for (i = 0; i < nr_interrupts; i++) {
		ASSERT_TRUE(level_arrives(&self->t));
		ASSERT_TRUE(eoi_seen(&self->t));
	}
	ASSERT_TRUE(level_held(&self->t));
	excl_counters_read(self->t.ev.vcpus[0], &c1);
	excl_counters_delta("level", &c0, &c1);
	EXPECT_TRUE(c1.attached);
}

TEST_F_TIMEOUT(level, bound_in_handler_eoi_is_seen, EXCL_CASE_S)
{
	struct irq_vm *t = &self->t;

	if (excl_stock())
		SKIP(return, "not exclusive");
	close(t->ev.ctx);
	t->ev.ctx = -1;
	ASSERT_TRUE(excl_wait_free(1));
	t->host->out = 1;
	set_line(t, true);
	EXPECT_TRUE(excl_spin(&t->ev, t->host->level == 1));
	ASSERT_TRUE(excl_spin(&t->ev, t->host->line_low == 1));
	EXPECT_TRUE(t->rebound);
	EXPECT_TRUE(eoi_seen(t));
	/* Again, as its EOI has been seen. */
	EXPECT_TRUE(level_arrives(t));
}

int main(int argc, char **argv)
{
	excl_require(1);
	nr_interrupts = excl_arg(argc, argv, 1, 1000);
	return excl_harness_run(argc, argv);
}
