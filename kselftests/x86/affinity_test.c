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
#include <sys/sysinfo.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>

#include "guest.h"
#include "harness.h"

#define GROUP		"/sys/fs/cgroup/excl_affinity_test"
#define TENANT		"/sys/fs/cgroup/excl_affinity_test_tenant"
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
	w->pid = excl_fork();
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
 * A process with timers on the CPU: one whose signal is ignored, and is armed anew in its
 * handler, one that has a file, and an alarm, where the host has a clock for that.
 */
FIXTURE(user_timers) {
	pid_t pid;
};

static void arm_timers(void)
{
	struct sigevent sev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	struct itimerspec every_ms = { { 0, 1000000 }, { 0, 1000000 } };
	struct itimerspec late = { .it_value = { 1000 } };
	timer_t timer;

	signal(SIGUSR1, SIG_IGN);
	if (set_affinity(0, one_cpu(owned_cpu)) || timer_create(CLOCK_MONOTONIC, &sev, &timer) ||
	    timer_settime(timer, 0, &every_ms, NULL) ||
	    timerfd_settime(timerfd_create(CLOCK_MONOTONIC, 0), 0, &late, NULL))
		_exit(1);
	if (!timer_create(CLOCK_BOOTTIME_ALARM, &sev, &timer))
		timer_settime(timer, 0, &late, NULL);
	if (set_affinity(0, two_cpus(0, owned_cpu)))
		_exit(1);
	sleep(1000);
	_exit(1);
}

FIXTURE_SETUP(user_timers)
{
	self->pid = excl_fork();
	if (!self->pid)
		arm_timers();
}

FIXTURE_TEARDOWN(user_timers)
{
	kill(self->pid, SIGKILL);
	waitpid(self->pid, NULL, 0);
}

TEST_F_TIMEOUT(user_timers, expire_elsewhere_while_the_cpu_is_owned, EXCL_CASE_S)
{
	int ctx, before, n, tries = 10;

	do {
		usleep(20000);
		before = user_timers(owned_cpu);
	} while (before < 2 && --tries);
	ASSERT_GE(before, 2);
	ctx = claim();
	/* It may be in its handler when it is looked for, and is then not in the list. */
	for (n = 0, tries = 0; tries < 5; tries++) {
		usleep(5000);
		n += user_timers(owned_cpu);
	}
	ksft_print_msg("timers of user space there: %d, then %d in %d looks\n", before, n, tries);
	EXPECT_EQ(0, n);
	close(ctx);
}

/* A task whose mask names the CPU alone that is claimed then. */
FIXTURE(pinned) {
	struct worker w;
	int ctx;
};

FIXTURE_VARIANT(pinned) {
	bool sleeps;
};

FIXTURE_VARIANT_ADD(pinned, busy) {
	.sleeps = false,
};

FIXTURE_VARIANT_ADD(pinned, sleeping) {
	.sleeps = true,
};

FIXTURE_SETUP(pinned)
{
	worker_start(&self->w, one_cpu(owned_cpu), variant->sleeps);
	ASSERT_TRUE(worker_runs(&self->w, owned_cpu, false));
	self->ctx = claim();
}

FIXTURE_TEARDOWN(pinned)
{
	close(self->ctx);
	worker_end(&self->w);
}

TEST_F_TIMEOUT(pinned, leaves_and_works, EXCL_CASE_S)
{
	EXPECT_TRUE(worker_runs(&self->w, owned_cpu, true));
}

TEST_F_TIMEOUT(pinned, comes_back, EXCL_CASE_S)
{
	ASSERT_TRUE(worker_runs(&self->w, owned_cpu, true));
	close(self->ctx);
	self->ctx = -1;
	EXPECT_TRUE(worker_runs(&self->w, owned_cpu, false));
}

TEST_F_TIMEOUT(pinned, keeps_its_mask, EXCL_CASE_S)
{
	ASSERT_TRUE(worker_runs(&self->w, owned_cpu, true));
	EXPECT_TRUE(has_affinity(self->w.pid, one_cpu(owned_cpu)));
	close(self->ctx);
	self->ctx = -1;
	ASSERT_TRUE(worker_runs(&self->w, owned_cpu, false));
	EXPECT_TRUE(has_affinity(self->w.pid, one_cpu(owned_cpu)));
}

/* A task on a control CPU, while there is an owned one. */
FIXTURE(setaffinity) {
	struct worker w;
	int ctx;
};

