// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that a core has one owner: its online threads are claimed together or not
 * at all, and a thread that was offline then stays offline while the rest is owned.
 *
 * Takes a host whose CPUs 2 and 3 are the threads of one core, and 0 and 1 those of
 * another.
 */
#include <unistd.h>

#include "excl.h"

#define CPU_FILE	"/sys/devices/system/cpu/cpu%d/%s"

static bool file_is(int cpu, const char *name, const char *what)
{
	char path[96], text[64];

	snprintf(path, sizeof(path), CPU_FILE, cpu, name);
	return excl_read_file(path, text, sizeof(text)) && !strcmp(text, what);
}

static int claim(int ctx, uint32_t first, uint32_t second, unsigned int count)
{
	uint32_t cpus[] = { first, second };

	return excl_claim(ctx, cpus, count) ? errno : 0;
}

static void expect(int want, int got, const char *what)
{
	if (want == got)
		ksft_test_result_pass("%s: %s\n", what, strerror(want));
	else
		ksft_test_result_fail("%s: %s instead of %s\n", what, strerror(got),
				      strerror(want));
}

static int context(void)
{
	int ctx = excl_open();

	if (ctx < 0)
		ksft_exit_fail_msg("open: %s\n", strerror(errno));
	return ctx;
}

int main(int argc, char **argv)
{
	int ctx;

	ksft_print_header();
	TEST_REQUIRE(!excl_stock());
	if (!file_is(1, "topology/thread_siblings_list", "0-1") ||
	    !file_is(2, "topology/thread_siblings_list", "2-3"))
		ksft_exit_skip("CPUs 0 and 1, 2 and 3 are not the threads of two cores\n");
	ksft_set_plan(10);

	ctx = context();
	expect(EPERM, claim(ctx, 2, 0, 1), "one thread alone");
	expect(EPERM, claim(ctx, 1, 0, 1), "the thread beside CPU 0");
	expect(0, claim(ctx, 3, 2, 2), "both threads");
	expect(EBUSY, excl_set_online(3, "0"), "an owned thread goes offline");
	close(ctx);

	expect(0, excl_set_online(3, "0"), "a released thread goes offline");
	ctx = context();
	expect(0, claim(ctx, 2, 0, 1), "the online thread of a core");
	expect(EBUSY, excl_set_online(3, "1"), "the other comes online");
	ksft_test_result(file_is(3, "online", "0"), "it is offline still\n");
	close(ctx);
	expect(0, excl_set_online(3, "1"), "it comes online after the release");
	ctx = context();
	expect(EPERM, claim(ctx, 2, 0, 1), "one thread alone, again");
	close(ctx);
	ksft_finished();
}
