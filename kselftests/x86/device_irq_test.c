// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that an assigned device's interrupts reach an exclusive vCPU with no exit, each
 * exactly once, and only it.
 *
 * The device is QEMU's edu, which the test fires by hand and counts in the guest. Where
 * the guest's message asks for something that a remapping entry cannot say, the host
 * takes the interrupt and injects it, and the status tells why.
 *
 *   device_irq_test [INTERRUPTS [ROUNDS]]
 *
 * INTERRUPTS while everything about them is moved, 2000 by default; ROUNDS of kill -9 of
 * the VMM while the device fires, 10 by default.
 */
#include <poll.h>
#include <sys/wait.h>

#include "device.h"
#include "guest.h"

#define GSI		24
#define NR_VCPUS	2
#define VECTOR_A	0x91
#define VECTOR_B	0xe3
#define VECTOR_LEVEL	0xb1
#define PIN		10

/* The address of an MSI: to an APIC ID, or to a set of a cluster (x2APIC, logical). */
#define TO(apicid)	(0xfee00000u | (apicid) << 12)
#define TO_SET(set)	(0xfee00004u | (set) << 12)
#define HINT		8u
#define LOWEST		0x100u
#define NMI		0x400u
#define LEVEL		0x8000u

static struct {
	uint64_t ready, stop;
	uint64_t a[NR_VCPUS], b[NR_VCPUS];
	uint64_t level, line_low;	/* the latter by the host */
	uint64_t spins[NR_VCPUS];
	uint64_t in_handler_us;		/* by the host */
	struct guest_cpu cpus[NR_VCPUS];
} g;

static volatile typeof(g) *const v = &g;

static void on_a(struct ex_regs *regs)
{
	v->a[guest_index()]++;
	if (v->in_handler_us)
		guest_spin_us(v->in_handler_us);
	guest_eoi();
}

static void on_b(struct ex_regs *regs)
{
	v->b[guest_index()]++;
	guest_eoi();
}

/* The host is the driver: it has the device lower the line. */
static void on_level(struct ex_regs *regs)
{
	uint64_t n = v->level + 1;

	v->level = n;
	while (v->line_low < n)
		cpu_relax();
	guest_eoi();
}

static void guest_code(uint64_t index)
{
	guest_set_index(g.cpus, index);
	guest_apic_init();
	guest_sti();
	__atomic_fetch_add(&g.ready, 1, __ATOMIC_SEQ_CST);
	while (!v->stop)
		v->spins[index]++;
	GUEST_DONE();
}

static struct excl_device dev;
static struct excl_vm ev;
static volatile typeof(g) *host;

static uint64_t total(void)
{
	return host->a[0] + host->a[1] + host->b[0] + host->b[1];
}

static bool wait_total(uint64_t want)
{
	if (excl_spin(&ev, total() == want))
		return true;
	ksft_print_msg("%lu instead of %lu interrupts\n", total(), want);
	return false;
}

static bool go_on(struct excl_vm *vm, struct kvm_vcpu *vcpu)
{
	return true;
}

static void create(void)
{
	memset(&ev, 0, sizeof(ev));
	ev.on_signal = go_on;
	excl_vm_create(&ev, NR_VCPUS, guest_code);
	vm_install_exception_handler(ev.vm, VECTOR_A, on_a);
	vm_install_exception_handler(ev.vm, VECTOR_B, on_b);
	vm_install_exception_handler(ev.vm, VECTOR_LEVEL, on_level);
	excl_device_route(ev.vm, GSI, TO(0), VECTOR_A);
	excl_device_irqfd(&dev, ev.vm, GSI, true);
	host = excl_shared(&ev, g);
}

static void start(void)
{
	excl_vm_start(&ev);
	if (!excl_wait(&ev, host->ready == NR_VCPUS, 20))
		ksft_exit_fail_msg("the guest does not start\n");
}

