/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Helpers that run in the guest
 *
 * Nothing here causes an exit on an exclusive vCPU unless it says so.
 */
#ifndef SELFTEST_KVM_EXCL_GUEST_H
#define SELFTEST_KVM_EXCL_GUEST_H

#include "apic.h"
#include "processor.h"

#define APIC_ISR		0x100
#define APIC_TMR		0x180
#define APIC_ESR		0x280
#define APIC_LVT0		0x350
#define APIC_SELF_IPI		0x3f0
#define APIC_LDR_REG		0xd0

#define TDCR_DIV1		0xb

/* What guest_apic_init() sets; excl_vm_create() installs its handler. */
#define GUEST_SPURIOUS_VECTOR	0xff

/* A spin this long without an answer is a loss: seconds of the guest's TSC. */
#define GUEST_PATIENCE_S	20

/* Which vCPU am I? Read in handlers, so it must not exit as reading the ID does. */
struct guest_cpu {
	uint64_t index;
};

/* libkvm's GDT setup leaves GS to the guest. */
static inline void guest_set_index(struct guest_cpu *cpus, uint64_t index)
{
	cpus[index].index = index;
	wrmsr(MSR_GS_BASE, (uint64_t)&cpus[index]);
}

static inline uint64_t guest_index(void)
{
	uint64_t index;

	asm volatile("movq %%gs:0, %0" : "=r"(index));
	return index;
}

static inline void guest_sti(void)
{
	asm volatile("sti; nop" ::: "memory");
}

static inline void guest_cli(void)
{
	asm volatile("cli" ::: "memory");
}

static inline void guest_eoi(void)
{
	wrmsr(APIC_BASE_MSR + (APIC_EOI >> 4), 0);
}

/* x2APIC mode, software-enabled. Exits. */
static inline void guest_apic_init(void)
{
	x2apic_enable();
	x2apic_write_reg(APIC_SPIV, APIC_SPIV_APIC_ENABLED | GUEST_SPURIOUS_VECTOR);
	x2apic_write_reg(APIC_TASKPRI, 0);
}

/* A guest that never exits by itself, and takes no interrupt. */
static inline void guest_count_for_ever(volatile uint64_t *count)
{
	guest_apic_init();
	guest_cli();
	for (;;)
		(*count)++;
}

static inline void guest_send_icr(uint32_t dest, uint32_t low)
{
	wrmsr(APIC_BASE_MSR + (APIC_ICR >> 4), (uint64_t)dest << 32 | low);
}

static inline void guest_self_ipi(uint8_t vector)
{
	wrmsr(APIC_BASE_MSR + (APIC_SELF_IPI >> 4), vector);
}

static inline bool guest_apic_bit(unsigned int base, uint8_t vector)
{
	return rdmsr(APIC_BASE_MSR + (base >> 4) + vector / 32) & (1u << vector % 32);
}

static inline uint64_t guest_tsc(void)
{
	return rdtsc();
}

static inline uint64_t guest_ms(uint64_t ms)
{
	return ms * guest_tsc_khz;
}

static inline void guest_spin_us(uint64_t us)
{
	uint64_t start = rdtsc();

	while (rdtsc() - start < us * guest_tsc_khz / 1000)
		cpu_relax();
}

/* Spin until @cond; false when it does not come true. */
#define guest_wait(cond)						\
({									\
	uint64_t __start = rdtsc();					\
	bool __ok;							\
									\
	while (!(__ok = !!(cond)) &&					\
	       rdtsc() - __start < guest_ms(GUEST_PATIENCE_S * 1000ULL)) \
		cpu_relax();						\
	__ok || !!(cond);						\
})

/* One byte to a port that nobody serves: an exit to user space. */
static inline void guest_outb(uint16_t port, uint8_t val)
{
	asm volatile("outb %0, %1" :: "a"(val), "Nd"(port) : "memory");
}

#endif /* SELFTEST_KVM_EXCL_GUEST_H */
