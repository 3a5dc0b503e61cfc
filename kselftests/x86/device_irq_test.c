// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that an assigned device's interrupts reach an exclusive vCPU with no exit, each
 * exactly once, and only it.
 *
 * The device is QEMU's edu, which the test fires by hand and counts in the guest. Where
 * the guest's message asks for something that a remapping entry cannot say, the host
 * takes the interrupt and injects it, and the status tells why.
 *
 * Where only one is under way, or each of several has a vector and a vCPU of its own, none may
 * merge with another, and one that does not come is lost. That no more comes is said when what
 * KVM and VFIO have put off is done, and each vCPU has taken what was sent to it.
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
#include "harness.h"

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
	uint64_t left[NR_VCPUS];	/* handlers that are about to write their EOI */
	uint64_t hold;			/* they do not go on to that; by the host */
	struct guest_cpu cpus[NR_VCPUS];
} g;

static volatile typeof(g) *const v = &g;

/* How many interrupts while they are moved about, otherwise, and how many VMMs are killed. */
static uint64_t nr_moved, nr_sent, nr_killed;

/* Nothing else is taken meanwhile: interrupts are off in a handler. */
static void finish(void)
{
	while (v->hold)
		cpu_relax();
	v->left[guest_index()]++;
	guest_eoi();
}

static void on_a(struct ex_regs *regs)
{
	v->a[guest_index()]++;
	finish();
}

