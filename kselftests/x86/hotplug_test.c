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

#include "excl.h"
#include "guest.h"

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

int main(int argc, char **argv)
{
	static const char * const states[] = { "mem", "disk" };
	struct excl_counters before[NR];
	struct excl_vm ev = {};
	volatile typeof(g) *h;
	char path[64], has[64];
	unsigned int i, nr_states = 0;
	int r, cpu;

	ksft_print_header();
	excl_require(NR);
	if (!excl_read_file(POWER, has, sizeof(has)))
		*has = 0;
	for (i = 0; i < ARRAY_SIZE(states); i++)
		nr_states += takes_cpus_down(states[i], has);
	ksft_set_plan(2 * (NR + nr_states));
	excl_vm_create(&ev, NR, guest_code);
	h = excl_shared(&ev, g);
	excl_vm_start(&ev);
	if (!excl_wait(&ev, h->loops[0] && h->loops[1], 20))
		ksft_exit_fail_msg("the guest does not start\n");
	excl_vm_settle();

	for (cpu = EXCL_FIRST_CPU; cpu < EXCL_FIRST_CPU + NR; cpu++) {
		snprintf(path, sizeof(path), ONLINE, cpu);
		read_all(&ev, before);
		r = write_errno(path, "0");
		ksft_test_result(r == EBUSY, "CPU %d offline: %s\n", cpu, strerror(r));
		ksft_test_result(still_attached(&ev, before),
				 "its vCPU has not left it\n");
	}
	for (i = 0; i < ARRAY_SIZE(states); i++) {
		if (!takes_cpus_down(states[i], has)) {
			ksft_print_msg("sleep: %s: not on this machine\n", states[i]);
			continue;
		}
		read_all(&ev, before);
		r = write_errno(POWER, states[i]);
		ksft_test_result(r == EBUSY, "sleep: %s: %s\n", states[i], strerror(r));
		ksft_test_result(still_attached(&ev, before),
				 "sleep: %s: no vCPU has left its CPU\n", states[i]);
	}
	excl_vm_destroy(&ev);
	ksft_finished();
}
