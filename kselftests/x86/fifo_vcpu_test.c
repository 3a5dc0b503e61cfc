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

#include "excl.h"
#include "guest.h"

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
	pid_t child = fork(), ended;
	int status = -1;
	char buf[8];

	TEST_ASSERT(child >= 0, "fork: %s", strerror(errno));
	if (!child)
		_exit(!excl_read_file(WORK, buf, sizeof(buf)));
	while (!(ended = waitpid(child, &status, WNOHANG)) && ms < BOUND_MS) {
		usleep(1000);
		ms = (excl_now_ns() - start) / 1000000;
	}
	if (ended == child && status)
		ksft_exit_fail_msg("%s cannot be read\n", WORK);
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

int main(int argc, char **argv)
{
	static const struct {
		int policy;
		const char *name;
	} turns[] = {
		{ SCHED_OTHER, "SCHED_OTHER" },
		{ SCHED_FIFO, "SCHED_FIFO" },
		{ SCHED_OTHER, "SCHED_OTHER again" },
		{ SCHED_RR, "SCHED_RR" },
	};
	struct excl_vm ev = {};
	struct kvm_excl_get_vcpu_status status;
	volatile typeof(g) *h;
	unsigned long rounds, i;
	uint64_t ms, longest, loops;
	unsigned int turn;
	bool ok;

	ksft_print_header();
	excl_require(1);
	rounds = excl_arg(argc, argv, 1, 3);
	ksft_set_plan(2 * ARRAY_SIZE(turns));
	excl_vm_create(&ev, 1, guest_code);
	h = excl_shared(&ev, g);
	excl_vm_start(&ev);
	if (!excl_wait(&ev, h->loops, 20))
		ksft_exit_fail_msg("the guest does not start\n");
	for (turn = 0; turn < ARRAY_SIZE(turns); turn++) {
		ok = set_policy(&ev, turns[turn].policy);
		longest = 0;
		for (i = 0; ok && i < rounds; i++) {
			ms = work_ms();
			if (ms > longest)
				longest = ms;
			ok = ms < BOUND_MS;
		}
		ksft_print_msg("%s: a work item on every CPU took %lu ms at most\n",
			       turns[turn].name, longest);
		/* A kick detaches it for a moment. */
		ok = ok && excl_wait_attached(ev.ctx, 0, &status);
		ksft_test_result(ok, "%s: work on its CPU is done, its vCPU attached\n",
				 turns[turn].name);
		loops = h->loops;
		ksft_test_result(excl_wait(&ev, h->loops != loops, 5), "%s: the guest goes on\n",
				 turns[turn].name);
	}
	set_policy(&ev, SCHED_OTHER);
	excl_vm_destroy(&ev);
	ksft_finished();
}
