// SPDX-License-Identifier: GPL-2.0-only
/*
 * Contexts of /dev/kvm-exclusive and the statistics of a vCPU
 */
#include <sys/sysinfo.h>

#include "excl.h"

bool excl_stock(void)
{
	const char *s = getenv("KVM_EXCL_STOCK");

	return s && *s && strcmp(s, "0");
}

void excl_require(unsigned int ncpus)
{
	struct kvm_excl_get_info info = { .size = sizeof(info) };
	int fd;

	if (access("/dev/kvm", R_OK | W_OK))
		ksft_exit_skip("no /dev/kvm: %s\n", strerror(errno));
	if (excl_stock())
		return;
	if (get_nprocs() < (int)(EXCL_FIRST_CPU + ncpus))
		ksft_exit_skip("needs %u CPUs\n", EXCL_FIRST_CPU + ncpus);
	fd = open(KVM_EXCL_DEVICE, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		ksft_exit_skip("no %s: %s\n", KVM_EXCL_DEVICE, strerror(errno));
	if (ioctl(fd, KVM_EXCL_GET_INFO, &info))
		ksft_exit_fail_msg("KVM_EXCL_GET_INFO: %s\n", strerror(errno));
	close(fd);
	if (!info.supported)
		ksft_exit_skip("this host is not capable: %.128s\n", info.why);
}

int excl_open(void)
{
	return open(KVM_EXCL_DEVICE, O_RDWR | O_CLOEXEC);
}

int excl_claim_for(int ctx, const uint32_t *cpus, unsigned int count, uint32_t flags, int target,
		   struct kvm_excl_claim_cpus *claim)
{
	*claim = (struct kvm_excl_claim_cpus) {
		.size = sizeof(*claim),
		.flags = flags,
		.count = count,
		.target = target,
		.cpus = (uintptr_t)cpus,
	};
	return ioctl(ctx, KVM_EXCL_CLAIM_CPUS, claim);
}

int excl_claim(int ctx, const uint32_t *cpus, unsigned int count)
{
	struct kvm_excl_claim_cpus claim;
	int r;

	/* The emulated host keeps what it can off CPU 0, and a test may take all others. */
	r = excl_claim_for(ctx, cpus, count, KVM_EXCL_CLAIM_PINNED, 0, &claim);

	/* A host that is busy is no secret of the test's. */
	if (r && errno == EBUSY && claim.obstacle > KVM_EXCL_OBSTACLE_OWNED)
		ksft_print_msg("CPU %u is not to be had: obstacle %u, %d %.64s\n",
			       claim.obstacle_cpu, claim.obstacle, claim.obstacle_id,
			       claim.obstacle_name);
	return r;
}

int excl_claim_from(int ctx, unsigned int first, unsigned int count)
{
	uint32_t cpus[EXCL_MAX_VCPUS];
	unsigned int i;

	for (i = 0; i < count; i++)
		cpus[i] = first + i;
	return excl_claim(ctx, cpus, count);
}

int excl_claim_first(int ctx, unsigned int count)
{
	return excl_claim_from(ctx, EXCL_FIRST_CPU, count);
}

bool excl_wait_free(unsigned int count)
{
	int i, fd, r = -1;

	if (excl_stock())
		return true;
	for (i = 0; r && i < 500; i++) {
		fd = excl_open();
		r = excl_claim_first(fd, count);
		close(fd);
		if (r)
			usleep(10000);
	}
	return !r;
}

int excl_bind(int ctx, int vm_fd, uint32_t flags)
{
	struct kvm_excl_bind_vm arg = { .size = sizeof(arg), .flags = flags, .vm_fd = vm_fd };

	return ioctl(ctx, KVM_EXCL_BIND_VM, &arg);
}

int excl_unbind(int ctx)
{
	struct kvm_excl_unbind_vm arg = { .size = sizeof(arg) };

	return ioctl(ctx, KVM_EXCL_UNBIND_VM, &arg);
}

int excl_arm(int ctx, uint32_t flags)
{
	struct kvm_excl_arm_vm arg = { .size = sizeof(arg), .flags = flags };

	return ioctl(ctx, KVM_EXCL_ARM_VM, &arg);
}

int excl_vcpu_status(int ctx, unsigned int index,
		     struct kvm_excl_get_vcpu_status *status)
{
	memset(status, 0, sizeof(*status));
	status->size = sizeof(*status);
	status->index = index;
	return ioctl(ctx, KVM_EXCL_GET_VCPU_STATUS, status);
}

bool excl_wait_attached(int ctx, unsigned int index, struct kvm_excl_get_vcpu_status *status)
{
	uint64_t end = excl_now_ns() + 5000000000ULL;

	do {
		usleep(20000);
		TEST_ASSERT(!excl_vcpu_status(ctx, index, status), "status: %s", strerror(errno));
	} while (!status->attached && excl_now_ns() < end);
	return status->attached;
}

static const struct {
	const char *name;
	size_t offset;
} stats[] = {
#define STAT(name, field) { name, offsetof(struct excl_counters, field) }
	STAT("exits", exits),
	STAT("excl_attaches", attaches),
	STAT("excl_detaches", detaches),
	STAT("excl_attached", attached),
	STAT("excl_attached_ns", attached_ns),
	STAT("excl_recorded", recorded),
	STAT("excl_raised", raised),
	STAT("excl_ipi_direct", ipi_direct),
	STAT("excl_ipi_software", ipi_software),
	STAT("excl_ipi_fast", ipi_fast),
	STAT("excl_storms", storms),
	STAT("excl_device_storms", device_storms),
	STAT("excl_kick_reschedule", kick_reschedule),
	STAT("excl_kick_call_function", kick_call_function),
	STAT("excl_kick_irq_work", kick_irq_work),
	STAT("excl_kick_timer", kick_timer),
	STAT("excl_kick_other", kick_other),
	STAT("excl_entry_aborts", entry_aborts),
	STAT("excl_kick_late", kick_late),
	STAT("excl_reason", reason),
	STAT("excl_timer_mode", timer_mode),
#undef STAT
};

static uint64_t *field(const struct excl_counters *c, int i)
{
	return (uint64_t *)((char *)c + stats[i].offset);
}

/*
 * KVM_GET_STATS_FD waits for the vCPU to come out of KVM_RUN; reading the file it
 * gives does not.  So it is opened before the vCPU runs.
 */
static struct {
	struct kvm_vcpu *vcpu;
	int fd;
	struct kvm_stats_header header;
	struct kvm_stats_desc *descs;
} files[2 * EXCL_MAX_VCPUS];	/* an ordinary VM may be beside an exclusive one */

void excl_counters_open(struct kvm_vcpu *vcpu)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(files) && files[i].vcpu; i++)
		;
	TEST_ASSERT(i < ARRAY_SIZE(files), "too many vCPUs");
	files[i].vcpu = vcpu;
	files[i].fd = ioctl(vcpu->fd, KVM_GET_STATS_FD, NULL);
	TEST_ASSERT(files[i].fd >= 0, "KVM_GET_STATS_FD: %s", strerror(errno));
	read_stats_header(files[i].fd, &files[i].header);
	files[i].descs = read_stats_descriptors(files[i].fd, &files[i].header);
}

