// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that what limits a task's CPU time limits a vCPU's thread whose guest never exits,
 * also what is set while it is in there: its cgroup is charged for the time, a quota is
 * kept, period by period and not repaid in one piece, and a CPU timer that another thread
 * arms expires.
 */
#include <sys/stat.h>
#include <sys/time.h>

#include "guest.h"
#include "harness.h"

#define CGROUP		"/sys/fs/cgroup"
#define GROUP		CGROUP "/excl_cpu_limits_test"
#define NO_QUOTA	"max 100000"
#define WHOLE_MS	5000
#define QUOTA		"20000 100000"	/* us of 100 ms */
#define LONGEST_MS	500

static struct {
	uint64_t loops;
} g;

static void guest_code(uint64_t index)
{
	guest_count_for_ever(&g.loops);
}

static uint64_t usage_us(void)
{
	unsigned long long us = 0;
	char text[512];

	if (excl_read_file(GROUP "/cpu.stat", text, sizeof(text)))
		sscanf(text, "usage_usec %llu", &us);
	return us;
}

/* Percent of a CPU that the group uses in the next @ms. */
static unsigned int use(unsigned int ms)
{
	uint64_t us = usage_us(), ns = excl_now_ns();

	usleep(ms * 1000);
	us = usage_us() - us;
	ns = excl_now_ns() - ns;
	return us * 100000 / ns;
}

/*
 * Is it about what it should be?  The whole of a CPU that a busy host shares is less.  Without
 * a tick a control CPU charges once a second: one charge more or less is in the time.
 */
static bool uses(const char *what, unsigned int ms, unsigned int least, unsigned int most)
{
	unsigned int percent = use(ms);

	ksft_print_msg("%s: %u%% of a CPU in %u ms\n", what, percent, ms);
	return percent >= least && percent <= most;
}

/*
 * For how long the guest stands still, at the longest, in the next @ms. With a quota it does
 * in every period; what is taken in one piece and repaid in one shows here alone.
 */
static unsigned int longest_stall_ms(volatile uint64_t *loops, unsigned int ms)
{
	uint64_t start = excl_now_ns(), last = start, longest = 0, now = start, seen = *loops;

	while (now - start < ms * 1000000ULL) {
		usleep(2000);
		now = excl_now_ns();
		if (*loops != seen || now - start >= ms * 1000000ULL) {
			longest = now - last > longest ? now - last : longest;
			last = now;
			seen = *loops;
		}
	}
	return longest / 1000000;
}

/* ms from @start until a timer's signal, or 10000. */
static unsigned int due_ms(uint64_t start, int sig)
{
	struct timespec limit = { .tv_sec = 10 };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	return sigtimedwait(&set, NULL, &limit) == sig ? (excl_now_ns() - start) / 1000000 : 10000;
}

/* Until one of @ms of this process's CPU time is due. */
static unsigned int cpu_timer_ms(unsigned int ms)
{
	struct itimerspec when = { .it_value.tv_nsec = ms * 1000000L };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2 };
	uint64_t start = excl_now_ns();
	unsigned int due;
	timer_t timer;

	TEST_ASSERT(!timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &timer) &&
		    !timer_settime(timer, 0, &when, NULL), "timer: %s", strerror(errno));
	due = due_ms(start, SIGUSR2);
	timer_delete(timer);
	return due;
}

/* The same for its user and system time, which setitimer() counts. */
static unsigned int profiling_timer_ms(unsigned int ms)
{
	struct itimerval when = { .it_value.tv_usec = ms * 1000 }, off = {};
	uint64_t start = excl_now_ns();
	unsigned int due;

	TEST_ASSERT(!setitimer(ITIMER_PROF, &when, NULL), "setitimer: %s", strerror(errno));
	due = due_ms(start, SIGPROF);
	setitimer(ITIMER_PROF, &off, NULL);
	return due;
}

static bool join_group(const char *group)
{
	char path[64], pid[16];

	snprintf(path, sizeof(path), "%s/cgroup.procs", group);
	snprintf(pid, sizeof(pid), "%d", getpid());
	return !excl_write_file(path, pid);
}

/* A guest that never exits, of a process in a cgroup of its own, and some time after its start. */
FIXTURE(limits) {
	struct excl_vm ev;
	volatile typeof(g) *h;
};

