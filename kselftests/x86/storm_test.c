// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that no interrupt is lost or duplicated while a vCPU attaches and
 * detaches all the time.
 *
 * vCPU 0 leaves to user space by port I/O in a loop and is shot at with signals
 * by the host.  Meanwhile its one-shot timer is armed again by its own handler,
 * vCPU 1 sends it IPIs and the host fires an irqfd; each source waits for its
 * interrupt to be counted before the next, so a lost one stops that source and
 * a duplicated one shows in the count.
 *
 * The timer's interval is to be longer than an expiry with its exits takes, or the
 * guest does nothing but handle expiries and never comes to its port I/O.
 *
 * A handler may arm the timer before its EOI or after it.  Before it, an exit finds the
 * timer's vector in service and the timer running, and the vector is put back into service
 * while nothing else may raise it.  QEMU's TCG does: "eoi-first" is for it, see
 * Documentation/testing.md.
 *
 * With "deadline" the timer is the TSC's deadline: a detach then finds one that has passed and
 * not fired.  Every other one is armed by the loop, a while after the last has fired: one that
 * was delivered and has been left armed comes then.
 *
 *   storm_test [USERSPACE_EXITS [TIMER_US [eoi-first|deadline]]]
 */
#include <sys/eventfd.h>

#include "guest.h"
#include "harness.h"

#define TIMER_VECTOR	0x51
#define IPI_VECTOR	0x71
#define IRQFD_VECTOR	0x91
#define PORT		0x80
#define GSI		24
#define LINGER_US	500

#ifndef MSR_IA32_TSC_DEADLINE
#define MSR_IA32_TSC_DEADLINE	0x6e0
#endif

static struct {
	uint64_t iterations, timer_us, eoi_first, deadline;
	uint64_t ready, stop, quiet, outs;
	uint64_t armed, timer;
	uint64_t ipi_sent, ipi;
	uint64_t irqfd_sent, irqfd;
	uint64_t lost, doubled;
	/* Of the physical timer, when it was waited for in vain. */
	uint64_t tmict, tmcct, lvtt, irr, isr, ppr;
	uint64_t done;
} g;

static volatile typeof(g) *const v = &g;

static void arm(void)
{
	v->armed++;
	if (v->deadline) {
		wrmsr(MSR_IA32_TSC_DEADLINE, rdtsc() + v->timer_us * guest_tsc_khz / 1000);
		return;
	}
	/* KVM's bus period of 1 ns */
	wrmsr(APIC_BASE_MSR + (APIC_TMICT >> 4), v->timer_us * 1000);
}

static void on_timer(struct ex_regs *regs)
{
	if (v->eoi_first)
		guest_eoi();
	v->doubled += v->timer >= v->armed;
	v->timer++;
	if (!v->stop && (!v->deadline || v->timer % 2))
		arm();
	if (!v->eoi_first)
		guest_eoi();
}

static void on_ipi(struct ex_regs *regs)
{
	v->ipi++;
	guest_eoi();
}

static void on_irqfd(struct ex_regs *regs)
{
	v->irqfd++;
	guest_eoi();
}

static void guest_code(uint64_t index)
{
	guest_apic_init();
	if (index == 1) {
		while (!v->ready)
			cpu_relax();
		while (!v->stop) {
			v->ipi_sent++;
			guest_send_icr(0, IPI_VECTOR);
			if (!guest_wait(v->ipi == v->ipi_sent)) {
				v->lost++;
				break;
			}
		}
		v->quiet++;
		GUEST_DONE();
	}

	x2apic_write_reg(APIC_TDCR, TDCR_DIV1);
	x2apic_write_reg(APIC_LVTT, TIMER_VECTOR |
			 (v->deadline ? APIC_LVT_TIMER_TSCDEADLINE : APIC_LVT_TIMER_ONESHOT));
	guest_sti();
	v->ready = 1;
	arm();
	while (v->outs < v->iterations) {
		guest_outb(PORT, v->outs);
		v->outs++;
		if (!v->deadline)
			continue;
		if (v->timer == v->armed) {
			guest_spin_us(LINGER_US);
			arm();
		}
		/* It leaves before the deadline, soon after, and a while after. */
		guest_spin_us(v->outs % 16 * v->timer_us / 8);
	}
	guest_cli();
	v->stop = 1;
	guest_sti();
	/* vCPU 1 and the host's thread have stopped, and nothing is under way. */
	if (!guest_wait(v->quiet == 2 && v->timer == v->armed)) {
		v->lost++;
		v->tmict = x2apic_read_reg(APIC_TMICT);
		v->tmcct = x2apic_read_reg(APIC_TMCCT);
		v->lvtt = x2apic_read_reg(APIC_LVTT);
		v->irr = guest_apic_bit(APIC_IRR, TIMER_VECTOR);
		v->isr = guest_apic_bit(APIC_ISR, TIMER_VECTOR);
		v->ppr = x2apic_read_reg(APIC_PROCPRI);
	}
	guest_spin_us(10000 + v->timer_us);
	v->done = 1;
	GUEST_DONE();
}

static volatile uint64_t outs_seen, signals_seen;

static bool on_io(struct excl_vm *ev, struct kvm_vcpu *vcpu)
{
	if (vcpu->run->exit_reason != KVM_EXIT_IO || vcpu->run->io.port != PORT)
		return false;
	outs_seen++;
	return true;
}

static bool on_signal(struct excl_vm *ev, struct kvm_vcpu *vcpu)
{
	if (!vcpu->id)
		signals_seen++;
	return true;
}

