// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that a claim that fails at any of its steps has changed nothing.
 *
 * Each function of the claim that CONFIG_FAIL_FUNCTION knows fails, by name.  Then, of all
 * steps that may fail, the kernel has the Nth one fail, for N from 1 until the claim
 * succeeds: each allocation of memory, and each of those functions.
 * Then the claim says so with an errno that is documented, and a snapshot of the host is as
 * before, in both directions.  The same for the release, which cannot fail: what has failed
 * on its way is made up for.
 */
#include <fcntl.h>

#include "harness.h"

#define FAIL_FUNCTION	"/sys/kernel/debug/fail_function/"
#define FAIL_SLAB	"/sys/kernel/debug/failslab/"
#define FAIL_PAGE	"/sys/kernel/debug/fail_page_alloc/"
#define FAIL_NTH	"/proc/thread-self/fail-nth"

/* Far more than a claim has. */
#define STEPS		500

static const uint32_t cpus[] = { EXCL_FIRST_CPU, EXCL_FIRST_CPU + 1 };

/* What a claim consists of, and what each part says where it fails: a variant below each. */
static const struct {
	const char *name;
	int error;
} steps[] = {
	{ "kvm_excl_supported", EOPNOTSUPP },
	{ "ipi_nmi_get", ENOMEM },
	{ "find_obstacle", EBUSY },
	{ "move_interrupts", EBUSY },
	{ "move_misplaced_tasks", EBUSY },
	{ "tick_remote_install", EBUSY },
	{ "guest_irq_start", EBUSY },
	{ "kvm_excl_verify_entries", EBUSY },
	{ "kvm_excl_verify_descriptors", EBUSY },
};

/* It is called when the first CPUs are claimed, and when there were none for a minute. */
#define FIRST_TIME	"ipi_nmi_get"

static struct excl_snapshot before;

static void write_or_fail(const char *path, const char *text)
{
	int r = excl_write_file(path, text);

	TEST_ASSERT(!r, "%s: %s", path, strerror(r));
}

static void inject(unsigned int step)
{
	char path[128], text[32];

	write_or_fail(FAIL_FUNCTION "inject", steps[step].name);
	snprintf(path, sizeof(path), FAIL_FUNCTION "%s/retval", steps[step].name);
	snprintf(text, sizeof(text), "%#lx", (unsigned long)-steps[step].error);
	write_or_fail(path, text);
}

static void inject_none(void)
{
	write_or_fail(FAIL_FUNCTION "inject", "\n");
}

static void set_up(void)
{
	/* Nobody is told of each, and allocations that sleep fail, too. */
	write_or_fail(FAIL_FUNCTION "times", "-1");
	write_or_fail(FAIL_FUNCTION "verbose", "0");
	write_or_fail(FAIL_SLAB "verbose", "0");
	write_or_fail(FAIL_SLAB "ignore-gfp-wait", "N");
	write_or_fail(FAIL_PAGE "verbose", "0");
	write_or_fail(FAIL_PAGE "ignore-gfp-wait", "N");
	write_or_fail(FAIL_PAGE "min-order", "0");
}

static int nth_fd;

static void fail_nth(int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", n);

	TEST_ASSERT(pwrite(nth_fd, text, len, 0) == len, FAIL_NTH ": %s", strerror(errno));
}

/* Has it come to that?  What is done here allocates nothing, or it could be that. */
static bool has_failed(void)
{
	char text[16] = "";

	TEST_ASSERT(pread(nth_fd, text, sizeof(text) - 1, 0) > 0, FAIL_NTH ": %s",
		    strerror(errno));
	fail_nth(0);
	return !atoi(text);
}

static bool as_before(void)
{
	return excl_snapshot_restored(&before);
}

/* What has to leave, and to come back: an interrupt on one of the CPUs. */
static char irq_path[300], irq_mask[512];

static bool put_there(const char *irq, void *cpu)
{
	snprintf(irq_path, sizeof(irq_path), "/proc/irq/%s/smp_affinity_list", irq);
	return excl_read_file(irq_path, irq_mask, sizeof(irq_mask)) &&
	       !excl_write_file(irq_path, cpu);
}

static bool put_irq_there(void)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", cpus[1]);
	return excl_irqs_walk(put_there, text);
}

static bool documented(int error)
{
	return error == ENOMEM || error == EBUSY || error == EOPNOTSUPP;
}

/* A function that fails by itself. */
FIXTURE(function) {
};

FIXTURE_VARIANT(function) {
	unsigned int step;
};

