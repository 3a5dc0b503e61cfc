/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the guest of "make latency" and those who start it agree upon
 *
 * The image is flat, is loaded at LAT_BASE and is entered at LAT_BASE + LAT_ENTRY as a
 * Multiboot loader does it: 32-bit protected mode with flat segments and paging off.
 * It writes its report to LAT_PORT_TEXT and then a character to LAT_PORT_END, again and
 * again: those of "Shutdown", which turn Bochs off.
 */
#ifndef KVM_EXCL_LATENCY_GUEST_H
#define KVM_EXCL_LATENCY_GUEST_H

#define LAT_BASE		0x100000
#define LAT_PARAMS		0x20	/* struct lat_params, an offset into the image */
#define LAT_ENTRY		0x80

#define LAT_CPUS		4	/* one that sends and three of its cluster */
#define LAT_MAX_SAMPLES		4096

/* What a report ends with, and how long a line of it is at most. */
#define LAT_END			"{\"kind\": \"end\"}"
#define LAT_MAX_TEXT		(32 * LAT_MAX_SAMPLES)

#define LAT_PORT_TEXT		0xe9
#define LAT_PORT_END		0x8900

#define LAT_TRAMPOLINE		0x8000	/* where the other CPUs start, in real mode */

/* struct lat_params.hypercalls; and KVM_HC_SEND_IPI of <linux/kvm_para.h> */
#define LAT_NO_HYPERCALLS	0
#define LAT_VMCALL		1
#define LAT_VMMCALL		2
#define LAT_HC_SEND_IPI		10

#define LAT_CODE32		0x08
#define LAT_CODE64		0x10
#define LAT_DATA		0x18
#define LAT_STACK_SIZE		0x4000

/* Fields of struct lat_cpu, for assembly. */
#define LAT_CPU_STAMP		0
#define LAT_CPU_TICKS		4
#define LAT_CPU_COUNT		8
#define LAT_CPU_SIZE		64

/* Vectors */
#define LAT_STAMP_VECTOR	0x61	/* the handler notes the time and ends it */
#define LAT_EOI_VECTOR		0x62	/* the handler measures ending it */
#define LAT_SPURIOUS_VECTOR	0xff

#ifndef __ASSEMBLER__
#include <stdint.h>

/**
 * struct lat_params - what a starter may change in the image
 * @samples: for each row, at most LAT_MAX_SAMPLES
 * @warm_up: how many more are taken before them and thrown away
 * @cpus: where the guest's struct lat_cpu are; not to be changed
 * @hypercalls: LAT_*, how KVM is called
 */
struct lat_params {
	uint32_t samples;
	uint32_t warm_up;
	uint64_t cpus;
	uint32_t hypercalls;
};

/* The image, where it is part of a program: image.S. */
extern const uint8_t lat_image[];
extern const uint64_t lat_image_size;
#endif

#endif /* KVM_EXCL_LATENCY_GUEST_H */
