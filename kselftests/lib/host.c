// SPDX-License-Identifier: GPL-2.0-only
/*
 * The state of the host: MSRs of a CPU, and what a release has to restore
 */
#include <ctype.h>
#include <dirent.h>
#include <elf.h>
#include <fnmatch.h>
#include <sys/sysinfo.h>

#include "excl.h"

bool excl_cmdline_has(const char *word)
{
	char line[4096], *at, *save = NULL;

	if (!excl_read_file("/proc/cmdline", line, sizeof(line)))
		return false;
	for (at = strtok_r(line, " ", &save); at; at = strtok_r(NULL, " ", &save)) {
		if (!strcmp(at, word))
			return true;
	}
	return false;
}

bool excl_in_bochs(void)
{
	return excl_cmdline_has("kvm_excl_platform=intel") ||
	       excl_cmdline_has("kvm_excl_platform=amd-bochs");
}

bool excl_in_qemu(void)
{
	return excl_cmdline_has("kvm_excl_platform=amd");
}

#define SHORTEST_US	"/sys/module/kvm/parameters/min_timer_period_us"

static char shortest_us[32];

void excl_shortest_timer_raise(void)
{
	TEST_ASSERT(excl_read_file(SHORTEST_US, shortest_us, sizeof(shortest_us)), SHORTEST_US);
	if (excl_in_bochs())
		TEST_ASSERT(!excl_write_file(SHORTEST_US, "4000"), SHORTEST_US);
}

void excl_shortest_timer_put_back(void)
{
	excl_write_file(SHORTEST_US, shortest_us);
}

bool excl_adversary(void)
{
	return excl_cmdline_has("rig_adversary");
}

bool excl_lockdep(void)
{
	return !access("/proc/lockdep_stats", F_OK);
}

/* The column of a CPU in /proc/interrupts, whose first line has a word for each; or -1. */
static int column_of(int cpu, char *line)
{
	char *word, *save = NULL, want[16];
	int column = 0;

	snprintf(want, sizeof(want), "CPU%d", cpu);
	for (word = strtok_r(line, " \t\n", &save); word; word = strtok_r(NULL, " \t\n", &save)) {
		if (!strcmp(word, want))
			return column;
		column++;
	}
	return -1;
}

uint64_t excl_host_interrupts(int cpu, const char *which)
{
	FILE *f = fopen("/proc/interrupts", "re");
	char line[4096], *label, *at, *end;
	uint64_t sum = 0, n;
	int column, i;

	TEST_ASSERT(f, "/proc/interrupts: %s", strerror(errno));
	column = fgets(line, sizeof(line), f) ? column_of(cpu, line) : -1;
	while (column >= 0 && fgets(line, sizeof(line), f)) {
		at = strchr(line, ':');
		if (!at)
			continue;
		*at++ = '\0';
		label = line + strspn(line, " ");
		if (fnmatch(which, label, 0))
			continue;
		/* Some lines have one count for all CPUs. */
		for (i = 0; i <= column; i++, at = end) {
			n = strtoull(at, &end, 10);
			if (end == at)
				break;
			if (i == column)
				sum += n;
		}
	}
	fclose(f);
	return sum;
}

uint64_t excl_host_nmis(int cpu)
{
	return excl_host_interrupts(cpu, "NMI");
}

int excl_log_open(void)
{
	int log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	TEST_ASSERT(log >= 0 && lseek(log, 0, SEEK_END) >= 0, "/dev/kmsg: %s",
		    strerror(errno));
	return log;
}

unsigned int excl_log_find(int log, const char *what)
{
	unsigned int found = 0;
	char line[8192];
	ssize_t n;

	/* A record each; EPIPE is for those that have been overwritten. */
	while ((n = read(log, line, sizeof(line) - 1)) > 0 || (n < 0 && errno == EPIPE)) {
		if (n < 0)
			continue;
		line[n] = '\0';
		if (!strstr(line, what))
			continue;
		line[strcspn(line, "\n")] = '\0';
		ksft_print_msg("the host's log: %s\n", line);
		found++;
	}
	return found;
}

bool excl_host_msr(int cpu, uint32_t msr, uint64_t *val)
{
	char path[32];
	bool ok;
	int fd;

	snprintf(path, sizeof(path), "/dev/cpu/%d/msr", cpu);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ok = pread(fd, val, sizeof(*val), msr) == sizeof(*val);
	close(fd);
	return ok;
}

