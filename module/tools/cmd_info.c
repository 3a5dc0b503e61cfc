// SPDX-License-Identifier: GPL-2.0-only
/* kvm-exclusive info: whether this host can give CPUs to VMs, or why not. */
#include <argp.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tool.h"

static const struct argp_option options[] = {
	{ "json", 'j', NULL, 0, "Print JSON", 0 },
	{ }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	switch (key) {
	case 'j':
		*(bool *)state->input = true;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "unexpected argument '%s'", arg);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static void print_text(const struct kvm_excl_get_info *info)
{
	printf("interface version:  %u\n", info->version);
	if (info->supported)
		puts("CPUs for VMs:       supported");
	else
		printf("CPUs for VMs:       not supported: %s\n", info->why);
	/* How a VM's timers are served is KVM's own affair where it cannot have CPUs. */
	if (info->timer_hz)
		printf("guest timers:       %s, APIC timer at %llu Hz\n",
		       info->supported ? "in hardware" : "unknown",
		       (unsigned long long)info->timer_hz);
	else
		puts("guest timers:       unknown: the frequency of the APIC timer is not known");
	printf("CPUs of this host:  at most %u\n", info->nr_cpus);
}

static void print_json(const struct kvm_excl_get_info *info)
{
	struct json_object *out = json_object_new_object();

	json_object_object_add(out, "version", json_object_new_int(info->version));
	json_object_object_add(out, "supported", json_object_new_boolean(info->supported));
	json_object_object_add(out, "why", json_object_new_string(info->why));
	json_object_object_add(out, "timer_hz", json_object_new_uint64(info->timer_hz));
	json_object_object_add(out, "nr_cpus", json_object_new_int(info->nr_cpus));
	puts(json_object_to_json_string_ext(out, JSON_C_TO_STRING_PRETTY |
					    JSON_C_TO_STRING_SPACED));
	json_object_put(out);
}

int cmd_info(int argc, char **argv)
{
	const struct argp argp = {
		.options = options,
		.parser = parse,
		.doc = "Show what this host supports and, where not, why."
		       "\vExit status: 0 VMs can have CPUs of their own here, 3 they cannot, "
		       "1 failed, 2 wrong usage.",
	};
	struct kvm_excl_get_info info = { .size = sizeof(info) };
	bool json = false;
	int ctx;

	argp_parse(&argp, argc, argv, 0, NULL, &json);

	ctx = device_open();
	if (ctx < 0)
		return STATUS_FAILED;
	if (ioctl(ctx, KVM_EXCL_GET_INFO, &info)) {
		complain("cannot ask the module: %s", strerror(errno));
		return STATUS_FAILED;
	}
	close(ctx);
	info.why[sizeof(info.why) - 1] = 0;

	if (json)
		print_json(&info);
	else
		print_text(&info);
	if (fflush(stdout) || ferror(stdout)) {
		complain("cannot write: %s", strerror(errno));
		return STATUS_FAILED;
	}
	return info.supported ? STATUS_OK : STATUS_UNSUPPORTED;
}
