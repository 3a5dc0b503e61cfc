// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guest of "make latency": what APIC operations take, in ticks of the TSC
 *
 * The same image runs in a VM, stock or exclusive, and on the emulated machine itself.
 * CPU 0 measures; the others spin with interrupts on.  Each row is a number of samples
 * after a warm-up, printed as a record: {"kind": "row", "name", "values": [[VALUE, COUNT], ...]},
 * in ascending order.
 *
 * With Bochs taking one instruction of each CPU in turn (quantum=1), its TSC counts
 * instructions, and the samples are exact.
 */
#include <stdbool.h>
#include <stddef.h>

#include "entry.h"

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

#define MSR_APIC_BASE		0x1b
#define MSR_TSC_DEADLINE	0x6e0
#define MSR_X2APIC_TPR		0x808
#define MSR_X2APIC_LDR		0x80d
#define MSR_X2APIC_SVR		0x80f
#define MSR_X2APIC_ICR		0x830
#define MSR_X2APIC_LVTT		0x832
#define MSR_X2APIC_LVT0		0x835
#define MSR_X2APIC_TMICT	0x838
#define MSR_X2APIC_TMCCT	0x839
#define MSR_X2APIC_TDCR		0x83e
#define MSR_X2APIC_SELF_IPI	0x83f

#define X2APIC_ENABLE		0x400
#define SVR_ENABLED		0x100
#define LVT_MASKED		0x10000
#define LVTT_TSC_DEADLINE	0x40000
#define TDCR_DIV1		0xb
#define ICR_LOGICAL		0x800
#define ICR_ALL_BUT_SELF	0xc0000
#define ICR_INIT		0x4500
#define ICR_STARTUP		0x4600

/* Longer than stock KVM takes to arm a timer. */
#define TIMER_TICKS		20000
#define FAR_TICKS		0x40000000
#define PATIENCE_TICKS		100000000

struct lat_cpu {
	u32 stamp;
	u32 ticks;
	u32 count;
} __attribute__((aligned(LAT_CPU_SIZE)));

/* What assembly knows of it. */
_Static_assert(offsetof(struct lat_cpu, stamp) == LAT_CPU_STAMP, "guest.h");
_Static_assert(offsetof(struct lat_cpu, ticks) == LAT_CPU_TICKS, "guest.h");
_Static_assert(offsetof(struct lat_cpu, count) == LAT_CPU_COUNT, "guest.h");

struct idt_entry {
	uint16_t offset0, selector;
	uint16_t type, offset16;
	u32 offset32, zero;
};

volatile struct lat_cpu lat_cpus[LAT_CPUS];
volatile u32 lat_next_cpu;
static volatile bool there[LAT_CPUS];
static volatile u32 ldr[LAT_CPUS];

static struct idt_entry idt[256];
struct {
	uint16_t limit;
	u64 base;
} __attribute__((packed)) lat_idt_pointer;

static u32 samples[LAT_MAX_SAMPLES];
static u32 overhead;
static char text[2 << 20];
static unsigned int text_len;

static inline u64 rdmsr(u32 msr)
{
	u32 a, d;

	asm volatile("rdmsr" : "=a"(a), "=d"(d) : "c"(msr) : "memory");
	return a | (u64)d << 32;
}

static inline void wrmsr(u32 msr, u64 val)
{
	asm volatile("wrmsr" :: "c"(msr), "a"((u32)val), "d"((u32)(val >> 32)) : "memory");
}

static inline void outb(uint16_t port, u8 val)
{
	asm volatile("outb %0, %1" :: "a"(val), "Nd"(port) : "memory");
}

static inline u64 rdtsc(void)
{
	u32 a, d;

	asm volatile("rdtsc" : "=a"(a), "=d"(d) :: "memory");
	return a | (u64)d << 32;
}

/* Once, at the end: what the host does with it would be in the next row's samples. */
static void flush(void)
{
	const char *p = text;
	u64 n = text_len;

	asm volatile("rep outsb" : "+S"(p), "+c"(n) : "d"(LAT_PORT_TEXT) : "memory");
	text_len = 0;
}

static bool has_tsc_deadline(void)
{
	u32 a = 1, b, c = 0, d;

	asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	return c >> 24 & 1;
}

