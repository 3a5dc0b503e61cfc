// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prove that the UAPI does what its header says: every documented errno, with
 * input that is valid but for one thing, and that nothing has changed then; and
 * that what should be accepted is.
 */
#include <linux/capability.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>

#include "harness.h"

/* Larger than any struct of the UAPI, and than a page. */
static union {
	struct {
		uint32_t size, flags;
	};
	struct kvm_excl_get_info info;
	struct kvm_excl_claim_cpus claim;
	struct kvm_excl_arm_vm arm;
	struct kvm_excl_bind_vm bind;
	struct kvm_excl_unbind_vm unbind;
	struct kvm_excl_get_context context;
	struct kvm_excl_get_vcpu_status status;
	struct kvm_excl_get_device_irq device_irq;
	uint8_t bytes[8192];
} arg;

static uint32_t one_cpu[] = { EXCL_FIRST_CPU };
static uint32_t other_cpu[] = { EXCL_FIRST_CPU + 1 };
static uint32_t cpu_buf[16];

/* The errno of @call is @want, 0 when it is to succeed; the rest says what it was about. */
#define EXPECT_ERRNO(want, call, fmt, ...)				\
do {									\
	int __err;							\
									\
	errno = 0;							\
	__err = (call) < 0 ? errno : 0;					\
	EXPECT_EQ(want, __err) {					\
		TH_LOG(fmt ": %s instead of %s", ##__VA_ARGS__,		\
		       strerror(__err), strerror(want));		\
	}								\
} while (0)

static int must_open(void)
{
	int fd = excl_open();

	TEST_ASSERT(fd >= 0, "open: %s", strerror(errno));
	return fd;
}

static int claimed(void)
{
	int fd = must_open();

	TEST_ASSERT(!excl_claim(fd, one_cpu, 1), "claim: %s", strerror(errno));
	return fd;
}

static void guest_code(void)
{
	GUEST_DONE();
}

static struct kvm_vm *create_vm(void)
{
	struct kvm_vcpu *vcpu;

	return vm_create_with_one_vcpu(&vcpu, guest_code);
}

static void drop_admin(void)
{
	struct __user_cap_header_struct hdr = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &hdr, data))
		_exit(1);
	data[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective &= ~CAP_TO_MASK(CAP_SYS_ADMIN);
	if (syscall(SYS_capset, &hdr, data))
		_exit(1);
}

/* The errno of @call in a process without CAP_SYS_ADMIN, 0 when it succeeds. */
#define without_admin(call)						\
({									\
	int __status;							\
	pid_t __pid = fork();						\
									\
	if (!__pid) {							\
		drop_admin();						\
		_exit((call) < 0 ? errno : 0);				\
	}								\
	waitpid(__pid, &__status, 0);					\
	errno = WEXITSTATUS(__status);					\
	errno ? -1 : 0;							\
})

/**
 * struct ioctl_case - an ioctl, and what makes it succeed
 * @size: of its struct
 * @first_size: what a binary passes that was built when the ioctl was new, 0: the same
 * @reserved: offset of a reserved field, 0 when there is none
 * @fill: sets what is to be in the struct, besides its size
 * @claimed: the context is to have CPUs
 * @bound: and a VM
 * @last: errno when nothing is wrong with the struct
 */
struct ioctl_case {
	const char *name;
	unsigned long cmd;
	uint32_t size;
	uint32_t first_size;
	uint32_t reserved;
	void (*fill)(struct kvm_vm *vm);
	bool claimed;
	bool bound;
	int last;
};

static void fill_none(struct kvm_vm *vm)
{
}

static void fill_claim(struct kvm_vm *vm)
{
	arg.claim.count = 1;
	arg.claim.cpus = (uintptr_t)one_cpu;
}

static void fill_bind(struct kvm_vm *vm)
{
	arg.bind.vm_fd = vm->fd;
}

static void fill_context(struct kvm_vm *vm)
{
	arg.context.count = ARRAY_SIZE(cpu_buf);
	arg.context.cpus = (uintptr_t)cpu_buf;
}

#define IOCTL(_name, type)						\
	.name = #_name, .cmd = KVM_EXCL_##_name, .size = sizeof(struct type)

static const struct ioctl_case get_info_ioctl = {
	IOCTL(GET_INFO, kvm_excl_get_info),
	.reserved = offsetof(struct kvm_excl_get_info, reserved),
	.fill = fill_none,
};

