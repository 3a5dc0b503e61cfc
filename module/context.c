// SPDX-License-Identifier: GPL-2.0-only
/*
 * A context's life: opened, given CPUs, looked up by others, closed
 */
#include <linux/cpu_ownership.h>
#include <linux/cpumask.h>
#include <linux/err.h>
#include <linux/file.h>
#include <linux/kvm_host.h>
#include <linux/pid.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "context.h"

static DEFINE_SPINLOCK(contexts_lock);
/* In the order of the ids. */
static LIST_HEAD(contexts);
static u64 last_id;
static unsigned long last_binding;

struct kvm_excl_context *kvm_excl_context_open(void)
{
	struct kvm_excl_context *ctx;

	ctx = kzalloc(sizeof(*ctx), GFP_KERNEL_ACCOUNT);
	if (!ctx)
		return ERR_PTR(-ENOMEM);
	if (!zalloc_cpumask_var(&ctx->mask, GFP_KERNEL_ACCOUNT)) {
		kfree(ctx);
		return ERR_PTR(-ENOMEM);
	}

	kref_init(&ctx->ref);
	mutex_init(&ctx->lock);
	init_waitqueue_head(&ctx->wait);
	ctx->owner = get_pid(task_tgid(current));
	get_task_comm(ctx->comm, current->group_leader);

	spin_lock(&contexts_lock);
	ctx->id = ++last_id;
	list_add_tail(&ctx->node, &contexts);
	spin_unlock(&contexts_lock);
	return ctx;
}

static void context_free(struct kref *ref)
{
	struct kvm_excl_context *ctx = container_of(ref, struct kvm_excl_context, ref);

	WARN_ON_ONCE(ctx->vm || ctx->armed);
	put_pid(ctx->owner);
	free_cpumask_var(ctx->mask);
	kfree(ctx->cpus);
	kfree(ctx);
}

void kvm_excl_context_put(struct kvm_excl_context *ctx)
{
	kref_put(&ctx->ref, context_free);
}

/* Where each state may lead. */
static const u8 context_steps[KVM_EXCL_NR_STATES] = {
	[KVM_EXCL_STATE_IDLE]		= BIT(KVM_EXCL_STATE_CLAIMED) |
					  BIT(KVM_EXCL_STATE_CLOSED),
	[KVM_EXCL_STATE_CLAIMED]	= BIT(KVM_EXCL_STATE_ARMED) |
					  BIT(KVM_EXCL_STATE_BOUND) |
					  BIT(KVM_EXCL_STATE_CLOSED),
	[KVM_EXCL_STATE_ARMED]		= BIT(KVM_EXCL_STATE_CLAIMED) |
					  BIT(KVM_EXCL_STATE_BOUND) |
					  BIT(KVM_EXCL_STATE_FAILED),
	[KVM_EXCL_STATE_FAILED]		= BIT(KVM_EXCL_STATE_ARMED) |
					  BIT(KVM_EXCL_STATE_BOUND) |
					  BIT(KVM_EXCL_STATE_CLOSED),
	[KVM_EXCL_STATE_BOUND]		= BIT(KVM_EXCL_STATE_UNBINDING),
	[KVM_EXCL_STATE_UNBINDING]	= BIT(KVM_EXCL_STATE_CLAIMED),
};

/**
 * kvm_excl_context_step - change a context's state
 * @ctx: the context, locked
 * @to: its new state
 */
void kvm_excl_context_step(struct kvm_excl_context *ctx, u32 to)
{
	lockdep_assert_held(&ctx->lock);

	WARN_ONCE(!(context_steps[ctx->state] & BIT(to)),
		  "kvm-exclusive: a context goes from state %u to %u\n", ctx->state, to);
	WRITE_ONCE(ctx->state, to);
}

/**
 * kvm_excl_context_lock - lock a context that is not just losing its VM
 * @ctx: the context
 *
 * While a VM is unbound the lock is not held, yet nothing may happen to the
 * context.
 */
