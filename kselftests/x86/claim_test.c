// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that a claim takes no CPU silently from those who have no other, and says who they
 * are: a task that is pinned there, a cpuset partition, a cpuset of version 1.  What belongs
 * to the process that the CPUs are for is not in the way, and KVM_EXCL_CLAIM_PINNED takes
 * them all the same, until the release.  And that a mask for RPS which is written meanwhile
 * has the CPU again afterwards.
 */
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "excl.h"

#define CGROUP		"/sys/fs/cgroup"
#define GROUP		CGROUP "/excl_claim_test"
#define V1		"/tmp/excl_cpuset_v1"
#define V1_GROUP	V1 "/excl_claim_test"
#define V1_RESULTS	4
#define RPS_CPUS	"/sys/class/net/lo/queues/rx-0/rps_cpus"
#define NAME		"pinned-here"

static const uint32_t cpus[] = { EXCL_FIRST_CPU, EXCL_FIRST_CPU + 1 };
static volatile struct { int cpu; uint64_t rounds; } *at;

static void pin_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	TEST_ASSERT(!sched_setaffinity(0, sizeof(set), &set), "sched_setaffinity: %s",
		    strerror(errno));
}

static bool is_pinned_to(pid_t pid, int cpu)
{
	cpu_set_t set;

	return !sched_getaffinity(pid, sizeof(set), &set) && CPU_COUNT(&set) == 1 &&
	       CPU_ISSET(cpu, &set);
}

/* A process of its own, which says where it runs. */
static pid_t start_child(int cpu)
{
	pid_t pid = fork();

	TEST_ASSERT(pid >= 0, "fork: %s", strerror(errno));
	if (pid) {
		usleep(50000);
		return pid;
	}
	prctl(PR_SET_NAME, NAME);
	if (cpu >= 0)
		pin_to(cpu);
	for (;;) {
		at->cpu = sched_getcpu();
		at->rounds++;
		usleep(1000);
	}
}