static void on_b(struct ex_regs *regs)
{
	v->b[guest_index()]++;
	finish();
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

/**
 * struct assigned - a running VM and the device that is assigned to it
 * @dev: the device, whose MSI goes to vCPU 0 with VECTOR_A
 * @ev: the VM
 * @g: what it shares with the host
 * @log_lines: how much of the host's log there was before
 */
struct assigned {
	struct excl_device dev;
	struct excl_vm ev;
	volatile typeof(g) *g;
	unsigned int log_lines;
};

static uint64_t total(struct assigned *t)
{
	return t->g->a[0] + t->g->a[1] + t->g->b[0] + t->g->b[1];
}

static bool wait_total(struct assigned *t, uint64_t want)
{
	if (excl_spin(&t->ev, total(t) == want))
		return true;
	ksft_print_msg("%lu instead of %lu interrupts\n", total(t), want);
	return false;
}

/* Wait until no handler is to look at @hold any more. */
static bool wait_left(struct assigned *t)
{
	return excl_spin(&t->ev, t->g->left[0] + t->g->left[1] == total(t));
}

/*
 * Wait until each vCPU has taken all that was sent to it. The device sends, and the host from
 * any CPU, so excl_vm_barrier() does not come behind that by the order of IPIs. But it has been
 * sent, and leaving KVM_RUN, with which the barrier begins, takes longer than an IPI.
 */
static bool all_taken(struct assigned *t)
{
	bool ok = true;
	int i;

	excl_device_read_back(&t->dev);
	for (i = 0; i < NR_VCPUS; i++)
		ok = excl_vm_barrier(&t->ev, i) && ok;
	return ok;
}

/*
 * The same for what came by way of the host, which may have put it off to a work item: a
 * message to all CPUs, INTx, and what an eventfd held when it was connected. The device is not
 * connected any more afterwards.
 */
static bool all_injected(struct assigned *t, uint32_t gsi)
{
	excl_device_stop(&t->dev, t->ev.vm, gsi);
	return all_taken(t);
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

static bool go_on(struct excl_vm *vm, struct kvm_vcpu *vcpu)
{
	return true;
}

/* A VM for the device, which is open. */
static void start(struct assigned *t)
{
	memset(&t->ev, 0, sizeof(t->ev));
	t->ev.on_signal = go_on;
	excl_vm_create(&t->ev, NR_VCPUS, guest_code);
	vm_install_exception_handler(t->ev.vm, VECTOR_A, on_a);
	vm_install_exception_handler(t->ev.vm, VECTOR_B, on_b);
	vm_install_exception_handler(t->ev.vm, VECTOR_LEVEL, on_level);
	excl_device_route(t->ev.vm, GSI, TO(0), VECTOR_A);
	excl_device_irqfd(&t->dev, t->ev.vm, GSI, true);
	t->g = excl_shared(&t->ev, g);
	excl_vm_start(&t->ev);
	TEST_ASSERT(excl_wait(&t->ev, t->g->ready == NR_VCPUS, 20), "the guest does not start");
}

static bool end(struct assigned *t)
{
	bool ended;

	t->g->stop = 1;
	ended = excl_vm_join(&t->ev, 10);
	excl_vm_destroy(&t->ev);
	excl_device_close(&t->dev);
	return ended;
}

/* The guest's code and data are mapped when they are used for the first time. */
static bool warm_up(struct assigned *t)
{
	uint64_t start = total(t), i;
	bool ok = true;

	for (i = 1; ok && i <= 4; i++) {
		excl_device_route(t->ev.vm, GSI, TO(i / 2 % 2), i % 2 ? VECTOR_A : VECTOR_B);
		excl_device_fire(&t->dev);
		ok = wait_total(t, start + i);
	}
	excl_device_route(t->ev.vm, GSI, TO(0), VECTOR_A);
	return ok && wait_left(t);
}

static bool entry_is_direct(struct assigned *t, struct kvm_excl_get_device_irq *s)
{
	return !excl_device_status(t->ev.ctx, s) && !s->why;
}

/* Direct to this vCPU with this vector, or (vCPU -1) the host's because of @why. */
static bool status_is(struct assigned *t, int vcpu, unsigned int vector, unsigned int why)
{
	unsigned int irq = excl_device_host_irq(&t->dev);
	struct kvm_excl_get_device_irq s;

	if (excl_device_status(t->ev.ctx, &s)) {
		ksft_print_msg("GET_DEVICE_IRQ: %s\n", strerror(errno));
		return false;
	}
	if (s.vcpu == vcpu && s.vector == vector && s.why == why && s.host_irq == irq)
		return true;
	ksft_print_msg("vcpu %d vector %#x why %u host irq %u instead of %d, %#x, %u, %u\n",
		       s.vcpu, s.vector, s.why, s.host_irq, vcpu, vector, why, irq);
	return false;
}

static void fire(void *data)
{
	excl_device_fire(data);
}

/* Fire with this message, and do not wait. The IOMMU has seen it before the next one is set. */
static void fire_at(struct assigned *t, int vcpu, uint8_t vector)
{
	excl_device_route(t->ev.vm, GSI, TO(vcpu), vector);
	excl_device_fire(&t->dev);
	excl_device_read_back(&t->dev);
}

/* Fire, and see each arrive once where it has to, with no exit and unseen by the host. */
static void direct(struct __test_metadata *_metadata, struct assigned *t, int vcpu,
		   volatile uint64_t *count, uint64_t n)
{
	int irq = excl_device_host_irq(&t->dev);
	uint64_t start = total(t), before = *count, taken;
	struct kvm_excl_get_vcpu_status status;
	struct excl_sends sends;

	taken = excl_device_host_count(irq);
	sends = excl_send_each(&t->ev, vcpu, "fired", fire, &t->dev, count, n);
	EXPECT_TRUE(sends.arrived);
	EXPECT_TRUE(excl_wait_attached(t->ev.ctx, vcpu, &status));
	EXPECT_LE(sends.exits, sends.kicks);
	EXPECT_TRUE(all_taken(t));
	EXPECT_EQ(n, *count - before);
	EXPECT_EQ(n, total(t) - start);
	EXPECT_EQ(taken, excl_device_host_count(irq));
}

/* Of a VM that has its CPUs: its one MSI. */
FIXTURE(msi) {
	struct assigned t;
	bool was_direct;
};

FIXTURE_SETUP(msi)
{
	struct assigned *t = &self->t;

	stray(&t->log_lines);
	excl_device_open(&t->dev);
	start(t);
	self->was_direct = status_is(t, 0, VECTOR_A, 0);
	ASSERT_TRUE(warm_up(t));
}

FIXTURE_TEARDOWN(msi)
{
	EXPECT_TRUE(end(&self->t));
	EXPECT_EQ(0, stray(&self->t.log_lines));
}

TEST_F_TIMEOUT(msi, is_direct_as_soon_as_the_vcpu_has_its_cpu, EXCL_CASE_S)
{
	EXPECT_TRUE(self->was_direct);
}

TEST_F_TIMEOUT(msi, arrives_once_with_no_exit, EXCL_CASE_S)
{
	direct(_metadata, &self->t, 0, &self->t.g->a[0], nr_sent);
}

TEST_F_TIMEOUT(msi, goes_to_another_vcpu_with_another_vector, EXCL_CASE_S)
{
	struct assigned *t = &self->t;

	excl_device_route(t->ev.vm, GSI, TO(1), VECTOR_B);
	EXPECT_TRUE(status_is(t, 1, VECTOR_B, 0));
	direct(_metadata, t, 1, &t->g->b[1], nr_sent);
}

/*
 * A device may raise its vector at any time, so one that is in service cannot be put back:
 * a kick in the handler makes its EOI exit, and no more than that.
 */
TEST_F_TIMEOUT(msi, exits_at_its_eoi_when_its_handler_is_kicked, EXCL_CASE_S)
{
	struct assigned *t = &self->t;
	uint64_t start = total(t), i, exits, kicks, interrupted, n = 50;
	struct kvm_excl_get_vcpu_status status;
	struct excl_counters c0, c1;

	ASSERT_TRUE(excl_wait_attached(t->ev.ctx, 0, &status));
	excl_counters_read(t->ev.vcpus[0], &c0);
	for (i = 1; i <= n; i++) {
		t->g->hold = 1;
		excl_device_fire(&t->dev);
		ASSERT_TRUE(wait_total(t, start + i));
		/* Once: a second kick may find the vCPU in the host, and make no exit. */
		interrupted = t->ev.threads[0].interrupted;
		excl_vm_signal(&t->ev, 0);
		ASSERT_TRUE(excl_wait(&t->ev, t->ev.threads[0].interrupted != interrupted, 20));
		t->g->hold = 0;
		ASSERT_TRUE(wait_left(t));
		/* The next one would make an exit of its own if the vCPU were not. */
		ASSERT_TRUE(excl_wait_attached(t->ev.ctx, 0, &status));
	}
	excl_counters_read(t->ev.vcpus[0], &c1);
	exits = c1.exits - c0.exits;
	kicks = excl_kicks(&c0, &c1);
	ksft_print_msg("exits %lu, kicks %lu, detached %lu\n", exits, kicks,
		       c1.detaches - c0.detaches);
	EXPECT_GT(exits, kicks);
	EXPECT_LE(exits, excl_kick_exits(&c0, &c1));
	EXPECT_TRUE(all_taken(t));
	EXPECT_EQ(n, total(t) - start);
}

TEST_F_TIMEOUT(msi, to_a_set_of_one_is_direct, EXCL_CASE_S)
{
	struct assigned *t = &self->t;

	excl_device_route(t->ev.vm, GSI, TO_SET(2), VECTOR_B);
	EXPECT_TRUE(status_is(t, 1, VECTOR_B, 0));
	direct(_metadata, t, 1, &t->g->b[1], 10);
}

/* Which one is KVM's choice, by the vector. */
TEST_F_TIMEOUT(msi, to_any_of_both_is_direct_to_one, EXCL_CASE_S)
{
	struct kvm_excl_get_device_irq s;
	struct assigned *t = &self->t;

	excl_device_route(t->ev.vm, GSI, TO_SET(3) | HINT, LOWEST | VECTOR_A);
	ASSERT_EQ(0, excl_device_status(t->ev.ctx, &s));
	ASSERT_TRUE(s.vcpu == 0 || s.vcpu == 1);
	EXPECT_TRUE(status_is(t, s.vcpu, VECTOR_A, 0));
	direct(_metadata, t, s.vcpu, &t->g->a[s.vcpu], 10);
}

/* What the host does to its own interrupt meanwhile is for later. */
TEST_F_TIMEOUT(msi, stays_direct_when_the_host_moves_its_own, EXCL_CASE_S)
{
	static const char *const lists[] = { "0", "0-3", "3" };
	struct assigned *t = &self->t;
	char path[64];
	unsigned int i;

	excl_device_route(t->ev.vm, GSI, TO(1), VECTOR_B);
	snprintf(path, sizeof(path), "/proc/irq/%d/smp_affinity_list",
		 excl_device_host_irq(&t->dev));
	for (i = 0; i < ARRAY_SIZE(lists); i++)
		EXPECT_EQ(0, excl_write_file(path, lists[i]));
	direct(_metadata, t, 1, &t->g->b[1], 10);
}

TEST_F_TIMEOUT(msi, stays_direct_when_its_host_cpu_goes_offline, EXCL_CASE_S)
{
	struct assigned *t = &self->t;

	excl_device_route(t->ev.vm, GSI, TO(1), VECTOR_B);
	ASSERT_EQ(0, excl_set_online(3, "0"));
	direct(_metadata, t, 1, &t->g->b[1], 10);
	EXPECT_EQ(0, excl_set_online(3, "1"));
	EXPECT_TRUE(status_is(t, 1, VECTOR_B, 0));
}

TEST_F_TIMEOUT(msi, is_the_hosts_while_the_vm_is_not_bound, EXCL_CASE_S)
{
	struct assigned *t = &self->t;
	int irq = excl_device_host_irq(&t->dev);
	struct kvm_excl_get_device_irq s;
	uint64_t start = total(t), taken = excl_device_host_count(irq);

	excl_unbind(t->ev.ctx);
	EXPECT_EQ(-1, excl_device_status(t->ev.ctx, &s));
	EXPECT_EQ(ENXIO, errno);
	excl_device_fire(&t->dev);
	EXPECT_TRUE(wait_total(t, start + 1));
	EXPECT_EQ(taken + 1, excl_device_host_count(irq));
	ASSERT_EQ(0, excl_bind(t->ev.ctx, t->ev.vm->fd, 0));
}

TEST_F_TIMEOUT(msi, is_direct_when_the_vm_is_bound_again, EXCL_CASE_S)
{
	struct kvm_excl_get_device_irq s;
	struct assigned *t = &self->t;

	excl_unbind(t->ev.ctx);
	ASSERT_EQ(0, excl_bind(t->ev.ctx, t->ev.vm->fd, 0));
	/* Each vCPU takes its CPU at its next entry. */
	ASSERT_TRUE(excl_wait(&t->ev, entry_is_direct(t, &s), 10));
	direct(_metadata, t, 0, &t->g->a[0], 10);
}

TEST_F_TIMEOUT(msi, that_comes_while_it_is_masked_arrives_later, EXCL_CASE_S)
{
	struct kvm_excl_get_device_irq s;
	struct assigned *t = &self->t;
	uint64_t start = total(t);

	excl_device_irqfd(&t->dev, t->ev.vm, GSI, false);
	EXPECT_EQ(-1, excl_device_status(t->ev.ctx, &s));
	EXPECT_EQ(ENOENT, errno);
	/* It waits in the eventfd, where more would be one, and nothing else has it. */
	excl_device_fire(&t->dev);
	EXPECT_TRUE(excl_device_signalled(&t->dev));
	EXPECT_TRUE(all_taken(t));
	EXPECT_EQ(start, total(t));
	excl_device_irqfd(&t->dev, t->ev.vm, GSI, true);
	EXPECT_TRUE(wait_total(t, start + 1));
	direct(_metadata, t, 0, &t->g->a[0], 10);
	EXPECT_TRUE(all_injected(t, GSI));
	EXPECT_EQ(start + 1 + 10, total(t));
}

/*
 * Several that have not arrived yet. No two of them have both vector and vCPU in common, so none
 * may merge with another: one that does not come is lost. That holds while the entry is direct.
 * In the host's form they all are one vector of the host's, and where it goes is up to the
 * route that there is when the host takes it.
 */
static const struct {
	int vcpu;
	uint8_t vector;
} messages[] = { { 0, VECTOR_A }, { 0, VECTOR_B }, { 1, VECTOR_A }, { 1, VECTOR_B } };

/* How many have come with each message. */
struct counts {
	uint64_t n[ARRAY_SIZE(messages)];
};

static struct counts counts_of(struct assigned *t)
{
	struct counts c;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(messages); i++)
		c.n[i] = messages[i].vector == VECTOR_A ? t->g->a[messages[i].vcpu] :
							   t->g->b[messages[i].vcpu];
	return c;
}

/* Wait until there is one more of each. */
static bool one_more_of_each(struct assigned *t, struct counts before)
{
	bool ok = true;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(messages); i++) {
		if (excl_spin(&t->ev, counts_of(t).n[i] == before.n[i] + 1))
			continue;
		ksft_print_msg("%lu instead of 1 to vCPU %d with vector %#x\n",
			       counts_of(t).n[i] - before.n[i], messages[i].vcpu,
			       messages[i].vector);
		ok = false;
	}
	return ok;
}