void kvm_excl_context_lock(struct kvm_excl_context *ctx)
{
	mutex_lock(&ctx->lock);
	while (ctx->state == KVM_EXCL_STATE_UNBINDING) {
		mutex_unlock(&ctx->lock);
		wait_event(ctx->wait, READ_ONCE(ctx->state) != KVM_EXCL_STATE_UNBINDING);
		mutex_lock(&ctx->lock);
	}
}

void kvm_excl_context_unlock(struct kvm_excl_context *ctx)
{
	mutex_unlock(&ctx->lock);
}

/**
 * kvm_excl_context_arm - wait for a VM of this process
 * @ctx: the context, locked
 * @pid: the process
 *
 * Return: 0, or -EBUSY when another context waits for it.
 */
int kvm_excl_context_arm(struct kvm_excl_context *ctx, struct pid *pid)
{
	struct kvm_excl_context *other;
	int ret = 0;

	lockdep_assert_held(&ctx->lock);

	spin_lock(&contexts_lock);
	list_for_each_entry(other, &contexts, node) {
		if (other->armed == pid) {
			ret = -EBUSY;
			break;
		}
	}
	if (!ret)
		ctx->armed = get_pid(pid);
	spin_unlock(&contexts_lock);
	if (!ret)
		kvm_excl_context_step(ctx, KVM_EXCL_STATE_ARMED);
	return ret;
}

/**
 * kvm_excl_context_disarm - wait for nothing any more
 * @ctx: the context, locked and armed
 * @to: its new state
 */
void kvm_excl_context_disarm(struct kvm_excl_context *ctx, u32 to)
{
	struct pid *pid = ctx->armed;

	kvm_excl_context_step(ctx, to);

	spin_lock(&contexts_lock);
	ctx->armed = NULL;
	spin_unlock(&contexts_lock);
	put_pid(pid);
}

/**
 * kvm_excl_context_new_binding - number the next binding
 * @ctx: the context, locked, without a VM
 */
void kvm_excl_context_new_binding(struct kvm_excl_context *ctx)
{
	lockdep_assert_held(&ctx->lock);

	spin_lock(&contexts_lock);
	ctx->binding = ++last_binding;
	spin_unlock(&contexts_lock);
}

/**
 * kvm_excl_context_find - look a context up by its id
 * @id: the id
 *
 * Return: the context with a reference, or NULL when there is none.
 */
struct kvm_excl_context *kvm_excl_context_find(u64 id)
{
	struct kvm_excl_context *ctx = kvm_excl_context_find_from(id);

	if (ctx && ctx->id != id) {
		kvm_excl_context_put(ctx);
		return NULL;
	}
	return ctx;
}

/**
 * kvm_excl_context_find_from - look up the first context from an id on
 * @id: the lowest id to be found
 *
 * Return: the context with a reference, or NULL when there is none.
 */
struct kvm_excl_context *kvm_excl_context_find_from(u64 id)
{
	struct kvm_excl_context *ctx, *found = NULL;

	spin_lock(&contexts_lock);
	list_for_each_entry(ctx, &contexts, node) {
		if (ctx->id >= id) {
			kref_get(&ctx->ref);
			found = ctx;
			break;
		}
	}
	spin_unlock(&contexts_lock);
	return found;
}

/**
 * kvm_excl_context_find_armed - look up the context that waits for a process
 * @pid: the process
 *
 * Return: the context with a reference, or NULL when there is none.  Whether it
 * still waits is to be checked with the context locked.
 */
struct kvm_excl_context *kvm_excl_context_find_armed(struct pid *pid)
{
	struct kvm_excl_context *ctx, *found = NULL;

	spin_lock(&contexts_lock);
	list_for_each_entry(ctx, &contexts, node) {
		if (ctx->armed == pid) {
			kref_get(&ctx->ref);
			found = ctx;
			break;
		}
	}
	spin_unlock(&contexts_lock);
	return found;
}