FIXTURE_SETUP(setaffinity)
{
	worker_start(&self->w, one_cpu(control_cpu), false);
	ASSERT_TRUE(worker_runs(&self->w, control_cpu, false));
	self->ctx = claim();
}

FIXTURE_TEARDOWN(setaffinity)
{
	close(self->ctx);
	worker_end(&self->w);
}

/* Managers pin before the guest has ever run, and threads of theirs beside it. */
TEST_F_TIMEOUT(setaffinity, to_owned_cpus_alone_is_kept, EXCL_CASE_S)
{
	EXPECT_EQ(0, set_affinity(self->w.pid, one_cpu(owned_cpu)));
	EXPECT_TRUE(has_affinity(self->w.pid, one_cpu(owned_cpu)));
	EXPECT_TRUE(worker_runs(&self->w, owned_cpu, true));
}

TEST_F_TIMEOUT(setaffinity, to_an_owned_and_a_control_cpu, EXCL_CASE_S)
{
	cpu_set_t both = two_cpus(owned_cpu, control_cpu);

	ASSERT_EQ(0, set_affinity(self->w.pid, one_cpu(owned_cpu)));
	EXPECT_EQ(0, set_affinity(self->w.pid, both));
	EXPECT_TRUE(has_affinity(self->w.pid, both));
	EXPECT_TRUE(worker_runs(&self->w, control_cpu, false));
}

