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

#include "guest.h"
#include "harness.h"

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

static uint64_t nr_ipis;

FIXTURE(dirty_log) {
	struct excl_vm ev;
	volatile typeof(g) *s;
	char *copy;
};

FIXTURE_SETUP(dirty_log)
{
	const char *pml = "/sys/module/kvm_intel/parameters/pml";
	struct excl_vm *ev = &self->ev;
	char value[16] = "N";

	excl_read_file(pml, value, sizeof(value));
	ksft_print_msg("page-modification logging: %s\n", value);
	excl_vm_create(ev, NR, guest_code);
	vm_install_exception_handler(ev->vm, VECTOR, on_vector);
	vm_userspace_mem_region_add(ev->vm, VM_MEM_SRC_ANONYMOUS, GPA, SLOT, PAGES,
				    KVM_MEM_LOG_DIRTY_PAGES);
	virt_map(ev->vm, GVA, GPA, PAGES);
	self->copy = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->copy);
	self->s = excl_shared(ev, g);
	self->s->ipis = nr_ipis;
}

FIXTURE_TEARDOWN(dirty_log)
{
	munmap(self->copy, PAGES * PAGE);
	excl_vm_destroy(&self->ev);
}

/* That the IPIs come, in assembly where they can, is what makes it a test of the log. */
TEST_F_TIMEOUT(dirty_log, has_every_page_beside_ipis_that_come_once, EXCL_CASE_S)
{
	unsigned long log[PAGES / 64], reads = 0, copied = 0, differ = 0, i;
	struct excl_counters before[NR], after[NR];
	volatile typeof(g) *s = self->s;
	struct excl_vm *ev = &self->ev;
	uint64_t fast = 0, end;

	for (i = 0; i < NR; i++)
		excl_counters_read(ev->vcpus[i], &before[i]);
	excl_vm_start(ev);
	end = excl_now_ns() + 120 * 1000000000ULL;
	while (s->ended < NR && excl_now_ns() < end && !excl_vm_failed(ev)) {
		copied += copy_dirty(ev->vm, log, self->copy);
		reads++;
		usleep(20000);
	}
	ASSERT_TRUE(excl_wait(ev, s->ended == NR, 1));
	ASSERT_TRUE(excl_vm_join(ev, 20));
	for (i = 0; i < NR; i++) {
		excl_counters_read(ev->vcpus[i], &after[i]);
		excl_counters_delta(i ? "vCPU 1" : "vCPU 0", &before[i], &after[i]);
		fast += after[i].ipi_fast - before[i].ipi_fast;
	}
	copied += copy_dirty(ev->vm, log, self->copy);
	for (i = 0; i < PAGES; i++)
		differ += !!memcmp(self->copy + i * PAGE, addr_gpa2hva(ev->vm, GPA + i * PAGE),
				   PAGE);
	ksft_print_msg("%lu IPIs, %lu in assembly; the log read %lu times, %lu pages copied, %lu differ\n",
		       s->sent[0] + s->sent[1], fast, reads + 1, copied, differ);
	EXPECT_EQ(0, s->wrong);
	EXPECT_EQ(nr_ipis, s->taken[0]);
	EXPECT_EQ(nr_ipis, s->taken[1]);
	EXPECT_TRUE(excl_have_fast_ipis() ? fast > nr_ipis : !fast);
	EXPECT_NE(0, copied);
	EXPECT_EQ(0, differ);
}

int main(int argc, char **argv)
{
	excl_require(NR);
	nr_ipis = excl_arg(argc, argv, 1, 10000);
	return excl_harness_run(argc, argv);
}
