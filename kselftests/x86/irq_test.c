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
 *   irq_test [INTERRUPTS]
 */
#include <sys/eventfd.h>

#include "excl.h"
#include "guest.h"

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

static struct excl_vm ev;
static volatile typeof(g) *host;

static bool remote_irr(int pin)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

	vm_ioctl(ev.vm, KVM_GET_IRQCHIP, &chip);
	return chip.chip.ioapic.redirtbl[pin].fields.remote_irr;
}

/* Spin: usleep() would make a run of thousands too long. */
static bool wait_for(volatile uint64_t *what, uint64_t val)
{
	uint64_t end = excl_now_ns() + 20000000000ULL;

	while (*what != val && excl_now_ns() < end)
		cpu_relax();
	if (*what == val)
		return true;
	ksft_print_msg("%lu instead of %lu\n", *what, val);
	excl_vm_dump(&ev);
	return false;
}

static int eventfd_fd;

static void send_irqfd(void)
{
	uint64_t one = 1;

	TEST_ASSERT(write(eventfd_fd, &one, sizeof(one)) == sizeof(one), "write");
}

static void send_msi(void)
{
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = MSI_VECTOR };
	int r = __vm_ioctl(ev.vm, KVM_SIGNAL_MSI, &msi);

	TEST_ASSERT(r > 0, "KVM_SIGNAL_MSI: %d, %s", r, strerror(errno));
}

static void send_edge(void)
{
	kvm_irq_line(ev.vm, EDGE_PIN, 1);
	kvm_irq_line(ev.vm, EDGE_PIN, 0);
}

static void edges(const char *what, void (*send)(void), volatile uint64_t *count,
		  uint64_t n)
{
	struct excl_counters c0, c1;
	uint64_t start = *count, i, exits, kicks;
	bool ok;

	/* What faults once, the handler's page for one, does it now. */
	send();
	ok = wait_for(count, ++start);
	excl_counters_read(ev.vcpus[0], &c0);
	for (i = 1; ok && i <= n; i++) {
		send();
		ok = wait_for(count, start + i);
	}
	usleep(20000);
	excl_counters_read(ev.vcpus[0], &c1);
	excl_counters_delta(what, &c0, &c1);
	exits = c1.exits - c0.exits;
	kicks = excl_kick_exits(&c0, &c1);
	ksft_print_msg("%s: %lu of %lu, exits %lu, %lu for kicks\n", what, *count - start, n,
		       exits, kicks);
	ksft_test_result(ok && *count - start == n, "%s: each exactly once\n", what);
	if (excl_stock())
		ksft_test_result_skip("%s: no exit - not exclusive\n", what);
	else
		ksft_test_result(c1.attached && exits <= kicks, "%s: no exit but kicks\n",
				 what);
}

static void levels(uint64_t n)
{
	struct excl_counters c0, c1;
	uint64_t i, end, stuck = 0;
	bool ok = true;

	excl_counters_read(ev.vcpus[0], &c0);
	for (i = 1; ok && i <= n; i++) {
		kvm_irq_line(ev.vm, LEVEL_PIN, 1);
		ok = wait_for(&host->level, i);
		kvm_irq_line(ev.vm, LEVEL_PIN, 0);
		host->line_low = i;
		end = excl_now_ns() + 5000000000ULL;
		while (remote_irr(LEVEL_PIN) && excl_now_ns() < end)
			cpu_relax();
		if (remote_irr(LEVEL_PIN)) {
			stuck++;
			ok = false;
		}
	}
	usleep(20000);
	ksft_print_msg("level: %lu of %lu, remote IRR stuck %lu times\n", host->level, n,
		       stuck);
	ksft_test_result(ok && host->level == n, "level: each exactly once\n");
	ksft_test_result(!stuck, "level: remote IRR never sticks\n");

	/* The line stays high: EOI brings the next one. */
	host->hold = 1;
	n = host->level;
	kvm_irq_line(ev.vm, LEVEL_PIN, 1);
	end = excl_now_ns() + 20000000000ULL;
	while (host->level < n + 3 && excl_now_ns() < end)
		cpu_relax();
	kvm_irq_line(ev.vm, LEVEL_PIN, 0);
	host->hold = 1;
	usleep(50000);
	ksft_print_msg("level held: %lu more\n", host->level - n);
	ok = host->level >= n + 3 && !remote_irr(LEVEL_PIN);
	n = host->level;
	usleep(50000);
	ksft_test_result(ok && host->level == n, "level: again while high, and no more\n");
	excl_counters_read(ev.vcpus[0], &c1);
	excl_counters_delta("level", &c0, &c1);
	if (excl_stock())
		ksft_test_result_skip("level: attached - not exclusive\n");
	else
		ksft_test_result(c1.attached, "level: attached\n");
}

