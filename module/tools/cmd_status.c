// SPDX-License-Identifier: GPL-2.0-only
/* kvm-exclusive status: who has which CPUs, and what has been counted. */
#include <argp.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tool.h"

/* More than KVM has; ends the search whatever the kernel answers. */
#define VCPU_LIMIT	65536

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

static const char *text(const char *const *texts, size_t count, __u32 value)
{
	return value < count && texts[value] ? texts[value] : "unknown";
}

static const char *state_text(__u32 state)
{
	static const char *const texts[] = {
		[KVM_EXCL_STATE_IDLE] = "idle",
		[KVM_EXCL_STATE_CLAIMED] = "claimed",
		[KVM_EXCL_STATE_ARMED] = "armed",
		[KVM_EXCL_STATE_BOUND] = "bound",
		[KVM_EXCL_STATE_FAILED] = "failed",
	};

	return text(texts, ARRAY_SIZE(texts), state);
}

/* Words of one piece, so that they can be cut out of the table. */
static const char *reason_text(__u32 reason)
{
	static const char *const texts[] = {
		[KVM_EXCL_VCPU_NOT_DETACHED] = "none",
		[KVM_EXCL_VCPU_UNBOUND] = "unbound",
		[KVM_EXCL_VCPU_OTHER_CPU] = "other-cpu",
		[KVM_EXCL_VCPU_XAPIC] = "xapic",
		[KVM_EXCL_VCPU_APIC_OFF] = "apic-off",
		[KVM_EXCL_VCPU_NESTED] = "nested",
		[KVM_EXCL_VCPU_SMM] = "smm",
		[KVM_EXCL_VCPU_SYNIC] = "synic",
		[KVM_EXCL_VCPU_PV_EOI] = "pv-eoi",
		[KVM_EXCL_VCPU_LOW_VECTOR] = "low-vector",
		[KVM_EXCL_VCPU_PUT_BACK] = "put-back",
		[KVM_EXCL_VCPU_IMMEDIATE_EXIT] = "immediate-exit",
		[KVM_EXCL_VCPU_BLOCKIRQ] = "blockirq",
	};

	return text(texts, ARRAY_SIZE(texts), reason);
}

static const char *timer_text(__u32 timer)
{
	static const char *const texts[] = {
		[KVM_EXCL_VCPU_TIMER_EMULATED] = "emulated",
		[KVM_EXCL_VCPU_TIMER_ASSISTED] = "assisted",
		[KVM_EXCL_VCPU_TIMER_DIRECT] = "direct",
	};

	return text(texts, ARRAY_SIZE(texts), timer);
}

/* A context and what it has, as one answer of the kernel each. */
struct context {
	struct kvm_excl_get_context get;
	__u32 *cpus;
	unsigned int nr_vcpus;
	struct kvm_excl_get_vcpu_status *vcpus;
	struct device_irqs irqs;
};

static void free_context(struct context *c)
{
	free(c->cpus);
	free(c->vcpus);
	free(c->irqs.list);
}

/*
 * The first context from @id on.  Return: 1 with @c filled, 0 when there is no
 * further one, or a negative errno.
 */
static int read_context(int ctx, __u64 id, __u32 nr_cpus, struct context *c)
{
	struct kvm_excl_get_vcpu_status *vcpus;
	int r;

	memset(c, 0, sizeof(*c));
	c->cpus = calloc(nr_cpus, sizeof(*c->cpus));
	if (!c->cpus)
		return -ENOMEM;
	c->get.size = sizeof(c->get);
	c->get.id = id;
	c->get.count = nr_cpus;
	c->get.cpus = (__u64)(unsigned long)c->cpus;
	if (ioctl(ctx, KVM_EXCL_GET_CONTEXT, &c->get))
		return errno == ENOENT ? 0 : -errno;
	c->get.comm[sizeof(c->get.comm) - 1] = 0;

	while (c->nr_vcpus < VCPU_LIMIT) {
		vcpus = realloc(c->vcpus, (c->nr_vcpus + 1) * sizeof(*vcpus));
		if (!vcpus)
			return -ENOMEM;
		c->vcpus = vcpus;
		vcpus += c->nr_vcpus;
		memset(vcpus, 0, sizeof(*vcpus));
		vcpus->size = sizeof(*vcpus);
		vcpus->id = c->get.id;
		vcpus->index = c->nr_vcpus;
		if (ioctl(ctx, KVM_EXCL_GET_VCPU_STATUS, vcpus)) {
			/* No further vCPU, or the VM or the context is gone. */
			if (errno != ENOENT && errno != ENXIO)
				return -errno;
			break;
		}
		c->nr_vcpus++;
	}
	r = device_irqs_read(ctx, c->get.id, &c->irqs);
	return r ?: 1;
}