TEST_F_TIMEOUT(setaffinity, takes_it_there_at_the_release, EXCL_CASE_S)
{
	ASSERT_EQ(0, set_affinity(self->w.pid, one_cpu(owned_cpu)));
	close(self->ctx);
	self->ctx = -1;
	EXPECT_TRUE(worker_runs(&self->w, owned_cpu, false));
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

/* Fresh ones, as they have no CPUs yet. */
static bool create_group(void)
{
	return !mkdir(GROUP, 0755) || errno == EEXIST;
}

static void remove_dir(const char *path)
{
	if (rmdir(path))
		ksft_print_msg("rmdir %s: %s\n", path, strerror(errno));
}

/* A task on any of two CPUs, and a cpuset of the one that is owned. */
FIXTURE(cpuset) {
	struct worker w;
	int ctx;
};

FIXTURE_SETUP(cpuset)
{
	ASSERT_TRUE(create_group());
	worker_start(&self->w, two_cpus(owned_cpu, control_cpu), false);
	ASSERT_TRUE(worker_runs(&self->w, -1, true));
	self->ctx = claim();
	EXPECT_TRUE(write_file(GROUP "/cpuset.cpus", "%d", owned_cpu));
	EXPECT_TRUE(write_file(GROUP "/cgroup.procs", "%d", self->w.pid));
}

FIXTURE_TEARDOWN(cpuset)
{
	close(self->ctx);
	worker_end(&self->w);
	remove_dir(GROUP);
}

TEST_F_TIMEOUT(cpuset, of_owned_cpus_alone_has_tasks_work_elsewhere, EXCL_CASE_S)
{
	EXPECT_TRUE(worker_runs(&self->w, owned_cpu, true));
}

TEST_F_TIMEOUT(cpuset, is_the_mask_of_its_tasks, EXCL_CASE_S)
{
	ASSERT_TRUE(worker_runs(&self->w, owned_cpu, true));
	EXPECT_TRUE(has_affinity(self->w.pid, one_cpu(owned_cpu)));
}

TEST_F_TIMEOUT(cpuset, has_its_tasks_at_the_release, EXCL_CASE_S)
{
	ASSERT_TRUE(worker_runs(&self->w, owned_cpu, true));
	close(self->ctx);
	self->ctx = -1;
	EXPECT_TRUE(worker_runs(&self->w, owned_cpu, false));
}

TEST_F_TIMEOUT(cpuset, gets_a_control_cpu, EXCL_CASE_S)
{
	close(self->ctx);
	ASSERT_TRUE(worker_runs(&self->w, owned_cpu, false));
	self->ctx = claim();
	EXPECT_TRUE(write_file(GROUP "/cpuset.cpus", "%d", control_cpu));
	EXPECT_TRUE(worker_runs(&self->w, control_cpu, false));
}

/* Enough of them that one would be on each CPU that is drawn. */
#define NR_STANDING_IN	12

/* Tasks of a cpuset whose CPU is claimed, and somebody else who has a CPU as a partition. */
FIXTURE(tenant) {
	struct worker w[NR_STANDING_IN];
	int ctx;
};

FIXTURE_SETUP(tenant)
{
	int i;

	ASSERT_TRUE(create_group());
	ASSERT_TRUE(!mkdir(TENANT, 0755) || errno == EEXIST);
	ASSERT_TRUE(write_file(GROUP "/cpuset.cpus", "%d", owned_cpu));
	for (i = 0; i < NR_STANDING_IN; i++) {
		worker_start(&self->w[i], one_cpu(owned_cpu), true);
		EXPECT_TRUE(write_file(GROUP "/cgroup.procs", "%d", self->w[i].pid));
	}
	ASSERT_TRUE(write_file(TENANT "/cpuset.cpus", "%d", control_cpu));
	if (!write_file(TENANT "/cpuset.cpus.partition", "root"))
		SKIP(return, "no partitions of cpusets - not in this kernel");
	self->ctx = claim();
}

FIXTURE_TEARDOWN(tenant)
{
	int i;

	close(self->ctx);
	for (i = 0; i < NR_STANDING_IN; i++)
		worker_end(&self->w[i]);
	remove_dir(GROUP);
	remove_dir(TENANT);
}

TEST_F_TIMEOUT(tenant, has_nobody_stand_in_on_its_cpus, EXCL_CASE_S)
{
	int i;

	for (i = 0; i < NR_STANDING_IN; i++) {
		EXPECT_TRUE(worker_runs(&self->w[i], owned_cpu, true));
		EXPECT_NE(control_cpu, self->w[i].at->cpu);
	}
}

/* The host's only CPU is isolated, so that no scheduler domain is left. */
FIXTURE(isolated) {
	struct worker w;
	int ctx;
};

FIXTURE_SETUP(isolated)
{
	worker_start(&self->w, one_cpu(owned_cpu), false);
	self->ctx = excl_open();
	ASSERT_EQ(0, excl_claim_first(self->ctx, get_nprocs() - 1));
	ASSERT_TRUE(create_group());
	ASSERT_TRUE(write_file(GROUP "/cpuset.cpus", "0"));
	if (!write_file(GROUP "/cpuset.cpus.partition", "isolated"))
		SKIP(return, "no partitions of cpusets - not in this kernel");
}

FIXTURE_TEARDOWN(isolated)
{
	close(self->ctx);
	worker_end(&self->w);
	remove_dir(GROUP);
}

/* What is wrong shows in the log. */
TEST_F_TIMEOUT(isolated, cpu_of_the_host_has_the_domains_rebuilt, EXCL_CASE_S)
{
	EXPECT_TRUE(write_file(GROUP "/cpuset.cpus.partition", "member"));
	EXPECT_TRUE(write_file(GROUP "/cpuset.cpus.partition", "isolated"));
	EXPECT_TRUE(worker_runs(&self->w, owned_cpu, true));
	close(self->ctx);
	self->ctx = -1;
	EXPECT_TRUE(worker_runs(&self->w, owned_cpu, false));
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

static void start_guest(struct excl_vm *ev, volatile typeof(g) **v)
{
	excl_vm_create(ev, 1, guest_code);
	*v = excl_shared(ev, g);
	excl_vm_start(ev);
	TEST_ASSERT(excl_wait(ev, (*v)->rounds > 1000, 20), "the guest does not start");
}

static bool end_guest(struct excl_vm *ev, volatile typeof(g) *v)
{
	bool ended;

	v->stop = 1;
	ended = excl_vm_join(ev, 20);
	excl_vm_destroy(ev);
	return ended;
}

static bool attaches(struct excl_vm *ev)
{
	struct kvm_excl_get_vcpu_status status;

	return excl_wait_attached(ev->ctx, 0, &status);
}

/* The thread was pinned to the very CPU that is claimed for it, as libvirt does. */
FIXTURE(vcpu_thread) {
	struct excl_vm ev;
	volatile typeof(g) *v;
	pid_t tid;
};

FIXTURE_SETUP(vcpu_thread)
{
	struct excl_vm *ev = &self->ev;

	ASSERT_TRUE(create_group());
	excl_vm_create(ev, 1, guest_code);
	self->v = excl_shared(ev, g);
	/* Of the main thread, so that the vCPU's is born with it. */
	close(ev->ctx);
	set_affinity(0, one_cpu(EXCL_FIRST_CPU));
	excl_vm_start(ev);
	ASSERT_TRUE(excl_wait(ev, self->v->rounds > 1000, 20));
	self->tid = ev->threads[0].tid;
	ev->ctx = excl_open();
	ASSERT_TRUE(has_affinity(self->tid, one_cpu(EXCL_FIRST_CPU)));
	ASSERT_EQ(0, excl_claim_first(ev->ctx, 1));
	ASSERT_EQ(0, excl_bind(ev->ctx, ev->vm->fd, 0));
}

FIXTURE_TEARDOWN(vcpu_thread)
{
	EXPECT_TRUE(end_guest(&self->ev, self->v));
	write_file(ROOT_PROCS, "%d", getpid());
	remove_dir(GROUP);
}

TEST_F_TIMEOUT(vcpu_thread, pinned_to_its_cpu_attaches, EXCL_CASE_S)
{
	EXPECT_TRUE(attaches(&self->ev));
}

TEST_F_TIMEOUT(vcpu_thread, has_an_affinity_that_nobody_changes, EXCL_CASE_S)
{
	ASSERT_TRUE(attaches(&self->ev));
	EXPECT_EQ(EBUSY, set_affinity(self->tid, one_cpu(control_cpu)));
}

TEST_F_TIMEOUT(vcpu_thread, keeps_its_mask_in_a_cpuset_and_at_the_release, EXCL_CASE_S)
{
	ASSERT_TRUE(attaches(&self->ev));
	EXPECT_TRUE(write_file(GROUP "/cpuset.cpus", "%d,%d", EXCL_FIRST_CPU, control_cpu));
	EXPECT_TRUE(write_file(GROUP "/cgroup.procs", "%d", getpid()));
	EXPECT_TRUE(has_affinity(self->tid, one_cpu(EXCL_FIRST_CPU)));
	close(self->ev.ctx);
	self->ev.ctx = -1;
	EXPECT_TRUE(has_affinity(self->tid, one_cpu(EXCL_FIRST_CPU)));
}

/*
 * Its VMM is in a cpuset, and nobody has asked for a CPU of the thread.  On the host in QEMU the
 * rig has, for all that runs there: only Bochs' hosts show that the cpuset's change is kept.
 */
FIXTURE(cpuset_thread) {
	struct excl_vm ev;
	volatile typeof(g) *v;
	pid_t tid;
};

FIXTURE_SETUP(cpuset_thread)
{
	ASSERT_TRUE(create_group());
	ASSERT_TRUE(write_file(GROUP "/cpuset.cpus", "%d,%d", EXCL_FIRST_CPU, owned_cpu));
	ASSERT_TRUE(write_file(GROUP "/cgroup.procs", "%d", getpid()));
	start_guest(&self->ev, &self->v);
	self->tid = self->ev.threads[0].tid;
	ASSERT_TRUE(attaches(&self->ev));
}

FIXTURE_TEARDOWN(cpuset_thread)
{
	EXPECT_TRUE(end_guest(&self->ev, self->v));
	write_file(ROOT_PROCS, "%d", getpid());
	remove_dir(GROUP);
}

TEST_F_TIMEOUT(cpuset_thread, is_allowed_at_the_release_what_its_cpuset_has_then, EXCL_CASE_S)
{
	EXPECT_TRUE(write_file(GROUP "/cpuset.cpus", "%d,%d", owned_cpu, control_cpu));
	EXPECT_TRUE(has_affinity(self->tid, one_cpu(EXCL_FIRST_CPU)));
	close(self->ev.ctx);
	self->ev.ctx = -1;
	EXPECT_TRUE(has_affinity(self->tid, two_cpus(owned_cpu, control_cpu)));
}

/* The CPU that the thread asked for, not its vCPU's own, has gone offline meanwhile. */
FIXTURE(thread_of_offline_cpu) {
	struct excl_vm ev;
	volatile typeof(g) *v;
	pid_t tid;
};

FIXTURE_SETUP(thread_of_offline_cpu)
{
	set_affinity(0, one_cpu(control_cpu));
	start_guest(&self->ev, &self->v);
	self->tid = self->ev.threads[0].tid;
	ASSERT_TRUE(attaches(&self->ev));
	ASSERT_EQ(0, excl_set_online(control_cpu, "0"));
}

FIXTURE_TEARDOWN(thread_of_offline_cpu)
{
	EXPECT_EQ(0, excl_set_online(control_cpu, "1"));
	EXPECT_TRUE(end_guest(&self->ev, self->v));
}

TEST_F_TIMEOUT(thread_of_offline_cpu, may_run_anywhere_at_the_release, EXCL_CASE_S)
{
	cpu_set_t set;

	ASSERT_TRUE(has_affinity(self->tid, one_cpu(EXCL_FIRST_CPU)));
	close(self->ev.ctx);
	self->ev.ctx = -1;
	ASSERT_EQ(0, sched_getaffinity(self->tid, sizeof(set), &set));
	EXPECT_LT(1, CPU_COUNT(&set));
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
 * the owned CPU. It has run the vCPU that has a CPU.
 */
FIXTURE(thread_of_two) {
	struct excl_vm ex;
	struct excl_vm other;
	cpu_set_t was;
	int cpu;
};

FIXTURE_SETUP(thread_of_two)
{
	self->other.ordinary = true;
	sched_getaffinity(0, sizeof(self->was), &self->was);
	excl_vm_create(&self->ex, 1, sync_code);
	excl_vm_create(&self->other, 1, sync_code);
	self->cpu = cpu_after_run(&self->ex);
}

FIXTURE_TEARDOWN(thread_of_two)
{
	excl_vm_destroy(&self->other);
	excl_vm_destroy(&self->ex);
	/* Its mask is what it was. */
	EXPECT_TRUE(has_affinity(0, self->was));
}

TEST_F_TIMEOUT(thread_of_two, is_on_the_vcpus_cpu, EXCL_CASE_S)
{
	EXPECT_EQ(EXCL_FIRST_CPU, self->cpu);
}

TEST_F_TIMEOUT(thread_of_two, has_children_that_are_not_bound_to_its_cpu, EXCL_CASE_S)
{
	int status = -1;
	pid_t pid;

	ASSERT_EQ(EXCL_FIRST_CPU, self->cpu);
	pid = fork();
	if (!pid)
		_exit(!has_affinity(0, self->was) || sched_getcpu() == EXCL_FIRST_CPU);
	waitpid(pid, &status, 0);
	EXPECT_EQ(0, status);
}

TEST_F_TIMEOUT(thread_of_two, is_elsewhere_with_the_other_vm, EXCL_CASE_S)
{
	struct kvm_regs regs;

	ASSERT_EQ(EXCL_FIRST_CPU, self->cpu);
	/* What is no KVM_RUN does not move it. */
	vcpu_regs_get(self->other.vcpus[0], &regs);
	EXPECT_EQ(EXCL_FIRST_CPU, sched_getcpu());
	EXPECT_NE(EXCL_FIRST_CPU, cpu_after_run(&self->other));
	EXPECT_TRUE(has_affinity(0, self->was));
}

TEST_F_TIMEOUT(thread_of_two, is_back_with_the_first_vm, EXCL_CASE_S)
{
	struct excl_counters c;

	ASSERT_NE(EXCL_FIRST_CPU, cpu_after_run(&self->other));
	EXPECT_EQ(EXCL_FIRST_CPU, cpu_after_run(&self->ex));
	excl_counters_read(self->ex.vcpus[0], &c);
	EXPECT_GE(c.attaches, 2);
}

#define RUNTIME_NS		10000000
#define PERIOD_NS		100000000
/* As the scheduler counts it. */
#define SLEEPER_BANDWIDTH	((long long)((((uint64_t)RUNTIME_NS) << 20) / PERIOD_NS))

/* 0 or an errno. */
static int set_deadline(pid_t pid)
{
	struct sched_attr attr = {
		.size = sizeof(attr), .sched_policy = SCHED_DEADLINE,
		.sched_runtime = RUNTIME_NS, .sched_deadline = PERIOD_NS,
		.sched_period = PERIOD_NS,
	};

	return syscall(SYS_sched_setattr, pid, &attr, 0) ? errno : 0;
}

static int set_other(pid_t pid)
{
	struct sched_attr attr = { .size = sizeof(attr) };

	return syscall(SYS_sched_setattr, pid, &attr, 0) ? errno : 0;
}

static void allow_all_cpus(pid_t pid)
{
	cpu_set_t all;

	memset(&all, 0xff, sizeof(all));
	set_affinity(pid, all);
}

/*
 * The bandwidth of a SCHED_DEADLINE task is of the CPUs that it may run on: its vCPU does
 * not have one to itself.
 */
FIXTURE(deadline_thread) {
	struct excl_vm ex;
};

FIXTURE_SETUP(deadline_thread)
{
	/* It has to be allowed wherever its domain is. */
	allow_all_cpus(0);
	excl_vm_create(&self->ex, 1, sync_code);
	/* KVM makes a thread of its own at the first KVM_RUN, and such a task may not fork. */
	vcpu_run_complete_io(self->ex.vcpus[0]);
}

FIXTURE_TEARDOWN(deadline_thread)
{
	if (self->ex.vm)
		excl_vm_destroy(&self->ex);
}

TEST_F_TIMEOUT(deadline_thread, runs_its_vcpu_on_a_control_cpu, EXCL_CASE_S)
{
	struct excl_counters c;

	ASSERT_EQ(0, set_deadline(0));
	EXPECT_NE(EXCL_FIRST_CPU, cpu_after_run(&self->ex));
	excl_counters_read(self->ex.vcpus[0], &c);
	EXPECT_EQ(0, c.attaches);
	set_other(0);
}

TEST_F_TIMEOUT(deadline_thread, gets_its_cpu_as_another_one, EXCL_CASE_S)
{
	ASSERT_EQ(0, set_deadline(0));
	EXPECT_NE(EXCL_FIRST_CPU, cpu_after_run(&self->ex));
	ASSERT_EQ(0, set_other(0));
	EXPECT_EQ(EXCL_FIRST_CPU, cpu_after_run(&self->ex));
}

TEST_F_TIMEOUT(deadline_thread, is_not_made_of_one_that_has_its_cpu, EXCL_CASE_S)
{
	ASSERT_EQ(EXCL_FIRST_CPU, cpu_after_run(&self->ex));
	EXPECT_EQ(EPERM, set_deadline(0));
}

/* What the domains have counted is right again. */
TEST_F_TIMEOUT(deadline_thread, is_made_afterwards, EXCL_CASE_S)
{
	int i;

	ASSERT_EQ(0, set_deadline(0));
	cpu_after_run(&self->ex);
	ASSERT_EQ(0, set_other(0));
	ASSERT_EQ(EXCL_FIRST_CPU, cpu_after_run(&self->ex));
	ASSERT_EQ(EPERM, set_deadline(0));
	excl_vm_destroy(&self->ex);
	self->ex.vm = NULL;
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(0, set_deadline(0));
		EXPECT_EQ(0, set_other(0));
	}
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
		if (sscanf(line, "dl_rq[%d]", &at) != 1 && at == cpu &&
		    sscanf(line, " .dl_bw->total_bw : %lld", &bw) == 1)
			break;
	}
	fclose(f);
	return bw;
}

/* What it is when it has become @want, or after a second: a task gives its own back late. */
static long long deadline_bandwidth_that_comes_to(int cpu, long long want)
{
	long long bw;
	int tries = 50;

	do {
		usleep(20000);
		bw = deadline_bandwidth(cpu);
	} while (bw != want && --tries);
	return bw;
}

/*
 * A task that has run last on a CPU that is owned now becomes a SCHED_DEADLINE one while it
 * sleeps: its bandwidth is of the CPUs where it wakes up.
 */
FIXTURE(deadline_sleeper) {
	pid_t pid;
	int ctx;
	long long before;
};

FIXTURE_SETUP(deadline_sleeper)
{
	self->pid = excl_fork();
	if (!self->pid) {
		set_affinity(0, one_cpu(owned_cpu));
		for (;;)
			pause();
	}
	usleep(100000);
	allow_all_cpus(self->pid);
	self->ctx = claim();
	self->before = deadline_bandwidth(control_cpu);
	ASSERT_LE(0, self->before);
	ASSERT_EQ(0, set_deadline(self->pid));
	ksft_print_msg("bandwidth %lld, then %lld\n", self->before,
		       deadline_bandwidth(control_cpu));
}

static void end_sleeper(pid_t *pid)
{
	if (*pid > 0) {
		kill(*pid, SIGKILL);
		waitpid(*pid, NULL, 0);
	}
	*pid = -1;
}

FIXTURE_TEARDOWN(deadline_sleeper)
{
	end_sleeper(&self->pid);
	close(self->ctx);
	if (!access(GROUP, F_OK))
		remove_dir(GROUP);
}

TEST_F_TIMEOUT(deadline_sleeper, has_bandwidth_of_the_control_cpus, EXCL_CASE_S)
{
	EXPECT_GT(deadline_bandwidth(control_cpu), self->before);
}

TEST_F_TIMEOUT(deadline_sleeper, gives_it_back_to_them, EXCL_CASE_S)
{
	ASSERT_GT(deadline_bandwidth(control_cpu), self->before);
	end_sleeper(&self->pid);
	EXPECT_EQ(self->before, deadline_bandwidth_that_comes_to(control_cpu, self->before));
}

/* Its bandwidth is looked for while nothing keeps the task, or who looks, where it is. */
TEST_F_TIMEOUT(deadline_sleeper, of_a_cpuset_of_owned_cpus_is_counted_by_another_claim,
	       EXCL_CASE_S)
{
	int ctx = excl_open();

	ASSERT_TRUE(create_group());
	ASSERT_TRUE(write_file(GROUP "/cpuset.cpus", "%d", owned_cpu));
	ASSERT_TRUE(write_file(GROUP "/cgroup.procs", "%d", self->pid));
	EXPECT_EQ(0, excl_claim_first(ctx, 1));
	close(ctx);
	end_sleeper(&self->pid);
	EXPECT_EQ(self->before, deadline_bandwidth_that_comes_to(control_cpu, self->before));
}

/* A SCHED_DEADLINE task whose cpuset has owned CPUs alone stands in and is counted once. */
FIXTURE(deadline_in_cpuset) {
	pid_t pid;
	int ctx;
	long long before;
};

FIXTURE_SETUP(deadline_in_cpuset)
{
	ASSERT_TRUE(create_group());
	self->pid = excl_fork();
	if (!self->pid) {
		allow_all_cpus(0);
		for (;;)
			pause();
	}
	usleep(100000);
	self->ctx = claim();
	self->before = deadline_bandwidth(control_cpu);
	ASSERT_LE(0, self->before);
	ASSERT_EQ(0, set_deadline(self->pid));
	ASSERT_TRUE(write_file(GROUP "/cpuset.cpus", "%d", owned_cpu));
	ASSERT_TRUE(write_file(GROUP "/cgroup.procs", "%d", self->pid));
	ksft_print_msg("bandwidth %lld, then %lld\n", self->before,
		       deadline_bandwidth(control_cpu));
}

FIXTURE_TEARDOWN(deadline_in_cpuset)
{
	end_sleeper(&self->pid);
	close(self->ctx);
	remove_dir(GROUP);
}

TEST_F_TIMEOUT(deadline_in_cpuset, is_counted_where_it_stands_in, EXCL_CASE_S)
{
	EXPECT_GT(deadline_bandwidth(control_cpu), self->before);
}

TEST_F_TIMEOUT(deadline_in_cpuset, gives_its_bandwidth_back_once, EXCL_CASE_S)
{
	end_sleeper(&self->pid);
	EXPECT_EQ(self->before, deadline_bandwidth_that_comes_to(control_cpu, self->before));
}

/* Its cpuset has become a partition, with a domain that exists from the release on. */
TEST_F_TIMEOUT(deadline_in_cpuset, takes_its_bandwidth_along_at_the_release, EXCL_CASE_S)
{
	long long own, left;

	if (!write_file(GROUP "/cpuset.cpus.partition", "root"))
		SKIP(return, "no partitions of cpusets - not in this kernel");
	close(self->ctx);
	self->ctx = -1;
	own = deadline_bandwidth(owned_cpu);
	end_sleeper(&self->pid);
	left = deadline_bandwidth_that_comes_to(owned_cpu, own - SLEEPER_BANDWIDTH);
	ksft_print_msg("bandwidth of the partition %lld, then %lld\n", own, left);
	EXPECT_LE(0, left);
	EXPECT_EQ(own - SLEEPER_BANDWIDTH, left);
}

int main(int argc, char **argv)
{
	excl_require(3);
	TEST_REQUIRE(!excl_stock());
	write_file("/sys/fs/cgroup/cgroup.subtree_control", "+cpuset");
	if (!create_group())
		ksft_exit_skip("no cgroups with cpusets: %s\n", strerror(errno));
	rmdir(GROUP);
	return excl_harness_run(argc, argv);
}
