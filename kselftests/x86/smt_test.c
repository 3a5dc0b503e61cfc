// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that a core has one owner: its online threads are claimed together or not
 * at all, and a thread that was offline then stays offline while the rest is owned.
 *
 * Takes a host whose CPUs 2 and 3 are the threads of one core, and 0 and 1 those of
 * another.
 */
#include <unistd.h>

#include "harness.h"

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

/* Two cores with two online threads each, and a context. */
FIXTURE(core) {
	int ctx;
};

FIXTURE_SETUP(core)
{
	ASSERT_TRUE(file_is(3, "online", "1") || !excl_set_online(3, "1"));
	self->ctx = excl_open();
	ASSERT_LE(0, self->ctx);
}

FIXTURE_TEARDOWN(core)
{
	close(self->ctx);
	if (!file_is(3, "online", "1"))
		excl_set_online(3, "1");
}

TEST_F_TIMEOUT(core, is_not_claimed_by_one_thread, EXCL_CASE_S)
{
	EXPECT_EQ(EPERM, claim(self->ctx, 2, 0, 1));
	/* Nor beside CPU 0. */
	EXPECT_EQ(EPERM, claim(self->ctx, 1, 0, 1));
}

TEST_F_TIMEOUT(core, is_claimed_by_both, EXCL_CASE_S)
{
	EXPECT_EQ(0, claim(self->ctx, 3, 2, 2));
}

TEST_F_TIMEOUT(core, has_no_owned_thread_go_offline, EXCL_CASE_S)
{
	ASSERT_EQ(0, claim(self->ctx, 3, 2, 2));
	EXPECT_EQ(EBUSY, excl_set_online(3, "0"));
}

TEST_F_TIMEOUT(core, has_a_released_thread_go_offline, EXCL_CASE_S)
{
	ASSERT_EQ(0, claim(self->ctx, 3, 2, 2));
	close(self->ctx);
	self->ctx = -1;
	EXPECT_EQ(0, excl_set_online(3, "0"));
}

TEST_F_TIMEOUT(core, is_claimed_by_its_only_online_thread, EXCL_CASE_S)
{
	ASSERT_EQ(0, excl_set_online(3, "0"));
	EXPECT_EQ(0, claim(self->ctx, 2, 0, 1));
}

TEST_F_TIMEOUT(core, has_the_other_thread_stay_offline_until_the_release, EXCL_CASE_S)
{
	ASSERT_EQ(0, excl_set_online(3, "0"));
	ASSERT_EQ(0, claim(self->ctx, 2, 0, 1));
	EXPECT_EQ(EBUSY, excl_set_online(3, "1"));
	EXPECT_TRUE(file_is(3, "online", "0"));
	close(self->ctx);
	EXPECT_EQ(0, excl_set_online(3, "1"));
	/* And then counts again. */
	self->ctx = excl_open();
	EXPECT_EQ(EPERM, claim(self->ctx, 2, 0, 1));
}

int main(int argc, char **argv)
{
	TEST_REQUIRE(!excl_stock());
	if (!file_is(1, "topology/thread_siblings_list", "0-1") ||
	    !file_is(2, "topology/thread_siblings_list", "2-3"))
		ksft_exit_skip("CPUs 0 and 1, 2 and 3 are not the threads of two cores\n");
	return excl_harness_run(argc, argv);
}
