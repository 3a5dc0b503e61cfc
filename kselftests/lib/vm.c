// SPDX-License-Identifier: GPL-2.0-only
/*
 * A VM with a context, and the threads that run its vCPUs
 */
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "excl.h"
#include "guest.h"

#define EXCL_SIGNAL	SIGUSR1

static void nothing(int sig)
{
}

/*
 * The guests' local APIC may deliver one wherever the TPR is raised over a pending
 * interrupt.  Nothing is in service then, so there is nothing to end.
 */
static void on_spurious(struct ex_regs *regs)
{
}

/* By the guests, one at a time. */
static uint64_t barriers;

static void on_barrier(struct ex_regs *regs)
{
	(*(volatile uint64_t *)&barriers)++;
	guest_eoi();
}

uint64_t excl_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

int excl_run_on(pid_t tid, int first, int last)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	while (first <= last)
		CPU_SET(first++, &set);
	return sched_setaffinity(tid, sizeof(set), &set) ? errno : 0;
}

pid_t excl_fork(void)
{
	pid_t parent = getpid(), pid = fork();

	TEST_ASSERT(pid >= 0, "fork: %s", strerror(errno));
	if (!pid && (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent))
		_exit(1);
	return pid;
}

unsigned long excl_arg(int argc, char **argv, int n, unsigned long def)
{
	char *end;
	unsigned long val;
	int i;

	for (i = 1; i <= n; i++) {
		if (i >= argc || argv[i][0] == '-')
			return def;
	}
	val = strtoul(argv[n], &end, 0);
	if (*end || end == argv[n] || !val)
		ksft_exit_fail_msg("not a number: %s\n", argv[n]);
	return val;
}

void excl_vm_create(struct excl_vm *ev, unsigned int nr_vcpus, void *guest_code)
{
	unsigned int i;

	TEST_ASSERT(nr_vcpus <= EXCL_MAX_VCPUS, "too many vCPUs: %u", nr_vcpus);
	ev->nr_vcpus = nr_vcpus;
	ev->ctx = -1;
	memset(ev->threads, 0, sizeof(ev->threads));
	if (!excl_stock() && !ev->ordinary) {
		ev->ctx = excl_open();
		TEST_ASSERT(ev->ctx >= 0, "open: %s", strerror(errno));
		TEST_ASSERT(!excl_claim_from(ev->ctx, ev->first_cpu ?: EXCL_FIRST_CPU,
					     nr_vcpus),
			    "claim: %s", strerror(errno));
		if (ev->new_vm)
			TEST_ASSERT(!excl_arm(ev->ctx, ev->flags), "arm: %s",
				    strerror(errno));
	}
	ev->vm = vm_create_with_vcpus(nr_vcpus, guest_code, ev->vcpus);
	vm_install_exception_handler(ev->vm, GUEST_SPURIOUS_VECTOR, on_spurious);
	vm_install_exception_handler(ev->vm, EXCL_BARRIER_VECTOR, on_barrier);
	for (i = 0; i < nr_vcpus; i++) {
		vcpu_args_set(ev->vcpus[i], 1, (uint64_t)i);
		excl_counters_open(ev->vcpus[i]);
	}

	if (ev->ctx >= 0 && !ev->new_vm)
		TEST_ASSERT(!excl_bind(ev->ctx, ev->vm->fd, ev->flags), "bind: %s",
			    strerror(errno));
}

void excl_vm_settle(void)
{
	usleep(1500000);
}

uint64_t excl_vm_direct_timer(struct excl_vm *ev)
{
	struct kvm_excl_get_info info = { .size = sizeof(info) };
	int fd;

	if (excl_stock())
		return 1;
	ev->new_vm = true;
	fd = excl_open();
	TEST_ASSERT(fd >= 0 && !ioctl(fd, KVM_EXCL_GET_INFO, &info), "GET_INFO");
	close(fd);
	if (!info.timer_hz || 1000000000 % info.timer_hz)
		return 1;
	ev->flags |= KVM_EXCL_HW_BUS_PERIOD;
	return 1000000000 / info.timer_hz;
}