static const struct ioctl_case claim_cpus_ioctl = {
	IOCTL(CLAIM_CPUS, kvm_excl_claim_cpus),
	.first_size = offsetof(struct kvm_excl_claim_cpus, obstacle),
	.reserved = offsetof(struct kvm_excl_claim_cpus, reserved),
	.fill = fill_claim,
};

static const struct ioctl_case arm_vm_ioctl = {
	IOCTL(ARM_VM, kvm_excl_arm_vm),
	.fill = fill_none,
	.claimed = true,
};

static const struct ioctl_case bind_vm_ioctl = {
	IOCTL(BIND_VM, kvm_excl_bind_vm),
	.reserved = offsetof(struct kvm_excl_bind_vm, reserved),
	.fill = fill_bind,
	.claimed = true,
};

static const struct ioctl_case unbind_vm_ioctl = {
	IOCTL(UNBIND_VM, kvm_excl_unbind_vm),
	.fill = fill_none,
	.claimed = true,
	.bound = true,
};

static const struct ioctl_case get_status_ioctl = {
	IOCTL(GET_STATUS, kvm_excl_get_context),
	.reserved = offsetof(struct kvm_excl_get_context, reserved),
	.fill = fill_context,
	.claimed = true,
};

static const struct ioctl_case get_context_ioctl = {
	IOCTL(GET_CONTEXT, kvm_excl_get_context),
	.reserved = offsetof(struct kvm_excl_get_context, reserved),
	.fill = fill_context,
	.claimed = true,
};

static const struct ioctl_case get_vcpu_status_ioctl = {
	IOCTL(GET_VCPU_STATUS, kvm_excl_get_vcpu_status),
	.first_size = offsetof(struct kvm_excl_get_vcpu_status, device_storms),
	.reserved = offsetof(struct kvm_excl_get_vcpu_status, reserved),
	.fill = fill_none,
	.claimed = true,
	.bound = true,
};

/* Nothing is reserved in it, and the VM here has no device. */
static const struct ioctl_case get_device_irq_ioctl = {
	IOCTL(GET_DEVICE_IRQ, kvm_excl_get_device_irq),
	.first_size = offsetof(struct kvm_excl_get_device_irq, throttled),
	.fill = fill_none,
	.claimed = true,
	.bound = true,
	.last = ENOENT,
};

static void fill(const struct ioctl_case *c, struct kvm_vm *vm)
{
	memset(&arg, 0, sizeof(arg));
	arg.size = c->size;
	c->fill(vm);
}

/* A context in a state in which the ioctl would succeed. */
static int context_for(const struct ioctl_case *c, struct kvm_vm *vm)
{
	int fd = c->claimed ? claimed() : must_open();

	TEST_ASSERT(!c->bound || !excl_bind(fd, vm->fd, 0), "bind: %s", strerror(errno));
	return fd;
}

/* What all ioctls have in common. */
FIXTURE(ioctl) {
	struct kvm_vm *vm;
	int fd;
};

FIXTURE_VARIANT(ioctl) {
	const struct ioctl_case *c;
};

FIXTURE_VARIANT_ADD(ioctl, get_info) { .c = &get_info_ioctl };
FIXTURE_VARIANT_ADD(ioctl, claim_cpus) { .c = &claim_cpus_ioctl };
FIXTURE_VARIANT_ADD(ioctl, arm_vm) { .c = &arm_vm_ioctl };
FIXTURE_VARIANT_ADD(ioctl, bind_vm) { .c = &bind_vm_ioctl };
FIXTURE_VARIANT_ADD(ioctl, unbind_vm) { .c = &unbind_vm_ioctl };
FIXTURE_VARIANT_ADD(ioctl, get_status) { .c = &get_status_ioctl };
FIXTURE_VARIANT_ADD(ioctl, get_context) { .c = &get_context_ioctl };
FIXTURE_VARIANT_ADD(ioctl, get_vcpu_status) { .c = &get_vcpu_status_ioctl };
FIXTURE_VARIANT_ADD(ioctl, get_device_irq) { .c = &get_device_irq_ioctl };

FIXTURE_SETUP(ioctl)
{
	/* One for each case of each ioctl would take a slow host some time. */
	if (variant->c->bound || variant->c->cmd == KVM_EXCL_BIND_VM)
		self->vm = create_vm();
	self->fd = context_for(variant->c, self->vm);
}

FIXTURE_TEARDOWN(ioctl)
{
	close(self->fd);
	if (self->vm)
		kvm_vm_free(self->vm);
}

