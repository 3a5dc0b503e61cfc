/* SPDX-License-Identifier: GPL-2.0-only */
/* The flat image of the guest, as data of the program that starts it as a VM. */
	.section .rodata
	.balign 16
	.global lat_image, lat_image_size
lat_image:
	.incbin LAT_IMAGE
1:
	.balign 8
lat_image_size:
	.quad 1b - lat_image

	.section .note.GNU-stack, "", @progbits
