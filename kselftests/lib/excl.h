/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of exclusive mode share: contexts, counters, VMs and threads
 *
 * Everything that knows the UAPI is in excl.c, but for uapi_test, which is about
 * it.  With KVM_EXCL_STOCK=1 in the environment VMs are created without a
 * context: the parts of a test that are right on any KVM can then be tried on a
 * stock kernel, and the rest are skipped.
 */
#ifndef SELFTEST_KVM_EXCL_H
#define SELFTEST_KVM_EXCL_H

#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "ucall_common.h"

#include <linux/kvm_exclusive.h>

#define EXCL_MAX_VCPUS	3
/* CPU 0 is never given away; vCPU n gets the CPU n + EXCL_FIRST_CPU, see excl_vm.first_cpu. */
#define EXCL_FIRST_CPU	1

/* Run without a context, see above. */
bool excl_stock(void);

/* Skip the test where exclusive mode cannot be had, saying why. */
void excl_require(unsigned int ncpus);

/* The ioctls of a context. 0 or -1 with errno. */
int excl_open(void);
int excl_claim(int ctx, const uint32_t *cpus, unsigned int count);
/* With KVM_EXCL_CLAIM_* flags; @claim tells what was in the way. */
int excl_claim_for(int ctx, const uint32_t *cpus, unsigned int count, uint32_t flags, int target,
		   struct kvm_excl_claim_cpus *claim);
int excl_claim_first(int ctx, unsigned int count);
/* @count CPUs from @first on. */
int excl_claim_from(int ctx, unsigned int first, unsigned int count);
/*
 * Whoever takes these CPUs next finds them free, however late the last close is. False
 * when they are not after five seconds.
 */
bool excl_wait_free(unsigned int count);
int excl_bind(int ctx, int vm_fd, uint32_t flags);
int excl_unbind(int ctx);
int excl_arm(int ctx, uint32_t flags);
int excl_vcpu_status(int ctx, unsigned int index,
		     struct kvm_excl_get_vcpu_status *status);
/* The same when it is attached: one that has just exited is not, for a moment. False after 5 s. */
bool excl_wait_attached(int ctx, unsigned int index, struct kvm_excl_get_vcpu_status *status);

/**
 * struct excl_counters - the binary statistics of one vCPU
 *
 * A name that the kernel does not have reads as 0.
 */
struct excl_counters {
	uint64_t exits;
	uint64_t attaches, detaches, attached, attached_ns;
	uint64_t recorded, raised, ipi_direct, ipi_software, ipi_fast, storms, device_storms;
	uint64_t kick_reschedule, kick_call_function, kick_irq_work;
	uint64_t kick_timer, kick_other, kick_late, entry_aborts;
	uint64_t reason, timer_mode;
	/* Of the CPU, where it gets some that are no kicks: after the rest was read, and before. */
	uint64_t nmis, nmis_before;
};

/* Open before the vCPU runs; an open one keeps the VM alive. */
void excl_counters_open(struct kvm_vcpu *vcpu);
void excl_counters_close(struct kvm_vcpu *vcpu);
void excl_counters_read(struct kvm_vcpu *vcpu, struct excl_counters *c);
void excl_counters_print(const char *what, const struct excl_counters *c);
/* What happened between two snapshots, printed under a title. */
void excl_counters_delta(const char *what, const struct excl_counters *before,
			 const struct excl_counters *after);
/*
 * Every reason for an NMI to leave the guest between two snapshots. An exit is counted at
 * once and its kick before the next entry, so a snapshot may have one exit more.
 */
uint64_t excl_kicks(const struct excl_counters *before, const struct excl_counters *after);
/*
 * How many exits the kicks account for. One in a handler detaches the vCPU; where the vector
 * cannot be put back into service, since a device or another vCPU may raise it meanwhile, the
 * attached entry is given up, which KVM counts, and the handler's write of its EOI exits.
 */
uint64_t excl_kick_exits(const struct excl_counters *before, const struct excl_counters *after);

/**
 * struct excl_vm - a VM with its context and the threads that run its vCPUs
 * @ctx: the context, -1 without
 * @first_cpu: vCPU 0 gets this CPU, 0: EXCL_FIRST_CPU
 * @new_vm: bind the VM by ARM_VM, as it is created, and not by BIND_VM after it
 * @ordinary: another tenant's, without a context or CPUs of its own
 * @flags: KVM_EXCL_* flags of ARM_VM or BIND_VM
 * @on_exit: called in the vCPU's thread for an exit to user space that is no
 *	ucall of libkvm's; true to run on
 * @on_sync: called for GUEST_SYNC; @args are its arguments
 * @on_signal: called after KVM_RUN came back with EINTR; true to run on
 */
