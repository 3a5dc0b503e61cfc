// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a broadcast of the guest kernel's own takes: smp_call_function_many()
 *
 *   latency-broadcast [SAMPLES]
 *
 * membarrier(2) with PRIVATE_EXPEDITED calls a function on each other CPU that runs a
 * thread of the process, and waits until all have run it.  One thread measures on the first
 * CPU, and one spins on each of the others.  All CPUs are called, so that Linux sends to
 * them in the way that it sends to all.
 *
 * Prints one row as the flat guest does, and the end.  As PID 1 of a VM it then ends the VM.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/membarrier.h>
#include <linux/reboot.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "guest.h"

#define WARM_UP		100

static uint32_t samples[LAT_MAX_SAMPLES];
static volatile unsigned int spinning;

static uint64_t rdtsc(void)
{
	uint32_t a, d;

	asm volatile("rdtsc" : "=a"(a), "=d"(d) :: "memory");
	return a | (uint64_t)d << 32;
}

/* The other end of the VM's console takes its time. */
static _Noreturn void end(int status)
{
	fflush(stdout);
	if (getpid() != 1)
		_exit(status);
	tcdrain(STDOUT_FILENO);
	syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
		LINUX_REBOOT_CMD_RESTART, NULL);
	for (;;)
		pause();
}

static _Noreturn void die(const char *what, int error)
{
	printf("error: %s: %s\n", what, strerror(error));
	end(1);
}

static void stay_on(long cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity", errno);
}

/* Without PAUSE, which a hypervisor may make an exit of. */
static void *spin(void *cpu)
{
	stay_on((long)cpu);
	__atomic_add_fetch(&spinning, 1, __ATOMIC_SEQ_CST);
	for (;;)
		asm volatile("" ::: "memory");
	return NULL;
}

static void barrier(int command)
{
	if (syscall(SYS_membarrier, command, 0, 0))
		die("membarrier", errno);
}

static int ascending(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	long n = argc > 1 ? atol(argv[1]) : 600, cpus = sysconf(_SC_NPROCESSORS_ONLN);
	long i, count;
	pthread_t thread;
	uint64_t start;
	int r;

	if (n < 1 || n > LAT_MAX_SAMPLES)
		die("samples", EINVAL);
	if (cpus != LAT_CPUS) {
		printf("error: %ld CPUs, %d are needed\n", cpus, LAT_CPUS);
		end(1);
	}
	stay_on(0);
	barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
	for (i = 1; i < cpus; i++) {
		r = pthread_create(&thread, NULL, spin, (void *)i);
		if (r)
			die("pthread_create", r);
	}
	while (spinning < cpus - 1)
		sched_yield();

	for (i = 0; i < WARM_UP; i++)
		barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
	for (i = 0; i < n; i++) {
		start = rdtsc();
		barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
		samples[i] = rdtsc() - start;
	}

	qsort(samples, n, sizeof(samples[0]), ascending);
	printf("{\"kind\": \"row\", \"name\": \"smp_call_function_many of Linux, 3 CPUs\", \"values\": [");
	for (i = 0; i < n; i += count) {
		for (count = 1; i + count < n && samples[i + count] == samples[i]; count++)
			;
		printf("%s[%u, %ld]", i ? ", " : "", samples[i], count);
	}
	printf("]}\n" LAT_END "\n");
	end(0);
}
