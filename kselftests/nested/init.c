// SPDX-License-Identifier: GPL-2.0-only
/*
 * PID 1 of a Linux guest that is a KVM host itself
 *
 *   nested-init l2 EXITS PERIOD_US
 *
 * runs a guest of its own that spins and never exits by itself, until interrupts have ended
 * it EXITS times, all vCPUs together and each one its share.  It has a vCPU on each CPU.  A
 * timer fires there every PERIOD_US, and a thread on each other CPU, which sleeps between,
 * has a function called on it by IPI.
 *
 *   nested-init host
 *
 * loads the module of exclusive mode and says what it and the command answer here.
 *
 * What is said are lines that start with "l2: " or "host: ", the last one is "end".  As PID 1
 * of a VM it then ends the VM; "l2" runs as a program like any other, too.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/membarrier.h>
#include <linux/perf_event.h>
#include <linux/reboot.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <linux/kvm_exclusive.h>

#define MAX_VCPUS	8
#define MAX_CPUID	256

/* The memory of L2: page tables that map its first 2 MiB, what it runs, what it counts. */
#define L2_SIZE		0x200000
#define L2_PML4		0x1000
#define L2_PDPT		0x2000
#define L2_PD		0x3000
#define L2_CODE		0x4000
#define L2_COUNTERS	0x5000
#define L2_STRIDE	64

#define PTE_PRESENT	1
#define PTE_WRITE	2
#define PTE_LARGE	0x80

#define CR0_PE		1
#define CR0_NE		0x20
#define CR0_PG		0x80000000
#define CR4_PAE		0x20
#define EFER_LME	0x100
#define EFER_LMA	0x400

/* incq (%rdi); jmp to it */
static const uint8_t l2_code[] = { 0x48, 0xff, 0x07, 0xeb, 0xfb };

static struct vcpu {
	unsigned int index;
	pthread_t thread;
	struct kvm_run *run;
	int fd, stats, timer;
	/* Offsets into what @stats reads. */
	uint32_t irq_exits, exits;
} vcpus[MAX_VCPUS];

static uint8_t *l2_memory;
static unsigned int nr;
static unsigned int period_us;
static volatile int stopping;

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

static _Noreturn void die(const char *what)
{
	printf("error: %s: %s\n", what, strerror(errno));
	end(1);
}

static void stay_on(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity");
}

/* Of the host, so that it is reached through the exits of L2 alone. */
static int start_timer(unsigned int cpu)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_SW_CPU_CLOCK,
		.sample_period = period_us * 1000ull,
	};
	int fd = syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);

	if (fd < 0)
		die("perf_event_open");
	return fd;
}

static uint64_t counter(const struct vcpu *v, uint32_t offset)
{
	uint64_t value;

	if (pread(v->stats, &value, sizeof(value), offset) != sizeof(value))
		die("reading a statistic");
	return value;
}

static uint32_t find_counter(const struct vcpu *v, const char *name)
{
	struct kvm_stats_header header;
	struct kvm_stats_desc *desc;
	uint32_t offset;
	size_t size;

	if (pread(v->stats, &header, sizeof(header), 0) != sizeof(header))
		die("reading the statistics");
	size = sizeof(*desc) + header.name_size;
	desc = malloc(size);
	for (uint32_t i = 0; i < header.num_desc; i++) {
		if (pread(v->stats, desc, size, header.desc_offset + i * size) != (ssize_t)size)
			die("reading the statistics");
		if (strcmp(desc->name, name))
			continue;
		offset = header.data_offset + desc->offset;
		free(desc);
		return offset;
	}
	errno = ENOENT;
	die(name);
}

/* Long mode is refused to who has not got it in CPUID. */
static void set_cpuid(int kvm, const struct vcpu *v)
{
	struct kvm_cpuid2 *cpuid;

	cpuid = calloc(1, sizeof(*cpuid) + MAX_CPUID * sizeof(cpuid->entries[0]));
	cpuid->nent = MAX_CPUID;
	if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid))
		die("KVM_GET_SUPPORTED_CPUID");
	if (ioctl(v->fd, KVM_SET_CPUID2, cpuid))
		die("KVM_SET_CPUID2");
	free(cpuid);
}

