// SPDX-License-Identifier: GPL-2.0-only
/*
 * VMs: which one has a context's CPUs
 */
#define pr_fmt(fmt) "kvm-exclusive: " fmt

#include <linux/err.h>
#include <linux/file.h>
#include <linux/kvm_host.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/printk.h>
#include <linux/sched/signal.h>
#include <linux/wait.h>

#include "context.h"

/* Take over the reference on @owner when it succeeds.  The caller changes the state. */
static int context_bind(struct kvm_excl_context *ctx, struct kvm *kvm, u32 flags,
			struct pid *owner)
{
	u32 bind_flags = 0;
	struct kvm_excl_vm *vm;

	lockdep_assert_held(&ctx->lock);

	kvm_excl_context_new_binding(ctx);
	if (flags & KVM_EXCL_KEEP_HLT)
		bind_flags |= KVM_EXCL_BIND_KEEP_HLT;
	vm = kvm_excl_bind(kvm, ctx->cpus, ctx->count, bind_flags, (void *)ctx->binding);
	if (IS_ERR(vm))
		return PTR_ERR(vm);
	ctx->vm = vm;
	ctx->vm_owner = owner;
	ctx->error = 0;
	WRITE_ONCE(ctx->vm_gone, false);
	return 0;
}

/*
 * Take the VM from a locked context, and unlock it.  The thread that took it unbinds it;
 * all others wait in kvm_excl_context_lock() until that is done.
 */
static void context_unbind_unlock(struct kvm_excl_context *ctx)
{
	struct kvm_excl_vm *vm = ctx->vm;

	lockdep_assert_held(&ctx->lock);

	if (!vm) {
		kvm_excl_context_unlock(ctx);
		return;
	}
	ctx->vm = NULL;
	put_pid(ctx->vm_owner);
	ctx->vm_owner = NULL;
	kvm_excl_context_step(ctx, KVM_EXCL_STATE_UNBINDING);
	kvm_excl_context_unlock(ctx);

	kvm_excl_unbind(vm);

	mutex_lock(&ctx->lock);
	kvm_excl_context_step(ctx, KVM_EXCL_STATE_CLAIMED);
	mutex_unlock(&ctx->lock);
	wake_up_all(&ctx->wait);
}

/**
 * kvm_excl_context_unbind - unbind the VM of a context, if it has one
 * @ctx: the context
 */
void kvm_excl_context_unbind(struct kvm_excl_context *ctx)
{
	kvm_excl_context_lock(ctx);
	context_unbind_unlock(ctx);
}

/**
 * kvm_excl_arm_vm - KVM_EXCL_ARM_VM
 * @ctx: the context
 * @arg: struct kvm_excl_arm_vm
 *
 * Return: 0 or a negative errno, see the UAPI header.
 */
int kvm_excl_arm_vm(struct kvm_excl_context *ctx, void *arg)
{
	const struct kvm_excl_arm_vm *arm = arg;
	int ret;

	kvm_excl_context_lock(ctx);
	if (ctx->state == KVM_EXCL_STATE_IDLE)
		ret = -ENXIO;
	else if (ctx->state == KVM_EXCL_STATE_ARMED || ctx->state == KVM_EXCL_STATE_BOUND)
		ret = -EBUSY;
	else if ((arm->flags & KVM_EXCL_HW_BUS_PERIOD) && !kvm_excl_bus_period_ns())
		ret = -EOPNOTSUPP;
	else
		ret = kvm_excl_context_arm(ctx, task_tgid(current));
	if (!ret) {
		ctx->armed_flags = arm->flags;
		ctx->error = 0;
		WRITE_ONCE(ctx->vm_gone, false);
	}
	kvm_excl_context_unlock(ctx);
	return ret;
}

/* The process that created a VM, with a reference; NULL when it is gone. */
static struct pid *vm_creator(struct kvm *kvm)
{
	struct task_struct *thread;
	struct pid *pid = NULL;

	rcu_read_lock();
	thread = pid_task(find_pid_ns(READ_ONCE(kvm->userspace_pid), &init_pid_ns),
			  PIDTYPE_PID);
	if (thread)
		pid = get_pid(task_tgid(thread));
	rcu_read_unlock();
	return pid;
}