/* Then it succeeds, so nothing has changed. */
TEST_F_TIMEOUT(ioctl, refuses_bad_input_and_changes_nothing, EXCL_CASE_S)
{
	const struct ioctl_case *c = variant->c;

	fill(c, self->vm);
	arg.size = (c->first_size ?: c->size) - 4;
	EXPECT_ERRNO(EINVAL, ioctl(self->fd, c->cmd, &arg), "%s: too small", c->name);
	fill(c, self->vm);
	arg.size = 0;
	EXPECT_ERRNO(EINVAL, ioctl(self->fd, c->cmd, &arg), "%s: size 0", c->name);
	fill(c, self->vm);
	arg.flags = 1u << 8;
	EXPECT_ERRNO(EINVAL, ioctl(self->fd, c->cmd, &arg), "%s: a flag", c->name);
	fill(c, self->vm);
	arg.flags = 1u << 31;
	EXPECT_ERRNO(EINVAL, ioctl(self->fd, c->cmd, &arg), "%s: the last flag", c->name);
	if (c->reserved) {
		fill(c, self->vm);
		arg.bytes[c->reserved] = 1;
		EXPECT_ERRNO(EINVAL, ioctl(self->fd, c->cmd, &arg), "%s: reserved", c->name);
	}
	fill(c, self->vm);
	arg.size = c->size + 8;
	arg.bytes[c->size + 7] = 1;
	EXPECT_ERRNO(E2BIG, ioctl(self->fd, c->cmd, &arg), "%s: unknown tail", c->name);
	fill(c, self->vm);
	arg.size = 4096 + 8;
	EXPECT_ERRNO(E2BIG, ioctl(self->fd, c->cmd, &arg), "%s: larger than a page", c->name);
	EXPECT_ERRNO(EFAULT, ioctl(self->fd, c->cmd, (void *)8), "%s: bad pointer", c->name);
	fill(c, self->vm);
	arg.size = c->size + 8;
	EXPECT_ERRNO(c->last, ioctl(self->fd, c->cmd, &arg), "%s: a tail of zeroes is accepted",
		     c->name);
}

/* Those whose struct has grown. */
FIXTURE(grown_ioctl) {
	struct kvm_vm *vm;
	int fd;
};

FIXTURE_VARIANT(grown_ioctl) {
	const struct ioctl_case *c;
};

FIXTURE_VARIANT_ADD(grown_ioctl, claim_cpus) { .c = &claim_cpus_ioctl };
FIXTURE_VARIANT_ADD(grown_ioctl, get_vcpu_status) { .c = &get_vcpu_status_ioctl };
FIXTURE_VARIANT_ADD(grown_ioctl, get_device_irq) { .c = &get_device_irq_ioctl };

FIXTURE_SETUP(grown_ioctl)
{
	self->vm = create_vm();
	self->fd = context_for(variant->c, self->vm);
}

FIXTURE_TEARDOWN(grown_ioctl)
{
	close(self->fd);
	kvm_vm_free(self->vm);
}

TEST_F_TIMEOUT(grown_ioctl, takes_the_first_size_and_writes_no_more, EXCL_CASE_S)
{
	const struct ioctl_case *c = variant->c;

	fill(c, self->vm);
	arg.size = c->first_size;
	arg.bytes[c->first_size] = 0xa5;
	EXPECT_ERRNO(c->last, ioctl(self->fd, c->cmd, &arg), "%s: the first version's size",
		     c->name);
	EXPECT_EQ(0xa5, arg.bytes[c->first_size]);
}

TEST(unknown_ioctls)
{
	int fd = must_open();

	EXPECT_ERRNO(ENOTTY, ioctl(fd, _IO(KVM_EXCL_IOC_TYPE, 0x7f), &arg), "unknown");
	EXPECT_ERRNO(ENOTTY, ioctl(fd, KVM_CREATE_VM, 0), "of another device");
	close(fd);
}

TEST(open_without_cap_sys_admin)
{
	EXPECT_ERRNO(EPERM, without_admin(excl_open()), "open without CAP_SYS_ADMIN");
}

/* Two contexts that have claimed nothing. */
FIXTURE(claim) {
	int a;
	int b;
};

FIXTURE_SETUP(claim)
{
	self->a = must_open();
	self->b = must_open();
}

FIXTURE_TEARDOWN(claim)
{
	close(self->a);
	close(self->b);
}

