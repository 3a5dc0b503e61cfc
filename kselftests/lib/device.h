/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An assigned device: QEMU's "edu", by VFIO
 *
 * A write to one of its registers is an MSI, so a test can fire as often as it likes and
 * count at the other end.  See docs/specs/edu.rst of QEMU.
 */
#ifndef SELFTEST_KVM_EXCL_DEVICE_H
#define SELFTEST_KVM_EXCL_DEVICE_H

#include "excl.h"

/**
 * struct excl_device - an open one
 * @bar: its registers
 * @index: VFIO's, of the kind of interrupt that is in use; VFIO_PCI_NUM_IRQS without
 * @eventfd: signalled by VFIO for each interrupt that the host takes
 * @unmask: signalled by KVM for each EOI of an INTx, -1 without
 * @request: signalled by VFIO when the host wants the device back, -1 without
 */
struct excl_device {
	char bdf[32];
	int container, group, fd;
	volatile uint32_t *bar;
	size_t bar_size;
	unsigned int index;
	int eventfd, unmask, request;
};

/* Skip the test where there is none, saying how to have one. */
void excl_device_require(void);

/* Bind it to vfio-pci, if it is not, open it and enable its MSI. Asserts. */
void excl_device_open(struct excl_device *d);
void excl_device_close(struct excl_device *d);

/*
 * INTx instead of MSI: level-triggered, on a GSI that is a pin of the I/O APIC. The
 * device pulls the line until it is told not to; VFIO masks it meanwhile, and unmasks
 * it when KVM has seen the EOI.
 */
void excl_device_intx(struct excl_device *d, struct kvm_vm *vm, uint32_t gsi);
static inline void excl_device_lower(struct excl_device *d)
{
	d->bar[0x64 / 4] = 1;
}

/*
 * Take the device out of the host as a hot-unplug does, which waits until it is closed; a
 * stream that ends when it has happened, for pclose().
 */
FILE *excl_device_remove(struct excl_device *d);
/* Wait until the removal is at VFIO, which asks for the device. False when it does not. */
bool excl_device_asked_for(struct excl_device *d);
/* It is plugged in again. */
void excl_device_rescan(void);
bool excl_device_present(void);

/* One interrupt. */
static inline void excl_device_fire(struct excl_device *d)
{
	d->bar[0x60 / 4] = 1;
}

/*
 * Wait until what it has sent is past the IOMMU: a write of the device's, as an MSI is, stays
 * ahead of its answer to a read.
 */
static inline void excl_device_read_back(struct excl_device *d)
{
	(void)d->bar[0];
}

/* Number of the MSI in the host, and how often the host has taken it. */
int excl_device_host_irq(struct excl_device *d);
uint64_t excl_device_host_count(int host_irq);

/* Connect, or disconnect, the device's MSI with a GSI of the VM. */
void excl_device_irqfd(struct excl_device *d, struct kvm_vm *vm, uint32_t gsi, bool on);

/*
 * Wait until the host has signalled the eventfd of a device that is not connected, and nothing
 * has taken it from there. False when it does not.
 */
bool excl_device_signalled(struct excl_device *d);

/*
 * Put an end to its interrupts, and wait until what the host had to do for them is done: VFIO
 * waits for its handler and for the work of unmasking an INTx, then KVM for the work item that
 * injects what an irqfd cannot inject at once. What came is pending at the vCPUs then, if it
 * has not arrived.
 */
void excl_device_stop(struct excl_device *d, struct kvm_vm *vm, uint32_t gsi);

/* The VM's one route: @gsi is an MSI with this address and data. */
void excl_device_route(struct kvm_vm *vm, uint32_t gsi, uint32_t address_lo, uint32_t data);

/* What the kernel says of the context's only device interrupt. 0 or -1 with errno. */
int excl_device_status(int ctx, struct kvm_excl_get_device_irq *status);

#endif /* SELFTEST_KVM_EXCL_DEVICE_H */
