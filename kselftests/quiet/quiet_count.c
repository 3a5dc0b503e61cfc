// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the tick, a wake-up and an IPI cost, in instructions
 *
 * For an emulator in which the time stamp counter counts instructions (QEMU with
 * -icount shift=0): the difference of two readings is what ran in between, user
 * space included, which is the same on every kernel.
 *
 *   quiet_count ROUNDS
 *
 * Prints, for each, the number of measurements, minimum, median, the most frequent
 * value with how often it was seen, and the mean of the middle half:
 *
 *   tick		what a timer interrupt takes from a loop in user space
 *   wake-local		futex(FUTEX_WAKE) of a task on the same CPU
 *   wake-remote	the same of a task on an idle CPU: wake-up and IPI
 *   signal-remote	tgkill() to a task that runs on the other CPU: a
 *			reschedule IPI
 *   syscall		getppid(), to see that the counter does count
 */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_ROUNDS	10000
/* The loop that looks for ticks is shorter than this, an interrupt longer. */
#define GAP		150

static uint64_t samples[MAX_ROUNDS];

static inline uint64_t tsc(void)
{
	uint32_t lo, hi;

	asm volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return (uint64_t)hi << 32 | lo;
}

static void die(const char *what)
{
	fprintf(stderr, "quiet_count: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity");
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(uint64_t *)a, y = *(uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void report(const char *what, int n)
{
	uint64_t sum = 0, mode = 0;
	int i, next, often = 0;

	qsort(samples, n, sizeof(*samples), compare);
	for (i = n / 4; i < n - n / 4; i++)
		sum += samples[i];
	for (i = 0; i < n; i = next) {
		for (next = i; next < n && samples[next] == samples[i]; next++)
			;
		if (next - i > often) {
			often = next - i;
			mode = samples[i];
		}
	}
	sum = sum * 10 / (n - n / 4 - n / 4);
	printf("%s n=%d min=%lu median=%lu mode=%lu often=%d mean=%lu.%lu\n", what, n,
	       samples[0], samples[n / 2], mode, often, sum / 10, sum % 10);
}

static void count_ticks(int rounds)
{
	uint64_t was = tsc(), now;
	int n = 0;

	while (n < rounds) {
		now = tsc();
		if (now - was > GAP)
			samples[n++] = now - was;
		was = now;
	}
	report("tick", n);
}

static int word;
static volatile int ready, stop;

static long futex(int op, int val)
{
	return syscall(SYS_futex, &word, op | FUTEX_PRIVATE_FLAG, val, NULL, NULL, 0);
}

static void *sleeper(void *arg)
{
	pin((long)arg);
	while (!stop) {
		ready++;
		futex(FUTEX_WAIT, 0);
	}
	return NULL;
}

static void count_wakes(const char *what, long cpu, int rounds)
{
	pthread_t thread;
	int n, r, was_ready;
	uint64_t was;

	stop = 0;
	ready = 0;
	if (pthread_create(&thread, NULL, sleeper, (void *)cpu))
		die("pthread_create");
	while (!ready)
		usleep(500);
	for (n = 0; n < rounds;) {
		/* It has gone to sleep (again) when this wakes up. */
		was_ready = ready;
		usleep(2000);
		was = tsc();
		r = futex(FUTEX_WAKE, 1);
		was = tsc() - was;
		if (r == 1)
			samples[n++] = was;
		while (r == 1 && ready == was_ready)
			usleep(500);
	}
	stop = 1;
	usleep(5000);
	word = 1;
	futex(FUTEX_WAKE, 1);
	pthread_join(thread, NULL);
	word = 0;
	report(what, n);
}

static volatile int caught;
static volatile pid_t target;

static void on_signal(int sig)
{
	caught++;
}

static void *runner(void *arg)
{
	pin((long)arg);
	target = syscall(SYS_gettid);
	while (!stop)
		;
	return NULL;
}

static void count_signals(int rounds)
{
	struct sigaction sa = { .sa_handler = on_signal };
	pthread_t thread;
	uint64_t was;
	int n, before;

	sigaction(SIGUSR1, &sa, NULL);
	stop = 0;
	target = 0;
	if (pthread_create(&thread, NULL, runner, (void *)1L))
		die("pthread_create");
	while (!target)
		usleep(1000);
	for (n = 0; n < rounds; n++) {
		before = caught;
		was = tsc();
		if (syscall(SYS_tgkill, getpid(), target, SIGUSR1))
			die("tgkill");
		samples[n] = tsc() - was;
		while (caught == before)
			usleep(500);
	}
	stop = 1;
	pthread_join(thread, NULL);
	report("signal-remote", n);
}

static void count_syscalls(int rounds)
{
	uint64_t was;
	int n;

	for (n = 0; n < rounds; n++) {
		was = tsc();
		syscall(SYS_getppid);
		samples[n] = tsc() - was;
	}
	report("syscall", n);
}

int main(int argc, char **argv)
{
	struct sched_param param = { .sched_priority = 50 };
	int rounds = argc > 1 ? atoi(argv[1]) : 0;

	if (rounds < 10 || rounds > MAX_ROUNDS) {
		fprintf(stderr, "usage: quiet_count ROUNDS\n");
		return 2;
	}
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		die("mlockall");
	memset(samples, 0, sizeof(samples));
	setvbuf(stdout, NULL, _IOLBF, 0);
	pin(0);
	count_syscalls(rounds);
	count_ticks(rounds);
	count_wakes("wake-remote", 1, rounds);
	count_signals(rounds);
	/* Above the sleeper, which inherits nothing: the wake-up does not preempt. */
	if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &param))
		die("sched_setscheduler");
	count_wakes("wake-local", 0, rounds);
	return 0;
}
