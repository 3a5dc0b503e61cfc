// SPDX-License-Identifier: GPL-2.0-only
/* kvm-exclusive run: start a VMM whose VM gets CPUs of its own. */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tool.h"

struct arguments {
	struct cpulist cpus;
	unsigned int claim_flags;
	unsigned int flags;
	char **vmm;
};

static const struct argp_option options[] = {
	{ "cpus", 'c', "LIST", 0, "CPUs for the vCPUs, in their order, such as 2,3 or 4-7", 0 },
	{ "take-pinned", 't', NULL, 0, "Take the CPUs also from tasks that may run nowhere else, "
	  "and from cpuset partitions; the tasks run elsewhere meanwhile", 0 },
	{ "keep-hlt", 'k', NULL, 0, "Let HLT exit, so that the host sees an idle vCPU", 0 },
	{ "hw-bus-period", 'b', NULL, 0, "Give the guest's APIC timer the period of the "
	  "hardware's, so that a guest without TSC deadline programs it itself", 0 },
	{ }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;
	const char *wrong;

	switch (key) {
	case 'c':
		wrong = cpulist_parse(arg, &a->cpus);
		if (wrong)
			argp_error(state, "--cpus %s: %s", arg, wrong);
		return 0;
	case 't':
		a->claim_flags |= KVM_EXCL_CLAIM_PINNED;
		return 0;
	case 'k':
		a->flags |= KVM_EXCL_KEEP_HLT;
		return 0;
	case 'b':
		a->flags |= KVM_EXCL_HW_BUS_PERIOD;
		return 0;
	case ARGP_KEY_ARG:
		a->vmm = state->argv + state->next - 1;
		state->next = state->argc;
		return 0;
	case ARGP_KEY_END:
		if (!a->cpus.count)
			argp_error(state, "--cpus is missing");
		if (!a->vmm)
			argp_error(state, "the VMM is missing");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

int cmd_run(int argc, char **argv)
{
	struct kvm_excl_arm_vm arm = { .size = sizeof(arm) };
	const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "-- VMM [ARG...]",
		.doc = "Take CPUs, then become the VMM: the first VM that it creates gets "
		       "them, one for each vCPU."
		       "\vThe VMM inherits the context, so the CPUs go back when it ends.\n\n"
		       "Exit status: the VMM's own; 1 failed, 2 wrong usage, 3 not possible "
		       "on this host, 126 the VMM cannot be executed, 127 there is none.",
	};
	struct arguments a = {};
	int ctx, ret;

	argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &a);

	ctx = device_open();
	if (ctx < 0)
		return STATUS_FAILED;
	ret = device_claim(ctx, &a.cpus, a.claim_flags, 0);
	if (ret)
		return ret;
	arm.flags = a.flags;
	if (ioctl(ctx, KVM_EXCL_ARM_VM, &arm)) {
		if (errno == EOPNOTSUPP) {
			complain("--hw-bus-period: the APIC timer's period is no whole number "
				 "of ns on this host; run without it");
			return STATUS_UNSUPPORTED;
		}
		complain("cannot arm the context: %s", strerror(errno));
		return STATUS_FAILED;
	}
	/* Inherited, it lives as long as the VMM does. */
	if (fcntl(ctx, F_SETFD, 0)) {
		complain("cannot hand the context on: %s", strerror(errno));
		return STATUS_FAILED;
	}

	execvp(a.vmm[0], a.vmm);
	ret = errno == ENOENT ? STATUS_NOT_FOUND : STATUS_CANNOT_EXEC;
	complain("%s: %s", a.vmm[0], strerror(errno));
	return ret;
}
