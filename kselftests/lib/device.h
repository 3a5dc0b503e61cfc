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
 * @index: VFIO's, of the kind of interrupt that is in use
 * @eventfd: signalled by VFIO for each interrupt that the host takes
 * @unmask: signalled by KVM for each EOI of an INTx, -1 without
 */
struct excl_device {
	char bdf[32];
	int container, group, fd;
	volatile uint32_t *bar;
	size_t bar_size;
	unsigned int index;
	int eventfd, unmask;
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
 * Take the device out of the host as a hot-unplug does, which waits for whoever has it
 * open; a stream that ends when it has happened, for pclose().
 */
FILE *excl_device_remove(struct excl_device *d);
/* It is plugged in again. */
void excl_device_rescan(void);
bool excl_device_present(void);

/* One interrupt. */
static inline void excl_device_fire(struct excl_device *d)
{
	d->bar[0x60 / 4] = 1;
}

/* Number of the MSI in the host, and how often the host has taken it. */
int excl_device_host_irq(struct excl_device *d);
uint64_t excl_device_host_count(int host_irq);

/* Connect, or disconnect, the device's MSI with a GSI of the VM. */
void excl_device_irqfd(struct excl_device *d, struct kvm_vm *vm, uint32_t gsi, bool on);

/* The VM's one route: @gsi is an MSI with this address and data. */
void excl_device_route(struct kvm_vm *vm, uint32_t gsi, uint32_t address_lo, uint32_t data);

/* What the kernel says of the context's only device interrupt. 0 or -1 with errno. */
int excl_device_status(int ctx, struct kvm_excl_get_device_irq *status);

#endif /* SELFTEST_KVM_EXCL_DEVICE_H */
