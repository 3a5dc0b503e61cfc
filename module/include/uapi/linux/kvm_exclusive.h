/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * /dev/kvm-exclusive: give CPUs to a virtual machine
 *
 * An open file of the device is a context.  It owns CPUs and has at most one VM,
 * whose n-th vCPU runs on the n-th CPU.  Closing the last reference to the file,
 * for whatever reason, unbinds the VM and gives the CPUs back.  The file may be
 * handed on; who holds it may use it, except where CAP_SYS_ADMIN is asked for.
 *
 * Every ioctl takes a pointer to a struct that starts with its own size and with
 * flags.  Flags that are not named here and reserved fields must be 0.  A struct
 * that is larger than the kernel knows is accepted when the rest is 0, and its rest
 * is left alone; a struct that is smaller than the first version of it is not
 * accepted.
 *
 * open() fails with
 *
 *   EPERM	the caller lacks CAP_SYS_ADMIN
 *   ENOMEM	no memory
 *
 * and any ioctl with
 *
 *   ENOTTY	this ioctl does not exist
 *   E2BIG	the struct is larger than known and its rest is not 0, or it is
 *		larger than a page
 *   EINVAL	the struct is too small, or a flag or a reserved field is not 0
 *   EFAULT	a pointer is wrong
 *   ENOMEM	no memory
 *
 * What else an ioctl can fail with stands here, for all of them:
 *
 *   CLAIM_CPUS
 *   EINVAL	no CPU, more than the host can have, one twice, or one offline;
 *		@target is neither a VM nor a process that is there; FOR_VM and FOR_PID
 *   EBADF	@target is not an open file, or with FOR_PID no pidfd
 *   EBUSY	this context has CPUs already, or something is in the way:
 *		@obstacle tells what
 *   EPERM	CPU 0 is among them, an online thread of one of their cores is not,
 *		or no CPU would be left for the host
 *   EOPNOTSUPP	this host is not capable; GET_INFO tells why
 *
 *   ARM_VM
 *   ENXIO	this context has no CPUs
 *   EBUSY	this context is armed or has a VM, or another context is armed for
 *		the calling process
 *   EOPNOTSUPP	KVM_EXCL_HW_BUS_PERIOD, and the timer's period is no whole number
 *		of ns here
 *
 *   BIND_VM
 *   EBADF	@vm_fd is not an open file
 *   EINVAL	@vm_fd is not a KVM VM
 *   ENXIO	this context has no CPUs
 *   EBUSY	this context is armed or has a VM, or the VM has a context
 *   EOPNOTSUPP	the VM cannot have CPUs of its own: it is protected from the host
 *
 *   UNBIND_VM
 *   ENXIO	this context neither has a VM nor is armed
 *
 *   GET_CONTEXT
 *   EPERM	the caller lacks CAP_SYS_ADMIN
 *   ENOENT	no context has this id or a higher one
 *
 *   GET_VCPU_STATUS
 *   EPERM	it is about another context and the caller lacks CAP_SYS_ADMIN
 *   ENOENT	there is no such context, or its VM has no such vCPU
 *   ENXIO	the context has no VM
 *
 *   GET_DEVICE_IRQ
 *   EPERM	it is about another context and the caller lacks CAP_SYS_ADMIN
 *   ENOENT	there is no such context, or its VM has no such interrupt
 *   ENXIO	the context has no VM
 */
#ifndef _UAPI_LINUX_KVM_EXCLUSIVE_H
#define _UAPI_LINUX_KVM_EXCLUSIVE_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define KVM_EXCL_DEVICE		"/dev/kvm-exclusive"

/* Changes only when something that worked no longer does. */
#define KVM_EXCL_UAPI_VERSION	1

#define KVM_EXCL_IOC_TYPE	0xE9