static bool do_nothing(struct assigned *t)
{
	return true;
}

static bool kick_both(struct assigned *t)
{
	return excl_vm_interrupt(&t->ev, 0) && excl_vm_interrupt(&t->ev, 1);
}

static bool bind_anew(struct assigned *t)
{
	excl_unbind(t->ev.ctx);
	return !excl_bind(t->ev.ctx, t->ev.vm->fd, 0);
}

/* Keep both vCPUs in a handler, and fire each message once; then let them go on. */
static bool fire_while_held(struct assigned *t, bool (*meanwhile)(struct assigned *t))
{
	struct kvm_excl_get_vcpu_status status;
	uint64_t start = total(t), early;
	struct counts before;
	bool ok = true;
	unsigned int i;

	/* One that has its CPU has direct entries. */
	for (i = 0; i < NR_VCPUS; i++)
		ok = excl_wait_attached(t->ev.ctx, i, &status) && ok;
	t->g->hold = 1;
	for (i = 0; ok && i < NR_VCPUS; i++) {
		fire_at(t, i, VECTOR_A);
		ok = wait_total(t, start + i + 1);
	}
	/* Vector A again, too: what is in service has been taken, and merges with nothing. */
	before = counts_of(t);
	for (i = 0; ok && i < ARRAY_SIZE(messages); i++)
		fire_at(t, messages[i].vcpu, messages[i].vector);
	ok = ok && meanwhile(t);
	early = total(t) - start - NR_VCPUS;
	t->g->hold = 0;
	if (ok && early)
		ksft_print_msg("%lu taken with interrupts off\n", early);
	return ok && !early && one_more_of_each(t, before) && wait_left(t);
}

