// SPDX-License-Identifier: GPL-2.0-only
/*
 * Claim CPUs and give them back, over and over, on a host that works meanwhile, and prove
 * after each claim that no interrupt may come to them, and none does.
 *
 *   churn_test [CLAIMS [RECORDS]]
 *
 * RECORDS is a file that gets a line of JSON for each claim: how long it and the release
 * took, and what was in its way.
 */
#include <sched.h>

#include "harness.h"

static const uint32_t cpus[] = { EXCL_FIRST_CPU + 1, EXCL_FIRST_CPU + 2 };

/* A mask as the kernel prints it, whose last word has the first 32 CPUs: is one of ours in it? */
static bool names_ours(const char *mask)
{
	const char *last = strrchr(mask, ',');

	return strtoul(last ? last + 1 : mask, NULL, 16) & (1u << cpus[0] | 1u << cpus[1]);
}

static bool count_here(const char *irq, void *found)
{
	char path[320], mask[512];

	snprintf(path, sizeof(path), "/proc/irq/%s/effective_affinity", irq);
	if (excl_read_file(path, mask, sizeof(mask)) && names_ours(mask)) {
		++*(unsigned int *)found;
		ksft_print_msg("IRQ %s may come to %s\n", irq, mask);
	}
	return false;
}

/* How many interrupts may come to one of ours. */
static unsigned int irqs_here(void)
{
	unsigned int found = 0;

	excl_irqs_walk(count_here, &found);
	return found;
}

/* How many device interrupts ours have taken. */
static unsigned long irqs_taken(void)
{
	return excl_host_interrupts(cpus[0], "[0-9]*") + excl_host_interrupts(cpus[1], "[0-9]*");
}

/* Of managed_irq_test in kselftests/tests, with 1,000 claims. */
#define CHURN_S		3000

static unsigned long claims;
static const char *records_path;

/* CPUs that interrupts come to, and where each claim of them is recorded. */
FIXTURE(churn) {
	FILE *records;
};

FIXTURE_SETUP(churn)
{
	unsigned int there = irqs_here();

	ksft_print_msg("%u interrupts come to the CPUs before\n", there);
	ASSERT_NE(0, there);
	ASSERT_NE(0, irqs_taken());
	if (records_path) {
		self->records = fopen(records_path, "w");
		ASSERT_NE(NULL, self->records);
	}
}

FIXTURE_TEARDOWN(churn)
{
	if (self->records)
		fclose(self->records);
}

TEST_F_TIMEOUT(churn, has_no_interrupt_on_an_owned_cpu, CHURN_S)
{
	unsigned long taken, stray = 0, i;
	unsigned int refused = 0, irqs, bad = 0;
	uint64_t start, claimed, done, longest = 0;
	struct kvm_excl_claim_cpus claim;
	int ctx, err;

	for (i = 0; i < claims; i++) {
		ctx = excl_open();
		ASSERT_LE(0, ctx);
		start = excl_now_ns();
		err = excl_claim_for(ctx, cpus, ARRAY_SIZE(cpus), KVM_EXCL_CLAIM_PINNED, 0,
				     &claim) ? errno : 0;
		claimed = excl_now_ns() - start;
		taken = irqs_taken();
		irqs = err ? 0 : irqs_here();
		/* Sometimes at once, sometimes when all has come to rest. */
		usleep(rand() % 20000);
		stray += err ? 0 : irqs_taken() - taken;
		start = excl_now_ns();
		close(ctx);
		done = excl_now_ns() - start;
		if (err) {
			refused++;
			ksft_print_msg("claim %lu: errno %d, obstacle %u on CPU %u: %d %.64s\n", i,
				       err, claim.obstacle, claim.obstacle_cpu,
				       claim.obstacle_id, claim.obstacle_name);
		}
		bad += irqs;
		longest = claimed > longest ? claimed : longest;
		if (!self->records)
			continue;
		fprintf(self->records, "{\"claim\": %lu, \"errno\": %d, \"obstacle\": %u, \"id\": %d, \"name\": \"%.64s\", \"claim_us\": %lu, \"release_us\": %lu, \"irqs_on_owned\": %u}\n",
			i, err, err ? claim.obstacle : 0, err ? claim.obstacle_id : 0,
			err ? claim.obstacle_name : "", claimed / 1000, done / 1000, irqs);
	}
	ksft_print_msg("%lu claims, %u refused, the longest took %lu ms\n", claims, refused,
		       longest / 1000000);
	ksft_print_msg("%lu interrupts have come\n", stray);
	EXPECT_EQ(0, refused);
	/* None may come, and none has. */
	EXPECT_EQ(0, bad);
	EXPECT_EQ(0, stray);
}

int main(int argc, char **argv)
{
	excl_require(3);
	TEST_REQUIRE(!excl_stock());
	claims = excl_arg(argc, argv, 1, 100);
	if (argc > 2 && argv[2][0] != '-')
		records_path = argv[2];
	return excl_harness_run(argc, argv);
}
