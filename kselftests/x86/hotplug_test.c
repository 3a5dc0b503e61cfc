// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that what is refused while CPUs are owned is refused before anything has been done
 * for it: a guest that never leaves its CPU by itself is still attached afterwards.
 *
 * - An owned CPU is taken offline.
 * - The system is suspended to memory, or hibernates, where it can.
 */
#include <fcntl.h>
#include <string.h>

#include "guest.h"
#include "harness.h"

#define NR		2
#define ONLINE		"/sys/devices/system/cpu/cpu%d/online"
#define POWER		"/sys/power/state"
#define MEM_SLEEP	"/sys/power/mem_sleep"

static struct {
	uint64_t loops[NR];
} g;

static void guest_code(uint64_t index)
{
	volatile typeof(g) *v = &g;

	guest_apic_init();
	guest_sti();
	for (;;)
		v->loops[index]++;
}

/* errno of a write, 0 if there is none. */
static int write_errno(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), r = 0;

	if (fd < 0)
		return errno;
	if (write(fd, text, strlen(text)) < 0)
		r = errno;
	close(fd);
	return r;
}

/* All of them are attached, a while later, and have not been away. */
static bool still_attached(struct excl_vm *ev, const struct excl_counters *before)
{
	struct excl_counters after;
	bool ok = true;
	int i;

	usleep(200000);
	for (i = 0; i < NR; i++) {
		excl_counters_read(ev->vcpus[i], &after);
		ksft_print_msg("vCPU %d: attached %lu, %lu detaches\n", i, after.attached,
			       after.detaches - before[i].detaches);
		ok &= after.attached && after.detaches == before[i].detaches;
	}
	return ok;
}

static void read_all(struct excl_vm *ev, struct excl_counters *c)
{
	int i;

	for (i = 0; i < NR; i++)
		excl_counters_read(ev->vcpus[i], &c[i]);
}

/*
 * Is it a state that takes CPUs down?  Without S3 "mem" is suspend-to-idle, which leaves
 * them up, is not refused, and would only end with a key that is pressed.
 */
static bool takes_cpus_down(const char *state, const char *has)
{
	char mode[64];

	if (!strstr(has, state))
		return false;
	return strcmp(state, "mem") ||
	       (excl_read_file(MEM_SLEEP, mode, sizeof(mode)) && strstr(mode, "[deep]"));
}

/* A guest that never leaves its CPUs by itself. */
FIXTURE(attached) {
	struct excl_vm ev;
	struct excl_counters before[NR];
};

FIXTURE_SETUP(attached)
{
	volatile typeof(g) *h;

	excl_vm_create(&self->ev, NR, guest_code);
	h = excl_shared(&self->ev, g);
	excl_vm_start(&self->ev);
	ASSERT_TRUE(excl_wait(&self->ev, h->loops[0] && h->loops[1], 20));
	excl_vm_settle();
	read_all(&self->ev, self->before);
}

FIXTURE_TEARDOWN(attached)
{
	excl_vm_destroy(&self->ev);
}

TEST_F_TIMEOUT(attached, stays_so_when_its_cpus_are_to_go_offline, EXCL_CASE_S)
{
	char path[64];
	int cpu;

	for (cpu = EXCL_FIRST_CPU; cpu < EXCL_FIRST_CPU + NR; cpu++) {
		snprintf(path, sizeof(path), ONLINE, cpu);
		EXPECT_EQ(EBUSY, write_errno(path, "0")) {
			TH_LOG("CPU %d", cpu);
		}
		EXPECT_TRUE(still_attached(&self->ev, self->before)) {
			TH_LOG("CPU %d", cpu);
		}
	}
}

TEST_F_TIMEOUT(attached, stays_so_when_the_system_is_to_sleep, EXCL_CASE_S)
{
	static const char * const states[] = { "mem", "disk" };
	char has[64];
	unsigned int i;

	if (!excl_read_file(POWER, has, sizeof(has)))
		*has = 0;
	for (i = 0; i < ARRAY_SIZE(states); i++) {
		if (!takes_cpus_down(states[i], has)) {
			ksft_print_msg("sleep: %s: not on this machine\n", states[i]);
			continue;
		}
		EXPECT_EQ(EBUSY, write_errno(POWER, states[i])) {
			TH_LOG("sleep: %s", states[i]);
		}
		EXPECT_TRUE(still_attached(&self->ev, self->before)) {
			TH_LOG("sleep: %s", states[i]);
		}
	}
}

int main(int argc, char **argv)
{
	excl_require(NR);
	return excl_harness_run(argc, argv);
}