FIXTURE(in_flight) {
	struct assigned t;
};

FIXTURE_VARIANT(in_flight) {
	bool (*meanwhile)(struct assigned *t);
};

FIXTURE_VARIANT_ADD(in_flight, to_attached) { .meanwhile = do_nothing };
FIXTURE_VARIANT_ADD(in_flight, while_kicked) { .meanwhile = kick_both };
FIXTURE_VARIANT_ADD(in_flight, while_bound_anew) { .meanwhile = bind_anew };

FIXTURE_SETUP(in_flight)
{
	struct assigned *t = &self->t;

	stray(&t->log_lines);
	excl_device_open(&t->dev);
	start(t);
	ASSERT_TRUE(warm_up(t));
}

FIXTURE_TEARDOWN(in_flight)
{
	EXPECT_TRUE(end(&self->t));
	EXPECT_EQ(0, stray(&self->t.log_lines));
}

TEST_F_TIMEOUT(in_flight, each_arrives_once, EXCL_CASE_S)
{
	struct assigned *t = &self->t;
	int irq = excl_device_host_irq(&t->dev);
	uint64_t start = total(t), i, n = nr_sent / 40 + 1, taken = excl_device_host_count(irq);

	for (i = 0; i < n; i++) {
		ASSERT_TRUE(fire_while_held(t, variant->meanwhile)) {
			TH_LOG("in round %lu of %lu", i + 1, n);
		}
	}
	EXPECT_TRUE(all_taken(t));
	EXPECT_EQ(n * (NR_VCPUS + ARRAY_SIZE(messages)), total(t) - start);
	EXPECT_EQ(taken, excl_device_host_count(irq));
}

