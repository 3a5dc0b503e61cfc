/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel selftest harness, as the tests of exclusive mode use it
 *
 * Each case is a process of its own, with a setup and a teardown of its own.  What would skip
 * all of them, excl_require() and TEST_REQUIRE(), is for main(), before excl_harness_run(): the
 * plan is not printed then, and the test skips as a whole.  In a case SKIP() is for what this
 * case alone cannot have.
 */
#ifndef SELFTEST_KVM_EXCL_HARNESS_H
#define SELFTEST_KVM_EXCL_HARNESS_H

#include <sys/prctl.h>

#include "excl.h"
#include "kselftest_harness.h"

/*
 * For TEST_F_TIMEOUT(): the harness' 30 s are too few for what runs long on an emulated host.
 * It is the longest limit that kselftests/tests has for such a test, which ends it earlier on a
 * host that is faster.
 */
#define EXCL_CASE_S	600

/*
 * A case is a process group of its own, which timeout(1) does not know when the time of the
 * whole test is over: what was left of it would keep its CPUs, and the next test had none.
 */
static void excl_harness_end(int sig)
{
	struct __test_metadata *t = __active_test;

	if (t) {
		kill(-t->pid, SIGKILL);
		/* As the subreaper this process gets the grandchildren, too. */
		while (waitpid(-t->pid, NULL, 0) > 0)
			;
	}
	signal(sig, SIG_DFL);
	raise(sig);
}

/* Run all cases, or those that the options name. The exit status of main(). */
static inline int excl_harness_run(int argc, char **argv)
{
	TEST_ASSERT(!prctl(PR_SET_CHILD_SUBREAPER, 1), "prctl: %s", strerror(errno));
	signal(SIGTERM, excl_harness_end);
	signal(SIGINT, excl_harness_end);
	return test_harness_run(argc, argv);
}

#endif /* SELFTEST_KVM_EXCL_HARNESS_H */
