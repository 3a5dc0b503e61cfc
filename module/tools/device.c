// SPDX-License-Identifier: GPL-2.0-only
/* The device, with errors that say what to do. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "tool.h"

void complain(const char *format, ...)
{
	va_list args;

	fputs("kvm-exclusive: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

/**
 * device_open - open a context
 *
 * Return: its file descriptor, close-on-exec, or -1 after a complaint.
 */
int device_open(void)
{
	int ctx = open(KVM_EXCL_DEVICE, O_RDWR | O_CLOEXEC);

	if (ctx >= 0)
		return ctx;
	switch (errno) {
	case ENOENT:
	case ENODEV:
	case ENXIO:
		complain("there is no " KVM_EXCL_DEVICE ": load the module with \"modprobe kvm-exclusive\", on a kernel that has the series");
		break;
	case EPERM:
	case EACCES:
		complain("opening " KVM_EXCL_DEVICE " takes CAP_SYS_ADMIN: run this as root");
		break;
	default:
		complain(KVM_EXCL_DEVICE ": %s", strerror(errno));
	}
	return -1;
}

/**
 * device_why_unsupported - why this host cannot give CPUs to VMs
 * @ctx: a context
 *
 * Return: the reason, or NULL when it can.
 */
const char *device_why_unsupported(int ctx)
{
	static struct kvm_excl_get_info info;

	memset(&info, 0, sizeof(info));
	info.size = sizeof(info);
	if (ioctl(ctx, KVM_EXCL_GET_INFO, &info))
		return strerror(errno);
	info.why[sizeof(info.why) - 1] = 0;
	return info.supported ? NULL : info.why;
}

/* The first CPU of the list that is not online, or -1. */
static int offline_cpu(const struct cpulist *list)
{
	char path[64];
	int value;
	FILE *f;

	for (unsigned int i = 0; i < list->count; i++) {
		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u", list->cpus[i]);
		f = fopen(path, "r");
		if (!f)
			return list->cpus[i];
		fclose(f);
		/* A CPU that cannot go offline has no such file. */
		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/online",
			 list->cpus[i]);
		f = fopen(path, "r");
		if (!f)
			continue;
		value = fgetc(f);
		fclose(f);
		if (value == '0')
			return list->cpus[i];
	}
	return -1;
}

/*
 * A thread of a core in the list that is not in it itself, or -1.
 * @of: the CPU of the list that it shares the core with
 */
static int left_out_thread(const struct cpulist *list, __u32 *of)
{
	int thread = -1;

	for (unsigned int i = 0; i < list->count && thread < 0; i++) {
		struct cpulist threads;
		char path[80], line[256];
		FILE *f;

		*of = list->cpus[i];
		snprintf(path, sizeof(path),
			 "/sys/devices/system/cpu/cpu%u/topology/thread_siblings_list", *of);
		f = fopen(path, "r");
		if (!f)
			continue;
		if (!fgets(line, sizeof(line), f))
			*line = 0;
		fclose(f);
		line[strcspn(line, "\n")] = 0;
		if (!cpulist_parse(line, &threads)) {
			for (unsigned int j = 0; j < threads.count && thread < 0; j++)
				if (!cpulist_has(list, threads.cpus[j]))
					thread = threads.cpus[j];
		}
		free(threads.cpus);
	}
	return thread;
}