static bool entry_is_direct(struct kvm_excl_get_device_irq *s)
{
	return !excl_device_status(ev.ctx, s) && !s->why;
}

/* Direct to this vCPU with this vector, or (vCPU -1) the host's because of @why. */
static bool status_is(int vcpu, unsigned int vector, unsigned int why)
{
	struct kvm_excl_get_device_irq s;

	if (excl_device_status(ev.ctx, &s)) {
		ksft_print_msg("GET_DEVICE_IRQ: %s\n", strerror(errno));
		return false;
	}
	if (s.vcpu == vcpu && s.vector == vector && s.why == why &&
	    s.host_irq == (unsigned int)excl_device_host_irq(&dev))
		return true;
	ksft_print_msg("vcpu %d vector %#x why %u host irq %u instead of %d, %#x, %u, %d\n",
		       s.vcpu, s.vector, s.why, s.host_irq, vcpu, vector, why,
		       excl_device_host_irq(&dev));
	return false;
}

/* The guest's code and data are mapped when they are used for the first time. */
static void warm_up(void)
{
	uint64_t start = total(), i;
	bool ok = true;

	for (i = 1; ok && i <= 4; i++) {
		excl_device_route(ev.vm, GSI, TO(i / 2 % 2), i % 2 ? VECTOR_A : VECTOR_B);
		excl_device_fire(&dev);
		ok = wait_total(start + i);
	}
	excl_device_route(ev.vm, GSI, TO(0), VECTOR_A);
	if (!ok)
		ksft_exit_fail_msg("no interrupt arrives\n");
}

static void fire(void *data)
{
	excl_device_fire(data);
}

/* Fire, and see each arrive where it has to, with no exit and unseen by the host. */
static void direct(const char *what, int vcpu, volatile uint64_t *count, uint64_t n)
{
	int irq = excl_device_host_irq(&dev);
	uint64_t start = total(), before = *count, taken;
	struct excl_sends sends;

	taken = excl_device_host_count(irq);
	sends = excl_send_each(&ev, vcpu, what, fire, &dev, count, n);
	taken = excl_device_host_count(irq) - taken;
	ksft_print_msg("%s: taken by the host %lu\n", what, taken);
	ksft_test_result(sends.arrived && *count - before == n && total() - start == n,
			 "%s: each exactly once\n", what);
	ksft_test_result(sends.attached && sends.exits <= sends.kicks && !taken,
			 "%s: no exit but kicks, and none in the host\n", what);
}

/*
 * A device may raise its vector at any time, so one that is in service cannot be put back:
 * a kick in the handler makes its EOI exit, and no more than that.
 */
static void kicked_in_handler(uint64_t n)
{
	uint64_t start = total(), i, exits, kicks;
	struct excl_counters c0, c1;
	bool ok = true;

	host->in_handler_us = 2000;
	excl_counters_read(ev.vcpus[0], &c0);
	for (i = 1; ok && i <= n; i++) {
		excl_device_fire(&dev);
		ok = wait_total(start + i);
		excl_vm_signal(&ev, 0);
		usleep(4000);
	}
	excl_counters_read(ev.vcpus[0], &c1);
	host->in_handler_us = 0;
	exits = c1.exits - c0.exits;
	kicks = excl_kicks(&c0, &c1);
	ksft_print_msg("kicked in the handler: %lu of %lu, exits %lu, kicks %lu, detached %lu\n",
		       total() - start, n, exits, kicks, c1.detaches - c0.detaches);
	ksft_test_result(ok && total() - start == n && c1.attached &&
			 exits > kicks && exits <= excl_kick_exits(&c0, &c1),
			 "kicked in the handler: exactly once, and its EOI exits\n");
}

