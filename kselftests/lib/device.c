// SPDX-License-Identifier: GPL-2.0-only
/* An assigned device: QEMU's "edu", by VFIO; see device.h. */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <linux/vfio.h>

#include "device.h"

#define EDU_VENDOR	"0x1234"
#define EDU_DEVICE	"0x11e8"

#define PCI_COMMAND		4
#define PCI_COMMAND_MEMORY	2
#define PCI_COMMAND_MASTER	4

#define SYS_PCI		"/sys/bus/pci/devices"

static bool pci_line(const char *bdf, const char *file, char *line, size_t size)
{
	char path[512];

	snprintf(path, sizeof(path), SYS_PCI "/%s/%s", bdf, file);
	return excl_read_file(path, line, size);
}

static bool find_edu(char *bdf, size_t size)
{
	struct dirent *e;
	char line[64];
	bool found = false;
	DIR *dir = opendir(SYS_PCI);

	while (dir && !found && (e = readdir(dir))) {
		if (e->d_name[0] == '.' ||
		    !pci_line(e->d_name, "vendor", line, sizeof(line)) ||
		    strncmp(line, EDU_VENDOR, strlen(EDU_VENDOR)) ||
		    !pci_line(e->d_name, "device", line, sizeof(line)) ||
		    strncmp(line, EDU_DEVICE, strlen(EDU_DEVICE)))
			continue;
		found = (size_t)snprintf(bdf, size, "%s", e->d_name) < size;
	}
	if (dir)
		closedir(dir);
	return found;
}

void excl_device_require(void)
{
	char bdf[32], path[128];

	if (!find_edu(bdf, sizeof(bdf)))
		ksft_exit_skip("no device edu; QEMU makes one with -device edu\n");
	snprintf(path, sizeof(path), SYS_PCI "/%s/iommu_group", bdf);
	if (access(path, F_OK))
		ksft_exit_skip("device %s is behind no IOMMU\n", bdf);
}

static void bind_to_vfio(const char *bdf)
{
	char path[128], target[256];
	ssize_t n;
	int r;

	snprintf(path, sizeof(path), SYS_PCI "/%s/driver", bdf);
	n = readlink(path, target, sizeof(target) - 1);
	target[n > 0 ? n : 0] = 0;
	if (strstr(target, "/vfio-pci"))
		return;
	snprintf(path, sizeof(path), SYS_PCI "/%s/driver/unbind", bdf);
	if (n > 0)
		TEST_ASSERT(!excl_write_file(path, bdf), "%s does not let go of %s", target,
			    bdf);
	snprintf(path, sizeof(path), SYS_PCI "/%s/driver_override", bdf);
	TEST_ASSERT(!excl_write_file(path, "vfio-pci"), "%s", path);
	r = excl_write_file("/sys/bus/pci/drivers_probe", bdf);
	TEST_ASSERT(!r, "drivers_probe: %s", strerror(r));
}

static void vfio_ioctl(int fd, unsigned long cmd, const char *name, void *arg)
{
	int r = ioctl(fd, cmd, arg);

	TEST_ASSERT(r >= 0, "%s: %s", name, strerror(errno));
}

#define vfio_ioctl(fd, cmd, arg)	vfio_ioctl(fd, cmd, #cmd, (void *)(arg))

/* Have VFIO signal this eventfd for this kind of interrupt, or (-1) have none of it. */
static void set_trigger(struct excl_device *d, unsigned int index, int fd)
{
	bool on = fd >= 0;
	struct {
		struct vfio_irq_set set;
		int32_t fd;
	} irqs = {
		.set = {
			.argsz = on ? sizeof(irqs) : sizeof(irqs.set),
			.flags = VFIO_IRQ_SET_ACTION_TRIGGER |
				 (on ? VFIO_IRQ_SET_DATA_EVENTFD : VFIO_IRQ_SET_DATA_NONE),
			.index = index,
			.count = on,
		},
		.fd = fd,
	};

	vfio_ioctl(d->fd, VFIO_DEVICE_SET_IRQS, &irqs);
}

static void irqs_on(struct excl_device *d, unsigned int index)
{
	set_trigger(d, index, d->eventfd);
	d->index = index;
}