/* The structs grow, so the numbers hold no sizes. */
#define KVM_EXCL_GET_INFO		_IO(KVM_EXCL_IOC_TYPE, 0x00)
#define KVM_EXCL_CLAIM_CPUS		_IO(KVM_EXCL_IOC_TYPE, 0x01)
#define KVM_EXCL_ARM_VM			_IO(KVM_EXCL_IOC_TYPE, 0x02)
#define KVM_EXCL_BIND_VM		_IO(KVM_EXCL_IOC_TYPE, 0x03)
#define KVM_EXCL_UNBIND_VM		_IO(KVM_EXCL_IOC_TYPE, 0x04)
#define KVM_EXCL_GET_STATUS		_IO(KVM_EXCL_IOC_TYPE, 0x05)
#define KVM_EXCL_GET_CONTEXT		_IO(KVM_EXCL_IOC_TYPE, 0x06)
#define KVM_EXCL_GET_VCPU_STATUS	_IO(KVM_EXCL_IOC_TYPE, 0x07)
#define KVM_EXCL_GET_DEVICE_IRQ		_IO(KVM_EXCL_IOC_TYPE, 0x08)

#define KVM_EXCL_WHY_LEN	128
#define KVM_EXCL_COMM_LEN	16

/**
 * struct kvm_excl_get_info - ioctl(KVM_EXCL_GET_INFO): what this host can do
 * @size: sizeof(struct kvm_excl_get_info)
 * @flags: must be 0
 * @version: out, KVM_EXCL_UAPI_VERSION
 * @supported: out, 1 when VMs can have CPUs of their own here, else 0
 * @timer_hz: out, frequency of the physical APIC timer, undivided; 0 when it is
 *	      not known, and then @supported is 0, too
 * @nr_cpus: out, upper bound of CPU numbers, which are all below it; CLAIM_CPUS takes no
 *	     more CPUs than that, and never all, for CPU 0's core is never given
 * @reserved: must be 0
 * @why: out, when @supported is 0 the reason as text, else empty
 */
struct kvm_excl_get_info {
	__u32 size;
	__u32 flags;
	__u32 version;
	__u32 supported;
	__aligned_u64 timer_hz;
	__u32 nr_cpus;
	__u32 reserved;
	char why[KVM_EXCL_WHY_LEN];
};

/*
 * Flags of CLAIM_CPUS.
 *
 * KVM_EXCL_CLAIM_PINNED: take the CPUs also from tasks that may run nowhere else, and from
 * cpuset partitions.  Until they are given back the tasks run elsewhere; what was asked for
 * them stays, and means these CPUs again then.
 *
 * KVM_EXCL_CLAIM_FOR_VM, KVM_EXCL_CLAIM_FOR_PID: the CPUs are for the VM whose file
 * @target is, or for the process whose pidfd it is, not for the calling process.  What
 * belongs to it may be pinned to them: its threads, and vhost's.  Kernel threads never
 * count as pinned.
 */
#define KVM_EXCL_CLAIM_PINNED	(1U << 0)
#define KVM_EXCL_CLAIM_FOR_VM	(1U << 1)
#define KVM_EXCL_CLAIM_FOR_PID	(1U << 2)

/**
 * enum kvm_excl_obstacle - what is in the way of a claim
 * @KVM_EXCL_OBSTACLE_NONE: nothing; with EBUSY, this context has CPUs already
 * @KVM_EXCL_OBSTACLE_OWNED: another context has one of the CPUs, or the caller is a vCPU's
 *			      thread on a CPU of its own
 * @KVM_EXCL_OBSTACLE_PINNED: a task that may run nowhere else
 * @KVM_EXCL_OBSTACLE_PARTITION: a cpuset partition that has one of them for itself
 * @KVM_EXCL_OBSTACLE_TASK: a task that has not left: for 5 s none has, or 30 s were not
 *			    enough for all
 * @KVM_EXCL_OBSTACLE_IRQ: an interrupt that has not left within 1 s, or a vector that keeps
 *			   coming for 2 s
 * @KVM_EXCL_OBSTACLE_VECTORS: the other CPUs have too few vectors for all interrupts
 * @KVM_EXCL_OBSTACLE_SCHED_EXT: a BPF scheduler, which chooses CPUs itself
 * @KVM_EXCL_OBSTACLE_DEADLINE: the other CPUs have no bandwidth for all SCHED_DEADLINE
 *				tasks
 * @KVM_EXCL_OBSTACLE_ENTRY: an entry of interrupt remapping that still names one of the CPUs
 *			     a second after its interrupt has left
 * @KVM_EXCL_OBSTACLE_NOTIFIED: hardware notifies a vCPU of another VM on one of the CPUs
 * @KVM_EXCL_OBSTACLE_TIMER: the clock event device of one of the CPUs cannot be replaced
 */
