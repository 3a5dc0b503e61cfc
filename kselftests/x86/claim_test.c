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

#include "harness.h"

#define CGROUP		"/sys/fs/cgroup"
#define GROUP		CGROUP "/excl_claim_test"
#define V1		"/tmp/excl_cpuset_v1"
#define V1_GROUP	V1 "/excl_claim_test"
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
	pid_t pid = excl_fork();

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

/* A task that has no other CPU than one of those that are claimed. */
FIXTURE(pinned) {
	pid_t pid;
	int pidfd;
};

FIXTURE_VARIANT(pinned) {
	int which;
};

FIXTURE_VARIANT_ADD(pinned, to_the_first) {
	.which = 0,
};

FIXTURE_VARIANT_ADD(pinned, to_the_second) {
	.which = 1,
};

FIXTURE_SETUP(pinned)
{
	self->pid = start_child(cpus[variant->which]);
	self->pidfd = syscall(SYS_pidfd_open, self->pid, 0);
	ASSERT_LE(0, self->pidfd);
}

FIXTURE_TEARDOWN(pinned)
{
	close(self->pidfd);
	if (self->pid)
		end_child(self->pid);
}

TEST_F_TIMEOUT(pinned, task_is_named, EXCL_CASE_S)
{
	struct kvm_excl_claim_cpus claim;

	/* That the other one is owned first does not leave it a CPU. */
	EXPECT_TRUE(claims(EBUSY, 0, 0, &claim));
	EXPECT_EQ(KVM_EXCL_OBSTACLE_PINNED, claim.obstacle);
	EXPECT_EQ(cpus[variant->which], claim.obstacle_cpu);
	EXPECT_EQ(self->pid, claim.obstacle_id);
	EXPECT_STREQ(NAME, claim.obstacle_name);
}

TEST_F_TIMEOUT(pinned, task_stays_where_it_is, EXCL_CASE_S)
{
	struct kvm_excl_claim_cpus claim;

	ASSERT_TRUE(claims(EBUSY, 0, 0, &claim));
	EXPECT_TRUE(child_runs(cpus[variant->which], false));
}

TEST_F_TIMEOUT(pinned, task_is_not_in_its_own_way, EXCL_CASE_S)
{
	struct kvm_excl_claim_cpus claim;

	EXPECT_TRUE(claims(0, KVM_EXCL_CLAIM_FOR_PID, self->pidfd, &claim));
}

TEST_F_TIMEOUT(pinned, task_is_moved_until_the_release, EXCL_CASE_S)
{
	int ctx = excl_open(), cpu = cpus[variant->which];
	struct kvm_excl_claim_cpus claim;

	EXPECT_EQ(0, excl_claim_for(ctx, cpus, 2, KVM_EXCL_CLAIM_PINNED, 0, &claim));
	EXPECT_TRUE(child_runs(cpu, true));
	EXPECT_TRUE(is_pinned_to(self->pid, cpu));
	close(ctx);
	EXPECT_TRUE(child_runs(cpu, false));
}

TEST_F_TIMEOUT(pinned, task_that_has_ended_leaves_nothing_in_the_way, EXCL_CASE_S)
{
	struct kvm_excl_claim_cpus claim;

	end_child(self->pid);
	self->pid = 0;
	EXPECT_TRUE(claims(0, 0, 0, &claim));
}

/* A thread of the process that claims, which has a VM, too. */
FIXTURE(own) {
	struct kvm_vm *vm;
	pthread_t thread;
	volatile int stop;
};

static void *own_thread(void *stop)
{
	pin_to(cpus[0]);
	while (!*(volatile int *)stop)
		usleep(1000);
	return NULL;
}

FIXTURE_SETUP(own)
{
	self->vm = vm_create(1);
	ASSERT_EQ(0, pthread_create(&self->thread, NULL, own_thread, (void *)&self->stop));
	usleep(50000);
}

FIXTURE_TEARDOWN(own)
{
	self->stop = 1;
	pthread_join(self->thread, NULL);
	kvm_vm_free(self->vm);
}

