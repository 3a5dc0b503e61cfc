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

#include "excl.h"

#define FAIL_FUNCTION	"/sys/kernel/debug/fail_function/"
#define FAIL_SLAB	"/sys/kernel/debug/failslab/"
#define FAIL_PAGE	"/sys/kernel/debug/fail_page_alloc/"
#define FAIL_NTH	"/proc/thread-self/fail-nth"

/* Far more than a claim has. */
#define STEPS		500

static const uint32_t cpus[] = { EXCL_FIRST_CPU, EXCL_FIRST_CPU + 1 };

/* What a claim consists of, and what each part says where it fails. */
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

	if (r)
		ksft_exit_fail_msg("%s: %s\n", path, strerror(r));
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

/* Each function fails by itself. */
static void named_fail(void)
{
	struct kvm_excl_claim_cpus claim;
	int ctx, error;
	unsigned int i;
	bool ok;

	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		inject(i);
		write_or_fail(FAIL_FUNCTION "times", "-1");
		write_or_fail(FAIL_FUNCTION "probability", "100");
		ctx = excl_open();
		error = excl_claim_for(ctx, cpus, ARRAY_SIZE(cpus), 0, 0, &claim) ? errno : 0;
		write_or_fail(FAIL_FUNCTION "probability", "0");
		inject_none();
		ok = error == steps[i].error ? as_before() :
		     !error && !strcmp(steps[i].name, FIRST_TIME);
		close(ctx);
		ok = ok && as_before();
		ksft_test_result(ok, "%s fails: %s\n", steps[i].name, strerror(error));
	}
}

/* Each step of a claim fails in turn. */
static void claim_fails(void)
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
	ksft_test_result(ok && !failed && refused >= ARRAY_SIZE(steps) - 1,
			 "a claim that fails changes nothing\n");
}

/* What the release needs fails in turn; it is done all the same. */
static void release_fails(void)
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
	ksft_test_result(ok && !failed && n > 1, "a release does not fail\n");
}

int main(int argc, char **argv)
{
	unsigned int i;
	int ctx;

	ksft_print_header();
	excl_require(2);
	TEST_REQUIRE(!excl_stock());
	if (access(FAIL_FUNCTION "inject", W_OK) || access(FAIL_NTH, W_OK))
		ksft_exit_skip("the kernel has no CONFIG_FAIL_FUNCTION\n");
	nth_fd = open(FAIL_NTH, O_RDWR | O_CLOEXEC);
	TEST_ASSERT(nth_fd >= 0, FAIL_NTH ": %s", strerror(errno));
	ksft_set_plan(ARRAY_SIZE(steps) + 2);
	set_up();
	if (!put_irq_there())
		ksft_exit_fail_msg("no interrupt can be put on CPU %u\n", cpus[1]);
	ksft_print_msg("%s: %u\n", irq_path, cpus[1]);
	excl_snapshot_take(&before);
	named_fail();
	/* From here on each claim has the same steps. */
	TEST_ASSERT(!excl_claim(ctx = excl_open(), cpus, ARRAY_SIZE(cpus)), "claim: %s",
		    strerror(errno));
	close(ctx);
	for (i = 0; i < ARRAY_SIZE(steps); i++)
		inject(i);
	claim_fails();
	release_fails();
	inject_none();
	write_or_fail(irq_path, irq_mask);
	ksft_finished();
}