enum kvm_excl_obstacle {
	KVM_EXCL_OBSTACLE_NONE = 0,
	KVM_EXCL_OBSTACLE_OWNED = 1,
	KVM_EXCL_OBSTACLE_PINNED = 2,
	KVM_EXCL_OBSTACLE_PARTITION = 3,
	KVM_EXCL_OBSTACLE_TASK = 4,
	KVM_EXCL_OBSTACLE_IRQ = 5,
	KVM_EXCL_OBSTACLE_VECTORS = 6,
	KVM_EXCL_OBSTACLE_SCHED_EXT = 7,
	KVM_EXCL_OBSTACLE_DEADLINE = 8,
	KVM_EXCL_OBSTACLE_ENTRY = 9,
	KVM_EXCL_OBSTACLE_NOTIFIED = 10,
	KVM_EXCL_OBSTACLE_TIMER = 11,
};

#define KVM_EXCL_OBSTACLE_NAME_LEN	64

/**
 * struct kvm_excl_claim_cpus - ioctl(KVM_EXCL_CLAIM_CPUS): take CPUs
 * @size: sizeof(struct kvm_excl_claim_cpus)
 * @flags: KVM_EXCL_CLAIM_PINNED, and KVM_EXCL_CLAIM_FOR_VM or KVM_EXCL_CLAIM_FOR_PID
 * @count: how many CPUs
 * @target: whom they are for, see the flags; must be 0 without one of them
 * @cpus: pointer to @count __u32 CPU numbers; vCPU n will run on the n-th
 * @obstacle: out, with EBUSY, enum kvm_excl_obstacle
 * @obstacle_cpu: out, the CPU that it is about
 * @obstacle_id: out, of a task its thread ID, 0 when that cannot be seen from here or the
 *		 task is about to end; of an interrupt its number, -1 when no interrupt of the
 *		 host has the vector that keeps coming; of vectors, how many there are too few;
 *		 of an entry its vector
 * @reserved: must be 0
 * @obstacle_name: out, of the task, the interrupt or "vector N", the partition's cgroup, or
 *		   the device;
 *		   empty when the task cannot be seen from here
 *
 * A context claims once.  All of the CPUs are taken, or none.
 */
struct kvm_excl_claim_cpus {
	__u32 size;
	__u32 flags;
	__u32 count;
	__s32 target;
	__aligned_u64 cpus;
	__u32 obstacle;
	__u32 obstacle_cpu;
	__s32 obstacle_id;
	__u32 reserved;
	char obstacle_name[KVM_EXCL_OBSTACLE_NAME_LEN];
};

/*
 * Flags of ARM_VM and BIND_VM.
 *
 * KVM_EXCL_KEEP_HLT: HLT exits, as in an ordinary VM, so that the host sees when a
 * vCPU is idle.  Without it the guest halts its CPU and is woken there, with no
 * exit; to the host the vCPU then looks busy all the time.
 */
#define KVM_EXCL_KEEP_HLT	(1U << 0)

/*
 * Of ARM_VM alone: the guest's APIC bus period is the hardware's, as if the VMM had
 * asked for it with KVM_CAP_X86_APIC_BUS_CYCLES_NS, so that a guest that counts
 * down (TMICT) programs the physical timer itself.  It is no migration state: the
 * VMM has to set the same period on the other side.
 */
#define KVM_EXCL_HW_BUS_PERIOD	(1U << 1)

/**
 * struct kvm_excl_arm_vm - ioctl(KVM_EXCL_ARM_VM): bind the next VM
 * @size: sizeof(struct kvm_excl_arm_vm)
 * @flags: KVM_EXCL_KEEP_HLT, KVM_EXCL_HW_BUS_PERIOD
 *
 * Binds the next VM that the calling process creates, also after exec().  A
 * child of it is another process.  The VM is created in any case; when it could
 * not be bound, GET_STATUS says KVM_EXCL_STATE_FAILED and why.  The VM's TSC starts
 * as the host's, so that a guest can program the physical TSC deadline itself.
 */