void excl_host_apic_dump(int cpu)
{
	static const struct {
		const char *name;
		uint32_t msr;
	} regs[] = {
		{ "TPR", 0x808 }, { "PPR", 0x80a }, { "SVR", 0x80f }, { "LVTT", 0x832 },
		{ "TMICT", 0x838 }, { "TMCCT", 0x839 }, { "TDCR", 0x83e },
	};
	uint64_t val;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(regs); i++) {
		if (excl_host_msr(cpu, regs[i].msr, &val))
			ksft_print_msg("CPU %d: %s %#lx\n", cpu, regs[i].name, val);
	}
	/* ISR from 0x810, IRR from 0x820, a bit for each vector. */
	for (i = 0; i < 8; i++) {
		if (excl_host_msr(cpu, 0x810 + i, &val) && val)
			ksft_print_msg("CPU %d: ISR %u.. %#lx\n", cpu, i * 32, val);
		if (excl_host_msr(cpu, 0x820 + i, &val) && val)
			ksft_print_msg("CPU %d: IRR %u.. %#lx\n", cpu, i * 32, val);
	}
}

bool excl_host_has_tsc_deadline(void)
{
	char line[4096];
	bool has = false;
	FILE *f = fopen("/proc/cpuinfo", "r");

	while (f && !has && fgets(line, sizeof(line), f))
		has = !strncmp(line, "flags", 5) && strstr(line, " tsc_deadline_timer");
	if (f)
		fclose(f);
	return has;
}

bool excl_have_fast_ipis(void)
{
	char value[32] = "";

	if (!excl_read_file("/sys/module/kvm/parameters/exclusive_ipi_fast", value,
			    sizeof(value)) || strcmp(value, "Y"))
		return false;
	if (host_cpu_is_intel) {
		excl_read_file("/sys/module/kvm_intel/parameters/vmentry_l1d_flush", value,
			       sizeof(value));
		return strcmp(value, "always");
	}
	excl_read_file("/sys/module/kvm_amd/parameters/nrips", value, sizeof(value));
	return atoi(value);
}

/*
 * As excl_host_msr(), but no local vector table register that is not there: a read of one is
 * an error that the local APIC keeps, and QEMU's for ever, so that smpboot takes it for its
 * own.
 */
static bool host_apic_msr(int cpu, uint32_t msr, uint64_t *val)
{
	uint64_t lvr, efeat;
	bool there = true;

	if (msr == 0x82f)
		there = excl_host_msr(cpu, 0x803, &lvr) && (lvr >> 16 & 0xff) >= 6;
	else if (msr >= 0x850)
		there = excl_host_msr(cpu, 0x803, &lvr) && (lvr & 1U << 31) &&
			excl_host_msr(cpu, 0x840, &efeat) &&
			msr - 0x850 < (efeat >> 16 & 0xff);
	return there && excl_host_msr(cpu, msr, val);
}

int excl_scan_lvts(int cpu)
{
	/* CMCI, timer, thermal, PMC, LINT0, LINT1, error; then AMD's extended. */
	static const uint32_t lvts[] = {
		0x82f, 0x832, 0x833, 0x834, 0x835, 0x836, 0x837,
		0x850, 0x851, 0x852, 0x853,
	};
	int bad = 0, seen = 0;
	uint64_t val;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(lvts); i++) {
		if (!host_apic_msr(cpu, lvts[i], &val))
			continue;
		seen++;
		/* Delivery mode fixed, not masked. */
		if (!(val & 0x10700) && (val & 0xff) < 32) {
			ksft_print_msg("CPU %d: MSR %#x holds %#lx\n", cpu,
				       lvts[i], val);
			bad++;
		}
	}
	return seen ? bad : -1;
}

static void __printf(2, 3) add(struct excl_snapshot *s, const char *fmt, ...)
{
	va_list args;

	if (!(s->nr & 255)) {
		s->lines = realloc(s->lines, (s->nr + 256) * sizeof(*s->lines));
		TEST_ASSERT(s->lines, "no memory");
	}
	va_start(args, fmt);
	TEST_ASSERT(vasprintf(&s->lines[s->nr], fmt, args) >= 0, "no memory");
	va_end(args);
	s->nr++;
}

bool excl_read_file(const char *path, char *buf, size_t size)
{
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	n = read(fd, buf, size - 1);
	close(fd);
	if (n < 0)
		return false;
	buf[n] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return true;
}

int excl_write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return errno;
	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		err = errno;
	close(fd);
	return err;
}

int excl_set_online(int cpu, const char *what)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online", cpu);
	return excl_write_file(path, what);
}