TEST_F_TIMEOUT(claim, info_tells_version_and_cpus, EXCL_CASE_S)
{
	memset(&arg, 0, sizeof(arg));
	arg.info.size = sizeof(arg.info);
	EXPECT_ERRNO(0, ioctl(self->a, KVM_EXCL_GET_INFO, &arg), "GET_INFO");
	EXPECT_EQ(KVM_EXCL_UAPI_VERSION, arg.info.version);
	EXPECT_EQ(1, arg.info.supported);
	EXPECT_EQ(0, arg.info.why[0]);
	EXPECT_NE(0, arg.info.nr_cpus);
}

TEST_F_TIMEOUT(claim, refuses_bad_lists_and_changes_nothing, EXCL_CASE_S)
{
	uint32_t zero[] = { 0 }, twice[] = { 1, 1 }, absent[] = { get_nprocs_conf() }, i, n;
	static uint32_t many[65536];

	memset(&arg, 0, sizeof(arg));
	arg.info.size = sizeof(arg.info);
	EXPECT_ERRNO(0, ioctl(self->a, KVM_EXCL_GET_INFO, &arg), "GET_INFO");
	n = arg.info.nr_cpus + 1;
	if (n <= ARRAY_SIZE(many)) {
		for (i = 0; i < n; i++)
			many[i] = i + 1;
		EXPECT_ERRNO(EINVAL, excl_claim(self->a, many, n), "too many");
	}
	EXPECT_ERRNO(EINVAL, excl_claim(self->a, one_cpu, 0), "none");
	EXPECT_ERRNO(EINVAL, excl_claim(self->a, twice, 2), "one twice");
	EXPECT_ERRNO(EINVAL, excl_claim(self->a, absent, 1), "offline");
	EXPECT_ERRNO(EFAULT, excl_claim(self->a, (void *)8, 1), "bad list");
	EXPECT_ERRNO(EPERM, excl_claim(self->a, zero, 1), "CPU 0");
	EXPECT_ERRNO(0, excl_claim(self->a, one_cpu, 1), "after all that");
}

TEST_F_TIMEOUT(claim, a_context_claims_once, EXCL_CASE_S)
{
	EXPECT_ERRNO(0, excl_claim(self->a, one_cpu, 1), "the first time");
	EXPECT_ERRNO(EBUSY, excl_claim(self->a, other_cpu, 1), "a second time");
}

TEST_F_TIMEOUT(claim, two_contexts_have_cpus_of_their_own, EXCL_CASE_S)
{
	EXPECT_ERRNO(0, excl_claim(self->a, one_cpu, 1), "the first context");
	EXPECT_ERRNO(EBUSY, excl_claim(self->b, one_cpu, 1), "the same CPU");
	EXPECT_ERRNO(0, excl_claim(self->b, other_cpu, 1), "another CPU");
}

TEST_F_TIMEOUT(claim, nothing_is_armed_or_bound_without_cpus, EXCL_CASE_S)
{
	struct kvm_vm *vm = create_vm();

	EXPECT_ERRNO(ENXIO, excl_arm(self->a, 0), "ARM_VM");
	EXPECT_ERRNO(ENXIO, excl_bind(self->a, vm->fd, 0), "BIND_VM");
	EXPECT_ERRNO(ENXIO, excl_unbind(self->a), "UNBIND_VM");
	kvm_vm_free(vm);
}

/* Two contexts, of which one has a CPU, and a VM. */
FIXTURE(vm) {
	struct kvm_vm *vm;
	int a;
	int b;
};

FIXTURE_SETUP(vm)
{
	self->vm = create_vm();
	self->a = claimed();
	self->b = must_open();
}

FIXTURE_TEARDOWN(vm)
{
	close(self->a);
	close(self->b);
	kvm_vm_free(self->vm);
}

TEST_F_TIMEOUT(vm, unbind_without_one, EXCL_CASE_S)
{
	EXPECT_ERRNO(ENXIO, excl_unbind(self->a), "UNBIND_VM: CPUs, but no VM");
}

TEST_F_TIMEOUT(vm, bind_takes_nothing_else, EXCL_CASE_S)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	EXPECT_ERRNO(EBADF, excl_bind(self->a, -1, 0), "no file");
	EXPECT_ERRNO(EINVAL, excl_bind(self->a, null, 0), "no VM");
	EXPECT_ERRNO(EINVAL, excl_bind(self->a, self->vm->kvm_fd, 0), "/dev/kvm itself");
	EXPECT_ERRNO(0, excl_bind(self->a, self->vm->fd, 0), "after all that");
	close(null);
}

