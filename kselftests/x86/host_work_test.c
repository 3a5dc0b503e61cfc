// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that the host gets its work done on CPUs whose guests keep interrupts
 * off: the kick is an NMI, and no guest can hold it back.
 *
 * Two vCPUs spin with IF=0 the whole time.  Meanwhile the host runs what needs
 * every CPU: membarrier, TLB shootdowns of the very process that runs the vCPUs,
 * calls of a function on an owned CPU, RCU grace periods, text patching, loads of a
 * module, work queued on each CPU, affinity changes.  Each ends within a bound, its latency
 * goes into a histogram, and the guests are attached and spinning afterwards.
 *
 *   host_work_test [ROUNDS]
 */
#include <fcntl.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>

#include "excl.h"
#include "guest.h"

#define NR		2
#define BOUND_NS	10000000000ULL
#define BUCKETS		26

/*
 * A kick that is lost is sent again, by a timer every 100 ms: half of what needs one at once
 * takes less than this, as a power of two in us, or kicks are lost all the time.
 */
#define KICK_BUCKET	15

static struct {
	uint64_t spins[NR];
	uint64_t stop;
} g;

static volatile typeof(g) *const v = &g;

static void guest_code(uint64_t index)
{
	guest_apic_init();
	guest_cli();
	while (!v->stop)
		v->spins[index]++;
	GUEST_DONE();
}

static int run_membarrier(int cmd)
{
	return syscall(SYS_membarrier, cmd, 0, 0);
}

static int membarrier_global(void)
{
	return run_membarrier(MEMBARRIER_CMD_GLOBAL);
}

static int membarrier_expedited(void)
{
	return run_membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
}

static int membarrier_sync_core(void)
{
	return run_membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE);
}

static int tlb_shootdown(void)
{
	static char *page;

	if (!page) {
		page = mmap(NULL, 64 * 4096, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		if (page == MAP_FAILED)
			return -1;
	}
	*page = 1;
	if (mprotect(page, 64 * 4096, PROT_READ) ||
	    mprotect(page, 64 * 4096, PROT_READ | PROT_WRITE))
		return -1;
	return madvise(page, 64 * 4096, MADV_DONTNEED);
}

/* An owned CPU may be refused, and is never where the caller then runs. */
static int affinity_walk(void)
{
	int cpu, r = 0, on;
	cpu_set_t old, set;

	sched_getaffinity(0, sizeof(old), &old);
	for (cpu = 0; cpu < get_nprocs(); cpu++) {
		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		sched_setaffinity(0, sizeof(set), &set);
		on = sched_getcpu();
		if (!excl_stock() && on >= EXCL_FIRST_CPU && on < EXCL_FIRST_CPU + NR) {
			ksft_print_msg("this task ran on the owned CPU %d\n", on);
			errno = EPERM;
			r = -1;
		}
	}
	sched_setaffinity(0, sizeof(old), &old);
	return r;
}

static int read_all(const char *path)
{
	char buf[65536];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -1;
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		;
	close(fd);
	return n;
}

static int write_str(const char *path, const char *s)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = write(fd, s, strlen(s));
	close(fd);
	return n == (ssize_t)strlen(s) ? 0 : -1;
}

static int proc_interrupts(void)
{
	return read_all("/proc/interrupts");
}

/* Queues work on each CPU and waits for it. */
static int stat_refresh(void)
{
	return write_str("/proc/sys/vm/stat_refresh", "1");
}

/* Calls a function on one CPU. */
static int rdmsr_on_cpu(void)
{
	uint64_t val;
	int i;

	for (i = 0; i < NR; i++) {
		if (!excl_host_msr(EXCL_FIRST_CPU + i, 0x1b, &val))
			return -1;
	}
	return 0;
}

/* Unmounting waits for RCU grace periods. */
static int mount_umount(void)
{
	static const char dir[] = "/tmp/host_work_test";

	if (mkdir(dir, 0700) && errno != EEXIST)
		return -1;
	if (mount("none", dir, "tmpfs", 0, NULL))
		return -1;
	if (umount(dir))
		return -1;
	return rmdir(dir);
}

/* Tracepoints are static calls and branches: patched text, synced on each CPU. */
static int text_patching(void)
{
	static const char path[] =
		"/sys/kernel/tracing/events/sched/sched_process_exec/enable";

	return write_str(path, "1") ?: write_str(path, "0");
}

