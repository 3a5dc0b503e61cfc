// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that an ordinary VM loses no interrupt when the CPU on which one of its vCPUs
 * sleeps is given away, and that the guest which has it then gets none of them.
 *
 * A processor that posts interrupts (IPI virtualization, VT-d) notifies the CPU that the
 * sleeping vCPU's descriptor names, with vector 0xf1 for one that has halted and 0xf2 for
 * one whose thread is elsewhere.  No software has a part in it, so nobody makes an NMI of
 * it: the descriptor must name another CPU before the guest with all interrupts for itself
 * comes.  Without posting it is software that wakes the vCPU, and all of this is easy.
 *
 * In each round vCPU 0 of an ordinary VM sleeps on a CPU, an exclusive guest gets that CPU
 * and spins with interrupts on and a handler for every vector, and the sleeper is sent to:
 * by vCPU 1, by KVM_SIGNAL_MSI, by an irqfd.  It has to wake within a bound, there, on the
 * CPU where it finds itself then, and on the first one when that is given back.
 *
 *   posted_test [ROUNDS]
 */
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/sysinfo.h>

#include "guest.h"
#include "harness.h"

#define CPU		EXCL_FIRST_CPU
#define VECTOR		0x71
#define PORT		0x99	/* nobody's */
#define GSI		24
#define BOUND_MS	2000

/* How vCPU 0 is away from the CPU that is claimed. */
enum away { HALTED, PAUSED, HOTPLUGGED, NR_WAYS };

static const char * const ways[NR_WAYS] = {
	[HALTED] = "halted",
	[PAUSED] = "in user space",
	[HOTPLUGGED] = "halted, the CPU off and on again",
};

enum source { BY_IPI, BY_MSI, BY_IRQFD, NR_SOURCES };

static const char * const sources[NR_SOURCES] = {
	[BY_IPI] = "an IPI", [BY_MSI] = "KVM_SIGNAL_MSI", [BY_IRQFD] = "an irqfd",
};

/* The ordinary guest's. */
static struct {
	uint64_t go, pause, stop;	/* by the host */
	uint64_t send, sent;
	uint64_t asleep, woken, taken;
} o;

/* The exclusive one's. */
static struct {
	uint64_t spins, stop;
	uint64_t taken[256];
} x;

static void on_vector(struct ex_regs *regs)
{
	(*(volatile uint64_t *)&o.taken)++;
	guest_eoi();
}

static void ordinary_code(uint64_t index)
{
	volatile typeof(o) *v = &o;
	uint64_t n;

	guest_apic_init();
	if (index) {
		while (!v->stop) {
			if (v->sent != v->send) {
				v->sent++;
				guest_send_icr(0, APIC_DM_FIXED | VECTOR);
			}
			cpu_relax();
		}
		GUEST_DONE();
	}
	for (n = 1;; n++) {
		while (v->go != n && !v->stop)
			cpu_relax();
		if (v->stop)
			break;
		guest_cli();
		v->asleep = n;
		if (v->pause)
			guest_outb(PORT, 0);
		while (v->taken < n)
			asm volatile("sti; hlt; cli" ::: "memory");
		v->woken = n;
	}
	GUEST_DONE();
}

static void on_any(struct ex_regs *regs)
{
	(*(volatile uint64_t *)&x.taken[regs->vector])++;
	guest_eoi();
}

static void exclusive_code(uint64_t index)
{
	volatile typeof(x) *v = &x;

	guest_apic_init();
	guest_sti();
	while (!v->stop)
		v->spins++;
	GUEST_DONE();
}

static struct excl_vm ord, ex;
static volatile typeof(o) *ho;
static volatile typeof(x) *hx;
static int resume_pipe[2], irqfd_fd;

/* In user space, asleep, until the host says so. */
static bool on_io(struct excl_vm *ev, struct kvm_vcpu *vcpu)
{
	char c;

	if (vcpu->run->exit_reason != KVM_EXIT_IO || vcpu->run->io.port != PORT)
		return false;
	while (read(resume_pipe[0], &c, 1) < 0 && errno == EINTR)
		;
	return true;
}

static bool go_on(struct excl_vm *ev, struct kvm_vcpu *vcpu)
{
	return true;
}

/* The state of vCPU 0's thread, and the CPU that it is or was on; proc(5). */
static char thread_state(int *cpu)
{
	char path[64], line[1024], *at, *save = NULL, state;
	int field;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", ord.threads[0].tid);
	TEST_ASSERT(excl_read_file(path, line, sizeof(line)), "%s", path);
	at = strtok_r(strrchr(line, ')') + 1, " ", &save);
	state = *at;
	for (field = 3; at && field < 39; field++)
		at = strtok_r(NULL, " ", &save);
	*cpu = at ? atoi(at) : -1;
	return state;
}

