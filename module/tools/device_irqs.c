// SPDX-License-Identifier: GPL-2.0-only
/* The interrupts of a VM's assigned devices, and how each reaches the guest. */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "tool.h"

/* More than devices have; ends the search whatever the kernel answers. */
#define IRQ_LIMIT	65536

/*
 * Ask for all interrupts of a context. They come and go meanwhile, so one may be missing
 * or twice. Return: 0 or a negative errno.
 */
int device_irqs_read(int ctx, __u64 id, struct device_irqs *irqs)
{
	struct kvm_excl_get_device_irq *list;

	memset(irqs, 0, sizeof(*irqs));
	while (irqs->count < IRQ_LIMIT) {
		list = realloc(irqs->list, (irqs->count + 1) * sizeof(*list));
		if (!list)
			return -ENOMEM;
		irqs->list = list;
		list += irqs->count;
		memset(list, 0, sizeof(*list));
		list->size = sizeof(*list);
		list->id = id;
		list->index = irqs->count;
		if (ioctl(ctx, KVM_EXCL_GET_DEVICE_IRQ, list)) {
			/* No further one, or the VM or the context is gone. */
			return errno == ENOENT || errno == ENXIO ? 0 : -errno;
		}
		irqs->count++;
	}
	return 0;
}

/* Words of one piece, so that they can be cut out of the table. */
static const char *why_text(__u32 why)
{
	static const char *const texts[] = {
		[KVM_EXCL_IRQ_DIRECT] = "none",
		[KVM_EXCL_IRQ_UNBOUND] = "unbound",
		[KVM_EXCL_IRQ_NOT_MSI] = "not-msi",
		[KVM_EXCL_IRQ_NOT_FIXED] = "not-fixed",
		[KVM_EXCL_IRQ_LOW_VECTOR] = "low-vector",
		[KVM_EXCL_IRQ_MANY] = "many",
		[KVM_EXCL_IRQ_NO_REMAPPING] = "no-remapping",
		[KVM_EXCL_IRQ_STORM] = "storm",
	};

	return why < ARRAY_SIZE(texts) && texts[why] ? texts[why] : "unknown";
}

/* The line of /sys/kernel/irq/IRQ/FILE; empty when the interrupt is gone. */
static const char *irq_line(__u32 irq, const char *file, char *line, size_t size)
{
	char path[64];
	FILE *f;

	line[0] = 0;
	snprintf(path, sizeof(path), "/sys/kernel/irq/%u/%s", irq, file);
	f = fopen(path, "re");
	if (!f)
		return line;
	if (!fgets(line, size, f))
		line[0] = 0;
	fclose(f);
	line[strcspn(line, "\n")] = 0;
	return line;
}

/* Interrupts that the host has taken: stands still while the interrupt is direct. */
static __u64 host_count(__u32 irq)
{
	static char line[65536];
	char *at, *save = NULL;
	__u64 sum = 0;

	irq_line(irq, "per_cpu_count", line, sizeof(line));
	for (at = strtok_r(line, ",", &save); at; at = strtok_r(NULL, ",", &save))
		sum += strtoull(at, NULL, 10);
	return sum;
}

void device_irqs_print(const struct device_irqs *irqs)
{
	char device[128];

	if (!irqs->count)
		return;
	printf("  %6s %4s %-8s %-12s %4s %6s %10s %8s  %s\n", "IRQ", "GSI", "PATH", "WHY",
	       "VCPU", "VECTOR", "HOST-IRQS", "UPDATES", "DEVICE");
	for (unsigned int i = 0; i < irqs->count; i++) {
		const struct kvm_excl_get_device_irq *irq = &irqs->list[i];

		printf("  %6u %4u %-8s %-12s %4d %6u %10llu %8llu  %s\n", irq->host_irq,
		       irq->gsi, irq->why ? "remapped" : "direct", why_text(irq->why),
		       irq->vcpu, irq->vector, (unsigned long long)host_count(irq->host_irq),
		       (unsigned long long)irq->updates,
		       irq_line(irq->host_irq, "actions", device, sizeof(device)));
	}
}

struct json_object *device_irqs_json(const struct device_irqs *irqs)
{
	struct json_object *out = json_object_new_array();
	char device[128];

	for (unsigned int i = 0; i < irqs->count; i++) {
		const struct kvm_excl_get_device_irq *irq = &irqs->list[i];
		struct json_object *o = json_object_new_object();

		json_object_object_add(o, "irq", json_object_new_int64(irq->host_irq));
		json_object_object_add(o, "gsi", json_object_new_int64(irq->gsi));
		json_object_object_add(o, "path", json_object_new_string(irq->why ? "remapped" :
									 "direct"));
		json_object_object_add(o, "why", json_object_new_string(why_text(irq->why)));
		json_object_object_add(o, "vcpu", json_object_new_int(irq->vcpu));
		json_object_object_add(o, "vector", json_object_new_int64(irq->vector));
		json_object_object_add(o, "host_irqs",
				       json_object_new_uint64(host_count(irq->host_irq)));
		json_object_object_add(o, "updates", json_object_new_uint64(irq->updates));
		json_object_object_add(o, "throttled",
				       json_object_new_uint64(irq->throttled));
		irq_line(irq->host_irq, "actions", device, sizeof(device));
		json_object_object_add(o, "device", json_object_new_string(device));
		json_object_array_add(out, o);
	}
	return out;
}
