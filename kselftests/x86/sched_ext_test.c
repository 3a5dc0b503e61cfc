// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that a BPF scheduler and owned CPUs keep out of each other's way: it chooses CPUs
 * itself, so a claim is refused while one is loaded, and names it; one is not loaded while
 * CPUs are owned; and of two that come at the same time at most one wins.
 *
 * The scheduler is a struct sched_ext_ops with a name and nothing else: the kernel's own
 * defaults, one queue for all CPUs.  So there is no program to compile, and of libbpf only
 * the layout of that structure is needed, which is in the kernel's type information.
 */
#include <linux/bpf.h>
#include <linux/btf.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "harness.h"

#define STATE		"/sys/kernel/sched_ext/state"
#define VMLINUX_BTF	"/sys/kernel/btf/vmlinux"
#define OPS		"sched_ext_ops"
#define OPS_VALUE	"bpf_struct_ops_" OPS
#define OPS_NAME	"excl_test"

static const uint32_t cpus[] = { EXCL_FIRST_CPU, EXCL_FIRST_CPU + 1 };

/* What a map for a scheduler consists of. */
static struct {
	uint32_t id, size;
	uint32_t ops_offset, name_offset;
} layout;

/* Bytes of what follows the struct btf_type. */
static size_t btf_extra(const struct btf_type *t)
{
	size_t n = BTF_INFO_VLEN(t->info);

	switch (BTF_INFO_KIND(t->info)) {
	case BTF_KIND_INT:
	case BTF_KIND_VAR:
	case BTF_KIND_DECL_TAG:
		return sizeof(uint32_t);
	case BTF_KIND_ARRAY:
		return sizeof(struct btf_array);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		return n * sizeof(struct btf_member);
	case BTF_KIND_ENUM:
		return n * sizeof(struct btf_enum);
	case BTF_KIND_ENUM64:
		return n * sizeof(struct btf_enum64);
	case BTF_KIND_FUNC_PROTO:
		return n * sizeof(struct btf_param);
	case BTF_KIND_DATASEC:
		return n * sizeof(struct btf_var_secinfo);
	default:
		return 0;
	}
}

/* Offset in bytes of a member, -1 when there is none of this name. */
static long btf_member_at(const struct btf_type *t, const char *strings, const char *name)
{
	const struct btf_member *m = (const void *)(t + 1);
	unsigned int i;

	for (i = 0; i < BTF_INFO_VLEN(t->info); i++, m++) {
		if (strcmp(strings + m->name_off, name))
			continue;
		return (BTF_INFO_KFLAG(t->info) ? BTF_MEMBER_BIT_OFFSET(m->offset) : m->offset) / 8;
	}
	return -1;
}

static bool find_layout(void)
{
	long ops_offset = -1, name_offset = -1, offset;
	const struct btf_header *h;
	const struct btf_type *t;
	const char *strings, *name;
	size_t size = 0, got;
	struct stat st;
	uint32_t id = 1;
	char *btf, *end;
	FILE *f;

	f = fopen(VMLINUX_BTF, "r");
	if (!f)
		return false;
	TEST_ASSERT(!fstat(fileno(f), &st), "fstat");
	btf = malloc(st.st_size);
	TEST_ASSERT(btf, "malloc");
	while ((got = fread(btf + size, 1, st.st_size - size, f)))
		size += got;
	fclose(f);

	h = (const void *)btf;
	TEST_ASSERT(size >= sizeof(*h) && h->magic == BTF_MAGIC, "no BTF in " VMLINUX_BTF);
	strings = btf + h->hdr_len + h->str_off;
	t = (const void *)(btf + h->hdr_len + h->type_off);
	end = (char *)t + h->type_len;
	for (; (char *)t < end; id++) {
		name = strings + t->name_off;
		if (BTF_INFO_KIND(t->info) == BTF_KIND_STRUCT) {
			if (!strcmp(name, OPS_VALUE)) {
				offset = btf_member_at(t, strings, "data");
				if (offset >= 0) {
					layout.id = id;
					layout.size = t->size;
					ops_offset = offset;
				}
			} else if (!strcmp(name, OPS)) {
				name_offset = btf_member_at(t, strings, "name");
			}
		}
		t = (const void *)((const char *)(t + 1) + btf_extra(t));
	}
	free(btf);
	if (ops_offset < 0 || name_offset < 0)
		return false;
	layout.ops_offset = ops_offset;
	layout.name_offset = name_offset;
	return true;
}