struct kvm_excl_arm_vm {
	__u32 size;
	__u32 flags;
};

/**
 * struct kvm_excl_bind_vm - ioctl(KVM_EXCL_BIND_VM): bind a VM that exists
 * @size: sizeof(struct kvm_excl_bind_vm)
 * @flags: KVM_EXCL_KEEP_HLT
 * @vm_fd: file descriptor of the VM, as from KVM_CREATE_VM
 * @reserved: must be 0
 *
 * The context does not keep the VM alive, and the file descriptor may be closed.
 */
struct kvm_excl_bind_vm {
	__u32 size;
	__u32 flags;
	__s32 vm_fd;
	__u32 reserved;
};

/**
 * struct kvm_excl_unbind_vm - ioctl(KVM_EXCL_UNBIND_VM): let go of the VM
 * @size: sizeof(struct kvm_excl_unbind_vm)
 * @flags: must be 0
 *
 * The VM keeps running as any other; the context keeps its CPUs.  A context that
 * is armed is disarmed.
 */
struct kvm_excl_unbind_vm {
	__u32 size;
	__u32 flags;
};

/**
 * enum kvm_excl_state - what a context is doing
 * @KVM_EXCL_STATE_IDLE: it has no CPUs
 * @KVM_EXCL_STATE_CLAIMED: it has CPUs and no VM
 * @KVM_EXCL_STATE_ARMED: it waits for a process to create a VM
 * @KVM_EXCL_STATE_BOUND: it has CPUs and a VM
 * @KVM_EXCL_STATE_FAILED: it was armed, but the VM could not be bound
 */
enum kvm_excl_state {
	KVM_EXCL_STATE_IDLE = 0,
	KVM_EXCL_STATE_CLAIMED = 1,
	KVM_EXCL_STATE_ARMED = 2,
	KVM_EXCL_STATE_BOUND = 3,
	KVM_EXCL_STATE_FAILED = 4,
};

/**
 * struct kvm_excl_get_context - ioctl(KVM_EXCL_GET_STATUS, KVM_EXCL_GET_CONTEXT)
 * @size: sizeof(struct kvm_excl_get_context)
 * @flags: must be 0
 * @id: out, the context's id, never 0 and never used again; for GET_CONTEXT also
 *	in: the lowest id to be looked for, so @id + 1 leads to the next one
 * @state: out, enum kvm_excl_state
 * @error: out, with KVM_EXCL_STATE_FAILED the errno of the bind, else 0
 * @pid: out, the process that opened the context; 0 when it is gone or cannot be
 *	 seen from here
 * @vm_pid: out, the process that created the VM, or that the context is armed
 *	    for; 0 as with @pid and when there is none
 * @comm: out, name of @pid
 * @count: in, how many CPUs @cpus has room for; out, how many the context has,
 *	   of which no more than there was room for were written
 * @reserved: must be 0
 * @cpus: pointer to __u32 CPU numbers, in the order of the vCPUs
 *
 * GET_STATUS is about the caller's own context and ignores @id.
 */
struct kvm_excl_get_context {
	__u32 size;
	__u32 flags;
	__aligned_u64 id;
	__u32 state;
	__u32 error;
	__s32 pid;
	__s32 vm_pid;
	char comm[KVM_EXCL_COMM_LEN];
	__u32 count;
	__u32 reserved;
	__aligned_u64 cpus;
};

