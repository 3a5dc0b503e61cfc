// SPDX-License-Identifier: GPL-2.0-only
/*
 * How long a grace period takes, seen by who waits for it
 *
 * membarrier(MEMBARRIER_CMD_GLOBAL) is synchronize_rcu() and nothing else, and
 * with /sys/kernel/rcu_expedited set that is synchronize_rcu_expedited(). Print
 * "KIND NANOSECONDS" for each.
 *
 *   quiet_rcu COUNT
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static unsigned long long now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "quiet_rcu: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void set_expedited(const char *on)
{
	int fd = open("/sys/kernel/rcu_expedited", O_WRONLY);

	if (fd < 0 || write(fd, on, 1) != 1)
		die("/sys/kernel/rcu_expedited");
	close(fd);
}

static void run(const char *kind, int count)
{
	unsigned long long was;

	while (count--) {
		was = now_ns();
		if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0))
			die("membarrier");
		printf("%s %llu\n", kind, now_ns() - was);
		/* From rest each time, not on the heels of the last one. */
		usleep(3000);
	}
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 0;

	if (count <= 0) {
		fprintf(stderr, "usage: quiet_rcu COUNT\n");
		return 2;
	}
	set_expedited("0");
	run("normal", count);
	set_expedited("1");
	run("expedited", count);
	set_expedited("0");
	return 0;
}
