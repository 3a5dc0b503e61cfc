// SPDX-License-Identifier: GPL-2.0-only
/*
 * The companion module of KVM's exclusive mode: /dev/kvm-exclusive
 *
 * The mechanism is in the kernel; here is who may have which CPUs for which VM,
 * and what is told about it.  See the UAPI header for what each ioctl does.
 */
#define pr_fmt(fmt) "kvm-exclusive: " fmt

#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/uaccess.h>

#include "context.h"

/* Every argument that an ioctl takes starts with this. */
struct arg_header {
	u32 size;
	u32 flags;
};

union arg_buffer {
	struct arg_header header;
	struct kvm_excl_get_info get_info;
	struct kvm_excl_claim_cpus claim_cpus;
	struct kvm_excl_arm_vm arm_vm;
	struct kvm_excl_bind_vm bind_vm;
	struct kvm_excl_unbind_vm unbind_vm;
	struct kvm_excl_get_context get_context;
	struct kvm_excl_get_vcpu_status get_vcpu_status;
	struct kvm_excl_get_device_irq get_device_irq;
};

/**
 * struct ioctl_op - one ioctl
 * @cmd: its number
 * @size: of the argument that this module knows
 * @min_size: of the argument's first version
 * @flags: that it takes
 * @copy_out: the argument is an answer as well
 * @execute: does it, with a copy of the argument
 */
struct ioctl_op {
	unsigned int cmd;
	u32 size;
	u32 min_size;
	u32 flags;
	bool copy_out;
	int (*execute)(struct kvm_excl_context *ctx, void *arg);
};

#define IOCTL_OP(_cmd, _struct, _last, _flags, _copy_out, _execute)	\
	[_IOC_NR(_cmd)] = {					\
		.cmd = (_cmd),					\
		.size = sizeof(struct _struct),			\
		.min_size = offsetofend(struct _struct, _last),	\
		.flags = (_flags),				\
		.copy_out = (_copy_out),			\
		.execute = (_execute),				\
	}

static const struct ioctl_op ioctl_ops[] = {
	IOCTL_OP(KVM_EXCL_GET_INFO, kvm_excl_get_info, why, 0, true,
		 kvm_excl_get_info),
	IOCTL_OP(KVM_EXCL_CLAIM_CPUS, kvm_excl_claim_cpus, cpus,
		 KVM_EXCL_CLAIM_PINNED | KVM_EXCL_CLAIM_FOR_VM | KVM_EXCL_CLAIM_FOR_PID, true,
		 kvm_excl_claim_cpus),
	IOCTL_OP(KVM_EXCL_ARM_VM, kvm_excl_arm_vm, flags,
		 KVM_EXCL_KEEP_HLT | KVM_EXCL_HW_BUS_PERIOD, false, kvm_excl_arm_vm),
	IOCTL_OP(KVM_EXCL_BIND_VM, kvm_excl_bind_vm, reserved, KVM_EXCL_KEEP_HLT, false,
		 kvm_excl_bind_vm),
	IOCTL_OP(KVM_EXCL_UNBIND_VM, kvm_excl_unbind_vm, flags, 0, false,
		 kvm_excl_unbind_vm),
	IOCTL_OP(KVM_EXCL_GET_STATUS, kvm_excl_get_context, cpus, 0, true,
		 kvm_excl_get_status),
	IOCTL_OP(KVM_EXCL_GET_CONTEXT, kvm_excl_get_context, cpus, 0, true,
		 kvm_excl_get_context),
	IOCTL_OP(KVM_EXCL_GET_VCPU_STATUS, kvm_excl_get_vcpu_status, ipi_fast, 0, true,
		 kvm_excl_get_vcpu_status),
	IOCTL_OP(KVM_EXCL_GET_DEVICE_IRQ, kvm_excl_get_device_irq, updates, 0, true,
		 kvm_excl_get_device_irq),
};

static long device_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *uarg = (void __user *)arg;
	const struct ioctl_op *op;
	union arg_buffer buffer;
	u32 size;
	int ret;

	if (_IOC_NR(cmd) >= ARRAY_SIZE(ioctl_ops))
		return -ENOTTY;
	op = &ioctl_ops[_IOC_NR(cmd)];
	if (op->cmd != cmd)
		return -ENOTTY;

	if (get_user(size, (u32 __user *)uarg))
		return -EFAULT;
	if (size < op->min_size)
		return -EINVAL;
	if (size > PAGE_SIZE)
		return -E2BIG;
	ret = copy_struct_from_user(&buffer, op->size, uarg, size);
	if (ret)
		return ret;
	/* It may have been changed since. */
	if (buffer.header.size != size || buffer.header.flags & ~op->flags)
		return -EINVAL;

	ret = op->execute(file->private_data, &buffer);
	/* Who is busy may be told. */
	if ((ret && ret != -EBUSY) || !op->copy_out)
		return ret;
	return copy_to_user(uarg, &buffer, min(size, op->size)) ? -EFAULT : ret;
}

static __poll_t device_poll(struct file *file, poll_table *wait)
{
	struct kvm_excl_context *ctx = file->private_data;

	poll_wait(file, &ctx->wait, wait);
	return READ_ONCE(ctx->vm_gone) ? EPOLLHUP : 0;
}

static int device_open(struct inode *inode, struct file *file)
{
	struct kvm_excl_context *ctx;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	ctx = kvm_excl_context_open();
	if (IS_ERR(ctx))
		return PTR_ERR(ctx);
	file->private_data = ctx;
	return 0;
}

static int device_release(struct inode *inode, struct file *file)
{
	kvm_excl_context_close(file->private_data);
	return 0;
}

/* An open file holds a reference on the module: busy, it cannot be removed. */
static const struct file_operations device_fops = {
	.owner = THIS_MODULE,
	.open = device_open,
	.release = device_release,
	.unlocked_ioctl = device_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.poll = device_poll,
	.llseek = noop_llseek,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "kvm-exclusive",
	.fops = &device_fops,
	.mode = 0600,
};

static const struct kvm_excl_ops kvm_ops = {
	.vm_created = kvm_excl_context_vm_created,
	.vm_destroyed = kvm_excl_context_vm_destroyed,
};

static int __init kvm_exclusive_init(void)
{
	const char *why = NULL;
	int ret;

	ret = kvm_excl_register(&kvm_ops, KVM_EXCL_API_VERSION);
	if (ret) {
		if (ret == -EBUSY)
			pr_err("another module is in charge of exclusive mode\n");
		else
			pr_err("this kernel does not take a module of API version %u (%d): build the module against this kernel\n",
			       KVM_EXCL_API_VERSION, ret);
		return ret;
	}

	ret = misc_register(&device);
	if (ret) {
		pr_err("cannot make " KVM_EXCL_DEVICE " (%d)\n", ret);
		kvm_excl_unregister(&kvm_ops);
		return ret;
	}

	/* The device is there all the same, so that it can be asked why. */
	if (kvm_excl_supported(&why))
		pr_warn("not possible on this host: %s\n", why ?: "unknown reason");
	return 0;
}
module_init(kvm_exclusive_init);

static void __exit kvm_exclusive_exit(void)
{
	misc_deregister(&device);
	kvm_excl_unregister(&kvm_ops);
}
module_exit(kvm_exclusive_exit);

MODULE_DESCRIPTION("CPUs of their own for KVM virtual machines");
MODULE_AUTHOR("kvm-exclusive");
MODULE_VERSION(VERSION);
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS(KVM_EXCLUSIVE);