/**
 * kvm_excl_context_find_binding - look up the context that made a binding
 * @binding: the number of the binding
 *
 * Return: the context with a reference, or NULL when there is none.  Whether it
 * still has this binding is to be checked with the context locked.
 */
struct kvm_excl_context *kvm_excl_context_find_binding(unsigned long binding)
{
	struct kvm_excl_context *ctx, *found = NULL;

	spin_lock(&contexts_lock);
	list_for_each_entry(ctx, &contexts, node) {
		if (ctx->binding == binding) {
			kref_get(&ctx->ref);
			found = ctx;
			break;
		}
	}
	spin_unlock(&contexts_lock);
	return found;
}

static int context_mask(const int *cpus, unsigned int count, struct cpumask *mask)
{
	unsigned int i;

	cpumask_clear(mask);
	for (i = 0; i < count; i++) {
		if ((u32)cpus[i] >= nr_cpu_ids || cpumask_test_and_set_cpu(cpus[i], mask))
			return -EINVAL;
	}
	return 0;
}

/*
 * The memory of whom the CPUs are for.  The reference is to the structure: it is compared,
 * and a process that ends meanwhile gives its memory back.
 */
static struct mm_struct *claim_mm(const struct kvm_excl_claim_cpus *claim)
{
	struct task_struct *task;
	struct mm_struct *mm;
	struct file *file;
	unsigned int flags;

	switch (claim->flags & (KVM_EXCL_CLAIM_FOR_VM | KVM_EXCL_CLAIM_FOR_PID)) {
	case 0:
		if (claim->target)
			return ERR_PTR(-EINVAL);
		mmgrab(current->mm);
		return current->mm;
	case KVM_EXCL_CLAIM_FOR_VM:
		file = fget(claim->target);
		if (!file)
			return ERR_PTR(-EBADF);
		mm = ERR_PTR(-EINVAL);
		if (file_is_kvm(file)) {
			mm = ((struct kvm *)file->private_data)->mm;
			/* Its process may have ended, when others have the file. */
			if (atomic_read(&mm->mm_users))
				mmgrab(mm);
			else
				mm = ERR_PTR(-EINVAL);
		}
		fput(file);
		return mm;
	case KVM_EXCL_CLAIM_FOR_PID:
		task = pidfd_get_task(claim->target, &flags);
		if (IS_ERR(task))
			return ERR_PTR(PTR_ERR(task) == -EBADF ? -EBADF : -EINVAL);
		mm = get_task_mm(task);
		put_task_struct(task);
		if (!mm)
			return ERR_PTR(-EINVAL);
		mmgrab(mm);
		mmput(mm);
		return mm;
	}
	return ERR_PTR(-EINVAL);
}

static const u32 obstacles[] = {
	[CPU_OBSTACLE_NONE] = KVM_EXCL_OBSTACLE_NONE,
	[CPU_OBSTACLE_OWNED] = KVM_EXCL_OBSTACLE_OWNED,
	[CPU_OBSTACLE_PINNED] = KVM_EXCL_OBSTACLE_PINNED,
	[CPU_OBSTACLE_PARTITION] = KVM_EXCL_OBSTACLE_PARTITION,
	[CPU_OBSTACLE_TASK] = KVM_EXCL_OBSTACLE_TASK,
	[CPU_OBSTACLE_IRQ] = KVM_EXCL_OBSTACLE_IRQ,
	[CPU_OBSTACLE_VECTORS] = KVM_EXCL_OBSTACLE_VECTORS,
	[CPU_OBSTACLE_SCHED_EXT] = KVM_EXCL_OBSTACLE_SCHED_EXT,
	[CPU_OBSTACLE_DEADLINE] = KVM_EXCL_OBSTACLE_DEADLINE,
	[CPU_OBSTACLE_ENTRY] = KVM_EXCL_OBSTACLE_ENTRY,
	[CPU_OBSTACLE_NOTIFIED] = KVM_EXCL_OBSTACLE_NOTIFIED,
	[CPU_OBSTACLE_TIMER] = KVM_EXCL_OBSTACLE_TIMER,
};