static void irqs_off(struct excl_device *d)
{
	/* VFIO refuses to disable what is not enabled. */
	if (d->index != VFIO_PCI_NUM_IRQS)
		set_trigger(d, d->index, -1);
	d->index = VFIO_PCI_NUM_IRQS;
}

void excl_device_open(struct excl_device *d)
{
	struct vfio_region_info bar = { .argsz = sizeof(bar), .index = 0 };
	struct vfio_region_info config = { .argsz = sizeof(config),
					   .index = VFIO_PCI_CONFIG_REGION_INDEX };
	char path[128], target[256];
	uint16_t command;
	void *p;
	ssize_t n;
	int i;

	TEST_ASSERT(find_edu(d->bdf, sizeof(d->bdf)), "no device edu");
	bind_to_vfio(d->bdf);

	snprintf(path, sizeof(path), SYS_PCI "/%s/iommu_group", d->bdf);
	n = readlink(path, target, sizeof(target) - 1);
	TEST_ASSERT(n > 0, "%s", path);
	target[n] = 0;
	snprintf(path, sizeof(path), "/dev/vfio%s", strrchr(target, '/'));
	/* The last process that had it may be just about to let go of it. */
	for (i = 0; (d->group = open(path, O_RDWR | O_CLOEXEC)) < 0 && i < 1000; i++)
		usleep(10000);
	TEST_ASSERT(d->group >= 0, "%s: %s", path, strerror(errno));
	d->container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	TEST_ASSERT(d->container >= 0, "/dev/vfio/vfio: %s", strerror(errno));
	vfio_ioctl(d->group, VFIO_GROUP_SET_CONTAINER, &d->container);
	vfio_ioctl(d->container, VFIO_SET_IOMMU, (long)VFIO_TYPE1v2_IOMMU);
	d->fd = ioctl(d->group, VFIO_GROUP_GET_DEVICE_FD, d->bdf);
	TEST_ASSERT(d->fd >= 0, "VFIO_GROUP_GET_DEVICE_FD: %s", strerror(errno));

	vfio_ioctl(d->fd, VFIO_DEVICE_GET_REGION_INFO, &config);
	TEST_ASSERT(pread(d->fd, &command, 2, config.offset + PCI_COMMAND) == 2, "config");
	command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	TEST_ASSERT(pwrite(d->fd, &command, 2, config.offset + PCI_COMMAND) == 2, "config");

	vfio_ioctl(d->fd, VFIO_DEVICE_GET_REGION_INFO, &bar);
	p = mmap(NULL, bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, d->fd, bar.offset);
	TEST_ASSERT(p != MAP_FAILED, "mmap of the registers: %s", strerror(errno));
	d->bar = p;
	d->bar_size = bar.size;

	d->unmask = -1;
	d->request = -1;
	d->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	TEST_ASSERT(d->eventfd >= 0, "eventfd: %s", strerror(errno));
	irqs_on(d, VFIO_PCI_MSI_IRQ_INDEX);
}

void excl_device_close(struct excl_device *d)
{
	irqs_off(d);
	/* A mapping keeps the device open. */
	munmap((void *)d->bar, d->bar_size);
	close(d->eventfd);
	if (d->unmask >= 0)
		close(d->unmask);
	if (d->request >= 0)
		close(d->request);
	close(d->fd);
	close(d->group);
	close(d->container);
}

void excl_device_intx(struct excl_device *d, struct kvm_vm *vm, uint32_t gsi)
{
	struct {
		struct vfio_irq_set set;
		int32_t fd;
	} unmask = {
		.set = {
			.argsz = sizeof(unmask),
			.flags = VFIO_IRQ_SET_ACTION_UNMASK | VFIO_IRQ_SET_DATA_EVENTFD,
			.index = VFIO_PCI_INTX_IRQ_INDEX,
			.count = 1,
		},
		.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
	};
	struct kvm_irqfd irqfd = {
		.fd = d->eventfd,
		.resamplefd = unmask.fd,
		.gsi = gsi,
		.flags = KVM_IRQFD_FLAG_RESAMPLE,
	};

	TEST_ASSERT(unmask.fd >= 0, "eventfd: %s", strerror(errno));
	irqs_off(d);
	excl_device_lower(d);
	vm_ioctl(vm, KVM_IRQFD, &irqfd);
	irqs_on(d, VFIO_PCI_INTX_IRQ_INDEX);
	vfio_ioctl(d->fd, VFIO_DEVICE_SET_IRQS, &unmask);
	/* Both let go of it when it is closed. */
	d->unmask = unmask.fd;
}