FIXTURE_VARIANT_ADD(function, kvm_excl_supported) { 0 };
FIXTURE_VARIANT_ADD(function, ipi_nmi_get) { 1 };
FIXTURE_VARIANT_ADD(function, find_obstacle) { 2 };
FIXTURE_VARIANT_ADD(function, move_interrupts) { 3 };
FIXTURE_VARIANT_ADD(function, move_misplaced_tasks) { 4 };
FIXTURE_VARIANT_ADD(function, tick_remote_install) { 5 };
FIXTURE_VARIANT_ADD(function, guest_irq_start) { 6 };
FIXTURE_VARIANT_ADD(function, kvm_excl_verify_entries) { 7 };
FIXTURE_VARIANT_ADD(function, kvm_excl_verify_descriptors) { 8 };

FIXTURE_SETUP(function)
{
	inject(variant->step);
}

FIXTURE_TEARDOWN(function)
{
	inject_none();
}

TEST_F_TIMEOUT(function, that_fails_leaves_nothing_changed, EXCL_CASE_S)
{
	const typeof(steps[0]) *step = &steps[variant->step];
	struct kvm_excl_claim_cpus claim;
	int ctx, error;

	write_or_fail(FAIL_FUNCTION "probability", "100");
	ctx = excl_open();
	error = excl_claim_for(ctx, cpus, ARRAY_SIZE(cpus), 0, 0, &claim) ? errno : 0;
	write_or_fail(FAIL_FUNCTION "probability", "0");
	inject_none();
	if (error || strcmp(step->name, FIRST_TIME)) {
		EXPECT_EQ(step->error, error) {
			TH_LOG("%s fails: %s", step->name, strerror(error));
		}
		EXPECT_TRUE(as_before());
	}
	close(ctx);
	EXPECT_TRUE(as_before());
}

/* Each step fails in turn; each claim has the same ones. */
FIXTURE(step) {
};

FIXTURE_SETUP(step)
{
	unsigned int i;
	int ctx = excl_open();

	nth_fd = open(FAIL_NTH, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, nth_fd);
	ASSERT_EQ(0, excl_claim(ctx, cpus, ARRAY_SIZE(cpus)));
	close(ctx);
	for (i = 0; i < ARRAY_SIZE(steps); i++)
		inject(i);
}

FIXTURE_TEARDOWN(step)
{
	inject_none();
	close(nth_fd);
}

TEST_F_TIMEOUT(step, of_a_claim_that_fails_leaves_nothing_changed, EXCL_CASE_S)
{
	unsigned int n, refused = 0, done = 0;
	struct kvm_excl_claim_cpus claim;
	bool ok = true, failed = true;
	int ctx, error;

	for (n = 1; ok && failed && n < STEPS; n++) {
		ctx = excl_open();
		fail_nth(n);
		error = excl_claim_for(ctx, cpus, ARRAY_SIZE(cpus), 0, 0, &claim) ? errno : 0;
		failed = has_failed();
		if (error) {
			refused++;
			ok = documented(error) && failed && as_before();
		} else {
			done += failed;
		}
		close(ctx);
		ok = ok && as_before();
		if (!ok)
			ksft_print_msg("step %u, errno %d\n", n, error);
	}
	ksft_print_msg("%u steps, %u of them end the claim, %u are made up for\n", n - 1,
		       refused, done);
	EXPECT_TRUE(ok);
	EXPECT_FALSE(failed);
	EXPECT_GE(refused, ARRAY_SIZE(steps) - 1);
}

/* What the release needs fails in turn; it is done all the same. */
TEST_F_TIMEOUT(step, of_a_release_is_made_up_for, EXCL_CASE_S)
{
	struct kvm_excl_claim_cpus claim;
	bool ok = true, failed = true;
	unsigned int n;
	int ctx;

	for (n = 1; ok && failed && n < STEPS; n++) {
		ctx = excl_open();
		ok = !excl_claim_for(ctx, cpus, ARRAY_SIZE(cpus), 0, 0, &claim);
		fail_nth(n);
		close(ctx);
		failed = has_failed();
		ok = ok && as_before();
		if (!ok)
			ksft_print_msg("step %u\n", n);
	}
	ksft_print_msg("%u steps\n", n - 1);
	EXPECT_TRUE(ok);
	EXPECT_FALSE(failed);
	EXPECT_GT(n, 1);
}

/* Behind the last case. */
static void put_irq_back(void)
{
	excl_write_file(irq_path, irq_mask);
}

int main(int argc, char **argv)
{
	excl_require(2);
	TEST_REQUIRE(!excl_stock());
	if (access(FAIL_FUNCTION "inject", W_OK) || access(FAIL_NTH, W_OK))
		ksft_exit_skip("the kernel has no CONFIG_FAIL_FUNCTION\n");
	set_up();
	TEST_ASSERT(put_irq_there(), "no interrupt can be put on CPU %u", cpus[1]);
	atexit(put_irq_back);
	ksft_print_msg("%s: %u\n", irq_path, cpus[1]);
	/* Once, as it reads all symbols of the kernel, and before any case has claimed. */
	excl_snapshot_take(&before);
	return excl_harness_run(argc, argv);
}