static void add_file(struct excl_snapshot *s, const char *path)
{
	char buf[512];

	if (excl_read_file(path, buf, sizeof(buf)))
		add(s, "%s=%s", path, buf);
}

static unsigned int hex(char c)
{
	return isdigit(c) ? c - '0' : tolower(c) - 'a' + 10;
}

/* Both as the kernel prints cpumasks, which is with the same width. */
static bool mask_within(const char *mask, const char *of)
{
	for (; *mask && *of; mask++, of++) {
		if (*mask != ',' && (hex(*mask) & ~hex(*of)))
			return false;
	}
	return !*mask && !*of;
}

bool excl_irqs_walk(bool (*visit)(const char *irq, void *data), void *data)
{
	DIR *dir = opendir("/proc/irq");
	struct dirent *d;
	bool found = false;

	TEST_ASSERT(dir, "/proc/irq: %s", strerror(errno));
	while (!found && (d = readdir(dir)))
		found = isdigit(d->d_name[0]) && visit(d->d_name, data);
	closedir(dir);
	return found;
}

/*
 * The masks that were set.  On which CPU of its mask an interrupt arrives is the
 * kernel's own choice, anew each time it moves.
 */
static bool add_irq(const char *irq, void *s)
{
	char path[320], wanted[512], effective[512];

	snprintf(path, sizeof(path), "/proc/irq/%s/smp_affinity", irq);
	if (!excl_read_file(path, wanted, sizeof(wanted)))
		return false;
	add(s, "%s=%s", path, wanted);
	snprintf(path, sizeof(path), "/proc/irq/%s/effective_affinity", irq);
	if (excl_read_file(path, effective, sizeof(effective)))
		add(s, "%s=%s", path, mask_within(effective, wanted) ?
		    "within what is wanted" : effective);
	return false;
}

static void add_irqs(struct excl_snapshot *s)
{
	add_file(s, "/proc/irq/default_smp_affinity");
	excl_irqs_walk(add_irq, s);
}

static void add_task(struct excl_snapshot *s, const char *tid)
{
	char path[320], line[256], name[256] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/status", tid);
	f = fopen(path, "re");
	if (!f)
		return;
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		if (!strncmp(line, "Name:\t", 6))
			snprintf(name, sizeof(name), "%s", line + 6);
		/*
		 * Workers come and go, and change their names; the mask of
		 * those for unbound work follows that of the work queues, that
		 * of an interrupt's thread the CPU where the interrupt arrives.
		 */
		if (!strncmp(line, "Cpus_allowed:\t", 14) &&
		    strncmp(name, "kworker/", 8) && strncmp(name, "irq/", 4))
			add(s, "task %s=%s", tid, line + 14);
	}
	fclose(f);
}

