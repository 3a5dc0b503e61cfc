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

#include "excl.h"

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

static void result(int r, int err, int want, const char *what)
{
	if (!want)
		ksft_test_result(!r, "%s%s%s\n", what, r ? ": " : "",
				 r ? strerror(err) : "");
	else if (r == -1 && err == want)
		ksft_test_result_pass("%s: %s\n", what, strerror(want));
	else
		ksft_test_result_fail("%s: %s instead of %s\n", what,
				      r == -1 ? strerror(err) : "success",
				      strerror(want));
}

#define expect(want, call, fmt, ...)					\
({									\
	char __what[160];						\
	int __r, __err;							\
									\
	errno = 0;							\
	__r = (call);							\
	__err = errno;							\
	snprintf(__what, sizeof(__what), fmt, ##__VA_ARGS__);		\
	result(__r < 0 ? -1 : 0, __err, want, __what);			\
	__r;								\
})

static int must_open(void)
{
	int fd = excl_open();

	if (fd < 0)
		ksft_exit_fail_msg("open: %s\n", strerror(errno));
	return fd;
}

static int claimed(void)
{
	int fd = must_open();

	if (excl_claim(fd, one_cpu, 1))
		ksft_exit_fail_msg("claim: %s\n", strerror(errno));
	return fd;
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

struct ioctl_case {
	const char *name;
	unsigned long cmd;
	uint32_t size;
	int reserved;		/* offset of a reserved field, -1 when there is none */
	void (*fill)(void);
	int last;		/* errno when nothing is wrong with the struct */
};

static int vm_fd;

static void fill_none(void)
{
}

static void fill_claim(void)
{
	arg.claim.count = 1;
	arg.claim.cpus = (uintptr_t)one_cpu;
}

static void fill_bind(void)
{
	arg.bind.vm_fd = vm_fd;
}

static void fill_context(void)
{
	arg.context.count = ARRAY_SIZE(cpu_buf);
	arg.context.cpus = (uintptr_t)cpu_buf;
}

#define CASE(_name, type, _reserved, _fill)				\
	{ #_name, KVM_EXCL_##_name, sizeof(struct type), _reserved, _fill }

static const struct ioctl_case cases[] = {
	CASE(GET_INFO, kvm_excl_get_info,
	     offsetof(struct kvm_excl_get_info, reserved), fill_none),
	CASE(CLAIM_CPUS, kvm_excl_claim_cpus,
	     offsetof(struct kvm_excl_claim_cpus, reserved), fill_claim),
	CASE(ARM_VM, kvm_excl_arm_vm, -1, fill_none),
	CASE(BIND_VM, kvm_excl_bind_vm,
	     offsetof(struct kvm_excl_bind_vm, reserved), fill_bind),
	CASE(UNBIND_VM, kvm_excl_unbind_vm, -1, fill_none),
	CASE(GET_STATUS, kvm_excl_get_context,
	     offsetof(struct kvm_excl_get_context, reserved), fill_context),
	CASE(GET_CONTEXT, kvm_excl_get_context,
	     offsetof(struct kvm_excl_get_context, reserved), fill_context),
	CASE(GET_VCPU_STATUS, kvm_excl_get_vcpu_status,
	     offsetof(struct kvm_excl_get_vcpu_status, reserved), fill_none),
	/* Nothing is reserved in it, and the VM here has no device. */
	{ "GET_DEVICE_IRQ", KVM_EXCL_GET_DEVICE_IRQ,
	  sizeof(struct kvm_excl_get_device_irq), -1, fill_none, ENOENT },
};

/* What a binary passes that was built when the ioctl was new. */
static __u32 first_size(const struct ioctl_case *c)
{
	switch (c->cmd) {
	case KVM_EXCL_CLAIM_CPUS:
		return offsetof(struct kvm_excl_claim_cpus, obstacle);
	case KVM_EXCL_GET_VCPU_STATUS:
		return offsetof(struct kvm_excl_get_vcpu_status, device_storms);
	case KVM_EXCL_GET_DEVICE_IRQ:
		return offsetof(struct kvm_excl_get_device_irq, throttled);
	}
	return c->size;
}

static void fill(const struct ioctl_case *c)
{
	memset(&arg, 0, sizeof(arg));
	arg.size = c->size;
	c->fill();
}

/* What all ioctls have in common; @fd is in a state in which @c would succeed. */
static void common(const struct ioctl_case *c, int fd)
{
	fill(c);
	arg.size = first_size(c) - 4;
	expect(EINVAL, ioctl(fd, c->cmd, &arg), "%s: too small", c->name);
	if (first_size(c) != c->size) {
		/* A context claims once. */
		int other = c->cmd == KVM_EXCL_CLAIM_CPUS ? must_open() : fd;

		fill(c);
		arg.size = first_size(c);
		arg.bytes[first_size(c)] = 0xa5;
		expect(c->last, ioctl(other, c->cmd, &arg), "%s: the first version's size",
		       c->name);
		if (other != fd)
			close(other);
		ksft_test_result(arg.bytes[first_size(c)] == 0xa5,
				 "%s: nothing is written behind it\n", c->name);
	}
	fill(c);
	arg.size = 0;
	expect(EINVAL, ioctl(fd, c->cmd, &arg), "%s: size 0", c->name);
	fill(c);
	arg.flags = 1u << 8;
	expect(EINVAL, ioctl(fd, c->cmd, &arg), "%s: a flag", c->name);
	fill(c);
	arg.flags = 1u << 31;
	expect(EINVAL, ioctl(fd, c->cmd, &arg), "%s: the last flag", c->name);
	if (c->reserved >= 0) {
		fill(c);
		arg.bytes[c->reserved] = 1;
		expect(EINVAL, ioctl(fd, c->cmd, &arg), "%s: reserved", c->name);
	}
	fill(c);
	arg.size = c->size + 8;
	arg.bytes[c->size + 7] = 1;
	expect(E2BIG, ioctl(fd, c->cmd, &arg), "%s: unknown tail", c->name);
	fill(c);
	arg.size = 4096 + 8;
	expect(E2BIG, ioctl(fd, c->cmd, &arg), "%s: larger than a page", c->name);
	expect(EFAULT, ioctl(fd, c->cmd, (void *)8), "%s: bad pointer", c->name);
	fill(c);
	arg.size = c->size + 8;
	expect(c->last, ioctl(fd, c->cmd, &arg), "%s: a tail of zeroes is accepted", c->name);
}

static void test_common(struct kvm_vm *vm)
{
	unsigned int i;
	int fd;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		unsigned long cmd = cases[i].cmd;

		fd = cmd == KVM_EXCL_CLAIM_CPUS || cmd == KVM_EXCL_GET_INFO ?
			must_open() : claimed();
		if (cmd == KVM_EXCL_UNBIND_VM || cmd == KVM_EXCL_GET_VCPU_STATUS ||
		    cmd == KVM_EXCL_GET_DEVICE_IRQ) {
			if (excl_bind(fd, vm->fd, 0))
				ksft_exit_fail_msg("bind: %s\n", strerror(errno));
		}
		common(&cases[i], fd);
		close(fd);
	}
	fd = must_open();
	expect(ENOTTY, ioctl(fd, _IO(KVM_EXCL_IOC_TYPE, 0x7f), &arg), "unknown ioctl");
	expect(ENOTTY, ioctl(fd, KVM_CREATE_VM, 0), "ioctl of another device");
	close(fd);
}

static void test_open(void)
{
	expect(EPERM, without_admin(excl_open()), "open without CAP_SYS_ADMIN");
}

static void test_claim(void)
{
	uint32_t zero[] = { 0 }, twice[] = { 1, 1 }, absent[] = { 0 };
	static uint32_t many[65536];
	int a, b;

	absent[0] = get_nprocs_conf();
	a = must_open();
	memset(&arg, 0, sizeof(arg));
	arg.info.size = sizeof(arg.info);
	expect(0, ioctl(a, KVM_EXCL_GET_INFO, &arg), "GET_INFO");
	ksft_test_result(arg.info.version == KVM_EXCL_UAPI_VERSION &&
			 arg.info.supported == 1 && !arg.info.why[0] && arg.info.nr_cpus,
			 "GET_INFO: version, supported, CPUs\n");
	if (arg.info.nr_cpus < ARRAY_SIZE(many)) {
		uint32_t i, n = arg.info.nr_cpus + 1;

		for (i = 0; i < n; i++)
			many[i] = i + 1;
		expect(EINVAL, excl_claim(a, many, n), "CLAIM_CPUS: too many");
	}
	expect(EINVAL, excl_claim(a, one_cpu, 0), "CLAIM_CPUS: none");
	expect(EINVAL, excl_claim(a, twice, 2), "CLAIM_CPUS: one twice");
	expect(EINVAL, excl_claim(a, absent, 1), "CLAIM_CPUS: offline");
	expect(EFAULT, excl_claim(a, (void *)8, 1), "CLAIM_CPUS: bad list");
	expect(EPERM, excl_claim(a, zero, 1), "CLAIM_CPUS: CPU 0");
	expect(0, excl_claim(a, one_cpu, 1), "CLAIM_CPUS: after all that");
	expect(EBUSY, excl_claim(a, other_cpu, 1), "CLAIM_CPUS: a second time");
	b = must_open();
	expect(EBUSY, excl_claim(b, one_cpu, 1), "CLAIM_CPUS: of another context");
	expect(0, excl_claim(b, other_cpu, 1), "CLAIM_CPUS: two contexts");
	close(a);
	close(b);
}

static void test_arm_and_bind(struct kvm_vm *vm)
{
	int a, b, null = open("/dev/null", O_RDWR | O_CLOEXEC), kvm, fd;
	struct pollfd p;

	a = must_open();
	expect(ENXIO, excl_arm(a, 0), "ARM_VM: no CPUs");
	expect(ENXIO, excl_bind(a, vm->fd, 0), "BIND_VM: no CPUs");
	expect(ENXIO, excl_unbind(a), "UNBIND_VM: no VM");
	close(a);

	a = claimed();
	b = must_open();
	excl_claim(b, other_cpu, 1);
	expect(ENXIO, excl_unbind(a), "UNBIND_VM: CPUs, but no VM");
	expect(EBADF, excl_bind(a, -1, 0), "BIND_VM: no file");
	expect(EINVAL, excl_bind(a, null, 0), "BIND_VM: no VM");
	expect(EINVAL, excl_bind(a, vm->kvm_fd, 0), "BIND_VM: /dev/kvm itself");
	expect(0, excl_arm(a, 0), "ARM_VM");
	expect(EBUSY, excl_arm(a, 0), "ARM_VM: armed already");
	expect(EBUSY, excl_bind(a, vm->fd, 0), "BIND_VM: armed");
	expect(EBUSY, excl_arm(b, 0), "ARM_VM: another context for this process");
	expect(0, excl_unbind(a), "UNBIND_VM: disarms");
	expect(0, excl_bind(a, vm->fd, 0), "BIND_VM");
	expect(EBUSY, excl_arm(a, 0), "ARM_VM: has a VM");
	expect(EBUSY, excl_bind(a, vm->fd, 0), "BIND_VM: has this VM");
	expect(EBUSY, excl_bind(b, vm->fd, 0), "BIND_VM: the VM has a context");
	expect(0, excl_unbind(a), "UNBIND_VM");
	expect(0, excl_bind(b, vm->fd, 0), "BIND_VM: to the other context");
	close(b);

	/* Armed: the next VM is bound, and poll() tells its end. */
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	expect(0, excl_arm(a, 0), "ARM_VM: once more");
	fd = ioctl(kvm, KVM_CREATE_VM, 0);
	memset(&arg, 0, sizeof(arg));
	arg.size = sizeof(arg.context);
	fill_context();
	expect(0, ioctl(a, KVM_EXCL_GET_STATUS, &arg), "GET_STATUS");
	ksft_print_msg("state %u, error %u, pid %d, VM's pid %d, count %u, CPU %u\n",
		       arg.context.state, arg.context.error, arg.context.pid,
		       arg.context.vm_pid, arg.context.count, cpu_buf[0]);
	ksft_test_result(fd >= 0 && arg.context.state == KVM_EXCL_STATE_BOUND &&
			 arg.context.id && arg.context.count == 1 &&
			 cpu_buf[0] == one_cpu[0] && arg.context.pid == getpid() &&
			 arg.context.vm_pid == getpid(),
			 "an armed context gets the next VM\n");
	p = (struct pollfd){ .fd = a, .events = POLLIN };
	ksft_test_result(!poll(&p, 1, 0) || !(p.revents & POLLHUP),
			 "poll: no hang-up while there is a VM\n");
	close(fd);
	ksft_test_result(poll(&p, 1, 5000) == 1 && (p.revents & POLLHUP),
			 "poll: hang-up when the VM is gone\n");
	close(kvm);
	close(null);
	close(a);
}

static int get_context(int fd, uint64_t id)
{
	memset(&arg, 0, sizeof(arg));
	arg.size = sizeof(arg.context);
	fill_context();
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

static void test_status(struct kvm_vm *vm)
{
	int a = claimed(), b = must_open();
	uint64_t id;

	expect(0, get_context(b, 0), "GET_CONTEXT: the first");
	id = arg.context.id;
	/* The first in order is @a: it was opened first. */
	ksft_test_result(id && arg.context.state == KVM_EXCL_STATE_CLAIMED &&
			 arg.context.count == 1, "GET_CONTEXT: finds it\n");
	expect(EPERM, without_admin(get_context(b, 0)),
	       "GET_CONTEXT without CAP_SYS_ADMIN");
	expect(ENOENT, get_context(b, ~0ULL), "GET_CONTEXT: none so high");

	expect(ENXIO, get_status(a, 0, 0), "GET_VCPU_STATUS: no VM");
	expect(ENXIO, get_device_irq(a, 0, 0), "GET_DEVICE_IRQ: no VM");
	expect(0, excl_bind(a, vm->fd, 0), "BIND_VM");
	expect(0, get_status(a, 0, 0), "GET_VCPU_STATUS: own");
	ksft_test_result(arg.status.cpu == -1 && !arg.status.attached,
			 "GET_VCPU_STATUS: a vCPU that has not run has no CPU\n");
	expect(0, get_status(b, id, 0), "GET_VCPU_STATUS: another's");
	expect(ENOENT, get_status(a, 0, 1), "GET_VCPU_STATUS: no such vCPU");
	expect(ENOENT, get_status(b, ~0ULL, 0), "GET_VCPU_STATUS: no such context");
	expect(EPERM, without_admin(get_status(b, id, 0)),
	       "GET_VCPU_STATUS: another's without CAP_SYS_ADMIN");
	expect(0, without_admin(get_status(a, 0, 0)),
	       "GET_VCPU_STATUS: own without CAP_SYS_ADMIN");
	expect(ENOENT, get_device_irq(a, 0, 0), "GET_DEVICE_IRQ: no such interrupt");
	expect(ENOENT, get_device_irq(b, ~0ULL, 0), "GET_DEVICE_IRQ: no such context");
	expect(EPERM, without_admin(get_device_irq(b, id, 0)),
	       "GET_DEVICE_IRQ: another's without CAP_SYS_ADMIN");
	close(a);
	expect(ENOENT, get_status(b, id, 0), "GET_VCPU_STATUS: of a closed context");
	close(b);
}

static void guest_code(void)
{
	GUEST_DONE();
}

int main(int argc, char **argv)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	ksft_print_header();
	if (excl_stock())
		ksft_exit_skip("not exclusive\n");
	excl_require(2);
	ksft_set_plan(140);

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	vm_fd = vm->fd;
	test_open();
	test_common(vm);
	test_claim();
	test_arm_and_bind(vm);
	test_status(vm);
	kvm_vm_free(vm);

	ksft_print_msg("CLAIM_CPUS and BIND_VM: EOPNOTSUPP needs another host, or a protected guest\n");
	ksft_finished();
}
