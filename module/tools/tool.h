/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of the kvm-exclusive command share. */
#ifndef KVM_EXCLUSIVE_TOOL_H
#define KVM_EXCLUSIVE_TOOL_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/kvm_exclusive.h>

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/* Exit codes; `run` ends as the VMM does. */
enum {
	STATUS_OK = 0,
	STATUS_FAILED = 1,
	STATUS_USAGE = 2,
	STATUS_UNSUPPORTED = 3,
	STATUS_CANNOT_EXEC = 126,
	STATUS_NOT_FOUND = 127,
};

/* cpulist.c */
struct cpulist {
	unsigned int count;
	__u32 *cpus;
};

const char *cpulist_parse(const char *text, struct cpulist *list);
bool cpulist_has(const struct cpulist *list, __u32 cpu);

/* device.c */
int device_open(void);
int device_claim(int ctx, const struct cpulist *list, unsigned int flags, int target);
const char *device_why_unsupported(int ctx);
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* device_irqs.c */
struct device_irqs {
	unsigned int count;
	struct kvm_excl_get_device_irq *list;
};

struct json_object;

int device_irqs_read(int ctx, __u64 id, struct device_irqs *irqs);
void device_irqs_print(const struct device_irqs *irqs);
struct json_object *device_irqs_json(const struct device_irqs *irqs);

/* kvm-exclusive.c */
char *command_name(const char *command);

/* cmd_*.c: argv[0] is the command's name */
int cmd_run(int argc, char **argv);
int cmd_attach(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_info(int argc, char **argv);

#endif /* KVM_EXCLUSIVE_TOOL_H */