static void put_char(char c)
{
	if (text_len < sizeof(text))
		text[text_len++] = c;
}

static void put_text(const char *s)
{
	while (*s)
		put_char(*s++);
}

static void put_number(int64_t v, unsigned int base)
{
	char digits[24];
	int n = 0;
	u64 u = v;

	if (v < 0 && base == 10) {
		put_char('-');
		u = -v;
	}
	do {
		digits[n++] = "0123456789abcdef"[u % base];
		u /= base;
	} while (u);
	while (n)
		put_char(digits[--n]);
}

static void __attribute__((noreturn)) end(void)
{
	flush();
	for (;;) {
		const char *s = "Shutdown";

		while (*s)
			outb(LAT_PORT_END, *s++);
	}
}

static void __attribute__((noreturn)) die(const char *why)
{
	asm volatile("cli");
	put_text("error: ");
	put_text(why);
	put_char('\n');
	end();
}

void lat_died(u64 first, u64 second, u64 cr2)
{
	put_text("exception: ");
	put_number(first, 16);
	put_char(' ');
	put_number(second, 16);
	put_text(" cr2 ");
	put_number(cr2, 16);
	put_char('\n');
	die("an exception in the guest");
}

static void set_gate(unsigned int vector, const void *handler)
{
	u64 addr = (u64)handler;

	idt[vector] = (struct idt_entry) {
		.offset0 = addr, .offset16 = addr >> 16, .offset32 = addr >> 32,
		.selector = LAT_CODE64, .type = 0x8e00,
	};
}

static void apic_init(void)
{
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | X2APIC_ENABLE);
	wrmsr(MSR_X2APIC_SVR, SVR_ENABLED | LAT_SPURIOUS_VECTOR);
	wrmsr(MSR_X2APIC_LVT0, LVT_MASKED);
	wrmsr(MSR_X2APIC_TPR, 0);
}

/* Until @cond; it reads memory alone. */
#define WAIT(cond, what)					\
do {								\
	u64 __end = rdtsc() + PATIENCE_TICKS;			\
								\
	while (!(cond)) {					\
		if (rdtsc() > __end)				\
			die(what);				\
	}							\
} while (0)

static void pause_ticks(u32 ticks)
{
	u64 start = rdtsc();

	while (rdtsc() - start < ticks)
		;
}

static void start_cpus(void)
{
	volatile u8 *to = (u8 *)LAT_TRAMPOLINE;
	u32 i;

	for (i = 0; i < lat_trampoline_end - lat_trampoline; i++)
		to[i] = lat_trampoline[i];
	for (i = 1; i < LAT_CPUS; i++) {
		lat_next_cpu = i;
		wrmsr(MSR_X2APIC_ICR, (u64)i << 32 | ICR_INIT);
		pause_ticks(250000);
		wrmsr(MSR_X2APIC_ICR, (u64)i << 32 | ICR_STARTUP | LAT_TRAMPOLINE >> 12);
		WAIT(there[i], "a CPU does not start");
	}
}

static void report(const char *name, unsigned int n)
{
	unsigned int gap, i, j, count;

	/* As signed numbers: an expiry may come early. */
	for (gap = n / 2; gap; gap /= 2) {
		for (i = gap; i < n; i++) {
			int32_t v = samples[i];

			for (j = i; j >= gap && (int32_t)samples[j - gap] > v; j -= gap)
				samples[j] = samples[j - gap];
			samples[j] = v;
		}
	}
	put_text("{\"kind\": \"row\", \"name\": \"");
	put_text(name);
	put_text("\", \"values\": [");
	for (i = 0; i < n; i += count) {
		for (count = 1; i + count < n && samples[i + count] == samples[i]; count++)
			;
		put_text(i ? ", [" : "[");
		put_number((int32_t)samples[i], 10);
		put_text(", ");
		put_number(count, 10);
		put_char(']');
	}
	put_text("]}\n");
}

/* Take a row's samples: @expr is one, in u32. */
#define ROW(name, expr)						\
do {								\
	u32 __i, __n = lat_params.samples;			\
								\
	for (__i = 0; __i < lat_params.warm_up; __i++)		\
		samples[0] = (expr);				\
	for (__i = 0; __i < __n; __i++)				\
		samples[__i] = (expr);				\
	report(name, __n);					\
} while (0)