static void end_child(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* It comes to run on @cpu, or, with @off, elsewhere. */
static bool child_runs(int cpu, bool off)
{
	uint64_t end = excl_now_ns() + 10000000000ULL, rounds;
	bool elsewhere;

	while (excl_now_ns() < end) {
		rounds = at->rounds;
		usleep(20000);
		elsewhere = at->cpu != cpu;
		if (at->rounds > rounds + 2 && off == elsewhere)
			return true;
	}
	ksft_print_msg("it is on CPU %d\n", at->cpu);
	return false;
}

/* @wrong is the errno, 0 where the claim succeeds; the CPUs are given back. */
static bool claims(int wrong, uint32_t flags, int target, struct kvm_excl_claim_cpus *claim)
{
	int ctx = excl_open(), r;

	r = excl_claim_for(ctx, cpus, ARRAY_SIZE(cpus), flags, target, claim) ? errno : 0;
	close(ctx);
	if (r != wrong || r)
		ksft_print_msg("errno %d, obstacle %u on CPU %u: %d %.64s\n", r, claim->obstacle,
			       claim->obstacle_cpu, claim->obstacle_id, claim->obstacle_name);
	return r == wrong;
}

static void pinned_task(void)
{
	struct kvm_excl_claim_cpus claim;
	int ctx, pidfd;
	pid_t pid;

	pid = start_child(cpus[1]);
	ksft_test_result(claims(EBUSY, 0, 0, &claim) &&
			 claim.obstacle == KVM_EXCL_OBSTACLE_PINNED &&
			 claim.obstacle_cpu == cpus[1] && claim.obstacle_id == pid &&
			 !strcmp(claim.obstacle_name, NAME),
			 "a task that is pinned there is named\n");
	ksft_test_result(child_runs(cpus[1], false), "and stays where it is\n");

	pidfd = syscall(SYS_pidfd_open, pid, 0);
	ksft_test_result(claims(0, KVM_EXCL_CLAIM_FOR_PID, pidfd, &claim),
			 "it is not in its own way\n");
	close(pidfd);

	ctx = excl_open();
	ksft_test_result(!excl_claim_for(ctx, cpus, 2, KVM_EXCL_CLAIM_PINNED, 0, &claim) &&
			 child_runs(cpus[1], true) && is_pinned_to(pid, cpus[1]),
			 "CLAIM_PINNED: it runs elsewhere, and keeps its mask\n");
	close(ctx);
	ksft_test_result(child_runs(cpus[1], false), "it is back after the release\n");
	end_child(pid);

	/* Another one that is owned is none that is left. */
	pid = start_child(cpus[0]);
	ksft_test_result(claims(EBUSY, 0, 0, &claim) && claim.obstacle_id == pid &&
			 claim.obstacle_cpu == cpus[0], "so is one on the first CPU\n");
	end_child(pid);
	ksft_test_result(claims(0, 0, 0, &claim), "nothing else is in the way\n");
}

static void *own_thread(void *stop)
{
	pin_to(cpus[0]);
	while (!*(volatile int *)stop)
		usleep(1000);
	return NULL;
}

static void own_tasks(void)
{
	struct kvm_excl_claim_cpus claim;
	struct kvm_vm *vm = vm_create(1);
	pthread_t thread;
	int stop = 0;

	TEST_ASSERT(!pthread_create(&thread, NULL, own_thread, &stop), "pthread_create");
	usleep(50000);
	ksft_test_result(claims(0, 0, 0, &claim), "a thread of the caller's is not in the way\n");
	ksft_test_result(claims(0, KVM_EXCL_CLAIM_FOR_VM, vm->fd, &claim),
			 "nor one of the VM's process\n");
	stop = 1;
	pthread_join(thread, NULL);
	kvm_vm_free(vm);
}

static void bad_target(void)
{
	const uint32_t both = KVM_EXCL_CLAIM_FOR_VM | KVM_EXCL_CLAIM_FOR_PID;
	struct kvm_excl_claim_cpus claim;
	int null = open("/dev/null", O_RDONLY);

	ksft_test_result(claims(EINVAL, 0, 1, &claim), "a target without a flag: EINVAL\n");
	ksft_test_result(claims(EINVAL, both, null, &claim), "both flags: EINVAL\n");
	ksft_test_result(claims(EINVAL, KVM_EXCL_CLAIM_FOR_VM, null, &claim),
			 "no VM: EINVAL\n");
	ksft_test_result(claims(EBADF, KVM_EXCL_CLAIM_FOR_VM, -1, &claim) &&
			 claims(EBADF, KVM_EXCL_CLAIM_FOR_PID, -1, &claim),
			 "no open file: EBADF\n");
	close(null);
}

static void partition(void)
{
	struct kvm_excl_claim_cpus claim;
	char text[32];
	int pidfd;
	pid_t pid;

	excl_write_file(CGROUP "/cgroup.subtree_control", "+cpuset");
	if (mkdir(GROUP, 0755) && errno != EEXIST)
		ksft_exit_fail_msg("mkdir: %s\n", strerror(errno));
	snprintf(text, sizeof(text), "%u-%u", cpus[0], cpus[1]);
	ksft_test_result(!excl_write_file(GROUP "/cpuset.cpus", text) &&
			 !excl_write_file(GROUP "/cpuset.cpus.partition", "root"),
			 "a partition has the CPUs\n");
	ksft_test_result(claims(EBUSY, 0, 0, &claim) &&
			 claim.obstacle == KVM_EXCL_OBSTACLE_PARTITION &&
			 !strcmp(claim.obstacle_name, GROUP + strlen(CGROUP)),
			 "it is named\n");
	ksft_test_result(claims(0, KVM_EXCL_CLAIM_PINNED, 0, &claim),
			 "CLAIM_PINNED takes its CPUs\n");

	pid = start_child(-1);
	snprintf(text, sizeof(text), "%d", pid);
	TEST_ASSERT(!excl_write_file(GROUP "/cgroup.procs", text), "cgroup.procs: %s",
		    strerror(errno));
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	ksft_test_result(claims(0, KVM_EXCL_CLAIM_FOR_PID, pidfd, &claim),
			 "it is not in the way of what is in it\n");
	close(pidfd);
	end_child(pid);
	excl_write_file(GROUP "/cpuset.cpus.partition", "member");
	usleep(100000);
	if (rmdir(GROUP))
		ksft_print_msg("rmdir: %s\n", strerror(errno));
}

/*
 * The controller leaves a hierarchy when the last group that it has there is gone.  A kernel
 * without CONFIG_CPUSETS_V1 does not know the option.
 */
static bool mount_v1(bool *absent)
{
	int i;

	*absent = false;
	excl_write_file(CGROUP "/cgroup.subtree_control", "-cpuset");
	mkdir(V1, 0755);
	for (i = 0; i < 100; i++) {
		if (!mount("none", V1, "cgroup", 0, "cpuset"))
			return true;
		if (errno == EINVAL) {
			*absent = true;
			return false;
		}
		usleep(100000);
	}
	ksft_print_msg("mount: %s\n", strerror(errno));
	return false;
}

/* What a user has put into a cpuset of these CPUs is pinned there. */
static void cpuset_v1(void)
{
	struct kvm_excl_claim_cpus claim;
	bool absent, ok;
	char text[32];
	pid_t pid;
	int ctx, i;

	ok = mount_v1(&absent);
	if (absent) {
		for (i = 0; i < V1_RESULTS; i++)
			ksft_test_result_skip("a cpuset of version 1 - not in this kernel\n");
		return;
	}
	ok = ok && (!mkdir(V1_GROUP, 0755) || errno == EEXIST);
	snprintf(text, sizeof(text), "%u", cpus[1]);
	ok = ok && !excl_write_file(V1_GROUP "/cpuset.cpus", text) &&
	     !excl_write_file(V1_GROUP "/cpuset.mems", "0");
	pid = start_child(-1);
	snprintf(text, sizeof(text), "%d", pid);
	ok = ok && !excl_write_file(V1_GROUP "/tasks", text);
	ksft_test_result(ok && child_runs(cpus[1], false), "a cpuset of version 1 has a CPU\n");
	ksft_test_result(ok && claims(EBUSY, 0, 0, &claim) &&
			 claim.obstacle == KVM_EXCL_OBSTACLE_PINNED && claim.obstacle_id == pid,
			 "who is in it is named\n");
	ctx = excl_open();
	ksft_test_result(ok && !excl_claim_for(ctx, cpus, 2, KVM_EXCL_CLAIM_PINNED, 0, &claim) &&
			 child_runs(cpus[1], true) && is_pinned_to(pid, cpus[1]),
			 "CLAIM_PINNED: it runs elsewhere, and keeps its mask\n");
	close(ctx);
	ksft_test_result(ok && child_runs(cpus[1], false), "it is back after the release\n");
	end_child(pid);
	usleep(100000);
	if (rmdir(V1_GROUP) || umount(V1))
		ksft_print_msg("%s: %s\n", V1, strerror(errno));
	/*
	 * The tests after this one have version 2 again.  A hierarchy ends with an unmount
	 * that finds its last group gone, which takes a while.
	 */
	for (i = 0; i < 100; i++) {
		if (!excl_write_file(CGROUP "/cgroup.subtree_control", "+cpuset")) {
			rmdir(V1);
			return;
		}
		usleep(100000);
		/* Once more: a mount begins a new one when the old one has ended. */
		if (i % 30 == 20 && !mount("none", V1, "cgroup", 0, "cpuset"))
			umount(V1);
	}
	ksft_exit_fail_msg("the cpuset controller does not come back\n");
}

static void rps(void)
{
	char all[64] = "", now[64] = "", before[64] = "";
	bool ok;
	int ctx;

	ok = excl_read_file(RPS_CPUS, before, sizeof(before)) && !excl_write_file(RPS_CPUS, "f") &&
	     excl_read_file(RPS_CPUS, all, sizeof(all));
	ctx = excl_open();
	ok = ok && !excl_claim_first(ctx, ARRAY_SIZE(cpus)) && !excl_write_file(RPS_CPUS, "f") &&
	     excl_read_file(RPS_CPUS, now, sizeof(now));
	close(ctx);
	excl_write_file(RPS_CPUS, before);
	if (strcmp(all, now))
		ksft_print_msg("rps_cpus: %s, and %s while they are owned\n", all, now);
	ksft_test_result(ok && !strcmp(all, now), "a mask for RPS keeps them\n");
}

int main(int argc, char **argv)
{
	ksft_print_header();
	excl_require(2);
	TEST_REQUIRE(!excl_stock());
	at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(at != MAP_FAILED, "mmap: %s", strerror(errno));
	ksft_set_plan(22);
	pinned_task();
	own_tasks();
	bad_target();
	partition();
	cpuset_v1();
	rps();
	ksft_finished();
}