static bool pin_sleeper(int first, int last)
{
	int r = excl_run_on(ord.threads[0].tid, first, last);

	if (r)
		ksft_print_msg("sched_setaffinity: %s\n", strerror(r));
	return !r;
}

/* Let vCPU 0 go to sleep; on @cpu, if that is not -1. */
static bool sleep_on(int cpu, bool pause)
{
	uint64_t end = excl_now_ns() + 10000000000ULL;
	char state = 0;
	int on = -1;

	ho->pause = pause;
	ho->go++;
	if (!excl_wait(&ord, ho->asleep == ho->go, 10))
		return false;
	while (excl_now_ns() < end) {
		state = thread_state(&on);
		if (state == 'S' && (cpu < 0 || on == cpu))
			return true;
		usleep(1000);
	}
	ksft_print_msg("vCPU 0's thread does not sleep on CPU %d: %c, CPU %d\n", cpu, state, on);
	return false;
}

static uint64_t longest_us, late;

/* Send one, and see vCPU 0 awake. */
static bool wake(enum source source, const char *when)
{
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = VECTOR };
	uint64_t start, us, one = 1;

	start = excl_now_ns();
	switch (source) {
	case BY_IPI:
		ho->send++;
		break;
	case BY_MSI:
		TEST_ASSERT(__vm_ioctl(ord.vm, KVM_SIGNAL_MSI, &msi) > 0, "KVM_SIGNAL_MSI");
		break;
	default:
		TEST_ASSERT(write(irqfd_fd, &one, sizeof(one)) == sizeof(one), "write");
	}
	/* It has been sent while vCPU 0's thread was where it was. */
	if (ho->pause) {
		while (source == BY_IPI && ho->sent != ho->send &&
		       excl_now_ns() - start < 1000000000)
			usleep(100);
		usleep(5000);
		start = excl_now_ns();
		TEST_ASSERT(write(resume_pipe[1], "", 1) == 1, "write");
	}
	while (ho->woken != ho->go && excl_now_ns() - start < BOUND_MS * 1000000ULL)
		usleep(100);
	us = (excl_now_ns() - start) / 1000;
	if (us > longest_us)
		longest_us = us;
	if (ho->woken == ho->go)
		return true;
	ksft_print_msg("%s: vCPU 0 sleeps %u ms after %s: %lu of %lu taken\n", when, BOUND_MS,
		       sources[source], ho->taken, ho->go);
	late++;
	/* For the next round. */
	excl_vm_signal(&ord, 0);
	return excl_wait(&ord, ho->woken == ho->go, 10);
}

static uint64_t stray, f1, f2, recorded;

static bool exclusive_start(void)
{
	struct excl_counters c = {};
	uint64_t was, end;
	int vector;

	memset(&ex, 0, sizeof(ex));
	ex.first_cpu = CPU;
	excl_vm_create(&ex, 1, exclusive_code);
	for (vector = 32; vector < 256; vector++)
		vm_install_exception_handler(ex.vm, vector, on_any);
	hx = excl_shared(&ex, x);
	excl_vm_start(&ex);
	end = excl_now_ns() + 10000000000ULL;
	do {
		excl_counters_read(ex.vcpus[0], &c);
	} while (!excl_stock() && !c.attached && excl_now_ns() < end);
	was = hx->spins;
	return excl_wait(&ex, hx->spins != was, 10) && (excl_stock() || c.attached);
}

static bool exclusive_end(void)
{
	struct excl_counters c;
	bool ok;
	int i;

	excl_counters_read(ex.vcpus[0], &c);
	hx->stop = 1;
	ok = excl_vm_join(&ex, 10);
	for (i = 0; i < 256; i++) {
		if (!hx->taken[i])
			continue;
		ksft_print_msg("the exclusive guest has got vector %#x, %lu times\n", i,
			       hx->taken[i]);
		stray += hx->taken[i];
	}
	f1 += hx->taken[0xf1];
	f2 += hx->taken[0xf2];
	recorded += c.recorded;
	if (c.recorded)
		excl_counters_print("exclusive", &c);
	excl_vm_destroy(&ex);
	return ok && (excl_stock() || excl_wait_free(1));
}