static u32 time_wrmsr(u64 msr, u64 value)
{
	return (u32)lat_time_wrmsr(msr, value) - overhead;
}

static u32 time_cr8(u64 value)
{
	return (u32)lat_time_cr8(value) - overhead;
}

struct sent {
	u32 send;		/* of the instruction */
	u32 to_handler;		/* from the instruction to the last handler's RDTSC */
};

/* Send, timed, in the way that @time is; all CPUs of @mask answer. */
static struct sent send_by(u64 (*time)(u64, u64), u64 first, u64 second, u32 mask)
{
	u32 was[LAT_CPUS], before, i;
	struct sent s = {};
	u64 t;

	for (i = 0; i < LAT_CPUS; i++)
		was[i] = lat_cpus[i].count;
	t = time(first, second);
	before = t >> 32;
	s.send = (u32)t - overhead;
	for (i = 0; i < LAT_CPUS; i++) {
		if (!(mask & 1u << i)) {
			if (lat_cpus[i].count != was[i])
				die("an IPI went astray");
			continue;
		}
		WAIT(lat_cpus[i].count != was[i], "an IPI is lost");
		t = lat_cpus[i].stamp - before - overhead;
		if ((u32)t > s.to_handler)
			s.to_handler = t;
	}
	/* Let the handlers return. */
	pause_ticks(200);
	return s;
}

static struct sent send(u64 msr, u64 value, u32 mask)
{
	return send_by(lat_time_wrmsr, msr, value, mask);
}

static struct sent send_hypercall(u32 mask)
{
	return send_by(lat_params.hypercalls == LAT_VMCALL ? lat_time_vmcall : lat_time_vmmcall,
		       mask, LAT_STAMP_VECTOR, mask);
}

/* With interrupts off: else the handler runs before the second RDTSC. */
static u32 self_send(u64 msr)
{
	u32 was = lat_cpus[0].count, ticks;

	asm volatile("cli" ::: "memory");
	ticks = time_wrmsr(msr, LAT_STAMP_VECTOR);
	asm volatile("sti" ::: "memory");
	WAIT(lat_cpus[0].count != was, "a self IPI is lost");
	return ticks;
}

static u32 expiry_one_shot(void)
{
	u32 was = lat_cpus[0].count, before;

	before = lat_time_wrmsr(MSR_X2APIC_TMICT, TIMER_TICKS) >> 32;
	WAIT(lat_cpus[0].count != was, "the timer does not expire");
	return lat_cpus[0].stamp - before - overhead - TIMER_TICKS;
}

static u32 expiry_deadline(void)
{
	u64 deadline = rdtsc() + TIMER_TICKS;
	u32 was = lat_cpus[0].count;

	lat_time_wrmsr(MSR_TSC_DEADLINE, deadline);
	WAIT(lat_cpus[0].count != was, "the deadline timer does not expire");
	return lat_cpus[0].stamp - (u32)deadline;
}

static u32 eoi(void)
{
	u32 was = lat_cpus[0].count;

	lat_time_wrmsr(MSR_X2APIC_SELF_IPI, LAT_EOI_VECTOR);
	WAIT(lat_cpus[0].count != was, "a self IPI is lost");
	return lat_cpus[0].ticks - overhead;
}

/* The timer must count as the TSC does, or lateness means nothing. */
static void check_timer(void)
{
	u64 ticks = 4000000, counted;

	wrmsr(MSR_X2APIC_LVTT, LVT_MASKED | LAT_STAMP_VECTOR);
	wrmsr(MSR_X2APIC_TMICT, FAR_TICKS);
	pause_ticks(ticks);
	counted = FAR_TICKS - rdmsr(MSR_X2APIC_TMCCT);
	wrmsr(MSR_X2APIC_TMICT, 0);
	put_text("timer: ");
	put_number(counted, 10);
	put_text(" counts in ");
	put_number(ticks, 10);
	put_text(" ticks\n");
	if (counted < ticks - ticks / 50 || counted > ticks + ticks / 50)
		die("the APIC timer does not count as the TSC does");
}

