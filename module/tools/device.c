// SPDX-License-Identifier: GPL-2.0-only
/* The device, with errors that say what to do. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
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

static bool has_cpu0(const struct cpulist *list)
{
	for (unsigned int i = 0; i < list->count; i++)
		if (!list->cpus[i])
			return true;
	return false;
}

/**
 * device_claim - claim CPUs for a context
 * @ctx: the context
 * @list: the CPUs
 *
 * Return: STATUS_OK, or what to exit with, after a complaint.
 */
int device_claim(int ctx, const struct cpulist *list)
{
	struct kvm_excl_claim_cpus claim = {
		.size = sizeof(claim),
		.count = list->count,
		.cpus = (__u64)(unsigned long)list->cpus,
	};
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
		complain("a CPU of the list has been taken (see \"kvm-exclusive status\"), or something that runs on one cannot leave it (see \"ps -eLo psr,comm\" and the kernel log)");
		return STATUS_FAILED;
	case EPERM:
		complain(has_cpu0(list) ? "CPU 0 stays with the host: choose others" :
			 "no CPU would be left for the host: choose fewer");
		return STATUS_FAILED;
	case EOPNOTSUPP:
		complain("not possible on this host: %s (see \"kvm-exclusive info\")",
			 device_why_unsupported(ctx) ?: "the CPUs cannot be taken");
		return STATUS_UNSUPPORTED;
	}
	complain("cannot claim the CPUs: %s", strerror(errno));
	return STATUS_FAILED;
}