static volatile typeof(g) *host;
static int eventfd_fd;

static void *fire_irqfd(void *arg)
{
	struct excl_vm *ev = arg;
	uint64_t one = 1;

	while (!host->ready && !excl_vm_failed(ev))
		usleep(100);
	while (!host->stop && !excl_vm_failed(ev)) {
		host->irqfd_sent++;
		TEST_ASSERT(write(eventfd_fd, &one, sizeof(one)) == sizeof(one), "write");
		if (!excl_spin(ev, host->irqfd == host->irqfd_sent)) {
			host->lost++;
			break;
		}
	}
	__atomic_add_fetch(&host->quiet, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

/* Of the soak in kselftests/tests. */
#define STORM_S		1800

static uint64_t nr_outs, timer_us;
static const char *how = "";

FIXTURE(storm) {
	struct excl_vm ev;
	struct excl_counters c0;
	pthread_t thread;
};

FIXTURE_SETUP(storm)
{
	struct kvm_irqfd irqfd = { .gsi = GSI };
	struct excl_vm *ev = &self->ev;
	struct kvm_irq_routing *routing;

	ev->on_exit = on_io;
	ev->on_signal = on_signal;
	/* Direct where the VM has the host's TSC. */
	ev->new_vm = !strcmp(how, "deadline");
	excl_vm_create(ev, 2, guest_code);
	if (ev->new_vm)
		vcpu_set_cpuid_feature(ev->vcpus[0], X86_FEATURE_TSC_DEADLINE_TIMER);
	vm_install_exception_handler(ev->vm, TIMER_VECTOR, on_timer);
	vm_install_exception_handler(ev->vm, IPI_VECTOR, on_ipi);
	vm_install_exception_handler(ev->vm, IRQFD_VECTOR, on_irqfd);
	routing = excl_routing_create();
	excl_routing_add_msi(routing, GSI, 0, IRQFD_VECTOR);
	kvm_gsi_routing_write(ev->vm, routing);
	eventfd_fd = eventfd(0, EFD_CLOEXEC);
	irqfd.fd = eventfd_fd;
	vm_ioctl(ev->vm, KVM_IRQFD, &irqfd);

	host = excl_shared(ev, g);
	host->iterations = nr_outs;
	host->timer_us = timer_us;
	host->eoi_first = !strcmp(how, "eoi-first");
	host->deadline = ev->new_vm;
	excl_counters_read(ev->vcpus[0], &self->c0);
	excl_vm_start(ev);
	ASSERT_EQ(0, pthread_create(&self->thread, NULL, fire_irqfd, ev));
}

FIXTURE_TEARDOWN(storm)
{
	excl_vm_destroy(&self->ev);
}

/* All of it is said of the same storm. */
TEST_F_TIMEOUT(storm, has_no_interrupt_lost_or_doubled, STORM_S)
{
	uint64_t signals = 0, outs = -1UL;
	struct excl_vm *ev = &self->ev;
	struct excl_counters c1;

	while (!host->done && !excl_vm_failed(ev) && signals < 200000) {
		/* A signal for each step at most, or a slow host would take no step. */
		if (!host->stop && host->outs != outs) {
			outs = host->outs;
			excl_vm_signal(ev, 0);
			signals++;
		}
		usleep(300);
	}
	pthread_join(self->thread, NULL);
	EXPECT_TRUE(excl_vm_join(ev, 60));
	excl_counters_read(ev->vcpus[0], &c1);
	excl_counters_delta("vCPU 0", &self->c0, &c1);
	ksft_print_msg("outs %lu of %lu, signals %lu sent and %lu seen\n", outs_seen,
		       host->iterations, signals, signals_seen);
	ksft_print_msg("timer %lu of %lu, IPI %lu of %lu, irqfd %lu of %lu, lost %lu, doubled %lu\n",
		       host->timer, host->armed, host->ipi, host->ipi_sent,
		       host->irqfd, host->irqfd_sent, host->lost, host->doubled);
	EXPECT_EQ(0, host->lost) {
		TH_LOG("timer: TMICT %lu, TMCCT %lu, LVTT %#lx, IRR %lu, ISR %lu, PPR %#lx",
		       host->tmict, host->tmcct, host->lvtt, host->irr, host->isr, host->ppr);
	}
	EXPECT_EQ(host->iterations, outs_seen);
	EXPECT_NE(0, host->timer);
	EXPECT_EQ(host->armed, host->timer);
	EXPECT_EQ(0, host->doubled);
	EXPECT_NE(0, host->ipi);
	EXPECT_EQ(host->ipi_sent, host->ipi);
	EXPECT_NE(0, host->irqfd);
	EXPECT_EQ(host->irqfd_sent, host->irqfd);
	/* Attached again after its exits. */
	EXPECT_TRUE(excl_stock() || c1.attaches - self->c0.attaches >= host->iterations / 2);
}

int main(int argc, char **argv)
{
	if (argc > 3 && argv[3][0] != '-')
		how = argv[3];
	if (*how && strcmp(how, "eoi-first") && strcmp(how, "deadline"))
		ksft_exit_fail_msg("neither eoi-first nor deadline: %s\n", how);
	excl_require(2);
	TEST_REQUIRE(strcmp(how, "deadline") || kvm_check_cap(KVM_CAP_TSC_DEADLINE_TIMER));
	nr_outs = excl_arg(argc, argv, 1, 2000);
	timer_us = excl_arg(argc, argv, 2, 50);
	return excl_harness_run(argc, argv);
}