static bool round_of(enum away away, uint64_t round)
{
	int last = get_nprocs_conf() - 1;
	/* Every other one is an IPI, which alone may be posted without a device. */
	enum source source = round % 2 ? 1 + round / 2 % 2 : BY_IPI;
	bool ok;

	ok = pin_sleeper(CPU, CPU) && sleep_on(CPU, away == PAUSED);
	/* A mask that is not for this CPU alone, half of the times. */
	if (ok && round / 2 % 2)
		ok = pin_sleeper(EXCL_FIRST_CPU, last);
	if (ok && away == HOTPLUGGED) {
		ok = !excl_set_online(CPU, "0") && !excl_set_online(CPU, "1");
		if (!ok)
			ksft_print_msg("CPU %d does not go offline and come back\n", CPU);
	}
	if (!ok)
		return false;
	ok = exclusive_start();
	ok = ok && wake(source, ways[away]);
	ok = ok && sleep_on(-1, false) &&
	     wake((source + 1) % NR_SOURCES, "asleep on another CPU");
	ok = exclusive_end() && ok;
	ok = ok && pin_sleeper(CPU, CPU) && sleep_on(CPU, false) &&
	     wake(source, "back on the CPU");
	return ok;
}

static void print_parameter(const char *name)
{
	char path[128], value[32] = "not there";

	snprintf(path, sizeof(path), "/sys/module/kvm_intel/parameters/%s", name);
	excl_read_file(path, value, sizeof(value));
	ksft_print_msg("kvm_intel.%s: %s\n", name, value);
}

static uint64_t rounds;

/* The ordinary VM, whose vCPU 0 has slept and been woken in every way. */
FIXTURE(sleeper) {
	bool ok;
};

FIXTURE_VARIANT(sleeper) {
	enum away away;
};

FIXTURE_VARIANT_ADD(sleeper, halted) {
	.away = HALTED,
};

FIXTURE_VARIANT_ADD(sleeper, in_user_space) {
	.away = PAUSED,
};

FIXTURE_VARIANT_ADD(sleeper, halted_and_hotplugged) {
	.away = HOTPLUGGED,
};

FIXTURE_SETUP(sleeper)
{
	struct kvm_irqfd irqfd = { .gsi = GSI };
	struct kvm_irq_routing *routing;
	int last = get_nprocs_conf() - 1;
	uint64_t i;

	ASSERT_EQ(0, pipe(resume_pipe));
	ord.ordinary = true;
	ord.on_exit = on_io;
	ord.on_signal = go_on;
	excl_vm_create(&ord, 2, ordinary_code);
	vm_install_exception_handler(ord.vm, VECTOR, on_vector);
	routing = excl_routing_create();
	excl_routing_add_msi(routing, GSI, 0, VECTOR);
	kvm_gsi_routing_write(ord.vm, routing);
	irqfd_fd = eventfd(0, EFD_CLOEXEC);
	irqfd.fd = irqfd_fd;
	vm_ioctl(ord.vm, KVM_IRQFD, &irqfd);
	ho = excl_shared(&ord, o);
	excl_vm_start(&ord);
	while (!ord.threads[0].tid || !ord.threads[1].tid)
		usleep(100);
	ASSERT_EQ(0, excl_run_on(ord.threads[1].tid, last, last));

	/* What faults or is switched on the first time has been then. */
	for (i = 0; i < NR_SOURCES; i++) {
		ASSERT_TRUE(pin_sleeper(CPU, CPU));
		ASSERT_TRUE(sleep_on(CPU, false));
		ASSERT_TRUE(wake(i, "at first"));
	}

	longest_us = 0;
	late = 0;
	for (i = 0, self->ok = true; self->ok && i < rounds; i++)
		self->ok = round_of(variant->away, i);
	ksft_print_msg("%s: %lu rounds, woken after %lu us at most, %lu times not within %u ms; strays %lu, of them 0xf1 %lu, 0xf2 %lu; recorded %lu\n",
		       ways[variant->away], i, longest_us, late, BOUND_MS, stray, f1, f2,
		       recorded);
	if (!self->ok || late || stray || recorded)
		excl_vm_dump(&ord);
}

FIXTURE_TEARDOWN(sleeper)
{
	ho->stop = 1;
	EXPECT_TRUE(excl_vm_join(&ord, 10));
	excl_vm_destroy(&ord);
}

TEST_F_TIMEOUT(sleeper, is_woken_each_time, EXCL_CASE_S)
{
	EXPECT_TRUE(self->ok);
	EXPECT_EQ(0, late);
}

TEST_F_TIMEOUT(sleeper, has_nothing_come_to_the_exclusive_guest, EXCL_CASE_S)
{
	if (excl_stock())
		SKIP(return, "not exclusive");
	EXPECT_TRUE(self->ok);
	EXPECT_EQ(0, stray);
	EXPECT_EQ(0, recorded);
}

int main(int argc, char **argv)
{
	excl_require(2);
	rounds = excl_arg(argc, argv, 1, 4);
	if (host_cpu_is_intel) {
		print_parameter("enable_apicv");
		print_parameter("enable_ipiv");
	}
	return excl_harness_run(argc, argv);
}