static __u64 kicks(const struct kvm_excl_get_vcpu_status *v)
{
	return v->kick_reschedule + v->kick_call_function + v->kick_irq_work +
	       v->kick_timer + v->kick_other;
}

static void print_context(const struct context *c)
{
	const struct kvm_excl_get_context *get = &c->get;

	printf("context %llu: %s, %s[%d], CPUs ", (unsigned long long)get->id,
	       state_text(get->state), get->comm, get->pid);
	for (__u32 i = 0; i < get->count; i++)
		printf("%s%u", i ? "," : "", c->cpus[i]);
	if (get->state == KVM_EXCL_STATE_BOUND)
		printf(", VM of process %d", get->vm_pid);
	else if (get->state == KVM_EXCL_STATE_ARMED)
		printf(", for process %d", get->vm_pid);
	else if (get->state == KVM_EXCL_STATE_FAILED)
		printf(", the VM was not bound: %s", strerror(get->error));
	putchar('\n');

	if (!c->nr_vcpus)
		return;
	printf("  %4s %4s %-8s %-14s %-8s %12s %10s %10s %10s %10s %10s %10s\n", "VCPU", "CPU",
	       "STATE", "REASON", "TIMER", "EXITS", "IPI-ASM", "DETACHES", "RECORDED",
	       "IPI-HW", "IPI-SW", "KICKS");
	for (unsigned int i = 0; i < c->nr_vcpus; i++) {
		const struct kvm_excl_get_vcpu_status *v = &c->vcpus[i];

		printf("  %4u %4d %-8s %-14s %-8s %12llu %10llu %10llu %10llu %10llu %10llu %10llu\n",
		       v->index, v->cpu, v->attached ? "attached" : "detached",
		       reason_text(v->reason), timer_text(v->timer),
		       (unsigned long long)v->exits, (unsigned long long)v->ipi_fast,
		       (unsigned long long)v->detaches,
		       (unsigned long long)v->recorded, (unsigned long long)v->ipi_direct,
		       (unsigned long long)v->ipi_software, (unsigned long long)kicks(v));
	}
	device_irqs_print(&c->irqs);
}

static void add_u64(struct json_object *to, const char *key, __u64 value)
{
	json_object_object_add(to, key, json_object_new_uint64(value));
}

static void add_int(struct json_object *to, const char *key, int value)
{
	json_object_object_add(to, key, json_object_new_int(value));
}

static void add_text(struct json_object *to, const char *key, const char *value)
{
	json_object_object_add(to, key, json_object_new_string(value));
}

/* The kicks of @count vCPUs together. */
static struct json_object *json_kicks(const struct kvm_excl_get_vcpu_status *v,
				      unsigned int count)
{
	struct json_object *out = json_object_new_object();
	__u64 reschedule = 0, call_function = 0, irq_work = 0, timer = 0, other = 0;

	for (; count; count--, v++) {
		reschedule += v->kick_reschedule;
		call_function += v->kick_call_function;
		irq_work += v->kick_irq_work;
		timer += v->kick_timer;
		other += v->kick_other;
	}
	add_u64(out, "reschedule", reschedule);
	add_u64(out, "call_function", call_function);
	add_u64(out, "irq_work", irq_work);
	add_u64(out, "timer", timer);
	add_u64(out, "other", other);
	return out;
}

static struct json_object *json_vcpu(const struct kvm_excl_get_vcpu_status *v)
{
	struct json_object *out = json_object_new_object();