/**
 * kvm_excl_bind_vm - KVM_EXCL_BIND_VM
 * @ctx: the context
 * @arg: struct kvm_excl_bind_vm
 *
 * Return: 0 or a negative errno, see the UAPI header.
 */
int kvm_excl_bind_vm(struct kvm_excl_context *ctx, void *arg)
{
	struct kvm_excl_bind_vm *bind = arg;
	struct file *file;
	struct pid *owner;
	struct kvm *kvm;
	int ret;

	if (bind->reserved)
		return -EINVAL;
	file = fget(bind->vm_fd);
	if (!file)
		return -EBADF;
	if (!file_is_kvm(file)) {
		ret = -EINVAL;
		goto put;
	}
	/* Alive as long as the file is. */
	kvm = file->private_data;

	kvm_excl_context_lock(ctx);
	if (ctx->state == KVM_EXCL_STATE_IDLE) {
		ret = -ENXIO;
	} else if (ctx->state == KVM_EXCL_STATE_ARMED || ctx->state == KVM_EXCL_STATE_BOUND) {
		ret = -EBUSY;
	} else {
		owner = vm_creator(kvm);
		ret = context_bind(ctx, kvm, bind->flags, owner);
		if (ret)
			put_pid(owner);
		else
			kvm_excl_context_step(ctx, KVM_EXCL_STATE_BOUND);
	}
	kvm_excl_context_unlock(ctx);
put:
	fput(file);
	return ret;
}

/**
 * kvm_excl_unbind_vm - KVM_EXCL_UNBIND_VM
 * @ctx: the context
 * @arg: struct kvm_excl_unbind_vm
 *
 * Return: 0 or a negative errno, see the UAPI header.
 */
int kvm_excl_unbind_vm(struct kvm_excl_context *ctx, void *arg)
{
	int ret = 0;

	kvm_excl_context_lock(ctx);
	if (ctx->state == KVM_EXCL_STATE_BOUND) {
		context_unbind_unlock(ctx);
		return 0;
	}
	if (ctx->state == KVM_EXCL_STATE_ARMED)
		kvm_excl_context_disarm(ctx, KVM_EXCL_STATE_CLAIMED);
	else
		ret = -ENXIO;
	kvm_excl_context_unlock(ctx);
	return ret;
}

/**
 * kvm_excl_context_vm_created - KVM tells of a new VM
 * @kvm: the VM
 *
 * Context: the process that creates it.
 */
void kvm_excl_context_vm_created(struct kvm *kvm)
{
	struct pid *pid = task_tgid(current);
	struct kvm_excl_context *ctx;
	int ret;

	ctx = kvm_excl_context_find_armed(pid);
	if (!ctx)
		return;

	kvm_excl_context_lock(ctx);
	if (ctx->armed == pid) {
		get_pid(pid);
		ret = context_bind(ctx, kvm, ctx->armed_flags, pid);
		kvm_excl_context_disarm(ctx, ret ? KVM_EXCL_STATE_FAILED : KVM_EXCL_STATE_BOUND);
		if (!ret)
			kvm_excl_new_vm(ctx->vm, ctx->armed_flags & KVM_EXCL_HW_BUS_PERIOD);
		if (ret) {
			put_pid(pid);
			ctx->error = -ret;
			pr_warn("the VM of %s[%d] is an ordinary one: it cannot be bound (%d)\n",
				current->comm, task_tgid_nr(current), ret);
		}
	}
	kvm_excl_context_unlock(ctx);
	kvm_excl_context_put(ctx);
}

/**
 * kvm_excl_context_vm_destroyed - KVM tells that a bound VM is gone
 * @owner: the number of its binding
 *
 * The context keeps its CPUs, and may have another VM.
 */
void kvm_excl_context_vm_destroyed(void *owner)
{
	unsigned long binding = (unsigned long)owner;
	struct kvm_excl_context *ctx;

	ctx = kvm_excl_context_find_binding(binding);
	/* Just closed, or bound anew: then it is unbound already, or being so. */
	if (!ctx)
		return;

	kvm_excl_context_lock(ctx);
	if (ctx->vm && ctx->binding == binding) {
		WRITE_ONCE(ctx->vm_gone, true);
		context_unbind_unlock(ctx);
	} else {
		kvm_excl_context_unlock(ctx);
	}
	wake_up_all(&ctx->wait);
	kvm_excl_context_put(ctx);
}