struct excl_vm {
	struct kvm_vm *vm;
	int ctx;
	unsigned int first_cpu;
	bool new_vm;
	bool ordinary;
	uint32_t flags;
	unsigned int nr_vcpus;
	struct kvm_vcpu *vcpus[EXCL_MAX_VCPUS];
	bool (*on_exit)(struct excl_vm *ev, struct kvm_vcpu *vcpu);
	void (*on_sync)(struct excl_vm *ev, struct kvm_vcpu *vcpu, uint64_t *args);
	bool (*on_signal)(struct excl_vm *ev, struct kvm_vcpu *vcpu);
	struct excl_thread {
		struct excl_vm *ev;
		struct kvm_vcpu *vcpu;
		pthread_t thread;
		pid_t tid;
		bool started;
		volatile uint64_t interrupted;	/* how often KVM_RUN came back with EINTR */
		volatile bool ended;
		volatile bool failed;
		volatile bool dump;
		char error[UCALL_BUFFER_LEN + 512];
	} threads[EXCL_MAX_VCPUS];
};

/*
 * Wait until the host has done what the start of a VM leaves behind: up to a second
 * after a guest has enabled its APIC KVM patches its static keys (apic_sw_disabled), with
 * a call of a function on each CPU, owned ones too.
 */
void excl_vm_settle(void);

/*
 * Before excl_vm_create(): let the VM have a counting timer that it can program
 * itself, armed for, with the hardware's bus period if that is a whole number of ns.
 * Returns the period in ns.
 */
uint64_t excl_vm_direct_timer(struct excl_vm *ev);

/*
 * Create a VM whose vCPUs run @guest_code(index), each with an IDT and the APIC
 * in its state after reset; with a context that has as many CPUs, bound.
 */
void excl_vm_create(struct excl_vm *ev, unsigned int nr_vcpus, void *guest_code);
void excl_vm_start(struct excl_vm *ev);
/* Wait for the guests to be done; false, and the reasons printed, after @seconds. */
bool excl_vm_join(struct excl_vm *ev, unsigned int seconds);
/* Did a guest fail? Its reason is printed. */
bool excl_vm_failed(struct excl_vm *ev);
/* Make a vCPU's thread leave KVM_RUN with EINTR. */
void excl_vm_signal(struct excl_vm *ev, unsigned int index);
/* The same, until it has, and runs on. False when it does not. */
bool excl_vm_interrupt(struct excl_vm *ev, unsigned int index);
/*
 * Wait until a vCPU has taken whatever the calling thread has sent it before, twice over, too:
 * what has not come by then never does. The vCPU leaves KVM_RUN once, so what KVM kept back for
 * it is delivered at the next entry. Then it gets an interrupt whose vector is of the lowest
 * class, EXCL_BARRIER_VECTOR: where one of any other vector is pending its local APIC delivers
 * that first.
 *
 * This holds where the guest has guest_apic_init() behind it, a TPR of 0, handlers that end
 * with IRET and are not left before, and IF=1; and where all that was sent came from the CPU
 * where the thread is: only those IPIs stay in order. What KVM puts off to a work item or a
 * timer may come later.
 */
bool excl_vm_barrier(struct excl_vm *ev, unsigned int index);
void excl_vm_destroy(struct excl_vm *ev);
/* Every counter of every vCPU, as TAP comments. */
void excl_vm_dump(struct excl_vm *ev);

/* The vector of excl_vm_barrier(); excl_vm_create() installs its handler. */
#define EXCL_BARRIER_VECTOR	0x21

/* The host's view of a guest global, as volatile. */
#define excl_shared(ev, g) \
	((volatile typeof(g) *)addr_gva2hva((ev)->vm, (vm_vaddr_t)&(g)))

