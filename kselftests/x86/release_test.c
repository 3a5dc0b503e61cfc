// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that the host is as before when the CPUs are given back, whichever way.
 *
 * The ways: the context closed, before and after the VM, with the guest stopped
 * and running (it runs on, detached); a VMM killed with SIGKILL in the middle of
 * timer interrupts and IPIs.  After each a snapshot of interrupt affinities,
 * tasks' masks, clock event devices, CPU masks and local APIC registers is what
 * it was.  The module does not unload while a context is open.
 *
 * The timer's period is to be longer than an expiry with its exits takes.
 *
 *   release_test [ROUNDS [PERIOD_US]]
 */
#include <sys/syscall.h>
#include <sys/wait.h>

#include "guest.h"
#include "harness.h"

#define NR		2
#define TIMER_VECTOR	0x51
#define IPI_VECTOR	0x71

static struct {
	uint64_t period_us;		/* by the host, before the start */
	uint64_t timer[NR], ipi[NR];
	uint64_t stop;
} g;

static struct guest_cpu cpus[NR];
static volatile typeof(g) *const v = &g;

static void on_timer(struct ex_regs *regs)
{
	v->timer[guest_index()]++;
	guest_eoi();
}

static void on_ipi(struct ex_regs *regs)
{
	v->ipi[guest_index()]++;
	guest_eoi();
}

/* A periodic timer, IPIs to the sibling without end, a vector left masked. */
static void guest_code(uint64_t index)
{
	guest_set_index(cpus, index);
	guest_apic_init();
	x2apic_write_reg(APIC_TASKPRI, 0x40);
	guest_self_ipi(0x35);
	x2apic_write_reg(APIC_TDCR, TDCR_DIV1);
	x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_PERIODIC | TIMER_VECTOR);
	/* KVM's bus period of 1 ns */
	x2apic_write_reg(APIC_TMICT, v->period_us * 1000);
	guest_sti();
	while (!v->stop) {
		guest_send_icr(!index, IPI_VECTOR);
		guest_spin_us(50);
	}
	x2apic_write_reg(APIC_TMICT, 0);
	GUEST_DONE();
}

static volatile typeof(g) *host;
static uint64_t period_us;

static void create(struct excl_vm *ev)
{
	memset(ev, 0, sizeof(*ev));
	excl_vm_create(ev, NR, guest_code);
	vm_install_exception_handler(ev->vm, TIMER_VECTOR, on_timer);
	vm_install_exception_handler(ev->vm, IPI_VECTOR, on_ipi);
	host = excl_shared(ev, g);
	host->period_us = period_us;
}

static bool runs(struct excl_vm *ev)
{
	uint64_t t0 = host->timer[0], t1 = host->timer[1];
	uint64_t i0 = host->ipi[0], i1 = host->ipi[1];

	if (excl_wait(ev, host->timer[0] > t0 + 10 && host->timer[1] > t1 + 10 &&
		      host->ipi[0] > i0 && host->ipi[1] > i1, 20))
		return true;
	ksft_print_msg("expiries %lu and %lu, IPIs %lu and %lu\n", host->timer[0] - t0,
		       host->timer[1] - t1, host->ipi[0] - i0, host->ipi[1] - i1);
	return false;
}

static bool attached(struct excl_vm *ev)
{
	struct excl_counters c;
	unsigned int i;

	if (excl_stock())
		return true;
	for (i = 0; i < NR; i++) {
		excl_counters_read(ev->vcpus[i], &c);
		if (!c.attaches) {
			excl_counters_print("never attached", &c);
			return false;
		}
	}
	return true;
}

/* The context goes first, while the guest runs; the guest runs on. */
static bool close_while_running(void)
{
	struct excl_counters c;
	struct excl_vm ev;
	bool ok;

	create(&ev);
	excl_vm_start(&ev);
	ok = runs(&ev) && attached(&ev);
	if (ev.ctx >= 0)
		close(ev.ctx);
	ev.ctx = -1;
	ok = runs(&ev) && ok;
	excl_counters_read(ev.vcpus[0], &c);
	if (!excl_stock() && (c.attached || c.reason != KVM_EXCL_VCPU_UNBOUND)) {
		excl_counters_print("after the close", &c);
		/* The reason goes when the vCPU has no part in it any more. */
		ok = ok && !c.attached;
	}
	host->stop = 1;
	ok = excl_vm_join(&ev, 20) && ok;
	excl_vm_destroy(&ev);
	return ok;
}

/* The VM goes first, then the context. */
static bool close_after_vm(void)
{
	struct excl_vm ev;
	bool ok;

	create(&ev);
	excl_vm_start(&ev);
	ok = runs(&ev) && attached(&ev);
	host->stop = 1;
	ok = excl_vm_join(&ev, 20) && ok;
	excl_vm_destroy(&ev);
	return ok;
}

/* The context goes first, the guest is stopped. */
static bool close_before_vm(void)
{
	struct excl_vm ev;
	bool ok;

	create(&ev);
	excl_vm_start(&ev);
	ok = runs(&ev) && attached(&ev);
	host->stop = 1;
	ok = excl_vm_join(&ev, 20) && ok;
	if (ev.ctx >= 0)
		close(ev.ctx);
	ev.ctx = -1;
	excl_vm_destroy(&ev);
	return ok;
}