/* Say what is in the way, and what can be done about it. */
static void complain_of_obstacle(const struct kvm_excl_claim_cpus *claim)
{
	char thread[sizeof(claim->obstacle_name) + 32] = "a thread that cannot be seen from here";
	char name[sizeof(claim->obstacle_name) + 1] = "";
	unsigned int cpu = claim->obstacle_cpu;
	int id = claim->obstacle_id;

	memcpy(name, claim->obstacle_name, sizeof(claim->obstacle_name));
	/* One that is about to end has a name, but no number any more. */
	if (id)
		snprintf(thread, sizeof(thread), "thread %s (TID %d)", name, id);
	else if (*name)
		snprintf(thread, sizeof(thread), "thread %s", name);
	switch (claim->obstacle) {
	case KVM_EXCL_OBSTACLE_OWNED:
		complain("CPU %u belongs to another context: see \"kvm-exclusive status\"", cpu);
		break;
	case KVM_EXCL_OBSTACLE_PINNED:
		if (id)
			complain("CPU %u is taken: %s may run nowhere else, and there may be more; widen its mask (\"taskset -cp LIST %d\") or its cgroup's cpuset.cpus (/proc/%d/cgroup), or use --take-pinned",
				 cpu, thread, id, id);
		else
			complain("CPU %u is taken: %s may run nowhere else, and there may be more; choose other CPUs, or use --take-pinned",
				 cpu, thread);
		break;
	case KVM_EXCL_OBSTACLE_PARTITION:
		complain("CPU %u is taken: the cpuset partition %s has it for itself; start \"kvm-exclusive run\", or the VMM for attach, in that cgroup, or take the CPUs all the same with --take-pinned",
			 cpu, name);
		break;
	case KVM_EXCL_OBSTACLE_TASK:
		if (id)
			complain("CPU %u cannot be taken: %s does not leave it; see /proc/%d/stack, and try again",
				 cpu, thread, id);
		else
			complain("CPU %u cannot be taken: %s does not leave it; see the kernel log, and try again",
				 cpu, thread);
		break;
	case KVM_EXCL_OBSTACLE_IRQ:
		if (id < 0)
			complain("CPU %u cannot be taken: %s keeps coming, and no interrupt of the host has it; a bug: report it with the kernel log and /proc/interrupts",
				 cpu, name);
		else
			complain("CPU %u cannot be taken: interrupt %d (%s) does not leave it: that takes its next interrupt; see /proc/irq/%d/effective_affinity_list, and try again",
				 cpu, id, name, id);
		break;
	case KVM_EXCL_OBSTACLE_VECTORS:
		complain("the other CPUs have too few interrupt vectors, by %d: choose fewer CPUs, or give the devices fewer queues",
			 id);
		break;
	case KVM_EXCL_OBSTACLE_SCHED_EXT:
		complain("a BPF scheduler (sched_ext) runs, which chooses CPUs itself: stop it first (/sys/kernel/sched_ext/root/ops names it)");
		break;
	case KVM_EXCL_OBSTACLE_DEADLINE:
		complain("the other CPUs of a scheduler domain have no bandwidth for its SCHED_DEADLINE tasks: choose fewer CPUs, or end some of those (\"ps -eLo tid,cls,comm\" lists them, class DLN)");
		break;
	case KVM_EXCL_OBSTACLE_ENTRY:
		complain("CPU %u cannot be taken: device %s can still interrupt it, with vector %d; a bug: report it with the kernel log",
			 cpu, name, id);
		break;
	case KVM_EXCL_OBSTACLE_NOTIFIED:
		complain("CPU %u cannot be taken: a vCPU of another VM is notified there, %s; a bug: report it with the kernel log",
			 cpu, thread);
		break;
	case KVM_EXCL_OBSTACLE_TIMER:
		complain("CPU %u cannot be taken: its clock event device does not give way; a bug: report it with the kernel log and /proc/timer_list",
			 cpu);
		break;
	default:
		complain("the CPUs cannot be taken now (see the kernel log)");
	}
}

/**
 * device_claim - claim CPUs for a context
 * @ctx: the context
 * @list: the CPUs
 * @flags: those of KVM_EXCL_CLAIM_CPUS
 * @target: as of KVM_EXCL_CLAIM_CPUS
 *
 * Return: STATUS_OK, or what to exit with, after a complaint.
 */
int device_claim(int ctx, const struct cpulist *list, unsigned int flags, int target)
{
	struct kvm_excl_claim_cpus claim = {
		.size = sizeof(claim),
		.flags = flags,
		.count = list->count,
		.target = target,
		.cpus = (__u64)(unsigned long)list->cpus,
	};
	__u32 of;
	int cpu;

	if (!ioctl(ctx, KVM_EXCL_CLAIM_CPUS, &claim))
		return STATUS_OK;
	switch (errno) {
	case EINVAL:
		cpu = offline_cpu(list);
		if (cpu >= 0) {
			complain("CPU %d does not exist or is offline: choose from /sys/devices/system/cpu/online",
				 cpu);
			return STATUS_FAILED;
		}
		break;
	case EBUSY:
		complain_of_obstacle(&claim);
		return STATUS_FAILED;
	case EPERM:
		cpu = left_out_thread(list, &of);
		if (cpulist_has(list, 0))
			complain("CPU 0 stays with the host: choose others");
		else if (!cpu)
			complain("CPU %u shares a core with CPU 0, which stays with the host: choose others",
				 of);
		else if (cpu > 0)
			complain("CPU %u shares a core with CPU %d: add that to the list (behind the others, when no vCPU is to run on it)",
				 of, cpu);
		else
			complain("no CPU would be left for the host: choose fewer");
		return STATUS_FAILED;
	case EOPNOTSUPP:
		complain("not possible on this host: %s (see \"kvm-exclusive info\")",
			 device_why_unsupported(ctx) ?: "the CPUs cannot be taken");
		return STATUS_UNSUPPORTED;
	}
	complain("cannot claim the CPUs: %s", strerror(errno));
	return STATUS_FAILED;
}
