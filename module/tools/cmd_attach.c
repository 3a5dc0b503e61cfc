// SPDX-License-Identifier: GPL-2.0-only
/* kvm-exclusive attach: give CPUs to a VM that runs, for as long as this does. */
#include <argp.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tool.h"

struct arguments {
	struct cpulist cpus;
	int pid;
	int fd;
	unsigned int claim_flags;
	unsigned int flags;
};

static const struct argp_option options[] = {
	{ "pid", 'p', "PID", 0, "Process of the VMM", 0 },
	{ "cpus", 'c', "LIST", 0, "CPUs for the vCPUs, in their order, such as 2,3 or 4-7", 0 },
	{ "fd", 'f', "FD", 0, "Its file descriptor of the VM, when it has several", 0 },
	{ "take-pinned", 't', NULL, 0, "Take the CPUs also from tasks that may run nowhere else, "
	  "and from cpuset partitions; the tasks run elsewhere meanwhile", 0 },
	{ "keep-hlt", 'k', NULL, 0, "Let HLT exit, so that the host sees an idle vCPU", 0 },
	{ }
};

/* A number from @min on, or -1. */
static int number(const char *text, long min)
{
	long value;
	char *end;

	errno = 0;
	value = strtol(text, &end, 10);
	if (errno || end == text || *end || value < min || value > INT_MAX)
		return -1;
	return value;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;
	const char *wrong;

	switch (key) {
	case 'p':
		a->pid = number(arg, 1);
		if (a->pid < 0)
			argp_error(state, "--pid %s: not a process number", arg);
		return 0;
	case 't':
		a->claim_flags |= KVM_EXCL_CLAIM_PINNED;
		return 0;
	case 'k':
		a->flags |= KVM_EXCL_KEEP_HLT;
		return 0;
	case 'f':
		a->fd = number(arg, 0);
		if (a->fd < 0)
			argp_error(state, "--fd %s: not a file descriptor", arg);
		return 0;
	case 'c':
		wrong = cpulist_parse(arg, &a->cpus);
		if (wrong)
			argp_error(state, "--cpus %s: %s", arg, wrong);
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "unexpected argument '%s'", arg);
		return 0;
	case ARGP_KEY_END:
		if (!a->pid)
			argp_error(state, "--pid is missing");
		if (!a->cpus.count)
			argp_error(state, "--cpus is missing");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* Which file descriptor of the process is its VM; -1 after a complaint. */
static int find_vm_fd(int pid)
{
	char path[64], link[64];
	struct dirent *entry;
	int found = -1;
	ssize_t len;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	if (!dir) {
		complain(errno == ENOENT ? "there is no process %d" :
			 "no access to process %d: run this as root", pid);
		return -1;
	}
	while ((entry = readdir(dir))) {
		len = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link) - 1);
		if (len < 0)
			continue;
		link[len] = 0;
		if (strcmp(link, "anon_inode:kvm-vm"))
			continue;
		if (found >= 0) {
			complain("process %d has several VMs, file descriptors %d and %s: choose one with --fd",
				 pid, found, entry->d_name);
			closedir(dir);
			return -1;
		}
		found = atoi(entry->d_name);
	}
	closedir(dir);
	if (found < 0)
		complain("process %d has no KVM VM: give the process of the VMM itself", pid);
	return found;
}

static int bind_vm(int ctx, int vm, int pid, unsigned int flags)
{
	struct kvm_excl_bind_vm bind = {
		.size = sizeof(bind),
		.flags = flags,
		.vm_fd = vm,
	};

	if (!ioctl(ctx, KVM_EXCL_BIND_VM, &bind))
		return STATUS_OK;
	switch (errno) {
	case EBUSY:
		complain("the VM of process %d has CPUs of its own already: see \"kvm-exclusive status\"",
			 pid);
		return STATUS_FAILED;
	case EINVAL:
		complain("that file descriptor of process %d is not a KVM VM", pid);
		return STATUS_FAILED;
	case EOPNOTSUPP:
		complain("the VM of process %d is protected from the host: it cannot have CPUs of its own",
			 pid);
		return STATUS_UNSUPPORTED;
	}
	complain("cannot bind the VM of process %d: %s", pid, strerror(errno));
	return STATUS_FAILED;
}

/* Until the VMM or its VM is gone, or somebody ends this. */
static void wait_for_end(int ctx, int pidfd, int signals)
{
	struct pollfd fds[] = {
		{ .fd = ctx },
		{ .fd = pidfd, .events = POLLIN },
		{ .fd = signals, .events = POLLIN },
	};

	while (poll(fds, ARRAY_SIZE(fds), -1) < 0 && errno == EINTR)
		;
}

int cmd_attach(int argc, char **argv)
{
	const struct argp argp = {
		.options = options,
		.parser = parse,
		.doc = "Give CPUs to the VM of a running VMM, one for each vCPU, until the VM "
		       "ends or this is interrupted; then the VM, if still there, runs on as "
		       "an ordinary one."
		       "\vExit status: 0 the VM has ended or this was interrupted, 1 failed, "
		       "2 wrong usage, 3 not possible on this host.",
	};
	struct arguments a = { .fd = -1 };
	int pidfd, vm, ctx, signals, ret;
	sigset_t set;

	argp_parse(&argp, argc, argv, 0, NULL, &a);

	/* From here on an interruption waits until it can be obeyed in order. */
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (signals < 0) {
		complain("signalfd: %s", strerror(errno));
		return STATUS_FAILED;
	}

	ctx = device_open();
	if (ctx < 0)
		return STATUS_FAILED;
	pidfd = syscall(SYS_pidfd_open, a.pid, 0);
	if (pidfd < 0) {
		complain(errno == ESRCH ? "there is no process %d" :
			 "%d is not a process: give the VMM's, not that of one of its threads",
			 a.pid);
		return STATUS_FAILED;
	}
	if (a.fd < 0)
		a.fd = find_vm_fd(a.pid);
	if (a.fd < 0)
		return STATUS_FAILED;
	vm = syscall(SYS_pidfd_getfd, pidfd, a.fd, 0);
	if (vm < 0) {
		complain("cannot take file descriptor %d of process %d: %s", a.fd, a.pid,
			 strerror(errno));
		return STATUS_FAILED;
	}

	ret = device_claim(ctx, &a.cpus, a.claim_flags | KVM_EXCL_CLAIM_FOR_VM, vm);
	if (ret)
		return ret;
	ret = bind_vm(ctx, vm, a.pid, a.flags);
	/* It must not live on here. */
	close(vm);
	if (!ret)
		wait_for_end(ctx, pidfd, signals);
	/* Gives the VM and the CPUs back. */
	close(ctx);
	return ret;
}