static void measure(void)
{
	const u32 one = 1u << 1, three = 1u << 1 | 1u << 2 | 1u << 3;
	const u64 icr = MSR_X2APIC_ICR, self = MSR_X2APIC_SELF_IPI;
	u64 physical = 1ULL << 32 | LAT_STAMP_VECTOR;
	u64 cluster = (u64)ldr[1] << 32 | ICR_LOGICAL | LAT_STAMP_VECTOR;
	u64 multicast = (u64)(ldr[1] | ldr[2] | ldr[3]) << 32 | ICR_LOGICAL |
			LAT_STAMP_VECTOR;
	u64 all_but_self = ICR_ALL_BUT_SELF | LAT_STAMP_VECTOR;
	u32 i;

	/* Of the timed sequence itself: the least, as nothing can make it shorter. */
	overhead = -1u;
	for (i = 0; i < 1000; i++) {
		u32 t = lat_time_nothing(0, 0);

		if (t < overhead)
			overhead = t;
	}
	put_text("overhead: ");
	put_number(overhead, 10);
	put_char('\n');

	wrmsr(MSR_X2APIC_TDCR, TDCR_DIV1);
	check_timer();

	wrmsr(MSR_X2APIC_LVTT, LAT_STAMP_VECTOR);
	ROW("timer arm, TMICT", time_wrmsr(MSR_X2APIC_TMICT, FAR_TICKS));
	wrmsr(MSR_X2APIC_TMICT, 0);
	ROW("timer expiry to handler, one-shot", expiry_one_shot());
	if (has_tsc_deadline()) {
		wrmsr(MSR_X2APIC_LVTT, LVTT_TSC_DEADLINE | LAT_STAMP_VECTOR);
		ROW("timer arm, TSC deadline",
		    time_wrmsr(MSR_TSC_DEADLINE, rdtsc() + FAR_TICKS));
		ROW("timer expiry to handler, TSC deadline", expiry_deadline());
		wrmsr(MSR_TSC_DEADLINE, 0);
	}
	wrmsr(MSR_X2APIC_LVTT, LVT_MASKED);

	ROW("IPI send, unicast physical", send(icr, physical, one).send);
	ROW("IPI send, unicast cluster", send(icr, cluster, one).send);
	ROW("IPI send, multicast to 3", send(icr, multicast, three).send);
	ROW("IPI send, all but self", send(icr, all_but_self, three).send);
	if (lat_params.hypercalls)
		ROW("IPI send, hypercall to 3", send_hypercall(three).send);
	ROW("IPI send, self IPI", self_send(self));
	ROW("IPI send to handler, unicast physical", send(icr, physical, one).to_handler);
	ROW("IPI send to handler, unicast cluster", send(icr, cluster, one).to_handler);
	ROW("IPI send to handler, multicast to 3", send(icr, multicast, three).to_handler);
	ROW("IPI send to handler, all but self", send(icr, all_but_self, three).to_handler);
	if (lat_params.hypercalls)
		ROW("IPI send to handler, hypercall to 3", send_hypercall(three).to_handler);
	ROW("IPI send to handler, self IPI", send(self, LAT_STAMP_VECTOR, 1).to_handler);

	ROW("EOI", eoi());
	ROW("TPR", time_wrmsr(MSR_X2APIC_TPR, 0x10));
	wrmsr(MSR_X2APIC_TPR, 0);
	ROW("TPR by CR8", time_cr8(1));
	wrmsr(MSR_X2APIC_TPR, 0);
}

void lat_main(u32 index)
{
	unsigned int i;

	if (index) {
		apic_init();
		ldr[index] = rdmsr(MSR_X2APIC_LDR);
		there[index] = true;
		lat_wait_for_ever();
	}

	for (i = 0; i < 32; i++)
		set_gate(i, lat_on_exception);
	set_gate(LAT_STAMP_VECTOR, lat_on_stamp);
	set_gate(LAT_EOI_VECTOR, lat_on_eoi);
	set_gate(LAT_SPURIOUS_VECTOR, lat_on_spurious);
	lat_idt_pointer.limit = sizeof(idt) - 1;
	lat_idt_pointer.base = (u64)idt;
	asm volatile("lidt %0" :: "m"(lat_idt_pointer));

	/* The interrupt controllers of old are not needed, and firmware uses them. */
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	if (lat_params.samples > LAT_MAX_SAMPLES)
		die("too many samples asked for");
	apic_init();
	start_cpus();
	asm volatile("sti");
	measure();
	put_text(LAT_END "\n");
	end();
}