static bool handle_exit(struct excl_thread *t)
{
	struct kvm_vcpu *vcpu = t->vcpu;
	struct excl_vm *ev = t->ev;
	struct ucall uc;

	/* get_ucall() completes the I/O of every KVM_EXIT_IO of its own only. */
	if (vcpu->run->exit_reason == KVM_EXIT_IO) {
		switch (get_ucall(vcpu, &uc)) {
		case UCALL_DONE:
			return false;
		case UCALL_PRINTF:
			ksft_print_msg("vCPU %u: %s", vcpu->id, uc.buffer);
			return true;
		case UCALL_SYNC:
			if (ev->on_sync)
				ev->on_sync(ev, vcpu, uc.args);
			return true;
		case UCALL_ABORT:
			snprintf(t->error, sizeof(t->error), "%s at %s:%lu: %s",
				 (const char *)uc.args[GUEST_ERROR_STRING],
				 (const char *)uc.args[GUEST_FILE],
				 uc.args[GUEST_LINE], uc.buffer);
			t->failed = true;
			return false;
		default:
			break;
		}
	}
	if (ev->on_exit && ev->on_exit(ev, vcpu))
		return true;
	snprintf(t->error, sizeof(t->error), "exit %u (%s)", vcpu->run->exit_reason,
		 exit_reason_str(vcpu->run->exit_reason));
	t->failed = true;
	return false;
}

/* Where the guest is; in its own thread, behind KVM_RUN. */
static void dump_vcpu(struct kvm_vcpu *vcpu)
{
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	struct kvm_regs regs;
	unsigned int i;

	vcpu_regs_get(vcpu, &regs);
	vcpu_events_get(vcpu, &events);
	vcpu_ioctl(vcpu, KVM_GET_LAPIC, &lapic);
	ksft_print_msg("vCPU %u: RIP %#llx RFLAGS %#llx RSP %#llx RAX %#llx RCX %#llx RDX %#llx, event %u/%u shadow %u NMI %u/%u/%u\n",
		       vcpu->id, regs.rip, regs.rflags, regs.rsp, regs.rax, regs.rcx, regs.rdx,
		       events.interrupt.injected, events.interrupt.nr, events.interrupt.shadow,
		       events.nmi.injected, events.nmi.pending, events.nmi.masked);
	for (i = 0; i < 8; i++) {
		uint32_t irr = *(uint32_t *)(lapic.regs + APIC_IRR + i * 0x10);
		uint32_t isr = *(uint32_t *)(lapic.regs + APIC_ISR + i * 0x10);

		if (irr | isr)
			ksft_print_msg("vCPU %u: from vector %u: IRR %#x ISR %#x\n", vcpu->id,
				       i * 32, irr, isr);
	}
}

static void *run_vcpu(void *arg)
{
	struct excl_thread *t = arg;
	struct excl_vm *ev = t->ev;
	bool go;

	t->tid = syscall(SYS_gettid);
	do {
		if (!__vcpu_run(t->vcpu)) {
			go = handle_exit(t);
		} else if (t->dump && errno == EINTR) {
			dump_vcpu(t->vcpu);
			t->dump = false;
			go = true;
		} else if (errno == EINTR || errno == EAGAIN) {
			t->interrupted += errno == EINTR;
			go = !ev->on_signal || ev->on_signal(ev, t->vcpu);
		} else {
			snprintf(t->error, sizeof(t->error), "KVM_RUN: %s",
				 strerror(errno));
			t->failed = true;
			go = false;
		}
	} while (go);
	t->ended = true;
	return NULL;
}