static void add_tasks(struct excl_snapshot *s)
{
	DIR *dir = opendir("/proc"), *tasks;
	struct dirent *d, *t;
	char path[300];

	while (dir && (d = readdir(dir))) {
		if (!isdigit(d->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/task", d->d_name);
		tasks = opendir(path);
		while (tasks && (t = readdir(tasks))) {
			if (isdigit(t->d_name[0]))
				add_task(s, t->d_name);
		}
		if (tasks)
			closedir(tasks);
	}
	if (dir)
		closedir(dir);
}

static bool is_lvt(uint32_t msr)
{
	return msr == 0x82f || (msr >= 0x832 && msr <= 0x837) || msr >= 0x850;
}

static void add_cpus(struct excl_snapshot *s)
{
	/* ID, LVR, TPR, LDR, SVR, the LVTs, TDCR; no counters and no commands. */
	static const uint32_t msrs[] = {
		0x1b, 0x802, 0x803, 0x808, 0x80d, 0x80f, 0x82f, 0x832, 0x833,
		0x834, 0x835, 0x836, 0x837, 0x83e, 0x850, 0x851, 0x852, 0x853,
	};
	uint64_t val;
	char path[128];
	unsigned int i;
	int cpu;

	for (cpu = 0; cpu < get_nprocs_conf(); cpu++) {
		snprintf(path, sizeof(path),
			 "/sys/devices/system/clockevents/clockevent%d/current_device",
			 cpu);
		add_file(s, path);
		for (i = 0; i < ARRAY_SIZE(msrs); i++) {
			if (!host_apic_msr(cpu, msrs[i], &val))
				continue;
			/* Of an LVT, what the hardware sets: delivery status, remote IRR. */
			if (is_lvt(msrs[i]))
				val &= ~0x5000ULL;
			/* An idle CPU masks its timer and unmasks it again. */
			if (msrs[i] == 0x832)
				val &= ~0x10000ULL;
			add(s, "cpu %d msr %#x=%#lx", cpu, msrs[i], val);
		}
	}
}

static unsigned long kernel_symbol(const char *name)
{
	unsigned long address = 0, value;
	char line[256], symbol[128];
	FILE *f = fopen("/proc/kallsyms", "re");

	while (f && !address && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx %*c %127s", &value, symbol) == 2 &&
		    !strcmp(symbol, name))
			address = value;
	}
	if (f)
		fclose(f);
	return address;
}

/* Through /proc/kcore, an ELF core file of the kernel's memory. */
static bool read_kernel(unsigned long address, void *to, size_t size)
{
	Elf64_Ehdr header;
	Elf64_Phdr segment;
	bool ok = false;
	int i, fd = open("/proc/kcore", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	if (pread(fd, &header, sizeof(header), 0) == sizeof(header)) {
		for (i = 0; !ok && i < header.e_phnum; i++) {
			if (pread(fd, &segment, sizeof(segment), header.e_phoff +
				  i * sizeof(segment)) != sizeof(segment))
				break;
			if (segment.p_type == PT_LOAD && address >= segment.p_vaddr &&
			    address + size <= segment.p_vaddr + segment.p_memsz)
				ok = pread(fd, to, size, segment.p_offset + address -
					   segment.p_vaddr) == (ssize_t)size;
		}
	}
	close(fd);
	return ok;
}

/* All CPUs have the same IDT: Intel SDM volume 3, "IDT Descriptors". */
static void add_idt(struct excl_snapshot *s)
{
	/* All of /proc/kallsyms is read for it, so once. */
	static unsigned long table;
	uint64_t gates[256][2];
	int i;

	if (!table)
		table = kernel_symbol("idt_table");
	if (!table || !read_kernel(table, gates, sizeof(gates)))
		return;
	for (i = 0; i < 256; i++)
		add(s, "idt %d=%016lx%016lx", i, gates[i][1], gates[i][0]);
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char **)a, *(char **)b);
}

void excl_snapshot_take(struct excl_snapshot *s)
{
	memset(s, 0, sizeof(*s));
	add_irqs(s);
	add_tasks(s);
	add_cpus(s);
	add_idt(s);
	add_file(s, "/sys/devices/system/cpu/online");
	add_file(s, "/sys/devices/system/cpu/isolated");
	add_file(s, "/sys/devices/system/cpu/nohz_full");
	add_file(s, "/sys/devices/virtual/workqueue/cpumask");
	qsort(s->lines, s->nr, sizeof(*s->lines), compare);
}

static const char *find(const struct excl_snapshot *s, const char *line)
{
	size_t i, len = strchr(line, '=') - line + 1;

	for (i = 0; i < s->nr; i++) {
		if (!strncmp(s->lines[i], line, len))
			return s->lines[i];
	}
	return NULL;
}

int excl_snapshot_diff(const struct excl_snapshot *a, const struct excl_snapshot *b,
		       bool print)
{
	const char *now;
	size_t i;
	int diff = 0;

	for (i = 0; i < a->nr; i++) {
		now = find(b, a->lines[i]);
		if (!now) {
			/* A task may have ended, nothing else may be gone. */
			if (!strncmp(a->lines[i], "task ", 5))
				continue;
			if (print)
				ksft_print_msg("gone: %s\n", a->lines[i]);
			diff++;
		} else if (strcmp(a->lines[i], now)) {
			if (print)
				ksft_print_msg("was: %s, now: %s\n", a->lines[i], now);
			diff++;
		}
	}
	return diff;
}

void excl_snapshot_free(struct excl_snapshot *s)
{
	while (s->nr)
		free(s->lines[--s->nr]);
	free(s->lines);
	s->lines = NULL;
}

bool excl_snapshot_restored(const struct excl_snapshot *before)
{
	uint64_t end = excl_now_ns() + 5000000000ULL;
	struct excl_snapshot after;
	bool last;
	int diff;

	do {
		last = excl_now_ns() > end;
		excl_snapshot_take(&after);
		diff = excl_snapshot_diff(before, &after, last) +
		       excl_snapshot_diff(&after, before, last);
		excl_snapshot_free(&after);
		if (diff)
			usleep(50000);
	} while (diff && !last);
	return !diff;
}