/* Nobody can move a bound vCPU's thread away. */
static bool pinned(struct excl_vm *ev)
{
	cpu_set_t cpus;
	pid_t tid = ev->threads[0].tid;
	int r;

	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	r = sched_setaffinity(tid, sizeof(cpus), &cpus);
	if (!r || errno != EBUSY) {
		ksft_print_msg("sched_setaffinity: %d, %s\n", r, strerror(errno));
		return false;
	}
	r = sched_getaffinity(tid, sizeof(cpus), &cpus);
	return !r && CPU_COUNT(&cpus) == 1 && CPU_ISSET(EXCL_FIRST_CPU, &cpus);
}

/* Unbound and bound again while it runs. */
static bool unbind_bind(void)
{
	struct excl_vm ev;
	bool ok;
	int i;

	if (excl_stock())
		return true;
	create(&ev);
	excl_vm_start(&ev);
	ok = runs(&ev) && attached(&ev);
	for (i = 0; ok && i < 5; i++) {
		ok = pinned(&ev) && !excl_unbind(ev.ctx) && runs(&ev) &&
		     !excl_bind(ev.ctx, ev.vm->fd, 0) && runs(&ev);
	}
	host->stop = 1;
	ok = excl_vm_join(&ev, 20) && ok;
	excl_vm_destroy(&ev);
	return ok;
}

static bool claim_alone(void)
{
	int fd;

	if (excl_stock())
		return true;
	fd = excl_open();
	if (fd < 0 || excl_claim_first(fd, NR))
		return false;
	return !close(fd);
}

static bool kill_vmm(void)
{
	int status = 0, fds[2], i;
	char ready = 0;
	pid_t pid;

	TEST_ASSERT(!pipe(fds), "pipe");
	pid = excl_fork();
	if (!pid) {
		struct excl_vm ev;

		create(&ev);
		excl_vm_start(&ev);
		ready = runs(&ev) && attached(&ev) ? 'y' : 'n';
		TEST_ASSERT(write(fds[1], &ready, 1) == 1, "write");
		for (;;)
			pause();
	}
	close(fds[1]);
	TEST_ASSERT(read(fds[0], &ready, 1) >= 0, "read");
	close(fds[0]);
	kill(pid, SIGKILL);
	for (i = 0; i < 2000 && !waitpid(pid, &status, WNOHANG); i++)
		usleep(10000);
	return ready == 'y' && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

/* Of the soak in kselftests/tests. */
#define RELEASE_S	900

static struct excl_snapshot before;
static uint64_t rounds;

/* A way to give CPUs back. */
FIXTURE(way) {
};

FIXTURE_VARIANT(way) {
	bool (*run)(void);
};

FIXTURE_VARIANT_ADD(way, claim_and_close) {
	.run = claim_alone,
};

FIXTURE_VARIANT_ADD(way, vm_then_context) {
	.run = close_after_vm,
};

FIXTURE_VARIANT_ADD(way, context_then_vm) {
	.run = close_before_vm,
};

FIXTURE_VARIANT_ADD(way, context_while_the_guest_runs) {
	.run = close_while_running,
};

FIXTURE_VARIANT_ADD(way, unbind_while_the_guest_runs) {
	.run = unbind_bind,
};

FIXTURE_VARIANT_ADD(way, vmm_killed) {
	.run = kill_vmm,
};

FIXTURE_SETUP(way)
{
}

FIXTURE_TEARDOWN(way)
{
}

TEST_F_TIMEOUT(way, leaves_the_host_as_before, RELEASE_S)
{
	uint64_t start = excl_now_ns(), i;
	bool ok = true;

	for (i = 0; ok && i < rounds; i++)
		ok = variant->run() && excl_wait_free(NR);
	EXPECT_TRUE(ok);
	ksft_print_msg("after %lu ms\n", (excl_now_ns() - start) / 1000000);

	start = excl_now_ns();
	EXPECT_TRUE(excl_snapshot_restored(&before));
	ksft_print_msg("looked for %lu ms\n", (excl_now_ns() - start) / 1000000);
}

TEST(module_that_is_busy_is_not_unloaded)
{
	int fd, r;

	if (excl_stock())
		SKIP(return, "no module");
	fd = excl_open();
	ASSERT_LE(0, fd);
	r = syscall(SYS_delete_module, "kvm_exclusive", O_NONBLOCK) ? errno : 0;
	ksft_print_msg("rmmod while busy: %s\n", strerror(r));
	EXPECT_TRUE(r == EWOULDBLOCK || r == EBUSY);
	close(fd);
}

int main(int argc, char **argv)
{
	excl_require(NR);
	rounds = excl_arg(argc, argv, 1, 3);
	period_us = excl_arg(argc, argv, 2, 300);
	/* Once, as it reads all symbols of the kernel, and before any case has claimed. */
	excl_snapshot_take(&before);
	ksft_print_msg("a snapshot has %zu lines\n", before.nr);
	return excl_harness_run(argc, argv);
}