/* Take the vCPUs out of the guest anywhere, which leaves the entry direct. */
static volatile bool kick_stop;

static void *kick_about(void *arg)
{
	struct assigned *t = arg;
	unsigned int seed = 3;

	while (!kick_stop) {
		excl_vm_signal(&t->ev, rand_r(&seed) % NR_VCPUS);
		usleep(rand_r(&seed) % 1000);
	}
	return NULL;
}

TEST_F_TIMEOUT(msi, that_follow_each_other_arrive_once_beside_kicks, EXCL_CASE_S)
{
	struct assigned *t = &self->t;
	int irq = excl_device_host_irq(&t->dev);
	uint64_t start = total(t), i, n = nr_sent / ARRAY_SIZE(messages);
	uint64_t taken = excl_device_host_count(irq);
	unsigned int seed = 4, first, j;
	struct counts before;
	pthread_t thread;
	bool ok = true;

	pthread_create(&thread, NULL, kick_about, t);
	for (i = 0; ok && i < n; i++) {
		before = counts_of(t);
		first = rand_r(&seed) % ARRAY_SIZE(messages);
		for (j = 0; j < ARRAY_SIZE(messages); j++) {
			unsigned int m = (first + j) % ARRAY_SIZE(messages);

			fire_at(t, messages[m].vcpu, messages[m].vector);
		}
		ok = one_more_of_each(t, before);
	}
	kick_stop = true;
	pthread_join(thread, NULL);
	EXPECT_TRUE(ok);
	EXPECT_TRUE(all_taken(t));
	EXPECT_EQ(n * ARRAY_SIZE(messages), total(t) - start);
	EXPECT_EQ(taken, excl_device_host_count(irq));
}