static int sys_bpf(int cmd, union bpf_attr *attr)
{
	return syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

/* Type information of this program, which the kernel wants beside its own: a lone int. */
static int btf_load(void)
{
	static const struct {
		struct btf_header header;
		struct btf_type type;
		uint32_t encoding;
		char strings[sizeof("\0int")];
	} __packed btf = {
		.header = {
			.magic = BTF_MAGIC,
			.version = BTF_VERSION,
			.hdr_len = sizeof(btf.header),
			.type_len = sizeof(btf.type) + sizeof(btf.encoding),
			.str_off = sizeof(btf.type) + sizeof(btf.encoding),
			.str_len = sizeof(btf.strings),
		},
		.type = {
			.name_off = 1,
			.info = BTF_KIND_INT << 24,
			.size = sizeof(int),
		},
		.encoding = BTF_INT_SIGNED << 24 | 8 * sizeof(int),
		.strings = "\0int",
	};
	union bpf_attr attr;
	int fd;

	memset(&attr, 0, sizeof(attr));
	attr.btf = (uintptr_t)&btf;
	attr.btf_size = sizeof(btf);
	fd = sys_bpf(BPF_BTF_LOAD, &attr);
	TEST_ASSERT(fd >= 0, "BPF_BTF_LOAD: %s", strerror(errno));
	return fd;
}

/* The scheduler, not loaded yet. */
static int scheduler_map(void)
{
	union bpf_attr attr;
	uint32_t key = 0;
	int btf, map;
	char *value;

	btf = btf_load();
	memset(&attr, 0, sizeof(attr));
	attr.map_type = BPF_MAP_TYPE_STRUCT_OPS;
	attr.key_size = sizeof(key);
	attr.value_size = layout.size;
	attr.max_entries = 1;
	attr.map_flags = BPF_F_LINK;
	attr.btf_fd = btf;
	attr.btf_vmlinux_value_type_id = layout.id;
	strcpy(attr.map_name, OPS_NAME);
	map = sys_bpf(BPF_MAP_CREATE, &attr);
	TEST_ASSERT(map >= 0, "BPF_MAP_CREATE: %s", strerror(errno));
	close(btf);

	value = calloc(1, layout.size);
	TEST_ASSERT(value, "calloc");
	strcpy(value + layout.ops_offset + layout.name_offset, OPS_NAME);
	memset(&attr, 0, sizeof(attr));
	attr.map_fd = map;
	attr.key = (uintptr_t)&key;
	attr.value = (uintptr_t)value;
	TEST_ASSERT(!sys_bpf(BPF_MAP_UPDATE_ELEM, &attr), "BPF_MAP_UPDATE_ELEM: %s",
		    strerror(errno));
	free(value);
	return map;
}

/*
 * Load it: a file that, closed, takes it out again, however this process ends. -1 with
 * errno.
 */
static int scheduler_load_map(int map)
{
	union bpf_attr attr;
	int link, e;

	memset(&attr, 0, sizeof(attr));
	attr.link_create.map_fd = map;
	attr.link_create.attach_type = BPF_STRUCT_OPS;
	link = sys_bpf(BPF_LINK_CREATE, &attr);
	e = errno;
	close(map);
	errno = e;
	return link;
}

static int scheduler_load(void)
{
	return scheduler_load_map(scheduler_map());
}

static bool state_is(const char *what)
{
	char state[32] = "";

	return excl_read_file(STATE, state, sizeof(state)) && !strcmp(state, what);
}

/* It is taken out by work of its own. */
static bool comes_to(const char *what)
{
	uint64_t end = excl_now_ns() + 10000000000ULL;

	while (!state_is(what)) {
		if (excl_now_ns() > end) {
			ksft_print_msg("the state does not become \"%s\"\n", what);
			return false;
		}
		usleep(1000);
	}
	return true;
}

static void scheduler_unload(int link)
{
	if (link >= 0)
		close(link);
}

/* A scheduler is loaded, and there is a context. */
FIXTURE(loaded) {
	struct excl_snapshot before;
	int link;
	int ctx;
};

FIXTURE_SETUP(loaded)
{
	excl_snapshot_take(&self->before);
	self->link = scheduler_load();
	ASSERT_LE(0, self->link);
	ASSERT_TRUE(comes_to("enabled"));
	self->ctx = excl_open();
	ASSERT_LE(0, self->ctx);
}

FIXTURE_TEARDOWN(loaded)
{
	scheduler_unload(self->link);
	EXPECT_TRUE(comes_to("disabled"));
	close(self->ctx);
	EXPECT_TRUE(excl_wait_free(ARRAY_SIZE(cpus)));
	excl_snapshot_free(&self->before);
}

/* Claim in vain, and be told that a scheduler is in the way. */
static bool claim_is_refused(int ctx, uint32_t flags)
{
	struct kvm_excl_claim_cpus claim;
	int r;

	r = excl_claim_for(ctx, cpus, ARRAY_SIZE(cpus), flags, 0, &claim) ? errno : 0;
	ksft_print_msg("errno %d, obstacle %u on CPU %u\n", r, claim.obstacle, claim.obstacle_cpu);
	return r == EBUSY && claim.obstacle == KVM_EXCL_OBSTACLE_SCHED_EXT &&
	       claim.obstacle_cpu == cpus[0];
}

TEST_F_TIMEOUT(loaded, has_a_claim_refused_and_is_named, EXCL_CASE_S)
{
	EXPECT_TRUE(claim_is_refused(self->ctx, 0));
}

TEST_F_TIMEOUT(loaded, has_a_claim_of_pinned_cpus_refused_too, EXCL_CASE_S)
{
	EXPECT_TRUE(claim_is_refused(self->ctx, KVM_EXCL_CLAIM_PINNED));
}

TEST_F_TIMEOUT(loaded, goes_on_beside_refused_claims, EXCL_CASE_S)
{
	ASSERT_TRUE(claim_is_refused(self->ctx, 0));
	ASSERT_TRUE(claim_is_refused(self->ctx, KVM_EXCL_CLAIM_PINNED));
	EXPECT_TRUE(state_is("enabled"));
}

TEST_F_TIMEOUT(loaded, leaves_the_host_as_it_was, EXCL_CASE_S)
{
	ASSERT_TRUE(claim_is_refused(self->ctx, 0));
	ASSERT_TRUE(claim_is_refused(self->ctx, KVM_EXCL_CLAIM_PINNED));
	scheduler_unload(self->link);
	self->link = -1;
	EXPECT_TRUE(comes_to("disabled"));
	EXPECT_TRUE(excl_snapshot_restored(&self->before));
}

TEST_F_TIMEOUT(loaded, leaves_the_cpus_to_the_same_context, EXCL_CASE_S)
{
	struct kvm_excl_claim_cpus claim;

	ASSERT_TRUE(claim_is_refused(self->ctx, 0));
	scheduler_unload(self->link);
	self->link = -1;
	ASSERT_TRUE(comes_to("disabled"));
	EXPECT_EQ(0, excl_claim_for(self->ctx, cpus, ARRAY_SIZE(cpus), 0, 0, &claim));
}

/* CPUs are owned. */
FIXTURE(owned) {
	int ctx;
	int log;
	int link;
};

FIXTURE_SETUP(owned)
{
	self->link = -1;
	self->log = excl_log_open();
	self->ctx = excl_open();
	ASSERT_EQ(0, excl_claim_first(self->ctx, ARRAY_SIZE(cpus)));
}

FIXTURE_TEARDOWN(owned)
{
	scheduler_unload(self->link);
	EXPECT_TRUE(comes_to("disabled"));
	close(self->log);
	close(self->ctx);
	EXPECT_TRUE(excl_wait_free(ARRAY_SIZE(cpus)));
}

TEST_F_TIMEOUT(owned, cpus_have_a_scheduler_refused, EXCL_CASE_S)
{
	self->link = scheduler_load();
	EXPECT_EQ(EBUSY, self->link < 0 ? errno : 0);
	EXPECT_TRUE(comes_to("disabled"));
}

TEST_F_TIMEOUT(owned, cpus_are_why_as_the_log_says, EXCL_CASE_S)
{
	self->link = scheduler_load();
	ASSERT_GT(0, self->link);
	EXPECT_NE(0, excl_log_find(self->log, "is owned"));
}

TEST_F_TIMEOUT(owned, cpus_let_it_load_and_end_after_the_release, EXCL_CASE_S)
{
	ASSERT_GT(0, scheduler_load());
	close(self->ctx);
	self->ctx = -1;
	ASSERT_TRUE(excl_wait_free(ARRAY_SIZE(cpus)));
	self->link = scheduler_load();
	EXPECT_LE(0, self->link);
	EXPECT_TRUE(comes_to("enabled"));
	scheduler_unload(self->link);
	self->link = -1;
	EXPECT_TRUE(comes_to("disabled"));
}

/* Rounds of one load and one claim, which start within this of one another. */
#define APART_US	1000

static struct {
	uint64_t round, done;		/* of the loading thread */
	bool stop;
	unsigned int wait_us;
	int map, link, error;
} loader;

static volatile typeof(loader) *const l = &loader;

static void spin_us(unsigned int us)
{
	uint64_t end = excl_now_ns() + us * 1000ULL;

	while (excl_now_ns() < end)
		cpu_relax();
}

static void *load_each_round(void *unused)
{
	uint64_t n;

	for (n = 1; ; n++) {
		while (l->round < n && !l->stop)
			cpu_relax();
		if (l->stop)
			return NULL;
		spin_us(l->wait_us);
		l->link = scheduler_load_map(l->map);
		l->error = errno;
		__atomic_store_n(&loader.done, n, __ATOMIC_RELEASE);
	}
}

static unsigned int seconds;

FIXTURE(race) {
};

FIXTURE_SETUP(race)
{
}

FIXTURE_TEARDOWN(race)
{
}

/* For some seconds: what two do at the same time takes many rounds. */
TEST_F_TIMEOUT(race, is_won_by_one_of_claim_and_scheduler, EXCL_CASE_S)
{
	uint64_t end = excl_now_ns() + seconds * 1000000000ULL;
	unsigned long claims = 0, loads = 0, neither = 0, both = 0, other = 0;
	struct kvm_excl_claim_cpus claim;
	bool claimed, loaded, ok = true;
	unsigned int apart, seed = 1;
	pthread_t thread;
	int ctx;

	TEST_ASSERT(!pthread_create(&thread, NULL, load_each_round, NULL), "pthread_create");
	while (ok && excl_now_ns() < end) {
		apart = rand_r(&seed) % (2 * APART_US);
		l->map = scheduler_map();
		l->wait_us = apart < APART_US ? APART_US - apart : 0;
		ctx = excl_open();
		__atomic_store_n(&loader.round, loader.round + 1, __ATOMIC_RELEASE);
		spin_us(apart < APART_US ? 0 : apart - APART_US);
		claimed = !excl_claim_for(ctx, cpus, ARRAY_SIZE(cpus), 0, 0, &claim);
		if (!claimed && (errno != EBUSY ||
				 claim.obstacle != KVM_EXCL_OBSTACLE_SCHED_EXT)) {
			other++;
			ksft_print_msg("errno %d, obstacle %u\n", errno, claim.obstacle);
		}
		while (__atomic_load_n(&loader.done, __ATOMIC_ACQUIRE) < loader.round)
			usleep(100);
		loaded = l->link >= 0;
		if (!loaded && l->error != EBUSY) {
			other++;
			ksft_print_msg("BPF_LINK_CREATE: %s\n", strerror(l->error));
		} else if (loaded && !state_is("enabled")) {
			other++;
			ksft_print_msg("a loaded scheduler is not enabled\n");
		}
		claims += claimed;
		loads += loaded;
		both += claimed && loaded;
		neither += !claimed && !loaded;
		scheduler_unload(l->link);
		close(ctx);
		ok = comes_to("disabled") && excl_wait_free(ARRAY_SIZE(cpus));
	}
	l->stop = true;
	pthread_join(thread, NULL);
	ksft_print_msg("%lu rounds: %lu claims, %lu loads, %lu neither, %lu both\n", l->round,
		       claims, loads, neither, both);
	/* Nothing is left of either. */
	EXPECT_TRUE(ok);
	/* Each wins now and then, never both, and there is no other error. */
	EXPECT_NE(0, claims);
	EXPECT_NE(0, loads);
	EXPECT_EQ(0, both);
	EXPECT_EQ(0, other);
}

int main(int argc, char **argv)
{
	seconds = excl_arg(argc, argv, 1, 10);
	excl_require(2);
	TEST_REQUIRE(!excl_stock());
	if (access(STATE, R_OK) || !find_layout())
		ksft_exit_skip("sched_ext is not in this kernel\n");
	return excl_harness_run(argc, argv);
}