/**
 * enum kvm_excl_vcpu_reason - why a vCPU runs detached, as an ordinary one does
 * @KVM_EXCL_VCPU_NOT_DETACHED: it does not
 * @KVM_EXCL_VCPU_UNBOUND: it has no CPU, or that is being taken away
 * @KVM_EXCL_VCPU_OTHER_CPU: its thread is not on its CPU
 * @KVM_EXCL_VCPU_XAPIC: the guest uses the xAPIC, or no APIC
 * @KVM_EXCL_VCPU_APIC_OFF: the guest has its APIC software-disabled
 * @KVM_EXCL_VCPU_NESTED: a nested guest runs, or the guest has its global interrupt flag
 *	clear (AMD), as around each entry of one
 * @KVM_EXCL_VCPU_SMM: it is in system management mode
 * @KVM_EXCL_VCPU_SYNIC: the guest uses Hyper-V synthetic interrupts
 * @KVM_EXCL_VCPU_PV_EOI: a paravirtual EOI is outstanding
 * @KVM_EXCL_VCPU_LOW_VECTOR: an interrupt with a vector of 16 to 31 is pending or in service
 * @KVM_EXCL_VCPU_PUT_BACK: in-service vectors could not be put back
 * @KVM_EXCL_VCPU_IMMEDIATE_EXIT: the entry was to exit at once
 * @KVM_EXCL_VCPU_BLOCKIRQ: a debugger keeps interrupts from the guest
 *	(KVM_GUESTDBG_BLOCKIRQ)
 */
enum kvm_excl_vcpu_reason {
	KVM_EXCL_VCPU_NOT_DETACHED = 0,
	KVM_EXCL_VCPU_UNBOUND = 1,
	KVM_EXCL_VCPU_OTHER_CPU = 2,
	KVM_EXCL_VCPU_XAPIC = 3,
	KVM_EXCL_VCPU_APIC_OFF = 4,
	KVM_EXCL_VCPU_NESTED = 5,
	KVM_EXCL_VCPU_SMM = 6,
	KVM_EXCL_VCPU_SYNIC = 7,
	KVM_EXCL_VCPU_PV_EOI = 8,
	KVM_EXCL_VCPU_LOW_VECTOR = 9,
	KVM_EXCL_VCPU_PUT_BACK = 10,
	KVM_EXCL_VCPU_IMMEDIATE_EXIT = 11,
	KVM_EXCL_VCPU_BLOCKIRQ = 12,
};

/**
 * enum kvm_excl_vcpu_timer - how a vCPU's APIC timer is served
 * @KVM_EXCL_VCPU_TIMER_EMULATED: by KVM; arming and firing exit
 * @KVM_EXCL_VCPU_TIMER_ASSISTED: KVM programs the physical timer; arming exits
 * @KVM_EXCL_VCPU_TIMER_DIRECT: the guest programs the physical timer
 */
enum kvm_excl_vcpu_timer {
	KVM_EXCL_VCPU_TIMER_EMULATED = 0,
	KVM_EXCL_VCPU_TIMER_ASSISTED = 1,
	KVM_EXCL_VCPU_TIMER_DIRECT = 2,
};

/**
 * struct kvm_excl_get_vcpu_status - ioctl(KVM_EXCL_GET_VCPU_STATUS): one vCPU
 * @size: sizeof(struct kvm_excl_get_vcpu_status)
 * @flags: must be 0
 * @id: the context; 0 for the caller's own
 * @index: which vCPU, from 0 in the order in which they were created
 * @cpu: out, its CPU, -1 when it has none (yet)
 * @attached: out, 1 when it runs attached now, else 0
 * @reason: out, enum kvm_excl_vcpu_reason of its last entry
 * @timer: out, enum kvm_excl_vcpu_timer of its last attached entry
 * @reserved: must be 0
 * @exits: out, VM exits
 * @attaches: out, how often it was attached
 * @detaches: out, how often it was detached
 * @attached_ns: out, time attached in ns
 * @recorded: out, guest interrupts that arrived while the CPU was in the host
 * @raised: out, interrupts raised for the guest at an entry
 * @ipi_direct: out, interrupts sent to it by KVM as physical IPIs
 * @ipi_software: out, interrupts sent to it by KVM through the software APIC
 * @storms: out, how often its interrupt sources were throttled to spare the host
 * @kick_reschedule: out, kicks of its CPU to reschedule
 * @kick_call_function: out, kicks to call a function
 * @kick_irq_work: out, kicks for irq_work
 * @kick_timer: out, kicks for the host's timers
 * @kick_other: out, other kicks
 * @ipi_fast: out, IPIs that its guest sent and the VM exit was handled in assembly for:
 *	exits that are not in @exits, and that perf does not see
 * @device_storms: out, how often devices caused a storm; the host then took their interrupts
 */
