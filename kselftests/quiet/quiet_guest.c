// SPDX-License-Identifier: GPL-2.0-only
/*
 * What "make quiet" keeps on owned CPUs: nothing, a guest that spins with
 * interrupts off, or a claim that comes and goes.
 *
 *   quiet_guest claim CPU[,CPU...]		own the CPUs, run nothing there
 *   quiet_guest spin CPU[,CPU...]		a VM with a vCPU on each
 *   quiet_guest cycle CPU[,CPU...] ROUNDS	claim and release, ROUNDS times
 *
 * claim and spin take commands on standard input, a line each, and answer each
 * with one line; they give the CPUs back at "quit" or the end of the input.
 *
 *   spins			how often each vCPU went round its loop
 *   guest|user|system MS	where vCPU 0's thread spends the next MS
 *				milliseconds, and its times by every account
 */
#include <sys/mman.h>
#include <sys/syscall.h>

#include "excl.h"
#include "guest.h"

#define PORT_LEAVE	0x99
/* cycle says how far it is each time it has done so many. */
#define PROGRESS_ROUNDS	50

enum phase { PHASE_GUEST, PHASE_USER, PHASE_SYSTEM };

static const char * const phases[] = { "guest", "user", "system" };

static struct {
	uint64_t spins[EXCL_MAX_VCPUS];
	uint64_t leave;
	uint64_t stop;
} g;

static volatile typeof(g) *const v = &g;
static volatile typeof(g) *shared;

static uint32_t cpus[EXCL_MAX_VCPUS];
static unsigned int nr_cpus;

/* What vCPU 0's thread does outside the guest when it is asked to leave it. */
static struct {
	enum phase phase;
	uint64_t ns;
	uint64_t wall, user, system, guest, run;
	volatile bool done;
} job;

static void guest_code(uint64_t index)
{
	guest_apic_init();
	guest_cli();
	while (!v->stop) {
		v->spins[index]++;
		/* As the host's idle loop does that polls: see point 3 in quiet.sh. */
		cpu_relax();
		if (!index && v->leave) {
			v->leave = 0;
			guest_outb(PORT_LEAVE, 0);
		}
	}
	GUEST_DONE();
}

