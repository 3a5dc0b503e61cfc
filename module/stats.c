// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is shown: the host, the contexts, the vCPUs, the interrupts of devices
 */
#include <linux/build_bug.h>
#include <linux/capability.h>
#include <linux/cpumask.h>
#include <linux/err.h>
#include <linux/limits.h>
#include <linux/pid.h>
#include <linux/rcupdate.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "context.h"

/* The UAPI's values are the kernel's. */
#define SAME_VALUE(uapi, kernel)	static_assert((int)(uapi) == (int)(kernel))

SAME_VALUE(KVM_EXCL_VCPU_NOT_DETACHED, KVM_EXCL_REASON_NONE);
SAME_VALUE(KVM_EXCL_VCPU_UNBOUND, KVM_EXCL_REASON_UNBOUND);
SAME_VALUE(KVM_EXCL_VCPU_OTHER_CPU, KVM_EXCL_REASON_CPU);
SAME_VALUE(KVM_EXCL_VCPU_XAPIC, KVM_EXCL_REASON_XAPIC);
SAME_VALUE(KVM_EXCL_VCPU_APIC_OFF, KVM_EXCL_REASON_APIC_OFF);
SAME_VALUE(KVM_EXCL_VCPU_NESTED, KVM_EXCL_REASON_NESTED);
SAME_VALUE(KVM_EXCL_VCPU_SMM, KVM_EXCL_REASON_SMM);
SAME_VALUE(KVM_EXCL_VCPU_SYNIC, KVM_EXCL_REASON_SYNIC);
SAME_VALUE(KVM_EXCL_VCPU_PV_EOI, KVM_EXCL_REASON_PV_EOI);
SAME_VALUE(KVM_EXCL_VCPU_LOW_VECTOR, KVM_EXCL_REASON_LOW_VECTOR);
SAME_VALUE(KVM_EXCL_VCPU_PUT_BACK, KVM_EXCL_REASON_PUT_BACK);
SAME_VALUE(KVM_EXCL_VCPU_IMMEDIATE_EXIT, KVM_EXCL_REASON_IMMEDIATE_EXIT);
SAME_VALUE(KVM_EXCL_VCPU_BLOCKIRQ, KVM_EXCL_REASON_BLOCKIRQ);
SAME_VALUE(KVM_EXCL_VCPU_BLOCKIRQ + 1, KVM_EXCL_NR_REASONS);

SAME_VALUE(KVM_EXCL_VCPU_TIMER_EMULATED, KVM_EXCL_TIMER_MODE_EMULATED);
SAME_VALUE(KVM_EXCL_VCPU_TIMER_ASSISTED, KVM_EXCL_TIMER_MODE_ASSISTED);
SAME_VALUE(KVM_EXCL_VCPU_TIMER_DIRECT, KVM_EXCL_TIMER_MODE_DIRECT);

SAME_VALUE(KVM_EXCL_IRQ_DIRECT, KVM_EXCL_IRQ_REASON_NONE);
SAME_VALUE(KVM_EXCL_IRQ_UNBOUND, KVM_EXCL_IRQ_REASON_UNBOUND);
SAME_VALUE(KVM_EXCL_IRQ_NOT_MSI, KVM_EXCL_IRQ_REASON_NOT_MSI);
SAME_VALUE(KVM_EXCL_IRQ_NOT_FIXED, KVM_EXCL_IRQ_REASON_NOT_FIXED);
SAME_VALUE(KVM_EXCL_IRQ_LOW_VECTOR, KVM_EXCL_IRQ_REASON_LOW_VECTOR);
SAME_VALUE(KVM_EXCL_IRQ_MANY, KVM_EXCL_IRQ_REASON_MANY);
SAME_VALUE(KVM_EXCL_IRQ_NO_REMAPPING, KVM_EXCL_IRQ_REASON_NO_REMAPPING);
SAME_VALUE(KVM_EXCL_IRQ_STORM, KVM_EXCL_IRQ_REASON_STORM);
SAME_VALUE(KVM_EXCL_IRQ_STORM + 1, KVM_EXCL_NR_IRQ_REASONS);

/**
 * kvm_excl_get_info - KVM_EXCL_GET_INFO
 * @ctx: the context
 * @arg: struct kvm_excl_get_info
 *
 * Return: 0 or a negative errno, see the UAPI header.
 */
int kvm_excl_get_info(struct kvm_excl_context *ctx, void *arg)
{
	struct kvm_excl_get_info *info = arg;
	const char *why = NULL;

	if (info->reserved)
		return -EINVAL;

	info->version = KVM_EXCL_UAPI_VERSION;
	info->supported = !kvm_excl_supported(&why);
	info->timer_hz = kvm_excl_timer_hz();
	info->nr_cpus = nr_cpu_ids;
	strscpy_pad(info->why, info->supported ? "" : why ?: "unknown reason");
	return 0;
}

/* As the caller sees it; 0 when it is gone, for then its number may be another's. */
static pid_t show_pid(struct pid *pid)
{
	pid_t nr = 0;

	rcu_read_lock();
	if (pid && pid_task(pid, PIDTYPE_TGID))
		nr = pid_vnr(pid);
	rcu_read_unlock();
	return nr;
}