static void create_vcpu(int kvm, int vm, struct vcpu *v)
{
	struct kvm_segment code = {
		.selector = 8, .limit = 0xffffffff, .type = 11,
		.present = 1, .s = 1, .l = 1, .g = 1,
	};
	struct kvm_segment data = {
		.selector = 16, .limit = 0xffffffff, .type = 3,
		.present = 1, .s = 1, .db = 1, .g = 1,
	};
	struct kvm_regs regs = {
		.rip = L2_CODE,
		.rdi = L2_COUNTERS + v->index * L2_STRIDE,
		.rflags = 2,
	};
	struct kvm_sregs sregs;
	int size;

	v->fd = ioctl(vm, KVM_CREATE_VCPU, v->index);
	if (v->fd < 0)
		die("KVM_CREATE_VCPU");
	size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	v->run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (v->run == MAP_FAILED)
		die("mmap of a vCPU");
	v->stats = ioctl(v->fd, KVM_GET_STATS_FD, NULL);
	if (v->stats < 0)
		die("KVM_GET_STATS_FD");
	v->irq_exits = find_counter(v, "irq_exits");
	v->exits = find_counter(v, "exits");

	set_cpuid(kvm, v);
	/* GS has the base 0: a host that takes an interrupt with it does not live on. */
	if (ioctl(v->fd, KVM_GET_SREGS, &sregs))
		die("KVM_GET_SREGS");
	sregs.cs = code;
	sregs.ds = data;
	sregs.es = data;
	sregs.fs = data;
	sregs.gs = data;
	sregs.ss = data;
	sregs.cr0 = CR0_PE | CR0_NE | CR0_PG;
	sregs.cr3 = L2_PML4;
	sregs.cr4 = CR4_PAE;
	sregs.efer = EFER_LME | EFER_LMA;
	if (ioctl(v->fd, KVM_SET_SREGS, &sregs))
		die("KVM_SET_SREGS");
	if (ioctl(v->fd, KVM_SET_REGS, &regs))
		die("KVM_SET_REGS");
}

static void create_l2(void)
{
	struct kvm_userspace_memory_region region = { .memory_size = L2_SIZE };
	int kvm, vm;

	l2_memory = mmap(NULL, L2_SIZE, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (l2_memory == MAP_FAILED)
		die("memory of L2");
	*(uint64_t *)(l2_memory + L2_PML4) = L2_PDPT | PTE_PRESENT | PTE_WRITE;
	*(uint64_t *)(l2_memory + L2_PDPT) = L2_PD | PTE_PRESENT | PTE_WRITE;
	*(uint64_t *)(l2_memory + L2_PD) = PTE_PRESENT | PTE_WRITE | PTE_LARGE;
	memcpy(l2_memory + L2_CODE, l2_code, sizeof(l2_code));

	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		die("/dev/kvm");
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0)
		die("KVM_CREATE_VM");
	/* Where the vendor needs it, and else it changes nothing. */
	ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000);
	region.userspace_addr = (uintptr_t)l2_memory;
	if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region))
		die("KVM_SET_USER_MEMORY_REGION");
	for (unsigned int i = 0; i < nr; i++) {
		vcpus[i].index = i;
		create_vcpu(kvm, vm, &vcpus[i]);
	}
}

static void nothing(int signal)
{
}

static void *run_vcpu(void *arg)
{
	struct vcpu *v = arg;

	stay_on(v->index);
	v->timer = start_timer(v->index);
	while (!stopping) {
		if (!ioctl(v->fd, KVM_RUN, 0)) {
			printf("error: L2's vCPU %u: exit reason %u\n", v->index,
			       v->run->exit_reason);
			end(1);
		}
		if (errno != EINTR)
			die("KVM_RUN");
	}
	close(v->timer);
	return NULL;
}

/* To each CPU that runs a vCPU of L2, but this one. */
static void *send_ipis(void *arg)
{
	struct vcpu *v = arg;

	stay_on(v->index);
	while (!stopping) {
		usleep(period_us * 4);
		if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0))
			die("membarrier");
	}
	return NULL;
}

static uint64_t l2_rounds(unsigned int i)
{
	return __atomic_load_n((uint64_t *)(l2_memory + L2_COUNTERS + i * L2_STRIDE),
			       __ATOMIC_RELAXED);
}

static void print_l2(const char *what)
{
	printf("l2: %s", what);
	for (unsigned int i = 0; i < nr; i++)
		printf(", vCPU %u: %lu exits, %lu by interrupts, %lu rounds", i,
		       counter(&vcpus[i], vcpus[i].exits),
		       counter(&vcpus[i], vcpus[i].irq_exits), l2_rounds(i));
	putchar('\n');
	fflush(stdout);
}

