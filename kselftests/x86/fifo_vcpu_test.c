// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that a vCPU thread with a real-time policy, which never gives way by itself, does
 * not starve what the kernel has queued on its CPU: a work item on every CPU is done in
 * bounded time, whichever policy the thread has, and when it changes.
 *
 *   fifo_vcpu_test [ROUNDS]
 */
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include "guest.h"
#include "harness.h"

/* The deadline server gives fair tasks 50 ms in each second. */
#define BOUND_MS	5000
#define WORK		"/proc/sys/vm/stat_refresh"	/* schedule_on_each_cpu() */

static struct {
	uint64_t loops;
} g;

static void guest_code(uint64_t index)
{
	guest_count_for_ever(&g.loops);
}

/* ms until a work item has been done on every CPU, or BOUND_MS. */
static uint64_t work_ms(void)
{
	uint64_t start = excl_now_ns(), ms = 0;
	pid_t child = excl_fork(), ended;
	int status = -1;
	char buf[8];

	if (!child)
		_exit(!excl_read_file(WORK, buf, sizeof(buf)));
	while (!(ended = waitpid(child, &status, WNOHANG)) && ms < BOUND_MS) {
		usleep(1000);
		ms = (excl_now_ns() - start) / 1000000;
	}
	TEST_ASSERT(ended != child || !status, "%s cannot be read", WORK);
	return ms;
}

static bool set_policy(struct excl_vm *ev, int policy)
{
	struct sched_param param = { .sched_priority = policy == SCHED_OTHER ? 0 : 50 };

	if (!sched_setscheduler(ev->threads[0].tid, policy, &param))
		return true;
	ksft_print_msg("sched_setscheduler(%d): %s\n", policy, strerror(errno));
	return false;
}

static unsigned long rounds;

/* A guest that never exits, and the policy of its vCPU's thread. */
FIXTURE(policy) {
	struct excl_vm ev;
	volatile typeof(g) *h;
};

FIXTURE_VARIANT(policy) {
	int before;
	int now;
};

FIXTURE_VARIANT_ADD(policy, other) {
	.before = SCHED_OTHER,
	.now = SCHED_OTHER,
};

FIXTURE_VARIANT_ADD(policy, fifo) {
	.before = SCHED_OTHER,
	.now = SCHED_FIFO,
};

FIXTURE_VARIANT_ADD(policy, other_behind_fifo) {
	.before = SCHED_FIFO,
	.now = SCHED_OTHER,
};

FIXTURE_VARIANT_ADD(policy, rr) {
	.before = SCHED_OTHER,
	.now = SCHED_RR,
};

FIXTURE_SETUP(policy)
{
	excl_vm_create(&self->ev, 1, guest_code);
	self->h = excl_shared(&self->ev, g);
	excl_vm_start(&self->ev);
	ASSERT_TRUE(excl_wait(&self->ev, self->h->loops, 20));
	ASSERT_TRUE(set_policy(&self->ev, variant->before));
	/* So that there is a change: work is queued under both. */
	ASSERT_LT(work_ms(), BOUND_MS);
	ASSERT_TRUE(set_policy(&self->ev, variant->now));
}

FIXTURE_TEARDOWN(policy)
{
	set_policy(&self->ev, SCHED_OTHER);
	excl_vm_destroy(&self->ev);
}

static uint64_t longest_work_ms(void)
{
	uint64_t longest = 0, ms;
	unsigned long i;

	for (i = 0; i < rounds && longest < BOUND_MS; i++) {
		ms = work_ms();
		longest = ms > longest ? ms : longest;
	}
	ksft_print_msg("a work item on every CPU took %lu ms at most\n", longest);
	return longest;
}

TEST_F_TIMEOUT(policy, has_work_on_its_cpu_done_and_its_vcpu_attached, EXCL_CASE_S)
{
	struct kvm_excl_get_vcpu_status status;

	EXPECT_LT(longest_work_ms(), BOUND_MS);
	/* A kick detaches it for a moment. */
	EXPECT_TRUE(excl_wait_attached(self->ev.ctx, 0, &status));
}

TEST_F_TIMEOUT(policy, has_the_guest_go_on, EXCL_CASE_S)
{
	uint64_t loops;

	ASSERT_LT(longest_work_ms(), BOUND_MS);
	loops = self->h->loops;
	EXPECT_TRUE(excl_wait(&self->ev, self->h->loops != loops, 5));
}

int main(int argc, char **argv)
{
	excl_require(1);
	rounds = excl_arg(argc, argv, 1, 3);
	return excl_harness_run(argc, argv);
}
