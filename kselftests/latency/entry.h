/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What entry.S and guest.c have for each other
 */
#ifndef KVM_EXCL_LATENCY_ENTRY_H
#define KVM_EXCL_LATENCY_ENTRY_H

#include "guest.h"

extern volatile struct lat_params lat_params;
extern uint8_t lat_trampoline[], lat_trampoline_end[];
extern uint8_t lat_on_stamp[], lat_on_eoi[], lat_on_spurious[], lat_on_exception[];

/*
 * A write, timed: its ticks in the low half, in the high half the low half of the TSC
 * before it; lat_time_nothing() is the same without the write.
 */
uint64_t lat_time_wrmsr(uint64_t msr, uint64_t value);
uint64_t lat_time_cr8(uint64_t value);
uint64_t lat_time_vmcall(uint64_t bitmap, uint64_t icr);
uint64_t lat_time_vmmcall(uint64_t bitmap, uint64_t icr);
uint64_t lat_time_nothing(uint64_t msr, uint64_t value);
void lat_wait_for_ever(void);

void lat_main(uint32_t index);
/* The first two words of an exception's frame: with an error code it is the first. */
void lat_died(uint64_t first, uint64_t second, uint64_t cr2);

#endif /* KVM_EXCL_LATENCY_ENTRY_H */