/* Another program, because a child of this one would have the device open, too. */
FILE *excl_device_remove(struct excl_device *d)
{
	char command[128];
	FILE *f;

	d->request = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	TEST_ASSERT(d->request >= 0, "eventfd: %s", strerror(errno));
	set_trigger(d, VFIO_PCI_REQ_IRQ_INDEX, d->request);
	snprintf(command, sizeof(command), "echo 1 >" SYS_PCI "/%s/remove", d->bdf);
	f = popen(command, "re");
	TEST_ASSERT(f, "popen: %s", strerror(errno));
	return f;
}

static bool readable(int fd)
{
	struct pollfd event = { .events = POLLIN, .fd = fd };

	return poll(&event, 1, EXCL_PATIENCE_S * 1000) == 1;
}

bool excl_device_asked_for(struct excl_device *d)
{
	return readable(d->request);
}

void excl_device_rescan(void)
{
	TEST_ASSERT(!excl_write_file("/sys/bus/pci/rescan", "1"), "rescan");
}

bool excl_device_present(void)
{
	char bdf[32];

	return find_edu(bdf, sizeof(bdf));
}

int excl_device_host_irq(struct excl_device *d)
{
	char path[128];
	struct dirent *e;
	int irq = -1;
	DIR *dir;

	snprintf(path, sizeof(path), SYS_PCI "/%s/msi_irqs", d->bdf);
	dir = opendir(path);
	TEST_ASSERT(dir, "%s: %s", path, strerror(errno));
	while ((e = readdir(dir)))
		if (e->d_name[0] != '.')
			irq = atoi(e->d_name);
	closedir(dir);
	TEST_ASSERT(irq >= 0, "%s is empty", path);
	return irq;
}

uint64_t excl_device_host_count(int host_irq)
{
	char path[64], line[4096], *at, *save = NULL;
	uint64_t sum = 0;

	snprintf(path, sizeof(path), "/sys/kernel/irq/%d/per_cpu_count", host_irq);
	TEST_ASSERT(excl_read_file(path, line, sizeof(line)), "%s", path);
	for (at = strtok_r(line, ",", &save); at; at = strtok_r(NULL, ",", &save))
		sum += strtoull(at, NULL, 10);
	return sum;
}

void excl_device_irqfd(struct excl_device *d, struct kvm_vm *vm, uint32_t gsi, bool on)
{
	struct kvm_irqfd irqfd = {
		.fd = d->eventfd,
		.gsi = gsi,
		.flags = on ? 0 : KVM_IRQFD_FLAG_DEASSIGN,
	};

	vm_ioctl(vm, KVM_IRQFD, &irqfd);
}

bool excl_device_signalled(struct excl_device *d)
{
	return readable(d->eventfd);
}

void excl_device_stop(struct excl_device *d, struct kvm_vm *vm, uint32_t gsi)
{
	excl_device_read_back(d);
	/* In this order: the handler gives KVM work to do. */
	irqs_off(d);
	excl_device_irqfd(d, vm, gsi, false);
}

void excl_device_route(struct kvm_vm *vm, uint32_t gsi, uint32_t address_lo, uint32_t data)
{
	struct kvm_irq_routing *r = excl_routing_create();

	r->entries[r->nr++] = (struct kvm_irq_routing_entry) {
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi = { .address_lo = address_lo, .data = data },
	};
	/* Frees it. */
	kvm_gsi_routing_write(vm, r);
}

int excl_device_status(int ctx, struct kvm_excl_get_device_irq *status)
{
	memset(status, 0, sizeof(*status));
	status->size = sizeof(*status);
	return ioctl(ctx, KVM_EXCL_GET_DEVICE_IRQ, status);
}
