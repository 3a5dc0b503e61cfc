// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that ownership and affinity masks live together: nothing comes to an owned
 * CPU by sched_setaffinity() or a cpuset, a task whose mask names owned CPUs alone
 * works on a control CPU until the release and then goes back, and no mask is lost,
 * the vCPU thread's own included.
 */
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "excl.h"
#include "guest.h"

#define GROUP		"/sys/fs/cgroup/excl_affinity_test"
#define ROOT_PROCS	"/sys/fs/cgroup/cgroup.procs"

static const int owned_cpu = EXCL_FIRST_CPU + 1;
static const int control_cpu = EXCL_FIRST_CPU + 2;

/**
 * struct worker - a child process that says where it runs
 */
struct worker {
	pid_t pid;
	volatile struct place {
		int cpu;
		uint64_t rounds;
	} *at;
};

static cpu_set_t one_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return set;
}

static cpu_set_t two_cpus(int a, int b)
{
	cpu_set_t set = one_cpu(a);

	CPU_SET(b, &set);
	return set;
}

static int set_affinity(pid_t pid, cpu_set_t set)
{
	return sched_setaffinity(pid, sizeof(set), &set) ? errno : 0;
}

static bool has_affinity(pid_t pid, cpu_set_t want)
{
	cpu_set_t set;

	return !sched_getaffinity(pid, sizeof(set), &set) && CPU_EQUAL(&set, &want);
}

static void worker_start(struct worker *w, cpu_set_t set, bool sleeps)
{
	w->at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(w->at != MAP_FAILED, "mmap: %s", strerror(errno));
	w->pid = fork();
	TEST_ASSERT(w->pid >= 0, "fork: %s", strerror(errno));
	if (w->pid)
		return;
	TEST_ASSERT(!set_affinity(0, set), "sched_setaffinity: %s", strerror(errno));
	for (;;) {
		w->at->cpu = sched_getcpu();
		w->at->rounds++;
		if (sleeps)
			usleep(2000);
	}
}

static void worker_end(struct worker *w)
{
	kill(w->pid, SIGKILL);
	waitpid(w->pid, NULL, 0);
	munmap((void *)w->at, 4096);
}

/* Does it come to run on @cpu, or, with @off, anywhere else, and work there? */
static bool worker_runs(struct worker *w, int cpu, bool off)
{
	uint64_t end = excl_now_ns() + 10000000000ULL, rounds;
	bool here;

	while (excl_now_ns() < end) {
		rounds = w->at->rounds;
		usleep(20000);
		here = w->at->cpu == cpu;
		if (w->at->rounds > rounds + 2 && here != off)
			return true;
	}
	ksft_print_msg("it is on CPU %d after %lu rounds\n", w->at->cpu, w->at->rounds);
	return false;
}

static int claim(void)
{
	uint32_t cpu = owned_cpu;
	int ctx = excl_open();

	TEST_ASSERT(ctx >= 0, "open: %s", strerror(errno));
	TEST_ASSERT(!excl_claim(ctx, &cpu, 1), "claim: %s", strerror(errno));
	return ctx;
}

/* The mask names the owned CPU alone. */
static void pinned_task(bool sleeps)
{
	const char *what = sleeps ? "a task that sleeps" : "a task that does not sleep";
	cpu_set_t set = one_cpu(owned_cpu);
	struct worker w;
	int ctx;

	worker_start(&w, set, sleeps);
	ksft_test_result(worker_runs(&w, owned_cpu, false), "%s runs\n", what);
	ctx = claim();
	ksft_test_result(worker_runs(&w, owned_cpu, true), "%s leaves and works\n", what);
	ksft_test_result(has_affinity(w.pid, set), "%s keeps its mask\n", what);
	close(ctx);
	ksft_test_result(worker_runs(&w, owned_cpu, false), "%s comes back\n", what);
	ksft_test_result(has_affinity(w.pid, set), "%s has its mask\n", what);
	worker_end(&w);
}

static void setaffinity(void)
{
	cpu_set_t both = two_cpus(owned_cpu, control_cpu);
	struct worker w;
	int ctx;

	worker_start(&w, one_cpu(control_cpu), false);
	worker_runs(&w, control_cpu, false);
	ctx = claim();
	/* Managers pin before the guest has ever run, and threads of theirs beside it. */
	ksft_test_result(!set_affinity(w.pid, one_cpu(owned_cpu)) &&
			 has_affinity(w.pid, one_cpu(owned_cpu)),
			 "sched_setaffinity() to owned CPUs alone is kept\n");
	ksft_test_result(worker_runs(&w, owned_cpu, true), "the task works elsewhere\n");
	ksft_test_result(!set_affinity(w.pid, both) && has_affinity(w.pid, both) &&
			 worker_runs(&w, control_cpu, false),
			 "sched_setaffinity() to an owned and a control CPU\n");
	set_affinity(w.pid, one_cpu(owned_cpu));
	close(ctx);
	ksft_test_result(worker_runs(&w, owned_cpu, false), "it comes there at the release\n");
	worker_end(&w);
}

static bool write_file(const char *path, const char *fmt, ...)
{
	char text[64];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	return !excl_write_file(path, text);
}