/* Tell what was in the way; of tasks, those alone that the caller can see. */
static void tell_obstacle(struct kvm_excl_claim_cpus *arg, struct cpu_ownership_claim *claim)
{
	arg->obstacle = obstacles[claim->obstacle];
	if (claim->obstacle == CPU_OBSTACLE_NONE)
		return;
	arg->obstacle_cpu = claim->cpu;
	if (claim->pid) {
		arg->obstacle_id = pid_vnr(claim->pid);
		put_pid(claim->pid);
		if (!arg->obstacle_id)
			return;
	} else {
		arg->obstacle_id = claim->number;
	}
	strscpy_pad(arg->obstacle_name, claim->name);
}

/**
 * kvm_excl_claim_cpus - KVM_EXCL_CLAIM_CPUS
 * @ctx: the context
 * @arg: struct kvm_excl_claim_cpus
 *
 * Return: 0 or a negative errno, see the UAPI header.
 */
int kvm_excl_claim_cpus(struct kvm_excl_context *ctx, void *arg)
{
	struct kvm_excl_claim_cpus *claim = arg;
	struct cpu_ownership_claim request = {
		.pinned = claim->flags & KVM_EXCL_CLAIM_PINNED,
	};
	struct mm_struct *mm;
	int *cpus;
	int ret;

	if (claim->reserved || !claim->count || claim->count > nr_cpu_ids)
		return -EINVAL;
	mm = claim_mm(claim);
	if (IS_ERR(mm))
		return PTR_ERR(mm);
	cpus = memdup_array_user(u64_to_user_ptr(claim->cpus), claim->count, sizeof(*cpus));
	if (IS_ERR(cpus)) {
		mmdrop(mm);
		return PTR_ERR(cpus);
	}

	request.mm = mm;
	memset_startat(claim, 0, obstacle);
	kvm_excl_context_lock(ctx);
	ret = -EBUSY;
	if (ctx->state != KVM_EXCL_STATE_IDLE)
		goto out;
	ret = context_mask(cpus, claim->count, ctx->mask);
	if (ret)
		goto out;
	ret = kvm_excl_claim(ctx->mask, &request);
	if (ret) {
		tell_obstacle(claim, &request);
		goto out;
	}
	ctx->count = claim->count;
	ctx->cpus = cpus;
	cpus = NULL;
	kvm_excl_context_step(ctx, KVM_EXCL_STATE_CLAIMED);
out:
	kvm_excl_context_unlock(ctx);
	kfree(cpus);
	mmdrop(mm);
	return ret;
}

/**
 * kvm_excl_context_close - the file is closed: give everything back
 * @ctx: the context
 *
 * Context: process; also that of one that is being killed.
 */
void kvm_excl_context_close(struct kvm_excl_context *ctx)
{
	unsigned int count;

	spin_lock(&contexts_lock);
	list_del(&ctx->node);
	spin_unlock(&contexts_lock);

	kvm_excl_context_lock(ctx);
	if (ctx->state == KVM_EXCL_STATE_ARMED)
		kvm_excl_context_disarm(ctx, KVM_EXCL_STATE_CLAIMED);
	kvm_excl_context_unlock(ctx);
	kvm_excl_context_unbind(ctx);

	/* Others that have a reference see no CPUs, and need not wait for the release. */
	kvm_excl_context_lock(ctx);
	count = ctx->count;
	ctx->count = 0;
	kvm_excl_context_step(ctx, KVM_EXCL_STATE_CLOSED);
	kvm_excl_context_unlock(ctx);
	if (count)
		kvm_excl_release(ctx->mask);

	kvm_excl_context_put(ctx);
}