/* One with a static key: relocations, patched text, and grace periods at the end. */
static int module_load(void)
{
	int fd = open("../module/test_static_key_base.ko", O_RDONLY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return -1;
	r = syscall(SYS_finit_module, fd, "", 0) ?:
	    syscall(SYS_delete_module, "test_static_key_base", 0);
	close(fd);
	return r;
}

static const struct {
	const char *name;
	int (*run)(void);
	bool few;		/* too slow for every round */
	bool kick;		/* an owned CPU is kicked, and waited for */
} works[] = {
	{ "membarrier global (synchronize_rcu)", membarrier_global, true },
	{ "membarrier private expedited", membarrier_expedited, .kick = true },
	{ "membarrier sync core", membarrier_sync_core, .kick = true },
	{ "TLB shootdown", tlb_shootdown, .kick = true },
	{ "sched_setaffinity walk", affinity_walk },
	{ "/proc/interrupts", proc_interrupts },
	{ "work on each CPU (vm.stat_refresh)", stat_refresh, true },
	{ "function call on an owned CPU (rdmsr)", rdmsr_on_cpu, .kick = true },
	{ "mount and umount", mount_umount, true },
	{ "text patching (tracepoint)", text_patching, true },
	{ "module load and unload", module_load, true },
};

static void histogram(const char *name, const unsigned int *buckets)
{
	int i;

	for (i = 0; i < BUCKETS; i++) {
		if (buckets[i])
			ksft_print_msg("%s: below %lu us: %u\n", name, 1UL << i, buckets[i]);
	}
}

int main(int argc, char **argv)
{
	struct excl_counters c0[NR], c1[NR];
	uint64_t rounds, i, j, was, ns, max, end, late;
	unsigned int buckets[BUCKETS];
	volatile typeof(g) *s;
	struct excl_vm ev = {};
	bool ok;
	int r, err;

	ksft_print_header();
	excl_require(NR);
	rounds = excl_arg(argc, argv, 1, 100);
	ksft_set_plan(ARRAY_SIZE(works) + 2);

	run_membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
	run_membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE);
	excl_vm_create(&ev, NR, guest_code);
	s = excl_shared(&ev, g);
	excl_vm_start(&ev);
	if (!excl_wait(&ev, s->spins[0] && s->spins[1], 20))
		ksft_exit_fail_msg("the guest does not start\n");
	/* What an exiting thread or a stuck kernel would hide. */
	alarm(280);

	for (j = 0; j < NR; j++)
		excl_counters_read(ev.vcpus[j], &c0[j]);
	for (i = 0; i < ARRAY_SIZE(works); i++) {
		uint64_t n = works[i].few ? rounds / 10 + 1 : rounds;

		memset(buckets, 0, sizeof(buckets));
		late = 0;
		max = 0;
		r = 0;
		err = 0;
		/* The bound is for one; all of a kind get no more than 5 s. */
		end = excl_now_ns() + 5000000000ULL;
		for (j = 0; !r && j < n && (!j || excl_now_ns() < end); j++) {
			uint64_t us;
			int b = 0;

			was = excl_now_ns();
			r = works[i].run();
			err = errno;
			ns = excl_now_ns() - was;
			if (ns > max)
				max = ns;
			for (us = ns / 1000; us && b < BUCKETS - 1; us >>= 1)
				b++;
			buckets[b]++;
			late += works[i].kick && b > KICK_BUCKET;
		}
		histogram(works[i].name, buckets);
		ksft_print_msg("%s: %lu times, longest %lu us\n", works[i].name, j,
			       max / 1000);
		if (r && (err == ENOENT || err == ENOSYS))
			ksft_test_result_skip("%s - not in this kernel\n", works[i].name);
		else
			ksft_test_result(!r && max < BOUND_NS && late <= j / 2, "%s%s%s\n",
					 works[i].name, r ? ": " : "", r ? strerror(err) : "");
	}

	ok = true;
	for (j = 0; j < NR; j++) {
		char what[16];

		snprintf(what, sizeof(what), "vCPU %lu", j);
		excl_counters_read(ev.vcpus[j], &c1[j]);
		excl_counters_delta(what, &c0[j], &c1[j]);
		was = s->spins[j];
		usleep(50000);
		ok = ok && s->spins[j] != was && !ev.threads[j].ended;
	}
	ksft_test_result(ok, "the guests still spin\n");
	if (excl_stock())
		ksft_test_result_skip("attached and kicked - not exclusive\n");
	else
		ksft_test_result(c1[0].attached && c1[1].attached &&
				 excl_kicks(&c0[0], &c1[0]) &&
				 excl_kicks(&c0[1], &c1[1]),
				 "attached, and kicked\n");
	s->stop = 1;
	excl_vm_join(&ev, 10);
	excl_vm_destroy(&ev);
	ksft_finished();
}