/* A message that no entry can say: the host takes it, and the status tells why. */
FIXTURE(message) {
	struct assigned t;
};

FIXTURE_VARIANT(message) {
	uint32_t address, data;
	unsigned int why;
	/* How many vCPUs take it; -1: the guest does not count these. */
	int arrive;
};

FIXTURE_VARIANT_ADD(message, of_vector_31) { TO(0), 31, KVM_EXCL_IRQ_LOW_VECTOR, -1 };
FIXTURE_VARIANT_ADD(message, of_an_nmi) { TO(0), NMI | VECTOR_A, KVM_EXCL_IRQ_NOT_FIXED, -1 };
FIXTURE_VARIANT_ADD(message, of_a_level) { TO(0), LEVEL | VECTOR_A, KVM_EXCL_IRQ_NOT_FIXED, -1 };
FIXTURE_VARIANT_ADD(message, to_nobody) { TO(77), VECTOR_A, KVM_EXCL_IRQ_MANY, 0 };
FIXTURE_VARIANT_ADD(message, to_both) { TO_SET(3), VECTOR_A, KVM_EXCL_IRQ_MANY, 2 };
FIXTURE_VARIANT_ADD(message, to_everybody) { TO(255), VECTOR_B, KVM_EXCL_IRQ_MANY, 2 };

FIXTURE_SETUP(message)
{
	struct assigned *t = &self->t;

	stray(&t->log_lines);
	excl_device_open(&t->dev);
	start(t);
	ASSERT_TRUE(warm_up(t));
	excl_device_route(t->ev.vm, GSI, variant->address, variant->data);
}

FIXTURE_TEARDOWN(message)
{
	EXPECT_TRUE(end(&self->t));
	EXPECT_EQ(0, stray(&self->t.log_lines));
}

TEST_F_TIMEOUT(message, is_the_hosts_and_the_status_tells_why, EXCL_CASE_S)
{
	struct assigned *t = &self->t;
	int irq = excl_device_host_irq(&t->dev);
	uint64_t start = total(t), taken = excl_device_host_count(irq);

	EXPECT_TRUE(status_is(t, -1, 0, variant->why));
	if (variant->arrive < 0)
		return;
	excl_device_fire(&t->dev);
	EXPECT_TRUE(wait_total(t, start + variant->arrive));
	/* Where none is to arrive the host has it all the same. */
	EXPECT_TRUE(excl_spin(&t->ev, excl_device_host_count(irq) == taken + 1));
	EXPECT_TRUE(all_injected(t, GSI));
	EXPECT_EQ(start + variant->arrive, total(t));
}

/* Everything that moves the interrupt or takes the vCPU away, while it is fired. */
static volatile bool torture_stop;
static uint64_t moves, kicks, bindings, writes;

static void *torture(void *arg)
{
	struct assigned *t = arg;
	unsigned int seed = 1;
	char path[64];

	snprintf(path, sizeof(path), "/proc/irq/%d/smp_affinity_list",
		 excl_device_host_irq(&t->dev));
	while (!torture_stop) {
		switch (rand_r(&seed) % 16) {
		case 0 ... 8:
			excl_device_route(t->ev.vm, GSI, TO(rand_r(&seed) % NR_VCPUS),
					  rand_r(&seed) % 2 ? VECTOR_A : VECTOR_B);
			moves++;
			break;
		case 9 ... 12:
			excl_vm_signal(&t->ev, rand_r(&seed) % NR_VCPUS);
			kicks++;
			break;
		case 13 ... 14:
			excl_write_file(path, rand_r(&seed) % 2 ? "0" : "3");
			writes++;
			break;
		case 15:
			excl_unbind(t->ev.ctx);
			usleep(rand_r(&seed) % 2000);
			TEST_ASSERT(!excl_bind(t->ev.ctx, t->ev.vm->fd, 0), "bind: %s",
				    strerror(errno));
			bindings++;
			break;
		}
		usleep(rand_r(&seed) % 300);
	}
	return NULL;
}

/* For how long the vCPUs have had their CPUs to themselves, all of them together, in ns. */
static uint64_t attached_ns(struct assigned *t)
{
	struct excl_counters c;
	uint64_t ns = 0;
	int i;

	for (i = 0; i < NR_VCPUS; i++) {
		excl_counters_read(t->ev.vcpus[i], &c);
		ns += c.attached_ns;
	}
	return ns;
}

