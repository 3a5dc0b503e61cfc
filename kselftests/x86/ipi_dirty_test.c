// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that a guest which sends its IPIs in assembly, without the exits in which KVM
 * empties the buffer of page-modification logging, loses no dirty page.
 *
 * Two vCPUs write to pages of a memory slot with a dirty log, and after each write send
 * an IPI to the other and wait for it.  The host does what a live migration does: it
 * reads the log again and again and copies what is dirty.  When the guest has stopped and
 * the log has been read once more, the copy is equal to the memory.
 *
 *   ipi_dirty_test [IPIS]
 *
 * Intel SDM volume 3, "Page-Modification Logging".  Where the host has none, pages are
 * write-protected, which is another way through the same exits.
 */
#include <sys/mman.h>

#include "excl.h"
#include "guest.h"

#define NR		2
#define VECTOR		0x61
#define SLOT		5
#define PAGES		2048
#define PAGE		4096
#define GPA		0x40000000ULL
#define GVA		0x40000000ULL

static struct {
	uint64_t ipis, ready, ended, taken[NR], sent[NR], wrong;
} g;

static struct guest_cpu cpus[NR];
static volatile typeof(g) *const v = &g;

static void on_vector(struct ex_regs *regs)
{
	v->taken[guest_index()]++;
	guest_eoi();
}

static void guest_code(uint64_t index)
{
	uint64_t other = 1 - index, i, random = index + 1;

	guest_set_index(cpus, index);
	guest_apic_init();
	guest_sti();
	__atomic_add_fetch(&g.ready, 1, __ATOMIC_SEQ_CST);
	while (v->ready < NR)
		cpu_relax();
	for (i = 1; i <= v->ipis; i++) {
		/* Knuth, "The Art of Computer Programming", volume 2: MMIX. */
		random = random * 6364136223846793005ULL + 1442695040888963407ULL;
		*(volatile uint64_t *)(GVA + (random >> 32) % PAGES * PAGE + index * 8) = i;
		guest_send_icr(other, VECTOR);
		v->sent[index]++;
		if (!guest_wait(v->taken[other] == i)) {
			v->wrong++;
			break;
		}
	}
	__atomic_add_fetch(&g.ended, 1, __ATOMIC_SEQ_CST);
	while (v->ended < NR)
		cpu_relax();
	GUEST_DONE();
}

/* Copy what is dirty; returns how many pages. */
static unsigned long copy_dirty(struct kvm_vm *vm, unsigned long *log, char *copy)
{
	char *memory = addr_gpa2hva(vm, GPA);
	unsigned long i, n = 0;

	kvm_vm_get_dirty_log(vm, SLOT, log);
	for (i = 0; i < PAGES; i++) {
		if (!(log[i / 64] & 1UL << i % 64))
			continue;
		memcpy(copy + i * PAGE, memory + i * PAGE, PAGE);
		n++;
	}
	return n;
}

int main(int argc, char **argv)
{
	const char *pml = "/sys/module/kvm_intel/parameters/pml";
	unsigned long log[PAGES / 64], reads = 0, copied = 0, differ = 0, i;
	struct excl_counters before[NR], after[NR];
	struct excl_vm ev = {};
	uint64_t fast = 0, end;
	volatile typeof(g) *s;
	char value[16] = "N";
	char *copy;
	bool ok;

	ksft_print_header();
	excl_require(NR);
	ksft_set_plan(2);
	excl_read_file(pml, value, sizeof(value));
	ksft_print_msg("page-modification logging: %s\n", value);

	excl_vm_create(&ev, NR, guest_code);
	vm_install_exception_handler(ev.vm, VECTOR, on_vector);
	vm_userspace_mem_region_add(ev.vm, VM_MEM_SRC_ANONYMOUS, GPA, SLOT, PAGES,
				    KVM_MEM_LOG_DIRTY_PAGES);
	virt_map(ev.vm, GVA, GPA, PAGES);
	copy = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		    -1, 0);
	TEST_ASSERT(copy != MAP_FAILED, "mmap: %s", strerror(errno));
	s = excl_shared(&ev, g);
	s->ipis = excl_arg(argc, argv, 1, 10000);
	for (i = 0; i < NR; i++)
		excl_counters_read(ev.vcpus[i], &before[i]);
	excl_vm_start(&ev);
	end = excl_now_ns() + 120 * 1000000000ULL;
	while (s->ended < NR && excl_now_ns() < end && !excl_vm_failed(&ev)) {
		copied += copy_dirty(ev.vm, log, copy);
		reads++;
		usleep(20000);
	}
	ok = excl_wait(&ev, s->ended == NR, 1) && excl_vm_join(&ev, 20);
	for (i = 0; i < NR; i++) {
		excl_counters_read(ev.vcpus[i], &after[i]);
		excl_counters_delta(i ? "vCPU 1" : "vCPU 0", &before[i], &after[i]);
		fast += after[i].ipi_fast - before[i].ipi_fast;
	}
	copied += copy_dirty(ev.vm, log, copy);
	for (i = 0; i < PAGES; i++)
		differ += !!memcmp(copy + i * PAGE, addr_gpa2hva(ev.vm, GPA + i * PAGE), PAGE);
	ksft_print_msg("%lu IPIs, %lu in assembly; the log read %lu times, %lu pages copied, %lu differ\n",
		       s->sent[0] + s->sent[1], fast, reads + 1, copied, differ);
	ksft_test_result(ok && !s->wrong && s->taken[0] == s->ipis && s->taken[1] == s->ipis &&
			 (excl_have_fast_ipis() ? fast > s->ipis : !fast),
			 "IPIs with a dirty log: each exactly once\n");
	ksft_test_result(ok && copied && !differ, "every written page is in the dirty log\n");
	munmap(copy, PAGES * PAGE);
	excl_vm_destroy(&ev);
	if (!ok)
		ksft_exit_fail_msg("the guest hangs\n");
	ksft_finished();
}