static bool rebound;

/* In the handler's exit the VM gets its CPU. */
static bool on_io(struct excl_vm *vm, struct kvm_vcpu *vcpu)
{
	if (vcpu->run->exit_reason != KVM_EXIT_IO || vcpu->run->io.port != PORT)
		return false;
	vm->ctx = excl_open();
	rebound = !excl_claim_first(vm->ctx, 1) && !excl_bind(vm->ctx, vm->vm->fd, 0);
	kvm_irq_line(vm->vm, LEVEL_PIN, 0);
	host->out = 0;
	host->line_low = host->level;
	return true;
}

static void level_bound_in_handler(void)
{
	uint64_t n = host->level;
	bool ok;

	if (excl_stock()) {
		ksft_test_result_skip("level: bound in the handler - not exclusive\n");
		return;
	}
	close(ev.ctx);
	ev.ctx = -1;
	ok = excl_wait_free(1);
	host->line_low = n;
	host->hold = 0;
	host->out = 1;
	kvm_irq_line(ev.vm, LEVEL_PIN, 1);
	ok = ok && wait_for(&host->level, n + 1) && wait_for(&host->line_low, n + 1) && rebound;
	/* Again, if its EOI has been seen. */
	usleep(20000);
	kvm_irq_line(ev.vm, LEVEL_PIN, 1);
	ok = ok && wait_for(&host->level, n + 2);
	kvm_irq_line(ev.vm, LEVEL_PIN, 0);
	host->line_low = n + 2;
	ksft_test_result(ok, "level: bound in the handler, the EOI is seen\n");
}

int main(int argc, char **argv)
{
	struct kvm_irqfd irqfd = { .gsi = IRQFD_GSI };
	struct kvm_irq_routing *routing;
	uint64_t n;

	ksft_print_header();
	excl_require(1);
	n = excl_arg(argc, argv, 1, 1000);
	ksft_set_plan(12);

	ev.on_exit = on_io;
	excl_vm_create(&ev, 1, guest_code);
	vm_install_exception_handler(ev.vm, MSI_VECTOR, on_msi);
	vm_install_exception_handler(ev.vm, EDGE_VECTOR, on_edge);
	vm_install_exception_handler(ev.vm, LEVEL_VECTOR, on_level);
	routing = excl_routing_create();
	excl_routing_add_ioapic(routing, EDGE_PIN, EDGE_PIN);
	excl_routing_add_ioapic(routing, LEVEL_PIN, LEVEL_PIN);
	excl_routing_add_msi(routing, IRQFD_GSI, 0, MSI_VECTOR);
	kvm_gsi_routing_write(ev.vm, routing);
	excl_ioapic_program(ev.vm, EDGE_PIN, EDGE_VECTOR, false);
	excl_ioapic_program(ev.vm, LEVEL_PIN, LEVEL_VECTOR, true);
	eventfd_fd = eventfd(0, EFD_CLOEXEC);
	irqfd.fd = eventfd_fd;
	vm_ioctl(ev.vm, KVM_IRQFD, &irqfd);

	host = excl_shared(&ev, g);
	excl_vm_start(&ev);
	if (!excl_wait(&ev, host->ready, 20))
		ksft_exit_fail_msg("the guest does not start\n");

	edges("irqfd", send_irqfd, &host->msi, n);
	edges("KVM_SIGNAL_MSI", send_msi, &host->msi, n);
	edges("I/O APIC edge", send_edge, &host->edge, n);
	levels(n);
	level_bound_in_handler();

	host->stop = 1;
	ksft_test_result(excl_vm_join(&ev, 10), "the guest ends\n");
	excl_vm_destroy(&ev);
	ksft_finished();
}