TEST_F_TIMEOUT(own, thread_of_the_caller_is_not_in_the_way, EXCL_CASE_S)
{
	struct kvm_excl_claim_cpus claim;

	EXPECT_TRUE(claims(0, 0, 0, &claim));
}

TEST_F_TIMEOUT(own, thread_of_the_vms_process_is_not_in_the_way, EXCL_CASE_S)
{
	struct kvm_excl_claim_cpus claim;

	EXPECT_TRUE(claims(0, KVM_EXCL_CLAIM_FOR_VM, self->vm->fd, &claim));
}

FIXTURE(target) {
	int null;
};

FIXTURE_SETUP(target)
{
	self->null = open("/dev/null", O_RDONLY);
	ASSERT_LE(0, self->null);
}

FIXTURE_TEARDOWN(target)
{
	close(self->null);
}

TEST_F_TIMEOUT(target, takes_one_flag, EXCL_CASE_S)
{
	const uint32_t both = KVM_EXCL_CLAIM_FOR_VM | KVM_EXCL_CLAIM_FOR_PID;
	struct kvm_excl_claim_cpus claim;

	EXPECT_TRUE(claims(EINVAL, 0, 1, &claim));
	EXPECT_TRUE(claims(EINVAL, both, self->null, &claim));
}

TEST_F_TIMEOUT(target, is_a_vm_or_a_process, EXCL_CASE_S)
{
	struct kvm_excl_claim_cpus claim;

	EXPECT_TRUE(claims(EINVAL, KVM_EXCL_CLAIM_FOR_VM, self->null, &claim));
	EXPECT_TRUE(claims(EBADF, KVM_EXCL_CLAIM_FOR_VM, -1, &claim));
	EXPECT_TRUE(claims(EBADF, KVM_EXCL_CLAIM_FOR_PID, -1, &claim));
}

/* A cpuset partition that has the CPUs. */
FIXTURE(partition) {
};

FIXTURE_SETUP(partition)
{
	char text[32];

	excl_write_file(CGROUP "/cgroup.subtree_control", "+cpuset");
	ASSERT_TRUE(!mkdir(GROUP, 0755) || errno == EEXIST);
	snprintf(text, sizeof(text), "%u-%u", cpus[0], cpus[1]);
	EXPECT_EQ(0, excl_write_file(GROUP "/cpuset.cpus", text));
	EXPECT_EQ(0, excl_write_file(GROUP "/cpuset.cpus.partition", "root"));
}

FIXTURE_TEARDOWN(partition)
{
	excl_write_file(GROUP "/cpuset.cpus.partition", "member");
	usleep(100000);
	if (rmdir(GROUP))
		ksft_print_msg("rmdir: %s\n", strerror(errno));
}

TEST_F_TIMEOUT(partition, is_named, EXCL_CASE_S)
{
	struct kvm_excl_claim_cpus claim;

	EXPECT_TRUE(claims(EBUSY, 0, 0, &claim));
	EXPECT_EQ(KVM_EXCL_OBSTACLE_PARTITION, claim.obstacle);
	EXPECT_STREQ(GROUP + strlen(CGROUP), claim.obstacle_name);
}

TEST_F_TIMEOUT(partition, has_its_cpus_taken_if_asked_for, EXCL_CASE_S)
{
	struct kvm_excl_claim_cpus claim;

	EXPECT_TRUE(claims(0, KVM_EXCL_CLAIM_PINNED, 0, &claim));
}