void excl_vm_start(struct excl_vm *ev)
{
	struct sigaction sa = { .sa_handler = nothing };
	unsigned int i;

	sigaction(EXCL_SIGNAL, &sa, NULL);
	for (i = 0; i < ev->nr_vcpus; i++) {
		struct excl_thread *t = &ev->threads[i];

		t->ev = ev;
		t->vcpu = ev->vcpus[i];
		t->ended = false;
		t->failed = false;
		TEST_ASSERT(!pthread_create(&t->thread, NULL, run_vcpu, t),
			    "pthread_create");
		t->started = true;
	}
}

bool excl_vm_failed(struct excl_vm *ev)
{
	bool failed = false;
	unsigned int i;

	for (i = 0; i < ev->nr_vcpus; i++) {
		struct excl_thread *t = &ev->threads[i];

		if (!t->failed)
			continue;
		ksft_print_msg("vCPU %u failed: %s\n", i, t->error);
		failed = true;
	}
	return failed;
}

bool excl_vm_join(struct excl_vm *ev, unsigned int seconds)
{
	uint64_t end = excl_now_ns() + seconds * 1000000000ULL;
	bool ok = true;
	unsigned int i;

	for (i = 0; i < ev->nr_vcpus; i++) {
		struct excl_thread *t = &ev->threads[i];

		/* It was never started, or is joined already. */
		if (!t->started)
			continue;
		while (!t->ended && excl_now_ns() < end && !excl_vm_failed(ev))
			usleep(1000);
		if (!t->ended) {
			ksft_print_msg("vCPU %u does not come to an end\n", i);
			ok = false;
			continue;
		}
		pthread_join(t->thread, NULL);
		t->started = false;
	}
	if (excl_vm_failed(ev))
		ok = false;
	if (!ok)
		excl_vm_dump(ev);
	return ok;
}

void excl_vm_signal(struct excl_vm *ev, unsigned int index)
{
	struct excl_thread *t = &ev->threads[index];

	if (t->started && !t->ended)
		pthread_kill(t->thread, EXCL_SIGNAL);
}

bool excl_vm_interrupt(struct excl_vm *ev, unsigned int index)
{
	struct excl_thread *t = &ev->threads[index];
	uint64_t end = excl_now_ns() + EXCL_PATIENCE_S * 1000000000ULL;
	uint64_t before = t->interrupted;

	/* One that comes while the thread is outside of KVM_RUN is lost. */
	do {
		excl_vm_signal(ev, index);
		usleep(1000);
	} while (t->interrupted == before && !t->ended && excl_now_ns() < end);
	return t->interrupted != before && !t->ended;
}

bool excl_vm_barrier(struct excl_vm *ev, unsigned int index)
{
	struct kvm_msi msi = {
		.address_lo = 0xfee00000 | index << 12,
		.data = EXCL_BARRIER_VECTOR,
	};
	volatile uint64_t *count = excl_shared(ev, barriers);
	uint64_t before = *count;

	return excl_vm_interrupt(ev, index) && __vm_ioctl(ev->vm, KVM_SIGNAL_MSI, &msi) > 0 &&
	       excl_spin(ev, *count == before + 1);
}

static bool stop_running(struct excl_vm *ev, struct kvm_vcpu *vcpu)
{
	return false;
}

void excl_vm_destroy(struct excl_vm *ev)
{
	unsigned int i;

	ev->on_signal = stop_running;
	for (i = 0; i < ev->nr_vcpus; i++) {
		struct excl_thread *t = &ev->threads[i];

		if (!t->started)
			continue;
		while (!t->ended) {
			t->vcpu->run->immediate_exit = 1;
			excl_vm_signal(ev, i);
			usleep(1000);
		}
		pthread_join(t->thread, NULL);
		t->started = false;
	}
	for (i = 0; i < ev->nr_vcpus; i++)
		excl_counters_close(ev->vcpus[i]);
	kvm_vm_free(ev->vm);
	if (ev->ctx >= 0)
		close(ev->ctx);
	ev->ctx = -1;
}

