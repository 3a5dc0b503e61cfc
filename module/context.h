/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A context: one open file of /dev/kvm-exclusive
 *
 * Locks, outer before inner:
 *
 *   context->lock	mutex; everything in the context that is not constant.
 *			Held across kvm_excl_claim(), kvm_excl_bind() and
 *			kvm_excl_vcpu_status(), never across kvm_excl_unbind():
 *			the kernel may be telling that the same VM is gone, and
 *			that takes it.
 *   contexts_lock	spinlock; the list, the numbers given out, and ->armed and
 *			->binding of each context, which are written with both
 *			locks held.
 *
 * The kernel knows a bound VM by the number of its binding, not by the address of
 * its context: a call about a VM that is going away may come when the context has
 * just been closed, or has another VM.
 *
 * A context is in one of the states that user space sees, or in one of two that it does
 * not.  kvm_excl_context_step() alone changes it:
 *
 *	IDLE ---> CLAIMED <---> ARMED ---> FAILED
 *	 |	   |  | ^	  |	    |	  FAILED goes on as CLAIMED does
 *	 |	   |  +-|---------+---------+-----> BOUND
 *	 |	   |	+------- UNBINDING <----------+
 *	 +---------+----> CLOSED
 */
#ifndef KVM_EXCLUSIVE_CONTEXT_H
#define KVM_EXCLUSIVE_CONTEXT_H

#include <linux/cpumask.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/types.h>
#include <linux/wait.h>

#include <linux/kvm_exclusive.h>
#include <uapi/linux/kvm_exclusive.h>

struct kvm;
struct pid;

/* States that user space does not see. */
enum {
	/* One thread is in kvm_excl_unbind(), without the lock; no other gets it meanwhile. */
	KVM_EXCL_STATE_UNBINDING = KVM_EXCL_STATE_FAILED + 1,
	/* Its file is closed, and it has no CPUs; seen where it was found before that. */
	KVM_EXCL_STATE_CLOSED,
	KVM_EXCL_NR_STATES
};

/**
 * struct kvm_excl_context - CPUs, and the VM that has them
 * @node: in the list of all contexts
 * @ref: one for the open file, one for each user of a lookup
 * @id: constant, never 0, never used again
 * @owner: the process that opened it, constant
 * @comm: its name then, constant
 * @lock: see above; protects what follows
 * @state: enum kvm_excl_state, or one of the two above
 * @vm_gone: the VM that was bound is no more
 * @wait: @vm_gone is set, or UNBINDING is over
 * @count: how many CPUs; 0 before they are claimed and once they are given back
 * @cpus: which, in the order of the vCPUs; constant once @count is set
 * @mask: the same as a set
 * @armed: the process whose next VM is to be bound, or NULL
 * @armed_flags: KVM_EXCL_* flags of that
 * @vm: the bound VM, or NULL
 * @binding: number of the binding of @vm, never 0 then, never used again
 * @vm_owner: the process that created it, or NULL
 * @error: why an armed VM could not be bound, as a positive errno
 */
struct kvm_excl_context {
	struct list_head node;
	struct kref ref;
	u64 id;
	struct pid *owner;
	char comm[TASK_COMM_LEN];

	struct mutex lock;	/* of all below */
	u32 state;
	bool vm_gone;
	wait_queue_head_t wait;
	unsigned int count;
	int *cpus;
	cpumask_var_t mask;
	struct pid *armed;
	u32 armed_flags;
	struct kvm_excl_vm *vm;
	unsigned long binding;
	struct pid *vm_owner;
	u32 error;
};

struct kvm_excl_context *kvm_excl_context_open(void);
void kvm_excl_context_close(struct kvm_excl_context *ctx);
void kvm_excl_context_put(struct kvm_excl_context *ctx);
void kvm_excl_context_step(struct kvm_excl_context *ctx, u32 to);
void kvm_excl_context_lock(struct kvm_excl_context *ctx);
void kvm_excl_context_unlock(struct kvm_excl_context *ctx);
int kvm_excl_context_arm(struct kvm_excl_context *ctx, struct pid *pid);
void kvm_excl_context_disarm(struct kvm_excl_context *ctx, u32 to);
void kvm_excl_context_new_binding(struct kvm_excl_context *ctx);
struct kvm_excl_context *kvm_excl_context_find(u64 id);
struct kvm_excl_context *kvm_excl_context_find_from(u64 id);
struct kvm_excl_context *kvm_excl_context_find_armed(struct pid *pid);
struct kvm_excl_context *kvm_excl_context_find_binding(unsigned long binding);

int kvm_excl_claim_cpus(struct kvm_excl_context *ctx, void *arg);

int kvm_excl_arm_vm(struct kvm_excl_context *ctx, void *arg);
int kvm_excl_bind_vm(struct kvm_excl_context *ctx, void *arg);
int kvm_excl_unbind_vm(struct kvm_excl_context *ctx, void *arg);
void kvm_excl_context_unbind(struct kvm_excl_context *ctx);
void kvm_excl_context_vm_created(struct kvm *kvm);
void kvm_excl_context_vm_destroyed(void *owner);

int kvm_excl_get_info(struct kvm_excl_context *ctx, void *arg);
int kvm_excl_get_status(struct kvm_excl_context *ctx, void *arg);
int kvm_excl_get_context(struct kvm_excl_context *ctx, void *arg);
int kvm_excl_get_vcpu_status(struct kvm_excl_context *ctx, void *arg);
int kvm_excl_get_device_irq(struct kvm_excl_context *ctx, void *arg);

#endif /* KVM_EXCLUSIVE_CONTEXT_H */