void excl_counters_close(struct kvm_vcpu *vcpu)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(files); i++) {
		if (files[i].vcpu != vcpu)
			continue;
		free(files[i].descs);
		close(files[i].fd);
		files[i].vcpu = NULL;
	}
}

static void read_once(struct kvm_vcpu *vcpu, struct excl_counters *c)
{
	struct kvm_stats_desc *desc;
	unsigned int f, i, j;

	memset(c, 0, sizeof(*c));
	for (f = 0; f < ARRAY_SIZE(files) && files[f].vcpu != vcpu; f++)
		;
	TEST_ASSERT(f < ARRAY_SIZE(files), "no statistics of this vCPU");
	for (i = 0; i < files[f].header.num_desc; i++) {
		desc = get_stats_descriptor(files[f].descs, i, &files[f].header);
		for (j = 0; j < ARRAY_SIZE(stats); j++) {
			if (!strcmp(desc->name, stats[j].name))
				read_stat_data(files[f].fd, &files[f].header, desc,
					       field(c, j), 1);
		}
	}
}

/*
 * An exit is counted when it happens, a kick at the entry after it, and a read takes
 * one counter at a time.  So read until no exit comes in between, or, when they never
 * cease, what there is.
 */
void excl_counters_read(struct kvm_vcpu *vcpu, struct excl_counters *c)
{
	struct excl_counters before;
	uint64_t nmis = 0;
	int tries = 5;

	read_once(vcpu, c);
	do {
		before = *c;
		usleep(20000);
		if (excl_adversary())
			nmis = excl_host_nmis(EXCL_FIRST_CPU + vcpu->id);
		read_once(vcpu, c);
	} while (c->exits != before.exits && --tries);
	if (excl_adversary()) {
		c->nmis_before = nmis;
		c->nmis = excl_host_nmis(EXCL_FIRST_CPU + vcpu->id);
	}
}

void excl_counters_print(const char *what, const struct excl_counters *c)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(stats); i++)
		ksft_print_msg("%s: %s %lu\n", what, stats[i].name, *field(c, i));
}

void excl_counters_delta(const char *what, const struct excl_counters *before,
			 const struct excl_counters *after)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(stats); i++) {
		uint64_t a = *field(before, i), b = *field(after, i);

		if (a != b || !i)
			ksft_print_msg("%s: %s +%ld (%lu to %lu)\n", what,
				       stats[i].name, (long)(b - a), a, b);
	}
}

static uint64_t kicks(const struct excl_counters *c)
{
	return c->kick_reschedule + c->kick_call_function + c->kick_irq_work +
	       c->kick_timer + c->kick_other + c->kick_late;
}

uint64_t excl_kicks(const struct excl_counters *before, const struct excl_counters *after)
{
	/* It sends NMIs that are no kicks, and what they leave to do merges. */
	if (excl_adversary())
		return after->nmis - before->nmis_before;
	return kicks(after) - kicks(before);
}

uint64_t excl_kick_exits(const struct excl_counters *before, const struct excl_counters *after)
{
	/* The adversary's NMIs come at any instruction, so a handler may take several. */
	unsigned int each = excl_adversary() ? 16 : 2;

	return excl_kicks(before, after) + each * (after->detaches - before->detaches);
}
