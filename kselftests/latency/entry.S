/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The guest of "make latency": how its CPUs start, its handlers, and the sequences that
 * are timed
 *
 * A sequence is timed from one RDTSC to another.  What stands between them besides the
 * instruction in question is the same in each, and is measured by itself
 * (lat_time_nothing).
 */
#include "guest.h"

#define MULTIBOOT_MAGIC		0x1badb002
#define MULTIBOOT_ADDRESSES	0x00010000

	.section .start, "ax"
	.code32
	.global start
start:
	.long MULTIBOOT_MAGIC
	.long MULTIBOOT_ADDRESSES
	.long -(MULTIBOOT_MAGIC + MULTIBOOT_ADDRESSES)
	.long start
	.long start
	.long lat_image_end
	.long lat_bss_end
	.long entry32

	.org LAT_PARAMS
	.global lat_params
lat_params:
	.long 600
	.long 100
	.quad lat_cpus
	.long LAT_NO_HYPERCALLS

	.org LAT_ENTRY
entry32:
	cli
	cld
	mov $boot_stack_end, %esp
	/* The first GiB, mapped to itself in pages of 2 MiB. */
	movl $pdpt + 3, pml4
	movl $pd + 3, pdpt
	mov $pd, %edi
	mov $0x83, %eax
	mov $512, %ecx
1:	mov %eax, (%edi)
	add $0x200000, %eax
	add $8, %edi
	loop 1b

	/* The first CPU has the first number. */
	xor %ebx, %ebx

/* EBX: the number of this CPU.  Flat 32-bit segments, no paging. */
enter64:
	lgdt gdt_pointer
	mov %cr4, %eax
	or $0x20, %eax			/* PAE */
	mov %eax, %cr4
	mov $pml4, %eax
	mov %eax, %cr3
	mov $0xc0000080, %ecx		/* EFER */
	rdmsr
	or $0x100, %eax			/* LME */
	wrmsr
	mov %cr0, %eax
	and $~0x60000000, %eax		/* caches on */
	or $0x80000001, %eax		/* PG, PE */
	mov %eax, %cr0
	ljmp $LAT_CODE64, $entry64

	.code64
entry64:
	mov $LAT_DATA, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	xor %eax, %eax
	mov %eax, %fs
	mov %eax, %gs

	mov %ebx, %edi
	mov %ebx, %eax
	imul $LAT_STACK_SIZE, %rax, %rax
	lea lat_stacks + LAT_STACK_SIZE(%rax), %rsp

	mov %ebx, %eax
	imul $LAT_CPU_SIZE, %eax, %eax
	add $lat_cpus, %eax
	xor %edx, %edx
	mov $0xc0000101, %ecx		/* GS base */
	wrmsr

	lidt lat_idt_pointer
	xor %ebp, %ebp
	call lat_main
1:	cli
	hlt
	jmp 1b

/* Copied to LAT_TRAMPOLINE: a SIPI begins here, in real mode. */
	.code16
	.global lat_trampoline, lat_trampoline_end
lat_trampoline:
	cli
	mov %cs, %ax
	mov %ax, %ds
	lgdtl gdt_pointer_low - lat_trampoline
	mov %cr0, %eax
	and $~0x60000000, %eax
	or $1, %eax
	mov %eax, %cr0
	ljmpl $LAT_CODE32, $ap32
gdt_pointer_low:
	.word gdt_end - gdt - 1
	.long gdt
lat_trampoline_end:

	.code32
ap32:
	mov $LAT_DATA, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	/* One at a time: lat_main() starts the next when this one is there. */
	mov lat_next_cpu, %ebx
	jmp enter64

	.code64
	.text

/*
 * Handlers.  What the stamp holds is the low half of the TSC as early as may be.
 */
	.balign 64
	.global lat_on_stamp
lat_on_stamp:
	push %rax
	push %rdx
	rdtsc
	mov %eax, %gs:LAT_CPU_STAMP
	push %rcx
	mov $0x80b, %ecx		/* EOI */
	xor %eax, %eax
	xor %edx, %edx
	wrmsr
	incl %gs:LAT_CPU_COUNT
	pop %rcx
	pop %rdx
	pop %rax
	iretq

	.balign 64
	.global lat_on_eoi