/* What a thread of this process has used: by its stat file, and by its CPU clock. */
static void read_times(pid_t tid, uint64_t *user, uint64_t *system, uint64_t *guest,
		       uint64_t *run)
{
	uint64_t tick = 1000000000ULL / sysconf(_SC_CLK_TCK);
	char path[64], buf[1024], *p;
	struct timespec ts;
	int field, fd;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	fd = open(path, O_RDONLY);
	TEST_ASSERT(fd >= 0, "%s: %s", path, strerror(errno));
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	TEST_ASSERT(n > 0, "%s: %s", path, strerror(errno));
	buf[n] = 0;
	/* The name may hold anything; the third field comes after the last ')'. */
	p = strrchr(buf, ')') + 2;
	for (field = 3; p && field <= 43; field++) {
		if (field == 14)
			*user = strtoull(p, NULL, 10) * tick;
		else if (field == 15)
			*system = strtoull(p, NULL, 10) * tick;
		else if (field == 43)
			*guest = strtoull(p, NULL, 10) * tick;
		p = strchr(p, ' ');
		if (p)
			p++;
	}

	/*
	 * The thread's CPU clock. Not schedstat: its sum is as old as the last
	 * tick, and a CPU without one has it brought up to date once a second.
	 */
	TEST_ASSERT(!clock_gettime((clockid_t)(~tid << 3 | 6), &ts), "CPU clock: %s",
		    strerror(errno));
	*run = ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static void measure(pid_t tid, void (*what)(uint64_t end))
{
	uint64_t user, system, guest, run, wall = excl_now_ns();

	read_times(tid, &user, &system, &guest, &run);
	what(wall + job.ns);
	job.wall = excl_now_ns() - wall;
	read_times(tid, &job.user, &job.system, &job.guest, &job.run);
	job.user -= user;
	job.system -= system;
	job.guest -= guest;
	job.run -= run;
}

/* In user space: the clock is read without a system call, and rarely. */
static void spin_user(uint64_t end)
{
	volatile uint64_t x = 0;
	int i;

	while (excl_now_ns() < end)
		for (i = 0; i < 1000000; i++)
			x++;
}

/* In the kernel: each call clears 16 MiB. */
static void spin_system(uint64_t end)
{
	/* Not static: the whole program is loaded into the guest. */
	size_t size = 16 << 20;
	char *buf = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	int fd = open("/dev/zero", O_RDONLY);

	TEST_ASSERT(fd >= 0 && buf != MAP_FAILED, "/dev/zero: %s", strerror(errno));
	while (excl_now_ns() < end)
		TEST_ASSERT(read(fd, buf, size) > 0, "/dev/zero");
	munmap(buf, size);
	close(fd);
}

/* For the main thread, while the other one does something. */
static void sleep_until(uint64_t end)
{
	struct timespec ts = { end / 1000000000ULL, end % 1000000000ULL };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static bool on_exit_to_user(struct excl_vm *ev, struct kvm_vcpu *vcpu)
{
	if (vcpu->run->exit_reason != KVM_EXIT_IO || vcpu->run->io.port != PORT_LEAVE)
		return false;
	measure(ev->threads[0].tid, job.phase == PHASE_USER ? spin_user : spin_system);
	job.done = true;
	return true;
}

static bool run_phase(struct excl_vm *ev, enum phase phase, uint64_t ms)
{
	job.phase = phase;
	job.ns = ms * 1000000ULL;
	job.done = false;
	if (phase == PHASE_GUEST) {
		measure(ev->threads[0].tid, sleep_until);
	} else {
		shared->leave = 1;
		/* The CPUs of this thread are measured as well: no polling. */
		sleep_until(excl_now_ns() + job.ns);
		if (!excl_wait(ev, job.done, ms / 1000 + 60))
			return false;
	}
	printf("%s wall=%lu user=%lu system=%lu guest=%lu run=%lu\n", phases[phase],
	       job.wall, job.user, job.system, job.guest, job.run);
	return true;
}

static void parse_cpus(const char *list)
{
	char *end;

	do {
		TEST_ASSERT(nr_cpus < EXCL_MAX_VCPUS, "too many CPUs: %s", list);
		cpus[nr_cpus++] = strtoul(list, &end, 10);
		TEST_ASSERT(end != list && (!*end || *end == ','), "no CPUs: %s", list);
		list = end + 1;
	} while (*end);
}

static int claim(void)
{
	int ctx = excl_open();

	TEST_ASSERT(ctx >= 0, "open: %s", strerror(errno));
	TEST_ASSERT(!excl_claim(ctx, cpus, nr_cpus), "claim: %s", strerror(errno));
	return ctx;
}

static int cycle(unsigned long rounds)
{
	uint64_t was, now, claim_max = 0, release_max = 0, claim_sum = 0, release_sum = 0;
	unsigned long i, busy = 0;
	int ctx;

	for (i = 0; i < rounds; i++) {
		was = excl_now_ns();
		ctx = excl_open();
		TEST_ASSERT(ctx >= 0, "open: %s", strerror(errno));
		if (excl_claim(ctx, cpus, nr_cpus)) {
			/*
			 * Allowed: a task in a migrate_disable() section would not
			 * leave in time. The round does not count.
			 */
			TEST_ASSERT(errno == EBUSY, "claim: %s", strerror(errno));
			busy++;
			TEST_ASSERT(busy <= rounds / 100, "claim: busy %lu times", busy);
			close(ctx);
			i--;
			continue;
		}
		now = excl_now_ns();
		claim_sum += now - was;
		if (now - was > claim_max)
			claim_max = now - was;
		was = now;
		close(ctx);
		now = excl_now_ns();
		release_sum += now - was;
		if (now - was > release_max)
			release_max = now - was;
		/* On a debug kernel it takes a quarter of an hour and more. */
		if (!((i + 1) % PROGRESS_ROUNDS))
			printf("%lu of %lu\n", i + 1, rounds);
	}
	printf("cycles=%lu busy=%lu claim_mean_us=%lu claim_max_us=%lu release_mean_us=%lu release_max_us=%lu\n",
	       rounds, busy, claim_sum / rounds / 1000, claim_max / 1000,
	       release_sum / rounds / 1000, release_max / 1000);
	return 0;
}

int main(int argc, char **argv)
{
	struct excl_vm ev = { .on_exit = on_exit_to_user };
	char line[128], word[16];
	bool spin, ok = true;
	unsigned long ms;
	unsigned int i;
	int ctx = -1;

	setvbuf(stdout, NULL, _IOLBF, 0);
	TEST_ASSERT(argc >= 3, "usage: quiet_guest claim|spin|cycle CPUS [ROUNDS]");
	parse_cpus(argv[2]);
	if (!strcmp(argv[1], "cycle"))
		return cycle(excl_arg(argc, argv, 3, 1000));
	spin = !strcmp(argv[1], "spin");
	TEST_ASSERT(spin || !strcmp(argv[1], "claim"), "no such mode: %s", argv[1]);

	if (spin) {
		ev.nr_vcpus = nr_cpus;
		ev.vm = vm_create_with_vcpus(nr_cpus, guest_code, ev.vcpus);
		for (i = 0; i < nr_cpus; i++) {
			vcpu_args_set(ev.vcpus[i], 1, (uint64_t)i);
			excl_counters_open(ev.vcpus[i]);
		}
		ev.ctx = claim();
		TEST_ASSERT(!excl_bind(ev.ctx, ev.vm->fd, 0), "bind: %s", strerror(errno));
		shared = excl_shared(&ev, g);
		excl_vm_start(&ev);
		for (i = 0; i < nr_cpus; i++)
			TEST_ASSERT(excl_wait(&ev, shared->spins[i], 60),
				    "the guest does not start");
	} else {
		ctx = claim();
	}
	puts("ready");

	while (ok && fgets(line, sizeof(line), stdin)) {
		ms = 0;
		if (sscanf(line, "%15s %lu", word, &ms) < 1 || !strcmp(word, "quit"))
			break;
		TEST_ASSERT(spin, "no guest");
		if (!strcmp(word, "spins")) {
			printf("spins");
			for (i = 0; i < nr_cpus; i++)
				printf(" %lu", shared->spins[i]);
			printf("\n");
			continue;
		}
		for (i = 0; i < ARRAY_SIZE(phases) && strcmp(word, phases[i]); i++)
			;
		TEST_ASSERT(i < ARRAY_SIZE(phases) && ms, "what is '%s'?", line);
		ok = run_phase(&ev, i, ms);
	}

	if (spin) {
		ok = ok && !excl_vm_failed(&ev);
		shared->stop = 1;
		ok = excl_vm_join(&ev, 30) && ok;
		excl_vm_destroy(&ev);
	} else {
		close(ctx);
	}
	puts(ok ? "bye" : "failed");
	return !ok;
}