static void run_l2(unsigned long want)
{
	uint64_t sum, least, value, before[MAX_VCPUS];
	pthread_t senders[MAX_VCPUS];
	time_t say = 0;

	nr = sysconf(_SC_NPROCESSORS_ONLN);
	if (nr > MAX_VCPUS)
		nr = MAX_VCPUS;
	create_l2();
	signal(SIGUSR1, nothing);
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0))
		die("membarrier");
	for (unsigned int i = 0; i < nr; i++) {
		if (pthread_create(&vcpus[i].thread, NULL, run_vcpu, &vcpus[i]) ||
		    pthread_create(&senders[i], NULL, send_ipis, &vcpus[i]))
			die("pthread_create");
	}

	do {
		usleep(50000);
		sum = 0;
		least = UINT64_MAX;
		for (unsigned int i = 0; i < nr; i++) {
			value = counter(&vcpus[i], vcpus[i].irq_exits);
			sum += value;
			if (value < least)
				least = value;
		}
		if (time(NULL) > say) {
			say = time(NULL) + 2;
			print_l2("so far");
		}
	} while (sum < want || least < want / nr / 2);

	/* It is alive still. */
	for (unsigned int i = 0; i < nr; i++)
		before[i] = l2_rounds(i);
	for (unsigned int i = 0; i < nr; i++)
		while (l2_rounds(i) == before[i])
			usleep(1000);

	stopping = 1;
	for (unsigned int i = 0; i < nr; i++) {
		vcpus[i].run->immediate_exit = 1;
		pthread_kill(vcpus[i].thread, SIGUSR1);
		pthread_join(vcpus[i].thread, NULL);
		pthread_join(senders[i], NULL);
	}
	print_l2("done");
}

/* Run the command, and say how it ended. */
static void command(const char *what, char *const *argv)
{
	int status;
	pid_t pid;

	printf("host: %s:\n", what);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		dup2(STDOUT_FILENO, STDERR_FILENO);
		execv(argv[0], argv);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		die(what);
	if (WIFEXITED(status))
		printf("host: %s ended with status %d\n", what, WEXITSTATUS(status));
	else
		printf("host: %s ended by signal %d\n", what, WTERMSIG(status));
}

static void ask_host(void)
{
	char *const info_argv[] = { "/bin/kvm-exclusive", "info", NULL };
	char *const run_argv[] = { "/bin/kvm-exclusive", "run", "--cpus", "1", "--",
				   "/init", "nothing", NULL };
	struct kvm_excl_get_info info = { .size = sizeof(info) };
	uint32_t cpu = 1;
	struct kvm_excl_claim_cpus claim = {
		.size = sizeof(claim), .count = 1, .cpus = (uintptr_t)&cpu,
	};
	int fd, error;

	fd = open("/kvm-exclusive.ko", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
		die("loading the module");
	close(fd);
	fd = open(KVM_EXCL_DEVICE, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		die(KVM_EXCL_DEVICE);
	if (ioctl(fd, KVM_EXCL_GET_INFO, &info))
		die("KVM_EXCL_GET_INFO");
	info.why[sizeof(info.why) - 1] = 0;
	printf("host: supported %u: %s\n", info.supported, info.why);
	fflush(stdout);
	error = ioctl(fd, KVM_EXCL_CLAIM_CPUS, &claim) ? errno : 0;
	printf("host: claim: %s\n", error ? strerrorname_np(error) : "done");
	close(fd);
	command("info", info_argv);
	command("run", run_argv);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	/* What "host" has the command start. */
	if (!strcmp(what, "nothing"))
		return 0;
	if (getpid() == 1 && (mount("dev", "/dev", "devtmpfs", 0, NULL) ||
			      mount("proc", "/proc", "proc", 0, NULL) ||
			      mount("sys", "/sys", "sysfs", 0, NULL)))
		die("mount");
	if (!strcmp(what, "l2") && argc == 4) {
		period_us = atoi(argv[3]);
		run_l2(strtoul(argv[2], NULL, 0));
	} else if (!strcmp(what, "host")) {
		ask_host();
	} else {
		errno = EINVAL;
		die("arguments");
	}
	puts("end");
	end(0);
}