FIXTURE_SETUP(limits)
{
	sigset_t set;

	/* The vCPU's thread inherits it: the signal is for this one. */
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGPROF);
	pthread_sigmask(SIG_BLOCK, &set, NULL);

	ASSERT_TRUE(!mkdir(GROUP, 0755) || errno == EEXIST);
	ASSERT_TRUE(join_group(GROUP));
	ASSERT_EQ(0, excl_write_file(GROUP "/cpu.max", NO_QUOTA));
	excl_vm_create(&self->ev, 1, guest_code);
	self->h = excl_shared(&self->ev, g);
	excl_vm_start(&self->ev);
	ASSERT_TRUE(excl_wait(&self->ev, self->h->loops, 20));
	/* Whatever the start has left behind is done. */
	sleep(2);
}

FIXTURE_TEARDOWN(limits)
{
	excl_vm_destroy(&self->ev);
	join_group(CGROUP);
	if (rmdir(GROUP))
		ksft_print_msg("rmdir: %s\n", strerror(errno));
}

TEST_F_TIMEOUT(limits, group_is_charged_for_a_stay, EXCL_CASE_S)
{
	struct excl_counters before, after;

	excl_counters_read(self->ev.vcpus[0], &before);
	EXPECT_TRUE(uses("no quota", WHOLE_MS, 60, 130));
	excl_counters_read(self->ev.vcpus[0], &after);
	excl_counters_delta("no quota", &before, &after);
	EXPECT_TRUE(after.attached);
	EXPECT_LE(after.attaches - before.attaches, 30);
}

/* One that another thread than the vCPU's arms. */
TEST_F_TIMEOUT(limits, cpu_timer_is_neither_late_nor_early, EXCL_CASE_S)
{
	unsigned int ms = cpu_timer_ms(500);

	ksft_print_msg("a timer of 500 ms of CPU time is due after %u ms\n", ms);
	EXPECT_LT(ms, 3000);
	/* Nobody else in here works, so that this much time takes as long. */
	EXPECT_GE(ms, 450);
}

TEST_F_TIMEOUT(limits, profiling_timer_is_neither_late_nor_early, EXCL_CASE_S)
{
	unsigned int ms;

	/* What no tick has accounted for is not to be counted twice. */
	sleep(3);
	ms = profiling_timer_ms(500);
	ksft_print_msg("one of 500 ms of user and system time is due after %u ms\n", ms);
	EXPECT_LT(ms, 3000);
	EXPECT_GE(ms, 450);
}

TEST_F_TIMEOUT(limits, quota_is_kept_while_attached, EXCL_CASE_S)
{
	struct excl_counters before, after;
	unsigned int ms;
	uint64_t loops;

	ASSERT_EQ(0, excl_write_file(GROUP "/cpu.max", QUOTA));
	use(1000);
	loops = self->h->loops;
	excl_counters_read(self->ev.vcpus[0], &before);
	EXPECT_TRUE(uses("a quota of 20%", 3000, 10, 30));
	excl_counters_read(self->ev.vcpus[0], &after);
	ms = (after.attached_ns - before.attached_ns) / 1000000;
	ksft_print_msg("meanwhile it was attached for %u ms\n", ms);
	EXPECT_NE(loops, self->h->loops);
	EXPECT_GE(ms, 150);
}

TEST_F_TIMEOUT(limits, quota_is_kept_period_by_period, EXCL_CASE_S)
{
	unsigned int ms;

	ASSERT_EQ(0, excl_write_file(GROUP "/cpu.max", QUOTA));
	use(1000);
	ms = longest_stall_ms(&self->h->loops, 3000);
	ksft_print_msg("the guest stands still for %u ms at most\n", ms);
	EXPECT_LT(ms, LONGEST_MS);
}

TEST_F_TIMEOUT(limits, all_is_the_guests_after_a_quota, EXCL_CASE_S)
{
	uint64_t loops;

	ASSERT_EQ(0, excl_write_file(GROUP "/cpu.max", QUOTA));
	use(1000);
	EXPECT_EQ(0, excl_write_file(GROUP "/cpu.max", NO_QUOTA));
	use(1000);
	loops = self->h->loops;
	EXPECT_TRUE(uses("no quota again", WHOLE_MS, 60, 130));
	EXPECT_NE(loops, self->h->loops);
}

int main(int argc, char **argv)
{
	excl_require(1);
	excl_write_file(CGROUP "/cgroup.subtree_control", "+cpu");
	if (mkdir(GROUP, 0755) && errno != EEXIST)
		ksft_exit_skip("no cgroups with quotas: %s\n", strerror(errno));
	rmdir(GROUP);
	return excl_harness_run(argc, argv);
}