lat_on_eoi:
	push %rax
	push %rdx
	push %rcx
	push %r8
	push %r9
	push %r10
	mov $0x80b, %ecx
	xor %r9d, %r9d
	xor %r10d, %r10d
	rdtsc
	mov %eax, %r8d
	mov %r9d, %eax
	mov %r10d, %edx
	wrmsr
	rdtsc
	sub %r8d, %eax
	mov %eax, %gs:LAT_CPU_TICKS
	incl %gs:LAT_CPU_COUNT
	pop %r10
	pop %r9
	pop %r8
	pop %rcx
	pop %rdx
	pop %rax
	iretq

	.balign 64
	.global lat_on_spurious
lat_on_spurious:
	iretq

/* An exception: the report ends with what is in its frame. */
	.balign 64
	.global lat_on_exception
lat_on_exception:
	mov (%rsp), %rdi
	mov 8(%rsp), %rsi
	mov %cr2, %rdx
	and $~0xf, %rsp
	call lat_died

/* The time is in R8D, and the value, of which R9 and R10 are copies, in EDX:EAX. */
.macro LAT_TIMED_FROM_HERE
	shr $32, %r10
	rdtsc
	mov %eax, %r8d
	mov %r9d, %eax
	mov %r10d, %edx
.endm

/* With RBX to be restored from R11, if that is where it is. */
.macro LAT_TIMED_TO_HERE rbx_in_r11=0
	rdtsc
.if \rbx_in_r11
	mov %r11, %rbx
.endif
	sub %r8d, %eax
	shl $32, %r8
	or %r8, %rax
	ret
.endm

/*
 * u64 lat_time_wrmsr(u64 msr, u64 value): its ticks in the low half, in the high half
 * the low half of the TSC before it.
 */
	.balign 64
	.global lat_time_wrmsr
lat_time_wrmsr:
	mov %rdi, %rcx
	mov %rsi, %r9
	mov %rsi, %r10
	LAT_TIMED_FROM_HERE
	wrmsr
	LAT_TIMED_TO_HERE

	.balign 64
	.global lat_time_cr8
lat_time_cr8:
	mov %rdi, %r9
	mov %rdi, %r10
	LAT_TIMED_FROM_HERE
	mov %rax, %cr8
	LAT_TIMED_TO_HERE

	.balign 64
	.global lat_time_nothing
lat_time_nothing:
	mov %rdi, %rcx
	mov %rsi, %r9
	mov %rsi, %r10
	LAT_TIMED_FROM_HERE
	LAT_TIMED_TO_HERE

/*
 * u64 lat_time_vmcall(u64 bitmap, u64 icr), u64 lat_time_vmmcall(u64 bitmap, u64 icr): the
 * same for KVM_HC_SEND_IPI.
 */
.macro LAT_TIME_HYPERCALL name:req insn:req
	.balign 64
	.global \name
\name:
	mov %rbx, %r11
	mov %rdi, %rbx
	xor %ecx, %ecx
	mov $LAT_HC_SEND_IPI, %r9d
	xor %r10d, %r10d
	LAT_TIMED_FROM_HERE
	\insn
	LAT_TIMED_TO_HERE rbx_in_r11=1
.endm

	LAT_TIME_HYPERCALL lat_time_vmcall, vmcall
	LAT_TIME_HYPERCALL lat_time_vmmcall, vmmcall

/* void lat_wait_for_ever(void): an interrupt may come at each round. */
	.balign 64
	.global lat_wait_for_ever
lat_wait_for_ever:
	sti
1:	jmp 1b

	.section .rodata
	.balign 8
gdt:
	.quad 0
	.quad 0x00cf9b000000ffff	/* LAT_CODE32 */
	.quad 0x00af9b000000ffff	/* LAT_CODE64 */
	.quad 0x00cf93000000ffff	/* LAT_DATA */
gdt_end:
gdt_pointer:
	.word gdt_end - gdt - 1
	.quad gdt

	.bss
	.balign 4096
pml4:	.skip 4096
pdpt:	.skip 4096
pd:	.skip 4096
	.skip 1024
boot_stack_end:
	.balign 4096
	.global lat_stacks
lat_stacks:
	.skip LAT_STACK_SIZE * LAT_CPUS

	.section .note.GNU-stack, "", @progbits