static void cpuset(void)
{
	cpu_set_t set = one_cpu(owned_cpu);
	struct worker w;
	int ctx;

	worker_start(&w, two_cpus(owned_cpu, control_cpu), false);
	worker_runs(&w, -1, true);
	ctx = claim();
	ksft_test_result(write_file(GROUP "/cpuset.cpus", "%d", owned_cpu) &&
			 write_file(GROUP "/cgroup.procs", "%d", w.pid),
			 "a task moves to a cpuset of owned CPUs alone\n");
	ksft_test_result(worker_runs(&w, owned_cpu, true), "it works elsewhere\n");
	ksft_test_result(has_affinity(w.pid, set), "its mask is the cpuset's\n");
	close(ctx);
	ksft_test_result(worker_runs(&w, owned_cpu, false), "it is where it should be\n");
	ctx = claim();
	ksft_test_result(write_file(GROUP "/cpuset.cpus", "%d", control_cpu) &&
			 worker_runs(&w, control_cpu, false),
			 "its cpuset gets a control CPU\n");
	close(ctx);
	worker_end(&w);
}

static struct {
	uint64_t rounds, stop;
} g;

static void guest_code(uint64_t index)
{
	volatile typeof(g) *v = &g;

	guest_apic_init();
	while (!v->stop)
		v->rounds++;
	GUEST_DONE();
}

/* The thread was pinned to the very CPU that is claimed for it, as libvirt does. */
static void vcpu_thread(void)
{
	cpu_set_t was, set = one_cpu(EXCL_FIRST_CPU);
	struct excl_vm ev = { };
	volatile typeof(g) *v;
	struct excl_counters c;
	unsigned int tries;
	pid_t tid;
	bool ok;

	sched_getaffinity(0, sizeof(was), &was);
	excl_vm_create(&ev, 1, guest_code);
	v = excl_shared(&ev, g);
	/* Of the main thread, so that the vCPU's is born with it. */
	close(ev.ctx);
	set_affinity(0, set);
	excl_vm_start(&ev);
	ok = excl_wait(&ev, v->rounds > 1000, 20);
	tid = ev.threads[0].tid;
	ev.ctx = excl_open();
	ok = ok && has_affinity(tid, set) && !excl_claim_first(ev.ctx, 1) &&
	     !excl_bind(ev.ctx, ev.vm->fd, 0);
	for (tries = 0, c.attached = 0; ok && !c.attached && tries < 100; tries++)
		excl_counters_read(ev.vcpus[0], &c);
	ksft_test_result(ok && c.attached, "a vCPU thread pinned to the CPU that is claimed attaches\n");
	ksft_test_result(set_affinity(tid, one_cpu(control_cpu)) == EBUSY,
			 "sched_setaffinity() of a vCPU thread: EBUSY\n");
	ok = write_file(GROUP "/cpuset.cpus", "%d,%d", EXCL_FIRST_CPU, control_cpu) &&
	     write_file(GROUP "/cgroup.procs", "%d", getpid());
	ksft_test_result(ok && has_affinity(tid, set), "its process moves to a cpuset\n");
	close(ev.ctx);
	ev.ctx = -1;
	ksft_test_result(has_affinity(tid, set), "its mask is what it was\n");
	v->stop = 1;
	ok = excl_vm_join(&ev, 20);
	ksft_test_result(ok, "the guest ends\n");
	excl_vm_destroy(&ev);
	write_file(ROOT_PROCS, "%d", getpid());
	set_affinity(0, was);
}

static void sync_code(uint64_t index)
{
	guest_apic_init();
	for (;;)
		GUEST_SYNC(0);
}

/* Run a vCPU in this thread, as a VMM without threads does. */
static int cpu_after_run(struct excl_vm *ev)
{
	struct ucall uc;

	vcpu_run(ev->vcpus[0]);
	TEST_ASSERT(get_ucall(ev->vcpus[0], &uc) == UCALL_SYNC, "no GUEST_SYNC");
	return sched_getcpu();
}

/*
 * One thread runs the vCPUs of two VMs in turn: the other VM's interrupts would be sent to
 * the owned CPU.
 */
static void thread_of_two(void)
{
	struct excl_vm ex = { }, other = { .ordinary = true };
	struct kvm_regs regs;
	struct excl_counters c;
	bool back, away;
	cpu_set_t was;
	int cpu;

	sched_getaffinity(0, sizeof(was), &was);
	excl_vm_create(&ex, 1, sync_code);
	excl_vm_create(&other, 1, sync_code);
	cpu = cpu_after_run(&ex);
	ksft_test_result(cpu == EXCL_FIRST_CPU, "one thread for two VMs: on the vCPU's CPU\n");
	/* What is no KVM_RUN does not move it. */
	vcpu_regs_get(other.vcpus[0], &regs);
	back = sched_getcpu() == EXCL_FIRST_CPU;
	cpu = cpu_after_run(&other);
	away = cpu != EXCL_FIRST_CPU;
	if (!away)
		ksft_print_msg("another VM's vCPU has run on CPU %d\n", cpu);
	ksft_test_result(back && away && has_affinity(0, was), "elsewhere with another VM's\n");
	cpu = cpu_after_run(&ex);
	excl_counters_read(ex.vcpus[0], &c);
	ksft_test_result(cpu == EXCL_FIRST_CPU && c.attaches >= 2, "back with the first\n");
	excl_vm_destroy(&other);
	excl_vm_destroy(&ex);
	ksft_test_result(has_affinity(0, was), "its mask is what it was\n");
}

int main(int argc, char **argv)
{
	ksft_print_header();
	excl_require(2);
	TEST_REQUIRE(!excl_stock());
	write_file("/sys/fs/cgroup/cgroup.subtree_control", "+cpuset");
	if (mkdir(GROUP, 0755) && errno != EEXIST)
		ksft_exit_skip("no cgroups with cpusets: %s\n", strerror(errno));
	ksft_set_plan(28);
	pinned_task(false);
	pinned_task(true);
	setaffinity();
	cpuset();
	vcpu_thread();
	thread_of_two();
	if (rmdir(GROUP))
		ksft_print_msg("rmdir: %s\n", strerror(errno));
	ksft_finished();
}