static void refused(const char *what, uint32_t address, uint32_t data, unsigned int why,
		    uint64_t arrive)
{
	uint64_t start = total();
	bool ok;

	excl_device_route(ev.vm, GSI, address, data);
	ok = status_is(-1, 0, why);
	if (arrive != UINT64_MAX) {
		excl_device_fire(&dev);
		ok = wait_total(start + arrive) && ok;
		usleep(20000);
		ok = total() == start + arrive && ok;
	}
	ksft_test_result(ok, "%s: the host's, and the reason is told\n", what);
}

static void messages(void)
{
	struct kvm_excl_get_device_irq s;
	bool ok;

	refused("vector 31", TO(0), 31, KVM_EXCL_IRQ_LOW_VECTOR, UINT64_MAX);
	refused("an NMI", TO(0), NMI | VECTOR_A, KVM_EXCL_IRQ_NOT_FIXED, UINT64_MAX);
	refused("a level", TO(0), LEVEL | VECTOR_A, KVM_EXCL_IRQ_NOT_FIXED, UINT64_MAX);
	refused("nobody", TO(77), VECTOR_A, KVM_EXCL_IRQ_MANY, 0);
	refused("both vCPUs", TO_SET(3), VECTOR_A, KVM_EXCL_IRQ_MANY, 2);
	refused("everybody", TO(255), VECTOR_B, KVM_EXCL_IRQ_MANY, 2);

	excl_device_route(ev.vm, GSI, TO_SET(2), VECTOR_B);
	ksft_test_result(status_is(1, VECTOR_B, 0), "a set of one is direct\n");
	direct("a set of one", 1, &host->b[1], 10);
	excl_device_route(ev.vm, GSI, TO_SET(3) | HINT, LOWEST | VECTOR_A);
	/* Which one is KVM's choice, by the vector. */
	ok = !excl_device_status(ev.ctx, &s) && (s.vcpu == 0 || s.vcpu == 1);
	ksft_test_result(ok && status_is(s.vcpu, VECTOR_A, 0),
			 "any of both is direct to one of them\n");
	direct("any of both", s.vcpu, &host->a[s.vcpu], 10);
}

/* What the host does to its own interrupt meanwhile is for later. */
static void host_affinity(void)
{
	int irq = excl_device_host_irq(&dev), r = 0;
	static const char *const lists[] = { "0", "0-3", "3" };
	char path[64];
	unsigned int i;

	excl_device_route(ev.vm, GSI, TO(1), VECTOR_B);
	snprintf(path, sizeof(path), "/proc/irq/%d/smp_affinity_list", irq);
	for (i = 0; i < ARRAY_SIZE(lists); i++)
		r |= excl_write_file(path, lists[i]);
	direct("after writes to smp_affinity_list", 1, &host->b[1], 10);
	ksft_test_result(!r, "smp_affinity_list takes control CPUs\n");

	r = excl_write_file("/sys/devices/system/cpu/cpu3/online", "0");
	direct("after its host CPU is offline", 1, &host->b[1], 10);
	r |= excl_write_file("/sys/devices/system/cpu/cpu3/online", "1");
	ksft_test_result(!r && status_is(1, VECTOR_B, 0), "hotplug of the host's CPU\n");
}

static void unbound(void)
{
	struct kvm_excl_get_device_irq s;
	uint64_t start = total();
	int irq = excl_device_host_irq(&dev);
	uint64_t taken = excl_device_host_count(irq);
	bool ok;

	excl_unbind(ev.ctx);
	ok = excl_device_status(ev.ctx, &s) && errno == ENXIO;
	excl_device_fire(&dev);
	ok = wait_total(start + 1) && ok;
	ksft_test_result(ok && excl_device_host_count(irq) == taken + 1,
			 "unbound: the host takes it\n");
	TEST_ASSERT(!excl_bind(ev.ctx, ev.vm->fd, 0), "bind: %s", strerror(errno));
	/* Each vCPU takes its CPU at its next entry. */
	ok = excl_wait(&ev, entry_is_direct(&s), 10);
	ksft_test_result(ok, "bound: direct again\n");
	direct("bound again", 1, &host->b[1], 10);
}