struct kvm_excl_get_vcpu_status {
	__u32 size;
	__u32 flags;
	__aligned_u64 id;
	__u32 index;
	__s32 cpu;
	__u32 attached;
	__u32 reason;
	__u32 timer;
	__u32 reserved;
	__aligned_u64 exits;
	__aligned_u64 attaches;
	__aligned_u64 detaches;
	__aligned_u64 attached_ns;
	__aligned_u64 recorded;
	__aligned_u64 raised;
	__aligned_u64 ipi_direct;
	__aligned_u64 ipi_software;
	__aligned_u64 storms;
	__aligned_u64 kick_reschedule;
	__aligned_u64 kick_call_function;
	__aligned_u64 kick_irq_work;
	__aligned_u64 kick_timer;
	__aligned_u64 kick_other;
	__aligned_u64 ipi_fast;
	__aligned_u64 device_storms;
};

/**
 * enum kvm_excl_irq_why - why a device's interrupt does not go to the guest directly
 * @KVM_EXCL_IRQ_DIRECT: it does
 * @KVM_EXCL_IRQ_UNBOUND: its vCPU has no CPU, or that is being taken away
 * @KVM_EXCL_IRQ_NOT_MSI: it goes to no MSI of the guest
 * @KVM_EXCL_IRQ_NOT_FIXED: the guest asks for another delivery mode, or for a level
 * @KVM_EXCL_IRQ_LOW_VECTOR: the guest asks for a vector below 32
 * @KVM_EXCL_IRQ_MANY: the guest asks for several vCPUs, or for none that there is
 * @KVM_EXCL_IRQ_NO_REMAPPING: the IOMMU cannot deliver it so
 * @KVM_EXCL_IRQ_STORM: devices raise so many on its vCPU's CPU that the host would not
 *	get on there; direct again after 10 ms without
 */
enum kvm_excl_irq_why {
	KVM_EXCL_IRQ_DIRECT = 0,
	KVM_EXCL_IRQ_UNBOUND = 1,
	KVM_EXCL_IRQ_NOT_MSI = 2,
	KVM_EXCL_IRQ_NOT_FIXED = 3,
	KVM_EXCL_IRQ_LOW_VECTOR = 4,
	KVM_EXCL_IRQ_MANY = 5,
	KVM_EXCL_IRQ_NO_REMAPPING = 6,
	KVM_EXCL_IRQ_STORM = 7,
};

/**
 * struct kvm_excl_get_device_irq - ioctl(KVM_EXCL_GET_DEVICE_IRQ): one interrupt of an
 *	assigned device
 * @size: sizeof(struct kvm_excl_get_device_irq)
 * @flags: must be 0
 * @id: the context; 0 for the caller's own
 * @index: which interrupt, from 0; there is no order, and it changes as the guest sets
 *	up and gives up interrupts
 * @host_irq: out, its number in the host, as in /proc/interrupts, where those that
 *	the host gets are counted
 * @gsi: out, the guest's GSI that the VMM has routed it to
 * @why: out, enum kvm_excl_irq_why. What is not direct is an interrupt on a CPU of the
 *	host, which injects it.
 * @vcpu: out, index of the vCPU that gets it directly, else -1
 * @vector: out, the guest's vector that the IOMMU delivers, else 0
 * @updates: out, how often the IOMMU's entry was written for this context
 * @throttled: out, how often the IOMMU blocked it for 10 ms, because the host got it 1000
 *	times in 10 ms; it is raised once afterwards
 */
struct kvm_excl_get_device_irq {
	__u32 size;
	__u32 flags;
	__aligned_u64 id;
	__u32 index;
	__u32 host_irq;
	__u32 gsi;
	__u32 why;
	__s32 vcpu;
	__u32 vector;
	__aligned_u64 updates;
	__aligned_u64 throttled;
};

/*
 * poll() on a context: EPOLLHUP when the VM that was bound is gone, until another
 * one is bound or armed for.
 */

#endif /* _UAPI_LINUX_KVM_EXCLUSIVE_H */
