// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tasks that must survive claim and release: prove that none is lost
 *
 *   quiet_tasks CPU TASKS
 *
 * Starts TASKS tasks, a third of which may run anywhere, a third on CPU alone
 * and a third on CPU and CPU 0, sleeping and computing by turns. Answers "check"
 * on standard input with "alive N of TASKS": the tasks that have made progress
 * since it was asked; "home N of M": those tied to CPU that run there. At the
 * end of the input they end.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define MAX_TASKS 300
#define PATIENCE_S 30

static volatile struct {
	unsigned long rounds;
	int cpu;
} *tasks;

static void task(int i, int cpu)
{
	volatile unsigned long x = 0;
	cpu_set_t set;
	int n;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (i % 3 == 2)
		CPU_SET(0, &set);
	if (i % 3 && sched_setaffinity(0, sizeof(set), &set)) {
		perror("quiet_tasks: sched_setaffinity");
		_exit(1);
	}
	for (;;) {
		for (n = 0; n < 2000; n++)
			x++;
		tasks[i].cpu = sched_getcpu();
		tasks[i].rounds++;
		usleep(20000 + i * 100);
	}
}

static void check(int nr, int cpu)
{
	unsigned long was[MAX_TASKS];
	int i, s, alive = 0, home = 0;

	for (i = 0; i < nr; i++)
		was[i] = tasks[i].rounds;
	for (s = 0; s < PATIENCE_S * 10 && alive < nr; s++) {
		usleep(100000);
		alive = 0;
		home = 0;
		for (i = 0; i < nr; i++) {
			/* Two rounds: the first may have begun before the question. */
			alive += tasks[i].rounds >= was[i] + 2;
			home += i % 3 == 1 && tasks[i].cpu == cpu;
		}
	}
	printf("alive %d of %d home %d of %d\n", alive, nr, home, (nr + 1) / 3);
}

int main(int argc, char **argv)
{
	int cpu = argc > 1 ? atoi(argv[1]) : -1, nr = argc > 2 ? atoi(argv[2]) : 0, i;
	char line[64];
	pid_t pid;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (cpu < 1 || nr < 3 || nr > MAX_TASKS) {
		fprintf(stderr, "usage: quiet_tasks CPU TASKS\n");
		return 2;
	}
	tasks = mmap(NULL, nr * sizeof(*tasks), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (tasks == MAP_FAILED) {
		perror("quiet_tasks: mmap");
		return 1;
	}
	for (i = 0; i < nr; i++) {
		pid = fork();
		if (!pid)
			task(i, cpu);
		if (pid < 0) {
			perror("quiet_tasks: fork");
			return 1;
		}
	}
	puts("ready");
	while (fgets(line, sizeof(line), stdin))
		check(nr, cpu);
	/* They end with this process, see task(). */
	return 0;
}