	add_int(out, "index", v->index);
	add_int(out, "cpu", v->cpu);
	json_object_object_add(out, "attached", json_object_new_boolean(v->attached));
	add_text(out, "reason", reason_text(v->reason));
	add_text(out, "timer_mode", timer_text(v->timer));
	add_u64(out, "exits", v->exits);
	add_u64(out, "ipi_fast", v->ipi_fast);
	add_u64(out, "attaches", v->attaches);
	add_u64(out, "detaches", v->detaches);
	add_u64(out, "attached_ns", v->attached_ns);
	add_u64(out, "recorded", v->recorded);
	add_u64(out, "raised", v->raised);
	add_u64(out, "ipi_direct", v->ipi_direct);
	add_u64(out, "ipi_software", v->ipi_software);
	add_u64(out, "storms", v->storms);
	add_u64(out, "device_storms", v->device_storms);
	json_object_object_add(out, "kicks", json_kicks(v, 1));
	return out;
}

static struct json_object *json_context(const struct context *c)
{
	struct json_object *out = json_object_new_object();
	struct json_object *cpus = json_object_new_array();
	struct json_object *vcpus = json_object_new_array();
	__u64 exits = 0, ipi_fast = 0;

	for (__u32 i = 0; i < c->get.count; i++)
		json_object_array_add(cpus, json_object_new_int(c->cpus[i]));
	for (unsigned int i = 0; i < c->nr_vcpus; i++) {
		json_object_array_add(vcpus, json_vcpu(&c->vcpus[i]));
		exits += c->vcpus[i].exits;
		ipi_fast += c->vcpus[i].ipi_fast;
	}

	add_u64(out, "id", c->get.id);
	add_int(out, "pid", c->get.pid);
	add_text(out, "comm", c->get.comm);
	json_object_object_add(out, "cpus", cpus);
	add_text(out, "state", state_text(c->get.state));
	if (c->get.error)
		add_text(out, "error", strerror(c->get.error));
	add_int(out, "vm_pid", c->get.vm_pid);
	add_u64(out, "exits", exits);
	/* The only ones that are handled before the point where kvm_exit is traced. */
	add_u64(out, "unseen_by_perf", ipi_fast);
	json_object_object_add(out, "kicks", json_kicks(c->vcpus, c->nr_vcpus));
	json_object_object_add(out, "vcpus", vcpus);
	json_object_object_add(out, "device_irqs", device_irqs_json(&c->irqs));
	return out;
}

int cmd_status(int argc, char **argv)
{
	const struct argp argp = {
		.options = options,
		.parser = parse,
		.doc = "Show every context on this host that has CPUs, its vCPUs, and the "
		       "interrupts of devices that are assigned to its VM.",
	};
	struct kvm_excl_get_info info = { .size = sizeof(info) };
	struct json_object *contexts = NULL;
	struct context c;
	bool json = false;
	int ctx, found, shown = 0;

	argp_parse(&argp, argc, argv, 0, NULL, &json);

	ctx = device_open();
	if (ctx < 0)
		return STATUS_FAILED;
	if (ioctl(ctx, KVM_EXCL_GET_INFO, &info)) {
		complain("cannot ask the module: %s", strerror(errno));
		return STATUS_FAILED;
	}

	if (json)
		contexts = json_object_new_array();
	for (__u64 id = 1; ; id = c.get.id + 1) {
		found = read_context(ctx, id, info.nr_cpus, &c);
		if (found <= 0)
			break;
		/* This command's own context, for one, has no CPUs. */
		if (c.get.state != KVM_EXCL_STATE_IDLE) {
			shown++;
			if (json)
				json_object_array_add(contexts, json_context(&c));
			else
				print_context(&c);
		}
		free_context(&c);
	}
	free_context(&c);
	close(ctx);
	if (found < 0) {
		complain("cannot read the status: %s", strerror(-found));
		json_object_put(contexts);
		return STATUS_FAILED;
	}

	if (json) {
		struct json_object *out = json_object_new_object();

		json_object_object_add(out, "contexts", contexts);
		puts(json_object_to_json_string_ext(out, JSON_C_TO_STRING_PRETTY |
						    JSON_C_TO_STRING_SPACED));
		json_object_put(out);
	} else if (!shown) {
		puts("No VM has CPUs of its own.");
	}
	if (fflush(stdout) || ferror(stdout)) {
		complain("cannot write: %s", strerror(errno));
		return STATUS_FAILED;
	}
	return STATUS_OK;
}