void excl_vm_dump(struct excl_vm *ev)
{
	struct kvm_excl_get_vcpu_status status;
	struct excl_counters c;
	char what[16];
	unsigned int i;

	for (i = 0; i < ev->nr_vcpus; i++) {
		snprintf(what, sizeof(what), "vCPU %u", i);
		excl_counters_read(ev->vcpus[i], &c);
		excl_counters_print(what, &c);
		if (ev->ctx < 0 || excl_vcpu_status(ev->ctx, i, &status))
			continue;
		ksft_print_msg("%s: CPU %d, attached %u, reason %u, timer %u\n", what,
			       status.cpu, status.attached, status.reason, status.timer);
		if (status.cpu >= 0)
			excl_host_apic_dump(status.cpu);
	}
	/* Last, as it interrupts what they do. */
	for (i = 0; i < ev->nr_vcpus; i++) {
		struct excl_thread *t = &ev->threads[i];

		if (!t->started || t->ended)
			continue;
		t->dump = true;
		excl_vm_signal(ev, i);
		usleep(200000);
	}
}

struct excl_sends excl_send_each(struct excl_vm *ev, unsigned int index, const char *what,
				 void (*send)(void *data), void *data,
				 volatile uint64_t *count, uint64_t n)
{
	struct excl_sends sends = { .arrived = true };
	struct excl_counters c0, c1;
	uint64_t start = *count, i;

	excl_counters_read(ev->vcpus[index], &c0);
	for (i = 1; sends.arrived && i <= n; i++) {
		send(data);
		sends.arrived = excl_spin(ev, *count == start + i);
	}
	excl_counters_read(ev->vcpus[index], &c1);
	excl_counters_delta(what, &c0, &c1);
	sends.attached = c1.attached;
	sends.exits = c1.exits - c0.exits;
	sends.kicks = excl_kick_exits(&c0, &c1);
	ksft_print_msg("%s: %lu of %lu, exits %lu, %lu for kicks\n", what, *count - start, n,
		       sends.exits, sends.kicks);
	return sends;
}

void excl_ioapic_program(struct kvm_vm *vm, int pin, uint8_t vector, bool level)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

	vm_ioctl(vm, KVM_GET_IRQCHIP, &chip);
	chip.chip.ioapic.redirtbl[pin].bits = 0;
	chip.chip.ioapic.redirtbl[pin].fields.vector = vector;
	chip.chip.ioapic.redirtbl[pin].fields.trig_mode = level;
	chip.chip.ioapic.redirtbl[pin].fields.dest_id = 0;
	vm_ioctl(vm, KVM_SET_IRQCHIP, &chip);
}

bool excl_ioapic_remote_irr(struct kvm_vm *vm, int pin)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

	vm_ioctl(vm, KVM_GET_IRQCHIP, &chip);
	return chip.chip.ioapic.redirtbl[pin].fields.remote_irr;
}

struct kvm_irq_routing *excl_routing_create(void)
{
	return kvm_gsi_routing_create();
}

void excl_routing_add_ioapic(struct kvm_irq_routing *r, uint32_t gsi, uint32_t pin)
{
	struct kvm_irq_routing_entry *e = &r->entries[r->nr++];

	memset(e, 0, sizeof(*e));
	e->gsi = gsi;
	e->type = KVM_IRQ_ROUTING_IRQCHIP;
	e->u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
	e->u.irqchip.pin = pin;
}

void excl_routing_add_msi(struct kvm_irq_routing *r, uint32_t gsi, uint32_t apic_id,
			  uint8_t vector)
{
	struct kvm_irq_routing_entry *e = &r->entries[r->nr++];

	memset(e, 0, sizeof(*e));
	e->gsi = gsi;
	e->type = KVM_IRQ_ROUTING_MSI;
	/* Physical destination, fixed, edge. */
	e->u.msi.address_lo = 0xfee00000 | apic_id << 12;
	e->u.msi.data = vector;
}