TEST_F_TIMEOUT(vm, armed_once, EXCL_CASE_S)
{
	ASSERT_EQ(0, excl_claim(self->b, other_cpu, 1));
	EXPECT_ERRNO(0, excl_arm(self->a, 0), "ARM_VM");
	EXPECT_ERRNO(EBUSY, excl_arm(self->a, 0), "ARM_VM: armed already");
	EXPECT_ERRNO(EBUSY, excl_bind(self->a, self->vm->fd, 0), "BIND_VM: armed");
	EXPECT_ERRNO(EBUSY, excl_arm(self->b, 0), "ARM_VM: another context for this process");
	EXPECT_ERRNO(0, excl_unbind(self->a), "UNBIND_VM: disarms");
	EXPECT_ERRNO(0, excl_bind(self->a, self->vm->fd, 0), "BIND_VM: not armed any more");
}

TEST_F_TIMEOUT(vm, bound_to_one_context, EXCL_CASE_S)
{
	ASSERT_EQ(0, excl_claim(self->b, other_cpu, 1));
	EXPECT_ERRNO(0, excl_bind(self->a, self->vm->fd, 0), "BIND_VM");
	EXPECT_ERRNO(EBUSY, excl_arm(self->a, 0), "ARM_VM: has a VM");
	EXPECT_ERRNO(EBUSY, excl_bind(self->a, self->vm->fd, 0), "BIND_VM: has this VM");
	EXPECT_ERRNO(EBUSY, excl_bind(self->b, self->vm->fd, 0), "BIND_VM: the VM has a context");
	EXPECT_ERRNO(0, excl_unbind(self->a), "UNBIND_VM");
	EXPECT_ERRNO(0, excl_bind(self->b, self->vm->fd, 0), "BIND_VM: to the other context");
}

/* A context that was bound and is armed now, and the VM that is created then. */
FIXTURE(next_vm) {
	int ctx;
	int kvm;
	int fd;
};