static void disconnected(void)
{
	struct kvm_excl_get_device_irq s;
	uint64_t start = total();
	bool ok;

	excl_device_irqfd(&dev, ev.vm, GSI, false);
	ok = excl_device_status(ev.ctx, &s) && errno == ENOENT;
	/* It waits in the eventfd, where more would be one. */
	excl_device_fire(&dev);
	usleep(20000);
	ok = total() == start && ok;
	excl_device_irqfd(&dev, ev.vm, GSI, true);
	ok = wait_total(start + 1) && ok;
	ksft_test_result(ok, "masked and unmasked: what came meanwhile arrives\n");
	direct("after the mask", 1, &host->b[1], 10);
}

/* Everything that moves the interrupt or takes the vCPU away, while it is fired. */
static volatile bool torture_stop;
static uint64_t moves, kicks, bindings, writes;

static void *torture(void *arg)
{
	unsigned int seed = 1;
	char path[64];

	snprintf(path, sizeof(path), "/proc/irq/%d/smp_affinity_list",
		 excl_device_host_irq(&dev));
	while (!torture_stop) {
		switch (rand_r(&seed) % 16) {
		case 0 ... 8:
			excl_device_route(ev.vm, GSI, TO(rand_r(&seed) % NR_VCPUS),
					  rand_r(&seed) % 2 ? VECTOR_A : VECTOR_B);
			moves++;
			break;
		case 9 ... 12:
			excl_vm_signal(&ev, rand_r(&seed) % NR_VCPUS);
			kicks++;
			break;
		case 13 ... 14:
			excl_write_file(path, rand_r(&seed) % 2 ? "0" : "3");
			writes++;
			break;
		case 15:
			excl_unbind(ev.ctx);
			usleep(rand_r(&seed) % 2000);
			TEST_ASSERT(!excl_bind(ev.ctx, ev.vm->fd, 0), "bind: %s",
				    strerror(errno));
			bindings++;
			break;
		}
		usleep(rand_r(&seed) % 300);
	}
	return NULL;
}

/* For how long the vCPUs have had their CPUs to themselves, all of them together, in ns. */
static uint64_t attached_ns(void)
{
	struct excl_counters c;
	uint64_t ns = 0;
	int i;

	for (i = 0; i < NR_VCPUS; i++) {
		excl_counters_read(ev.vcpus[i], &c);
		ns += c.attached_ns;
	}
	return ns;
}

/* How the entry was at some interrupts, and what became of those. */
static struct {
	uint64_t looked, was_direct, stayed, taken;
} seen;

/* Fire once. While nobody wrote an entry that is direct, the host gets nothing. */
static bool fire_and_look(int irq, uint64_t want)
{
	struct kvm_excl_get_device_irq before, after;
	bool direct = entry_is_direct(&before), ok;
	uint64_t count = excl_device_host_count(irq);

	excl_device_fire(&dev);
	ok = wait_total(want);
	count = excl_device_host_count(irq) - count;
	seen.looked++;
	seen.was_direct += direct;
	if (direct && entry_is_direct(&after) && after.updates == before.updates) {
		seen.stayed++;
		seen.taken += count;
	}
	return ok;
}