/* Wait for a condition, with @pause between two looks; see below. */
#define __excl_wait(ev, cond, seconds, pause)				\
({									\
	uint64_t __end = excl_now_ns() + (seconds) * 1000000000ULL;	\
	bool __ok;							\
									\
	while (!(__ok = !!(cond)) && excl_now_ns() < __end &&		\
	       !excl_vm_failed(ev))					\
		pause;							\
	__ok = __ok || !!(cond);					\
	if (!__ok) {							\
		ksft_print_msg("no end after %u s of waiting for %s\n",	\
			       (unsigned int)(seconds), #cond);		\
		excl_vm_dump(ev);					\
	}								\
	__ok;								\
})

/*
 * Wait for a condition in the guest's memory. False after @seconds or when a
 * guest has failed, and then every counter is printed.
 */
#define excl_wait(ev, cond, seconds)	__excl_wait(ev, cond, seconds, usleep(500))

/* An interrupt that has not come after so many seconds is lost. */
#define EXCL_PATIENCE_S	20

/* The same for an interrupt: to sleep would make a run of thousands too long. */
#define excl_spin(ev, cond)	__excl_wait(ev, cond, EXCL_PATIENCE_S, cpu_relax())

/**
 * struct excl_sends - what became of interrupts that were sent to a vCPU
 * @arrived: each had come before the next was sent
 * @attached: the vCPU is, behind them
 * @exits: while they came
 * @kicks: how many of the exits kicks account for
 */
struct excl_sends {
	bool arrived;
	bool attached;
	uint64_t exits;
	uint64_t kicks;
};

/*
 * Have @send, which gets @data, send @n interrupts, each when *@count says that the last has
 * come. The counters are printed under the title @what. What faults once, the handler's page
 * for one, is to have done it.
 */
struct excl_sends excl_send_each(struct excl_vm *ev, unsigned int index, const char *what,
				 void (*send)(void *data), void *data,
				 volatile uint64_t *count, uint64_t n);

uint64_t excl_now_ns(void);

/* Let a thread, 0 for this one, run on the CPUs from @first to @last. 0 or an errno. */
int excl_run_on(pid_t tid, int first, int last);

/*
 * fork(), but the child is killed when the calling thread ends: a case that fails ends at once,
 * without its teardown. Asserts.
 */
pid_t excl_fork(void);

/* The n-th number on the command line, or @def. They come before options, as of the harness. */
unsigned long excl_arg(int argc, char **argv, int n, unsigned long def);

/* The first line of a small file, as of sysfs; false when it cannot be read. */
bool excl_read_file(const char *path, char *buf, size_t size);
/* Write to such a file, at once. 0 or an errno. */
int excl_write_file(const char *path, const char *text);
/* Take a host CPU offline ("0") or back ("1"). 0 or an errno. */
int excl_set_online(int cpu, const char *what);
/*
 * KVM's own periodic timers are not shorter than a parameter, by default 200 us, which is
 * less than what Bochs needs for an expiry with its exits: the guest would do nothing more.
 * Raise it there until it is put back as it was; elsewhere it stays.
 */
void excl_shortest_timer_raise(void);
void excl_shortest_timer_put_back(void);

/* Is this word on the kernel's command line? */
bool excl_cmdline_has(const char *word);
/*
 * The emulator that the host runs in; neither on real hardware. Bochs' time is the work of
 * its CPUs, QEMU's is that of a machine that may be busy with other things.
 */
bool excl_in_bochs(void);
bool excl_in_qemu(void);
/* Does the emulator do its worst, what only some hardware does now and then? */
bool excl_adversary(void);
/* Does the kernel check its locks? It is several times as slow then. */
bool excl_lockdep(void);
/*
 * How many interrupts a CPU of the host has had, by those lines of /proc/interrupts whose label
 * (a number, "NMI") matches the shell pattern @which: "*" is all, "[0-9]*" what devices send.
 * The counts that a line has for all CPUs together ("ERR") are the first CPU's.
 */
uint64_t excl_host_interrupts(int cpu, const char *which);
/* How many of them were NMIs. */
uint64_t excl_host_nmis(int cpu);

/* The host's log from now on, and how many of its new lines hold @what, each printed. */
int excl_log_open(void);
unsigned int excl_log_find(int log, const char *what);

/* MSRs of a host CPU through /dev/cpu; false when it cannot be read. */
bool excl_host_msr(int cpu, uint32_t msr, uint64_t *val);

/* What a host CPU's local APIC holds, as TAP comments: priorities, timer, vectors. */
void excl_host_apic_dump(int cpu);

/* Has the host's local APIC timer a TSC-deadline mode? */
bool excl_host_has_tsc_deadline(void);

/* May the assembly path send IPIs?  It needs the length of an instruction, and no flush. */
bool excl_have_fast_ipis(void);

/*
 * Does a local vector table entry of a host CPU hold an unmasked fixed vector
 * below 32? Each is printed. Returns how many, -1 when they cannot be read.
 */
int excl_scan_lvts(int cpu);

/* A mapping of an I/O APIC pin or an MSI to a GSI. */
struct kvm_irq_routing *excl_routing_create(void);
void excl_routing_add_ioapic(struct kvm_irq_routing *r, uint32_t gsi, uint32_t pin);
void excl_routing_add_msi(struct kvm_irq_routing *r, uint32_t gsi, uint32_t apic_id,
			  uint8_t vector);

/* A pin of the in-kernel I/O APIC: this vector, fixed, to APIC ID 0, not masked. */
void excl_ioapic_program(struct kvm_vm *vm, int pin, uint8_t vector, bool level);
/* Has a level on that pin been delivered, and its EOI not been seen? */
bool excl_ioapic_remote_irr(struct kvm_vm *vm, int pin);

/**
 * struct excl_snapshot - the state of the host that a release has to restore
 */
struct excl_snapshot {
	char **lines;
	size_t nr;
};

void excl_snapshot_take(struct excl_snapshot *s);
/* The number of lines that differ, each printed if @print. */
int excl_snapshot_diff(const struct excl_snapshot *a, const struct excl_snapshot *b,
		       bool print);
void excl_snapshot_free(struct excl_snapshot *s);
/*
 * Wait until the host is as it was, as work that was put off settles in its time; what has
 * come is as wrong as what has gone. False after five seconds, with the differences printed.
 */
bool excl_snapshot_restored(const struct excl_snapshot *before);

/* Call @visit with the number of each interrupt, as in /proc/irq, until it returns true. */
bool excl_irqs_walk(bool (*visit)(const char *irq, void *data), void *data);

#endif /* SELFTEST_KVM_EXCL_H */