static int show_context(struct kvm_excl_context *ctx, struct kvm_excl_get_context *get)
{
	u32 room = get->count;
	struct task_struct *task;

	BUILD_BUG_ON(sizeof(get->comm) != sizeof(ctx->comm));
	memcpy(get->comm, ctx->comm, sizeof(get->comm));
	rcu_read_lock();
	task = pid_task(ctx->owner, PIDTYPE_TGID);
	if (task)
		get_task_comm(get->comm, task);
	rcu_read_unlock();

	kvm_excl_context_lock(ctx);
	get->id = ctx->id;
	/* Closed since it was found: as good as gone. */
	get->state = ctx->state == KVM_EXCL_STATE_CLOSED ? KVM_EXCL_STATE_IDLE : ctx->state;
	get->error = get->state == KVM_EXCL_STATE_FAILED ? ctx->error : 0;
	get->pid = show_pid(ctx->owner);
	get->vm_pid = show_pid(ctx->vm ? ctx->vm_owner : ctx->armed);
	get->count = ctx->count;
	kvm_excl_context_unlock(ctx);

	/* Not locked, for this can take as long as the caller likes. */
	if (copy_to_user(u64_to_user_ptr(get->cpus), ctx->cpus,
			 array_size(min(room, get->count), sizeof(*ctx->cpus))))
		return -EFAULT;
	return 0;
}

/**
 * kvm_excl_get_status - KVM_EXCL_GET_STATUS
 * @ctx: the context
 * @arg: struct kvm_excl_get_context
 *
 * Return: 0 or a negative errno, see the UAPI header.
 */
int kvm_excl_get_status(struct kvm_excl_context *ctx, void *arg)
{
	struct kvm_excl_get_context *get = arg;

	if (get->reserved)
		return -EINVAL;
	return show_context(ctx, get);
}

/**
 * kvm_excl_get_context - KVM_EXCL_GET_CONTEXT
 * @ctx: the caller's context
 * @arg: struct kvm_excl_get_context
 *
 * The VMM holds a context's file; it is not to see what others do.
 *
 * Return: 0 or a negative errno, see the UAPI header.
 */
int kvm_excl_get_context(struct kvm_excl_context *ctx, void *arg)
{
	struct kvm_excl_get_context *get = arg;
	int ret;

	if (get->reserved)
		return -EINVAL;
	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	ctx = kvm_excl_context_find_from(get->id);
	if (!ctx)
		return -ENOENT;
	ret = show_context(ctx, get);
	kvm_excl_context_put(ctx);
	return ret;
}

static int show_vcpu(struct kvm_excl_context *ctx, struct kvm_excl_get_vcpu_status *get)
{
	struct kvm_excl_vcpu_status status = {};
	int ret;

	kvm_excl_context_lock(ctx);
	ret = ctx->vm ? kvm_excl_vcpu_status(ctx->vm, get->index, &status) : -ENXIO;
	kvm_excl_context_unlock(ctx);
	if (ret)
		return ret;

	get->cpu = status.cpu;
	get->attached = status.attached;
	get->reason = status.reason;
	get->timer = status.timer_mode;
	get->exits = status.exits;
#define KVM_EXCL_COPY(name, unit)	get->name = status.name;
	KVM_EXCL_VCPU_COUNTERS(KVM_EXCL_COPY)
#undef KVM_EXCL_COPY
	return 0;
}

/*
 * The context that @id names, 0 for the caller's own. Return: it, referenced unless it is
 * the caller's own, or an error.
 */
static struct kvm_excl_context *context_of(struct kvm_excl_context *own, u64 id)
{
	struct kvm_excl_context *ctx;

	if (!id || id == own->id)
		return own;
	if (!capable(CAP_SYS_ADMIN))
		return ERR_PTR(-EPERM);
	ctx = kvm_excl_context_find(id);
	return ctx ?: ERR_PTR(-ENOENT);
}

/**
 * kvm_excl_get_vcpu_status - KVM_EXCL_GET_VCPU_STATUS
 * @own: the caller's context
 * @arg: struct kvm_excl_get_vcpu_status
 *
 * Return: 0 or a negative errno, see the UAPI header.
 */
int kvm_excl_get_vcpu_status(struct kvm_excl_context *own, void *arg)
{
	struct kvm_excl_get_vcpu_status *get = arg;
	struct kvm_excl_context *ctx;
	int ret;

	if (get->reserved)
		return -EINVAL;
	if (get->index > INT_MAX)
		return -ENOENT;
	ctx = context_of(own, get->id);
	if (IS_ERR(ctx))
		return PTR_ERR(ctx);
	ret = show_vcpu(ctx, get);
	if (ctx != own)
		kvm_excl_context_put(ctx);
	return ret;
}

static int show_device_irq(struct kvm_excl_context *ctx, struct kvm_excl_get_device_irq *get)
{
	struct kvm_excl_irq_status status = {};
	int ret;

	kvm_excl_context_lock(ctx);
	ret = ctx->vm ? kvm_excl_irq_status(ctx->vm, get->index, &status) : -ENXIO;
	kvm_excl_context_unlock(ctx);
	if (ret)
		return ret;

	get->host_irq = status.host_irq;
	get->gsi = status.gsi;
	get->why = status.reason;
	get->vcpu = status.vcpu;
	get->vector = status.vector;
	get->updates = status.updates;
	get->throttled = status.throttled;
	return 0;
}

/**
 * kvm_excl_get_device_irq - KVM_EXCL_GET_DEVICE_IRQ
 * @own: the caller's context
 * @arg: struct kvm_excl_get_device_irq
 *
 * Return: 0 or a negative errno, see the UAPI header.
 */
int kvm_excl_get_device_irq(struct kvm_excl_context *own, void *arg)
{
	struct kvm_excl_get_device_irq *get = arg;
	struct kvm_excl_context *ctx;
	int ret;

	ctx = context_of(own, get->id);
	if (IS_ERR(ctx))
		return PTR_ERR(ctx);
	ret = show_device_irq(ctx, get);
	if (ctx != own)
		kvm_excl_context_put(ctx);
	return ret;
}