static void under_torture(uint64_t n)
{
	int irq = excl_device_host_irq(&dev);
	uint64_t start = total(), i, taken = excl_device_host_count(irq);
	uint64_t attached = attached_ns(), since = excl_now_ns();
	struct kvm_excl_get_device_irq s;
	unsigned int seed = 2;
	pthread_t thread;
	bool ok = true;

	pthread_create(&thread, NULL, torture, NULL);
	for (i = 1; ok && i <= n; i++) {
		/* Not each time: looking waits for a binding to be complete. */
		if (i % 8) {
			excl_device_fire(&dev);
			ok = wait_total(start + i);
		} else {
			ok = fire_and_look(irq, start + i);
		}
		if (!(i % 10000))
			ksft_print_msg("%lu of %lu moved about\n", i, n);
		/* Or the other thread would hardly come to do anything. */
		usleep(rand_r(&seed) % 200);
	}
	torture_stop = true;
	pthread_join(thread, NULL);
	ksft_print_msg("the vCPUs had their CPUs for %lu%% of the time\n",
		       100 * (attached_ns() - attached) / NR_VCPUS / (excl_now_ns() - since));
	usleep(50000);
	taken = excl_device_host_count(irq) - taken;
	ksft_print_msg("%lu of %lu while %lu new routes, %lu signals, %lu bindings, %lu affinities; %lu through the host\n",
		       total() - start, n, moves, kicks, bindings, writes, taken);
	ksft_print_msg("%lu looked at: %lu with a direct entry, which stayed so for %lu, %lu of them through the host\n",
		       seen.looked, seen.was_direct, seen.stayed, seen.taken);
	ksft_test_result(ok && total() - start == n, "moved about: each exactly once\n");
	ksft_test_result(moves && kicks && bindings && writes && seen.stayed && !seen.taken,
			 "moved about: all that moves it has run, and what is direct is not the host's\n");
	excl_wait(&ev, entry_is_direct(&s), 10);
}

/* INTx of the same device: level-triggered, so by way of the host, with each EOI seen. */
static void intx(uint64_t n)
{
	struct kvm_irq_routing *routing = excl_routing_create();
	struct excl_counters c;
	bool ok = true;
	uint64_t i;

	excl_routing_add_ioapic(routing, PIN, PIN);
	kvm_gsi_routing_write(ev.vm, routing);
	excl_ioapic_program(ev.vm, PIN, VECTOR_LEVEL, true);
	excl_device_intx(&dev, ev.vm, PIN);
	for (i = 1; ok && i <= n; i++) {
		excl_device_fire(&dev);
		ok = excl_spin(&ev, host->level == i);
		excl_device_lower(&dev);
		host->line_low = i;
	}
	usleep(50000);
	excl_counters_read(ev.vcpus[0], &c);
	ksft_print_msg("INTx: %lu of %lu\n", host->level, n);
	ksft_test_result(ok && host->level == n && c.attached,
			 "INTx: each exactly once, and the vCPU stays attached\n");
}

/* Hot-unplug of the device while the VM uses it waits until the VMM lets go. */
static void unplugged(void)
{
	struct pollfd removed = { .events = POLLIN };
	FILE *f;

	excl_device_open(&dev);
	create();
	start();
	warm_up();
	f = excl_device_remove(&dev);
	removed.fd = fileno(f);
	ksft_test_result(!poll(&removed, 1, 300), "an unplug waits for the VMM\n");
	direct("being unplugged", 0, &host->a[0], 10);
	host->stop = 1;
	ksft_test_result(excl_vm_join(&ev, 10), "the VM ends\n");
	excl_vm_destroy(&ev);
	excl_device_close(&dev);
	ksft_test_result(!pclose(f) && !excl_device_present(), "then the device goes\n");
	excl_device_rescan();
	ksft_test_result(excl_device_present(), "and comes back\n");
}

/*
 * kill -9 of a VMM whose device is firing. In odd rounds the device stays open in this
 * process, and goes on firing when the VMM is gone.
 */