TEST_F_TIMEOUT(partition, is_not_in_the_way_of_what_is_in_it, EXCL_CASE_S)
{
	struct kvm_excl_claim_cpus claim;
	char text[32];
	int pidfd;
	pid_t pid;

	pid = start_child(-1);
	snprintf(text, sizeof(text), "%d", pid);
	EXPECT_EQ(0, excl_write_file(GROUP "/cgroup.procs", text));
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	EXPECT_TRUE(claims(0, KVM_EXCL_CLAIM_FOR_PID, pidfd, &claim));
	close(pidfd);
	end_child(pid);
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

/*
 * The tests after this one have version 2 again.  A hierarchy ends with an unmount
 * that finds its last group gone, which takes a while.
 */
static bool version_2_comes_back(void)
{
	int i;

	for (i = 0; i < 100; i++) {
		if (!excl_write_file(CGROUP "/cgroup.subtree_control", "+cpuset")) {
			rmdir(V1);
			return true;
		}
		usleep(100000);
		/* Once more: a mount begins a new one when the old one has ended. */
		if (i % 30 == 20 && !mount("none", V1, "cgroup", 0, "cpuset"))
			umount(V1);
	}
	return false;
}

/* What a user has put into a cpuset of these CPUs is pinned there. */
FIXTURE(cpuset_v1) {
	pid_t pid;
};

FIXTURE_SETUP(cpuset_v1)
{
	bool absent;

	if (!mount_v1(&absent)) {
		ASSERT_TRUE(absent);
		SKIP(return, "a cpuset of version 1 - not in this kernel");
	}
	self->pid = start_child(-1);
}

FIXTURE_TEARDOWN(cpuset_v1)
{
	end_child(self->pid);
	usleep(100000);
	if (rmdir(V1_GROUP) || umount(V1))
		ksft_print_msg("%s: %s\n", V1, strerror(errno));
	EXPECT_TRUE(version_2_comes_back());
}

/* In one case: to mount the hierarchy and to be rid of it again takes seconds. */
TEST_F_TIMEOUT(cpuset_v1, pins_who_is_in_it, EXCL_CASE_S)
{
	struct kvm_excl_claim_cpus claim;
	char text[32];
	int ctx;

	ASSERT_TRUE(!mkdir(V1_GROUP, 0755) || errno == EEXIST);
	snprintf(text, sizeof(text), "%u", cpus[1]);
	ASSERT_EQ(0, excl_write_file(V1_GROUP "/cpuset.cpus", text));
	ASSERT_EQ(0, excl_write_file(V1_GROUP "/cpuset.mems", "0"));
	snprintf(text, sizeof(text), "%d", self->pid);
	ASSERT_EQ(0, excl_write_file(V1_GROUP "/tasks", text));
	ASSERT_TRUE(child_runs(cpus[1], false));

	EXPECT_TRUE(claims(EBUSY, 0, 0, &claim));
	EXPECT_EQ(KVM_EXCL_OBSTACLE_PINNED, claim.obstacle);
	EXPECT_EQ(self->pid, claim.obstacle_id);

	/* It runs elsewhere, and keeps its mask. */
	ctx = excl_open();
	EXPECT_EQ(0, excl_claim_for(ctx, cpus, 2, KVM_EXCL_CLAIM_PINNED, 0, &claim));
	EXPECT_TRUE(child_runs(cpus[1], true));
	EXPECT_TRUE(is_pinned_to(self->pid, cpus[1]));
	close(ctx);
	EXPECT_TRUE(child_runs(cpus[1], false));
}

FIXTURE(rps) {
	char before[64];
};

FIXTURE_SETUP(rps)
{
	ASSERT_TRUE(excl_read_file(RPS_CPUS, self->before, sizeof(self->before)));
}

FIXTURE_TEARDOWN(rps)
{
	excl_write_file(RPS_CPUS, self->before);
}

TEST_F_TIMEOUT(rps, mask_keeps_owned_cpus, EXCL_CASE_S)
{
	char all[64] = "", now[64] = "";
	int ctx;

	ASSERT_EQ(0, excl_write_file(RPS_CPUS, "f"));
	ASSERT_TRUE(excl_read_file(RPS_CPUS, all, sizeof(all)));
	ctx = excl_open();
	ASSERT_EQ(0, excl_claim_first(ctx, ARRAY_SIZE(cpus)));
	EXPECT_EQ(0, excl_write_file(RPS_CPUS, "f"));
	EXPECT_TRUE(excl_read_file(RPS_CPUS, now, sizeof(now)));
	close(ctx);
	EXPECT_STREQ(all, now);
}

int main(int argc, char **argv)
{
	excl_require(2);
	TEST_REQUIRE(!excl_stock());
	at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(at != MAP_FAILED, "mmap: %s", strerror(errno));
	return excl_harness_run(argc, argv);
}