FIXTURE_SETUP(next_vm)
{
	struct kvm_vm *vm = create_vm();

	self->ctx = claimed();
	ASSERT_EQ(0, excl_bind(self->ctx, vm->fd, 0));
	ASSERT_EQ(0, excl_unbind(self->ctx));
	kvm_vm_free(vm);
	self->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	EXPECT_ERRNO(0, excl_arm(self->ctx, 0), "ARM_VM: once more");
	self->fd = ioctl(self->kvm, KVM_CREATE_VM, 0);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(next_vm)
{
	if (self->fd >= 0)
		close(self->fd);
	close(self->kvm);
	close(self->ctx);
}

TEST_F_TIMEOUT(next_vm, is_the_armed_contexts, EXCL_CASE_S)
{
	memset(&arg, 0, sizeof(arg));
	arg.size = sizeof(arg.context);
	fill_context(NULL);
	EXPECT_ERRNO(0, ioctl(self->ctx, KVM_EXCL_GET_STATUS, &arg), "GET_STATUS");
	ksft_print_msg("state %u, error %u, pid %d, VM's pid %d, count %u, CPU %u\n",
		       arg.context.state, arg.context.error, arg.context.pid,
		       arg.context.vm_pid, arg.context.count, cpu_buf[0]);
	EXPECT_EQ(KVM_EXCL_STATE_BOUND, arg.context.state);
	EXPECT_NE(0, arg.context.id);
	EXPECT_EQ(1, arg.context.count);
	EXPECT_EQ(one_cpu[0], cpu_buf[0]);
	EXPECT_EQ(getpid(), arg.context.pid);
	EXPECT_EQ(getpid(), arg.context.vm_pid);
}

TEST_F_TIMEOUT(next_vm, poll_hangs_up_when_it_is_gone, EXCL_CASE_S)
{
	struct pollfd p = { .fd = self->ctx, .events = POLLIN };

	EXPECT_TRUE(!poll(&p, 1, 0) || !(p.revents & POLLHUP));
	close(self->fd);
	self->fd = -1;
	EXPECT_EQ(1, poll(&p, 1, 5000));
	EXPECT_TRUE(p.revents & POLLHUP);
}

static int get_context(int fd, uint64_t id)
{
	memset(&arg, 0, sizeof(arg));
	arg.size = sizeof(arg.context);
	fill_context(NULL);
	arg.context.id = id;
	return ioctl(fd, KVM_EXCL_GET_CONTEXT, &arg);
}

static int get_status(int fd, uint64_t id, uint32_t index)
{
	memset(&arg, 0, sizeof(arg));
	arg.size = sizeof(arg.status);
	arg.status.id = id;
	arg.status.index = index;
	return ioctl(fd, KVM_EXCL_GET_VCPU_STATUS, &arg);
}

static int get_device_irq(int fd, uint64_t id, uint32_t index)
{
	memset(&arg, 0, sizeof(arg));
	arg.size = sizeof(arg.device_irq);
	arg.device_irq.id = id;
	arg.device_irq.index = index;
	return ioctl(fd, KVM_EXCL_GET_DEVICE_IRQ, &arg);
}

/* @a has CPUs, @b asks about it. */
FIXTURE(status) {
	struct kvm_vm *vm;
	int a;
	int b;
	uint64_t id;
};

FIXTURE_SETUP(status)
{
	self->vm = create_vm();
	self->a = claimed();
	self->b = must_open();
	/* The first in order is @a: it was opened first. */
	ASSERT_EQ(0, get_context(self->b, 0));
	self->id = arg.context.id;
}

FIXTURE_TEARDOWN(status)
{
	if (self->a >= 0)
		close(self->a);
	close(self->b);
	kvm_vm_free(self->vm);
}

TEST_F_TIMEOUT(status, context_is_found, EXCL_CASE_S)
{
	EXPECT_NE(0, self->id);
	EXPECT_EQ(KVM_EXCL_STATE_CLAIMED, arg.context.state);
	EXPECT_EQ(1, arg.context.count);
	EXPECT_ERRNO(EPERM, without_admin(get_context(self->b, 0)), "without CAP_SYS_ADMIN");
	EXPECT_ERRNO(ENOENT, get_context(self->b, ~0ULL), "none so high");
}

TEST_F_TIMEOUT(status, no_vm, EXCL_CASE_S)
{
	EXPECT_ERRNO(ENXIO, get_status(self->a, 0, 0), "GET_VCPU_STATUS");
	EXPECT_ERRNO(ENXIO, get_device_irq(self->a, 0, 0), "GET_DEVICE_IRQ");
}

TEST_F_TIMEOUT(status, of_a_vcpu, EXCL_CASE_S)
{
	EXPECT_ERRNO(0, excl_bind(self->a, self->vm->fd, 0), "BIND_VM");
	EXPECT_ERRNO(0, get_status(self->a, 0, 0), "own");
	/* It has not run. */
	EXPECT_EQ(-1, arg.status.cpu);
	EXPECT_EQ(0, arg.status.attached);
	EXPECT_ERRNO(0, get_status(self->b, self->id, 0), "another's");
	EXPECT_ERRNO(ENOENT, get_status(self->a, 0, 1), "no such vCPU");
	EXPECT_ERRNO(ENOENT, get_status(self->b, ~0ULL, 0), "no such context");
	EXPECT_ERRNO(EPERM, without_admin(get_status(self->b, self->id, 0)),
		     "another's without CAP_SYS_ADMIN");
	EXPECT_ERRNO(0, without_admin(get_status(self->a, 0, 0)), "own without CAP_SYS_ADMIN");
}

TEST_F_TIMEOUT(status, of_a_device_interrupt, EXCL_CASE_S)
{
	EXPECT_ERRNO(0, excl_bind(self->a, self->vm->fd, 0), "BIND_VM");
	EXPECT_ERRNO(ENOENT, get_device_irq(self->a, 0, 0), "no such interrupt");
	EXPECT_ERRNO(ENOENT, get_device_irq(self->b, ~0ULL, 0), "no such context");
	EXPECT_ERRNO(EPERM, without_admin(get_device_irq(self->b, self->id, 0)),
		     "another's without CAP_SYS_ADMIN");
}

TEST_F_TIMEOUT(status, of_a_closed_context, EXCL_CASE_S)
{
	EXPECT_ERRNO(0, excl_bind(self->a, self->vm->fd, 0), "BIND_VM");
	EXPECT_ERRNO(0, get_status(self->b, self->id, 0), "it is there");
	close(self->a);
	self->a = -1;
	EXPECT_ERRNO(ENOENT, get_status(self->b, self->id, 0), "it is closed");
}

int main(int argc, char **argv)
{
	if (excl_stock())
		ksft_exit_skip("not exclusive\n");
	excl_require(2);
	ksft_print_msg("CLAIM_CPUS and BIND_VM: EOPNOTSUPP needs another host, or a protected guest\n");
	return excl_harness_run(argc, argv);
}