static bool kill_round(unsigned int round, unsigned int *seed)
{
	int fds[2], status = 0, i;
	pid_t pid, firing = 0;
	char ready = 0;

	if (round % 2) {
		excl_device_open(&dev);
		firing = fork();
		if (!firing)
			for (;;)
				excl_device_fire(&dev);
	}
	TEST_ASSERT(!pipe(fds), "pipe");
	pid = fork();
	if (!pid) {
		if (!(round % 2))
			excl_device_open(&dev);
		create();
		start();
		ready = 'y';
		TEST_ASSERT(write(fds[1], &ready, 1) == 1, "write");
		for (;;)
			excl_device_fire(&dev);
	}
	close(fds[1]);
	TEST_ASSERT(read(fds[0], &ready, 1) >= 0, "read");
	close(fds[0]);
	usleep(rand_r(seed) % 30000);
	kill(pid, SIGKILL);
	for (i = 0; i < 2000 && !waitpid(pid, &status, WNOHANG); i++)
		usleep(10000);
	if (firing) {
		usleep(rand_r(seed) % 5000);
		kill(firing, SIGKILL);
		waitpid(firing, NULL, 0);
		excl_device_close(&dev);
	}
	return excl_wait_free(NR_VCPUS) && ready == 'y' && WIFSIGNALED(status) &&
	       WTERMSIG(status) == SIGKILL;
}

/* Vectors that the host did not expect, since @from lines of its log. */
static unsigned int stray(unsigned int *lines)
{
	char line[1024];
	unsigned int n = 0, nr = 0;
	FILE *f = popen("dmesg", "r");

	TEST_ASSERT(f, "dmesg");
	while (fgets(line, sizeof(line), f)) {
		if (nr++ < *lines)
			continue;
		if (strstr(line, "No irq handler for vector") ||
		    strstr(line, "nobody cared") || strstr(line, "DMAR: DRHD") ||
		    strstr(line, "INTR-REMAP") || strstr(line, "AMD-Vi: Event")) {
			ksft_print_msg("%s", line);
			n++;
		}
	}
	pclose(f);
	*lines = nr;
	return n;
}

int main(int argc, char **argv)
{
	unsigned int lines = 0, seed = 1;
	uint64_t n, few, rounds, i, ok;

	ksft_print_header();
	excl_require(NR_VCPUS);
	excl_device_require();
	if (excl_stock())
		ksft_exit_skip("about exclusive mode alone\n");
	n = excl_arg(argc, argv, 1, 2000);
	few = n < 2000 ? n : 2000;
	rounds = excl_arg(argc, argv, 2, 10);
	ksft_set_plan(47);
	stray(&lines);

	excl_device_open(&dev);
	create();
	start();
	ksft_test_result(status_is(0, VECTOR_A, 0), "direct as soon as the vCPU has its CPU\n");
	warm_up();
	direct("to vCPU 0", 0, &host->a[0], few);
	excl_device_route(ev.vm, GSI, TO(1), VECTOR_B);
	ksft_test_result(status_is(1, VECTOR_B, 0), "another vCPU and vector\n");
	direct("to vCPU 1", 1, &host->b[1], few);
	excl_device_route(ev.vm, GSI, TO(0), VECTOR_A);
	kicked_in_handler(50);
	messages();
	host_affinity();
	unbound();
	disconnected();
	under_torture(n);
	excl_device_irqfd(&dev, ev.vm, GSI, false);
	intx(100);
	host->stop = 1;
	ksft_test_result(excl_vm_join(&ev, 10), "the guest ends\n");
	excl_vm_destroy(&ev);
	excl_device_close(&dev);

	for (i = 0, ok = 0; i < rounds; i++) {
		ok += kill_round(i, &seed);
		if (!((i + 1) % 20))
			ksft_print_msg("%lu of %lu VMMs killed so far\n", ok, i + 1);
	}
	ksft_print_msg("%lu of %lu VMMs killed\n", ok, rounds);
	ksft_test_result(ok == rounds, "kill -9 while the device fires\n");
	unplugged();

	excl_device_open(&dev);
	create();
	start();
	warm_up();
	direct("the next VM", 0, &host->a[0], 10);
	host->stop = 1;
	ksft_test_result(excl_vm_join(&ev, 10), "the next VM ends\n");
	excl_vm_destroy(&ev);
	excl_device_close(&dev);
	ksft_test_result(!stray(&lines), "nothing unexpected in the host's log\n");
	ksft_finished();
}
