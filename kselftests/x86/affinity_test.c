// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that ownership and affinity masks live together: nothing comes to an owned
 * CPU by sched_setaffinity() or a cpuset, a task whose mask names owned CPUs alone
 * works on a control CPU until the release and then goes back, and no mask is lost,
 * the vCPU thread's own and its children's included.  A process's timers leave, too.
 */
#include <linux/sched/types.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>

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

/* How many timers of user space are on a CPU, by /proc/timer_list; -1: it does not say. */
static int user_timers(int cpu)
{
	static const char *const of_user[] = {
		"posix_timer_fn", "it_real_fn", "hrtimer_wakeup", "timerfd_tmrproc",
		"alarmtimer_fired",
	};
	FILE *f = fopen("/proc/timer_list", "r");
	int at = -1, n = -1;
	unsigned int i;
	char line[256];

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "cpu: %d", &at) == 1 && at == cpu)
			n = 0;
		for (i = 0; at == cpu && i < ARRAY_SIZE(of_user); i++)
			n += !!strstr(line, of_user[i]);
	}
	fclose(f);
	return n;
}

/*
 * What a process has armed on the CPU does not expire there any more: a timer whose signal
 * is ignored, and is armed anew in its handler, one that has a file, and an alarm, where
 * the host has a clock for that.
 */
static void user_timer(void)
{
	struct itimerspec every_ms = { { 0, 1000000 }, { 0, 1000000 } };
	struct itimerspec late = { .it_value = { 1000 } };
	cpu_set_t set = one_cpu(owned_cpu), any = two_cpus(0, owned_cpu);
	int ctx, before, n, tries = 10;
	timer_t timer;
	pid_t pid;

	pid = fork();
	TEST_ASSERT(pid >= 0, "fork: %s", strerror(errno));
	if (!pid) {
		struct sigevent sev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };

		signal(SIGUSR1, SIG_IGN);
		if (set_affinity(0, set) || timer_create(CLOCK_MONOTONIC, &sev, &timer) ||
		    timer_settime(timer, 0, &every_ms, NULL) ||
		    timerfd_settime(timerfd_create(CLOCK_MONOTONIC, 0), 0, &late, NULL))
			_exit(1);
		if (!timer_create(CLOCK_BOOTTIME_ALARM, &sev, &timer))
			timer_settime(timer, 0, &late, NULL);
		if (set_affinity(0, any))
			_exit(1);
		sleep(1000);
		_exit(1);
	}
	do {
		usleep(20000);
		before = user_timers(owned_cpu);
	} while (before < 2 && --tries);
	ksft_test_result(before >= 2, "a process has timers on the CPU\n");
	ctx = claim();
	/* It may be in its handler when it is looked for, and is then not in the list. */
	for (n = 0, tries = 0; tries < 5; tries++) {
		usleep(5000);
		n += user_timers(owned_cpu);
	}
	ksft_print_msg("timers of user space there: %d, then %d in %d looks\n", before, n, tries);
	ksft_test_result(!n, "they expire elsewhere while the CPU is owned\n");
	close(ctx);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
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
	int cpu, status = -1;
	bool back, away;
	cpu_set_t was;
	pid_t pid;

	sched_getaffinity(0, sizeof(was), &was);
	excl_vm_create(&ex, 1, sync_code);
	excl_vm_create(&other, 1, sync_code);
	cpu = cpu_after_run(&ex);
	ksft_test_result(cpu == EXCL_FIRST_CPU, "one thread for two VMs: on the vCPU's CPU\n");
	pid = fork();
	if (!pid)
		_exit(!has_affinity(0, was) || sched_getcpu() == EXCL_FIRST_CPU);
	waitpid(pid, &status, 0);
	ksft_test_result(!status, "a child of the thread is not bound to its CPU\n");
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

/*
 * The bandwidth of a SCHED_DEADLINE task is of the CPUs that it may run on: its vCPU does
 * not have one to itself.
 */