/* How the entry was at some interrupts, and what became of those. */
static struct {
	uint64_t looked, was_direct, stayed, taken;
} seen;

/* Fire once. While an entry that is direct is not written, the host gets nothing. */
static bool fire_and_look(struct assigned *t, int irq, uint64_t want)
{
	struct kvm_excl_get_device_irq before, after;
	bool direct = entry_is_direct(t, &before), ok;
	uint64_t count = excl_device_host_count(irq);

	excl_device_fire(&t->dev);
	ok = wait_total(t, want);
	count = excl_device_host_count(irq) - count;
	seen.looked++;
	seen.was_direct += direct;
	if (direct && entry_is_direct(t, &after) && after.updates == before.updates) {
		seen.stayed++;
		seen.taken += count;
	}
	return ok;
}

TEST_F_TIMEOUT(msi, that_is_moved_about_arrives_once, 2 * EXCL_CASE_S)
{
	struct assigned *t = &self->t;
	int irq = excl_device_host_irq(&t->dev);
	uint64_t start = total(t), i, taken = excl_device_host_count(irq);
	uint64_t attached = attached_ns(t), since = excl_now_ns();
	unsigned int seed = 2;
	pthread_t thread;
	bool ok = true;

	pthread_create(&thread, NULL, torture, t);
	for (i = 1; ok && i <= nr_moved; i++) {
		/* Not each time: looking waits for a binding to be complete. */
		if (i % 8) {
			excl_device_fire(&t->dev);
			ok = wait_total(t, start + i);
		} else {
			ok = fire_and_look(t, irq, start + i);
		}
		if (!(i % 10000))
			ksft_print_msg("%lu of %lu moved about\n", i, nr_moved);
		/* Or the other thread would hardly come to do anything. */
		usleep(rand_r(&seed) % 200);
	}
	torture_stop = true;
	pthread_join(thread, NULL);
	ksft_print_msg("the vCPUs had their CPUs for %lu%% of the time\n",
		       100 * (attached_ns(t) - attached) / NR_VCPUS / (excl_now_ns() - since));
	taken = excl_device_host_count(irq) - taken;
	EXPECT_TRUE(all_injected(t, GSI));
	ksft_print_msg("%lu of %lu while %lu new routes, %lu signals, %lu bindings, %lu affinities; %lu through the host\n",
		       total(t) - start, nr_moved, moves, kicks, bindings, writes, taken);
	ksft_print_msg("%lu looked at: %lu with a direct entry, which stayed so for %lu, %lu of them through the host\n",
		       seen.looked, seen.was_direct, seen.stayed, seen.taken);
	EXPECT_EQ(nr_moved, total(t) - start);
	/* What is direct is not the host's; and everything that moves it has run. */
	EXPECT_EQ(0, seen.taken);
	EXPECT_NE(0, seen.stayed);
	EXPECT_TRUE(moves && kicks && bindings && writes);
}

/* INTx of the same device: level-triggered, so by way of the host, with each EOI seen. */
TEST_F_TIMEOUT(msi, gives_way_to_intx_which_arrives_once, EXCL_CASE_S)
{
	struct kvm_irq_routing *routing = excl_routing_create();
	struct kvm_excl_get_vcpu_status status;
	struct assigned *t = &self->t;
	uint64_t i, n = 100;

	excl_device_irqfd(&t->dev, t->ev.vm, GSI, false);
	excl_routing_add_ioapic(routing, PIN, PIN);
	kvm_gsi_routing_write(t->ev.vm, routing);
	excl_ioapic_program(t->ev.vm, PIN, VECTOR_LEVEL, true);
	excl_device_intx(&t->dev, t->ev.vm, PIN);
	for (i = 1; i <= n; i++) {
		excl_device_fire(&t->dev);
		ASSERT_TRUE(excl_spin(&t->ev, t->g->level == i));
		excl_device_lower(&t->dev);
		t->g->line_low = i;
	}
	EXPECT_TRUE(excl_wait_attached(t->ev.ctx, 0, &status));
	/* With the last EOI VFIO has unmasked the line, and has seen it high or low. */
	EXPECT_TRUE(excl_spin(&t->ev, !excl_ioapic_remote_irr(t->ev.vm, PIN)));
	/* The handler of one too many is to end. */
	t->g->line_low = UINT64_MAX;
	EXPECT_TRUE(all_injected(t, PIN));
	EXPECT_EQ(n, t->g->level);
}

