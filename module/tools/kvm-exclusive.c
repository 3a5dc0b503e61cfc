// SPDX-License-Identifier: GPL-2.0-only
/* kvm-exclusive: give CPUs to virtual machines.  The commands are in cmd_*.c. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

const char *argp_program_version = "kvm-exclusive " VERSION;

static const struct command {
	const char *name;
	int (*main)(int argc, char **argv);
} commands[] = {
	{ "run", cmd_run },
	{ "attach", cmd_attach },
	{ "status", cmd_status },
	{ "info", cmd_info },
};

struct arguments {
	const struct command *command;
	int first;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case ARGP_KEY_ARG:
		for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
			if (!strcmp(arg, commands[i].name))
				a->command = &commands[i];
		if (!a->command)
			argp_error(state, "there is no command '%s'", arg);
		/* The rest is the command's. */
		a->first = state->next - 1;
		state->next = state->argc;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "a command is missing");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp argp = {
	.parser = parse,
	.args_doc = "COMMAND [ARG...]",
	.doc = "Give CPUs to KVM virtual machines.\n\n"
	       "  run --cpus LIST -- VMM [ARG...]  start a VMM; its VM gets the CPUs\n"
	       "  attach --pid PID --cpus LIST     give the CPUs to a VM that runs\n"
	       "  status [--json]                  show who has which CPUs, and counters\n"
	       "  info [--json]                    show whether this host can, or why not\n\n"
	       "Each command has its own --help."
	       "\vThe CPUs go back to the host when the VMM, or attach, ends in any way. "
	       "See kvm-exclusive(8).",
};

/* "kvm-exclusive run", for the command's own usage message. */
char *command_name(const char *command)
{
	char *name;

	if (asprintf(&name, "kvm-exclusive %s", command) < 0) {
		complain("no memory");
		exit(STATUS_FAILED);
	}
	return name;
}

int main(int argc, char **argv)
{
	struct arguments a = {};

	argp_err_exit_status = STATUS_USAGE;
	argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &a);
	argv[a.first] = command_name(a.command->name);
	return a.command->main(argc - a.first, argv + a.first);
}