static void deadline_thread(void)
{
	struct sched_attr attr = {
		.size = sizeof(attr), .sched_policy = SCHED_DEADLINE, .sched_runtime = 10000000,
		.sched_deadline = 100000000, .sched_period = 100000000,
	}, other = { .size = sizeof(other) };
	struct excl_counters c;
	struct excl_vm ex = { };
	bool runs, again = true;
	cpu_set_t was, all;
	int i, r;

	/* It has to be allowed wherever its domain is. */
	sched_getaffinity(0, sizeof(was), &was);
	memset(&all, 0xff, sizeof(all));
	set_affinity(0, all);
	excl_vm_create(&ex, 1, sync_code);
	/* KVM makes a thread of its own at the first KVM_RUN, and such a task may not fork. */
	vcpu_run_complete_io(ex.vcpus[0]);
	r = syscall(SYS_sched_setattr, 0, &attr, 0) ? errno : 0;
	if (r)
		ksft_print_msg("sched_setattr: %s\n", strerror(r));
	runs = cpu_after_run(&ex) != EXCL_FIRST_CPU;
	excl_counters_read(ex.vcpus[0], &c);
	runs &= !c.attaches;
	ksft_test_result(!r && runs, "a SCHED_DEADLINE thread's vCPU runs, on a control CPU\n");
	syscall(SYS_sched_setattr, 0, &other, 0);
	ksft_test_result(cpu_after_run(&ex) == EXCL_FIRST_CPU, "and gets its CPU as another one\n");
	r = syscall(SYS_sched_setattr, 0, &attr, 0) ? errno : 0;
	ksft_test_result(r == EPERM, "which cannot become SCHED_DEADLINE: %s\n", strerror(r));
	excl_vm_destroy(&ex);
	/* What the domains have counted is right again. */
	for (i = 0; i < 3 && again; i++)
		again = !syscall(SYS_sched_setattr, 0, &attr, 0) &&
			!syscall(SYS_sched_setattr, 0, &other, 0);
	ksft_test_result(again, "and can afterwards\n");
	set_affinity(0, was);
}

/* The bandwidth of the SCHED_DEADLINE tasks in the domain of a CPU, or -1. */
static long long deadline_bandwidth(int cpu)
{
	FILE *f = fopen("/sys/kernel/debug/sched/debug", "r");
	long long bw = -1;
	char line[256];
	int at = -1;

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		sscanf(line, "dl_rq[%d]", &at);
		if (at == cpu && sscanf(line, " .dl_bw->total_bw : %lld", &bw) == 1)
			break;
	}
	fclose(f);
	return bw;
}

/*
 * A task that has run last on a CPU that is owned now becomes a SCHED_DEADLINE one while it
 * sleeps: its bandwidth is of the CPUs where it wakes up.
 */
static void deadline_sleeper(void)
{
	struct sched_attr attr = {
		.size = sizeof(attr), .sched_policy = SCHED_DEADLINE, .sched_runtime = 10000000,
		.sched_deadline = 100000000, .sched_period = 100000000,
	};
	cpu_set_t set = one_cpu(owned_cpu), all;
	long long before, with, after;
	int ctx, r, tries = 50;
	pid_t pid;

	memset(&all, 0xff, sizeof(all));
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork: %s", strerror(errno));
	if (!pid) {
		set_affinity(0, set);
		for (;;)
			pause();
	}
	usleep(100000);
	set_affinity(pid, all);
	ctx = claim();
	before = deadline_bandwidth(control_cpu);
	r = syscall(SYS_sched_setattr, pid, &attr, 0) ? errno : 0;
	with = deadline_bandwidth(control_cpu);
	ksft_print_msg("sched_setattr: %s; bandwidth %lld, then %lld\n", strerror(r), before, with);
	ksft_test_result(!r && before >= 0 && with > before,
			 "a sleeper's SCHED_DEADLINE bandwidth is of the control CPUs\n");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	do {
		usleep(20000);
		after = deadline_bandwidth(control_cpu);
	} while (after != before && --tries);
	ksft_test_result(after == before, "and is given back to them: %lld\n", after);
	close(ctx);
}

int main(int argc, char **argv)
{
	ksft_print_header();
	excl_require(3);
	TEST_REQUIRE(!excl_stock());
	write_file("/sys/fs/cgroup/cgroup.subtree_control", "+cpuset");
	if (mkdir(GROUP, 0755) && errno != EEXIST)
		ksft_exit_skip("no cgroups with cpusets: %s\n", strerror(errno));
	ksft_set_plan(37);
	pinned_task(false);
	pinned_task(true);
	user_timer();
	setaffinity();
	cpuset();
	vcpu_thread();
	thread_of_two();
	deadline_thread();
	deadline_sleeper();
	if (rmdir(GROUP))
		ksft_print_msg("rmdir: %s\n", strerror(errno));
	ksft_finished();
}