/* Hot-unplug of the device while a VM uses it. */
FIXTURE(unplug) {
	struct assigned t;
	FILE *removal;
};

FIXTURE_SETUP(unplug)
{
	struct assigned *t = &self->t;

	excl_device_open(&t->dev);
	start(t);
	ASSERT_TRUE(warm_up(t));
	self->removal = excl_device_remove(&t->dev);
}

FIXTURE_TEARDOWN(unplug)
{
	if (self->removal) {
		EXPECT_TRUE(end(&self->t));
		pclose(self->removal);
	}
	excl_device_rescan();
	EXPECT_TRUE(excl_device_present());
}

TEST_F_TIMEOUT(unplug, waits_for_the_vmm, EXCL_CASE_S)
{
	struct pollfd removed = { .events = POLLIN, .fd = fileno(self->removal) };

	EXPECT_TRUE(excl_device_asked_for(&self->t.dev));
	/* It is to wait from here on, which shows in nothing but that it does not end. */
	EXPECT_EQ(0, poll(&removed, 1, 300));
	direct(_metadata, &self->t, 0, &self->t.g->a[0], 10);
}

TEST_F_TIMEOUT(unplug, takes_the_device_when_the_vmm_lets_go, EXCL_CASE_S)
{
	EXPECT_TRUE(end(&self->t));
	EXPECT_EQ(0, pclose(self->removal));
	self->removal = NULL;
	EXPECT_FALSE(excl_device_present());
}

/* VMMs that are killed while their device fires, and one after them. */
FIXTURE(kill) {
	struct assigned t;
};

FIXTURE_SETUP(kill)
{
	stray(&self->t.log_lines);
}

FIXTURE_TEARDOWN(kill)
{
	EXPECT_EQ(0, stray(&self->t.log_lines));
}

static void fire_for_ever(struct excl_device *dev)
{
	for (;;)
		excl_device_fire(dev);
}

/*
 * kill -9 of a VMM whose device is firing. In odd rounds the device stays open in this
 * process, and goes on firing when the VMM is gone.
 */
static bool kill_round(struct assigned *t, unsigned int round, unsigned int *seed)
{
	int fds[2], status = 0, i;
	pid_t pid, firing = 0;
	char ready = 0;

	if (round % 2) {
		excl_device_open(&t->dev);
		firing = excl_fork();
		if (!firing)
			fire_for_ever(&t->dev);
	}
	TEST_ASSERT(!pipe(fds), "pipe");
	pid = excl_fork();
	if (!pid) {
		if (!(round % 2))
			excl_device_open(&t->dev);
		start(t);
		ready = 'y';
		TEST_ASSERT(write(fds[1], &ready, 1) == 1, "write");
		fire_for_ever(&t->dev);
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
		excl_device_close(&t->dev);
	}
	return excl_wait_free(NR_VCPUS) && ready == 'y' && WIFSIGNALED(status) &&
	       WTERMSIG(status) == SIGKILL;
}

TEST_F_TIMEOUT(kill, while_the_device_fires_frees_the_cpus, EXCL_CASE_S)
{
	unsigned int seed = 1;
	uint64_t i, ok = 0;

	for (i = 0; i < nr_killed; i++) {
		ok += kill_round(&self->t, i, &seed);
		if (!((i + 1) % 20))
			ksft_print_msg("%lu of %lu VMMs killed so far\n", ok, i + 1);
	}
	EXPECT_EQ(nr_killed, ok);
}

TEST_F_TIMEOUT(kill, leaves_the_device_to_the_next_vm, EXCL_CASE_S)
{
	struct assigned *t = &self->t;
	unsigned int seed = 2, i;

	for (i = 0; i < 2; i++)
		ASSERT_TRUE(kill_round(t, i, &seed));
	excl_device_open(&t->dev);
	start(t);
	ASSERT_TRUE(warm_up(t));
	direct(_metadata, t, 0, &t->g->a[0], 10);
	EXPECT_TRUE(end(t));
}

int main(int argc, char **argv)
{
	excl_require(NR_VCPUS);
	excl_device_require();
	TEST_REQUIRE(!excl_stock());
	nr_moved = excl_arg(argc, argv, 1, 2000);
	nr_sent = nr_moved < 2000 ? nr_moved : 2000;
	nr_killed = excl_arg(argc, argv, 2, 10);
	return excl_harness_run(argc, argv);
}
